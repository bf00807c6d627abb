"""The devices: which clients came, what they do, and what to set for those that try and fail.

They follow the steps that the log reports (system/events.py).  What is known is kept in devices.json over a restart;
what is missing there after a kill is taken from the event log.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import sys
import threading
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, TypedDict

from ..server.quirks import Habit
from ..server.tls import OLD_VERSIONS
from ..system import events, files, jsontext, log
from ..system.events import Position, Value
from .counters import DAMAGED
from .troubles import LOGIN_TROUBLES, WORDS, Trouble, trouble_in

_NAME = "devices.json"

# The service in steps of the status port, whose clients are people and probes.
_STATUS = "status"

# Clients remembered; the one that has been away longest is forgotten first, those that never sent mail before others.
_MOST = 1000

# User names remembered of a client, and of those that were refused.
_LOGINS = 5

# A client that was refused with so many user names guesses passwords.
GUESSES = 4

# Seconds: who had no trouble for so long, and sends, guessed nothing; somebody mistyped.
_DAY = 86400.0

# Seconds within which a device that could not log in tries to send all the same.
_SESSION = 60.0

_POP3 = "pop3"

# Characters of a refusal, and of a user name.
_LONGEST = 200


class DeviceView(TypedDict):
    """A client.  Times are seconds since 1970, 0: never."""

    client: str  # its address; behind a proxy, the one that the proxy gave
    first_seen: float
    last_seen: float
    sessions: int  # those of the last minute before a kill are not known
    services: List[str]  # "smtp", "pop3": those it has connected to
    messages: int  # accepted
    last_message: float
    mailbox: str  # of the last message
    logins: List[str]
    auth: str  # the mechanism of the last login: "LOGIN", "PLAIN"; "" without a login
    tls: str  # that of the last message: "TLSv1.3"; "" without TLS
    helo: bool  # it says HELO, and not EHLO
    habits: List[str]  # of server.quirks.Habit
    refusals: int
    refused_logins: List[str]
    trouble: str  # what keeps it from sending (Trouble); "" if its last message was accepted after it
    trouble_time: float
    refusal: str  # the words of the last one
    does: List[str]  # the above in plain words
    advice: List[str]  # what to set, whole sentences


class _Device:
    """What is remembered of a client; there may be a thousand."""

    __slots__ = (
        *("first_seen", "last_seen", "messages", "last_message", "mailbox", "logins", "auth", "tls", "helo"),
        *("habits", "refusals", "refused_logins", "trouble", "trouble_time", "refusal", "sessions", "services"),
    )

    def __init__(self, when: float):
        self.first_seen = self.last_seen = when
        self.messages = self.refusals = self.sessions = 0
        self.last_message = self.trouble_time = 0.0
        self.mailbox = self.auth = self.tls = self.trouble = self.refusal = ""
        self.logins: Tuple[str, ...] = ()
        self.refused_logins: Tuple[str, ...] = ()
        self.habits: Tuple[str, ...] = ()
        self.services: Tuple[str, ...] = ()
        self.helo = False

    def note(self, when: float, step: Mapping[str, Value]) -> None:
        """A step of this client."""
        self.last_seen = when
        trouble = trouble_in(step)
        if step["event"] == "accepted":
            self._accept(when, step)
        elif step["event"] == "login failed":
            self.refused_logins = _with(self.refused_logins, _login_of(step))
        habit = step.get("habit")
        if habit:
            self.habits = _with(self.habits, str(habit))
        if trouble is not None:
            self.refusals += 1
            if not (trouble is Trouble.NO_LOGIN and self._has_just_failed_to_log_in(when)):
                self.trouble, self.trouble_time = trouble.value, when
                self.refusal = log.clean(refusal_of(step), _LONGEST)

    def _has_just_failed_to_log_in(self, when: float) -> bool:
        """Many go on to MAIL all the same: the 530 for it is not what matters."""
        return self.trouble in LOGIN_TROUBLES and abs(when - self.trouble_time) < _SESSION

    def _accept(self, when: float, step: Mapping[str, Value]) -> None:
        self.messages += 1
        self.last_message = when
        self.trouble = ""  # whatever it was
        # Each once in memory, however many devices have the same.
        self.mailbox, self.auth, self.tls = (
            sys.intern(str(step.get(name) or "")) for name in ("mailbox", "auth", "tls")
        )
        self.helo = bool(step.get("helo"))
        login = _login_of(step)
        if when - self.trouble_time > _DAY:
            self.refused_logins = ()
        if login:
            self.logins = _with(self.logins, login)
            self.refused_logins = tuple(one for one in self.refused_logins if one != login)

    def view(self, client: str) -> DeviceView:
        return DeviceView(
            client=client,
            first_seen=self.first_seen,
            last_seen=self.last_seen,
            sessions=self.sessions,
            services=list(self.services),
            messages=self.messages,
            last_message=self.last_message,
            mailbox=self.mailbox,
            logins=list(self.logins),
            auth=self.auth,
            tls=self.tls,
            helo=self.helo,
            habits=list(self.habits),
            refusals=self.refusals,
            refused_logins=list(self.refused_logins),
            trouble=self.trouble,
            trouble_time=self.trouble_time,
            refusal=self.refusal,
            does=_does(self),
            advice=_advice(self),
        )

    def as_json(self) -> List[Any]:
        return [getattr(self, name) for name in self.__slots__]

    @classmethod
    def of_json(cls, values: Sequence[Any]) -> _Device:
        """ValueError, TypeError, AttributeError or OverflowError if it is damaged."""
        made = cls(0.0)
        for name, value in zip(cls.__slots__, values):
            present = getattr(made, name)
            setattr(made, name, tuple(map(str, value)) if isinstance(present, tuple) else type(present)(value))
        for when in (made.first_seen, made.last_seen, made.last_message, made.trouble_time):
            time.localtime(when)  # as whoever shows it does
        return made


class Devices:
    """Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._devices: "collections.OrderedDict[str, _Device]" = collections.OrderedDict()  # last seen last
        self._written = 0  # the hash of what is in the file

    def note(self, when: float, step: Mapping[str, Value]) -> None:
        """Take in a step of the log; `when`: seconds since 1970."""
        client = client_of(step)
        if not client:
            return
        with self._lock:
            self._device(client, when).note(when, step)

    def note_session(self, when: float, service: str, client: str) -> None:
        """A client was let in at a port for `service`."""
        with self._lock:
            device = self._device(client, when)
            device.last_seen = when
            device.sessions += 1
            device.services = _with(device.services, service)

    def _device(self, client: str, when: float) -> _Device:
        """That of a client, a new one perhaps; under the lock."""
        device = self._devices.get(client)
        if device is None:
            if len(self._devices) >= _MOST:
                # Strangers that only connect must not push out the administrator's own.
                gone = (name for name, one in self._devices.items() if not one.messages)
                del self._devices[next(gone, next(iter(self._devices)))]
            device = self._devices[client] = _Device(when)
        self._devices.move_to_end(client)
        return device

    def views(self) -> List[DeviceView]:
        """All of them, the last seen first."""
        with self._lock:
            return [device.view(client) for client, device in reversed(self._devices.items())]

    # Keeping.

    def content(self, end: Optional[Position]) -> Dict[str, Any]:
        """What `save` takes; `end`: where the event log ended at that moment, None if that is not known."""
        with self._lock:
            return {"events": end, "devices": {client: device.as_json() for client, device in self._devices.items()}}

    def save(self, state_dir: str, content: Dict[str, Any]) -> None:
        """Write devices.json, unsynced, if anything has changed.  OSError or CannotCreate if the disk takes it not."""
        octets = json.dumps(content).encode()
        if hash(octets) != self._written:
            files.replace(os.path.join(state_dir, _NAME), octets, durable=False)
            self._written = hash(octets)

    def load(self, state_dir: str) -> None:
        """Go on from devices.json and what the event log has beyond it; from the event log alone if it is damaged."""
        try:
            stored = jsontext.parse(files.read(os.path.join(state_dir, _NAME)) or b'{"events": [0, 0]}')
            devices = {str(client): _Device.of_json(values) for client, values in stored.get("devices", {}).items()}
            end = stored["events"] and Position(*map(int, stored["events"]))
        except (OSError, *DAMAGED):
            devices, end = {}, Position(0, 0)
        with self._lock:
            self._devices.update(devices)
        if end is None:
            return
        with contextlib.suppress(OSError, events.Incomplete, *DAMAGED):
            for line in events.lines_after(os.path.join(state_dir, "events"), end):
                if b'"client": "' in line:
                    self._replay(events.parse(line))

    def _replay(self, event: Dict[str, Any]) -> None:
        with contextlib.suppress(KeyError, ValueError, OverflowError):
            self.note(events.time_of(event), event)


