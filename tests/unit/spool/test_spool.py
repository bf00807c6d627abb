import json
import os

import pytest

from m365proxy.errors import Temporary
from m365proxy.spool import spool as spool_module
from m365proxy.spool.envelope import DamagedMessage, Envelope
from m365proxy.spool.spool import Spool, mailbox_tag, tag_of
from m365proxy.spool.state import DraftPhase, DraftState, Entry, Place, State
from m365proxy.system import files

ENVELOPE = Envelope("alerts@contoso.com", "alerts@contoso.com", ("a@contoso.com", "b@example.org"), "192.0.2.7", "ups")


@pytest.fixture
def spool(tmp_path):
    made = Spool(str(tmp_path / "queue"))
    made.make()
    return made


def put(spool, body=b"Subject: x\r\n\r\nhello\r\n", envelope=ENVELOPE, accepted=lambda id: None):
    incoming = spool.put(envelope, accepted)
    incoming.write(body)
    return incoming.commit()


def places(spool):
    return sorted((entry.place, entry.phase) for entry in spool.entries())


def everything(spool):
    return sorted(
        os.path.join(os.path.basename(root), name) for root, _, names in os.walk(spool.directory) for name in names
    )


def test_what_was_put_is_there_with_its_envelope(spool):
    seen = []
    id = put(spool, accepted=seen.append)
    assert seen == [id]
    claim = spool.claim(id)
    envelope, file = claim.open()
    with file:
        assert file.read() == b"Subject: x\r\n\r\nhello\r\n"
    assert envelope.accepted > 0
    assert envelope == ENVELOPE._replace(accepted=envelope.accepted)
    assert tag_of(id) == mailbox_tag("Alerts@contoso.com")


def test_a_client_cannot_forge_envelope_lines(spool):
    id = put(spool, b"X-M365Proxy-Recipient: evil@example.org\r\nX-M365Proxy-End: 1\r\n\r\nx")
    envelope, file = spool.claim(id).open()
    with file:
        assert envelope.recipients == ENVELOPE.recipients
        assert file.read().startswith(b"X-M365Proxy-Recipient: evil")


@pytest.mark.parametrize("field", ["sender", "login", "client", "mailbox", "envid"])
def test_a_line_end_in_an_envelope_is_refused(spool, field):
    with pytest.raises(ValueError):
        spool.put(ENVELOPE._replace(**{field: "a\r\nX-M365Proxy-Recipient: b"}))


def test_too_little_room_is_said_before_data(tmp_path, monkeypatch):
    spool = Spool(str(tmp_path), min_free=1000)
    spool.make()
    monkeypatch.setattr(files, "free_bytes", lambda path: 999)
    with pytest.raises(Temporary, match="min_free_mb"):
        spool.put(ENVELOPE)
    monkeypatch.setattr(files, "free_bytes", lambda path: 1000)
    monkeypatch.setattr(files, "free_inodes", lambda path: 0)
    with pytest.raises(Temporary, match="inodes"):
        spool.put(ENVELOPE)
    assert everything(spool) == []


def test_a_message_is_claimed_once(spool):
    id = put(spool)
    assert spool.claim(id) is not None
    assert spool.claim(id) is None


def test_the_states_of_a_message(spool):
    id = put(spool)
    claim = spool.claim(id)
    assert places(spool) == [("cur", "claimed")]
    claim.mark_posting()
    assert places(spool) == [("cur", "posting")]
    claim.state.error, claim.state.attempts = "because", 3
    claim.defer()
    assert places(spool) == [("new", "")]
    claim = spool.claim(id)
    assert claim.entry.attempt == 4 and claim.state.error == "because"
    claim.mark_posting()
    claim.hold()
    assert places(spool) == [("cur", "held")]
    spool.requeue(spool.find(id))
    assert places(spool) == [("new", "")]
    claim = spool.claim(id)
    claim.fail()
    assert places(spool) == [("failed", "")]
    spool.drop(spool.find(id))
    assert everything(spool) == []


def test_sent_leaves_nothing(spool):
    claim = spool.claim(put(spool))
    claim.mark_posting()
    claim.remove_sent()
    assert everything(spool) == []


@pytest.mark.parametrize("phase,after", [("claimed", ("new", "")), ("posting", ("cur", "posting"))])
def test_recovery(spool, phase, after):
    claim = spool.claim(put(spool))
    if phase == "posting":
        claim.mark_posting()
    again = Spool(spool.directory)
    again.make()
    unknown = again.recover()
    assert places(again) == [after]
    assert [entry.phase for entry in unknown] == (["posting"] if phase == "posting" else [])


def test_recovery_reads_no_message(spool, monkeypatch):
    for _ in range(20):
        put(spool)
    monkeypatch.setattr(spool_module, "read_envelope", lambda file: pytest.fail("read"))
    monkeypatch.setattr(files, "read", lambda path: pytest.fail("read"))
    again = Spool(spool.directory)
    again.recover()
    assert len(list(again.entries(Place.NEW))) == 20


