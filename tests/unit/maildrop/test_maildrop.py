"""Maildrops as a session sees them: one session at a time, sizes, what is kept on disk."""

from __future__ import annotations

import pytest
from maildrop_harness import (
    SESSION,
    Answer,
    Rig,
    changes,
    ids,
    page,
    poll,
    rig,
    user,
    whole,
)

from m365proxy.errors import InUse
from m365proxy.graph.answer import NoAnswer
from m365proxy.maildrop.ledger import Ledger
from m365proxy.maildrop.locks import FolderLocks, SessionHandle

__all__ = ["rig"]


def test_a_second_session_is_refused_until_the_first_closes(rig):
    first = rig.open(page(1))
    with pytest.raises(InUse, match="192.0.2.1"):
        rig.open(page(1))
    for name in ("INBOX", "inbox/", " Inbox "):
        with pytest.raises(InUse):
            rig.open(page(1), folder=name)
    rig.open(page(1), folder="sentitems").close()
    rig.open(page(1), mailbox="other@contoso.com").close()
    first.close()
    second = rig.open(page(1))
    first.close()  # once more: it must not let a third one in
    with pytest.raises(InUse):
        rig.open(page(1))
    second.close()


def test_a_session_that_cannot_write_its_ledger_lets_the_next_one_in(rig, monkeypatch):
    def no_memory(*_):
        raise MemoryError

    drop = rig.open(page(1))
    monkeypatch.setattr(Ledger, "save", no_memory)
    with pytest.raises(MemoryError):
        drop.close()
    assert ids(rig.open(page(1))) == [1]


def abandoned(seconds, ended, peer="192.0.2.1"):
    return SessionHandle(peer, lambda: seconds, lambda: ended.append(seconds))


def test_an_abandoned_session_gives_way_to_the_same_client(rig):
    ended = []
    first = rig.open(page(1), session=abandoned(60.5, ended))
    second = rig.open(page(1, 2), session=abandoned(0.0, ended))
    assert ended == [60.5] and ids(second) == [1, 2]
    first.close()  # which it does now, late: the second still has the mailbox
    with pytest.raises(InUse):
        rig.open(page(1))
    second.close()
    rig.open(page(1)).close()


@pytest.mark.parametrize(
    "seconds, peer, login", [(60.0, "192.0.2.1", ""), (900.0, "192.0.2.2", ""), (900.0, "192.0.2.1", "other")]
)
def test_no_other_session_gives_way(rig, seconds, peer, login):
    ended = []
    rig.open(page(1), session=abandoned(seconds, ended, peer))
    second = user()
    second.login = login or second.login
    with pytest.raises(InUse):
        rig.drops.open(second, SESSION)
    assert ended == []


def test_exact_sizes_are_fetched_once(tmp_path):
    rig = Rig(tmp_path, exact_sizes=True)
    rig.graph.free = 4
    rig.graph.values = {f"id/{number}+=": [Answer(chunks=[b"x" * (number + 8)])] for number in range(5)}
    drop = poll(rig, changes(*range(5), link="d1"))
    assert drop.wait_measured(10.0)
    assert [item.size for item in drop.messages] == [10, 11, 12, 13, 14]
    assert [len(whole(drop, index)) for index in range(5)] == [10, 11, 12, 13, 14]
    assert len(rig.graph.calls) == 5
    drop.close()
    drop = poll(rig, changes(link="d2"))
    assert drop.wait_measured(10.0) and [item.size for item in drop.messages] == [10, 11, 12, 13, 14]
    assert rig.graph.calls == []


def test_without_exact_sizes_nothing_is_fetched_at_login(rig):
    rig.graph.free = 4
    assert rig.open(page(1, 2)).wait_measured(0.0)
    assert len(rig.graph.calls) == 1


def test_one_that_broke_off_is_not_measured(tmp_path, wait_until):
    rig = Rig(tmp_path, exact_sizes=True)
    rig.graph.free = 4
    for number in (0, 2):
        rig.graph.values[f"id/{number}+="] = [Answer(chunks=[b"x" * 8])]
    broken = [Answer(chunks=[b"half", NoAnswer("broke off", True)]) for _ in range(2)]
    rig.graph.values["id/1+="] = broken + [Answer(chunks=[b"late\r\n"])]
    drop = rig.open(page(0, 1, 2))
    assert drop.wait_measured(10.0)
    drop.close()
    drop = rig.open(page(0, 1, 2))
    assert drop.wait_measured(10.0)
    assert len(rig.graph.values["id/1+="]) == 1
    assert [item.exact for item in drop.messages] == [True, False, True]
    assert whole(drop, 1) == b"late\r\n"


def test_what_is_kept_on_disk_is_bounded(tmp_path, wait_until):
    rig = Rig(tmp_path, read_ahead=1_000_000)
    first, second, huge, small = (
        letter * octets + b"\r\n" for letter, octets in zip((b"a", b"b", b"c", b"d"), (400_000, 400_000, 5_000_000, 3))
    )
    drop = rig.holding([first, [Answer(chunks=[second])] * 2, [Answer(chunks=[huge])] * 2, small])
    assert whole(drop, 0) == first and whole(drop, 1) == second
    assert len(rig.on_disk()) == 2
    assert whole(drop, 2) == huge  # alone over the limit, and kept all the same
    wait_until(lambda: len(rig.on_disk()) == 1)
    assert whole(drop, 2) == huge and len(rig.graph.calls) == 4
    assert whole(drop, 3) == small
    wait_until(lambda: len(rig.on_disk()) == 1)
    assert whole(drop, 1) == second  # fetched anew
    assert len(rig.on_disk()) == 2
    assert [item.size for item in drop.messages] == [400_002, 400_002, 5_000_002, 5]
    drop.close()
    assert rig.on_disk() == []


def test_what_an_earlier_run_left_is_removed(tmp_path):
    directory = tmp_path / "maildrop"
    directory.mkdir()
    (directory / "0011-1.copy").write_bytes(b"old")
    (directory / "note.txt").write_bytes(b"somebody's")
    assert Rig(tmp_path).on_disk() == ["note.txt"]


def test_a_client_that_comes_back_while_its_messages_are_deleted_is_told_how_long_that_takes(rig):
    rig.drops._locks = FolderLocks(lambda: rig.now, 0.0)
    drop = rig.holding([b"x"] * 100)
    batch = rig.graph.batch
    said = []

    def slowly(mailbox, requests):
        with pytest.raises(InUse) as caught:
            rig.drops.open(user(), SESSION)
        said.append(str(caught.value).partition(" deleting ")[2])
        rig.now += 2.0
        return batch(mailbox, requests)

    rig.graph.batch = slowly
    assert drop.delete(list(range(100))) == 0
    assert said == [
        "100 messages; try again later.",
        "80 messages; try again in about 8 seconds.",
        "60 messages; try again in about 6 seconds.",
        "40 messages; try again in about 4 seconds.",
        "20 messages; try again in about 2 seconds.",
    ]
