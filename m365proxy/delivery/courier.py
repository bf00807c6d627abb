"""The courier: takes accepted messages out of the spool and sees each to its end.

Each mailbox has a lane of its own, so that a throttled or broken one delays no
other.  A threading.Timer wakes the courier for the next due message, new mail
wakes it at once; worker threads exist only while there is something to do.
"""

from __future__ import annotations

import heapq
import math
import random
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from ..errors import ProxyError, SignInNeeded, Temporary, TokenRefused
from ..graph.answer import GraphTrouble, NoAnswer, Throttled
from ..graph.client import SLOTS, Graph
from ..spool.envelope import DamagedMessage, Envelope
from ..spool.spool import Claim, Spool, mailbox_tag, tag_of
from ..spool.state import Entry, Phase, Place
from ..system import log
from ..system.clock import clock_is_plausible
from ..system.threads import try_start
from . import outcome, reachability
from .attempt import Delivery
from .diskretries import DiskRetries, explained
from .outcome import Verdict
from .reachability import Reachability

logger = log.get("courier")

# Workers over all mailboxes: sixteen mailboxes at full speed.
_WORKERS = 64

# A message is not given up before so many tries, however old it is.
_LEAST_TRIES = 10

# Our clock may differ from Graph's by this much (seconds) for a message to be given up for its age.
_CLOCK_DIFFERENCE = 300.0

# A message that waits longer than this (seconds) leaves no draft behind.
_DRAFT_KEPT = 900.0

# Seconds until the disk is asked again to remove a message that was sent.
_REMOVE_AGAIN = 60.0

# What is waited beyond the pause that Graph asks for is a tenth of it, at most so many seconds.
_MOST_JITTER = 60.0

_FAULT = "Something unexpected went wrong in this program; its log has the details. Please report it."


class _Lane:
    """One mailbox's waiting messages: (due by the monotonic clock, id)."""

    def __init__(self, mailbox: str):
        self.mailbox = mailbox
        self.heap: List[Tuple[float, str]] = []
        self.to_look: Dict[str, Claim] = {}  # posting, outcome unknown: look before anything else
        self.to_remove: Dict[str, Claim] = {}  # sent, but the disk would not remove the file
        self.to_rescue: Set[str] = set()  # left in cur/: the disk would not let them be moved or read
        self.active = 0
        self.next_start = 0.0  # monotonic; pace_per_minute
        self.rests_until = 0.0  # monotonic; after a connection that failed
        self.rest = reachability.FIRST
        self.paused_until = 0.0  # monotonic; Graph asked to wait
        self.last_delivery = 0.0  # wall clock
        self.last_error = ""
        self.last_error_time = 0.0  # wall clock

    def due(self) -> float:
        """When the next waiting message may start (monotonic), as far as it is for the lane to say."""
        return max(self.heap[0][0], self.next_start, self.rests_until, self.paused_until)

    def take_rest(self) -> None:
        """Start nothing for a while, each time for longer; calls that fail together count once."""
        now = time.monotonic()
        if now >= self.rests_until:
            self.rests_until = now + self.rest
            self.rest = min(self.rest * 2, reachability.LONGEST)

    def end_rest(self) -> None:
        self.rests_until, self.rest = 0.0, reachability.FIRST