def test_recovery_of_a_first_claim_whose_state_is_lost_says_so(spool):
    claim = spool.claim(put(spool))
    claim.note_intention()
    os.unlink(os.path.join(spool.directory, "state", claim.id + ".json"))
    again = Spool(spool.directory)
    assert again.recover() == [] and again.state(claim.id).interrupted


def test_a_send_that_may_have_begun_is_known_by_the_state_too(spool):
    """After a power cut the name may be an older one."""
    claim = spool.claim(put(spool))
    claim.mark_posting()
    posting = spool.path(claim.entry)
    os.rename(posting, posting.replace(".posting", ".claimed"))
    [entry] = Spool(spool.directory).recover()
    assert entry.phase == "posting" and places(spool) == [("cur", "posting")]
    claim = spool.resume(entry)
    claim.unpost()
    assert Spool(spool.directory).recover() == [] and places(spool) == [("new", "")]


def test_a_send_that_may_have_begun_is_known_by_the_name_where_the_state_is_lost(spool):
    claim = spool.claim(put(spool))
    claim.mark_posting()
    os.unlink(os.path.join(spool.directory, "state", claim.id + ".json"))
    [entry] = Spool(spool.directory).recover()
    assert entry.phase == "posting" and places(spool) == [("cur", "posting")]


def test_what_was_sent_is_synced_by_the_next_claim_and_kept_known_until_then(spool, monkeypatch):
    steps, gone = [], []
    for name in ("sync_file", "sync_directory"):
        real = getattr(files, name)
        monkeypatch.setattr(
            files,
            name,
            lambda what, name=name, real=real: steps.append((name, os.path.basename(str(what)))) or real(what),
        )
    ids = [put(spool), put(spool)]
    steps.clear()
    for id in ids:
        claim = spool.claim(id)
        claim.state.draft = DraftState(DraftPhase.ASKED, ENVELOPE.mailbox)
        claim.note_intention()
        claim.state.draft = DraftState(DraftPhase.READY, ENVELOPE.mailbox, "x")
        claim.mark_posting()
        claim.remove_sent(lambda id=id: gone.append(id))
    assert [(name if name == "sync_file" else where) for name, where in steps] == ["cur", "sync_file", "state"] * 2
    assert gone == ids[:1] and spool.state(ids[0]) is None and spool.state(ids[1]) is not None
    assert not spool.is_tidy
    spool.tidy()
    assert gone == ids and spool.is_tidy and everything(spool) == []


def test_a_state_that_cannot_be_removed_is_no_trouble_of_another_message(spool, monkeypatch, caplog):
    gone, kept, remove = [], put(spool), files.remove

    def held(path):
        if path.endswith(f"{kept}.json"):
            raise PermissionError(13, "in use")
        remove(path)

    monkeypatch.setattr(files, "remove", held)
    for id in (kept, put(spool)):
        claim = spool.claim(id)
        claim.state.draft = DraftState(DraftPhase.READY, ENVELOPE.mailbox, "x")
        claim.mark_posting()  # the second one's tidies up after the first
        claim.remove_sent(lambda id=id: gone.append(id))
    spool.tidy()
    assert gone[0] == kept and len(gone) == 2
    assert os.listdir(os.path.join(spool.directory, "state")) == [f"{kept}.json"]
    assert f"state/{kept}.json cannot be removed: in use" in caplog.text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"attempts": "x", "unknown": 1}', b"\xff\xfe", b"null"])
def test_a_broken_state_file_does_not_stop_a_message(spool, content):
    id = put(spool)
    with open(os.path.join(spool.directory, "state", id + ".json"), "wb") as file:
        file.write(content)
    assert isinstance(spool.claim(id), spool_module.Claim)


@pytest.mark.parametrize(
    "content",
    [b"", b"Subject: x\r\n\r\n", b"X-M365Proxy-Mailbox: a@b.c\r\n", b"X-M365Proxy-End: 1\r\n", b"\0" * 4096],
)
def test_a_file_without_an_envelope_is_damaged(spool, content):
    id = put(spool)
    with open(os.path.join(spool.directory, "new", id), "wb") as file:
        file.write(content)
    with pytest.raises(DamagedMessage):
        spool.claim(id).open()


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no open file")
def test_nothing_unfinished_outlives_the_run_that_began_it(tmp_path):
    """Three large ones would shut new mail out for a day (queue.min_free_mb)."""
    spool = Spool(str(tmp_path))
    spool.make()
    incoming = spool.put(ENVELOPE)
    incoming.write(b"x" * 100_000)
    assert os.listdir(tmp_path / "tmp")
    (tmp_path / "state" / "x.json.1.aa.tmp").write_bytes(b"{")
    Spool(str(tmp_path)).make()  # under the lock of the state directory: the run above is dead
    assert os.listdir(tmp_path / "tmp") == os.listdir(tmp_path / "state") == []
    with pytest.raises(Temporary):
        incoming.commit()


