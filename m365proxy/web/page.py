"""The page: what `status` says, the last messages and the devices, for a browser.  It only reads."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple, Sequence, cast

from ..monitoring import stories, wording
from ..monitoring.devices import DeviceView
from ..monitoring.findings import DatedFinding, Finding
from ..monitoring.monitor import Report
from . import messages, response, tables
from .render import Html, code, fill, join, moment, prose
from .response import Response
from .source import Kept, Source
from .style import STYLE

# Things to do that are shown.
_FINDINGS = 50

# Messages that are shown, and how many octets of the event log are read for them.
_MESSAGES, _OCTETS = 200, 1024 * 1024

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
{refresh}
<title>{verdict} - {host}</title>
<style>{style}</style>
</head>
<body>
<header class="{tone}">
<p>m365proxy on {host}</p>
<h1>{verdict}</h1>
<p>As of <time>{when}</time>. {how}</p>
</header>
<nav><a href="#queue">Queue</a> <a href="#mailboxes">Mailboxes</a> <a href="#messages">Messages</a>
<a href="#devices">Devices</a></nav>
<main>
{sections}
</main>
<footer>
<p>m365proxy {version}. This page only shows. Run commands on {host}.</p>
</footer>
</body>
</html>
"""

_REFRESH = Html('<meta http-equiv="refresh" content="60">')
_RENEWED = Html('This page is renewed every minute: <a href="/still">hold it still</a> to read on.')
_STILL = Html('<a href="/">Renew it every minute</a>')

_SECTION = """<section id="{id}">
<h2>{heading}</h2>
{content}
</section>"""


class Setting(NamedTuple):
    """What does not depend on the moment."""

    host: str  # this machine's name
    program: str  # what starts this program in a shell
    is_renewed: bool = True  # by the browser, every minute


def show(source: Source) -> Response:
    """The page as it is now.  Temporary if listing the queue takes too long."""
    return _show(source, source.page, True)


def show_still(source: Source) -> Response:
    """The same, but nothing that was unfolded is folded again after a minute."""
    return _show(source, source.still_page, False)


def _show(source: Source, kept: Kept, is_renewed: bool) -> Response:
    setting = Setting(socket.gethostname(), source.program, is_renewed)
    content = kept.get(lambda: render(source.report(), source.monitor.devices.views(), setting).encode())
    return response.html(content, STYLE)


def render(report: Report, devices: Sequence[DeviceView], setting: Setting) -> Html:
    """The page of a report, with the last messages of the event log."""
    sections = [
        *([_section("todo", "What to do", _todo(report["findings"], setting.program))] if report["findings"] else []),
        _section("glance", "At a glance", _glance(report, setting.program)),
        _section("queue", "Queue", tables.queue(report, setting.program)),
        _section("mailboxes", "Mailboxes", tables.mailboxes(report, setting.program)),
        _section("messages", "The last messages", _messages(report, setting.program)),
        _section("devices", "Devices", tables.devices(devices, setting.program)),
    ]
    return fill(
        _PAGE,
        refresh=_REFRESH if setting.is_renewed else "",
        how=_RENEWED if setting.is_renewed else _STILL,
        style=STYLE,
        host=setting.host,
        verdict=report["verdict"],
        tone="bad" if report["findings"] else "good",
        when=stories.local_time(report["written"]),
        sections=join(sections),
        version=report["version"],
    )


def _section(id: str, heading: str, content: Html) -> Html:
    return fill(_SECTION, id=id, heading=heading, content=content)


def _todo(found: Sequence[Finding], program: str) -> Html:
    shown = fill("<ol>\n{items}\n</ol>", items=join(_finding(one, program) for one in found[:_FINDINGS]))
    more = len(found) - _FINDINGS
    return (
        join([shown, fill('<p class="quiet">{count} more things are not shown.</p>', count=more)])
        if more > 0
        else shown
    )


def _finding(finding: Finding, program: str) -> Html:
    since = cast(DatedFinding, finding).get("since", 0.0)  # all that the running program reports have it
    commands = join((code(command, program) for command in finding["commands"]), " ")
    return fill(
        "<li>{sentence}{since}{commands}</li>",
        sentence=prose(finding["sentence"], program),
        since=fill(' <span class="quiet">Since {when}.</span>', when=moment(since)) if since else "",
        commands=fill(' <div class="commands">{all}</div>', all=commands) if commands else "",
    )


def _glance(report: Report, program: str) -> Html:
    now, free = report["written"], report["disk_free_mb"]
    rows = [("running", wording.running(report)), ("sign-in", wording.sign_in(report["sign_in"], now))]
    if report["paused"]:
        rows.append(("sending", f"paused: {report['paused']}"))
    rows.append(("ports", ", ".join(report["listeners"])))
    if free is not None:
        rows.append(("disk", wording.disk(free, report["min_free_mb"])))
    rows += wording.ends(report)
    cells = (fill("<dt>{name}</dt> <dd>{value}</dd>", name=name, value=prose(value, program)) for name, value in rows)
    return fill("<dl>\n{rows}\n</dl>", rows=join(cells))


def _messages(report: Report, program: str) -> Html:
    try:
        found = stories.latest(os.path.join(report["state_dir"], "events"), _MESSAGES, _OCTETS)
    except OSError as error:
        return fill("<p>{text}</p>", text=f"The event log cannot be read: {error.strerror}.")
    return messages.messages(found, program)
