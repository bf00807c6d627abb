"""Faults that the stand-in tenant can imitate: what networks, proxies and Graph really do.

A fault is a rule: which requests it meets, how often, and what happens to
them.  The server asks once per request and carries out the one fault it gets.
"""

from __future__ import annotations

import random
import re
import threading
from typing import Any, Dict, List, Optional, Pattern
from urllib.parse import unquote

# The kinds of fault, and what each does.
KINDS = {
    "answer": "the given status instead of processing",
    "answer_after": "processed, and the given status all the same (the 504 whose mail was sent)",
    "hang": "no answer and no processing until released, until the client leaves, or for `seconds`",
    "hang_after": "processed, then no answer",
    "cut": "the connection closed before processing",
    "cut_after": "processed, then the connection closed without an answer",
    "cut_body": "the connection closed in the middle of the request body",
    "cut_answer": "processed, then the headers and half of the answer's body, then closed",
    "slow": "`seconds` of delay before processing",
    "portal": "an HTML page of something between, without Graph's request-id; not processed",
    "stranger": "something between answers `status` in Graph's place, without a request-id; not processed",
    "stranger_after": "processed, then the same answer of something between",
    "drip": "not processed; status line and headers, then one space every `seconds`, without end",
    "drip_after": "processed, then the same endless answer",
    "drip_head": "not processed; one octet of the status line and the headers every `seconds`, without end",
}

# Kinds that happen before processing; the others happen after it.
BEFORE = frozenset({"answer", "hang", "cut", "cut_body", "slow", "portal", "stranger", "drip", "drip_head"})

# Kinds whose answer is not from Graph: it lacks the headers that every answer of Graph carries.
FOREIGN = frozenset({"portal", "stranger", "stranger_after"})

_DEFAULT_STATUS = {
    "answer_after": 504,
    "portal": 200,
    "stranger": 202,
    "stranger_after": 202,
    "drip": 201,
    "drip_after": 201,
    "drip_head": 201,
}

# The status of a random "answer" (throttling and trouble), "answer_after" (trouble only) and stranger (success).
_RANDOM_STATUS = {
    "answer": (429, 500, 503),
    "answer_after": (500, 502, 503, 504),
    "stranger": (200, 201, 202, 204),
    "stranger_after": (200, 201, 202, 204),
}

_CODES = {
    401: "InvalidAuthenticationToken",
    403: "ErrorAccessDenied",
    404: "ErrorItemNotFound",
    413: "RequestEntityTooLarge",
    429: "ApplicationThrottled",
    500: "ErrorInternalServerError",
    502: "BadGateway",
    503: "serviceNotAvailable",
    504: "GatewayTimeout",
}


def found(pattern: Pattern[str], target: str) -> bool:
    """Whether path and query match the pattern, as they were sent ("%24select") or decoded ("$select")."""
    return pattern.search(target) is not None or pattern.search(unquote(target)) is not None


class Fault:
    """One rule.  `hits` counts the requests it happened to; `release` frees those that hang in it."""

    def __init__(
        self,
        kind: str,
        *,
        path: str = "",
        method: Optional[str] = None,
        mailbox: Optional[str] = None,
        times: Optional[int] = 1,
        after: int = 0,
        status: int = 0,
        code: str = "",
        message: str = "",
        retry_after: object = None,
        html: bool = False,
        seconds: float = 0.0,
        headers: Optional[Dict[str, str]] = None,
        body: Optional[bytes] = None,
    ):
        """See Faults.add."""
        if kind not in KINDS:
            raise ValueError(f"no fault {kind!r}; there are {', '.join(KINDS)}")
        self.kind = kind
        self.status = status or _DEFAULT_STATUS.get(kind, 503)
        self.code = code or _CODES.get(self.status, "UnknownError")
        self.message = message or "A fault of the stand-in tenant."
        self.retry_after = None if retry_after is None else str(retry_after)
        self.html = html or kind in FOREIGN
        self.seconds = seconds
        self.headers = dict(headers or {})
        self.body = body
        self.hits = 0
        self.released = threading.Event()
        self._path = re.compile(path)
        self._method = method.upper() if method else None
        self._mailbox = mailbox.lower() if mailbox else None
        self._skip = after
        self._left = times

    def release(self) -> None:
        """Let the requests that hang in this fault end: their connections are closed."""
        self.released.set()

    def meets(self, method: str, target: str, mailbox: str) -> bool:
        """Whether the rule applies to such a request; `target` is path and query as sent."""
        return self._method in (None, method) and self._mailbox in (None, mailbox) and found(self._path, target)

    def take(self) -> bool:
        """Count a request that meets the rule; returns whether the fault happens to it."""
        if self._skip > 0:
            self._skip -= 1
            return False
        if self._left is not None:
            if self._left <= 0:
                return False
            self._left -= 1
        self.hits += 1
        return True


