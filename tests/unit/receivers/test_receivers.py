import os
import signal
import socket
import sys
import threading
import time

import pytest
from waiting import wait_until

from m365proxy.receivers import receivers as module
from m365proxy.receivers.channel import Channel
from m365proxy.receivers.receivers import Receivers, possible_number
from m365proxy.receivers.words import Report, Task
from m365proxy.server.connections import Connections
from m365proxy.system.groupwriter import GroupWriter

if sys.platform == "win32":
    pytest.skip("there are no receivers without sockets that take descriptors", allow_module_level=True)

PRINTER, SCANNER, LOOPBACK = "192.0.2.1", "192.0.2.77", "127.0.0.1"

# Of a reload: path and content.
CONFIG = ("config.json", b"{\xe4}")

# Of the first receiver: no process has it.
_PID = 2**30


class Remote:
    """A receiver that the test plays."""

    def __init__(self, sock, pid):
        self.sock = sock
        self.channel = Channel(sock)
        self.pid = pid
        self._messages = self.channel.messages()

    def ready(self):
        self.channel.send(Report.READY, self.pid)

    def next(self):
        message, descriptor = next(self._messages)
        if descriptor is not None:
            socket.socket(fileno=descriptor).close()
        return message

    def die(self):
        self.sock.close()


class Forks:
    """The forker: its receivers are Remotes."""

    def __init__(self):
        self.made = []
        self.failing = False

    def start(self):
        pass

    def make(self):
        if self.failing:
            raise OSError
        ours, theirs = socket.socketpair()
        self.made.append(Remote(theirs, _PID + len(self.made)))
        return ours

    def stop(self, seconds):
        pass


class House:
    def __init__(self, number):
        self.connections = Connections()
        self.queued, self.missed = [], []
        reports = {Report.QUEUED: self.queued.append}
        self.receivers = Receivers(number, None, self.connections, reports, lambda: self.missed.append(1))
        self.forks = self.receivers._forker = Forks()

    def start(self):
        self.receivers.start()
        wait_until(lambda: len(self.forks.made) == self.receivers._number)
        for remote in self.forks.made:
            remote.ready()
        wait_until(lambda: all(one and one.pid for one in self.receivers._receivers))
        return self

    def hand_over(self, peer):
        inner, outer = socket.socketpair()
        with inner, outer:
            return self.receivers.hand_over(0, inner, peer, 25, False)

    def close(self):
        self.receivers.ask_stop(0.0)
        for remote in self.forks.made:
            remote.die()
        for one in self.receivers._receivers:
            assert one is None or one.ended.wait(60)


@pytest.fixture
def make():
    made = []

    def make(number):
        made.append(House(number))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_client_comes_to_the_same_one_each_time(make):
    house = make(3).start()
    assert all(house.hand_over(PRINTER) for _ in range(6))
    assert len(house.connections) == 6
    holders = [one for one in house.receivers._receivers if one.clients]
    assert [one.clients[PRINTER] for one in holders] == [6]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="there are none here")
def test_each_has_a_processor_of_its_own(make, monkeypatch):
    bound = {}
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda pid: {2, 5})
    monkeypatch.setattr(module.os, "sched_setaffinity", bound.__setitem__)
    house = make(3).start()
    places = {one.pid: one.place for one in house.receivers._receivers}
    assert bound == {pid: {(2, 5, 2)[place]} for pid, place in places.items()}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="there are none here")
def test_one_that_cannot_be_bound_works_all_the_same(make, monkeypatch):
    def refuse(pid, processors):
        raise PermissionError

    monkeypatch.setattr(module.os, "sched_setaffinity", refuse)
    assert make(1).start().hand_over(PRINTER)


def test_who_stands_for_many_goes_to_each_in_turn(make):
    house = make(3).start()
    assert all(house.hand_over(LOOPBACK) for _ in range(6))
    assert [one.clients[LOOPBACK] for one in house.receivers._receivers] == [2, 2, 2]


