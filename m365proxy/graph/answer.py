"""An answer of Graph over HTTP, and what is raised in the place of one."""

from __future__ import annotations

import email.utils
import math
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Mapping, Optional, Protocol

from ..errors import Permanent, Temporary
from ..system import jsontext

if TYPE_CHECKING:
    import requests

    from ..system.httpsession import Session

# A JSON answer is never larger (octets): 1,000 items of a narrow listing are about 400 KB.
_ANSWER_LIMIT = 16 * 1024 * 1024

# Octets of a streamed answer that count as progress: fewer may come in small pieces for ever.
_PROGRESS = 16 * 1024

# Retry-After (seconds): the longest that is obeyed, against nonsense only; the longest of an answer that does not
# bear Graph's request-id; and what a 429 without one means.
_RETRY_AFTER_MOST = 86400.0
_RETRY_AFTER_OF_STRANGERS = 600.0
_RETRY_AFTER_UNSAID = 10.0


class NoAnswer(Temporary):
    """No answer came.  `maybe_processed`: Graph may nevertheless have acted on the request."""

    def __init__(self, sentence: str, maybe_processed: bool):
        super().__init__(sentence)
        self.maybe_processed = maybe_processed


class Throttled(Temporary):
    """Graph wants no request for this mailbox for another `seconds`; nothing was sent.

    `request_id`: of the answer that asked so; "" if the call was not even made.
    """

    def __init__(self, mailbox: str, seconds: float, sentence: str = "", request_id: str = ""):
        super().__init__(sentence or f"Graph asked to wait another {math.ceil(seconds)} s for {mailbox}.")
        self.seconds = seconds
        self.request_id = request_id


class GraphTrouble(Temporary):
    """Graph's answer to a read is an error that may pass, or is not Graph's at all.  `answer` holds it."""

    def __init__(self, sentence: str, answer: "Answer"):
        super().__init__(sentence)
        self.answer = answer


class GraphRefused(Permanent):
    """Graph refused a read.  `answer` holds it."""

    def __init__(self, sentence: str, answer: "Answer"):
        super().__init__(sentence)
        self.answer = answer


class Cancelled(Exception):
    """The call was cancelled: nobody wants its answer any more."""


class Cancellation:
    """Lets any thread end a call that waits for Graph.  It covers one call at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: Optional[Session] = None
        self._cancelled = False

    def cancel(self) -> None:
        """End the call that is under way, and let none begin."""
        with self._lock:
            self._cancelled = True
            if self._session is not None:
                self._session.interrupt()

    def begin(self, session: Session) -> None:
        """Note that a call begins over this session; Cancelled if there is to be none."""
        with self._lock:
            if self._cancelled:
                raise Cancelled
            self._session = session

    def end(self) -> bool:
        """Note that the call is over; whether its session can still be used."""
        with self._lock:
            self._session = None
            return not self._cancelled


class CallDeadline(Protocol):
    """A call's time: deadlines.Deadline."""

    passed: bool

    def arm(self, seconds: float) -> None: ...

    def disarm(self) -> None: ...


