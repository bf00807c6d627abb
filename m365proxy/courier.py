"""The courier: takes accepted messages out of the spool and sees each to its end.

Each mailbox has a lane of its own, so that a throttled or broken one delays no
other.  A threading.Timer wakes the courier for the next due message, new mail
wakes it at once; worker threads exist only while there is something to do.
"""

from __future__ import annotations

import heapq
import random
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from . import log, outcome
from .delivery import Delivery, accepted_age
from .errors import ProxyError, SignInNeeded, Temporary
from .graph import SLOTS, Graph, Throttled
from .outcome import Verdict
from .spool import Claim, DamagedMessage, Entry, Envelope, Spool, mailbox_tag, tag_of

logger = log.get("courier")

# Workers over all mailboxes: eight mailboxes at full speed.
_WORKERS = 32

# Seconds between probes while Graph or the sign-in is away: the first, and the longest.
_PROBE_FIRST, _PROBE_MOST = 1.0, 15.0


class _Lane:
    """One mailbox's waiting messages: (due by the monotonic clock, id)."""

    def __init__(self, mailbox: str):
        self.mailbox = mailbox
        self.heap: List[Tuple[float, str]] = []
        self.active = 0
        self.last_delivery = 0.0  # wall clock
        self.last_error = ""
        self.last_error_time = 0.0  # wall clock


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
        probe: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ):
        """`retry_interval`: seconds between later tries; `probe` raises while nothing can be sent at all."""
        self._spool = spool
        self._graph = graph
        self._delivery = delivery
        self._lanes: Dict[str, _Lane] = {mailbox_tag(name): _Lane(name) for name in mailboxes}
        self._order = list(self._lanes.values())
        self._retry_interval = retry_interval
        self._probe = probe
        self._clock = clock
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._workers = 0
        self._stopping = False
        self._timer: Optional[threading.Timer] = None
        self._timer_due = 0.0
        self._away = ""  # why nothing can be sent at all; "" when it can
        self._probe_delay = _PROBE_FIRST

    def start(self) -> None:
        """Take over what an earlier run left.  Needs directory listings only, however long the queue."""
        for entry in self._spool.recover():
            if entry.phase == "posting":
                self._hold_unknown(entry)
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
        for entry in self._spool.entries("new"):
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

    def _hold_unknown(self, entry: Entry) -> None:
        claim = self._spool.resume(entry)
        claim.state.error = "The program was interrupted while this message was being sent; it may have been sent."
        claim.hold()
        logger.error("%s held: %s Look into Sent Items, then `m365proxy queue retry` or `drop`.", entry.id, claim.state.error)

    def accepted(self, id: str) -> None:
        """A message is durable in new/: send it now."""
        self._push(id, 0.0)
        self.flush()

    def _push(self, id: str, due: float) -> None:
        lane = self._lanes.get(tag_of(id))
        if lane is not None:
            with self._lock:
                heapq.heappush(lane.heap, (due, id))

    def flush(self) -> None:
        """Start what is due; called by the timer, by new mail and after every delivery."""
        with self._lock:
            if self._stopping or self._away:
                return
            now = time.monotonic()
            # One more worker is enough: each starts the next as long as there is work.
            if self._workers < _WORKERS and self._find_lane(now) is not None:
                self._workers += 1
                threading.Thread(target=self._work, name="courier", daemon=True).start()
            self._arm(now)

    def flush_all(self) -> None:
        """An administrator wants everything tried now (USR1, `queue retry all`)."""
        with self._lock:
            for lane in self._order:
                lane.heap = [(0.0, id) for _, id in sorted(lane.heap)]
        self.flush()

    def set_mailboxes(self, mailboxes: List[str]) -> None:
        """The config changed: new mailboxes get a lane; the messages of removed ones stay queued."""
        wanted = {mailbox_tag(name): name for name in mailboxes}
        with self._lock:
            new = {tag: _Lane(name) for tag, name in wanted.items() if tag not in self._lanes}
            self._lanes = {tag: self._lanes.get(tag) or new[tag] for tag in wanted}
            self._order = list(self._lanes.values())
        self._load(set(new))
        self.flush()

    def stop(self, seconds: float) -> bool:
        """Start nothing more and wait for what is being sent; whether all ended in time."""
        with self._lock:
            self._stopping = True
            if self._timer is not None:
                self._timer.cancel()
            return self._idle.wait_for(lambda: self._workers == 0, seconds)

    def status(self) -> Dict[str, Any]:
        """Per mailbox: waiting, being sent, last delivery, last error; and what is wrong altogether."""
        with self._lock:
            return {
                "away": self._away,
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
            if lane.heap and lane.active < SLOTS and lane.heap[0][0] <= now and not self._graph.held(lane.mailbox):
                return lane
        return None

    def _arm(self, now: float) -> None:
        """Let the timer ring when the next message becomes due."""
        dues = [
            max(lane.heap[0][0], now + self._graph.held(lane.mailbox))
            for lane in self._order
            if lane.heap and lane.active < SLOTS
        ]
        future = [due for due in dues if due > now]
        if future:
            self._ring(min(future), now, self.flush)

    def _ring(self, due: float, now: float, action: Callable[[], None]) -> None:
        if self._timer is not None:
            if self._timer.is_alive() and now < self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer = threading.Timer(max(0.0, due - now), action)
        self._timer.daemon = True
        self._timer.name = "courier-timer"
        self._timer_due = due
        self._timer.start()

    def _take(self) -> Optional[Tuple[_Lane, str]]:
        with self._lock:
            lane = None if self._stopping or self._away else self._find_lane(time.monotonic())
            if lane is None:
                self._workers -= 1
                self._idle.notify_all()
                return None
            lane.active += 1
            # The lane that was served goes to the end: fair between mailboxes.
            self._order = [other for other in self._order if other is not lane] + [lane]
            return lane, heapq.heappop(lane.heap)[1]

    # In worker threads.

    def _work(self) -> None:
        while True:
            job = self._take()
            if job is None:
                return
            self.flush()
            lane, id = job
            again: Optional[float] = None
            try:
                again = self._attend(lane, id)
            except Exception:  # the worker loop: one broken message stops nothing else
                logger.exception("%s: unexpected error", id)
                again = self._rescue(id)
            with self._lock:
                lane.active -= 1
                if again is not None:
                    heapq.heappush(lane.heap, (again, id))
            self.flush()

    def _rescue(self, id: str) -> Optional[float]:
        """After a fault here or of the disk: what was not being sent goes back, the rest is held."""
        entry = self._spool.find(id)
        try:
            if entry is not None and entry.phase == "claimed":
                self._spool.resume(entry).release()
            elif entry is not None and entry.phase == "posting":
                self._hold_unknown(entry)
                return None
        except OSError as error:
            logger.error("%s stays as it is until the next start: %s", id, error)
            return None
        return time.monotonic() + self._retry_interval

    def _attend(self, lane: _Lane, id: str) -> Optional[float]:
        """See to one message; when to try again (monotonic), or None when it is out of the lane."""
        claim = self._spool.claim(id)
        if claim is None:
            return None
        wait = self._until_due(claim)
        if wait:
            claim.release()
            return time.monotonic() + wait
        try:
            envelope, file = claim.open()
        except (DamagedMessage, OSError) as error:
            return self._give_up(lane, claim, None, f"The spooled file cannot be read: {error}")
        with file:
            try:
                verdict = self._delivery.deliver(claim, envelope, file)
            except Throttled as error:
                claim.release()
                return time.monotonic() + error.seconds
            except (SignInNeeded, Temporary) as error:
                claim.release()
                self._go_away(str(error))
                return 0.0
        return self._conclude(lane, claim, envelope, verdict)

    def _until_due(self, claim: Claim) -> float:
        """Seconds this message still waits; a clock that jumped makes nobody wait longer than one interval."""
        wait = claim.state.due - self._clock()
        return wait if 0 < wait <= 2 * max(self._retry_interval, outcome.ADMINISTRATOR_WAIT) else 0.0

    def _conclude(self, lane: _Lane, claim: Claim, envelope: Envelope, verdict: Verdict) -> Optional[float]:
        state = claim.state
        if verdict.sent == outcome.SENT:
            claim.sent()
            lane.last_delivery = self._clock()
            self._probe_delay = _PROBE_FIRST
            logger.info("%s delivered for %s to %d recipients (request-id %s)",
                        claim.id, lane.mailbox, len(envelope.recipients), log.clean(state.request_id))
            return None
        state.attempts += 1
        state.last_attempt = self._clock()
        state.error = verdict.sentence
        lane.last_error, lane.last_error_time = verdict.sentence, state.last_attempt
        if verdict.sent == outcome.AMBIGUOUS:
            claim.hold()
            logger.error("%s held, it may have been sent: %s Look into Sent Items of %s, then `m365proxy queue retry` or `drop`.",
                         claim.id, verdict.sentence, lane.mailbox)
            return None
        if verdict.final(state.attempts, accepted_age(envelope, state.last_attempt)):
            return self._give_up(lane, claim, envelope, verdict.sentence)
        return self._defer(claim, verdict)

    def _defer(self, claim: Claim, verdict: Verdict) -> float:
        delay = outcome.retry_delay(claim.state.attempts, self._retry_interval, random.random(), verdict.wait)
        claim.state.due = self._clock() + delay
        claim.defer()
        logger.warning("%s deferred for %d s: %s", claim.id, delay, verdict.sentence)
        if verdict.status == "4.4.1":
            self._go_away(verdict.sentence)
        return time.monotonic() + delay

    def _give_up(self, lane: _Lane, claim: Claim, envelope: Optional[Envelope], sentence: str) -> None:
        claim.state.error = sentence
        claim.fail()
        lane.last_error, lane.last_error_time = sentence, self._clock()
        sender = log.clean(envelope.sender if envelope else "unknown")
        logger.error("%s failed for good (from %s): %s It is kept in failed/.", claim.id, sender, sentence)

    # While nothing can be sent at all.

    def _go_away(self, reason: str) -> None:
        """Leave everything queued and ask now and then, with one cheap request, whether it works again."""
        with self._lock:
            if self._stopping or self._away:
                return
            self._away = reason
            logger.warning("sending is paused: %s", reason)
            self._ring(time.monotonic() + self._probe_delay, time.monotonic(), self._ask)

    def _ask(self) -> None:
        try:
            self._probe()
        except ProxyError as error:
            with self._lock:
                self._away = str(error)
                self._probe_delay = min(self._probe_delay * 2, _PROBE_MOST)
                if not self._stopping:
                    now = time.monotonic()
                    self._timer_due = 0.0
                    self._ring(now + self._probe_delay, now, self._ask)
            return
        with self._lock:
            self._away = ""
            logger.info("sending goes on")
        self.flush_all()
