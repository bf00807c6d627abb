"""What is behind the status port, and who may see it."""

from __future__ import annotations

from typing import Callable, Dict, NamedTuple, Tuple

from ..monitoring.monitor import Monitor
from . import health, response
from .response import Response


class Request(NamedTuple):
    """A request, as far as anything goes by it."""

    peer: str  # the client's normalised address
    method: str
    path: str  # without the query
    hosts: Tuple[str, ...]  # each Host header
    version: str  # "HTTP/1.1"
    authorization: str  # "": none


class Site:
    """Any thread may call."""

    def __init__(self, monitor: Monitor):
        self._monitor = monitor

    def respond(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return response.refusal(405, ("Allow", "GET, HEAD"))
        make = PATHS.get(request.path)
        if make is None:
            return response.refusal(404)
        return make(self._monitor)


# What each path shows.
PATHS: Dict[str, Callable[[Monitor], Response]] = {
    "/livez": health.live,
}
