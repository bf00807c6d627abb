"""The way of a notice to notify_url: one POST of JSON."""

from __future__ import annotations

import threading
import urllib.parse

from ..errors import Temporary
from ..system.outbound import Outbound
from .notice import Notice

# Seconds for all of it, however slowly the answer trickles in.
SECONDS = 30.0


def post(outbound: Outbound, url: str, notice: Notice, seconds: float = SECONDS) -> str:
    """How it was answered.  Temporary unless that was a 2xx; no sentence has more of the URL than the host.

    `{status}` and `{title}` in the URL are replaced by those of the notice.
    """
    import requests

    for name, value in (("{status}", notice.health.value), ("{title}", notice.title)):
        url = url.replace(name, urllib.parse.quote(value, safe=""))
    host = urllib.parse.urlsplit(url).hostname or ""
    session, is_late = outbound.session(), threading.Event()

    def break_off() -> None:
        is_late.set()
        session.interrupt()

    # A timer and not the timeouts of requests: those begin anew with each octet.
    timer = threading.Timer(seconds, break_off)
    timer.daemon = True
    timer.start()
    try:
        with session.post(
            url,
            data=notice.as_json(),
            headers=_headers(notice),
            timeout=seconds,
            allow_redirects=False,
            stream=True,  # the text of the answer is of no interest
        ) as response:
            status = response.status_code
    except (requests.RequestException, OSError, ValueError) as error:
        if is_late.is_set():
            raise Temporary(f"{host} has not answered within {seconds:.0f} s.") from None
        raise Temporary(outbound.plain(error, host)) from None
    finally:
        timer.cancel()
        session.close()
    if 300 <= status < 400:
        raise Temporary(f"{host} answered {status}, which leads elsewhere. Set the URL to where it leads.")
    if not 200 <= status < 300:
        raise Temporary(f"{host} answered {status}. Check the URL, and the log of what answers there.")
    return f"taken by {host} ({status})"


def _headers(notice: Notice) -> "dict[str, str]":
    """With those by which ntfy makes its message of the JSON; others ignore them."""
    return {
        "Content-Type": "application/json",
        "X-Template": "yes",
        "X-Title": "{{.title}}",
        "X-Message": "{{.message}}",
        "X-Priority": "high" if notice.standing else "default",
    }