class Faults:
    """The rules in force, in the order they were added; the first one that is due wins.  Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: List[Fault] = []
        self._handed: List[Fault] = []
        self._random: Optional[_Torture] = None

    def add(self, kind: str, **rule: Any) -> Fault:
        """Add a fault; its `hits` show how often it happened.

        path: regular expression searched in path and query, as sent and decoded; method; mailbox:
        an address; times: how many requests it happens to (None: for ever);
        after: how many matching requests pass first; status, code, message:
        of an answer; retry_after: the header's value as it is sent (3, "2.128",
        an HTTP date; None: no header); html: a page instead of JSON; seconds:
        the delay of "slow", the longest duration of a hang (0: no end), or the
        time between two octets of a drip; headers: further ones (for example a
        request-id that a stranger relays); body: what a stranger sends instead
        of its page.
        """
        fault = Fault(kind, **rule)
        with self._lock:
            self._rules.append(fault)
            self._handed.append(fault)
        return fault

    def random(
        self,
        seed: int,
        probability: Dict[str, float],
        *,
        path: str = "",
        method: Optional[str] = None,
        seconds: float = 0.2,
        retry_after: object = 1,
    ) -> None:
        """Random faults: each matching request gets each kind with its probability; a seed always gives the same ones.

        `seconds` bounds hangs and delays; `retry_after` is sent with a random 429.
        """
        with self._lock:
            self._random = _Torture(seed, probability, Fault("slow", path=path, method=method), seconds, retry_after)

    def clear(self) -> None:
        """Forget every rule and release the requests that hang."""
        with self._lock:
            handed, self._handed = self._handed, []
            self._rules.clear()
            self._random = None
        for fault in handed:
            fault.release()

    def release(self) -> None:
        """Release the requests that hang; the rules stay."""
        with self._lock:
            handed = list(self._handed)
        for fault in handed:
            fault.release()

    def choose(self, method: str, target: str, mailbox: str) -> Optional[Fault]:
        """The fault that happens to this request, or None.  Every rule it meets counts it until one takes it."""
        with self._lock:
            for fault in self._rules:
                if fault.meets(method, target, mailbox) and fault.take():
                    return fault
            if self._random is not None and self._random.scope.meets(method, target, mailbox):
                return self._random.draw()
        return None


class _Torture:
    """Random faults from a seed."""

    def __init__(
        self, seed: int, probability: Dict[str, float], scope: Fault, seconds: float, retry_after: object
    ) -> None:
        unknown = set(probability) - set(KINDS)
        if unknown:
            raise ValueError(f"no fault {unknown.pop()!r}")
        self.scope = scope
        self._random = random.Random(seed)
        self._probability = dict(probability)
        self._seconds = seconds
        self._retry_after = retry_after

    def draw(self) -> Optional[Fault]:
        point = self._random.random()
        for kind, share in self._probability.items():
            if point < share:
                status = self._random.choice(_RANDOM_STATUS.get(kind, (0,)))
                retry_after = self._retry_after if status == 429 else None
                return Fault(kind, status=status, seconds=self._seconds, retry_after=retry_after)
            point -= share
        return None
