"""Health for orchestrators, load balancers and monitors."""

from __future__ import annotations

from ..errors import ProxyError
from ..monitoring.findings import Finding
from ..system import log
from ..system.readiness import Readiness
from . import response
from .render import as_typed
from .response import Response
from .source import Source

# Characters of a sentence, and of the commands after it.
_LONGEST = 1000


def live(source: Source) -> Response:
    """Whether the program does its work.  If not, only a restart helps."""
    return _short(source.monitor.is_alive())


def ready(source: Source) -> Response:
    """Whether mail can be accepted, and put on the disk.  A lost sign-in makes no difference: it waits there."""
    readiness = source.readiness()
    if readiness is not Readiness.READY:
        return _said(readiness)
    try:
        report = source.report()
    except (OSError, ProxyError):
        return _short(False)
    return _short(not (report["deaf"] or report["refusing"] or report["unreadable"] or report["unwritable"]))


def healthy(source: Source) -> Response:
    """Whether there is anything to do; each thing on a line of its own, with its commands."""
    found = source.report()["findings"]
    if not found:
        return _short(True)
    return response.text(503, [_line(finding, source.program) for finding in found])


def _line(finding: Finding, program: str) -> str:
    commands = ", ".join(f"`{as_typed(command, program)}`" for command in finding["commands"])
    return log.clean(finding["sentence"], _LONGEST) + (f" Run: {log.clean(commands, _LONGEST)}" if commands else "")


def _short(well: bool) -> Response:
    return _said(Readiness.READY if well else Readiness.NOT_READY)


def _said(readiness: Readiness) -> Response:
    """Everybody who may connect may read it: it gives no reason but draining, which leaves open sessions alone."""
    return response.text(200 if readiness is Readiness.READY else 503, [readiness.value])
