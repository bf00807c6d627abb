"""The table of devices: readable at 80 columns."""

import pytest

from m365proxy.admin.devices import table
from m365proxy.admin.terminal import Terminal
from m365proxy.monitoring.devices import Devices

NOW = 1_800_000_000.0
LONG = "2001:0db8:85a3:1111:2222:8a2e:0370:7334"


@pytest.fixture
def lines():
    """lines(*steps): the table after these, a second apart."""

    def make(*steps):
        devices = Devices()
        for number, step in enumerate(steps):
            devices.note(NOW + number, step)
        return table.lines(devices.views(), Terminal(None, {"COLUMNS": "80"}))

    return make


def accepted(client="192.168.10.21", **fields):
    return {"event": "accepted", "client": client, "mailbox": "scanner@contoso.com", "login": "mfp-1", **fields}


def refused(client="192.168.10.22", reply="504 Use AUTH PLAIN or AUTH LOGIN"):
    return {"event": "refused", "client": client, "reply": reply}


def test_who_what_and_what_to_set(lines):
    head, refusing, does, when, advice, working, works = lines(accepted(tls="TLSv1.3", auth="PLAIN"), refused())
    assert head.split() == ["DEVICE", "LAST", "SEEN", "MESSAGES"]
    assert (refusing.split()[0], refusing.split()[-1]) == ("192.168.10.22", "0")
    assert does == "  wants a login that is not offered (CRAM-MD5, NTLM)"
    assert when.endswith(": 504 Use AUTH PLAIN or AUTH LOGIN")
    assert advice.startswith("  x Set the authentication on the device to LOGIN")
    assert working.endswith("  1")
    assert works == "  TLSv1.3, AUTH PLAIN; user name mfp-1; sends from scanner@contoso.com"


def test_no_line_is_wider_than_the_terminal(lines):
    told = lines(accepted(LONG, tls="TLSv1", auth="LOGIN"), refused(LONG, "550 " + "word " * 60))
    assert max(len(line) for text in told for line in text.splitlines()) <= 80


def test_nobody_came(lines):
    (told,) = lines()
    assert told.startswith("No device has come yet.") and "--learn" in told


def test_commands_are_as_they_are_typed_here():
    devices = Devices()
    devices.note(NOW, {"event": "login failed", "client": "x", "login": "y", "reason": "no such user name"})
    told = "".join(table.lines(devices.views(), Terminal(None, {"COLUMNS": "1000"}), "python m365proxy.py"))
    assert "`python m365proxy.py init --add-login LOGIN`" in told


def test_of_many_the_last_are_shown(lines):
    told = lines(*(accepted(f"192.0.2.{number}") for number in range(60)))
    assert told[1].startswith("192.0.2.59") and told[-1].startswith("10 more, seen earlier")


def test_what_comes_from_outside_cannot_play_with_the_terminal(lines):
    told = "".join(lines(accepted("x\x1b[0m", login="\x1b[31m\n", mailbox="\x1b"), refused("y", "504 \x1b\n")))
    assert "\x1b" not in told
