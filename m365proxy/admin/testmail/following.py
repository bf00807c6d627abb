"""A mail's way after its 250, as it can be seen from outside: in the queue, in status.json, in the mailboxes."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Optional, Tuple

from ...config.sections import Config
from ...errors import NotRunning, ProxyError, Temporary
from ...graph import refusals
from ...graph.answer import GraphRefused
from ...graph.client import Graph
from ...graph.items import IMMUTABLE, folder_path
from ...spool.spool import Spool
from ...spool.state import DraftPhase, Entry, Phase, Place, State
from ...system import control, files, log, statusfile
from ..running import is_running
from ..steps import Failed

# Seconds between looks into the queue, and into a mailbox.
_QUEUE_LOOK, _MAILBOX_LOOK = 0.05, 1.0

# Seconds in which the running program obeys a command; it looks twice a second.
_OBEYS = 10.0

# A message that waits is followed for so long (seconds).
_PATIENCE = 60.0

# Seconds between requests for a new status.json while a message waits.
_STATUS_EVERY = 1.0

# Exit statuses: a mailbox or a right is missing, Microsoft is unreachable, the disk is full, the message waits.
_NOT_IN_EXCHANGE, _UNREACHABLE, _DISK, _WAITS = 67, 69, 74, 75


# Phases of a draft that is about to be sent.
_COMPLETE = (DraftPhase.BARE, DraftPhase.READY)


class Unseen(Exception):
    """A mailbox cannot be looked into; str() says why."""


class Running:
    """The running program, which is asked by way of control/."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic):
        self._config = config
        self._state_dir = config.state_dir
        self._clock = clock
        self.holds = ""  # the id of the test's mail, while it is in the queue

    def status(self, admit: str = "") -> Dict[str, Any]:
        """A new status.json; Failed if the program writes none.

        `admit`: the digest of a one-time password, which may be used then.
        """
        before = statusfile.read(self._state_dir).get("written")
        if admit:
            control.request(self._state_dir, "login", admit)
        try:
            control.request(self._state_dir, "status")
            self._wait_for(lambda: statusfile.read(self._state_dir).get("written") != before)
            if admit:
                self._wait_for(lambda: not control.is_waiting(self._state_dir, "login", admit))
        finally:
            if admit:
                control.withdraw(self._state_dir, "login", admit)
        return statusfile.read(self._state_dir)

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        end = self._clock() + _OBEYS
        while not condition():
            if self._clock() > end:
                if not is_running(self._config):
                    raise Failed(
                        "m365proxy was stopped meanwhile.",
                        f"Start it{self._then()}",
                        NotRunning.exit_status,
                    )
                if not files.free_bytes(self._state_dir):
                    raise Failed(f"The disk of {self._state_dir} is full.", f"Make room{self._then()}", _DISK)
                raise Failed(
                    "The running program does not answer.",
                    "If it was updated since its start, restart it; if not, look into its log.",
                    _WAITS,
                )
            time.sleep(_QUEUE_LOOK)

    def _then(self) -> str:
        """The end of an advice: a second mail is not needed where the first one waits."""
        return f"; the mail is queued as {self.holds}, and is sent then." if self.holds else ", and test again."


