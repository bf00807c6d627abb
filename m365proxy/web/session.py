"""A connection to the status port: requests in, responses out, and a limit on everything a client can draw out."""

from __future__ import annotations

import http.server
import time
from typing import Optional

from ..server.client import Client
from ..server.connection import Connection, LineTooLong, TimedOut
from ..system import log
from . import response
from .response import Response
from .site import Request, Site
from .visitors import Visitors

logger = log.get("web")

# Until the first request line, and for all header fields of a request (seconds).
_HEAD_SECONDS = 10.0

# Between two requests on one connection (seconds): browsers and Prometheus come again.
_IDLE_SECONDS = 30.0

# For a response, beyond which no further piece of it is begun (seconds), and the octets of a piece.
_RESPONSE_SECONDS = 30.0
_PIECE = 32 * 1024

_LONGEST_HEAD = 16 * 1024
_MOST_REQUESTS = 100


class _Head:
    """A connection as http.server reads from it: no further than the head of one request."""

    def __init__(self, connection: Connection):
        self._connection = connection
        self._deadline = 0.0
        self._left = 0

    def allow(self, seconds: float, octets: Optional[int] = None) -> None:
        """Give the client so much time from now on, and if a request begins, so many octets for all of it."""
        self._deadline = time.monotonic() + seconds
        if octets is not None:
            self._left = octets

    def readline(self, limit: int = 0) -> bytes:
        """One line with its end.  WireError.  `limit` is of no interest: there is one for the whole head."""
        line = self._connection.read_line(self._left, self._deadline - time.monotonic())
        self._left -= len(line) + 2
        return line + b"\r\n"


class WebSession(http.server.BaseHTTPRequestHandler):
    """Takes requests apart by http.server; reading, writing and all responses are its own."""

    protocol_version = "HTTP/1.1"
    rfile: _Head  # type: ignore[assignment]

    def __init__(self, client: Client, site: Site, visitors: Visitors):
        # Not the one of socketserver: it would serve in here, and read without a limit.
        self._client = client
        self._site = site
        self._visitors = visitors
        self.rfile = _Head(client.connection)

    def run(self) -> None:
        """WireError if the connection broke, or the client was too slow."""
        seconds = _HEAD_SECONDS
        for left in reversed(range(_MOST_REQUESTS)):
            self.close_connection = True
            if not self._read(seconds):
                return
            self._client.note_progress()
            self._visitors.attend_to(self._client)
            found = self._site.respond(self._request())
            self._visitors.wait_for(self._client)
            self.close_connection = self.close_connection or not left or self._client.stopping
            logger.debug("%s %s: %d", self._client.peer, log.quote(self.requestline), found.status)
            self._send(found)
            if self.close_connection:
                return
            seconds = _IDLE_SECONDS

    def _read(self, seconds: float) -> bool:
        """Read a request; False if the connection is to end."""
        self.command = ""
        try:
            self.rfile.allow(seconds, _LONGEST_HEAD)
            self.raw_requestline = self.rfile.readline()
            self.rfile.allow(_HEAD_SECONDS)
            if len(self.raw_requestline.split()) != 3:  # http.server would take two words for HTTP/0.9
                self.send_error(400)
                return False
            if not self.parse_request():
                return False
        except LineTooLong:
            self.send_error(431)
            return False
        # What follows the head is not read: it would pass for the next request.
        has_body = self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers
        self.close_connection = self.close_connection or has_body or self.request_version != "HTTP/1.1"
        return True

    def _request(self) -> Request:
        hosts = self.headers.get_all("Host", [])
        return Request(
            peer=self._client.peer,
            method=self.command,
            path=self.path.partition("?")[0],
            hosts=tuple(hosts),
            version=self.request_version,
            authorization=self.headers.get("Authorization", ""),
        )

    def send_error(self, code: int, message: Optional[str] = None, explain: Optional[str] = None) -> None:
        """What http.server finds wrong with a request.  Its words are not used: they quote the client."""
        self.close_connection = True
        self._send(response.refusal(code))

    def handle_expect_100(self) -> bool:
        """No body is ever read."""
        return True

    def _send(self, found: Response) -> None:
        connection = self._client.connection
        connection.write(found.head(self.date_time_string(), self.close_connection))
        deadline = time.monotonic() + _RESPONSE_SECONDS
        body = found.body if self.command != "HEAD" else b""
        for begin in range(0, len(body), _PIECE):
            if time.monotonic() > deadline:
                raise TimedOut("the response was not taken in time")
            connection.write(body[begin : begin + _PIECE])
        connection.flush()
