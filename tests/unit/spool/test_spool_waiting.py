"""How many messages wait: counted now and then, kept up in between, and what is refused for it."""

import pytest

from m365proxy.errors import Temporary
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import Spool
from m365proxy.spool.state import Place

ENVELOPE = Envelope("a@contoso.com", "a@contoso.com", ("x@example.org",))


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def spool(tmp_path, clock):
    made = Spool(str(tmp_path / "queue"), max_waiting=3, monotonic=clock)
    made.make()
    return made


def put(spool, kind="message"):
    incoming = spool.put(ENVELOPE._replace(kind=kind))
    incoming.write(b"x")
    return incoming.commit()


def test_above_the_limit_new_mail_is_put_off_and_our_reports_are_not(spool):
    ids = [put(spool) for _ in range(3)]
    with pytest.raises(Temporary, match="queue.max_waiting"):
        spool.put(ENVELOPE)
    put(spool, "report")
    for _ in range(2):
        claim = spool.claim(ids.pop())
        claim.mark_posting()
        claim.remove_sent()
    put(spool)


@pytest.mark.parametrize(
    "end,counts",
    [("remove_sent", 0), ("fail", 0), ("hold", 0), ("defer", 1), ("release", 1), ("mark_posting", 1)],
)
def test_every_step_is_counted(spool, end, counts):
    claim = spool.claim(put(spool))
    if end in ("remove_sent", "hold"):
        claim.mark_posting()
    getattr(claim, end)()
    assert spool.waiting() == counts


@pytest.mark.parametrize("end", ["fail", "hold"])
def test_retry_and_drop_are_counted(spool, end):
    id = put(spool)
    claim = spool.claim(id)
    getattr(claim, end)()
    spool.requeue(spool.find(id))
    assert spool.waiting() == 1
    spool.requeue(spool.find(id))  # one that waits already
    assert spool.waiting() == 1
    spool.drop(spool.find(id))
    assert spool.waiting() == 0


def test_one_that_was_not_accepted_is_not_counted(spool):
    incoming = spool.put(ENVELOPE)
    incoming.write(b"x")
    incoming.abort()
    assert spool.waiting() == 0


def test_what_commands_do_beside_us_is_seen_within_a_minute(spool, clock):
    ids = [put(spool) for _ in range(3)]
    beside = Spool(spool.directory)
    for id in ids:
        beside.drop(beside.find(id))
    with pytest.raises(Temporary):
        spool.put(ENVELOPE)
    clock.now += 60.0
    put(spool)
    assert spool.waiting() == 1


def test_the_queue_of_an_earlier_run_counts(spool):
    for _ in range(3):
        put(spool)
    with pytest.raises(Temporary):
        Spool(spool.directory, max_waiting=3).put(ENVELOPE)


def test_the_directory_is_not_listed_for_every_message(spool, monkeypatch):
    listed = []
    real = spool.entries
    monkeypatch.setattr(spool, "entries", lambda *places: (listed.append(1), real(*places))[1])
    for _ in range(3):
        put(spool)
    assert len(listed) == 1


def test_without_a_limit_nothing_is_listed(tmp_path, monkeypatch):
    spool = Spool(str(tmp_path))
    spool.make()
    monkeypatch.setattr(spool, "entries", lambda *places: pytest.fail("listed"))
    put(spool)


@pytest.mark.parametrize("action", ["requeue", "drop"])
def test_a_message_that_has_just_moved_on_stays_where_it_went(spool, action):
    id = put(spool)
    seen = spool.find(id)
    claim = spool.claim(id)
    claim.state.message_id = "<1@contoso.com>"
    claim.mark_posting()
    with pytest.raises(FileNotFoundError):
        getattr(spool, action)(seen)
    assert spool.find(id) == claim.entry and spool.state(id).message_id == "<1@contoso.com>"


def test_a_retried_failure_has_all_its_tries_again(spool):
    claim = spool.claim(put(spool))
    claim.state.attempts, claim.state.due, claim.state.error = 12, 5e9, "because"
    claim.fail()
    spool.requeue(spool.find(claim.id))
    state = spool.state(claim.id)
    assert (state.attempts, state.due, state.error) == (0, 0.0, "because")


def test_a_retry_the_disk_refuses_changes_nothing(spool, monkeypatch):
    id = put(spool)
    spool.claim(id).fail()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool, "save_state", full)
    with pytest.raises(OSError):
        spool.requeue(spool.find(id))
    assert spool.find(id).place == "failed"


def test_told_is_remembered_by_the_name(spool):
    id = put(spool)
    spool.claim(id).fail()
    spool.mark_reported([spool.find(id)])
    [entry] = Spool(spool.directory).entries(Place.FAILED)
    assert (entry.id, entry.place, entry.phase) == (id, "failed", "told") and spool.find(id) == entry
    assert spool.open(entry)[1].close() is None
    spool.requeue(entry)
    assert spool.find(id).place == "new"
    spool.mark_reported([entry])  # taken meanwhile
    assert [found.place for found in spool.entries()] == ["new"]
