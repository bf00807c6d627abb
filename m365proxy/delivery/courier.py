"""The courier: takes accepted messages out of the spool and sees each to its end.

New mail wakes it at once, and a timer wakes it for the next message that is
due.  Worker threads exist only while there is something to do.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from typing import Callable, Dict, List, Optional, Set, Tuple, TypedDict

from ..errors import SignInNeeded, Temporary, TokenRefused
from ..graph.answer import GraphTrouble, NoAnswer, Throttled
from ..graph.client import Graph
from ..graph.slots import SLOTS
from ..spool.envelope import DamagedMessage
from ..spool.spool import Claim, Spool, tag_of
from ..spool.state import Entry, Phase, Place, State
from ..system import log
from ..system.threads import Timer, try_start
from . import outcome
from .attempt import Delivery
from .conclusions import Conclusions
from .diskretries import DiskRetries, explain
from .lanes import AT_ONCE, Job, Lane, Lanes, LaneStatus, Turn, Work
from .outcome import Outcome, Then, Verdict
from .reachability import Reachability

logger = log.get("courier")

# Workers over all mailboxes: sixteen mailboxes at full speed.
_WORKERS = 64


class CourierStatus(TypedDict):
    """What `status` shows of the courier."""

    paused: str  # why nothing can be sent at all; "" when it can
    mailboxes: Dict[str, LaneStatus]


class Courier:
    """Any thread may call the public methods; the lock is held for memory work only."""

    _has_missed = False  # there may be messages in new/ of which nobody has told

    def __init__(
        self,
        spool: Spool,
        graph: Graph,
        delivery: Delivery,
        mailboxes: List[str],
        *,
        retry_interval: float = 300.0,
        lifetime: float = 120 * 3600.0,
        pace_per_minute: float = 0,
        slots: int = SLOTS,
        workers: int = _WORKERS,
        probe: Callable[[], None],
        failed: Callable[[], None] = lambda: None,
        sent: Callable[[Claim], None] = lambda claim: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        """
        `graph`: for its clock, and for how long it wants a mailbox left alone.
        `delivery`: makes the attempts.
        `mailboxes`: those of the config.
        `retry_interval`: seconds between later tries.
        `lifetime`: seconds after which a message is given up.
        `pace_per_minute`: the most messages a minute of each mailbox (0: any number).
        `slots`: the most messages of a mailbox at a time.
        `workers`: the most messages at a time, over all mailboxes.
        `probe`: raises while nothing can be sent at all.
        `failed`: called whenever a message was given up.
        `sent(claim)`: called whenever a message was sent, and is out of the queue for good.
        `clock`, `monotonic`: this machine's clocks.
        """
        self._spool = spool
        self._delivery = delivery
        self._lanes = Lanes(
            mailboxes, graph.throttled_for, pace_per_minute=pace_per_minute, slots=slots, monotonic=monotonic
        )
        self._conclusions = Conclusions(
            graph,
            delivery,
            retry_interval=retry_interval,
            lifetime=lifetime,
            connection_failed=self._connection_failed,
            failed=failed,
            sent=sent,
            clock=clock,
        )
        self._retry_interval = retry_interval
        self._disk_retries = DiskRetries(retry_interval)
        self._reach = Reachability(probe, self._go_on, monotonic=monotonic)
        self._failed = failed
        self._clock = clock
        self._lock = self._lanes.lock
        self._idle = threading.Condition(self._lock)
        self._most_workers = workers
        self._workers, self._stopping = 0, False
        self._timer = Timer(self.flush, "courier-timer")
        self._flushed = -math.inf  # wall clock of the last flush_all: what was last tried before it waits no longer
        self._strays: Dict[str, List[Entry]] = {}  # by tag: posting, of mailboxes that are not in the config
        self._found: Set[str] = set()  # ids of messages that this run found posting

    def recover(self) -> None:
        """Take over what an earlier run had in hand; before new mail may come in, which would look the same."""
        for entry in self._spool.recover():
            lane = self._lanes.of_message(entry.id)
            if entry.phase is Phase.POSTING:
                self._find_out(entry)
            elif entry.phase is Phase.CLAIMED and lane is not None:
                self._lanes.add(entry.id, self._rescue_later(lane, entry.id))

    def start(self) -> None:
        """Begin with what is queued.  Needs directory listings only, however long the queue."""
        strangers = self._lanes.load(self._spool.entries(Place.NEW))
        if strangers:
            logger.warning(
                "%d queued messages belong to mailboxes that are not in the config. They wait until the mailbox is "
                "back; see `m365proxy queue list`.",
                strangers,
            )
        self.flush()

    def _find_out(self, entry: Entry) -> None:
        """A send was interrupted, nobody knows at which moment: the message has to be looked for."""
        self._found.add(entry.id)
        lane = self._lanes.of_message(entry.id)
        if lane is None:
            self._strays.setdefault(tag_of(entry.id), []).append(entry)
            logger.warning(
                "%s was being sent when the program ended, and its mailbox is no longer in the config. "
                "It is looked for when the mailbox is back.",
                entry.id,
            )
            return
        try:
            claim = self._spool.resume(entry)
        except OSError as error:
            logger.error(
                "%s was being sent when the program ended, and its state cannot be read: %s.", entry.id, explain(error)
            )
            self._lanes.add(entry.id, self._rescue_later(lane, entry.id))
            return
        claim.state.error = claim.state.error or "The program ended while this message was being sent."
        self._lanes.add(entry.id, Turn(AT_ONCE, Work.LOOK, claim))

    def add(self, id: str) -> None:
        """A message is durable in new/: send it now.

        It is due now, but not before all others: at capacity a deferred message
        whose time has come would never get its turn.
        """
        self._lanes.add_now(id)
        self.flush()

    def take_over(self, id: str) -> None:
        """A message was adopted from another queue, and is in this one as it was in that."""
        entry = self._spool.find(id)
        if entry is None:
            return
        if entry.place is Place.NEW:
            self.add(id)
        elif entry.place is Place.FAILED:
            self._failed()
        elif entry.phase is Phase.POSTING and id not in self._found:  # or the start has found it, too
            self._find_out(entry)
            self.flush()

    def find_missed(self) -> None:
        """Let everything wait that is in new/: nobody said of some of it that it is there.

        OSError if it cannot be listed: it is tried again, as the program may run for months.
        """
        self._has_missed = True
        self._lanes.load(self._spool.entries(Place.NEW))
        self._has_missed = False
        self.flush()

    def flush(self) -> None:
        """Start what is due; called by the timer, by new mail and after every delivery."""
        with self._lock:
            if self._stopping or self._reach.paused:
                return
            # One more worker is enough: each starts the next as long as there is work.
            outlook = self._lanes.outlook()
            if outlook.is_due and self._workers < self._most_workers:
                self._start_worker()
            if outlook.wait is not None:
                self._timer.start_within(outlook.wait)

    def tick(self) -> None:
        """To be called now and then: does what no thread could be started for when it was due, or the disk refused."""
        self._reach.tick()
        if self._has_missed:
            with contextlib.suppress(OSError):  # it is in the log since the first time
                self.find_missed()
        if not (self._workers or self._timer.is_running):
            self.flush()

    def _start_worker(self) -> None:
        self._workers += 1
        if not try_start(threading.Thread(target=self._work, name="courier", daemon=True)):
            self._workers -= 1

    def flush_all(self) -> None:
        """An administrator wants everything tried now (USR1, `queue retry all`)."""
        with self._lock:
            self._lanes.make_all_due()
            self._flushed = self._clock()
        self.flush()

    def set_mailboxes(self, mailboxes: List[str]) -> None:
        """The config changed: new mailboxes get a lane; the messages of removed ones stay queued."""
        new = self._lanes.set_mailboxes(mailboxes)
        self._lanes.load(self._spool.entries(Place.NEW), new)
        for tag in new:
            for entry in self._strays.pop(tag, []):
                self._find_out(entry)
        self.flush()

    def last_delivery(self, mailbox: str) -> float:
        """When this mailbox sent last (seconds since 1970); 0 if it has not since the start."""
        lane = self._lanes.of_mailbox(mailbox)
        return lane.last_delivery if lane is not None else 0.0

    def stop(self, seconds: float) -> bool:
        """Start nothing more and wait for what is being sent; whether all ended in time."""
        self._reach.stop()
        with self._lock:
            self._stopping = True
            self._timer.cancel()
            return self._idle.wait_for(lambda: self._workers == 0, seconds)

    def status(self) -> CourierStatus:
        with self._lock:
            return {"paused": self._reach.paused, "mailboxes": self._lanes.status()}

    # In worker threads.

    def _work(self) -> None:
        while True:
            job, is_over = self._take()
            if is_over:
                return
            if job is None:
                self._tidy()
                continue
            self.flush()
            self._lanes.finish(job, self._do_safely(job))
            self.flush()

    def _take(self) -> Tuple[Optional[Job], bool]:
        """The worker's next job, or whether the worker is over; neither: there is something to tidy up before."""
        with self._lock:
            job = None if self._stopping or self._reach.paused else self._lanes.take()
            is_over = job is None and self._spool.is_tidy
            if is_over:
                self._workers -= 1
                self._idle.notify_all()
            return job, is_over

    def _tidy(self) -> None:
        """Messages that were sent are gone for good once the disk says so: one sync for all of them."""
        try:
            self._spool.tidy()
        except OSError as error:
            logger.error("Messages were sent, and may be looked for after a power cut: %s.", explain(error))

    def _do_safely(self, job: Job) -> Optional[Turn]:
        try:
            return self._do(job)
        except OSError as error:
            logger.error("%s waits, because its file cannot be used: %s.", job.id, explain(error))
            return self._rescue(job.lane, job.id, self._disk_retries.add_failure(job.id))
        except Exception:  # the worker loop: one broken message stops nothing else
            logger.exception("%s: unexpected error", job.id)
            return self._rescue(job.lane, job.id, self._retry_interval)

    def _do(self, job: Job) -> Optional[Turn]:
        """See to one message; its next turn, None when it is out of the lane."""
        if job.work is Work.SEND:
            return self._send(job.lane, job.id)
        job.lane.skip_pace()
        if job.work is Work.RESCUE:
            return self._rescue(job.lane, job.id, 0.0)
        assert job.claim is not None
        if job.work is Work.REMOVE:
            return self._conclusions.remove(job.lane, job.claim)
        return self._attempt(job.lane, job.claim, look=True)

    def _send(self, lane: Lane, id: str) -> Optional[Turn]:
        claim = self._spool.claim(id)
        if claim is None:
            lane.skip_pace()
            return None
        wait = self._seconds_until_due(claim.state)
        if wait:
            lane.skip_pace()
            claim.release()
            return lane.turn_in(wait)
        return self._attempt(lane, claim, look=False)

    def _seconds_until_due(self, state: State) -> float:
        """Seconds a message still waits; a clock that jumped makes nobody wait longer than one interval."""
        if state.last_attempt <= self._flushed:
            return 0.0
        wait = state.due - self._clock()
        return wait if 0 < wait <= 2 * max(self._retry_interval, outcome.ADMINISTRATOR_WAIT) else 0.0

    def _attempt(self, lane: Lane, claim: Claim, look: bool) -> Optional[Turn]:
        """Send a message, or look whether it was sent."""
        conclusions, state = self._conclusions, claim.state
        try:
            envelope, file = claim.open()
        except DamagedMessage as error:
            verdict = Verdict(Outcome.NOT_SENT, Then.PERMANENT, str(error), "5.3.0")
            conclusions.give_up(lane, claim, None, verdict)
            return None
        state.last_attempt = self._clock()  # its beginning: a flush_all during the attempt is meant for it too
        with file:
            try:
                if look:
                    verdict = self._delivery.look(claim, envelope)
                    state.asked = 0
                else:
                    verdict = self._delivery.deliver(claim, envelope, file)
            except (Throttled, GraphTrouble, NoAnswer, TokenRefused) as error:
                return conclusions.conclude_error(lane, claim, envelope, error)
            except (SignInNeeded, Temporary) as error:  # of no message or mailbox alone
                self._reach.pause(str(error))
                return conclusions.set_aside(lane, claim)
            except OSError:
                raise
            except Exception:  # a fault of this program, with this message
                logger.exception("%s: unexpected error", claim.id)
                return conclusions.conclude_fault(lane, claim, envelope)
        turn = conclusions.conclude(lane, claim, envelope, verdict)
        self._disk_retries.clear(claim.id)
        return turn

    def _rescue(self, lane: Lane, id: str, wait: float) -> Optional[Turn]:
        """After a fault here or of the disk: what was not being sent goes back, the rest is looked for."""
        try:
            entry = self._spool.find(id)
            if entry is not None and entry.phase is Phase.CLAIMED:
                self._spool.resume(entry).release()
            elif entry is not None and entry.phase is Phase.POSTING:
                return lane.turn_in(self._delivery.first_look(), Work.LOOK, self._spool.resume(entry))
            elif entry is not None and entry.place is Place.FAILED:
                self._failed()
                return None
        except OSError as error:
            logger.error("%s stays as it is for now: %s.", id, explain(error))
            return self._rescue_later(lane, id)
        return lane.turn_in(wait)

    def _rescue_later(self, lane: Lane, id: str) -> Turn:
        """The disk will not let go of a message: it stays in cur/ for a while."""
        return lane.turn_in(self._disk_retries.add_failure(id), Work.RESCUE)

    def _connection_failed(self, lane: Lane) -> None:
        """This mailbox rests, and a probe finds out whether the others must, too."""
        lane.rest()
        self._reach.check()

    def _go_on(self, long: bool) -> None:
        """A pause is over.  Only a long one changes the schedule: then everything is tried now."""
        self._lanes.end_rests()
        if long:
            self.flush_all()
        else:
            self.flush()
