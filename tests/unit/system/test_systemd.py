"""sd_notify: what reaches the service manager's socket, and that nothing happens without one."""

import contextlib
import os
import socket
import sys

import pytest

from m365proxy.system.systemd import Notifier

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")


@pytest.fixture
def manager(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a Unix socket is short
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
        wire.bind("notify")
        wire.setblocking(False)
        yield wire


def heard(manager):
    said = []
    with contextlib.suppress(BlockingIOError):
        while True:
            said.append(manager.recv(4096).decode())
    return said


def test_a_start_that_takes_longer(manager):
    Notifier({"NOTIFY_SOCKET": "notify"}).wait("waiting for its turn", 60.0)
    assert heard(manager) == ["EXTEND_TIMEOUT_USEC=60000000\nSTATUS=waiting for its turn"]


def test_a_life(manager):
    notifier = Notifier({"NOTIFY_SOCKET": "notify", "WATCHDOG_USEC": "120000000"})
    notifier.ready("smtp 127.0.0.1:2525")
    notifier.status("smtp 127.0.0.1:2525")  # nothing new
    notifier.status("not\nsigned in")
    notifier.alive()
    notifier.alive()  # within half of the watchdog's time
    notifier.stopping()
    assert heard(manager) == [
        "READY=1\nSTATUS=smtp 127.0.0.1:2525",
        "STATUS=not\\x0asigned in",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


def test_the_watchdog_is_fed_each_half_of_its_time(manager):
    notifier = Notifier({"NOTIFY_SOCKET": "notify", "WATCHDOG_USEC": "2"})
    for _ in range(3):
        notifier.alive()
    assert heard(manager) == ["WATCHDOG=1"] * 3


@pytest.mark.parametrize("microseconds", ["", "0", "soon"])
def test_without_a_watchdog_it_is_not_fed(manager, microseconds):
    Notifier({"NOTIFY_SOCKET": "notify", "WATCHDOG_USEC": microseconds}).alive()
    assert heard(manager) == []


@pytest.mark.skipif(sys.platform != "linux", reason="abstract addresses are Linux's")
def test_an_abstract_address():
    name = f"m365proxy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
        wire.bind("\0" + name)
        wire.settimeout(5)
        Notifier({"NOTIFY_SOCKET": "@" + name}).stopping()
        assert wire.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "nothing-here"}])
def test_nobody_listens(environ, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Notifier(environ).ready("fine")
    Notifier(environ).stopping()


def test_windows_has_no_such_thing(manager, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    Notifier({"NOTIFY_SOCKET": "notify"}).stopping()
    assert heard(manager) == []
