"""`queue`: what is listed and shown, and what retry and drop do with messages in each state."""

import json
import os
import time

import pytest

from m365proxy.account import spool_of
from m365proxy.admin import queue
from m365proxy.errors import InUse, UsageError
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import Spool
from m365proxy.spool.state import DraftPhase, DraftState, Phase, Place, State
from m365proxy.system import events, files

ENVELOPE = Envelope(
    "scanner@contoso.com", "scanner@contoso.com", ("a@contoso.com", "b@example.org"), "192.0.2.7", "ups"
)


@pytest.fixture
def spool(config):
    made = spool_of(config)
    made.make()
    return made


def put(spool):
    incoming = spool.put(ENVELOPE)
    incoming.write(b"Subject: x\r\nX-Y: z\r\n\r\nhello\r\n")
    return incoming.commit()


def held(spool):
    claim = spool.claim(put(spool))
    claim.mark_posting()
    claim.hold()
    return claim.id


@pytest.fixture
def running(config):
    """The program runs: its lock is taken."""
    lock = files.Lock(os.path.join(config.state_dir, "lock"))
    lock.acquire()
    yield
    lock.release()


def asked(config):
    """What the running program is asked to do."""
    directory = os.path.join(config.state_dir, "control")
    return sorted(os.listdir(directory)) if os.path.isdir(directory) else []