class Courier:
    """Any thread may call the public methods; the lock is held for memory work only."""

    def __init__(
        self,
        spool: Spool,
        graph: Graph,
        delivery: Delivery,
        mailboxes: List[str],
        *,
        retry_interval: float = 300.0,
        lifetime: float = 120 * 3600.0,
        pace_per_minute: int = 0,
        probe: Callable[[], None],
        failed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ):
        """`retry_interval`: seconds between later tries; `lifetime`: seconds after which a message is given up;
        `pace_per_minute`: most messages a minute and mailbox (0: any).  `probe` raises while nothing can be sent
        at all; `failed` is told whenever a message was given up."""
        self._spool = spool
        self._graph = graph
        self._delivery = delivery
        self._lanes: Dict[str, _Lane] = {mailbox_tag(name): _Lane(name) for name in mailboxes}
        self._order = list(self._lanes.values())
        self._retry_interval = retry_interval
        self._disk_retries = DiskRetries(retry_interval)
        self._lifetime = lifetime
        self._pace = 60.0 / pace_per_minute if pace_per_minute else 0.0
        self._reach = Reachability(probe, self._go_on)
        self._failed = failed
        self._clock = clock
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._workers = 0
        self._stopping = False
        self._timer: Optional[threading.Timer] = None
        self._timer_due = 0.0
        self._flushed = -math.inf  # wall clock of the last flush_all: nothing tried before it waits any more
        self._flushes = 0
        self._strays: Dict[str, List[Entry]] = {}  # posting, of mailboxes that are not in the config: by tag

    def recover(self) -> None:
        """Take over what an earlier run had in hand; before new mail may come in, which would look the same."""
        for entry in self._spool.recover():
            if entry.phase is Phase.POSTING:
                self._find_out(entry)
            elif entry.phase is Phase.CLAIMED and tag_of(entry.id) in self._lanes:
                self._push(entry.id, self._rescue_later(self._lanes[tag_of(entry.id)], entry.id))

    def start(self) -> None:
        """Begin with what is queued.  Needs directory listings only, however long the queue."""
        strangers = self._load(set(self._lanes))
        if strangers:
            logger.warning(
                "%d queued messages belong to mailboxes that are not in the config; they wait "
                "until the mailbox is back; see `m365proxy queue list`",
                strangers,
            )
        self.flush()

    def _load(self, tags: Set[str]) -> int:
        """Put what waits for these mailboxes into their lanes; how many messages belong to no lane."""
        waiting: Dict[str, List[Tuple[float, str]]] = {tag: [] for tag in tags}
        strangers = 0
        for entry in self._spool.entries(Place.NEW):
            tag = tag_of(entry.id)
            if tag in waiting:
                waiting[tag].append((0.0, entry.id))
            strangers += tag not in self._lanes
        with self._lock:
            for tag, found in waiting.items():
                known = {id for _, id in self._lanes[tag].heap}
                heap = self._lanes[tag].heap + [item for item in found if item[1] not in known]
                self._lanes[tag].heap = sorted(heap)
        return strangers

    def _find_out(self, entry: Entry) -> None:
        """A send was interrupted, nobody knows when: it has to be looked for, whoever's mail it is."""
        lane = self._lanes.get(tag_of(entry.id))
        if lane is None:
            self._strays.setdefault(tag_of(entry.id), []).append(entry)
            logger.warning(
                "%s was being sent when the program ended, and its mailbox is not in the config any more; "
                "it is looked for when the mailbox is back",
                entry.id,
            )
            return
        try:
            claim = self._spool.resume(entry)
        except OSError as error:
            logger.error(
                "%s was being sent when the program ended, and what is known of it cannot be read: %s.",
                entry.id,
                explained(error),
            )
            self._push(entry.id, self._rescue_later(lane, entry.id))
            return
        claim.state.error = claim.state.error or "The program ended while this message was being sent."
        self._look_later(lane, claim, 0.0)
        with self._lock:
            heapq.heappush(lane.heap, (0.0, entry.id))

    def _look_later(self, lane: _Lane, claim: Claim, wait: float) -> float:
        with self._lock:
            lane.to_look[claim.id] = claim
        return time.monotonic() + wait

    def accepted(self, id: str) -> None:
        """A message is durable in new/: send it now.

        Now, not before all others: at capacity a deferred message whose time has come would never get its turn.
        """
        self._push(id, time.monotonic())
        self.flush()

    def _push(self, id: str, due: float) -> None:
        lane = self._lanes.get(tag_of(id))
        if lane is not None:
            with self._lock:
                heapq.heappush(lane.heap, (due, id))

    def flush(self) -> None:
        """Start what is due; called by the timer, by new mail and after every delivery."""
        with self._lock:
            if self._stopping or self._reach.away:
                return
            now = time.monotonic()
            # One more worker is enough: each starts the next as long as there is work.
            if self._workers < _WORKERS and self._find_lane(now) is not None:
                self._start_worker()
            self._arm(now)

    def tick(self) -> None:
        """To be called now and then: does what no thread could be started for when it was due."""
        self._reach.tick()
        if not (self._workers or self._timer):
            self.flush()

    def _start_worker(self) -> None:
        self._workers += 1
        if not try_start(threading.Thread(target=self._work, name="courier", daemon=True)):
            self._workers -= 1

    def flush_all(self) -> None:
        """An administrator wants everything tried now (USR1, `queue retry all`)."""
        with self._lock:
            for lane in self._order:
                lane.heap = [(0.0, id) for _, id in sorted(lane.heap)]
            self._flushed = self._clock()
            self._flushes += 1
        self.flush()

    def set_mailboxes(self, mailboxes: List[str]) -> None:
        """The config changed: new mailboxes get a lane; the messages of removed ones stay queued."""
        wanted = {mailbox_tag(name): name for name in mailboxes}
        with self._lock:
            new = {tag: _Lane(name) for tag, name in wanted.items() if tag not in self._lanes}
            self._lanes.update(new)
            self._order = [lane for tag, lane in self._lanes.items() if tag in wanted]
        self._load(set(new))
        for tag in new:
            for entry in self._strays.pop(tag, []):
                self._find_out(entry)
        self.flush()

    def last_delivery(self, mailbox: str) -> float:
        """When this mailbox sent last (seconds since 1970); 0 if it has not since the start."""
        lane = self._lanes.get(mailbox_tag(mailbox))
        return lane.last_delivery if lane is not None else 0.0

    def stop(self, seconds: float) -> bool:
        """Start nothing more and wait for what is being sent; whether all ended in time."""
        self._reach.stop()
        with self._lock:
            self._stopping = True
            if self._timer is not None:
                self._timer.cancel()
            return self._idle.wait_for(lambda: self._workers == 0, seconds)

    def status(self) -> Dict[str, Any]:
        """Per mailbox: waiting, being sent, last delivery, last error; and what is wrong altogether."""
        with self._lock:
            return {
                "away": self._reach.away,
                "mailboxes": {
                    lane.mailbox: {
                        "waiting": len(lane.heap),
                        "sending": lane.active,
                        "last_delivery": lane.last_delivery,
                        "last_error": lane.last_error,
                        "last_error_time": lane.last_error_time,
                    }
                    for lane in self._order
                },
            }

    # Under the lock.

    def _find_lane(self, now: float) -> Optional[_Lane]:
        for lane in self._order:
            due = lane.heap and lane.due() <= now and lane.active < SLOTS
            if due and not self._graph.held(lane.mailbox):
                return lane
        return None

    def _arm(self, now: float) -> None:
        """Let the timer ring when the next message becomes due."""
        dues = [
            max(lane.due(), now + self._graph.held(lane.mailbox))
            for lane in self._order
            if lane.heap and lane.active < SLOTS
        ]
        future = [due for due in dues if due > now]
        if future:
            self._ring(min(future), now)

    def _ring(self, due: float, now: float) -> None:
        if self._timer is not None:
            if self._timer.is_alive() and now < self._timer_due <= due:
                return
            self._timer.cancel()
        timer = threading.Timer(max(0.0, due - now), self._rang)
        timer.daemon = True
        timer.name = "courier-timer"
        self._timer_due = due
        self._timer = timer if try_start(timer) else None

    def _rang(self) -> None:
        with self._lock:
            # A timer that has rung rings no more, however early it was: the next _ring must set another.
            if self._timer is threading.current_thread():
                self._timer = None
        self.flush()

    def _take(self) -> Optional[Tuple[_Lane, str]]:
        with self._lock:
            lane = None if self._stopping or self._reach.away else self._find_lane(time.monotonic())
            if lane is None:
                self._workers -= 1
                self._idle.notify_all()
                return None
            lane.active += 1
            lane.next_start = time.monotonic() + self._pace  # handed back if nothing is sent
            # The lane that was served goes to the end: fair between mailboxes.
            self._order = [other for other in self._order if other is not lane] + [lane]
            return lane, heapq.heappop(lane.heap)[1]

    # In worker threads.

    def _work(self) -> None:
        while True:
            job = self._take()
            if job is None:
                return
            lane, id = job
            self.flush()
            again: Optional[float] = None
            flushes = self._flushes
            try:
                again = self._attend(lane, id)
            except OSError as error:
                logger.error("%s waits, its file cannot be used: %s.", id, explained(error))
                again = self._rescue(lane, id, self._disk_retries.failed(id))
            except Exception:  # the worker loop: one broken message stops nothing else
                logger.exception("%s: unexpected error", id)
                again = self._rescue(lane, id, self._retry_interval)
            with self._lock:
                lane.active -= 1
                if again is not None:
                    # A flush_all meanwhile did not see it in the heap, and meant it too.
                    heapq.heappush(lane.heap, (again if flushes == self._flushes else 0.0, id))
            self.flush()

    def _rescue_later(self, lane: _Lane, id: str) -> float:
        """What the disk will not let go of stays in cur/ for a while; when to try again (monotonic)."""
        with self._lock:
            lane.to_rescue.add(id)
        return time.monotonic() + self._disk_retries.failed(id)

    def _rescue(self, lane: _Lane, id: str, wait: float) -> Optional[float]:
        """After a fault here or of the disk: what was not being sent goes back, the rest is looked for."""
        try:
            entry = self._spool.find(id)
            if entry is not None and entry.phase is Phase.CLAIMED:
                self._spool.resume(entry).release()
            elif entry is not None and entry.phase is Phase.POSTING:
                return self._look_later(lane, self._spool.resume(entry), self._delivery.first_look())
            elif entry is not None and entry.place is Place.FAILED:
                self._failed()
                return None
        except OSError as error:
            logger.error("%s stays as it is for now: %s.", id, explained(error))
            return self._rescue_later(lane, id)
        return time.monotonic() + wait

    def _attend(self, lane: _Lane, id: str) -> Optional[float]:
        """See to one message; when to try again (monotonic), or None when it is out of the lane."""
        with self._lock:
            sent, lost = lane.to_remove.pop(id, None), lane.to_look.pop(id, None)
            stuck = id in lane.to_rescue
            lane.to_rescue.discard(id)
        if stuck:
            self._hand_back(lane)
            return self._rescue(lane, id, 0.0)
        if sent is not None:
            self._hand_back(lane)
            return self._remove(lane, sent)
        claim = lost or self._spool.claim(id)
        wait = self._until_due(claim) if claim and not lost else 0.0
        if claim is None or lost or wait:
            self._hand_back(lane)
        if claim is None:
            return None
        if wait:
            claim.release()
            return time.monotonic() + wait
        try:
            envelope, file = claim.open()
        except DamagedMessage as error:
            return self._give_up(lane, claim, None, Verdict(outcome.NOT_SENT, outcome.PERMANENT, str(error), "5.3.0"))
        claim.state.last_attempt = self._clock()  # its beginning: a flush_all meanwhile is meant for it too
        with file:
            try:
                if lost:
                    verdict = self._delivery.look(claim, envelope)
                    claim.state.asked = 0
                else:
                    verdict = self._delivery.deliver(claim, envelope, file)
            except (SignInNeeded, Temporary) as error:
                return self._not_now(lane, claim, envelope, error)
            except OSError:
                raise
            except Exception:
                return self._fault(lane, claim, envelope)
        again = self._conclude(lane, claim, envelope, verdict)
        self._disk_retries.worked(id)
        return again

    def _fault(self, lane: _Lane, claim: Claim, envelope: Envelope) -> Optional[float]:
        """A fault of ours, which may come each time with this message: it counts, so that the message does not
        wait for ever without a report."""
        logger.exception("%s: unexpected error", claim.id)
        if claim.entry.phase is Phase.POSTING:
            return self._ask_again_later(lane, claim, Temporary(_FAULT))
        verdict = Verdict(outcome.NOT_SENT, outcome.PERMANENT, _FAULT, "5.3.0", 0.0, _LEAST_TRIES, self._lifetime)
        return self._conclude(lane, claim, envelope, verdict)

    def _hand_back(self, lane: _Lane) -> None:
        """Nothing is sent in this turn: the next message need not keep its distance from it."""
        with self._lock:
            lane.next_start = time.monotonic()

    def _not_now(self, lane: _Lane, claim: Claim, envelope: Envelope, error: ProxyError) -> Optional[float]:
        """Nothing was sent, or found out."""
        if isinstance(error, Throttled):
            self._hand_back(lane)
            self._pause(lane, error)
            if error.request_id and claim.entry.phase is Phase.CLAIMED and self._age(claim, envelope) > self._lifetime:
                # No failed attempt; but whoever is only ever asked to wait must not wait for ever without a report.
                claim.state.request_id = error.request_id
                verdict = Verdict(outcome.NOT_SENT, outcome.TRANSIENT, str(error), "4.4.5", error.seconds)
                return self._conclude(lane, claim, envelope, verdict)
            self._set_aside(lane, claim, 0.0)
            return 0.0  # the mailbox waits; the message keeps its place before what came later
        if not isinstance(error, (GraphTrouble, NoAnswer, TokenRefused)):
            self._reach.lose(str(error))
            return self._set_aside(lane, claim, 0.0)
        if claim.entry.phase is Phase.POSTING:
            return self._ask_again_later(lane, claim, error)
        claim.state.request_id = error.answer.request_id if isinstance(error, GraphTrouble) else ""
        return self._conclude(lane, claim, envelope, _verdict_on(error))

    def _pause(self, lane: _Lane, error: Throttled) -> None:
        """Start nothing of this mailbox as long as Graph asks, and a little longer."""
        with self._lock:
            now = time.monotonic()
            fresh = now >= lane.paused_until
            jitter = random.random() * min(0.1 * error.seconds, _MOST_JITTER)
            lane.paused_until = max(lane.paused_until, now + error.seconds + jitter)
            lane.last_error, lane.last_error_time = str(error), self._clock()
        if fresh:
            logger.warning("%s waits, its messages keep their place: %s", lane.mailbox, error)

    def _set_aside(self, lane: _Lane, claim: Claim, wait: float) -> float:
        """The message stays what it was."""
        if claim.entry.phase is Phase.POSTING:
            return self._look_later(lane, claim, wait)
        claim.save_state()  # a draft may have been made just now, or surely not
        claim.release()
        return time.monotonic() + wait

    def _ask_again_later(self, lane: _Lane, claim: Claim, error: ProxyError) -> Optional[float]:
        """Graph did not tell what became of a message: ask it again, later each time, as long as messages live."""
        state, now = claim.state, self._graph.now()
        state.asked += 1
        state.error = lane.last_error = str(error)
        lane.last_error_time = self._clock()
        if state.asked >= _LEAST_TRIES and state.posted and now - state.posted > self._lifetime:
            return self._hold(lane, claim, f"Graph could not be asked whether it was sent: {error}")
        if isinstance(error, NoAnswer):
            self._doubt(lane)
        wait = outcome.retry_delay(state.asked, self._retry_interval, random.random(), _verdict_on(error).wait)
        logger.warning("%s is seen to again in %d s: %s", claim.id, wait, error)
        return self._look_later(lane, claim, wait)

    def _until_due(self, claim: Claim) -> float:
        """Seconds this message still waits; a clock that jumped makes nobody wait longer than one interval."""
        if claim.state.last_attempt <= self._flushed:
            return 0.0
        wait = claim.state.due - self._clock()
        return wait if 0 < wait <= 2 * max(self._retry_interval, outcome.ADMINISTRATOR_WAIT) else 0.0

    def _conclude(self, lane: _Lane, claim: Claim, envelope: Envelope, verdict: Verdict) -> Optional[float]:
        state = claim.state
        now = self._clock()
        if verdict.sent == outcome.SENT:
            lane.last_delivery = now
            lane.end_rest()
            logger.info(
                "%s delivered for %s to %d recipients (request-id %s)",
                claim.id,
                lane.mailbox,
                len(envelope.recipients),
                log.clean(state.request_id) or "none",
            )
            return self._remove(lane, claim)
        looked = bool(state.looks) and verdict.sent == outcome.AMBIGUOUS
        state.attempts += not looked
        state.error = verdict.sentence
        lane.last_error, lane.last_error_time = verdict.sentence, now
        if verdict.sent == outcome.AMBIGUOUS:
            return self._wait_or_hold(lane, claim, verdict)
        if verdict.final(state.attempts, self._age(claim, envelope)) or self._expired(claim, envelope):
            return self._give_up(lane, claim, envelope, verdict)
        return self._defer(lane, claim, verdict)

    def _remove(self, lane: _Lane, claim: Claim) -> Optional[float]:
        """It was sent: whatever the disk says, it is not sent again."""
        try:
            claim.remove_sent()
        except OSError as error:
            logger.error(
                "%s was sent, but its file cannot be removed: %s. Check the disk of state_dir.", claim.id, error
            )
            with self._lock:
                lane.to_remove[claim.id] = claim
            return time.monotonic() + _REMOVE_AGAIN
        return None

    def _wait_or_hold(self, lane: _Lane, claim: Claim, verdict: Verdict) -> Optional[float]:
        if verdict.then == outcome.PERMANENT:
            return self._hold(lane, claim, verdict.sentence)
        claim.save_state()
        if not claim.state.looks:
            logger.warning("%s may have been sent; it is looked for: %s", claim.id, verdict.sentence)
        return self._look_later(lane, claim, verdict.wait or self._delivery.first_look())

    def _hold(self, lane: _Lane, claim: Claim, sentence: str) -> None:
        claim.state.error = sentence
        claim.hold()
        logger.error(
            "%s held, it may have been sent: %s Look into Sent Items of %s, then `m365proxy queue retry` or `drop`.",
            claim.id,
            sentence,
            lane.mailbox,
        )

    def _age(self, claim: Claim, envelope: Envelope) -> float:
        """Seconds since acceptance; 0 while our clock is wrong, since the first try where it was wrong then."""
        state = claim.state
        if not state.first_attempt and clock_is_plausible(state.last_attempt):
            state.first_attempt = state.last_attempt
        born = envelope.accepted if clock_is_plausible(envelope.accepted) else state.first_attempt
        return max(0.0, state.last_attempt - born) if born and clock_is_plausible(state.last_attempt) else 0.0

    def _expired(self, claim: Claim, envelope: Envelope) -> bool:
        """Too old, often enough tried, and our clock agreed with Graph's at this last try."""
        in_step = bool(claim.state.request_id) and abs(self._graph.skew) <= _CLOCK_DIFFERENCE
        return in_step and claim.state.attempts >= _LEAST_TRIES and self._age(claim, envelope) > self._lifetime

    def _defer(self, lane: _Lane, claim: Claim, verdict: Verdict) -> float:
        delay = outcome.retry_delay(claim.state.attempts, self._retry_interval, random.random(), verdict.wait)
        if delay > _DRAFT_KEPT:
            self._delivery.drop_draft(claim)
        claim.state.due = self._clock() + delay
        claim.defer()
        logger.warning("%s deferred for %d s: %s", claim.id, delay, verdict.sentence)
        if verdict.status == "4.4.1":
            self._doubt(lane)
        return time.monotonic() + delay

    def _give_up(self, lane: _Lane, claim: Claim, envelope: Optional[Envelope], verdict: Verdict) -> None:
        self._delivery.drop_draft(claim)
        claim.state.error, claim.state.status = verdict.sentence, verdict.status
        claim.fail()
        lane.last_error, lane.last_error_time = verdict.sentence, self._clock()
        sender = log.clean(envelope.sender if envelope else "unknown")
        logger.error("%s failed for good (from %s): %s It is kept in failed/.", claim.id, sender, verdict.sentence)
        self._failed()

    def _doubt(self, lane: _Lane) -> None:
        """A connection failed: this mailbox rests, and a probe tells whether the others must too."""
        with self._lock:
            lane.take_rest()
        self._reach.doubt()

    def _go_on(self, long: bool) -> None:
        """The pause is over.  A short one changes no schedule."""
        with self._lock:
            for lane in self._order:
                lane.end_rest()
        if long:
            self.flush_all()
        else:
            self.flush()


def _verdict_on(error: ProxyError) -> Verdict:
    """What a message that was not sent may do after such an error."""
    if isinstance(error, TokenRefused):
        return outcome.of_sign_in(str(error))
    if isinstance(error, GraphTrouble):
        return Verdict(outcome.NOT_SENT, outcome.TRANSIENT, str(error), "4.4.0", error.answer.retry_after)
    return outcome.of_failure(str(error), False)
