"""The queue of another installation is taken over: killed anywhere, nothing is lost and nothing is there twice."""

import os

import pytest

from m365proxy.spool import adoption
from m365proxy.spool.adoption import Adoption
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import Spool
from m365proxy.spool.state import DraftPhase, DraftState, Phase, Place, State
from m365proxy.system import files

OWNER = "c0ffee"
STEPS = ("create", "sync_file", "sync_directory", "move", "remove", "replace")


class Killed(BaseException):
    """What no handler of the program catches."""


class Nodes:
    """A retired queue, and one that takes it over; `sent` is what the program of the latter has sent at once."""

    def __init__(self, path):
        self.source, self.target = (Spool(str(path / name / "queue")) for name in ("old", "new"))
        self.source.make()
        self.sent = []

    def put(self, where, subject="x"):
        incoming = self.source.put(Envelope("alerts@contoso.com", "alerts@contoso.com", ("somebody@example.org",)))
        incoming.write(f"Subject: {subject}\r\n\r\nx\r\n".encode())
        id = incoming.commit()
        if where == "new":
            return id
        claim = self.source.claim(id)
        claim.state = State(attempts=2, draft=DraftState(DraftPhase.READY, "alerts@contoso.com", "AAMk"))
        if where in ("held", "told"):
            claim.mark_posting() if where == "held" else None
            claim.hold() if where == "held" else claim.fail()
        elif where != "claimed":
            getattr(claim, {"waiting": "defer", "failed": "fail", "posting": "mark_posting"}[where])()
        if where == "told":
            self.source.mark_reported([self.source.find(id)])
        return id

    def adopt(self):
        # The program's own restart is no part of this: it looks at nothing but the directories.
        return Adoption(Spool(self.source.directory), Spool(self.target.directory), OWNER).run(self.send)

    def send(self, entries):
        """The program is quick: what waits is sent before the next step."""
        for entry in entries:
            if entry.place is Place.NEW:
                files_of = self.target.path(entry)
                os.unlink(files_of)
                self.sent.append(entry.id)

    def start(self):
        """The program finds what stands in its queue, whoever was to tell it."""
        self.send(list(self.target.entries(Place.NEW)))

    def present(self):
        """Ids in the queues or sent, each as often as it is there."""
        found = [entry.id for spool in (self.source, self.target) for entry in spool.entries()]
        return sorted(found + self.sent)


ALL = ("new", "waiting", "claimed", "posting", "held", "failed", "told")


@pytest.fixture
def nodes(tmp_path):
    return Nodes(tmp_path)


def places(spool):
    return {entry.id: (entry.place, entry.phase) for entry in spool.entries()}


def test_each_message_comes_in_the_state_it_was_in(nodes):
    ids = {where: nodes.put(where) for where in ALL}
    nodes.send = lambda entries: None
    assert nodes.adopt() == (len(ALL), 0)
    assert places(nodes.source) == {}
    assert places(nodes.target) == {
        ids["new"]: (Place.NEW, Phase.WAITING),
        ids["waiting"]: (Place.NEW, Phase.WAITING),
        ids["claimed"]: (Place.NEW, Phase.WAITING),
        ids["posting"]: (Place.CUR, Phase.POSTING),
        ids["held"]: (Place.CUR, Phase.HELD),
        ids["failed"]: (Place.FAILED, Phase.WAITING),
        ids["told"]: (Place.FAILED, Phase.REPORTED),
    }
    assert nodes.target.state(ids["new"]) is None
    owners = {where: nodes.target.state(ids[where]).owner for where in ALL[1:]}
    assert set(owners.values()) == {OWNER}
    assert nodes.target.state(ids["posting"]).draft.id == "AAMk" and nodes.target.state(ids["claimed"]).interrupted
    assert not os.listdir(os.path.join(nodes.target.directory, "adopting"))


def test_what_may_have_been_sent_comes_first(nodes):
    for where in reversed(ALL):
        nodes.put(where)
    order = []
    nodes.send = lambda entries: order.extend(entry.phase for entry in entries)
    nodes.adopt()
    assert order[:2] == [Phase.POSTING, Phase.HELD] and order[-1] is Phase.REPORTED


def test_once_more_is_no_harm_and_an_owner_stays(nodes):
    id = nodes.put("posting")
    entry = next(nodes.source.entries())
    state = nodes.source.state(id)
    state.owner = "first"
    nodes.source.save_state(entry.id, state)
    assert nodes.adopt() == (1, 0)
    assert nodes.adopt() == (0, 0)
    assert nodes.target.state(id).owner == "first"


def test_a_message_that_cannot_be_read_keeps_no_other(nodes, monkeypatch):
    bad, good = nodes.put("new"), nodes.put("new")
    open_shared = files.open_shared

    def failing(path):
        if os.path.basename(path) == bad:
            raise OSError(5, "Input/output error", path)
        return open_shared(path)

    monkeypatch.setattr(files, "open_shared", failing)
    assert nodes.adopt() == (1, 1)
    assert nodes.sent == [good] and list(places(nodes.source)) == [bad]
    monkeypatch.setattr(files, "open_shared", open_shared)
    assert nodes.adopt() == (1, 0) and nodes.present() == sorted([bad, good])


def steps_of(monkeypatch, nodes, kill_at=None, before=True):
    """Run it, killed at a step; how many steps it did."""
    count = 0

    def wrapped(function):
        def step(*values, **more):
            nonlocal count
            count += 1
            if count == kill_at and before:
                raise Killed
            result = function(*values, **more)
            if count == kill_at:
                if hasattr(result, "close"):
                    result.close()  # the system closes what a process had open
                raise Killed
            return result

        return step

    with monkeypatch.context() as patched:
        for name in STEPS:
            patched.setattr(files, name, wrapped(getattr(files, name)))
        try:
            nodes.adopt()
        except Killed:
            pass
    return count


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_killed_at_every_step_nothing_is_lost_or_doubled(tmp_path, monkeypatch, before):
    monkeypatch.setattr(adoption, "_BATCH", 2)
    (tmp_path / "undisturbed").mkdir()
    undisturbed = Nodes(tmp_path / "undisturbed")
    for where in ALL:
        undisturbed.put(where)
    total = steps_of(monkeypatch, undisturbed)
    assert total > 40
    for kill_at in range(1, total + 1):
        nodes = Nodes(tmp_path / str(kill_at))
        ids = sorted(nodes.put(where) for where in ALL)
        for step in (kill_at, kill_at // 2 + 1):  # the next one, too
            steps_of(monkeypatch, nodes, step, before)
            nodes.start()
        nodes.adopt()
        assert nodes.present() == ids, f"killed at step {kill_at}"
        assert places(nodes.source) == {}
        for entry in nodes.target.entries(Place.CUR):
            assert nodes.target.state(entry.id).owner == OWNER
