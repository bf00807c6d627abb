"""The text in the place of a message that Exchange does not give out, and how a client gets past it."""

from __future__ import annotations

import pytest
from maildrop_harness import (
    Answer,
    page,
    refusal,
    requested,
    rig,
    whole,
)

from m365proxy.errors import Permanent, Temporary
from m365proxy.graph.answer import NoAnswer

__all__ = ["rig"]


def test_a_damaged_item_becomes_a_text(rig):
    drop = rig.holding([[refusal(500, "ErrorCorruptData")]])
    raw = whole(drop, 0)
    header, _, body = raw.partition(b"\r\n\r\n")
    assert b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\n" in header + b"\r\n"
    assert b"To: scanner@contoso.com" in header
    assert b"ErrorCorruptData" in body
    assert raw.count(b"\n") == raw.count(b"\r\n")
    assert drop.messages[0].size == len(raw)
    assert whole(drop, 0) == raw
    assert len(rig.graph.calls) == 2


def poll_until_trouble(rig, drop, bad):
    """What a client gets that fetches in order and stops at trouble; `bad` makes the answers of message 1."""
    got = {}
    for item in drop.messages:
        rig.graph.values[item.id] = [Answer(chunks=[b"good\r\n"])]
    rig.graph.values["id/1+="] = bad()
    for index, item in enumerate(drop.messages):
        try:
            got[item.id] = whole(drop, index)
        except (Permanent, Temporary):
            break
    drop.close()
    return got


@pytest.mark.parametrize(
    "bad, words",
    [
        (lambda: [refusal(500, "ErrorInternalServerError")] * 2, b"HTTP 500 ErrorInternalServerError"),
        (lambda: [refusal(504, "UnknownError")] * 2, b"HTTP 504 UnknownError"),
        (lambda: [refusal(403, "ErrorAccessDenied")], b"HTTP 403 ErrorAccessDenied"),
        (lambda: [refusal(400, "ErrorInvalidRequest")], b"HTTP 400 ErrorInvalidRequest"),
        (lambda: [refusal(405)], b"HTTP 405 without a reason"),
        (lambda: [Answer(chunks=[]), Answer(chunks=[])], b"HTTP 200 without a reason"),
    ],
    ids=["500", "504", "403", "400", "405", "empty"],
)
def test_a_client_that_stops_at_trouble_gets_past_an_unreadable_message(rig, bad, words):
    rounds = []
    for _ in range(4):
        rounds.append(poll_until_trouble(rig, rig.open(page(0, 1, 2), delete="permanent"), bad))
        rig.now += 100
    good, after, text = "id/0+=", "id/2+=", "id/1+="
    # It fails twice, is left out once, and then a text stands there.
    assert [set(got) for got in rounds] == [{good}, {good}, {good, after}, {good, text, after}]
    assert words in rounds[3][text] and b"request-id r" in rounds[3][text]
    drop = rig.open(page(0, 1, 2), delete="permanent")
    assert drop.messages[1].size == len(rounds[3][text])
    assert drop.delete([1]) == 0
    assert requested(rig.graph) == [("POST", "id/1+=/move")]


@pytest.mark.parametrize(
    "bad",
    [
        lambda: [NoAnswer("no answer", True)] * 2,
        lambda: [Answer(chunks=[b"half", NoAnswer("broke off", True)]) for _ in range(2)],
        lambda: [refusal(503), refusal(503)],
    ],
    ids=["silent", "broken off", "busy"],
)
def test_what_only_breaks_off_is_left_out_of_some_sessions_and_never_replaced(rig, bad):
    rounds = []
    for _ in range(9):
        rounds.append(len(poll_until_trouble(rig, rig.open(page(0, 1, 2)), bad)))
        rig.now += 100
    assert rounds == [1, 1, 2, 1, 2, 2, 1, 2, 2]
    rig.restart()
    assert len(poll_until_trouble(rig, rig.open(page(0, 1, 2)), lambda: [Answer(chunks=[b"whole\r\n"])])) == 3


def test_a_message_listed_and_gone_twice_leaves_the_listing(rig):
    gone = refusal(404, "ErrorItemNotFound")
    rounds = []
    for _ in range(6):
        rounds.append(len(poll_until_trouble(rig, rig.open(page(0, 1, 2)), lambda: [gone])))
        rig.now += 100
    assert rounds == [1, 1, 2, 2, 2, 2]


def test_a_message_that_can_be_had_again_takes_the_texts_place(rig):
    drop = rig.holding([b"x\r\n", [refusal(500, "ErrorCorruptData")]])
    text = whole(drop, 1)
    drop.close()
    drop = rig.holding([b"x\r\n", b"mended\r\n"], delete="permanent")
    assert drop.messages[1].size == len(text)
    assert whole(drop, 1) == b"mended\r\n"
    assert drop.messages[1].size == 8


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("code", ["ErrorCorruptData", "ErrorMimeContentConversionFailed"])
def test_every_way_an_item_cannot_be_made_mime_of(rig, status, code):
    drop = rig.holding([[refusal(status, code)]])
    assert code.encode() in whole(drop, 0)
    assert drop.messages[0].doubtful