def client_of(step: Mapping[str, Any]) -> str:
    """The client of a step; "" if it has none, or one of the status port."""
    client = step.get("client")
    return client if isinstance(client, str) and step.get("service") != _STATUS else ""


def is_guessing(refused_logins: Sequence[str]) -> bool:
    """Whether a client with these refused user names guesses passwords: nothing is to be set for it."""
    return len(refused_logins) >= GUESSES


def refusal_of(step: Mapping[str, Value]) -> str:
    """A refusal in its own words."""
    return str(step.get("reply") or step.get("reason") or step.get("what") or "")


def _login_of(step: Mapping[str, Value]) -> str:
    """The user name of a step; what a client sends for one may be of any length."""
    return log.clean(step.get("login") or "", _LONGEST)


def _with(known: Tuple[str, ...], new: str) -> Tuple[str, ...]:
    """The newest last, each once, a few."""
    if known[-1:] == (new,):
        return known
    return (*(one for one in known if one != new), new)[-_LOGINS:]


def _does(device: _Device) -> List[str]:
    found = []
    if device.messages:
        found.append(device.tls or "no TLS")
        found.append(f"AUTH {device.auth}" if device.auth else "no login")
    if _POP3 in device.services:
        found.append("POP3")
    if device.helo:
        found.append("HELO only")
    if Habit.TLS_AT_ONCE.value in device.habits:
        found.append("TLS at once")
    if {Habit.LF_ONLY.value, Habit.BARE_LF.value} & set(device.habits):
        found.append("lines end with LF")
    if is_guessing(device.refused_logins):
        found.append("guesses passwords")
    elif device.trouble:
        found.append(_words(device.trouble))
    return found or ["connects, and sends nothing"]


def _words(trouble: str) -> str:
    return WORDS[Trouble(trouble)].did if trouble in _KNOWN else trouble


def _advice(device: _Device) -> List[str]:
    found = []
    if is_guessing(device.refused_logins):
        found.append(
            "Do not let it in: it tried many user names. Find out what it is, and keep it out with allowed_networks."
        )
    elif device.trouble in _KNOWN:
        found.append(WORDS[Trouble(device.trouble)].advice)
    if device.tls in OLD_VERSIONS:
        found.append(f"It uses {device.tls}, which is not secure: update its firmware if you can.")
    if device.messages and device.auth and not device.tls:
        found.append("Its password travels without TLS: set STARTTLS on the device if it can.")
    return found


_KNOWN = frozenset(trouble.value for trouble in Trouble)
