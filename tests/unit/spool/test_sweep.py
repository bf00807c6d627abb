"""The daily sweep: what goes, what stays, and that it is told."""

import logging
import os

import pytest

from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import Spool
from m365proxy.spool.state import State
from m365proxy.spool.sweep import sweep

NOW = 1_800_000_000.0
DAY = 24 * 3600.0


@pytest.fixture
def spool(tmp_path):
    made = Spool(str(tmp_path / "queue"), clock=lambda: NOW)
    made.make()
    return made


def put(spool, place="failed", age=0.0, last_attempt=0.0, told=False):
    """A message in the given place, its file `age` days old."""
    incoming = spool.put(Envelope("alerts@contoso.com", "ups@contoso.com", ("x@example.org", "y@example.org")))
    incoming.write(b"Subject: x\r\n\r\nx")
    id = incoming.commit()
    if place != "new":
        claim = spool.claim(id)
        claim.state = State(last_attempt=last_attempt)
        claim.fail() if place == "failed" else claim.mark_posting()
    if told:
        spool.mark_reported([spool.find(id)])
    os.utime(spool.path(spool.find(id)), (NOW - age * DAY,) * 2)
    return id


@pytest.mark.parametrize(
    "age,last_attempt,stays",
    [
        (1000, NOW - 89 * DAY, True),
        (1000, NOW - 91 * DAY, False),
        (0, NOW - 91 * DAY, False),
        # no clock told when it was given up: the file's own time
        (89, 0.0, True),
        (91, 0.0, False),
        (91, 3600.0, False),
        (89, 3600.0, True),
        # written in 1970 on a board without a clock: nobody knows when
        (NOW / DAY, 3600.0, True),
        # given up in the future: the clock was wrong then
        (1, NOW + 1000 * DAY, True),
        (91, NOW + 1000 * DAY, False),
    ],
)
@pytest.mark.parametrize("told", [False, True])
def test_failed_mail_is_kept_for_its_time(spool, caplog, age, last_attempt, stays, told):
    caplog.set_level(logging.INFO)
    id = put(spool, age=age, last_attempt=last_attempt, told=told)
    assert sweep(spool, 90, NOW) == (not stays)
    assert (spool.find(id) is not None) == stays and (spool.state(id) is not None) == stays
    words = (id, "alerts@contoso.com", "ups@contoso.com", "x@example.org, y@example.org", "90 days")
    assert all(word in caplog.text for word in words) != stays


def test_nothing_but_failed_mail_is_removed_however_old(spool):
    ids = [put(spool, place, age=1000) for place in ("new", "cur")]
    sweep(spool, 1, NOW)
    assert all(spool.find(id) for id in ids)


def test_while_nobody_knows_the_time_nothing_goes(spool, caplog):
    """Our own clock may be years ahead."""
    id = put(spool, age=5000)
    spool.save_state("gone", State())
    os.utime(os.path.join(spool.directory, "state", "gone.json"), (1.0, 1.0))
    assert sweep(spool, 90, None) == 0
    assert spool.find(id) and spool.state("gone")


def test_a_damaged_message_goes_too(spool, caplog):
    id = put(spool)
    path = spool.path(spool.find(id))
    with open(path, "wb") as file:
        file.write(b"garbage")
    os.utime(path, (NOW - 91 * DAY,) * 2)
    assert sweep(spool, 90, NOW) == 1 and id in caplog.text


def test_one_that_cannot_be_removed_stops_nothing(spool, monkeypatch, caplog):
    ids = [put(spool, age=91) for _ in range(3)]
    real = spool.drop

    def drop(entry):
        if entry.id == ids[1]:
            raise OSError(30, "Read-only file system")
        real(entry)

    monkeypatch.setattr(spool, "drop", drop)
    assert sweep(spool, 90, NOW) == 2
    assert [entry.id for entry in spool.entries()] == [ids[1]] and "Read-only" in caplog.text


@pytest.mark.parametrize("place", ["new", "cur", "failed", None])
@pytest.mark.parametrize("age,young", [(0.9, True), (1.1, False)])
def test_states_without_a_message_go_after_a_day(spool, place, age, young):
    id = put(spool, place) if place else "20270101T000000-aaaaaaaaaaaa-00000000"
    spool.save_state(id, State())
    path = os.path.join(spool.directory, "state", id + ".json")
    os.utime(path, (NOW - age * DAY,) * 2)
    sweep(spool, 90, NOW)
    assert os.path.exists(path) == (young or place is not None)


def test_left_over_files_of_writers_go_after_a_day(spool):
    for name, age in (("x.json.1.aa.tmp", 2), ("y.json.1.aa.tmp", 0)):
        path = os.path.join(spool.directory, "state", name)
        open(path, "w").close()
        os.utime(path, (NOW - age * DAY,) * 2)
    path = os.path.join(spool.directory, "tmp", "old")
    open(path, "w").close()
    os.utime(path, (NOW - 2 * DAY,) * 2)
    sweep(spool, 90, NOW)
    assert os.listdir(os.path.join(spool.directory, "state")) == ["y.json.1.aa.tmp"]
    assert os.listdir(os.path.join(spool.directory, "tmp")) == []


def test_a_state_whose_message_is_between_two_directories_stays(spool, monkeypatch):
    id = put(spool, "new")
    spool.save_state(id, State(attempts=3))
    os.utime(os.path.join(spool.directory, "state", id + ".json"), (NOW - 9 * DAY,) * 2)
    monkeypatch.setattr(spool, "entries", lambda *places: iter(()))
    sweep(spool, 90, NOW)
    assert spool.state(id).attempts == 3