def test_a_client_is_counted_until_it_has_left(make):
    house = make(1).start()
    assert house.hand_over(PRINTER)
    remote = house.forks.made[0]
    assert remote.next() == [Task.SERVE, 0, PRINTER, 25, False]
    remote.channel.send(Report.LEFT, PRINTER)
    wait_until(lambda: len(house.connections) == 0)
    remote.channel.send(Report.LEFT, PRINTER)  # nobody is counted out twice
    remote.channel.send(Report.QUEUED, "ID")
    wait_until(lambda: house.queued == ["ID"])
    assert len(house.connections) == 0


def test_addresses_that_have_left_take_no_memory(make):
    house = make(1).start()
    remote, (one,) = house.forks.made[0], house.receivers._receivers
    assert house.hand_over(PRINTER) and house.hand_over(PRINTER)
    remote.channel.send(Report.LEFT, PRINTER)
    wait_until(lambda: len(house.connections) == 1)
    assert one.clients == {PRINTER: 1}
    remote.channel.send(Report.LEFT, PRINTER)
    wait_until(lambda: len(house.connections) == 0)
    assert not one.clients


def test_nobody_is_handed_over_to_one_that_is_not_ready(make):
    house = make(1)
    house.receivers.start()
    wait_until(lambda: house.forks.made)
    assert not house.hand_over(PRINTER) and len(house.connections) == 0


def test_without_receivers_nobody_is_handed_over(make):
    house = make(0).start()
    assert not house.hand_over(PRINTER)
    house.receivers.tell(Task.LOOK)


def test_limits_hold(make):
    house = make(1)
    house.connections = house.receivers._connections = Connections(per_client=2)
    house.start()
    assert [house.hand_over(PRINTER) for _ in range(3)] == [True, True, False]


def test_one_that_dies_is_replaced_and_its_clients_are_counted_out(make, caplog):
    house = make(1).start()
    assert house.hand_over(PRINTER) and house.hand_over(SCANNER)
    reloading = threading.Thread(target=house.receivers.reload, args=CONFIG)
    reloading.start()
    house.forks.made[0].die()
    reloading.join(60)
    wait_until(lambda: house.missed and len(house.connections) == 0)
    assert f"(pid {_PID}) has ended unexpectedly, and so have its 2 sessions" in caplog.text
    wait_until(lambda: len(house.forks.made) == 2, what="the next one")
    house.forks.made[1].ready()
    wait_until(lambda: house.hand_over(PRINTER))
    # In this order, or a client would have the rights of the start.
    assert house.forks.made[1].next() == [Task.RELOAD, "config.json", "{\u00e4}"]
    assert house.forks.made[1].next()[0] == Task.SERVE


def test_a_reload_ends_when_all_have_carried_it_out(make):
    house = make(2).start()
    reloading = threading.Thread(target=house.receivers.reload, args=CONFIG)
    reloading.start()
    for remote in house.forks.made:
        assert remote.next() == [Task.RELOAD, "config.json", "{\u00e4}"]
        assert reloading.is_alive()
        remote.channel.send(Report.RELOADED)
    reloading.join(60)
    assert not reloading.is_alive()


def test_a_reload_does_not_wait_for_one_that_hangs(make, monkeypatch):
    monkeypatch.setattr(module, "_RELOAD_SECONDS", 0.01)
    house = make(1).start()
    house.receivers.reload(*CONFIG)
    assert house.forks.made[0].next() == [Task.RELOAD, "config.json", "{\u00e4}"]


def test_one_that_hangs_is_killed_at_the_stop(make, monkeypatch):
    killed = []
    monkeypatch.setattr(module.os, "kill", lambda pid, number: killed.append((pid, number)))
    make(1).start().receivers.stop(time.monotonic())
    assert killed == [(_PID, signal.SIGKILL)]


