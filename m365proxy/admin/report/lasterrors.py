"""The last errors for a report, from the event log: only known fields, with pseudonyms in place of names."""

from __future__ import annotations

import collections
import itertools
import re
from typing import Any, Callable, Deque, Dict, Iterator, Mapping

from ...system import events
from . import forms
from .pseudonyms import Kind, Pseudonyms

# So many of each event are shown, the last ones.
_SHOWN = 20

_EVENTS = (
    "failed",
    "held",
    "doubtful",
    "deferred",
    "throttled",
    "refused",
    "login failed",
    "TLS failed",
    "session ended",
)

_EVENT = re.compile(rb'"event": "([A-Za-z ]+)"')

# What is kept of fields that are words of a fixed form; anything else in them came from outside, and is left out.
_WORDS = {
    "id": forms.QUEUE_ID,
    "request_id": forms.GUID,
    "code": r"[A-Za-z]{2,60}(?:\.[A-Za-z]{2,60})*",
    "service": r"smtp|pop3",
    "tls": r"TLSv1(?:\.\d)?|SSLv3",
}

# As they follow the time; `seconds`, `failed_attempts` and `size` are numbers.
_FIELDS = (
    *(
        "id",
        "service",
        "client",
        "login",
        "mailbox",
        "sender",
        "recipients",
        "size",
        "tls",
        "failed_attempts",
        "seconds",
    ),
    *("code", "command", "reply", "reason", "request_id"),
)


def lines(directory: str, pseudonyms: Pseudonyms) -> Iterator[str]:
    """Each kind of event with its number and its last lines.  OSError if the event log cannot be read."""
    counts: "collections.Counter[str]" = collections.Counter()
    last: Dict[str, Deque[bytes]] = {name: collections.deque(maxlen=_SHOWN) for name in _EVENTS}
    for line in events.lines(directory):
        found = _EVENT.search(line)
        name = found.group(1).decode() if found is not None else ""
        if name in last:
            last[name].append(line)
            counts[name] += 1
    shown = {name: [event for event in map(events.parse, last[name]) if event] for name in _EVENTS}
    for event in itertools.chain(*shown.values()):
        _learn(event, pseudonyms)
    for name in _EVENTS:
        if counts[name]:
            more = f", the last {_SHOWN}" if counts[name] > _SHOWN else ""
            yield f"{name} ({counts[name]}{more}):"
            yield from (f"  {_line(event, pseudonyms)}" for event in shown[name])


def _learn(event: Mapping[str, Any], pseudonyms: Pseudonyms) -> None:
    """The names in an event, before any sentence is shown that may hold them."""
    for name in ("login", "client", "mailbox", "sender", "recipients"):
        if event.get(name):
            _shown(name, event[name], pseudonyms)


def _line(event: Mapping[str, Any], pseudonyms: Pseudonyms) -> str:
    time = event["time"] if re.fullmatch(r"[\d:.TZ-]+", event["time"]) else "?"
    fields = [f"{name}={_shown(name, event[name], pseudonyms)}" for name in _FIELDS if name in event]
    return " ".join([time, *fields])


def _shown(name: str, value: Any, pseudonyms: Pseudonyms) -> str:
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, list):
        return ",".join(pseudonyms.address(str(item)) for item in value)
    show: Callable[[str], str] = {
        "login": lambda text: _name_of(Kind.LOGIN, text, pseudonyms),
        "client": lambda text: _name_of(Kind.DEVICE, text, pseudonyms),
        "mailbox": pseudonyms.mailbox,
        "sender": lambda text: pseudonyms.address(text) if text else "<>",
        "command": lambda text: _command(text, pseudonyms),
    }.get(name, lambda text: f'"{pseudonyms.scrub_foreign(text)}"')
    if name in _WORDS:
        return value if re.fullmatch(_WORDS[name], value) else "<text>"
    return show(str(value))


def _name_of(kind: Kind, value: str, pseudonyms: Pseudonyms) -> str:
    if forms.is_ip(value):
        return pseudonyms.ip(value)
    return pseudonyms.address(value) if kind is Kind.LOGIN and "@" in value else pseudonyms.name(kind, value)


def _command(text: str, pseudonyms: Pseudonyms) -> str:
    """MAIL or RCPT, and the pseudonym of its address: what else a client sends may be anything."""
    verb = text[:4].upper()
    found = [pseudonyms.address(match.group()) for match in forms.ADDRESS.finditer(text)]
    return f"{verb if verb in ('MAIL', 'RCPT') else '<text>'}:<{','.join(found) or 'text'}>"
