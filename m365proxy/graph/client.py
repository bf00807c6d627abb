"""A minimal client of Microsoft Graph: one call at a time, judged by others.

Keeps Graph's rules that every caller shares: at most four requests at a time
per mailbox, Retry-After holds that mailbox, a refused token is renewed once,
nothing is retried or redirected by itself.
"""

from __future__ import annotations

import contextlib
import email.utils
import ssl
import threading
import time
import urllib.parse
import uuid
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple, Union

from ..errors import Permanent
from ..system import log
from .answer import Answer, Cancellation, GraphRefused, GraphTrouble, NoAnswer, Throttled
from .body import Body, body_maker, of_octets
from .deadlines import Deadline, Deadlines
from .slots import SLOTS, Slots

logger = log.get("graph")

# Seconds: to connect; a pooled connection unused for longer, or older, is not trusted with a request.
_CONNECT_SECONDS = 15.0
_IDLE_SECONDS = 20.0
_AGE_SECONDS = 600.0

# A call has this many seconds more than the silence that is waited for, and another per so many octets of its body.
_SPARE_SECONDS = 30.0
_OCTETS_PER_SECOND = 16 * 1024

# A hold that ends later than what was told of by so many seconds is told of in the log.
_LONG_HOLD = 60.0

# What is waited for a free slot of a mailbox before giving up (seconds).
_SLOT_SECONDS = 300.0


class _Lane:
    """One mailbox: its free slots and how long Graph wants it left alone."""

    def __init__(self) -> None:
        self.slots = Slots()
        self.held_until = 0.0  # monotonic
        self.told_until = 0.0  # monotonic; the end of the hold that the log tells of


