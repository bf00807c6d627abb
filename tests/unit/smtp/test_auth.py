"""AUTH, the right of an open session, and clients that were offered no AUTH."""

import base64
import ipaddress

import pytest
from smtp_harness import LOOPBACK, PASSWORD, PLAIN, Harness, Users, log_in, user

from m365proxy.errors import Temporary
from m365proxy.smtp import replies

# -- logging in ------------------------------------------------------------


def test_a_busy_check_is_454_and_no_failure(logged):
    users = Users(user(), trouble=Temporary("Too many are signing in."))
    with Harness(users=users, errors=2) as harness, harness.client() as talk:
        for _ in range(5):
            assert talk.ask(f"AUTH PLAIN {PLAIN}") == "454 4.7.0 Cannot check the password now, try again"
    assert len(logged()) == 5
    assert not [line for line in logged() if "failed" in line]


def test_nobody_gets_in_without_a_check():
    """No way through AUTH ends in 235 unless users.check said so."""
    with Harness(errors=1000) as harness, harness.client() as talk:
        for line in (
            "AUTH PLAIN =",
            "AUTH PLAIN AA==",
            "AUTH PLAIN AAA=",
            "AUTH PLAIN AAAA",
            "AUTH PLAIN AABh",
            "AUTH EXTERNAL =",
            "AUTH ANONYMOUS",
            "AUTH XOAUTH2 dXNlcj0=",
        ):
            assert talk.ask(line)[0] == "5", line
        assert talk.ask("MAIL FROM:<scanner@contoso.com>").startswith("530 ")
        assert all(password != PASSWORD for _, password, _, _ in harness.users.seen)


def test_old_devices_send_latin_1():
    with Harness() as harness, harness.client() as talk:
        talk.ask("AUTH PLAIN " + base64.b64encode(b"\0m\xfcller\0gr\xfc\xdfe").decode())
        assert harness.users.seen == [("müller", "grüße", "smtp", "127.0.0.1")]


def test_the_relay_is_asked_for_the_peer():
    asked = []
    with Harness(relay=lambda peer: asked.append(peer)) as harness, harness.client() as talk:
        assert talk.ask("MAIL FROM:<>").startswith("530 ")
    assert asked == ["127.0.0.1"]


# -- a reload takes a right away from an open session ----------------------


def test_a_login_that_a_reload_ended_begins_no_message(logged):
    with Harness() as harness, harness.client() as talk:
        log_in(talk)
        harness.users.lost = True
        assert talk.ask("MAIL FROM:<>") == str(bytes(replies.RIGHT_LOST), "ascii").strip()
        assert talk.closed()
    assert any("session from 127.0.0.1 ended: The configuration" in line for line in logged())


@pytest.mark.parametrize("begun, ended", [("DATA", "x\r\n."), ("BDAT 0", "BDAT 0 LAST")])
def test_no_message_is_accepted_for_a_login_that_a_reload_ended_meanwhile(begun, ended):
    with Harness() as harness, harness.client() as talk:
        log_in(talk)
        talk.ask("MAIL FROM:<>")
        talk.ask("RCPT TO:<jones@contoso.com>")
        talk.ask(begun)
        harness.users.lost = True
        assert talk.ask(ended).startswith("421 ")
        assert talk.closed()
    assert not harness.spool.accepted and not harness.spool.open_ones


@pytest.mark.parametrize("after", [None, "other@contoso.com"])
def test_a_network_that_relays_no_longer_ends_the_session(after):
    relays = [user(login="")]
    with Harness(relay=lambda peer: relays[0]) as harness, harness.client() as talk:
        assert talk.ask("MAIL FROM:<>").startswith("250 ")
        talk.ask("RSET")
        relays[0] = after and user(after, login="")
        assert talk.ask("MAIL FROM:<>").startswith("421 ")


def test_other_rights_count_from_the_next_message_on():
    with Harness() as harness, harness.client() as talk:
        log_in(talk)
        assert talk.ask("MAIL FROM:<other@contoso.com>").startswith("550-")
        harness.users.user = user(send_as=("other@contoso.com",))
        assert talk.ask("MAIL FROM:<other@contoso.com>").startswith("250 ")


def test_a_clear_login_ends_with_its_network():
    networks = [*LOOPBACK]
    with Harness(plaintext_networks=networks) as harness, harness.client() as talk:
        log_in(talk)
        networks.clear()
        assert talk.ask("MAIL FROM:<>").startswith("421 ")


# -- a client that was offered no AUTH -------------------------------------


LEFT = "first seen from 127.0.0.1: it was offered no AUTH, because it had not begun TLS, and left: "
CLEAR = '"plaintext_networks": ["10.0.0.0/8", "127.0.0.1"]'
RELAY = '"relay_networks": {"127.0.0.1": "scanner@contoso.com"}'
MAILBOXES = ["scanner@contoso.com"]


@pytest.mark.parametrize("goodbye", [["QUIT"], [], ["MAIL FROM:<>", "QUIT"]])
@pytest.mark.parametrize("has_certificate", [True, False])
def test_who_was_offered_no_auth_and_left_is_told_of_with_three_ways_out(
    certificate, has_certificate, goodbye, logged, wait_until
):
    networks = [ipaddress.ip_network("10.0.0.0/8")]
    chosen = certificate if has_certificate else None
    with Harness(chosen, plaintext_networks=networks, mailboxes=MAILBOXES) as harness:
        for _ in range(2):
            with harness.client() as talk:
                for command in ["EHLO x", *goodbye]:
                    talk.ask(command)
            wait_until(lambda: len(harness.connections) == 0)
    lines = [line for line in logged() if line.startswith(LEFT)]
    assert len(lines) == 1
    assert ("tls.tls_cert" in lines[0]) is not has_certificate
    assert CLEAR in lines[0] and RELAY in lines[0] and "STARTTLS" in lines[0]


def test_the_ways_that_tls_required_closes_are_not_named(certificate, logged, wait_until):
    with Harness(certificate, tls_required=True, mailboxes=MAILBOXES) as harness, harness.client() as talk:
        talk.ask("EHLO x")
        talk.ask("QUIT")
        assert talk.closed()
        wait_until(lambda: len(harness.connections) == 0)
    assert [line for line in logged() if line.startswith(LEFT)] == [LEFT + "set TLS (STARTTLS) on the device"]


@pytest.mark.parametrize("commands", [["EHLO x", "QUIT"], ["QUIT"], ["EHLO x", f"AUTH PLAIN {PLAIN}", "QUIT"]])
def test_who_was_offered_auth_or_did_not_ask_is_not_told_of(commands, logged):
    with Harness() as harness, harness.client() as talk:
        for command in commands:
            talk.ask(command)
    assert logged() == []


def test_who_begins_tls_is_not_told_of(certificate, logged):
    with Harness(certificate, plaintext_networks=()) as harness, harness.client() as talk:
        talk.ask("EHLO x")
        talk.ask("STARTTLS")
        talk.start_tls()
        talk.ask("QUIT")
    assert logged() == []
