"""The power fails before every single step of taking and delivering mail, and the disk keeps whatever it may.

What got its 250 is there, whole; nothing is sent twice; no step that was
finished comes undone.
"""

import contextlib
import itertools
import os

import pytest
from faults.powercut import Disk, PowerCut, lay_out
from waiting import wait_until

from m365proxy.delivery import conclusions
from m365proxy.delivery.courier import Courier
from m365proxy.delivery.outcome import Outcome, Then, Verdict
from m365proxy.delivery.reporter import Reporter
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import Spool
from m365proxy.spool.state import DraftPhase, DraftState, Place

A = "alerts@contoso.com"
ENVELOPE = Envelope(A, A, ("x@example.org",))
BODY = b"Subject: x\r\n\r\n" + b"a line of text\r\n" * 20_000

SENT = Verdict(Outcome.SENT, Then.PERMANENT, "")
LATER = Verdict(Outcome.NOT_SENT, Then.TRANSIENT, "later", "4.4.5")
NEVER = Verdict(Outcome.NOT_SENT, Then.PERMANENT, "never", "5.1.3")
HOLD = Verdict(Outcome.AMBIGUOUS, Then.PERMANENT, "nobody knows", "4.4.0")


def put(spool, accepted=lambda id: None, body=BODY):
    incoming = spool.put(ENVELOPE, accepted)
    for start in range(0, len(body), 65536):
        incoming.write(body[start : start + 65536])
    return incoming.commit()


class World:
    """What recipients got; it outlives power cuts."""

    def __init__(self):
        self.sent = []


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """bench(prepare, story): every cut of story(spool, ready, world), as (what, spool after it, progress, world)."""
    numbers = itertools.count()

    def cuts(prepare, story):
        for cut_at in itertools.count():
            root = tmp_path / f"cut{next(numbers)}"
            spool = Spool(str(root))
            spool.make()
            ready = prepare(spool)
            done, world = [], World()
            with monkeypatch.context() as patch:
                disk = Disk(patch, str(root))
                disk.cut_at = cut_at
                with contextlib.suppress(PowerCut):
                    story(spool, ready, world, done.append)
                finished = not disk.off
                disk.cut()
            for what, tree in disk.outcomes():
                place = tmp_path / f"after{next(numbers)}"
                lay_out(str(place), tree)
                after = Spool(str(place))
                after.make()
                copy = World()
                copy.sent = list(world.sent)
                yield f"cut at {cut_at} of {disk.steps}: {what}", after, list(done), copy
            if finished:
                return

    return cuts


def content(spool, entry):
    envelope, file = spool.open(entry)
    with file:
        assert envelope.mailbox == A and envelope.recipients == ENVELOPE.recipients
        return file.read()


# A small message is in memory until its end.
@pytest.mark.parametrize("body", [BODY, BODY[:4000]], ids=["large", "small"])
def test_a_250_means_that_the_message_survives(bench, body):
    def story(spool, ready, world, done):
        done(put(spool, body=body))

    said = unsaid = 0
    for what, after, done, _ in bench(lambda spool: None, story):
        entries = list(after.entries())
        said, unsaid = said + bool(done), unsaid + (not done)
        assert [entry.id for entry in entries if entry.place == "new"] == [entry.id for entry in entries], what
        if done:
            assert [entry.id for entry in entries] == done, what
        for entry in entries:
            assert content(after, entry) == body, what
    assert said and unsaid > 5


def test_the_courier_is_not_told_of_what_may_vanish(bench):
    def story(spool, ready, world, done):
        put(spool, done)

    assert any(done for _, _, done, _ in bench(lambda spool: None, story))
    for what, after, done, _ in bench(lambda spool: None, story):
        assert [id for id in done if after.find(id) is None] == [], what


def finish(after, world):
    """What a start does: claimed goes back, posting is looked up in the world, new is sent."""
    for entry in after.recover():
        if entry.phase != "posting":
            continue
        claim = after.resume(entry)
        if claim.id in world.sent:
            claim.remove_sent()
        else:
            claim.defer()
    for entry in list(after.entries(Place.NEW)):
        claim = after.claim(entry.id)
        claim.mark_posting()
        world.sent.append(claim.id)
        claim.remove_sent()


def post(claim, world):
    claim.mark_posting()
    world.sent.append(claim.id)


def story_sent(spool, id, world, done):
    claim = spool.claim(id)
    post(claim, world)
    claim.remove_sent()
    done("sent")


def story_draft_sent(spool, id, world, done):
    claim = spool.claim(id)
    claim.state.draft = DraftState(DraftPhase.ASKED, A)
    claim.note_intention()
    done("asked")
    claim.state.draft = DraftState(DraftPhase.READY, A, "id")
    post(claim, world)
    done("posting")
    claim.remove_sent()
    spool.tidy()
    done("sent")


def story_two_requests(spool, id, world, done):
    """Sent as it was made, after a 429."""
    claim = spool.claim(id)
    claim.state.draft = DraftState(DraftPhase.ASKED, A)
    claim.note_intention()
    claim.state.draft = DraftState(DraftPhase.BARE, A, "id")
    claim.mark_posting()
    claim.unpost()
    claim.release()
    claim = spool.claim(id)
    assert claim.state.draft.phase is DraftPhase.BARE
    post(claim, world)
    done("posting")
    claim.remove_sent()
    spool.tidy()
    done("sent")


def story_deferred(spool, id, world, done):
    claim = spool.claim(id)
    claim.mark_posting()
    claim.state.attempts += 1
    claim.defer()
    done("deferred")
    story_sent(spool, id, world, done)


def story_refused_token(spool, id, world, done):
    claim = spool.claim(id)
    claim.mark_posting()
    claim.unpost()
    claim.release()
    story_sent(spool, id, world, done)


