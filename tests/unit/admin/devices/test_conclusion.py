"""What is said of the clients that came, and what is written."""

import io
import json
import sys

import pytest
from configs import HASHED, QUIET, configured

from m365proxy.admin.devices import conclusion as module
from m365proxy.admin.devices.conclusion import Conclusion
from m365proxy.admin.devices.observation import Sighting
from m365proxy.admin.init.nextsteps import Call
from m365proxy.admin.terminal import Terminal
from m365proxy.monitoring.troubles import Trouble

PRINTER, UPS = "192.168.10.21", "192.168.10.22"
SCANNER = HASHED["username"]
TWO = [HASHED, {**HASHED, "username": "ups@contoso.com"}]


def sighting(*troubles, messages=0, refused=()):
    made = Sighting()
    for login in refused:
        made.take({"event": "login failed", "login": login}, Trouble.UNKNOWN_LOGIN)
    for trouble in troubles:
        made.take({"event": "refused"}, trouble)
    made.messages = messages
    return made


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """draw(clients, apply, typed, ...settings): what is shown; `draw.asked` has what the program was asked for."""
    asked = []

    def make(clients, apply=False, typed=None, **settings):
        config = configured(tmp_path, **settings)
        monkeypatch.setattr(module, "is_running", lambda config: True)
        monkeypatch.setattr(module.nextsteps.running, "is_running", lambda config: True)
        monkeypatch.setattr(module, "default_gateways", list)
        monkeypatch.setattr(module.control, "request", lambda state_dir, word, id="": asked.append(word))
        monkeypatch.setattr(module, "latest_status", lambda state_dir: asked.append("status"))
        shown = io.StringIO()
        terminal = Terminal(shown, {"COLUMNS": "1000"})
        if typed is not None:
            terminal.interactive = True
            monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        command = "devices --learn 30m --apply" if apply else "devices --learn 30m"
        Conclusion(config, command, apply, terminal, Call(config.path, {})).draw(clients)
        return shown.getvalue()

    make.asked = asked
    make.written = lambda: json.loads((tmp_path / "config.json").read_text())
    return make


@pytest.mark.parametrize(
    "one, said",
    [
        (sighting(messages=1), "Its mail was accepted. There is nothing to set."),
        (sighting(), "It connected, but sent nothing."),
        (sighting(Trouble.NO_LOGIN, refused="abcd"), "Nothing is proposed."),
        (sighting(Trouble.MECHANISM), "never to CRAM-MD5, NTLM or Kerberos"),
    ],
)
def test_where_there_is_nothing_to_write(one, said, draw):
    shown = draw({PRINTER: one}, apply=True)
    assert PRINTER in shown and said in shown and "Written" not in shown and draw.asked == []
    assert draw.written() == {**QUIET, "state_dir": "state"}


def test_without_apply_it_is_only_shown(draw):
    shown = draw({PRINTER: sighting(Trouble.NO_LOGIN)})
    assert f'    "relay_networks": {{"{PRINTER}": "{SCANNER}"}}\n' in shown and "Nothing was written." in shown
    assert draw.written() == {**QUIET, "state_dir": "state"}


def test_several_devices_are_written_together_and_the_program_reloads(draw):
    shown = draw({PRINTER: sighting(Trouble.NO_LOGIN), UPS: sighting(Trouble.NO_LOGIN)}, apply=True)
    assert draw.written()["relay_networks"] == {PRINTER: SCANNER, UPS: SCANNER}
    assert "Written: " in shown and "Kept as it was: " in shown and draw.asked == ["reload", "status"]


def test_a_program_that_does_not_obey_is_said(draw, monkeypatch):
    monkeypatch.setattr(module, "_OBEYS", -1.0)
    monkeypatch.setattr(module.control, "is_waiting", lambda *_: True)
    assert "The program does not obey." in draw({PRINTER: sighting(Trouble.NO_LOGIN)}, apply=True)


def test_what_needs_a_restart_is_said(draw, monkeypatch):
    monkeypatch.setattr("m365proxy.admin.init.freeports.trouble", lambda *_: "")
    shown = draw({PRINTER: sighting(Trouble.BARE_LF)}, apply=True, smtp_port=2525)
    assert "Restart the running program, for listeners" in shown and "Set port 2526 on the device." in shown
    assert draw.asked == []


def test_devices_with_the_same_need_share_a_port_and_others_have_their_own(draw, monkeypatch):
    monkeypatch.setattr("m365proxy.admin.init.freeports.trouble", lambda *_: "")
    clients = {PRINTER: sighting(Trouble.BARE_LF, Trouble.OLD_TLS), UPS: sighting(Trouble.BARE_LF)}
    draw(clients, apply=True, tls={"tls_cert": "auto"})
    assert draw.written()["listeners"] == [
        {"protocol": "smtp", "port": 2526, "lf_only_clients": True},
        {"protocol": "smtp", "port": 2527, "min_version": "TLSv1"},
    ]


@pytest.mark.parametrize("typed", [None, "no\n"])
def test_if_nothing_was_taken_over_it_says_that_nothing_was_written(typed, draw):
    mailboxes = [HASHED] if typed else TWO
    shown = draw({UPS: sighting(Trouble.NO_LOGIN)}, apply=True, typed=typed, mailboxes=mailboxes)
    assert shown.endswith("Nothing was written.\n")


def test_each_change_is_asked_for_at_a_terminal(draw):
    clients = {PRINTER: sighting(Trouble.NO_LOGIN), UPS: sighting(Trouble.NO_LOGIN)}
    shown = draw(clients, apply=True, typed="perhaps\nno\n\n")
    assert "Type yes or no." in shown
    assert draw.written()["relay_networks"] == {UPS: SCANNER}


def test_which_mailbox_is_asked_for_at_a_terminal(draw):
    draw({UPS: sighting(Trouble.NO_LOGIN)}, apply=True, typed="x@contoso.com\nups@contoso.com\nyes\n", mailboxes=TWO)
    assert draw.written()["relay_networks"] == {UPS: "ups@contoso.com"}


def test_if_nobody_says_which_mailbox_nothing_is_written(draw):
    shown = draw({UPS: sighting(Trouble.NO_LOGIN)}, apply=True, mailboxes=TWO)
    assert "(or another mailbox)" in shown and "relay_networks" not in draw.written()


@pytest.mark.parametrize(
    "bind, said",
    [
        ("127.0.0.1", "for this machine only"),
        ("0.0.0.0", "The server on the device must be 192.168.10.1, the port 2525"),
    ],
)
def test_nothing_came(bind, said, draw, monkeypatch):
    monkeypatch.setattr(module.entrances, "servers", lambda *_: ["192.168.10.1"])
    shown = draw({}, bind=bind)
    assert said in shown and "firewall" in shown and "pinged" in shown
