"""A response of the status port, and the headers that each one has."""

from __future__ import annotations

import base64
import hashlib
import http
from typing import List, NamedTuple, Tuple

TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"

# Nothing is loaded, sent or framed, whatever a page holds.
_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Response(NamedTuple):
    """`style`: the text of the page's one <style>, which the browser applies only if it is this one."""

    status: int
    body: bytes
    media_type: str = TEXT
    headers: Tuple[Tuple[str, str], ...] = ()
    style: str = ""

    def head(self, date: str, close: bool) -> bytes:
        """Status line and header, with the empty line.  `date`: as RFC 9110 5.6.7 writes it."""
        lines = [
            f"HTTP/1.1 {self.status} {http.HTTPStatus(self.status).phrase}",
            f"Date: {date}",
            f"Content-Type: {self.media_type}",
            f"Content-Length: {len(self.body)}",
            "Cache-Control: no-store",
            f"Content-Security-Policy: {_policy(self.style)}",
            "Referrer-Policy: no-referrer",
            "X-Content-Type-Options: nosniff",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        if close:
            lines.append("Connection: close")
        return "".join(line + "\r\n" for line in [*lines, ""]).encode("ascii")


def text(status: int, lines: List[str], headers: Tuple[Tuple[str, str], ...] = ()) -> Response:
    """Lines for people and programs."""
    return Response(status, "".join(line + "\n" for line in lines).encode("utf-8", "backslashreplace"), headers=headers)


def refusal(status: int, *headers: Tuple[str, str], why: str = "") -> Response:
    """A response that is none of the pages; without `why`, HTTP's own words for the status."""
    return text(status, [why or http.HTTPStatus(status).phrase], headers)


def html(body: bytes, style: str) -> Response:
    """A page (UTF-8).  `style`: the text of its <style>, octet for octet."""
    return Response(200, body, HTML, style=style)


def _policy(style: str) -> str:
    if not style:
        return _POLICY
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    return f"{_POLICY}; style-src 'sha256-{digest}'"
