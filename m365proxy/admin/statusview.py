"""What `status` prints for people: the verdict, what to do, and how things stand."""

from __future__ import annotations

import collections
from typing import Dict, List, Mapping, Sequence, Tuple

from ..monitoring import wording
from ..monitoring.findings import Finding
from ..monitoring.monitor import Report
from ..monitoring.snapshot import MailboxView
from ..spool.overview import QueueView
from ..system import log
from ..system.clock import ago
from .check.report import pieces
from .check.result import split
from .terminal import Terminal

# The width of what stands before a line's text.
_LABEL = 12

# How much is printed: things to do of one kind, names, reasons, mailboxes.  `--json` has all of it.
_ALIKE, _NAMED, _REASONS, _MAILBOXES = 3, 10, 5, 20

# Characters of what is to be done, and of a reason.
_SENTENCE, _REASON = 2000, 300

# Things to do for which the log is looked into, and such that end by a restart of the service, perhaps after more.
_IN_THE_LOG = ("stale", "stalled")
_RESTART = ("stale", "stalled", "deaf", "version", "secret ends", "secret expired")

# Right-aligned columns of the table of mailboxes, and the width of the last one.
_COLUMNS = ("sent 24 h", "failed 24 h", "waiting")
_LAST, _LAST_WIDTH = "last delivery", 13


