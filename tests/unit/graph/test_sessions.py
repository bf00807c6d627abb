"""Connections: used again, unless they are old, idle or broken."""

from __future__ import annotations

import contextlib
import urllib.parse

import graph_house
import pytest
from graph_house import ALERTS, INBOX, MAIL, together

from m365proxy.graph.answer import NoAnswer
from m365proxy.graph.sessions import _AGE_SECONDS, IDLE_SECONDS

house = graph_house.house
clock = graph_house.clock


def test_a_connection_is_used_again(house):
    for _ in range(5):
        assert house.get().status == 200
        assert house.send().status == 202
    assert house.sandbox.connections == 1


def test_after_503_a_new_connection(house):
    house.get()
    house.faults.add("answer", status=503)
    assert house.get().status == 503
    assert house.sandbox.connections == 1
    house.get()
    house.get()
    assert house.sandbox.connections == 2


def test_an_idle_connection_is_not_trusted(house, clock):
    house.get()
    clock.now += IDLE_SECONDS * 0.9
    house.get()
    assert house.sandbox.connections == 1
    clock.now += IDLE_SECONDS * 1.1
    house.get()
    assert house.sandbox.connections == 2


def test_idle_connections_are_closed_by_the_next_call(house, clock, wait_until):
    house.sandbox.latency = 0.1
    together(house.get, house.get, house.get)
    assert house.sandbox.connections == 3
    clock.now += IDLE_SECONDS * 0.9
    house.get()  # with the newest of the three
    clock.now += IDLE_SECONDS * 0.2
    house.get()
    assert house.sandbox.connections == 3
    wait_until(lambda: len(house.sandbox._server._workers) == 1, 30)


def test_a_connection_that_comes_back_after_the_end_is_closed(house, monkeypatch):
    """A call may outlast close(): nobody would ever take its connection out of the pool again."""
    made = []
    session = house.outbound.session

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

    monkeypatch.setattr(house.outbound, "session", watched)
    answer = house.graph.call("GET", ALERTS, INBOX, stream=True)
    house.graph.close()
    answer.load()
    assert [one.closed for one in made] == [1]


def test_an_old_connection_is_not_trusted(house, clock):
    end = clock.now + _AGE_SECONDS
    while clock.now < end:
        house.get()  # never idle for long
        clock.now += 15
    assert house.sandbox.connections == 1
    clock.now += 1
    house.get()
    assert house.sandbox.connections == 2


@pytest.mark.parametrize("fault", ["cut_answer", "cut_after"])
def test_a_broken_connection_is_not_used_again(house, fault):
    house.faults.add(fault)
    with contextlib.suppress(NoAnswer):
        house.get()
    assert house.get().status == 200 and house.sandbox.connections == 2


def test_a_stream_left_in_the_middle_is_not_used_again(house):
    house.tenant.add_message(ALERTS, MAIL + b"x" * 300_000)
    item = house.get().json()["value"][0]["id"]
    with house.get(path=f"/messages/{urllib.parse.quote(item, safe='')}/$value", stream=True) as answer:
        next(answer.chunks(1000))
    assert house.get().status == 200 and house.sandbox.connections == 2


def test_close_closes_idle_connections(house, wait_until):
    house.get()
    house.graph.close()
    wait_until(lambda: not house.sandbox._server._workers)
