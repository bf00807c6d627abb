"""Logging in by POP3: passwords, STLS, mailboxes that cannot be opened, and what the log says of it."""

from __future__ import annotations

import logging
import poplib

import pytest
from pop3_harness import LOOPBACK, Harness, listening

from m365proxy.errors import InUse, Permanent, SignInNeeded, Temporary

REMOTE = "192.0.2.7"


@pytest.mark.parametrize(
    "trouble, answer",
    [
        (InUse("Another session, from 192.0.2.9, is reading it."), b"-ERR [IN-USE] Another session"),
        (Temporary("Graph is away."), b"-ERR [SYS/TEMP] Graph is away."),
        (SignInNeeded("Run `m365proxy login`."), b"-ERR [SYS/TEMP] Run `m365proxy login`."),
        (Permanent("Full Access is missing."), b"-ERR [SYS/PERM] Full Access is missing."),
        (Permanent("two\r\nlines " + "ü" * 1000), b"-ERR [SYS/PERM] two\\x0d\\x0alines ?"),
    ],
)
def test_a_mailbox_that_cannot_be_opened(trouble, answer, caplog):
    caplog.set_level(logging.INFO)
    with Harness() as harness:
        harness.line()
        harness.maildrops.trouble = trouble
        harness.ask(b"USER scanner@contoso.com")
        got = harness.ask(b"PASS pass word")
        assert got.startswith(answer)
        assert len(got) <= 510
        assert harness.ask(b"STAT") == b"-ERR Log in first."
        harness.maildrops.trouble = None  # and it can be tried again
        harness.ask(b"USER scanner@contoso.com")
        assert harness.ask(b"PASS pass word").startswith(b"+OK")
    (level,) = [one.levelname for one in caplog.records if "the mailbox cannot be opened" in one.getMessage()]
    assert level == ("INFO" if isinstance(trouble, InUse) else "WARNING")  # two clients that poll are no trouble


def test_too_busy_to_check_passwords():
    with Harness() as harness:
        harness.line()
        harness.users.trouble = Temporary("Too many devices are signing in at once.")
        harness.ask(b"USER scanner@contoso.com")
        assert harness.ask(b"PASS pass word") == b"-ERR [SYS/TEMP] Too many devices are signing in at once."


@pytest.mark.parametrize("stray", [b"\r", b"\0", b"\r\r\0"])
def test_what_strays_behind_name_and_password(stray):
    with Harness() as harness:
        harness.line()
        assert harness.ask(b"USER scanner@contoso.com" + stray).startswith(b"+OK")
        assert harness.ask(b"PASS pass word" + stray).startswith(b"+OK")
    assert harness.users.seen == [("scanner@contoso.com", "pass word" + stray.decode(), "pop3", "127.0.0.1")]


def test_a_line_too_long_inside_auth_is_one_error():
    with Harness() as harness:
        harness.line()
        assert harness.ask(b"AUTH PLAIN") == b"+ "
        assert harness.ask(b"A" * 13_000) == b"-ERR That line is too long."
        assert harness.ask(b"NOOP") == b"-ERR Log in first."


def test_the_log_tells_who_came_and_never_the_password(caplog):
    caplog.set_level(logging.DEBUG)
    with Harness(peer="127.0.0.9") as harness:
        harness.line()
        harness.ask(b'USER "\xc3\xa9vil\x1b')
        assert harness.ask(b"PASS sesame 4711").startswith(b"-ERR [AUTH]")
        harness.ask(b"AUTH LOGIN")
        harness.ask(b"c2Nhbm5lckBjb250b3NvLmNvbQ==")
        harness.ask(b"c2VzYW1lIDQ3MTE=")
        harness.ask(b"USER scanner@contoso.com")
        harness.ask(b"PASS pass word")
        harness.ask(b"RETR 1")
        harness.lines()
        harness.ask(b"QUIT")
        harness.ended()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        'login failed from 127.0.0.9 user "\\"évil\\\\x1b": wrong password',
        'login failed from 127.0.0.9 user "scanner@contoso.com": wrong password',
        '127.0.0.9 logged in as "scanner@contoso.com": 3 messages',
        '127.0.0.9 user "scanner@contoso.com": session ended (quit), 1 retrieved, 0 deleted',
    ]
    assert "sesame" not in caplog.text and "pass word" not in caplog.text


