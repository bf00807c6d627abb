"""Messages from Graph into copies."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest
from maildrop_harness import (
    Answer,
    refusal,
    refused,
    requested,
    rig,
    whole,
)

from m365proxy.errors import Permanent, Temporary
from m365proxy.graph.answer import GraphTrouble, NoAnswer
from m365proxy.maildrop.copies import Copy
from m365proxy.maildrop.failures import Failures
from m365proxy.maildrop.fetch import Fetcher
from m365proxy.system import files

__all__ = ["rig"]


def test_a_message_is_fetched_once_and_its_size_is_then_exact(rig):
    drop = rig.holding([b"Subject: x\n\nbody", b"other\r\n"])
    assert drop.messages[0].size == 4096
    for _ in range(3):
        assert whole(drop, 0) == b"Subject: x\r\n\r\nbody\r\n"
    assert drop.messages[0].size == 20
    assert drop.messages[1].size == 4096
    assert [path for path, _ in rig.graph.calls[1:]] == ["/messages/id%2F0%2B%3D/$value"]
    drop.close()
    assert rig.on_disk() == []


def test_a_byte_order_mark_before_a_message_is_no_part_of_it(rig):
    marked = [b"\xef", b"\xbb\xbfSubject: x\r\n\r\n\xef\xbb\xbf"]
    drop = rig.holding([[Answer(chunks=marked)]])
    assert whole(drop, 0) == b"Subject: x\r\n\r\n\xef\xbb\xbf\r\n"
    assert drop.messages[0].size == 19


def test_a_broken_fetch_is_made_whole_again(rig):
    broken = Answer(chunks=[b"half", NoAnswer("broke off", True)])
    drop = rig.holding([[broken, Answer(chunks=[b"who", b"le\r\n"])]])
    assert whole(drop, 0) == b"whole\r\n"
    assert broken.closed
    assert not drop.messages[0].doubtful
    assert len(rig.on_disk()) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Answer(chunks=[b"half", NoAnswer("broke off", True)]),
        lambda: refusal(503),
        lambda: NoAnswer("no answer", True),
    ],
)
def test_a_fetch_that_breaks_twice_is_given_up(rig, make, wait_until):
    drop = rig.holding([[make(), make(), make()], b"next\r\n"])
    refused(drop, 0, Temporary)
    assert len(rig.graph.values["id/0+="]) == 1
    wait_until(lambda: rig.on_disk() == [])
    assert drop.messages[0].doubtful
    assert whole(drop, 1) == b"next\r\n"


@pytest.mark.parametrize("claimed, asked", [(False, 0), (True, 1)])
def test_one_that_failed_is_left_to_the_client(rig, claimed, asked):
    """Fetched ahead it would fail again, and the client's own call be the first that counts."""
    rig.graph.values["bad"] = [Answer(chunks=[b"x\r\n"])]
    failures = Failures()
    failures.note("scanner@contoso.com", "bad", NoAnswer("broke off", True))
    copy = Copy(str(rig.path / "1.copy"), None, lambda copy, octets: True)
    copy.claimed = claimed
    item = SimpleNamespace(id="bad", uidl="uidl", size=3)
    Fetcher(rig.graph, "scanner@contoso.com", rig._sleep, failures).fetch(item, copy)
    assert len(rig.graph.calls) == asked
    assert copy.over and copy.whole == copy.claim(None) == claimed


def test_a_message_that_is_gone(rig):
    drop = rig.holding([[refusal(404, "ErrorItemNotFound")], b"next\r\n"])
    refused(drop, 0, Permanent, "gone")
    assert whole(drop, 1) == b"next\r\n"


def test_a_404_of_something_between_does_not_mean_gone(rig):
    portal = GraphTrouble("HTTP 404", Answer(404, request_id=""))
    refused(rig.holding([[portal, portal]]), 0, Temporary)


def test_an_empty_answer_is_no_message(rig):
    drop = rig.holding([[Answer(chunks=[]), Answer(chunks=[])]], delete="permanent")
    refused(drop, 0, Temporary, "empty")
    assert drop.delete([0]) == 0
    assert requested(rig.graph) == [("POST", "id/0+=/move")]


def test_a_page_of_something_between_is_no_message(rig, wait_until):
    drop = rig.holding([[Answer(chunks=[b"<html>Please sign on"], request_id="")]])
    refused(drop, 0, Temporary, "Another system")
    wait_until(lambda: rig.on_disk() == [])


def test_a_full_disk_is_temporary_and_leaves_nothing(rig, monkeypatch, wait_until):
    class Full:
        def __init__(self, file):
            self.file = file

        def close(self):
            self.file.close()

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    create = files.create
    monkeypatch.setattr(files, "create", lambda path: Full(create(path)))
    drop = rig.holding([b"x\r\n"])
    refused(drop, 0, Temporary, "No space left")
    wait_until(lambda: rig.on_disk() == [])
    assert len(rig.graph.calls) == 2


def test_a_top_is_not_fetched_to_the_end_and_the_retrieval_is(rig):
    body = b"line\r\n" * 100_000
    answer = Answer(chunks=[b"A: b\r\n\r\n", *[body[:6000]] * 100])
    drop = rig.holding([[answer, Answer(chunks=[b"A: b\r\n\r\n", body])]])
    message = drop.top(0, 2)
    assert message.wait_ready(10.0)
    assert b"".join(message.chunks(lambda: None)).startswith(b"A: b\r\n\r\nline\r\nline\r\n")
    assert answer.closed and not drop.messages[0].exact
    assert whole(drop, 0) == b"A: b\r\n\r\n" + body
    assert len(rig.graph.calls) == 3


def test_a_top_that_reached_the_end_is_the_sessions_copy(rig):
    drop = rig.holding([b"A: b\r\n\r\nbody\r\n"])
    message = drop.top(0, 0)
    assert message.wait_ready(10.0) and b"".join(message.chunks(lambda: None)) == whole(drop, 0)
    assert len(rig.graph.calls) == 2
