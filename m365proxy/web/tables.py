"""The page's tables: what waits and why, and how each mailbox stands."""

from __future__ import annotations

from typing import NamedTuple, Sequence, Tuple

from ..monitoring import snapshot, wording
from ..monitoring.devices import DeviceView
from ..monitoring.snapshot import MailboxView, Snapshot
from ..spool.overview import Group
from ..system import log
from .render import Html, Tone, escape, fill, join, mark, moment, prose

# Rows that are shown of each table; the rest is counted.
_ROWS = 100

# Mailboxes of which all are shown together.
_FEW = 12

# Characters of a name that is never broken, but on a narrow screen.
_SHORT = 36

# Characters of a mailbox's last error: there may be hundreds of mailboxes.
_ERROR = 200

_TABLE = """<table>
{caption}<thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody>
</table>"""


class Column(NamedTuple):
    name: str
    is_number: bool = False


def table(caption: str, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> Html:
    """A table whose first cells are the heads of their rows.  `caption`: "" for none."""
    return fill(
        _TABLE,
        caption=fill("<caption>{text}</caption>\n", text=caption) if caption else "",
        head=join((_head(column) for column in columns), " "),
        rows=join(_row(columns, cells) for cells in rows),
    )


def _head(column: Column) -> Html:
    return fill('<th scope="col"{kind}>{name}</th>', kind=_kind(column), name=column.name)


def _row(columns: Sequence[Column], cells: Sequence[object]) -> Html:
    shown = [fill('<th scope="row">{cell}</th>', cell=cells[0])]
    for column, cell in zip(columns[1:], cells[1:]):
        # On a narrow screen each cell is a line, and says itself what it is.
        template = '<td{kind} data-label="{name}">{cell}</td>'
        shown.append(fill(template, kind=_kind(column), name=column.name, cell=cell))
    return fill("<tr>{cells}</tr>", cells=join(shown, " "))


def _kind(column: Column) -> Html:
    return Html(' class="number"' if column.is_number else "")


# The queue.


def queue(taken: Snapshot, program: str) -> Html:
    """What waits, is held or has failed, grouped by its reason."""
    view = taken["queue"]
    said = wording.queue(view, taken["written"])
    total = said[:1].upper() + said[1:]
    if not view["groups"]:
        return fill("<p>{total}.</p>", total=total)
    names = snapshot.names_by_tag(taken)
    rows = [_group(group, names.get(group["tag"], "no longer in the config"), program) for group in view["groups"]]
    shown = table(f"{total}.", _GROUP, rows[:_ROWS])
    more = view["unread"] + sum(group["count"] for group in view["groups"][_ROWS:])
    return (
        join([shown, fill('<p class="quiet">{count} more messages are not shown.</p>', count=more)]) if more else shown
    )


_GROUP = [Column("Mailbox"), Column("State"), Column("Messages", True), Column("Oldest"), Column("Why")]


def _group(group: Group, mailbox: str, program: str) -> Tuple[object, ...]:
    tone = Tone.WAIT if group["state"] in ("waiting", "sending") else Tone.BAD
    return (
        _address(mailbox),
        mark(group["state"], tone),
        group["count"],
        moment(group["oldest"]),
        prose(group["reason"], program) or "not tried yet",
    )


# The mailboxes.

_MAILBOX = [
    Column("Mailbox"),
    Column("Waiting", True),
    Column("Sent 24 h", True),
    Column("Failed 24 h", True),
    Column("Last delivery"),
    Column("Last error"),
]


def mailboxes(taken: Snapshot, program: str) -> Html:
    """Those with something to say first; if there are many, the others are folded away."""
    boxes, now = taken["mailboxes"], taken["written"]
    names = sorted(boxes, key=lambda name: (not wording.is_news(boxes[name], now), name))
    speaking = sum(wording.is_news(box, now) for box in boxes.values())
    shown = len(names) if len(names) <= _FEW else min(_ROWS, speaking)
    rows = [_mailbox(name, boxes[name], program) for name in names]
    caption = f"{_count(names, 'mailbox', 'mailboxes')}, {speaking or 'none'} of them with waiting mail or trouble."
    parts = [table(caption, _MAILBOX, rows[:shown]) if shown else fill("<p>{caption}</p>", caption=caption)]
    if rows[shown:]:
        others = table("", _MAILBOX, rows[shown:])
        parts.append(fill(_FOLDED, count=len(rows) - shown, others=others))
    return join(parts)


_FOLDED = """<details>
<summary>{count} other mailboxes</summary>
{others}
</details>"""


def _mailbox(name: str, box: MailboxView, program: str) -> Tuple[object, ...]:
    error = fill(
        "{when} {error}",
        when=moment(box["last_error_time"]),
        error=prose(log.clean(box["last_error"], _ERROR), program),
    )
    return (
        _address(name),
        box["waiting"],
        box["sent_24h"],
        box["failed_24h"],
        moment(box["last_delivery"]) or "none yet",
        error if box["last_error"] else "",
    )


# The devices.

_DEVICE = [Column("Client"), Column("Last seen"), Column("Mailbox"), Column("What it does"), Column("What to set")]


def devices(views: Sequence[DeviceView], program: str) -> Html:
    """Those for which there is something to set first."""
    if not views:
        return Html("<p>None came yet.</p>")
    ordered = sorted(views, key=lambda view: not view["advice"])
    waiting = sum(bool(view["advice"]) for view in views)
    caption = f"{_count(views, 'client', 'clients')}, {waiting or 'none'} of them with something to set."
    shown = table(caption, _DEVICE, [_device(view, program) for view in ordered[:_ROWS]])
    more = len(ordered) - _ROWS
    text = f"{more} more are not shown; `m365proxy devices` lists all."
    note = fill('<p class="quiet">{text}</p>', text=prose(text, program))
    return join([shown, note]) if more > 0 else shown


def _device(view: DeviceView, program: str) -> Tuple[object, ...]:
    advice = join((prose(sentence, program) for sentence in view["advice"]), " ")
    return (
        _address(view["client"]),
        moment(view["last_seen"]),
        _address(view["mailbox"]),
        ", ".join(view["does"]),
        advice,
    )


def _address(name: str) -> Html:
    """A mailbox, in one line where that leaves room for the other columns."""
    return fill('<span class="name">{name}</span>', name=name) if len(name) <= _SHORT else escape(name)


def _count(things: Sequence[object], one: str, several: str) -> str:
    return f"{len(things)} {one if len(things) == 1 else several}"
