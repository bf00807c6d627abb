"""Pauses that Graph asks for."""

from __future__ import annotations

import pytest
from maildrop_harness import (
    Answer,
    ids,
    page,
    refusal,
    rig,
    whole,
)

from m365proxy.errors import Temporary
from m365proxy.graph.answer import Throttled

__all__ = ["rig"]


def test_pauses_graph_asks_for_are_kept(rig):
    drop = rig.open(refusal(429, seconds=3.0), page(1, link="a"), Throttled("scanner@contoso.com", 2.5), page(2))
    assert ids(drop) == [1, 2]
    assert rig.slept == [3.0, 2.5]
    assert [params["$top"] for _, params in rig.graph.calls if params] == ["1000", "1000"]


def test_patience_ends(rig):
    with pytest.raises(Temporary):
        rig.open(*[refusal(429, seconds=20.0)] * 9)
    assert rig.slept == [20.0, 20.0]


def test_a_pause_is_kept_before_a_message_comes(rig):
    drop = rig.holding([[refusal(429, seconds=4.0), Answer(chunks=[b"x\r\n"])]])
    assert whole(drop, 0) == b"x\r\n"
    assert rig.slept == [4.0]
