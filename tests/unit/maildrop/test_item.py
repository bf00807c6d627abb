"""UIDLs and sizes of messages."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

from maildrop_harness import (
    changes,
    page,
    poll,
    refusal,
    rig,
    whole,
)

from m365proxy.maildrop.item import Item, Snapshot
from m365proxy.maildrop.table import Table

__all__ = ["rig"]


def test_uidls_are_hashes_of_the_ids(rig):
    item = rig.open(page(7)).messages[0]
    assert item.uidl == hashlib.sha256(b"id/7+=").hexdigest()[:40]


def test_the_size_of_a_text_in_a_messages_place_is_remembered_by_this_run_only(rig):
    drop = poll(rig, changes(0, link="d1"))
    rig.graph.values["id/0+="] = [refusal(500, "ErrorCorruptData")]
    text = whole(drop, 0)
    assert drop.messages[0].size == len(text)
    drop.close()
    drop = poll(rig, changes(link="d2"))
    assert [item.size for item in drop.messages] == [len(text)]
    drop.close()
    rig.restart()
    assert [item.size for item in poll(rig, changes(link="d3")).messages] == [1370]


def test_a_message_is_doubtful_until_it_was_given_out_whole(rig):
    drop = rig.holding([b"whole\r\n"])
    message = drop.retrieve(0)
    assert message.wait_ready(10.0) and drop.messages[0].doubtful
    assert b"".join(message.chunks(lambda: None)) == b"whole\r\n" and not drop.messages[0].doubtful


def folder():
    table = Table()
    table.extend("abcd", (1, 2, 3, 4), (10, 0, 30, 40), (0, 0, 33, 0))
    return table


def test_items_are_places_in_their_snapshot():
    snapshot = Snapshot(folder())
    assert [(item.id, item.size, item.exact) for item in snapshot] == [
        ("a", 10, False),
        ("b", 4096, False),  # Graph did not say
        ("c", 33, True),
        ("d", 40, False),
    ]
    snapshot[1].seen = True
    assert [item.seen for item in snapshot] == [False, True, False, False]
    assert snapshot[1] == snapshot[1] != snapshot[2] and len({*snapshot, *snapshot}) == 4
    assert snapshot[1] != Snapshot(folder())[1]
    assert [item.id for item in snapshot[-2:]] == ["c", "d"]
    assert snapshot.octets == 10 + 4096 + 33 + 40


def test_what_is_left_out_is_not_shown_and_not_forgotten():
    snapshot = Snapshot(folder(), {"b", "c"})
    assert [item.id for item in snapshot] == ["a", "d"] and len(snapshot) == 2 and snapshot[1].id == "d"
    assert snapshot.octets == 10 + 40
    assert snapshot.learnt(()) == folder()


def test_what_a_session_learnt():
    table = folder()
    snapshot = Snapshot(table)
    for index, size in ((0, 11), (3, 44)):
        snapshot[index].set_size(SimpleNamespace(size=size, substitute=False))
    snapshot[2].become_text(900)
    learnt = snapshot.learnt({Item(snapshot, 0)})
    assert learnt.ids == ["b", "c", "d"] and list(learnt.exact) == [0, 0, 44]
    assert table == folder()
