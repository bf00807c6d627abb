"""The ports: free or busy, and who holds them as far as /proc tells."""

import dataclasses
import errno
import os
import socket
import sys

import pytest

from m365proxy.admin.check import ports
from m365proxy.admin.check.subject import Subject
from m365proxy.admin.terminal import Mark
from m365proxy.system import statusfile
from m365proxy.system.choices import TlsMode

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has /proc/net")


def with_ports(config, *numbers, address="127.0.0.1"):
    first = dataclasses.replace(config.sockets[0], address=address)
    return dataclasses.replace(config, sockets=tuple(dataclasses.replace(first, port=port) for port in numbers))


def lines(config, **about):
    return list(ports.ports(Subject(config, **about)))


@pytest.fixture
def holder():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def test_free_and_busy(config, holder):
    free, busy = lines(with_ports(config, 0, holder))
    assert (free.mark, free.sentence) == (Mark.OK, "smtp 127.0.0.1:0 is free")
    assert (busy.mark, busy.exit_status) == (Mark.WRONG, 75)
    assert busy.sentence.startswith(f"127.0.0.1:{holder} is in use by ") and busy.remedy


@linux
def test_the_holder_is_named_by_program_and_process(config, holder):
    (line,) = lines(with_ports(config, holder))
    assert f", pid {os.getpid()}" in line.sentence and "smtp_port" in line.remedy
    assert f", pid {os.getpid()}" in ports.holders(with_ports(config, holder, 0).sockets)[holder]
    (line,) = lines(with_ports(config, holder), holders={holder: "exim4, pid 7 (unit exim4.service)"})
    assert line.sentence.endswith("is in use by exim4, pid 7 (unit exim4.service).")
    assert line.remedy.startswith("Stop it: `systemctl disable --now exim4.service`, or choose another port")


@linux
def test_of_another_users_program_only_the_user_is_known(config, holder, monkeypatch):
    monkeypatch.setattr(ports, "_pids", list)
    (line,) = lines(with_ports(config, holder))
    assert "is in use by a program of the user " in line.sentence


def test_without_proc_it_is_another_program(config, holder, monkeypatch):
    monkeypatch.setattr(ports, "_listening", lambda port: [])
    (line,) = lines(with_ports(config, holder))
    assert line.sentence.endswith("is in use by another program.") and line.exit_status == 75


# The octets of an address stand in the order of the machine's own numbers.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 11 1
   1: 0100007F:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000   102        0 22 1
   2: 0100007F:0019 0100007F:9999 01 00000000:00000000 00:00000000 00000000   103        0 33 1
   3: 0100007F:0A00 00000000:0000 0A 00000000:00000000 00:00000000 00000000   104        0 44 1
   4: broken
"""
TCP6 = """\
  sl  local_address remote_address st
   0: 00000000000000000000000001000000:0019 00000000000000000000000000000000:0000 0A 0:0 00:0 0   105        0 55 1
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the tables are of a machine of the other order")
def test_who_listens_by_the_kernels_tables(monkeypatch):
    texts = {"/proc/self/net/tcp": TCP, "/proc/self/net/tcp6": TCP6}
    monkeypatch.setattr(ports, "_text", lambda path: texts.get(path, ""))
    assert list(ports._listening(25)) == [("0.0.0.0", 101, "11"), ("127.0.0.1", 102, "22"), ("::1", 105, "55")]
    assert list(ports._listening(26)) == []
    monkeypatch.setattr(ports, "_pids", list)
    monkeypatch.setattr(ports, "_user", str)
    monkeypatch.setattr(ports.sys, "platform", "linux")
    assert ports.Holder.of_port(25, "127.0.0.1").text == "a program of the user 102"
    assert ports.Holder.of_port(25, "192.0.2.7").text == "a program of the user 101"


