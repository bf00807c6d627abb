"""`devices`: which clients came, when, what they do, and what to set."""

from __future__ import annotations

import json
import os
import sys
from typing import List, Optional, Sequence

from ...config.sections import Config
from ...monitoring.devices import Devices, DeviceView
from ...monitoring.stories import local_time
from ...system import log
from .. import invocation
from ..terminal import Mark, Terminal

# So many are shown, those seen last; --json has all.
_SHOWN = 50

_INDENT = "  "


def show(config: Config, as_json: bool) -> Optional[int]:
    """Print all clients that are remembered, the last seen first, whether the program runs or not."""
    found = Devices()
    found.load(config.state_dir)
    views = found.views()
    if as_json:
        print(json.dumps({"devices": views}, indent=1))
        return None
    terminal = Terminal(sys.stdout, os.environ)
    for line in lines(views, terminal, invocation.program(config.path)):
        terminal.line(line)
    if not config.logging.events_mb:
        sentence = "The event log is switched off (logging.events_mb), so the last minute may be missing."
        terminal.line(terminal.wrap(f"{terminal.mark(Mark.ATTENTION)} {sentence}"))
    return None


def lines(views: Sequence[DeviceView], terminal: Terminal, program: str = "m365proxy") -> List[str]:
    """The table: a few lines for each client.  `program`: how this program is started here."""
    if not views:
        return [
            terminal.wrap(
                f"No device has come yet. `{program} devices --learn 30m` shows what comes in while you try one, and "
                f"`{program} card LOGIN` what to type into it."
            )
        ]
    shown = views[:_SHOWN]
    width = max(len("DEVICE"), *(len(view["client"]) for view in shown))
    found = [terminal.bold(f"{'DEVICE':<{width}}  {'LAST SEEN':<19}  MESSAGES")]
    for view in shown:
        found += _device(view, width, terminal, program)
    if len(views) > len(shown):
        found.append(f"{len(views) - len(shown)} more, seen earlier: `{program} devices --json` has all.")
    return found


def _device(view: DeviceView, width: int, terminal: Terminal, program: str) -> List[str]:
    found = [f"{log.clean(view['client']):<{width}}  {local_time(view['last_seen']):<19}  {view['messages']}"]
    names = [log.clean(name) for name in view["logins"]]
    does = ", ".join(view["does"]) + (f"; user name {', '.join(names)}" if names else "")
    does += f"; sends from {log.clean(view['mailbox'])}" if view["mailbox"] else ""
    if does:
        found.append(terminal.wrap(does, _INDENT))
    if view["trouble"]:
        found.append(terminal.wrap(f"{local_time(view['trouble_time'])}: {log.clean(view['refusal'])}", _INDENT * 2))
    mark = Mark.WRONG if view["trouble"] else Mark.ATTENTION
    for sentence in view["advice"]:
        told = sentence.replace("`m365proxy ", f"`{program} ")
        found.append(terminal.wrap(f"{terminal.mark(mark)} {told}", _INDENT))
    return found
