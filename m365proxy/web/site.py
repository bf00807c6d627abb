"""What is behind the status port, and who may see it."""

from __future__ import annotations

from typing import Callable, Dict, NamedTuple, Tuple

from ..errors import ProxyError
from . import health, metrics, page, response
from .response import Response
from .source import Source


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

    def __init__(self, source: Source):
        self._source = source

    def respond(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return response.refusal(405, ("Allow", "GET, HEAD"))
        found = PAGES.get(request.path)
        if found is None:
            return response.refusal(404)
        try:
            return found.make(self._source)
        except ProxyError as error:
            return response.refusal(503, why=str(error))
        except OSError as error:
            return response.refusal(503, why=f"The state of things cannot be found out: {error.strerror or error}.")