def test_if_there_can_be_no_other_the_main_process_serves(make, caplog, monkeypatch):
    house = make(1).start()
    house.forks.failing = True
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)
    house.forks.made[0].die()
    wait_until(lambda: "no process can be started" in caplog.text)
    assert not house.hand_over(PRINTER)


def test_a_stop_is_told_and_waited_for(make):
    house = make(2).start()
    ends = []
    house.receivers.ask_stop(3.5)
    waiting = threading.Thread(target=lambda: ends.append(house.receivers.stop(time.monotonic() + 60)))
    for number, remote in enumerate(house.forks.made):
        assert remote.next() == [Task.STOP, 3.5]
        remote.channel.send(Report.STOPPED, number + 1)
    heard = list(house.receivers._receivers)
    wait_until(lambda: sorted(one.cut for one in heard) == [1, 2])  # either may have been made first
    house.receivers._receivers = heard
    waiting.start()
    for remote in house.forks.made:
        remote.die()
    waiting.join(60)
    assert ends == [3]


@pytest.mark.parametrize("say", [Channel.send, Channel.add], ids=["alone", "with others"])
def test_a_report_that_hangs_holds_up_no_other(make, monkeypatch, say):
    house, hanging, began = make(1), threading.Event(), threading.Event()
    house.receivers._reports[Report.REFUSAL] = lambda reason: (began.set(), hanging.wait(60))
    (remote,) = house.start().forks.made
    hearers = [one.hearer for one in house.receivers._receivers]
    say(remote.channel, Report.REFUSAL, "550")
    remote.channel.send(Report.QUEUED, "ID")
    assert began.wait(60)
    monkeypatch.setattr(module, "_HANGING", 1e9)
    house.receivers.tick()  # too early
    assert house.queued == []
    monkeypatch.setattr(module, "_HANGING", -1.0)
    house.receivers.tick()
    wait_until(lambda: house.queued == ["ID"])
    hanging.set()
    hearers[0].join(60)
    assert not hearers[0].is_alive()
    remote.die()
    wait_until(lambda: len(house.forks.made) == 2, what="the next one")


def test_a_log_that_nobody_takes_holds_up_no_report(make, monkeypatch):
    house, goes_on, began = make(1), threading.Event(), threading.Event()
    writer = GroupWriter(lambda lines: (began.set(), goes_on.wait(60)), None)
    house.receivers._reports[Report.REFUSAL] = writer.put
    (remote,) = house.start().forks.made
    remote.channel.send(Report.REFUSAL, "550")
    assert began.wait(60)
    remote.channel.send(Report.QUEUED, "ID")
    monkeypatch.setattr(module, "_HANGING", -1.0)
    house.receivers.tick()
    wait_until(lambda: house.queued == ["ID"])
    goes_on.set()


def test_what_comes_together_is_one_write_to_the_log(make):
    house, writes = make(1), []
    writer = GroupWriter(writes.append, None)
    house.receivers._reports[Report.REFUSAL] = writer.put
    (remote,) = house.start().forks.made
    for number in range(5):
        remote.channel.add(Report.REFUSAL, number)
    remote.channel.send(Report.QUEUED, "ID")
    wait_until(lambda: writes)
    assert writes == [[0, 1, 2, 3, 4]] and house.queued == ["ID"]


def test_a_report_that_cannot_be_followed_stops_no_other(make, caplog):
    house = make(1).start()
    remote = house.forks.made[0]
    remote.channel.send("nonsense", 1)
    remote.channel.send(Report.QUEUED, "ID")
    wait_until(lambda: house.queued == ["ID"])


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="there are none here")
@pytest.mark.parametrize("processors, number", [(1, 0), (2, 2), (4, 4), (64, 4)])
def test_as_many_as_processors(monkeypatch, processors, number):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda pid: range(processors))
    assert possible_number(None) == number
    assert possible_number(1) == 1 and possible_number(0) == 0


def test_none_on_windows(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert possible_number(None) == possible_number(3) == 0
