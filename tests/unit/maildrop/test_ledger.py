"""What is remembered of a folder over sessions."""

from __future__ import annotations

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


@pytest.mark.parametrize("content", [b"", b"junk", b"[]", b"{}", b'{"format":1,"messages":[[1]]}', b'{"format":9}'])
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
