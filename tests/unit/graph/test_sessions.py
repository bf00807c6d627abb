"""Connections: used again, unless they are old, idle or broken."""

from __future__ import annotations

import contextlib
import urllib.parse

import graph_harness
import pytest
from graph_harness import ALERTS, INBOX, MAIL, all_on_their_way

from m365proxy.graph.answer import NoAnswer
from m365proxy.graph.sessions import _AGE_SECONDS, IDLE_SECONDS

harness = graph_harness.harness
clock = graph_harness.clock


def test_a_connection_is_used_again(harness):
    for _ in range(5):
        assert harness.get().status == 200
        assert harness.send().status == 202
    assert harness.sandbox.connections == 1


def test_after_503_a_new_connection(harness):
    harness.get()
    harness.faults.add("answer", status=503)
    assert harness.get().status == 503
    assert harness.sandbox.connections == 1
    harness.get()
    harness.get()
    assert harness.sandbox.connections == 2


def test_an_idle_connection_is_not_trusted(harness, clock):
    harness.get()
    clock.now += IDLE_SECONDS * 0.9
    harness.get()
    assert harness.sandbox.connections == 1
    clock.now += IDLE_SECONDS * 1.1
    harness.get()
    assert harness.sandbox.connections == 2


def test_idle_connections_are_closed_by_the_next_call(harness, clock, wait_until):
    all_on_their_way(harness, harness.get, harness.get, harness.get)
    assert harness.sandbox.connections == 3
    clock.now += IDLE_SECONDS * 0.9
    harness.get()  # with the newest of the three
    clock.now += IDLE_SECONDS * 0.2
    harness.get()
    assert harness.sandbox.connections == 3
    wait_until(lambda: len(harness.sandbox._server._workers) == 1)


def test_a_connection_that_comes_back_after_the_end_is_closed(harness, monkeypatch):
    """A call may outlast close(): nobody would ever take its connection out of the pool again."""
    made = []
    session = harness.outbound.session

    def watched():
        one = session()
        one.closed = 0
        close = one.close

        def count():
            one.closed += 1
            close()

        one.close = count
        made.append(one)
        return one

    monkeypatch.setattr(harness.outbound, "session", watched)
    answer = harness.graph.call("GET", ALERTS, INBOX, stream=True)
    harness.graph.close()
    answer.load()
    assert [one.closed for one in made] == [1]


def test_an_old_connection_is_not_trusted(harness, clock):
    end = clock.now + _AGE_SECONDS
    while clock.now < end:
        harness.get()  # never idle for long
        clock.now += 15
    assert harness.sandbox.connections == 1
    clock.now += 1
    harness.get()
    assert harness.sandbox.connections == 2


@pytest.mark.parametrize("fault", ["cut_answer", "cut_after"])
def test_a_broken_connection_is_not_used_again(harness, fault):
    harness.faults.add(fault)
    with contextlib.suppress(NoAnswer):
        harness.get()
    assert harness.get().status == 200 and harness.sandbox.connections == 2


def test_a_stream_left_in_the_middle_is_not_used_again(harness):
    harness.tenant.add_message(ALERTS, MAIL + b"x" * 300_000)
    item = harness.get().json()["value"][0]["id"]
    with harness.get(path=f"/messages/{urllib.parse.quote(item, safe='')}/$value", stream=True) as answer:
        next(answer.chunks(1000))
    assert harness.get().status == 200 and harness.sandbox.connections == 2


def test_close_closes_idle_connections(harness, wait_until):
    harness.get()
    harness.graph.close()
    wait_until(lambda: not harness.sandbox._server._workers)
