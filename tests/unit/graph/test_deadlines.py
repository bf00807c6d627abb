"""Calls that take too long are broken off."""

from __future__ import annotations

import contextlib
import re
import threading
import urllib.parse

import graph_harness
import pytest
from graph_harness import ALERTS, MAIL
from tunnel import Tunnel

from m365proxy.graph.answer import NoAnswer
from m365proxy.graph.slots import SLOTS
from m365proxy.sandbox import webserver

harness = graph_harness.harness


@contextlib.contextmanager
def time_is_up(harness, once):
    """The time of each call is over as soon as once() is true: however long it takes until then."""
    deadlines, over = harness.graph._deadlines, threading.Event()

    def watch():
        while not over.wait(0.002):
            with deadlines._changed:
                for deadline in deadlines._armed if once() else ():
                    deadline.end = 0.0
                deadlines._changed.notify()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


@pytest.mark.parametrize("kind", ["drip", "drip_after", "drip_head"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_drips_ends_and_is_named_once(harness, caplog, kind, stream):
    caplog.set_level("INFO")
    fault = harness.faults.add(kind, path="sendMail", seconds=0.01)

    def has_begun():
        return fault.hits and (kind == "drip_head" or harness.graph.last_contact)  # then the head has come

    def send():
        with time_is_up(harness, has_begun), harness.send(stream=stream) as answer:
            answer.load()
            return answer

    if kind == "drip_head" or stream:
        with pytest.raises(NoAnswer) as caught:
            send()
        assert caught.value.maybe_processed
    else:
        answer = send()
        assert not answer.from_graph or answer.json() == {}
    assert fault.hits == 1 and harness.slots().wanted == 0
    named = [record.getMessage() for record in caplog.records if "broken off" in record.getMessage()]
    late = rf"{ALERTS}: POST sendMail: no complete answer in time; the call was broken off after \d+ s"
    assert len(named) == 1 and re.fullmatch(late, named[0])
    assert harness.send().status == 202


def test_a_proxy_whose_answer_drips_is_given_up_too(harness):
    with Tunnel() as tunnel:
        tunnel.mode = "drip"
        harness.connect(tunnel.url)
        with pytest.raises(NoAnswer) as caught, time_is_up(harness, lambda: tunnel.connects):
            harness.send()
        assert tunnel.connects and not caught.value.maybe_processed and harness.tenant.delivered == []


HEAD_LINES = ("status", "request-id", "Content-Type", "Transfer-Encoding")


@pytest.mark.parametrize("octets", [0, 5], ids=["at the end of a line", "within the next"])
@pytest.mark.parametrize("lines", range(1, len(HEAD_LINES) + 1), ids=HEAD_LINES)
def test_a_head_that_breaks_off_does_not_say_sent(harness, monkeypatch, lines, octets):
    """Headers that end early pass for whole ones, and what follows for an empty body."""

    def broken_off(head):
        rest = b"".join(head.splitlines(keepends=True)[lines:])
        yield from head[: len(head) - len(rest) + octets]
        raise webserver.Cut

    monkeypatch.setattr(webserver, "_endless", broken_off)
    harness.faults.add("drip_head", path="sendMail", status=202, seconds=0.001)
    with pytest.raises(NoAnswer) as caught:
        harness.send()
    assert caught.value.maybe_processed and harness.tenant.delivered == []


def test_the_time_a_caller_takes_with_a_stream_does_not_count(harness):
    harness.tenant.add_message(ALERTS, MAIL.replace(b"hello", b"x\r\n" * 100_000))
    (item,) = harness.tenant.items(ALERTS)
    with harness.get(
        path=f"/messages/{urllib.parse.quote(item.immutable, safe='')}/$value",
        stream=True,
        headers={"Prefer": 'IdType="ImmutableId"'},
    ) as answer:
        pieces = iter(answer.chunks())
        assert next(pieces) and not harness.graph._deadlines._armed
        assert b"".join(pieces)


def test_calls_are_broken_off_when_the_program_stops(harness, wait_until):
    fault = harness.faults.add("drip", seconds=0.01, times=None)

    def call():
        with contextlib.suppress(NoAnswer):  # raised unless the head was read already
            harness.get()

    threads = [threading.Thread(target=call) for _ in range(SLOTS)]
    for thread in threads:
        thread.start()
    wait_until(lambda: fault.hits == SLOTS)
    harness.graph.break_off()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    with pytest.raises(NoAnswer) as caught:
        harness.get()
    assert not caught.value.maybe_processed and fault.hits == SLOTS


def test_no_thread_watches_when_no_call_is_under_way(harness, wait_until):
    assert harness.get().ok
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "graph-deadlines"])
    assert harness.get().ok