@pytest.mark.parametrize(
    "text, unit",
    [
        ("0::/system.slice/exim4.service\n", "exim4.service"),
        ("0::/system.slice/system-postfix.slice/postfix@-.service\n", "postfix@-.service"),
        ("1:name=systemd:/system.slice/dovecot.service/worker\n", "dovecot.service"),
        ("0::/user.slice/user-0.slice/session-1.scope\n", ""),
        ("", ""),
    ],
)
def test_the_unit_of_a_process(monkeypatch, text, unit):
    monkeypatch.setattr(ports, "_text", lambda path: text)
    assert ports._unit_of(7) == unit


class Refusing(socket.socket):
    error = errno.EACCES

    def bind(self, address):
        raise OSError(self.error, os.strerror(self.error))


@pytest.mark.skipif(os.name != "posix", reason="Windows gives low ports to everybody")
@pytest.mark.parametrize(
    "dropped, mark, words",
    [(True, Mark.ATTENTION, "the service may be allowed"), (False, Mark.WRONG, "may not use ports below 1024")],
)
def test_a_low_port_after_root_was_given_up(config, monkeypatch, dropped, mark, words):
    monkeypatch.setattr(ports.socket, "socket", Refusing)
    (line,) = lines(with_ports(config, 25), dropped_root=dropped)
    assert line.mark is mark and words in line.sentence
    assert dropped or "`sysctl net.ipv4.ip_unprivileged_port_start=25`" in line.remedy


def test_an_address_that_is_not_this_machines(config, monkeypatch):
    monkeypatch.setattr(ports.socket, "socket", type("Refusing", (Refusing,), {"error": errno.EADDRNOTAVAIL}))
    (line,) = lines(with_ports(config, 2525, address="192.0.2.1"))
    assert line.exit_status == 73 and line.remedy


def test_ports_of_the_running_program(config):
    os.makedirs(config.state_dir)
    statusfile.write(config.state_dir, {"listeners": ["smtp 127.0.0.1:2525", "smtp 127.0.0.1:40123"]})
    found = lines(with_ports(config, 2525, 0, 25), running=True)
    assert [line.mark for line in found] == [Mark.OK, Mark.OK, Mark.ATTENTION]
    assert found[0].sentence.startswith("smtp 127.0.0.1:2525 is open")
    assert found[1].sentence.startswith("smtp 127.0.0.1:2525 is open")  # any that is open will do
    assert "older config" in found[2].sentence and found[2].remedy == "Stop the program, and start it again."


def test_a_service_is_restarted_by_its_own_name(config, monkeypatch):
    os.makedirs(config.state_dir)
    statusfile.write(config.state_dir, {"pid": 7, "listeners": []})
    slices = "0::/system.slice/system-m365proxy.slice/m365proxy@contoso.service\n"
    monkeypatch.setattr(ports, "_text", {"/proc/7/cgroup": slices}.get)
    (line,) = lines(with_ports(config, 2525), running=True)
    assert line.remedy == "Run `systemctl restart m365proxy@contoso.service`."


def test_implicit_tls_has_the_name_that_the_running_program_gives_it(config):
    os.makedirs(config.state_dir)
    statusfile.write(config.state_dir, {"listeners": ["smtps 127.0.0.1:465"]})
    tls = with_ports(config, 465).sockets[0]
    for mode, mark in ((TlsMode.IMPLICIT, Mark.OK), (TlsMode.STARTTLS, Mark.ATTENTION)):
        socket = dataclasses.replace(tls, tls=mode)
        (line,) = lines(dataclasses.replace(config, sockets=(socket,)), running=True)
        assert line.mark is mark


def test_the_status_port_is_one_of_them(config, holder):
    quiet = with_ports(config, 0)
    free, busy = (lines(dataclasses.replace(quiet, status_port=port))[1:] for port in (0, holder))
    assert [line.sentence for line in free] == ["status 127.0.0.1:0 is free"]
    assert [line.mark for line in busy] == [Mark.WRONG]
    assert sys.platform != "linux" or "status_port" in busy[0].remedy
