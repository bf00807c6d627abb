"""UIDLs and sizes of messages."""

from __future__ import annotations

import hashlib

from maildrop_harness import (
    changes,
    page,
    poll,
    refusal,
    rig,
    whole,
)

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