class Graph:
    """The client.  Any thread may call; a connection is used by one call at a time."""

    def __init__(
        self,
        tokens: Any,
        outbound: Any,
        url: str,
        user: str = "",
        clock: Callable[[], float] = time.time,
        app: str = "",
    ):
        """`url`: "https://graph.microsoft.com"; `user`: the signed-in address, "" when app-only; `app`: its ID."""
        self.url = url.rstrip("/")
        self.host = urllib.parse.urlsplit(url).netloc
        self.user = user.lower()
        self.app = app
        self.skew = 0.0  # Graph's clock minus ours, seconds, as last seen
        self._seen: Optional[Tuple[float, float]] = None  # Graph's clock, and the monotonic one at that moment
        self.last_contact = 0.0  # monotonic; 0: never
        self._tokens = tokens
        self._outbound = outbound
        self._clock = clock
        self._lanes: Dict[str, _Lane] = {}
        self._pool: List[Tuple[Any, float, float]] = []  # session, made, last used (monotonic)
        self._closed = False
        self._lock = threading.Lock()
        self._deadlines = Deadlines(logger)

    def now(self) -> float:
        """The time by Graph's clock, as far as we have seen it (seconds since 1970).

        Our own may be set meanwhile: what was seen goes on by the monotonic clock.
        """
        seen = self._seen
        return seen[0] + time.monotonic() - seen[1] if seen else self._clock()

    def held(self, mailbox: str) -> float:
        """Seconds for which Graph wants this mailbox left alone; 0 if it may be asked."""
        return max(0.0, self._lane(mailbox).held_until - time.monotonic())

    def spare(self, mailbox: str) -> int:
        """Slots of a mailbox that no call has or waits for; 0 while Graph wants it left alone."""
        return 0 if self.held(mailbox) else self._lane(mailbox).slots.spare

    def rest(self, mailbox: str, seconds: float) -> None:
        """Leave this mailbox alone for so many seconds: an answer wants it, or one inside a batch."""
        lane = self._lane(mailbox)
        until = time.monotonic() + seconds
        with self._lock:
            lane.held_until = max(lane.held_until, until)
            tell = seconds >= _LONG_HOLD and until - lane.told_until >= _LONG_HOLD
            if tell:
                lane.told_until = until
        if tell:
            end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock() + seconds))
            logger.warning(
                "%s: Graph wants no request for %d s; nothing is sent or read until %s", mailbox, seconds, end
            )

    def ready(self, mailbox: str) -> None:
        """Returns if a call could be made now; Throttled, SignInNeeded or Temporary if not."""
        self._may_go(self._lane(mailbox), mailbox)
        self._tokens.access_token()

    def call(
        self,
        method: str,
        mailbox: str,
        path: str,
        *,
        params: Optional[Mapping[str, str]] = None,
        headers: Optional[Mapping[str, str]] = None,
        body: Optional[Callable[[], Body]] = None,
        json: Any = None,
        stream: bool = False,
        seconds: float = 60.0,
        cancellation: Optional[Cancellation] = None,
    ) -> Answer:
        """One request below the mailbox's URL; the answer whatever its status.

        `body` makes the body anew for each try; `seconds` is the longest silence waited for, from which follows
        the time for the whole call, or for each 16 KiB of a streamed answer; `cancellation` lets others end the call.
        NoAnswer if no answer comes, Throttled if the mailbox is to be left alone; SignInNeeded and Temporary without a
        token; Cancelled.
        """
        query = "?" + urllib.parse.urlencode(params, quote_via=urllib.parse.quote) if params else ""
        url = self.url + "/v1.0" + self._root(mailbox) + path + query
        make_body = body_maker(body, json)
        return self._authorised(
            method, mailbox, url, headers, make_body, json is not None, stream, seconds, cancellation
        )

    def follow(self, mailbox: str, url: str, headers: Optional[Mapping[str, str]] = None) -> Answer:
        """GET a nextLink or deltaLink as it is; Permanent if it leads away from Graph's host.  Raises as `read`."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" or parts.netloc.lower() != self.host.lower():
            raise Permanent("Graph's link to the next page leads to another host; the token does not go there.")
        return self.raise_for_status(
            self._authorised("GET", mailbox, url, headers, body_maker(None, None), False, False, 60.0)
        )

    def read(self, method: str, mailbox: str, path: str, **more: Any) -> Answer:
        """`call`, but GraphTrouble or GraphRefused (with a plain sentence) for all that is not Graph's own 2xx."""
        return self.raise_for_status(self.call(method, mailbox, path, **more))

    def batch(self, mailbox: str, requests: List[Dict[str, Any]]) -> Answer:
        """POST $batch: at most 20 requests with ids and relative URLs (json-batching.md).  Raises as `read`."""
        make = body_maker(None, {"requests": requests})
        return self.raise_for_status(
            self._authorised("POST", mailbox, self.url + "/v1.0/$batch", None, make, True, False, 120.0)
        )

    def root(self, mailbox: str) -> str:
        """The relative URL of a mailbox, for use inside a batch."""
        return self._root(mailbox)

    def upload(
        self, method: str, mailbox: str, url: str, headers: Mapping[str, str], body: Union[bytes, bytearray, None]
    ) -> Answer:
        """A request to an upload session's own URL: no token goes along, the URL is the secret."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https":
            raise Permanent("Graph's upload URL is not HTTPS; nothing is sent there.")
        sent = of_octets(body) if body is not None else None
        answer = self._exchange(method, mailbox, url, dict(headers), sent, False, 300.0)
        answer.load()
        return answer

    def check_reachable(self) -> None:
        """One cheap request without a token, whatever the answer; NoAnswer if Graph gives none."""
        with (
            contextlib.suppress(Throttled),
            self._exchange("GET", "", self.url + "/v1.0/", {}, None, False, 20.0) as answer,
        ):
            if not answer.from_graph:
                raise NoAnswer(
                    f"{self.host} is answered by something else (HTTP {answer.status}): a proxy, filter or "
                    "sign-on page stands in the way.",
                    False,
                )

    def break_off(self) -> None:
        """Let every call that waits for Graph fail now.  What it may have done is not known then."""
        self._deadlines.break_off()

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their calls end."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, []
        for session, _, _ in pool:
            session.close()

    def _root(self, mailbox: str) -> str:
        if mailbox.lower() == self.user:
            return "/me"
        return "/users/" + urllib.parse.quote(mailbox, safe="@")

    def raise_for_status(self, answer: Answer) -> Answer:
        """The answer if it is Graph's own 2xx; GraphTrouble or GraphRefused if not."""
        if answer.ok and answer.from_graph:
            return answer
        try:
            answer.load()
        except NoAnswer:
            answer.forget_body()
        if not answer.from_graph:
            raise GraphTrouble(
                f"Something between here and Graph answered in its place (HTTP {answer.status}).", answer
            )
        if answer.ok or answer.status >= 500 or answer.status in (408, 423, 429):
            raise GraphTrouble(f"Graph answered HTTP {answer.status} {log.clean(answer.code)}.", answer)
        raise GraphRefused(f"Graph refused with HTTP {answer.status} {log.clean(answer.code)}.", answer)

    def _authorised(
        self, method, mailbox, url, headers, make_body, is_json, stream, seconds, cancellation=None
    ) -> Answer:
        """The request with a token; once more with a new one if Graph refuses it (it did nothing then)."""
        sent = dict(headers or {})
        sent.setdefault("Accept", "application/json, text/plain")
        if is_json:
            sent["Content-Type"] = "application/json"
        token = self._tokens.access_token()
        answer = self._exchange(
            method,
            mailbox,
            url,
            dict(sent, Authorization="Bearer " + token),
            make_body(),
            stream,
            seconds,
            cancellation,
        )
        if answer.status == 401 and self._is_refused_token(answer):
            token = self._tokens.access_token(refused=token)
            answer = self._exchange(
                method,
                mailbox,
                url,
                dict(sent, Authorization="Bearer " + token),
                make_body(),
                stream,
                seconds,
                cancellation,
            )
        return answer

    @staticmethod
    def _is_refused_token(answer: Answer) -> bool:
        """Whether it is Graph that says 401: something between may say it after the request was processed."""
        with contextlib.suppress(NoAnswer):
            answer.load()
            return answer.from_graph
        answer.forget_body()
        return False

    def _exchange(self, method, mailbox, url, headers, body, stream, seconds, cancellation=None) -> Answer:
        cancellation = cancellation or Cancellation()
        lane = self._lane(mailbox)
        self._enter(lane, mailbox)
        try:
            session, made = self._take_session()
        except BaseException:
            lane.slots.leave()
            raise

        deadline = Deadline(self._deadlines, session, f"{mailbox or self.host}: {_kind(method, url)}")

        def release(reusable: bool) -> None:
            deadline.disarm()
            unharmed = cancellation.end() and not deadline.passed
            lane.slots.leave()
            self._give_session(session, made, reusable and unharmed)

        try:
            cancellation.begin(session)
            session.before_each(lambda: self._may_go(lane, mailbox))
            deadline.arm(_total_seconds(seconds, body))
            response = self._send(session, method, url, headers, body, seconds)
            if deadline.passed:  # a head that was broken off passes for a whole one
                response.close()
                raise NoAnswer(f"{self.host} did not answer in time.", body is None or body.exhausted)
            if stream:
                deadline.disarm()
            answer = Answer(response, release, deadline, seconds if stream else 0.0)
        except BaseException:
            release(False)
            raise
        self._note(answer, mailbox)
        if not stream:
            try:
                answer.load()
            except NoAnswer:
                # The status line arrived whole: it is the answer.
                answer.forget_body()
        return answer

    def _enter(self, lane: _Lane, mailbox: str) -> None:
        if not lane.slots.enter(_SLOT_SECONDS):
            raise Throttled(mailbox, 1.0, f"No free place among the {SLOTS} requests at a time for {mailbox}.")
        try:
            self._may_go(lane, mailbox)  # no connection is made in vain
        except Throttled:
            lane.slots.leave()
            raise

    @staticmethod
    def _may_go(lane: _Lane, mailbox: str) -> None:
        """A request may leave now; Throttled if not, as Graph wants the mailbox left alone.

        Asked once more right before the request's first octet: a 429 may have come while it was being connected.
        """
        wait = lane.held_until - time.monotonic()
        if wait > 0:
            raise Throttled(mailbox, wait)

    def _send(self, session, method, url, headers, body, seconds):
        import requests

        headers = dict(headers)
        headers["client-request-id"] = str(uuid.uuid4())
        if body is None and method in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = "0"  # 411 otherwise (message-send.md)
        try:
            return session.request(
                method,
                url,
                headers=headers,
                data=body,
                stream=True,
                allow_redirects=False,
                timeout=(_CONNECT_SECONDS, seconds),
            )
        except (requests.RequestException, OSError) as error:
            sentence = self._outbound.plain(error)
            raise NoAnswer(sentence, _maybe_processed(error, body)) from None

    def _note(self, answer: Answer, mailbox: str) -> None:
        if not answer.request_id:
            return
        self.last_contact = time.monotonic()
        with contextlib.suppress(TypeError, ValueError, IndexError):
            date = email.utils.parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
            # Date counts whole seconds: less than that is no change.
            if abs(date + 0.5 - self.now()) > 1.0 or not self._seen:
                self._seen = (date + 0.5, time.monotonic())
            skew = date + 0.5 - self._clock()
            if abs(skew - self.skew) > 1.0:
                self.skew = skew
        self.rest(mailbox, answer.hold)

    def _lane(self, mailbox: str) -> _Lane:
        with self._lock:
            return self._lanes.setdefault(mailbox.lower(), _Lane())

    def _take_session(self) -> Tuple[Any, float]:
        now = time.monotonic()
        with self._lock:
            fresh = [
                entry for entry in self._pool if now - entry[2] <= _IDLE_SECONDS and now - entry[1] <= _AGE_SECONDS
            ]
            old = [entry[0] for entry in self._pool if entry not in fresh]
            found = fresh.pop()[:2] if fresh else None
            self._pool = fresh
        for session in old:
            session.close()
        return found or (self._outbound.session(), now)

    def _give_session(self, session: Any, made: float, reusable: bool) -> None:
        with self._lock:
            kept = reusable and not self._closed
            if kept:
                self._pool.append((session, made, time.monotonic()))
        if not kept:
            session.close()


