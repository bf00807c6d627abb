"""Who gets a delivery report, and when: each failed message is reported to its sender, once.

A failed message that is not reported yet is failed/ID on the disk; a reported
one is failed/ID.told.  So nothing is remembered in memory, and a restart
forgets nothing.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Set

from ..errors import ProxyError
from ..spool.envelope import DamagedMessage, Envelope
from ..spool.spool import Spool, mailbox_tag, tag_of
from ..spool.state import Entry, Phase, Place, State
from ..system import events, log
from ..system.threads import Timer
from . import dsn, warningmail
from .dsn import Failure

logger = log.get("report")

# Failures in one report; more wait for the next.
_LISTED = 500

# Seconds to gather a burst of failures before the first report.
_GATHER = 5.0


class _Failures(NamedTuple):
    """What failed of one mailbox."""

    messages: List[Failure]  # to be reported
    reports: List[Failure]  # our own reports: they are not reported, but sent once more
    silent: List[Entry]  # messages whose sender wants no report (NOTIFY=NEVER)
    warnings: List[Failure]  # our own warnings: they are not kept


class Reporter:
    """Writes the reports and hands them to the spool like mail.  Any thread may use it; the lock is for memory only.

    A crash between the commit of a report and the note that its messages are
    reported makes a second report.  None is ever lost.
    """

    def __init__(
        self,
        spool: Spool,
        accepted: Callable[[str], None],
        mailboxes: Sequence[str],
        *,
        notify: Optional[str] = None,
        last_delivery: Callable[[str], float] = lambda mailbox: 0.0,
        host: str = "localhost",
        interval: float = 900.0,
        gather: float = _GATHER,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        """
        `accepted(id)`: called with each report that is in the queue.
        `mailboxes`: those of the config; each may send the report of another.
        `notify`: the address that gets a report which the mailbox itself cannot get.
        `last_delivery(mailbox)`: when a mailbox last sent (seconds since 1970), which tells the ones that work.
        `host`: this machine's name, for the text.
        `interval`: the least seconds between two reports of a mailbox.
        `gather`: seconds in which further failures come into the same report.
        """
        self._spool = spool
        self._accepted = accepted
        self._last_delivery = last_delivery
        self._host = host
        self._interval = interval
        self._gather = gather
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._working = False
        self._stopped = False
        self._last: Dict[str, float] = {}  # tag -> monotonic time of its last report
        self._unreportable: Set[str] = set()  # tags for which the log says already that there is no recipient
        self._timer = Timer(self._ring, "report-timer")
        self._set_recipients(mailboxes, notify)

    def configure(self, mailboxes: Sequence[str], notify: Optional[str]) -> None:
        """The config was read anew: what had no recipient may have one now."""
        self._set_recipients(mailboxes, notify)
        self._unreportable.clear()
        self._work_within(self._gather)

    def _set_recipients(self, mailboxes: Sequence[str], notify: Optional[str]) -> None:
        self._mailboxes = {mailbox_tag(name): name for name in mailboxes}
        self._notify = notify

    def start(self) -> None:
        """Report what an earlier run did not; in the background, from one listing."""
        self._work_within(self._gather)

    def report_soon(self) -> None:
        """A message went to failed/, and the reason to its state.  Returns at once."""
        self._work_within(self._gather)

    def stop(self) -> None:
        """Begin nothing more."""
        with self._lock:
            self._stopped = True
            self._timer.cancel()

    def _work_within(self, seconds: float) -> None:
        with self._lock:
            if not self._stopped:
                self._timer.start_within(seconds)

    def _ring(self) -> None:
        with self._lock:
            if self._stopped:
                return
            busy, self._working = self._working, True
        wait = self._gather if busy else self._work_safely()
        if wait:
            self._work_within(wait)

    def _work_safely(self) -> float:
        try:
            return self.work()
        except OSError as error:
            logger.error("reports wait: the queue cannot be read: %s", error.strerror or error)
            return self._interval
        finally:
            with self._lock:
                self._working = False

    def work(self) -> float:
        """Report what may be reported now; the seconds until there may be more to do, 0 if nothing waits."""
        waiting: Dict[str, List[Entry]] = {}
        for entry in self._spool.entries(Place.FAILED):
            if entry.phase is not Phase.REPORTED:
                waiting.setdefault(tag_of(entry.id), []).append(entry)
        waits = [self._work_on(tag, sorted(entries)) for tag, entries in waiting.items()]
        return min((wait for wait in waits if wait), default=0.0)

    def _work_on(self, tag: str, entries: List[Entry]) -> float:
        """See to one mailbox's failures; the seconds until it may have another report, 0 if it needs none."""
        since = self._monotonic() - self._last.get(tag, -self._interval)
        if since < self._interval:
            return self._interval - since
        self._last[tag] = self._monotonic()
        try:
            is_done = self._report(tag, entries[:_LISTED])
        except (ProxyError, OSError) as error:
            logger.error("a report on mail of %s waits: %s", self._mailboxes.get(tag, "an unknown mailbox"), error)
            return self._interval
        return 0.0 if is_done and len(entries) <= _LISTED else self._interval

    def _report(self, tag: str, entries: List[Entry]) -> bool:
        """Report these, and note that it was done; whether all were seen to."""
        found = self._read_all(entries)
        by_id = {entry.id: entry for entry in entries}
        done = bool(found.messages) and self._send(tag, found.messages)
        self._spool.mark_reported(found.silent + [by_id[failure.id] for failure in found.messages if done])
        for failure in found.reports:
            self._send_again(failure, by_id[failure.id])
            self._spool.mark_reported([by_id[failure.id]])
        left = [failure for failure in found.warnings if not self._discard(by_id[failure.id], failure)]
        return not left

    def _read_all(self, entries: List[Entry]) -> _Failures:
        found = _Failures([], [], [], [])
        for entry in entries:
            failure = self._read(entry, in_full=len(found.messages) < dsn.IN_FULL)
            if failure is None:
                continue
            if failure.envelope is not None and failure.envelope.kind == "report":
                found.reports.append(failure)
            elif failure.envelope is not None and failure.envelope.kind == warningmail.KIND:
                found.warnings.append(failure)
            elif failure.envelope is None or failure.recipients:
                found.messages.append(failure)
            else:
                found.silent.append(entry)
        return found

    def _read(self, entry: Entry, in_full: bool) -> Optional[Failure]:
        """What is known of a failed message; None if it has just moved on."""
        state = self._spool.state(entry.id) or State()
        try:
            envelope, file = self._spool.open(entry)
        except FileNotFoundError:
            return None
        except (DamagedMessage, OSError) as error:
            state.error = state.error or str(error)
            return Failure(entry.id, None, state)
        failure = Failure(entry.id, envelope, state)
        with file:
            return dsn.read_original(failure, file) if in_full else failure

    def _send(self, tag: str, failures: List[Failure]) -> bool:
        """Spool the report on one mailbox's failures; False if nobody can get it."""
        mailbox = self._mailboxes.get(tag, "")
        named = mailbox or next((f.envelope.mailbox for f in failures if f.envelope), "unknown")
        # A timeout (4.x) means that the mailbox does not work: its report goes through another one.
        broken = all(failure.status.startswith("4.") for failure in failures)
        via = (self._other(mailbox) if broken else mailbox) or mailbox or self._other(mailbox)
        to = [address for address in (mailbox, self._notify if broken or not mailbox else None) if address]
        if not via or not to:
            self._log_unreportable(tag, named, len(failures))
            return False
        content = dsn.build(failures, mailbox=named, author=via, to=to, host=self._host, now=self._clock())
        id = self._put(via, to, content)
        logger.info(
            "%s: report on %d failed messages of %s, to %s",
            id,
            len(failures),
            log.clean(named),
            ", ".join(to),
            extra=events.step("reported", id=id, messages=[failure.id for failure in failures], recipients=to),
        )
        return True

    def _log_unreportable(self, tag: str, mailbox: str, count: int) -> None:
        if tag in self._unreportable:
            return
        self._unreportable.add(tag)
        logger.error(
            "%d failed messages of %s cannot be reported to anybody: the mailbox is not in the config. "
            "Set notify, or see `m365proxy queue list`.",
            count,
            log.clean(mailbox),
        )

    def _other(self, mailbox: str) -> str:
        """Of the other mailboxes the one that sent last; "" if there is none."""
        others = [name for name in self._mailboxes.values() if name != mailbox]
        return max(others, key=self._last_delivery, default="")

    def _put(self, via: str, to: Sequence[str], content: bytes, repeats: str = "") -> str:
        """Spool a report; `repeats` is the id of the failed report it stands for, which is repeated only once."""
        envelope = Envelope(via, recipients=tuple(to), kind="report", envid=repeats)
        incoming = self._spool.put(envelope, self._accepted)
        incoming.write(content)
        return incoming.commit()

    def _send_again(self, failure: Failure, entry: Entry) -> None:
        """A report could not be delivered: send it once more, as plain text, through another mailbox."""
        envelope = failure.envelope
        assert envelope is not None
        via = self._other(envelope.mailbox) or next(iter(self._mailboxes.values()), "")
        is_repetition = bool(envelope.envid)
        text = "" if is_repetition or not via else self._text_of(entry)
        if not text:
            logger.error(
                "report %s could not be delivered: %s See `m365proxy queue list` for what failed.",
                failure.id,
                failure.reason,
            )
            return
        to = [self._notify] if self._notify else list(envelope.recipients)
        content = dsn.build_plain(text, mailbox=envelope.mailbox, author=via, to=to)
        id = self._put(via, to, content, repeats=failure.id)
        logger.warning(
            "report %s could not be delivered: %s It is sent again as %s through %s to %s.",
            failure.id,
            failure.reason,
            id,
            via,
            ", ".join(to),
            extra=events.step("reported", id=id, messages=[failure.id], recipients=to),
        )

    def _discard(self, entry: Entry, failure: Failure) -> bool:
        """Remove a warning that an earlier run sent; False if somebody may still wait for it, and removes it then."""
        assert failure.envelope is not None
        if 0 <= self._clock() - failure.envelope.accepted < 2 * warningmail.PATIENCE:
            return False
        with contextlib.suppress(FileNotFoundError):  # who sent it was first
            self._spool.drop(entry)
            logger.warning("%s, a warning of this program, could not be delivered, and is not kept", entry.id)
        return True

    def _text_of(self, entry: Entry) -> str:
        _, file = self._spool.open(entry)
        with file:
            return dsn.text_of(file)