class Answer:
    """An HTTP answer.  Close it (or use it in a with block): it occupies one of the mailbox's slots."""

    def __init__(
        self,
        response: requests.Response,
        release: Callable[[bool], None],
        deadline: Optional[CallDeadline] = None,
        seconds: float = 0.0,
    ):
        """`release` is called once, with whether the connection can be used again.

        `deadline`: of the call; each 16 KiB of a streamed answer have `seconds` to come.
        """
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.request_id: str = response.headers.get("request-id", "")
        self._response = response
        self._release = release
        self._deadline = deadline
        self._seconds = seconds
        self._content: Optional[bytes] = None
        self._value: Optional[Dict[str, Any]] = None  # of the content, once somebody has asked for it
        self._complete = False
        self._broken = False

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def load(self) -> None:
        """Read the whole answer (at most 16 MiB) and free the slot; once is enough."""
        if self._content is not None:
            return
        try:
            content = bytearray()
            for chunk in self.chunks():
                content += chunk
                if len(content) > _ANSWER_LIMIT:
                    raise NoAnswer("Graph's answer is too large.", True)
            self._content = bytes(content)
        finally:
            self.close()

    def forget_body(self) -> None:
        """Keep only the status and the headers: the body broke off."""
        self._content, self._value = b"", {}
        self._broken = True

    def chunks(self, size: int = 64 * 1024) -> Iterator[bytes]:
        """The decoded body in pieces; NoAnswer if it breaks off."""
        import requests

        expected = self.headers.get("Content-Length", "")
        plain = not self.headers.get("Content-Encoding")
        received = 0
        try:
            for chunk in self._timed(self._response.iter_content(size)):
                received += len(chunk)
                yield chunk
        except (requests.RequestException, OSError):
            raise NoAnswer("Graph's answer broke off in the middle.", True) from None
        if self._deadline is not None and self._deadline.passed:
            raise NoAnswer("Graph's answer did not come to an end.", True)
        # Older urllib3 does not mind a body that ends early.
        if plain and expected.isdigit() and received < int(expected):
            raise NoAnswer("Graph's answer broke off in the middle.", True)
        self._complete = True

    def _timed(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The pieces; of a streamed answer, only the time until they come counts, not what is done with them."""
        if self._deadline is None or not self._seconds:
            yield from pieces
            return
        left, received = self._seconds, 0
        while True:
            begun = time.monotonic()
            self._deadline.arm(left)
            piece = next(pieces, None)
            self._deadline.disarm()
            if piece is None:
                return
            received += len(piece)
            left -= time.monotonic() - begun
            if received >= _PROGRESS:
                left, received = self._seconds, 0
            yield piece

    def json(self) -> Dict[str, Any]:
        """The answer as a JSON object, the same one each time; {} if it is none."""
        if self._value is None:
            self.load()
            try:
                value = jsontext.parse(self._content or b"null")
            except ValueError:
                value = None
            self._value = value if isinstance(value, dict) else {}
        return self._value

    @property
    def code(self) -> str:
        """The innermost error.code, which is the most specific (errors.md); "" without one."""
        error = self.json().get("error")
        code = ""
        for _ in range(10):
            if not isinstance(error, dict):
                break
            if isinstance(error.get("code"), str):
                code = error["code"]
            error = error.get("innerError") or error.get("innererror")
        return code

    @property
    def from_graph(self) -> bool:
        """Whether Graph itself answered: its request-id, and its kind of body.

        A TLS-inspecting proxy may relay or invent a request-id.  So 202 and 204 have no body at all, "not there"
        bears Graph's own error code, anything else is JSON or empty.  Of an answer that is being streamed, only
        the head is looked at: Graph streams no pages.
        """
        if not self.request_id:
            return False
        if self._content is None:
            return not self.headers.get("Content-Type", "").lower().startswith("text/html")
        if self.status in (202, 204):
            return not self._content and not self._broken
        if self.status in (404, 410):
            return bool(self.code)
        return not self.is_foreign

    @property
    def is_foreign(self) -> bool:
        """Whether the body is neither JSON nor empty, as Graph's are."""
        return bool(not self.json() and self._content)

    @property
    def retry_after(self) -> float:
        """Seconds Graph asks to wait, at most a day; 0 if it does not.  Others are waited for ten minutes at most."""
        seconds = parse_retry_after(self.headers.get("Retry-After"), self.headers.get("Date"))
        return seconds if self.request_id else min(seconds, _RETRY_AFTER_OF_STRANGERS)

    @property
    def throttled_for(self) -> float:
        """Seconds for which Graph wants no request for the mailbox: only 429 and 503 ask for that."""
        if self.status not in (429, 503):
            return 0.0
        return self.retry_after or (_RETRY_AFTER_UNSAID if self.status == 429 else 0.0)

    def close(self) -> None:
        release, self._release = self._release, lambda reusable: None
        if not self._complete:
            self._response.close()  # its connection is in no pool that would close it
        # After a 503 Graph wants a new connection (best-practices-concept.md).
        release(self._complete and self.status != 503)

    def __enter__(self) -> "Answer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parse_retry_after(value: Optional[str], date: Optional[str] = None) -> float:
    """Retry-After as seconds: integer, fraction, or a date measured by Graph's own clock.

    From 1 s to a day, which only keeps nonsense out: what Graph asks for is never shortened, or it would count what
    comes too early and ask for more.  0 if absent; an unreadable value counts as 10 s.
    """
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_until(value, date)
    if not math.isfinite(seconds):
        seconds = _RETRY_AFTER_UNSAID
    return min(max(math.ceil(seconds), 1.0), _RETRY_AFTER_MOST)


def _seconds_until(value: str, date: Optional[str]) -> float:
    try:
        then = email.utils.parsedate_to_datetime(value).timestamp()
        now = email.utils.parsedate_to_datetime(date).timestamp() if date else time.time()
    except (TypeError, ValueError, IndexError, OverflowError):
        return _RETRY_AFTER_UNSAID
    return then - now