def _total_seconds(silence: float, body: Optional[Body]) -> float:
    """Within which a call must be over, however it trickles."""
    return _CONNECT_SECONDS + silence + _SPARE_SECONDS + (len(body) / _OCTETS_PER_SECOND if body is not None else 0.0)


def _kind(method: str, url: str) -> str:
    """A request for the log, without ids and the secrets of upload URLs."""
    last = urllib.parse.urlsplit(url).path.rpartition("/")[2]
    return f"{method} {last}" if len(last) < 30 and last.replace("$", "").isalpha() else method


def _maybe_processed(error: Exception, body: Optional[Body]) -> bool:
    """Whether the request may have reached Graph whole.

    With a body, what left of it decides.  Without one, only failures to
    connect are sure: urllib3 1.26 also calls a reset after the request a
    ProxyError when there is a proxy.
    """
    import urllib3.exceptions

    if body is not None and len(body):
        return body.exhausted
    never_connected = (
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ConnectTimeoutError,
        ssl.SSLCertVerificationError,
    )
    return not any(isinstance(cause, never_connected) for cause in _causes(error))


def _causes(error: Optional[BaseException]) -> Iterator[BaseException]:
    """An exception and what it wraps, as requests and urllib3 nest them: args, reason, cause.

    Not its context: a caller may be handling another failure, which Python would chain to this one.
    """
    seen = []
    todo = [error]
    while todo and len(seen) < 20:
        current = todo.pop()
        if not isinstance(current, BaseException) or current in seen:
            continue
        seen.append(current)
        yield current
        todo += [current.__cause__, getattr(current, "reason", None), *current.args]
