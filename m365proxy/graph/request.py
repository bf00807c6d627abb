"""A request to Graph, which can be made again, and how far it got."""

from __future__ import annotations

import dataclasses
import ssl
import urllib.parse
from typing import Callable, Iterator, List, Mapping, Optional

from .answer import Cancellation
from .body import Body

# Seconds: to connect.
CONNECT_SECONDS = 15.0

# A call has this many seconds more than the silence that is waited for, and another per so many octets of its body.
_SPARE_SECONDS = 30.0
_OCTETS_PER_SECOND = 16 * 1024


def no_body() -> Optional[Body]:
    return None


@dataclasses.dataclass(frozen=True)
class Request:
    """`mailbox` is "" for what belongs to none; `make_body` makes the body anew for each try.

    `stream`: the caller reads the answer piece by piece.  `seconds` is the longest silence that is waited for.
    """

    method: str
    mailbox: str
    url: str
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    make_body: Callable[[], Optional[Body]] = no_body
    stream: bool = False
    seconds: float = 60.0
    cancellation: Cancellation = dataclasses.field(default_factory=Cancellation)

    def with_headers(self, **headers: str) -> Request:
        return dataclasses.replace(self, headers={**self.headers, **headers})

    @property
    def label(self) -> str:
        """For the log: without ids and the secrets of upload URLs."""
        url = urllib.parse.urlsplit(self.url)
        last = url.path.rpartition("/")[2]
        is_word = len(last) < 30 and last.replace("$", "").isalpha()
        return f"{self.mailbox or url.netloc}: {self.method}" + (f" {last}" if is_word else "")


def total_seconds(silence: float, body: Optional[Body]) -> float:
    """The time for a whole call, however slowly its answer trickles in."""
    return CONNECT_SECONDS + silence + _SPARE_SECONDS + (len(body) / _OCTETS_PER_SECOND if body is not None else 0.0)


def maybe_processed(error: Exception, body: Optional[Body]) -> bool:
    """Whether a request that failed may have reached Graph whole.

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


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it wraps, as requests and urllib3 nest them: args, reason, cause.

    Not its context: a caller may be handling another failure, which Python would chain to this one.
    """
    seen: List[BaseException] = []
    todo: List[object] = [error]
    while todo and len(seen) < 20:
        current = todo.pop()
        if not isinstance(current, BaseException) or current in seen:
            continue
        seen.append(current)
        yield current
        todo += [current.__cause__, getattr(current, "reason", None), *current.args]
