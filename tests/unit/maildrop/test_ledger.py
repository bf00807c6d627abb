"""What is remembered of a folder over sessions."""

from __future__ import annotations

import tracemalloc

import pytest
from maildrop_harness import (
    Answer,
    changes,
    ids,
    poll,
    refusal,
    rig,
    whole,
)

from m365proxy.maildrop import ledger
from m365proxy.maildrop.table import Table
from m365proxy.system import files

__all__ = ["rig"]


def test_an_unchanged_ledger_is_not_written_again(rig, monkeypatch):
    """Flash memory wears out."""
    written = []
    replace = files.replace
    monkeypatch.setattr(files, "replace", lambda *all, **more: written.append(1) or replace(*all, **more))
    poll(rig, changes(1, 2, link="d1")).close()
    poll(rig, changes(link="d2")).close()
    assert len(written) == 1


def test_a_folder_too_large_for_its_ledger_is_not_written_at_each_poll(rig, monkeypatch):
    monkeypatch.setattr(ledger, "_MOST", 3)
    written = []
    replace = files.replace
    monkeypatch.setattr(files, "replace", lambda *all, **more: written.append(1) or replace(*all, **more))
    for number in range(3):
        drop = poll(rig, changes(1, 2, 3, 4, 5, link=f"d{number}"))
        assert ids(drop) == [1, 2, 3, 4, 5]
        assert [path for path, _ in rig.graph.asked] == ["/mailFolders/inbox/messages/delta"]
        drop.close()
    assert len(written) == 1


HEAD = b'{"format":2,"written":1,"link":"d1","messages":1}\n'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        b"[]",
        b"{}",
        b'{"format":9}',
        b'{"format":1,"messages":[["id/1+=","",5,0]],"written":1,"link":"d1"}',
        HEAD,
        HEAD + b'[["id/1+="],[1],[5]]\n',
        HEAD + b'[["id/1+="],[1],[5],[0,0]]\n',
        HEAD + b'[["id/1+="],[1],["5"],[0]]\n',
        HEAD + b"[[1],[1],[5],[0]]\n",
        HEAD + b'[["id/1+="],[1],[5],[0]]\n' * 2,
        HEAD + b'[["id/1+="],[1],[5],[0',
        HEAD + b'[["id/1+="],[1],[1e30],[0]]\n',
    ],
)
def test_a_ledger_that_cannot_be_read_is_as_none(rig, content):
    poll(rig, changes(1, link="d1")).close()
    (path,) = rig.path.glob("*.json")
    path.write_bytes(content)
    assert ids(poll(rig, changes(1, 2, link="d2"))) == [1, 2]
    assert rig.graph.asked == [("/mailFolders/inbox/messages/delta", 1000)]


def test_ledgers_of_mailboxes_folders_and_accounts_are_apart(rig):
    poll(rig, changes(1, link="d1")).close()
    for more in ({"mailbox": "other@contoso.com"}, {"folder": "sentitems"}):
        poll(rig, changes(2, link="d2"), **more).close()
        assert rig.graph.asked[0][0].startswith("/mailFolders/")
    rig.graph.user = "other@contoso.com"  # whose /me is another mailbox
    poll(rig, changes(3, link="d3")).close()
    assert rig.graph.asked[0][0].startswith("/mailFolders/")


def test_sizes_are_remembered_over_sessions_and_full_listings(rig, wait_until):
    drop = poll(rig, changes(0, 1, link="d1"))
    rig.graph.values["id/0+="] = [Answer(chunks=[b"x" * 500])]
    assert len(whole(drop, 0)) == 502
    drop.close()
    rig.restart()
    assert [item.size for item in poll(rig, changes(link="d2")).messages] == [502, 1370]
    rig.restart()
    drop = poll(rig, refusal(410), changes(0, 1, 2, link="d3"))
    assert [item.size for item in drop.messages] == [502, 1370, 1370]


def test_a_large_ledger_is_written_in_lines_and_read_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "_AT_ONCE", 3)
    messages = Table()
    messages.extend((f"id{number}" for number in range(10)), range(10), range(100, 110), (0, 7) * 5)
    ledger.Ledger(str(tmp_path), "k").save(messages, "link")
    (path,) = tmp_path.iterdir()
    assert len(path.read_bytes().splitlines()) == 1 + 4
    again = ledger.Ledger(str(tmp_path), "k")
    assert again.messages == messages and again.link == "link"


def test_a_ledger_takes_little_memory_to_read_and_to_write(tmp_path):
    """What is read or written is never there as a whole, in Python's objects, beside the messages themselves."""
    count = 10_000
    messages = Table()
    numbers = range(1_700_000_000, 1_700_000_000 + count)
    messages.extend((f"{number:072}" for number in numbers), numbers, numbers, numbers)
    book = ledger.Ledger(str(tmp_path), "k")
    tracemalloc.start()
    try:
        book.save(messages, "link")
        written = tracemalloc.get_traced_memory()[1] / count
        tracemalloc.stop()
        tracemalloc.start()
        again = ledger.Ledger(str(tmp_path), "k")
        read = tracemalloc.get_traced_memory()[1] / count
    finally:
        tracemalloc.stop()
    assert len(again.messages) == count
    assert written < 250 and read < 250, (written, read)
