"""What is behind the status port, and who may see it."""

from __future__ import annotations

import threading
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from ..errors import ProxyError
from ..logins.guard import Guard
from ..server import certificate
from ..system import log
from . import health, metrics, page, response
from .gate import Gate
from .hosts import Hosts
from .response import Response
from .source import Source

logger = log.get("web")

# Clients whose refusals are remembered, so that each is logged once.
_REMEMBERED = 1000

_UNKNOWN = (
    "The state of things cannot be found out: {reason}. Check the disk of state_dir, and that it belongs to the "
    "service's user."
)


class Request(NamedTuple):
    """A request, as far as anything goes by it."""

    peer: str  # the client's normalised address
    method: str
    path: str  # without the query
    hosts: Tuple[str, ...]  # each Host header
    version: str  # "HTTP/1.1"
    authorization: str  # "": none


class Page(NamedTuple):
    """What a path shows.  `make` may raise OSError and ProxyError: then the answer is 503 with the reason.

    is_open: everybody who may connect may read it, also where there is a password.
    """

    make: Callable[[Source], Response]
    is_open: bool = False


PAGES: Dict[str, Page] = {
    "/": Page(page.show),
    "/still": Page(page.show_still),
    "/livez": Page(health.live, is_open=True),
    "/readyz": Page(health.ready, is_open=True),
    "/healthz": Page(health.healthy),
    "/metrics": Page(metrics.respond),
}


class Site:
    """Any thread may call."""

    def __init__(self, source: Source, guard: Guard):
        self._source = source
        self._gate = Gate(guard)
        self._hosts = Hosts(lambda: _names_in(self._certificate))
        self._certificate = ""
        self._lock = threading.Lock()
        self._refused: Dict[str, None] = {}

    def set_access(self, certificate: str, password: Optional[str]) -> None:
        """`certificate`: the file whose names this port may be asked by, "" without.  `password`: None without."""
        self._gate.set_password(password)
        self._certificate = certificate
        self._hosts.forget()

    def respond(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return response.refusal(405, ("Allow", "GET, HEAD"))
        if len(request.hosts) != 1 and (request.hosts or request.version == "HTTP/1.1"):
            return response.refusal(400, why="A request needs one Host field.")
        if request.hosts and not self._hosts.are_allowed(request.hosts[0]):
            self._log_refusal(request)
            return response.refusal(
                421, why="Ask by an IP address, by localhost, or by a name in the certificate (tls.tls_cert)."
            )
        found = PAGES.get(request.path)
        if found is None:
            return response.refusal(404)
        refusal = None if found.is_open else self._gate.refusal(request.authorization, request.peer)
        return refusal or self._made(found)

    def _log_refusal(self, request: Request) -> None:
        """Once for each client: a page that tries this tries it again and again."""
        with self._lock:
            if request.peer in self._refused:
                return
            self._refused[request.peer] = None
            if len(self._refused) > _REMEMBERED:
                del self._refused[next(iter(self._refused))]
        logger.info("refused %s, who asks for %s: see tls.tls_cert", request.peer, log.quote(request.hosts[0], 100))

    def _made(self, found: Page) -> Response:
        try:
            return found.make(self._source)
        except ProxyError as error:
            return response.refusal(503, why=str(error))
        except OSError as error:
            return response.refusal(503, why=_UNKNOWN.format(reason=error.strerror or error))


def _names_in(path: str) -> List[str]:
    try:
        return certificate.seen(path).names if path else []
    except (OSError, ValueError):
        return []
