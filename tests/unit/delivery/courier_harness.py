"""A courier with a fake Graph and a fake delivery over a real spool."""

import threading
import time

from waiting import PATIENCE, wait_until

from m365proxy.delivery.courier import Courier
from m365proxy.delivery.outcome import Outcome, Then, Verdict
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import Spool
from m365proxy.spool.state import Place

SENT = Verdict(Outcome.SENT, Then.PERMANENT, "")
LATER = Verdict(Outcome.NOT_SENT, Then.TRANSIENT, "later", "4.4.5")
NEVER = Verdict(Outcome.NOT_SENT, Then.PERMANENT, "never", "5.1.3")
WHO_KNOWS = Verdict(Outcome.AMBIGUOUS, Then.TRANSIENT, "who knows", "4.4.0")
HOLD = Verdict(Outcome.AMBIGUOUS, Then.PERMANENT, "nobody knows", "4.4.0")
LOOK_AGAIN = Verdict(Outcome.AMBIGUOUS, Then.TRANSIENT, "who knows", "4.4.0", 0.01)
OFFLINE = Verdict(Outcome.NOT_SENT, Then.TRANSIENT, "no route", "4.4.1")


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "courier"]


class FakeGraph:
    user = "relay@contoso.com"
    host = "graph.test"
    skew = 0.0

    def __init__(self):
        self.holds = {}

    def now(self):
        return time.time()

    def throttled_for(self, mailbox):
        return max(0.0, self.holds.get(mailbox, 0.0) - time.monotonic())


class FakeDelivery:
    """Answers each attempt with what `say` gives for its subject; counts how many go on at once."""

    def __init__(self, say=lambda body: SENT):
        self.say = say
        self.log = []
        self.looked = []
        self.found = []
        self.dropped = []
        self.now = {}
        self.most = {}
        self.gate = None
        self.lock = threading.Lock()

    def first_look(self):
        return 0.01

    def drop_draft(self, claim):
        self.dropped.append(claim.id)

    def look(self, claim, envelope):
        self.looked.append(claim.id)
        claim.state.looks += 1
        return self.found.pop(0) if self.found else HOLD

    def deliver(self, claim, envelope, file):
        box = envelope.mailbox
        with self.lock:
            self.now[box] = self.now.get(box, 0) + 1
            self.most[box] = max(self.most.get(box, 0), self.now[box])
        try:
            if self.gate is not None:
                assert self.gate(box)
            body = file.read()
            claim.mark_posting()
            verdict = self.say(body)
            if isinstance(verdict, Exception):
                claim.unpost()
                raise verdict
            return verdict
        finally:
            with self.lock:
                self.now[box] -= 1
                self.log.append((box, file and body if "body" in locals() else b""))


class Harness:
    """A courier over a real spool.  Its clocks are `ahead` and `monotonic_ahead` seconds ahead of this machine's, or
    those that are given: where nothing may be due by itself, a clock that stands still."""

    def __init__(
        self,
        path,
        delivery,
        mailboxes=("a@contoso.com", "b@contoso.com"),
        probe=lambda: None,
        interval=300.0,
        clock=None,
        monotonic=None,
        **more,
    ):
        self.spool = Spool(str(path / "queue"))
        self.spool.make()
        self.graph = FakeGraph()
        self.delivery = delivery
        self.ahead = self.monotonic_ahead = 0.0  # seconds
        self.courier = Courier(
            self.spool,
            self.graph,
            delivery,
            list(mailboxes),
            retry_interval=interval,
            probe=probe,
            clock=clock or (lambda: time.time() + self.ahead),
            monotonic=monotonic or (lambda: time.monotonic() + self.monotonic_ahead),
            **more,
        )

    def put(self, body=b"x", mailbox="a@contoso.com"):
        incoming = self.spool.put(Envelope(mailbox, mailbox, ("x@example.org",)), self.courier.add)
        incoming.write(body)
        return incoming.commit()

    def settle(self, places=()):
        """Wait until the messages are in these places, and no worker has anything left to do with them."""
        wait_until(lambda: not workers() and self.places() == sorted(places) and not workers())

    def places(self):
        """Where the messages are; while workers move them, `settle` is for that."""
        # new/ twice: a message that moves between two listings must not be missed
        found = {entry.id: entry for entry in self.spool.entries(Place.NEW, Place.CUR, Place.FAILED, Place.NEW)}
        return sorted((entry.place, entry.phase) for entry in found.values())


def harnesses(path):
    """For a fixture: a function that makes the harness; all are stopped in the end."""
    made = []

    def make(*args, **more):
        made.append(Harness(path, *args, **more))
        return made[-1]

    yield make
    for one in made:
        assert one.courier.stop(PATIENCE)
    wait_until(lambda: not workers())  # the next test looks for its own