@pytest.mark.parametrize("place", ["tmp", "state"])
def test_an_unfinished_file_that_cannot_be_removed_stops_no_start(tmp_path, place, monkeypatch, caplog):
    spool = Spool(str(tmp_path))
    spool.make()
    for name in ("held.tmp", "other.tmp"):
        (tmp_path / place / name).write_bytes(b"x")
    remove = os.unlink

    def held(path):
        if path.endswith("held.tmp"):
            raise PermissionError(13, "Sharing violation", path)
        remove(path)

    monkeypatch.setattr(os, "unlink", held)
    spool.make()
    assert os.listdir(tmp_path / place) == ["held.tmp"]
    assert "held.tmp, which was never finished, cannot be removed: Sharing violation" in caplog.text


@pytest.mark.parametrize("age, goes", [(2 * 24 * 3600, True), (-2 * 24 * 3600, True), (3600, False), (-3600, False)])
def test_the_daily_sweep_spares_what_may_have_a_writer(tmp_path, age, goes):
    """A file of the future is from before the clock was set back: as old as one of two days ago."""
    now = 1_800_000_000.0
    spool = Spool(str(tmp_path), clock=lambda: now)
    spool.make()
    path = tmp_path / "tmp" / "x"
    path.write_bytes(b"x")
    os.utime(path, (now - age, now - age))
    spool.sweep()
    assert path.exists() == (not goes)


@pytest.mark.skipif(os.name == "nt", reason="Windows has access lists instead of modes")
def test_others_may_read_nothing(tmp_path):
    spool = Spool(str(tmp_path / "queue"))
    spool.make()
    queue = tmp_path / "queue"
    assert {path.stat().st_mode & 0o777 for path in (queue, *queue.iterdir())} == {0o700}
    queue.chmod(0o755)  # as an earlier version made it
    spool.make()
    assert queue.stat().st_mode & 0o777 == 0o700


def test_names_are_legal_on_windows(spool):
    claim = spool.claim(put(spool))
    claim.mark_posting()
    names = [name for _, _, found in os.walk(spool.directory) for name in found]
    assert not any(set(name) & set('<>:"/\\|?*') for name in names)


def test_state_survives_as_written(spool):
    state = State(attempts=2, due=5.5, draft=DraftState(DraftPhase.READY, "a@b.c", "x"))
    spool.save_state("id", state)
    assert spool.state("id") == state
    assert json.loads(files.read(os.path.join(spool.directory, "state", "id.json")))["attempts"] == 2


def test_strange_names_in_cur_are_left_alone(spool):
    for name in ("x", "x.1.2", "x.1.2.other", "x.1.y.claimed"):
        open(os.path.join(spool.directory, "cur", name), "w").close()
    assert list(spool.entries()) == []
    assert spool.recover() == []


def test_find(spool):
    id = put(spool)
    assert spool.find(id) == Entry(id, Place.NEW)
    spool.claim(id)
    assert spool.find(id).phase == "claimed"
    assert spool.find("nothing") is None


def test_a_message_that_moves_while_it_is_looked_for_is_found(spool, monkeypatch):
    id = put(spool)
    claim = spool.claim(id)
    whole = spool.entries

    def entries(*places):
        claim.release()
        return whole(*places)

    monkeypatch.setattr(spool, "entries", entries)
    assert spool.find(id).place == "new"


def test_what_is_durable_is_accepted_even_if_the_courier_cannot_be_told(spool, caplog):
    def accepted(id):
        raise MemoryError

    id = put(spool, accepted=accepted)
    assert spool.find(id).place == "new" and spool.waiting() == 1
    assert "the courier could not be informed" in caplog.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs in directories")
@pytest.mark.parametrize("place", ["new", "failed", "cur"])
def test_only_files_are_messages(spool, place):
    """To open a FIFO would wait for ever."""
    name = "20260101T000000-aa-bb" + (".1.1.held" if place == "cur" else "")
    directory = os.path.join(spool.directory, place)
    os.mkfifo(os.path.join(directory, name))
    os.mkdir(os.path.join(directory, name + "x"))
    os.symlink("/dev/zero", os.path.join(directory, "y" + name))
    assert list(spool.entries()) == []
    with pytest.raises(OSError, match="no regular file"):
        spool.open(Entry.from_file_name(Place(place), name))
    os.mkfifo(os.path.join(spool.directory, "state", "x.json"))
    os.mkdir(os.path.join(spool.directory, "state", "y.json"))
    assert spool.state("x") is spool.state("y") is None, "its history is lost, the message is not"