def states(config, capsys):
    queue.list_messages(config, as_json=True)
    return [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("as_json, said", [(False, "The queue is empty.\n"), (True, "")])
def test_without_a_queue_the_list_is_empty(config, capsys, as_json, said):
    queue.list_messages(config, as_json)
    assert capsys.readouterr().out == said


def test_the_list_has_the_state_of_each(config, spool, capsys):
    put(spool)
    spool.claim(put(spool))
    held(spool)
    spool.claim(put(spool)).fail()
    assert sorted(states(config, capsys)) == ["failed", "held", "sending", "waiting"]


@pytest.mark.parametrize("id", ["", "none", "../new/x", "a\nb"])
@pytest.mark.parametrize("action", [queue.show, queue.retry, queue.drop])
def test_what_is_no_message(config, spool, action, id):
    with pytest.raises(UsageError, match="There is no message"):
        action(config, id)


def test_retry_of_a_waiting_message_is_reported_to_the_running_program(config, spool, running, capsys):
    id = put(spool)
    spool.save_state(id, State(due=time.time() + 300))
    queue.retry(config, id)
    assert capsys.readouterr().out == f"{id} will be tried again now.\n"
    assert asked(config) == [f"queued,{id}"]
    assert spool.state(id).due <= time.time()


def test_retry_of_a_held_message_warns(config, spool, capsys):
    id = held(spool)
    queue.retry(config, id)
    said = capsys.readouterr().out
    assert "then it arrives twice" in said and "not running" in said
    assert spool.find(id).place is Place.NEW and asked(config) == []


def test_retry_all_leaves_held_messages(config, spool, capsys):
    later, failed, doubtful = put(spool), spool.claim(put(spool)), held(spool)
    spool.save_state(later, State(due=time.time() + 300))
    failed.fail()
    queue.retry(config, "all")
    said = capsys.readouterr().out
    assert said.startswith(
        "2 waiting or failed messages will be tried again now.\n1 held message is left as it is, because it may"
    )
    assert spool.find(doubtful).phase is Phase.HELD and spool.find(failed.id).place is Place.NEW


@pytest.mark.parametrize("word, event", [("retry", "retried"), ("drop", "dropped")])
def test_a_disk_that_fails_before_the_last_one_forgets_none_before_it(config, spool, running, monkeypatch, word, event):
    for _ in range(3):
        spool.claim(put(spool)).fail()
    done, name = [], "requeue" if word == "retry" else "drop"
    real = getattr(Spool, name)

    def failing(spool, entry):
        if len(done) == 2:
            raise OSError(28, "No space left on device")
        real(spool, entry)
        done.append(entry.id)

    monkeypatch.setattr(Spool, name, failing)
    with pytest.raises(OSError):
        queue.retry(config, "all") if word == "retry" else queue.drop(config, "failed")
    told = [events.parse(line) for line in events.lines(os.path.join(config.state_dir, "events"))]
    assert [(one["event"], one["id"]) for one in told] == [(event, id) for id in done]
    assert asked(config) == (sorted(f"queued,{id}" for id in done) if word == "retry" else [])


def test_retry_all_with_nothing_to_do(config, capsys):
    queue.retry(config, "all")
    assert capsys.readouterr().out.startswith("No message waits for a later attempt.\n")


@pytest.mark.parametrize("action", [queue.retry, queue.drop])
def test_what_is_being_sent_is_left_alone(config, spool, running, action):
    claim = spool.claim(put(spool))
    with pytest.raises(InUse, match="is being sent right now"):
        action(config, claim.id)
    assert spool.find(claim.id).phase is Phase.CLAIMED


def test_drop_says_what_may_remain(config, spool, capsys):
    id = held(spool)
    spool.save_state(id, State(draft=DraftState(DraftPhase.READY, "scanner@contoso.com", "AAA=")))
    queue.drop(config, id)
    assert capsys.readouterr().out.splitlines() == [
        f"{id} is deleted.",
        "It may have been sent nevertheless: look in Sent Items of its mailbox.",
        "A draft of it may remain in Drafts of scanner@contoso.com.",
    ]
    assert spool.find(id) is None


def test_a_message_that_changes_again_and_again(config, spool, monkeypatch):
    id = put(spool)

    def gone(entry):
        raise FileNotFoundError

    monkeypatch.setattr("m365proxy.spool.spool.Spool.drop", lambda self, entry: gone(entry))
    with pytest.raises(InUse, match="has just changed its state"):
        queue.drop(config, id)


@pytest.mark.parametrize("command", [queue.show, queue.retry, queue.drop])
def test_the_beginning_of_an_id_is_enough(config, spool, capsys, command):
    id = put(spool)
    assert command(config, id[:20]) is None
    assert id in capsys.readouterr().out


@pytest.mark.parametrize("command", [queue.show, queue.retry, queue.drop])
@pytest.mark.parametrize("length", [4, 14])
def test_less_than_date_and_time_is_no_beginning(config, spool, command, length):
    id = put(spool)
    with pytest.raises(UsageError, match="There is no message"):
        command(config, id[:length])
    assert spool.find(id) is not None


def test_the_middle_of_an_id_is_no_beginning(config, spool):
    id = put(spool)
    with pytest.raises(UsageError, match="There is no message"):
        queue.drop(config, id[1:30])
    assert spool.find(id) is not None


def test_a_beginning_that_several_have_names_them(config, spool, monkeypatch):
    monkeypatch.setattr(spool, "_clock", lambda: 1796000000.0)
    ids = sorted(put(spool) for _ in range(7))
    with pytest.raises(UsageError) as refused:
        queue.drop(config, ids[0][:16])
    assert str(refused.value).startswith("7 messages have an ID that begins so: " + ", ".join(ids[:5]) + " ...")
    assert len(list(spool.entries())) == 7


def test_drop_failed_leaves_everything_else(config, spool, capsys):
    kept = [put(spool), held(spool)]
    reported, failed = (spool.claim(put(spool)) for _ in range(2))
    for claim in (reported, failed):
        claim.fail()
    spool.mark_reported([spool.find(reported.id)])
    queue.drop(config, "failed")
    assert capsys.readouterr().out == "2 failed messages are deleted.\n"
    assert sorted(entry.id for entry in spool.entries()) == sorted(kept)
    queue.drop(config, "failed")
    assert capsys.readouterr().out == "No message has failed.\n"


def test_drop_failed_before_the_first_start(config, capsys):
    queue.drop(config, "failed")
    assert capsys.readouterr().out == "No message has failed.\n"


def test_drop_failed_while_one_is_reported_and_one_retried(config, spool, monkeypatch, capsys):
    reported, retried = (spool.claim(put(spool)) for _ in range(2))
    for claim in (reported, retried):
        claim.fail()
    drop = spool.drop

    def meanwhile(self, entry):
        if entry.phase is not Phase.REPORTED:
            spool.mark_reported([entry])
            if entry.id == retried.id:
                spool.requeue(spool.find(entry.id))
        drop(entry)

    monkeypatch.setattr("m365proxy.spool.spool.Spool.drop", meanwhile)
    queue.drop(config, "failed")
    assert capsys.readouterr().out == "1 failed message is deleted.\n"
    assert [(entry.id, entry.place) for entry in spool.entries()] == [(retried.id, Place.NEW)]