def story_failed(spool, id, world, done):
    claim = spool.claim(id)
    claim.mark_posting()
    claim.state.error = "never"
    claim.fail()
    done("failed")
    spool.mark_reported([spool.find(id)])
    done("told")


def story_held(spool, id, world, done):
    claim = spool.claim(id)
    post(claim, world)
    claim.hold()
    done("held")


@pytest.mark.parametrize(
    "story",
    [
        story_sent,
        story_draft_sent,
        story_two_requests,
        story_deferred,
        story_refused_token,
        story_failed,
        story_held,
    ],
)
def test_no_cut_loses_or_doubles_a_message(bench, story):
    for what, after, done, world in bench(put, story):
        assert len({entry.id for entry in after.entries()}) == len(list(after.entries())), f"twice: {what}"
        for entry in after.entries():
            assert content(after, entry) == BODY, what
        before = [(entry.place, entry.phase) for entry in after.entries()]
        if "told" in done:
            assert before == [("failed", "told")], what
        elif "failed" in done:
            assert before in ([("failed", "")], [("failed", "told")]), what
        if "failed" in done:
            assert after.state(next(after.entries()).id).error == "never", what
        if "held" in done:
            assert before == [("cur", "held")], what
        if "sent" in done:
            assert before == [], what
        elif "posting" in done and before:  # what it is looked for by is known
            [unknown] = after.recover()
            assert unknown.phase == "posting" and after.state(unknown.id).draft.id == "id", what
        elif "asked" in done and before and after.recover() == []:  # it is known that a draft may be there
            state = after.state(next(after.entries()).id)
            assert state.interrupted or state.draft, what
        finish(after, world)
        kept = [entry.place for entry in after.entries()]
        assert len(world.sent) <= 1, what
        assert len(world.sent) == 1 or kept == ["failed"], what


@pytest.mark.parametrize("where", ["failed", "held", "waiting"])
def test_retry_and_drop_survive_a_cut(bench, where):
    def prepare(spool):
        id = put(spool)
        if where != "waiting":
            claim = spool.claim(id)
            claim.mark_posting()
            claim.fail() if where == "failed" else claim.hold()
        return id

    def retry(spool, id, world, done):
        spool.requeue(spool.find(id))
        done("retried")

    def drop(spool, id, world, done):
        spool.drop(spool.find(id))
        done("dropped")

    for what, after, done, _ in bench(prepare, retry):
        after.recover()
        [entry] = after.entries()
        assert content(after, entry) == BODY, what
        assert entry.place == "new" or not done, what
    for what, after, done, _ in bench(prepare, drop):
        before = [(entry.place, entry.phase) for entry in after.entries()]
        assert before in ([], {"failed": [("failed", "")], "held": [("cur", "held")], "waiting": [("new", "")]}[where])
        assert before == [] or not done, what


class Graph:
    def throttled_for(self, mailbox):
        return 0.0


class Delivery:
    """Graph's answers in order, the last one for ever; looks tell the truth."""

    def __init__(self, world, *verdicts):
        self.world, self.verdicts = world, list(verdicts)

    def deliver(self, claim, envelope, file):
        claim.mark_posting()
        verdict = self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]
        if verdict.outcome is not Outcome.NOT_SENT:
            self.world.sent.append(claim.id)
        return verdict

    def look(self, claim, envelope):
        return SENT if claim.id in self.world.sent else LATER

    def first_look(self):
        return 0.001

    def drop_draft(self, claim):
        pass


def courier_of(spool, delivery):
    return Courier(spool, Graph(), delivery, [A], retry_interval=0.001, probe=lambda: None)


def quiet(courier):
    """Whether the courier has nothing to do, now or later."""
    lane = courier.status()["mailboxes"][A]
    return not lane["waiting"] and not lane["sending"]


# pytest takes the end of a thread by PowerCut for a fault; threading itself does not.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    "verdicts,times",
    [([SENT], 1), ([LATER, SENT], 1), ([NEVER], 0), ([HOLD], 1)],
    ids=["sent", "later", "never", "hold"],
)
def test_the_real_courier_and_reporter(tmp_path, monkeypatch, verdicts, times):
    monkeypatch.setattr(conclusions, "_REMOVE_AGAIN", 0.001)
    for cut_at in itertools.count():
        root = tmp_path / f"cut{cut_at}"
        spool = Spool(str(root))
        spool.make()
        id = put(spool)
        world = World()
        with monkeypatch.context() as patch:
            disk = Disk(patch, str(root))
            disk.cut_at = cut_at
            courier = courier_of(spool, Delivery(world, *verdicts))
            with contextlib.suppress(PowerCut):
                courier.recover()
                courier.start()
            wait_until(lambda d=disk, c=courier: d.off or (quiet(c) and c.stop(0)))
            if not disk.off:
                with contextlib.suppress(PowerCut):
                    Reporter(spool, lambda id: None, [A]).work()
            finished = not disk.off
            disk.cut()
            courier.stop(0)
        for number, (what, tree) in enumerate(disk.outcomes()):
            place = tmp_path / f"after{cut_at}-{number}"
            lay_out(str(place), tree)
            after, later = Spool(str(place)), World()
            after.make()
            later.sent = list(world.sent)
            Reporter(after, lambda id: None, [A]).work()
            again = courier_of(after, Delivery(later, *verdicts[-1:]))
            again.recover()
            again.start()
            wait_until(lambda again=again: quiet(again))
            assert again.stop(10)
            where = f"cut at {cut_at}: {what}"
            assert later.sent.count(id) <= 1, where
            assert later.sent.count(id) == times and (times or after.find(id).place == "failed"), where
        if finished:
            break
    assert cut_at > 5 and os.listdir(tmp_path)