class QueuedMail:
    """A message in the queue of the running program."""

    def __init__(
        self,
        running: Running,
        spool: Spool,
        id: str,
        mailbox: str,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        self.id = id
        self._running = running
        self._spool = spool
        self._mailbox = mailbox
        self._clock = clock
        self._monotonic = monotonic
        self._begun = clock()
        self._told = False  # of the trouble of the mailbox

    def follow(self, drafted: Callable[[str], None], deferred: Callable[[str], None]) -> None:
        """Wait until it has left the queue.

        `drafted(mailbox)` is called once there is a draft, `deferred(sentence)`
        for each failed attempt.  Failed if it is not sent now: `exit_status` is
        67, 69, 75, 77 or 78.
        """
        self._running.holds = self.id
        try:
            self._wait(drafted, deferred)
        finally:
            self._running.holds = ""

    def _wait(self, drafted: Callable[[str], None], deferred: Callable[[str], None]) -> None:
        end = self._monotonic() + _PATIENCE
        asked = self._monotonic()
        draft, attempts, state = "", 0, State()
        while True:
            entry = self._spool.find(self.id)
            if entry is None:
                return
            state = self._spool.state(self.id) or state
            self._check_ended(entry, state)
            if not draft and state.draft is not None and state.draft.phase in _COMPLETE:
                draft = state.draft.mailbox
                drafted(draft)
            if state.attempts > attempts:
                attempts = state.attempts
                if _is_missing(state.code) or state.due - self._clock() > end - self._monotonic():
                    raise self._waits(state, entry)
                deferred(state.error)
            if self._monotonic() >= asked + _STATUS_EVERY:
                self._check_running(entry, state, deferred)
                asked = self._monotonic()
            if self._monotonic() > end:
                raise self._waits(state, entry)
            time.sleep(_QUEUE_LOOK)

    def _check_ended(self, entry: Entry, state: State) -> None:
        """Failed if nothing more is tried."""
        if entry.place is Place.FAILED:
            raise self._given_up(state)
        if entry.phase is Phase.HELD:
            raise Failed(
                f"It may have been sent, or not: {state.error}",
                f"Look into Sent Items; then `m365proxy queue retry {self.id}` or `m365proxy queue drop {self.id}`.",
                _WAITS,
            )

    def _check_running(self, entry: Entry, state: State, deferred: Callable[[str], None]) -> None:
        """Failed if nothing can be sent at all; what else its mailbox waits for is told once."""
        status = self._running.status()
        if status.get("paused"):
            raise Failed(
                str(status["paused"]),
                f"The mail is queued as {self.id}, and is sent once that works.",
                status.get("sign_in", {}).get("exit_status") or _UNREACHABLE,
            )
        trouble = "" if state.error else self._trouble(status, entry)
        if trouble and not self._told:
            self._told = True
            deferred(trouble)

    def sent(self) -> Dict[str, str]:
        """How it was sent (SentMail of delivery/lanes.py); {} if that is not known any more."""
        for _ in range(2):  # the first status may have been collected just before
            lane = self._running.status().get("mailboxes", {}).get(self._mailbox, {})
            known: Dict[str, str] = lane.get("sent", {}).get(self.id, {})
            if known:
                return known
        return {}

    def _trouble(self, status: Dict[str, Any], entry: Entry) -> str:
        """What the mailbox has failed at since the beginning of this test, for this message or another; "" if nothing.

        While Graph wants a pause, this is where it is told.  The pause may have begun before this test:
        for a message that has not had its turn, what failed since the last delivery counts, too.
        """
        lane = status.get("mailboxes", {}).get(self._mailbox, {})
        since = lane.get("last_delivery", 0.0) if entry.phase is Phase.WAITING else self._begun
        is_news = lane.get("last_error_time", 0.0) > min(since, self._begun)
        return f"It waits. The last trouble of {self._mailbox}: {lane['last_error']}" if is_news else ""

    def _waits(self, state: State, entry: Entry) -> Failed:
        reason = state.error or self._trouble(self._running.status(), entry) or "It waits, and nothing says why."
        exit_status = _UNREACHABLE if state.status == "4.4.1" else _WAITS
        is_doubtful = entry.phase is Phase.POSTING and state.error
        next = "The program goes on to look for it." if is_doubtful else "It stays queued for another try."
        return Failed(
            reason,
            f"{next} `m365proxy queue show {self.id}` tells more.",
            _NOT_IN_EXCHANGE if _is_missing(state.code) else exit_status,
        )

    def _given_up(self, state: State) -> Failed:
        # RFC 3463 3.2: 5.1 is an address that is wrong.
        wrong = _is_missing(state.code) or state.status.startswith("5.1.")
        return Failed(
            state.error,
            f"The mail is kept in failed/. `m365proxy queue retry {self.id}` tries it again.",
            _NOT_IN_EXCHANGE if wrong else _UNREACHABLE,
        )


def _is_missing(code: str) -> bool:
    """Whether Graph's error.code says that a mailbox or a right is missing."""
    return code.lower() in refusals.NO_RIGHT | refusals.NO_MAILBOX


def _equal(name: str, text: str) -> str:
    """A $filter of OData."""
    return f"{name} eq '" + text.replace("'", "''") + "'"


class Mailboxes:
    """Looks for a mail in mailboxes, by its Message-ID, which Exchange may have replaced, and by its Subject."""

    def __init__(self, graph: Graph, message_id: str, subject: str, monotonic: Callable[[], float] = time.monotonic):
        self._graph = graph
        self._conditions = [_equal("internetMessageId", message_id), _equal("subject", subject)]
        self._monotonic = monotonic

    def find(self, mailbox: str, folders: Tuple[str, ...], seconds: float) -> str:
        """The first of the folders (well-known names) that has the mail; "" if none has within so many seconds.

        Unseen if there is no right to look.
        """
        end = self._monotonic() + seconds
        trouble: Optional[Temporary] = None
        while True:
            try:
                for folder in folders:
                    if any(self._has(mailbox, folder, condition) for condition in self._conditions):
                        return folder
                trouble = None
            except Temporary as error:  # it may pass
                trouble = error
            except ProxyError as error:
                raise Unseen(str(error)) from None
            if self._monotonic() > end:
                break
            time.sleep(_MAILBOX_LOOK)
        if trouble is not None:
            raise Unseen(str(trouble))
        return ""

    def _has(self, mailbox: str, folder: str, condition: str) -> bool:
        params = {"$filter": condition, "$select": "id,isDraft", "$top": "5"}
        try:
            with self._graph.read(
                "GET", mailbox, folder_path(folder) + "/messages", params=params, headers=IMMUTABLE
            ) as answer:
                found = answer.json().get("value")
        except GraphRefused as error:
            raise Unseen(self._refusal(mailbox, error)) from None
        return isinstance(found, list) and any(not item.get("isDraft", True) for item in found)

    def _refusal(self, mailbox: str, error: GraphRefused) -> str:
        return refusals.sentence(
            refusals.READ,
            http=error.answer.status,
            code=log.clean(error.answer.code),
            mailbox=mailbox,
            user=self._graph.user,
            app=self._graph.app,
        )
