"""A minimal client of Microsoft Graph: one call at a time; what its answer means is for others to say.

Keeps the rules of Graph that every caller shares: at most four requests at a
time per mailbox, or the share of them that is ours; no request to a throttled mailbox; a refused token is renewed
once; nothing is retried or redirected by itself.
"""

from __future__ import annotations

import contextlib
import email.utils
import threading
import time
import urllib.parse
import uuid
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Protocol, Tuple, Union

from ..errors import Permanent
from ..system import log
from ..system.outbound import Outbound
from .answer import Answer, Cancellation, GraphRefused, GraphTrouble, NoAnswer, Throttled
from .body import Body, body_maker, of_octets
from .deadlines import Deadline, Deadlines
from .request import CONNECT_SECONDS, Request, maybe_processed, total_seconds
from .sessions import IDLE_SECONDS, Sessions
from .slots import BROKEN_OFF, GAP, SLOTS, UNANSWERED, Slots

if TYPE_CHECKING:
    import requests

    from ..system.httpsession import Session

logger = log.get("graph")

# A time of throttling is logged if it ends so many seconds later than the one that was logged before.
_LONG_THROTTLING = 60.0

# What is waited for a free slot of a mailbox before giving up (seconds).
_SLOT_SECONDS = 300.0


class Tokens(Protocol):
    """Gives access tokens: entra.tokens.Tokens."""

    def access_token(self, refused: Optional[str] = None) -> str:
        """A token that is good for now; `refused`: the one that Graph has just refused."""


class _Mailbox:
    """What is kept of one mailbox; times are monotonic."""

    def __init__(self, name: str, slots: int) -> None:
        self.name = name
        self.slots = Slots(number=slots)
        self.throttled_until = 0.0
        self.logged_until = 0.0  # the end of the throttling that is in the log


