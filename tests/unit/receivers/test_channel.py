import array
import os
import select
import socket
import sys
import threading

import pytest
from waiting import wait_until

from m365proxy.receivers import channel as module
from m365proxy.receivers.channel import Channel

if sys.platform == "win32":
    pytest.skip("there are no receivers without sockets that take descriptors", allow_module_level=True)


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours), Channel(theirs)


def test_messages_come_in_their_order_and_whole(ends):
    one, other = ends
    sent = [
        ["record", 1.5, "a\nb", "\udc80 é", {"event": "accepted", "recipients": ["x"] * 5000}],
        ["left", "::1"],
        ["x"],
    ]
    thread = threading.Thread(target=lambda: [one.send(*message) for message in sent])
    thread.start()
    found = other.messages()
    assert [next(found) for _ in sent] == [(message, None) for message in sent]
    thread.join()


def test_a_descriptor_comes_with_its_message(ends):
    one, other = ends
    inner, outer = socket.socketpair()
    with inner, outer:
        one.send("before")
        assert one.send_with(inner, "serve", 1)
        assert one.send_with(inner, "serve", 2)
        one.send("after")
        inner.close()
        found = other.messages()
        assert next(found) == (["before"], None)
        for number in (1, 2):
            message, descriptor = next(found)
            assert message == ["serve", number]
            with socket.socket(fileno=descriptor) as sock:
                sock.sendall(b"x")
            assert outer.recv(1) == b"x"
        assert next(found) == (["after"], None)


def test_a_descriptor_that_the_system_has_dropped_costs_its_message_only(ends):
    one, other = ends
    one._socket.sendall(b'+["serve",1]\n')  # as it comes to a process that has no descriptor left
    one.send("after")
    found = other.messages()
    assert [next(found), next(found)] == [(["serve", 1], None), (["after"], None)]


def test_what_comes_while_a_descriptor_is_sent_is_not_forgotten(ends, monkeypatch):
    one, other = ends
    attach = one._attach

    def interrupted(line, descriptor):
        thread = threading.Thread(target=one.send, args=("meanwhile",))
        thread.start()
        thread.join(60)
        attach(line, descriptor)

    monkeypatch.setattr(one, "_attach", interrupted)
    inner, outer = socket.socketpair()
    with inner, outer:
        assert one.send_with(inner, "serve")
        found = other.messages()
        message, descriptor = next(found)
        os.close(descriptor)
        assert (message, next(found)[0]) == (["serve"], ["meanwhile"])


def test_flush_waits_for_what_another_thread_sends(ends):
    one, other = ends
    with one._sending:
        one.send("left to the other")
        flushing = threading.Thread(target=one.flush)
        flushing.start()
        assert flushing.is_alive()
    flushing.join(60)
    assert next(other.messages())[0] == ["left to the other"]


def test_the_end_is_the_end_of_the_messages(ends):
    one, other = ends
    one.send("last")
    one.end()
    assert [message for message, _ in other.messages()] == [["last"]]


def test_what_nobody_reads_any_more_is_lost_and_raises_nothing(ends):
    one, other = ends
    other.close()
    one.send("lost")
    inner, outer = socket.socketpair()
    with inner, outer:
        assert not one.send_with(inner, "serve")


def test_a_descriptor_whose_message_never_comes_is_closed():
    ours, theirs = socket.socketpair()
    inner, outer = socket.socketpair()
    with theirs, inner, outer:
        with ours:
            ours.sendmsg([b"+half"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [inner.fileno()]))])
        before = set(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else set()
        assert list(Channel(theirs).messages()) == []
        after = set(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else set()
        assert len(after) <= len(before)


def test_many_threads_send_through_few_calls_and_lose_nothing(ends):
    one, other = ends
    found = []
    reader = threading.Thread(target=lambda: found.extend(message for message, _ in other.messages()))
    reader.start()

    def send(name):
        for number in range(200):
            one.send(name, number)

    threads = [threading.Thread(target=send, args=(name,)) for name in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one.end()
    reader.join()
    assert len(found) == 2000
    for name in range(10):
        assert [number for sender, number in found if sender == name] == list(range(200))


def test_an_end_that_hangs_holds_who_would_fill_the_memory(ends, monkeypatch):
    monkeypatch.setattr(module, "_WAITING", 3)
    one, other = ends
    lengths = []

    def send(text):
        for _ in range(2000):
            one.send(text * 1000)
            lengths.append(len(one._unsent))

    thread, helper = (threading.Thread(target=send, args=(text,), daemon=True) for text in "xy")
    thread.start(), helper.start()
    wait_until(lambda: not select.select([], [one._socket], [], 0)[1], what="an end that takes no more")
    found = other.messages()
    assert len([next(found) for _ in range(4000)]) == 4000
    thread.join(), helper.join()
    assert max(lengths) <= 5  # one of each thread beyond them