class StatusView:
    """Prints one report."""

    def __init__(self, terminal: Terminal, program: str = "m365proxy", unit: str = "", sudo: str = ""):
        """`program`: the words that start this program with this config, for commands that are to be copied.

        `unit`: that of the service, "" if there is none; `sudo`: what stands before commands of the system.
        """
        self._terminal = terminal
        self._program = program
        self._unit = unit
        self._sudo = sudo

    def show(self, report: Report, now: float) -> None:
        """`now`: seconds since 1970."""
        self._terminal.line(self._terminal.bold(report["verdict"]))
        if report["findings"]:
            self._terminal.line()
            self._show_findings(report["findings"])
        self._terminal.line()
        for label, text in self._rows(report, now):
            self._hang(f"{label:<{_LABEL}}", text)
        if report["mailboxes"]:
            self._terminal.line()
            self._show_mailboxes(report["mailboxes"], now)

    def _hang(self, head: str, text: str) -> None:
        """A text behind a head, in lines that are indented by the head's width."""
        self._terminal.line(head + self._terminal.wrap(text, " " * len(head))[len(head) :])

    # What to do.

    def _show_findings(self, found: Sequence[Finding]) -> None:
        number = 0
        further: Dict[str, List[str]] = {}
        seen: Dict[str, int] = collections.Counter()
        for finding in found:
            kind, _, mailbox = finding["key"].partition(" ")
            seen[kind] += 1
            if seen[kind] > _ALIKE:
                further.setdefault(kind, []).append(log.clean(mailbox))
                continue
            number += 1
            self._show_finding(f"{number:>3}. " if len(found) > 1 else "  ", finding)
        for kind, names in further.items():
            which = ", ".join(names[:_NAMED]) + (", ..." if names[_NAMED:] else "")
            self._hang("     ", f"and {len(names)} more ({kind}): {which}")

    def _show_finding(self, head: str, finding: Finding) -> None:
        """The sentence, with its commands in lines of their own, and then those that are not in it."""
        indent = " " * len(head)
        commands = self._commands(finding)
        for text, is_command in pieces(self._adapted(log.clean(finding["sentence"], _SENTENCE))):
            if is_command:
                commands = [command for command in commands if command != text]
                self._terminal.line(f"{indent}  {text}")
            else:
                self._hang(head, text)
            head = indent
        for command in commands:
            self._terminal.line(f"{indent}  {command}")

    def _commands(self, finding: Finding) -> List[str]:
        """As they are to be typed here."""
        if self._unit and finding["key"] == "stopped":
            return [f"{self._sudo}systemctl start {self._unit}"]
        commands = []
        if self._unit and finding["key"] in _IN_THE_LOG:
            commands.append(f"{self._sudo}journalctl -u {self._unit} -n 50")
        if self._unit and finding["key"] in _RESTART:
            commands.append(f"{self._sudo}systemctl restart {self._unit}")
        for command in finding["commands"]:
            program, _, rest = command.partition(" ")
            commands.append(f"{self._program} {rest}" if program == "m365proxy" else command)
        return commands

    def _adapted(self, text: str) -> str:
        return text.replace("`m365proxy ", f"`{self._program} ")

    # How things stand.

    def _rows(self, report: Report, now: float) -> List[Tuple[str, str]]:
        rows = [("running", wording.running(report)), ("sign-in", log.clean(wording.sign_in(report["sign_in"], now)))]
        if report["running"] and report["paused"]:
            rows.append(("sending", f"paused: {_brief(report['paused'])}"))
        if report["running"]:
            rows += [("" if number else "ports", place) for number, place in enumerate(report["listeners"])]
        if report["disk_free_mb"] is not None:
            rows.append(("disk", wording.disk(report["disk_free_mb"], report["min_free_mb"])))
        rows += ((label, log.clean(text)) for label, text in wording.ends(report))
        rows += self._queue(report["queue"], now)
        return rows

    def _queue(self, queue: QueueView, now: float) -> List[Tuple[str, str]]:
        rows = [("queue", wording.queue(queue, now))]
        reasons: Dict[Tuple[str, str], int] = collections.defaultdict(int)
        for group in queue["groups"]:
            reasons[group["state"], group["reason"]] += group["count"]
        named = sorted(((count, *key) for key, count in reasons.items() if key[1]), key=lambda row: -row[0])
        for count, state, reason in named[:_REASONS]:
            rows.append(("", f"{_messages(count)}{'' if state == 'waiting' else f' ({state})'}: {_brief(reason)}"))
        others = sum(count for count, *_ in named[_REASONS:])
        rest = [f"{_messages(others)} for other reasons"] if others else []
        rest += [f"{_messages(queue['unread'])} not looked into"] if queue["unread"] else []
        if rest:
            rows.append(("", f"{'; '.join(rest)}: `{self._program} queue list`"))
        return rows

    # Mailboxes.

    def _show_mailboxes(self, boxes: Mapping[str, MailboxView], now: float) -> None:
        shown = sorted(boxes)
        if len(boxes) > _MAILBOXES:
            shown = [name for name in shown if wording.is_news(boxes[name], now)]
            shown.sort(key=lambda name: -boxes[name]["waiting"])
            shown = shown[:_MAILBOXES]
        width = max(map(len, ["mailbox", *shown]))
        room = self._terminal.width - sum(len(column) + 2 for column in _COLUMNS) - _LAST_WIDTH - 2
        width = max(len("mailbox"), min(width, room))
        if shown:
            self._terminal.line(_cells("mailbox", width, _COLUMNS, _LAST))
        for name in shown:
            self._show_mailbox(name, boxes[name], width, now)
        others = [box for name, box in boxes.items() if name not in set(shown)]
        if others:
            sent, failed = sum(box["sent_24h"] for box in others), sum(box["failed_24h"] for box in others)
            waiting = sum(box["waiting"] for box in others)
            which = "other mailboxes" if shown else "mailboxes"
            self._terminal.line(f"{len(others)} {which}: {sent} sent, {failed} failed in 24 h, {waiting} waiting")

    def _show_mailbox(self, name: str, box: MailboxView, width: int, now: float) -> None:
        last = f"{ago(now - box['last_delivery'])} ago" if box["last_delivery"] else "none yet"
        figures = [str(box["sent_24h"]), str(box["failed_24h"]), str(box["waiting"])]
        name = log.clean(name)
        if len(name) > width:
            self._terminal.line(name)
            name = ""
        self._terminal.line(_cells(name, width, figures, last))
        if box["last_error"]:
            self._hang("    ", f"last error {ago(now - box['last_error_time'])} ago: {_brief(box['last_error'])}")


def _cells(name: str, width: int, figures: Sequence[str], last: str) -> str:
    columns = "".join(f"  {figure:>{len(column)}}" for figure, column in zip(figures, _COLUMNS))
    return f"{name:<{width}}{columns}  {last}"


def _brief(reason: str) -> str:
    """What is so, without what to do: that is said once, above, or by `queue list`."""
    return log.clean(split(reason)[0], _REASON)


def _messages(number: int) -> str:
    return f"{number} {'message' if number == 1 else 'messages'}"
