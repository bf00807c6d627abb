"""Commands that bring nothing, in numbers: how many are answered, which pauses are asked for; no test waits for one."""

import base64
import contextlib

import pytest
import smtp_harness
from cases import each
from pop3_harness import MESSAGES
from pop3_harness import Harness as Pop3Harness
from smtp_harness import PASSWORD, user

from m365proxy.server.junk import JunkCommands, TooMuchJunk
from m365proxy.smtp.session import SmtpSession

PLAIN = "AUTH PLAIN " + base64.b64encode(f"\0scanner@contoso.com\0{PASSWORD}".encode()).decode()
PAUSES = [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0, 2.0]


class Junk:
    """A counter with a clock that moves by hand only."""

    def __init__(self):
        self.now = 0.0
        self.slept = []
        self.counter = JunkCommands(clock=lambda: self.now, sleep=self.slept.append)

    def answered(self, seconds=0.0, limit=1000):
        """How many commands, `seconds` apart, are answered before the end; at most `limit`."""
        for number in range(limit):
            self.now += seconds
            try:
                self.counter.note(False, lambda: None)
            except TooMuchJunk:
                return number
        return limit


class SmtpHarness(smtp_harness.Harness):
    def __init__(self, **more):
        self.junk = Junk()
        super().__init__(**more)

    def _session(self, client):
        return SmtpSession(
            client,
            hostname="mail.contoso.com",
            users=self.users,
            accept=self.spool.put,
            policy=self.policy,
            junk=self.junk.counter,
        )


def answers(talk, commands, most=3000):
    """Codes of what is answered to commands sent again and again until the session ends."""
    codes = []
    while len(codes) < most:
        talk.send("".join(f"{command}\r\n" for command in commands).encode())
        for _ in commands:
            reply = talk.reply()
            if not reply:
                return codes
            codes.append(reply[:3])
            if codes[-1] == "421":
                return codes
    return codes


def test_pauses_grow_and_then_it_is_over():
    junk = Junk()
    assert junk.answered() == 30
    assert junk.slept == PAUSES


def test_a_login_or_a_message_is_progress():
    used = []
    counter = JunkCommands(lambda: used.append(1))
    counter.note(False, lambda: None)
    counter.excuse()
    assert used == []
    counter.forget()
    assert used == [1]


@pytest.mark.parametrize("seconds", [6, 60])
def test_a_command_now_and_then_is_never_too_much(seconds):
    junk = Junk()
    assert junk.answered(seconds, limit=1000) == 1000
    assert junk.slept == []


SMTP = [["RSET"], ["NOOP"], ["EHLO x"], ["HELO x"], ["HELP"], ["VRFY x"], ["NOOP", "RSET", "EHLO x", "HELP"]]


@pytest.mark.parametrize("commands", SMTP, ids=" ".join)
def test_smtp_before_login(commands):
    with SmtpHarness() as harness, harness.client() as talk:
        assert len(answers(talk, commands)) == 31
        assert talk.closed()
    assert harness.junk.slept == PAUSES


@pytest.mark.parametrize(
    "commands",
    [["NOOP"], ["MAIL FROM:<>", "RSET"], ["MAIL FROM:<>", "EHLO x"], ["MAIL FROM:<x@y.z>"], ["MAIL FROM:<>", "HELO x"]],
    ids=" ".join,
)
@pytest.mark.parametrize("relay", [False, True])
def test_smtp_after_login(commands, relay):
    more = {"relay": lambda peer: user(login="")} if relay else {}
    with SmtpHarness(**more) as harness, harness.client() as talk:
        if not relay:
            assert talk.ask(PLAIN).startswith("235 ")
        assert len(answers(talk, commands)) == 111
    assert harness.junk.slept == PAUSES


def test_recipients_are_free_as_many_as_messages_may_have_and_a_thousand_more():
    with SmtpHarness(recipients=5) as harness, harness.client() as talk:
        talk.ask(PLAIN)
        talk.ask("MAIL FROM:<>")
        codes = answers(talk, [f"RCPT TO:<a{number}@contoso.com>" for number in range(100)])
    assert len(codes) == 5 + 1000 + 109 + 1 and codes[-1] == "421"


def test_small_chunks_bring_nothing_and_large_ones_do():
    with SmtpHarness() as harness, harness.client() as talk:
        talk.ask(PLAIN)
        talk.ask("MAIL FROM:<>")
        talk.ask("RCPT TO:<a@b.c>")
        for _ in range(200):
            assert talk.ask("BDAT 64\r\n" + "x" * 62).startswith("250 ")
        assert harness.junk.slept == []
        assert answers(talk, ["BDAT 0"])[-1] == "421"
    assert not harness.spool.open_ones


def test_a_session_that_sends_message_after_message_is_never_slowed():
    with SmtpHarness() as harness, harness.client() as talk:
        talk.ask(PLAIN)
        for _ in range(60):
            for command in ("RSET", "NOOP", "EHLO x", "MAIL FROM:<>", "RCPT TO:<a@b.c>", "DATA", "x\r\n."):
                assert talk.ask(command)[0] in "23"
    assert harness.junk.slept == []


MANY_LINES = (b"CAPA", b"RETR", b"TOP")


def ask_all(harness, commands):
    """How many of the commands are answered before the session ends."""
    count = 0
    for command in commands:
        line = b""
        with contextlib.suppress(OSError):  # the session has ended before the command came
            line = harness.ask(command)
        if not line:
            break
        if line.startswith(b"+OK") and (command.split()[0] in MANY_LINES or command in (b"UIDL", b"LIST")):
            harness.lines()
        count += 1
    return count


def test_pop3_before_login(caplog):
    junk = Junk()
    caplog.set_level("INFO")
    with Pop3Harness(junk=junk.counter) as harness:
        harness.line()
        assert ask_all(harness, [b"CAPA"] * 100) == 31
        harness.ended()
    assert junk.slept == PAUSES
    assert "before login (too many commands that achieve nothing" in caplog.text


@each("commands", [[b"NOOP"], [b"CAPA"], [b"RSET"], [b"DELE 1", b"RSET"], [b"STAT"], [b"UIDL"]])
def test_pop3_after_login(commands):
    junk = Junk()
    with Pop3Harness(junk=junk.counter).logged_in() as harness:
        assert 111 <= ask_all(harness, commands * 200) <= 115
    assert junk.slept == PAUSES


@pytest.mark.parametrize("command", [b"TOP 1 0", b"RETR 1", b"LIST 1"])
def test_the_same_message_again_brings_nothing(command):
    junk = Junk()
    with Pop3Harness(junk=junk.counter).logged_in() as harness:
        assert 111 <= ask_all(harness, [command] * 200) <= 115


def test_a_long_mailbox_read_from_end_to_end_is_never_slowed():
    junk = Junk()
    numbers = [b"%d" % number for number in range(1, 401)]
    with Pop3Harness(MESSAGES[:1] * 400, junk=junk.counter).logged_in() as harness:
        commands = [b"CAPA", b"STAT", b"LIST", b"UIDL"]
        commands += [b"LIST " + number for number in numbers] + [b"UIDL " + number for number in numbers]
        for number in numbers:
            commands += [b"TOP %s 0" % number, b"RETR " + number, b"NOOP"]
        commands += [b"DELE " + number for number in numbers]
        assert ask_all(harness, commands) == len(commands)
    assert junk.slept == []


def test_a_long_list_asked_for_again_costs_more():
    junk = Junk()
    with Pop3Harness(MESSAGES[:1] * 2500, junk=junk.counter).logged_in() as harness:
        assert 15 <= ask_all(harness, [b"UIDL"] * 200) <= 25
