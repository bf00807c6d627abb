"""Which way a mailbox's mail goes: through which mailbox's URL, and whether by drafts.

It is learned by trial and remembered, since Graph does not say which mailboxes
a user may open or send as (outlook-send-mail-from-other-user.md).
"""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Callable, Dict, List, NamedTuple, Optional

from ..system import files, jsontext, log

logger = log.get("routes")

# Seconds after which the ways are tried again, the best one first: rights may have been granted.
_LEARN_AGAIN = 24 * 3600.0

# Seconds after which it is tried again what a mailbox's Exchange does: it may have changed.
_HABIT_LEARNED_AGAIN = 7 * 24 * 3600.0

# The keys, no mail addresses, of what Exchange keeps: the form of large mail; a draft's id, when it is sent.
_FORMS, _IDS = "large mail", "sent ids"

# How often it is noted that mail was sent (seconds): `check` needs no more, and disks wear out.
_NOTE_AGAIN = 24 * 3600.0


class Route(NamedTuple):
    """`url_mailbox` is the mailbox in the URL; `drafts`: create, send and look for a draft; else one-step sendMail."""

    url_mailbox: str
    drafts: bool


class Routes:
    """What was learned, in memory and in state_dir/routes.json.  Any thread may call."""

    def __init__(self, state_dir: str, user: str, drafts: bool, clock: Callable[[], float] = time.time):
        """`user`: the signed-in address, "" when app-only; `drafts`: whether permissions allow them at all."""
        self._path = os.path.join(state_dir, "routes.json")
        self._user = user.lower()
        self._drafts = drafts
        self._clock = clock
        self._lock = threading.Lock()
        loaded = self._load()
        self._known = {name: value for name, value in loaded.items() if _is_way(value)}
        self._habits: Dict[str, Dict[str, Dict[str, object]]] = {
            key: {
                name: value
                for name, value in loaded.get(key, {}).items()
                if isinstance(value, dict) and _is_habit(value)
            }
            for key in (_FORMS, _IDS)
        }

    def candidates(self, mailbox: str) -> List[Route]:
        """The ways to try, in this order; the next one only after a refusal for lack of a right."""
        urls = [mailbox] if self._user in ("", mailbox) else [mailbox, self._user]
        ways = [Route(url, True) for url in urls] if self._drafts else []
        ways += [Route(url, False) for url in urls]
        with self._lock:
            known = self._known.get(mailbox)
        # What was learned in the future was learned by a wrong clock, and would be believed for ever.
        if known and 0 <= self._clock() - _seconds(known["learned"]) < _LEARN_AGAIN:
            learned = Route(str(known["url_mailbox"]), bool(known["drafts"]))
            if learned in ways:
                ways.remove(learned)
                ways.insert(0, learned)
        return ways

    def learn(self, mailbox: str, route: Route) -> None:
        """Remember that this way works."""
        with self._lock:
            known = self._known.get(mailbox)
            if known and Route(str(known["url_mailbox"]), bool(known["drafts"])) == route:
                return
            self._known[mailbox] = {**route._asdict(), "learned": self._clock()}
        logger.info(
            "%s: mail goes through %s %s",
            mailbox,
            route.url_mailbox,
            "by drafts" if route.drafts else "by one-step sendMail; a lost answer cannot be looked up",
        )
        self._save()

    def forget(self, mailbox: str) -> None:
        """Forget the learned way, on which a right was refused: the next time, all ways are tried again."""
        with self._lock:
            known = self._known.pop(mailbox, None)
        if known:
            self._save()

    def note_sent(self, mailbox: str) -> None:
        """Note that Graph has accepted a message of this mailbox: it may send."""
        now = self._clock()
        with self._lock:
            known = self._known.get(mailbox)
            if known is None or 0 <= now - _seconds(known.get("sent")) < _NOTE_AGAIN:
                return
            known["sent"] = now
        self._save()

    def sent(self, mailbox: str) -> float:
        """When a message was certainly sent, to within a day (seconds since 1970); 0 if never, or if refused since."""
        with self._lock:
            return _seconds(self._known.get(mailbox, {}).get("sent"))

    def keeps_form(self, url_mailbox: str) -> Optional[bool]:
        """Whether Exchange keeps the form of a draft in this mailbox when files are added; None: to be found out."""
        return self._keeps(_FORMS, url_mailbox)

    def learn_form(self, url_mailbox: str, kept: bool) -> None:
        """Remember for a week whether it does."""
        self._learn(_FORMS, url_mailbox, kept)

    def keeps_ids(self, url_mailbox: str) -> Optional[bool]:
        """Whether a draft's id leads to its sent copy in this mailbox; None: to be found out."""
        return self._keeps(_IDS, url_mailbox)

    def learn_ids(self, url_mailbox: str, kept: bool) -> None:
        """Remember for a week whether it does."""
        self._learn(_IDS, url_mailbox, kept)

    def _keeps(self, what: str, url_mailbox: str) -> Optional[bool]:
        with self._lock:
            known = self._habits[what].get(url_mailbox.lower())
        if known is None or not 0 <= self._clock() - _seconds(known["learned"]) < _HABIT_LEARNED_AGAIN:
            return None
        return bool(known["kept"])

    def _learn(self, what: str, url_mailbox: str, kept: bool) -> None:
        with self._lock:
            self._habits[what][url_mailbox.lower()] = {"kept": kept, "learned": self._clock()}
        self._save()

    def _save(self) -> None:
        with self._lock:
            habits = {key: known for key, known in self._habits.items() if known}
            content = json.dumps({**self._known, **habits}, indent=1).encode()
        try:
            files.replace(self._path, content, durable=False)
        except OSError as error:
            logger.warning("routes.json cannot be written: %s", error.strerror)

    def _load(self) -> Dict[str, Dict[str, object]]:
        try:
            known = jsontext.parse(files.read(self._path) or b"{}")
        except (ValueError, OSError):
            return {}
        if not isinstance(known, dict):
            return {}
        return {name: value for name, value in known.items() if isinstance(value, dict)}


def _is_way(value: Dict[str, object]) -> bool:
    return (
        isinstance(value.get("url_mailbox"), str)
        and isinstance(value.get("drafts"), bool)
        and isinstance(value.get("learned"), (int, float))
        and isinstance(value.get("sent", 0.0), (int, float))
    )


def _is_habit(value: Dict[str, object]) -> bool:
    return isinstance(value.get("kept"), bool) and isinstance(value.get("learned"), (int, float))


def _seconds(value: object) -> float:
    try:
        return float(value) if isinstance(value, (int, float)) else 0.0
    except OverflowError:  # a damaged file
        return 0.0