def test_passwords_come_through_as_they_were_sent():
    with Harness() as harness:
        harness.line()
        for password in (b"  two spaces ", "größe".encode(), "größe".encode("latin-1")):
            harness.ask(b"USER scanner@contoso.com")
            harness.ask(b"PASS " + password)
    assert [(seen[1], seen[2], seen[3]) for seen in harness.users.seen] == [
        ("  two spaces ", "pop3", "127.0.0.1"),
        ("größe", "pop3", "127.0.0.1"),
        ("größe", "pop3", "127.0.0.1"),
    ]


def test_poplib_over_stls(server_tls, client_tls):
    with listening([b"A: b\r\n\r\n.dot\r\n"], server_tls, networks=()) as (port, drop):
        client = poplib.POP3("localhost", port, timeout=10)
        assert "STLS" in client.capa() and "SASL" not in client.capa() and "USER" not in client.capa()
        client.stls(client_tls)
        able = client.capa()
        assert "STLS" not in able
        assert able["SASL"] == ["PLAIN", "LOGIN"]
        client.user("scanner@contoso.com")
        client.pass_("pass word")
        assert client.retr(1)[1] == [b"A: b", b"", b".dot"]
        assert "STLS" not in client.capa()
        client.dele(1)
        client.quit()
    assert drop.deletions == [[0]]


def test_what_was_said_before_tls_is_forgotten(server_tls, client_tls):
    with Harness(tls=server_tls) as harness:
        harness.line()
        assert harness.ask(b"USER scanner@contoso.com").startswith(b"+OK")
        assert harness.ask(b"STLS").startswith(b"+OK")
        with client_tls.wrap_socket(harness.client, server_hostname="localhost") as client:
            client.sendall(b"PASS pass word\r\nSTLS\r\nQUIT\r\n")
            answers = b""
            while b"Bye" not in answers:
                answers += client.recv(1000)
        assert answers.startswith(b"-ERR Send USER first.\r\n-ERR TLS cannot be started here.\r\n")
        harness.ended()


def test_commands_ahead_of_tls_end_the_session(server_tls, caplog):
    with Harness(peer=REMOTE, tls=server_tls) as harness:
        harness.line()
        harness.client.sendall(b"STLS\r\nUSER scanner@contoso.com\r\n")
        assert harness.line() == b"+OK Begin TLS now."
        assert harness.line() == b""
        harness.ended()
    assert "commands were sent ahead of the TLS handshake" in caplog.text
    assert harness.users.seen == []


def test_a_failed_handshake_is_told_once_with_the_address(server_tls, caplog):
    with Harness(peer=REMOTE, tls=server_tls) as harness:
        harness.line()
        harness.ask(b"STLS")
        harness.client.sendall(b"this is no TLS at all\r\n" * 5)
        harness.ended()
    assert [record.getMessage() for record in caplog.records if "handshake failed" in record.getMessage()]
    assert REMOTE in caplog.text


def test_commands_alone_do_not_keep_a_session_without_a_login():
    now = [0.0]
    with Harness(clock=lambda: now[0]) as harness:
        assert harness.line().startswith(b"+OK")
        now[0] = 599.0
        assert harness.ask(b"UTF8").startswith(b"+OK")
        now[0] = 601.0
        assert harness.ask(b"UTF8").startswith(b"+OK") and harness.line() == b""


def test_a_session_that_logged_in_may_stay():
    now = [0.0]
    with Harness(clock=lambda: now[0]).logged_in() as harness:
        now[0] = 6000.0
        assert harness.ask(b"NOOP").startswith(b"+OK") and harness.ask(b"NOOP").startswith(b"+OK")


@pytest.mark.parametrize("command", [b"NOOP", b"RETR 1", b"DELE 2", b"QUIT"])
def test_a_login_that_a_reload_ended_reads_and_deletes_nothing(command, caplog):
    caplog.set_level(logging.INFO)
    with Harness().logged_in() as harness:
        assert harness.ask(b"DELE 1").startswith(b"+OK")
        harness.users.lost = True
        assert harness.ask(command).startswith(b"-ERR The configuration has changed")
        assert harness.line() == b""
        harness.ended()
        assert harness.drop.deletions == [] and harness.drop.closed
    assert "session ended (the configuration has changed)" in caplog.text


def test_a_clear_login_ends_with_its_network():
    networks = [*LOOPBACK]
    with Harness(networks=networks).logged_in() as harness:
        networks.clear()
        assert harness.ask(b"NOOP").startswith(b"-ERR ")
        assert harness.line() == b""