class Graph:
    """The client.  Any thread may call; a connection is used by one call at a time."""

    def __init__(
        self,
        tokens: Tokens,
        outbound: Outbound,
        url: str,
        user: str = "",
        *,
        app: str = "",
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        slots: int = SLOTS,
        slot_seconds: float = _SLOT_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
        note_answer: Callable[[int], object] = lambda status: None,
        note_throttling: Callable[[float], object] = lambda seconds: None,
    ):
        """`url`: "https://graph.microsoft.com"; `user`: the signed-in address, "" when app-only; `app`: its ID.

        `slots`: requests at a time for a mailbox.

        `note_answer` is told the HTTP status of each request, 0 if there was no answer; `note_throttling`, for how
        many seconds longer than before a mailbox is throttled.
        """
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
        self._monotonic = monotonic
        self._slots = slots
        self._slot_seconds = slot_seconds
        self._note_answer = note_answer
        self._note_throttling = note_throttling
        self._mailboxes: Dict[str, _Mailbox] = {}
        self._sessions = Sessions(outbound, monotonic, idle_seconds)
        self._deadlines = Deadlines(logger)
        self._lock = threading.Lock()

    def now(self) -> float:
        """The time by Graph's clock, as far as we have seen it (seconds since 1970).

        Our own may be set meanwhile: what was seen goes on by the monotonic clock.
        """
        seen = self._seen
        return seen[0] + self._monotonic() - seen[1] if seen else self._clock()

    def skew_left(self) -> float:
        """What is left of the skew that was seen (seconds): our clock may have been set since, and Graph not asked."""
        return min(self.skew, self.now() - self._clock(), key=abs)

    def throttled_for(self, mailbox: str) -> float:
        """Seconds for which Graph wants no request for this mailbox; 0 if it may be asked."""
        return max(0.0, self._mailbox(mailbox).throttled_until - self._monotonic())

    def spare(self, mailbox: str) -> int:
        """Slots of a mailbox that no call has or waits for; 0 while it is throttled."""
        return 0 if self.throttled_for(mailbox) else self._mailbox(mailbox).slots.spare

    def throttle(self, name: str, seconds: float) -> None:
        """Send no request for this mailbox for so many seconds: an answer, or one inside a batch, asks for that."""
        mailbox = self._mailbox(name)
        now = self._monotonic()
        until = now + seconds
        with self._lock:
            longer = until - max(mailbox.throttled_until, now)
            mailbox.throttled_until = max(mailbox.throttled_until, until)
            is_news = seconds >= _LONG_THROTTLING and until - mailbox.logged_until >= _LONG_THROTTLING
            if is_news:
                mailbox.logged_until = until
        if longer > 0:
            self._note_throttling(longer)
        if is_news:
            end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock() + seconds))
            logger.warning("%s: throttled by Graph for %d s; nothing is sent or read until %s", name, seconds, end)

    def check_ready(self, mailbox: str) -> None:
        """Do nothing if a call could be made now; Throttled, SignInNeeded or Temporary if not."""
        self._check_throttling(self._mailbox(mailbox))
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
        json: Optional[Mapping[str, Any]] = None,
        stream: bool = False,
        seconds: float = 60.0,
        cancellation: Optional[Cancellation] = None,
    ) -> Answer:
        """One request below the mailbox's URL; the answer whatever its status.

        `body` makes the body anew for each try; `seconds` is the longest silence waited for, from which follows
        the time for the whole call, or for each 16 KiB of a streamed answer; `cancellation` lets others end the call.
        NoAnswer if no answer comes, Throttled if the mailbox is throttled; SignInNeeded and Temporary without a
        token; Cancelled.
        """
        query = "?" + urllib.parse.urlencode(params, quote_via=urllib.parse.quote) if params else ""
        return self._authorised(
            Request(
                method,
                mailbox,
                self.url + "/v1.0" + self.root(mailbox) + path + query,
                {**(headers or {}), "Content-Type": "application/json"} if json is not None else headers or {},
                body_maker(body, json),
                stream,
                seconds,
                cancellation or Cancellation(),
            )
        )

    def read(
        self,
        method: str,
        mailbox: str,
        path: str,
        *,
        params: Optional[Mapping[str, str]] = None,
        headers: Optional[Mapping[str, str]] = None,
        body: Optional[Callable[[], Body]] = None,
        json: Optional[Mapping[str, Any]] = None,
        stream: bool = False,
        seconds: float = 60.0,
        cancellation: Optional[Cancellation] = None,
    ) -> Answer:
        """`call`, but GraphTrouble or GraphRefused (with a plain sentence) for all that is not Graph's own 2xx."""
        return self.raise_for_status(
            self.call(
                method,
                mailbox,
                path,
                params=params,
                headers=headers,
                body=body,
                json=json,
                stream=stream,
                seconds=seconds,
                cancellation=cancellation,
            )
        )

    def follow(self, mailbox: str, url: str, headers: Optional[Mapping[str, str]] = None) -> Answer:
        """GET a nextLink or deltaLink as it is; Permanent if it leads away from Graph's host.  Raises as `read`."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" or parts.netloc.lower() != self.host.lower():
            raise Permanent("Graph's link to the next page leads to another host; the token does not go there.")
        return self.raise_for_status(self._authorised(Request("GET", mailbox, url, headers or {})))

    def batch(self, mailbox: str, requests: List[Dict[str, Any]]) -> Answer:
        """POST $batch: at most 20 requests with ids and relative URLs (json-batching.md).  Raises as `read`."""
        make_body = body_maker(None, {"requests": requests})
        headers = {"Content-Type": "application/json"}
        url = self.url + "/v1.0/$batch"
        return self.raise_for_status(
            self._authorised(Request("POST", mailbox, url, headers, make_body, seconds=120.0)),
        )

    def root(self, mailbox: str) -> str:
        """The relative URL of a mailbox, as inside a batch."""
        if mailbox.lower() == self.user:
            return "/me"
        return "/users/" + urllib.parse.quote(mailbox, safe="@")

    def upload(
        self, method: str, mailbox: str, url: str, headers: Mapping[str, str], body: Union[bytes, bytearray, None]
    ) -> Answer:
        """A request to an upload session's own URL: no token goes along, the URL is the secret."""
        if urllib.parse.urlsplit(url).scheme != "https":
            raise Permanent("Graph's upload URL is not HTTPS; nothing is sent there.")
        make_body = body_maker(None if body is None else lambda: of_octets(body), None)
        answer = self._exchange(Request(method, mailbox, url, headers, make_body, seconds=300.0))
        answer.load()
        return answer

    def check_reachable(self) -> None:
        """One cheap request without a token, whatever the answer; NoAnswer if Graph gives none."""
        request = Request("GET", "", self.url + "/v1.0/", seconds=20.0)
        with contextlib.suppress(Throttled), self._exchange(request) as answer:
            if not answer.from_graph:
                raise NoAnswer(
                    f"Another system answers for {self.host} (HTTP {answer.status}): a proxy, filter or "
                    "sign-on page is in the way.",
                    False,
                )

    def break_off(self) -> None:
        """Let every call that waits for Graph fail now.  What it may have done is not known then."""
        self._deadlines.break_off()

    def close(self) -> None:
        """Close the idle connections; those in use are closed when their calls end."""
        self._sessions.close()

    def raise_for_status(self, answer: Answer) -> Answer:
        """The answer if it is Graph's own 2xx; GraphTrouble or GraphRefused if not."""
        if answer.ok and answer.from_graph:
            return answer
        try:
            answer.load()
        except NoAnswer:
            answer.forget_body()
        if not answer.from_graph:
            raise GraphTrouble(f"Another system answered instead of Graph (HTTP {answer.status}).", answer)
        if answer.ok or answer.status >= 500 or answer.status in (408, 423, 429):
            raise GraphTrouble(f"Graph answered HTTP {answer.status} {log.clean(answer.code)}.", answer)
        raise GraphRefused(f"Graph refused with HTTP {answer.status} {log.clean(answer.code)}.", answer)

    # One request.

    def _authorised(self, request: Request) -> Answer:
        """The answer to a request with a token; once more with a new one if Graph refuses it (it did nothing then)."""
        if "Accept" not in request.headers:
            request = request.with_headers(Accept="application/json, text/plain")
        token = self._tokens.access_token()
        answer = self._exchange(request.with_headers(Authorization="Bearer " + token))
        if answer.status == 401 and self._is_refused_token(answer):
            token = self._tokens.access_token(refused=token)
            answer = self._exchange(request.with_headers(Authorization="Bearer " + token))
        return answer

    @staticmethod
    def _is_refused_token(answer: Answer) -> bool:
        """Whether it is Graph that says 401: something between may say it after the request was processed."""
        with contextlib.suppress(NoAnswer):
            answer.load()
            return answer.from_graph
        answer.forget_body()
        return False

    def _exchange(self, request: Request) -> Answer:
        """The answer to a request as it is, read whole unless it is streamed."""
        mailbox = self._mailbox(request.mailbox)
        body = request.make_body()
        self._enter(mailbox)
        try:
            pooled = self._sessions.take()
        except BaseException:
            mailbox.slots.leave()
            raise

        deadline = Deadline(self._deadlines, pooled.session, request.label)
        waiting = False  # the request may be at Graph, and no answer has begun

        def release(reusable: bool) -> None:
            deadline.disarm()
            unharmed = request.cancellation.end() and not deadline.passed
            mailbox.slots.leave(UNANSWERED if waiting and not unharmed else GAP if reusable else BROKEN_OFF)
            self._sessions.give_back(pooled, reusable and unharmed)

        try:
            request.cancellation.begin(pooled.session)
            pooled.session.before_each(lambda: self._check_throttling(mailbox))
            deadline.arm(total_seconds(request.seconds, body))
            waiting = True
            response = self._send(pooled.session, request, body)
            waiting = deadline.passed
            if deadline.passed:  # a head that was broken off passes for a whole one
                response.close()
                raise NoAnswer(f"{self.host} did not answer in time.", body is None or body.exhausted)
            if request.stream:
                deadline.disarm()
            answer = Answer(response, release, deadline, request.seconds if request.stream else 0.0)
        except BaseException as error:
            release(False)
            if isinstance(error, NoAnswer):
                self._note_answer(0)
            raise
        self._note_answer(answer.status)
        self._note(answer, request.mailbox)
        if not request.stream:
            try:
                answer.load()
            except NoAnswer:
                # The status line arrived whole: it is the answer.
                answer.forget_body()
        return answer

    def _enter(self, mailbox: _Mailbox) -> None:
        """Take a slot; Throttled if there is none in time, or the mailbox is throttled."""
        if not mailbox.slots.enter(self._slot_seconds):
            raise Throttled(
                mailbox.name,
                1.0,
                f"All requests ({mailbox.slots.number}) that may run at a time for {mailbox.name} are in use.",
            )
        try:
            self._check_throttling(mailbox)  # no connection is made in vain
        except Throttled:
            mailbox.slots.leave()
            raise

    def _check_throttling(self, mailbox: _Mailbox) -> None:
        """Throttled if no request may leave for the mailbox now.

        Asked once more right before the request's first octet: a 429 may have come while it was being connected.
        """
        seconds = mailbox.throttled_until - self._monotonic()
        if seconds > 0:
            raise Throttled(mailbox.name, seconds)

    def _send(self, session: Session, request: Request, body: Optional[Body]) -> requests.Response:
        """The head of the answer; NoAnswer."""
        import requests

        headers = {**request.headers, "client-request-id": str(uuid.uuid4())}
        if body is None and request.method in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = "0"  # 411 otherwise (message-send.md)
        try:
            return session.exchange(request.method, request.url, headers, body, (CONNECT_SECONDS, request.seconds))
        except (requests.RequestException, OSError) as error:
            sentence = self._outbound.plain(error)
            raise NoAnswer(sentence, maybe_processed(error, body)) from None

    def _note(self, answer: Answer, mailbox: str) -> None:
        """Learn from an answer: Graph's clock, and whether the mailbox is throttled."""
        if not answer.request_id:
            return
        self.last_contact = self._monotonic()
        with contextlib.suppress(TypeError, ValueError, IndexError):
            date = email.utils.parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
            # Date counts whole seconds: less than that is no change.
            if abs(date + 0.5 - self.now()) > 1.0 or not self._seen:
                self._seen = (date + 0.5, self._monotonic())
            skew = date + 0.5 - self._clock()
            if abs(skew - self.skew) > 1.0:
                self.skew = skew
        self.throttle(mailbox, answer.throttled_for)

    def _mailbox(self, name: str) -> _Mailbox:
        key = name.lower()
        with self._lock:
            known = self._mailboxes.get(key)
            if known is None:  # not setdefault: it is asked for ten times a message, and would make one each time
                known = self._mailboxes[key] = _Mailbox(name, self._slots)
            return known
