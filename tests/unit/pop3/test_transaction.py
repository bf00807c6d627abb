"""What a client does with an open mailbox: messages to the octet, and deletion at QUIT."""

from __future__ import annotations

import hashlib
import poplib
import random

import pytest
from cases import each
from pop3_harness import SILENCE, Harness, listening

from m365proxy.errors import Permanent, SignInNeeded, Temporary
from m365proxy.server.connection import Closed, TimedOut

# Messages, and what a client has after it undid the dots (its lines joined with CRLF).
EXACT = {
    "plain": (b"A: b\r\n\r\ntext\r\n", b"A: b\r\n\r\ntext\r\n"),
    "dots": (b"A: b\r\n\r\n.\r\n..\r\n.x\r\n", b"A: b\r\n\r\n.\r\n..\r\n.x\r\n"),
    "first line is a dot": (b".\r\n", b".\r\n"),
    "no final line end": (b"A: b\r\n\r\n.end", b"A: b\r\n\r\n.end\r\n"),
    "bare LF": (b"A: b\n\n.one\ntwo\n", b"A: b\r\n\r\n.one\r\ntwo\r\n"),
    "bare CR": (b"A: b\r\n\r\none\rtwo\r\n", b"A: b\r\n\r\none\r\ntwo\r\n"),
    "8 bit": (bytes(range(14, 256)) + b"\r\n", bytes(range(14, 256)) + b"\r\n"),
    "header only": (b"A: b\r\n", b"A: b\r\n"),
    "empty": (b"", b""),
    "blank lines at the end": (b"A: b\r\n\r\n\r\n\r\n", b"A: b\r\n\r\n\r\n\r\n"),
}


@pytest.mark.parametrize("name", EXACT)
def test_poplib_gets_every_octet(name):
    raw, wanted = EXACT[name]
    with listening([raw]) as (port, _):
        client = poplib.POP3("127.0.0.1", port, timeout=10)
        client.user("scanner@contoso.com")
        client.pass_("pass word")
        status, lines, _ = client.retr(1)
        assert b"".join(line + b"\r\n" for line in lines) == wanted
        assert status == b"+OK %d octets" % len(wanted)
        assert client.list(1) == b"+OK 1 %d" % len(wanted)
        client.quit()


@each("length", [998, 999, 1000, 32 * 1024 - 1, 32 * 1024, 100_000])
def test_lines_of_any_length_pass(length):
    raw = b"A: b\r\n\r\n." + b"x" * length + b"\r\n.end\r\n"
    with Harness([raw]).logged_in() as harness:
        assert harness.ask(b"RETR 1") == b"+OK %d octets" % len(raw)
        assert harness.lines() == [b"A: b", b"", b".." + b"x" * length, b"..end"]
        assert harness.ask(b"TOP 1 1").startswith(b"+OK")
        assert harness.lines() == [b"A: b", b"", b".." + b"x" * length]


def test_a_large_message_comes_whole():
    raw = b"A: b\r\n\r\n" + random.Random(5).randbytes(3_000_000).hex().encode() + b"\r\n"
    with Harness([raw]).logged_in() as harness:
        harness.say(b"RETR 1")
        assert harness.line() == b"+OK %d octets" % len(raw)
        whole = b"".join(line + b"\r\n" for line in harness.lines())
        assert hashlib.sha256(whole).digest() == hashlib.sha256(raw).digest()
        harness.say(b"RETR 1")  # and leaves in the middle of it
        harness.file.read(1000)
    assert harness.drop.closed


def test_deleted_at_quit_and_only_then():
    with Harness().logged_in() as harness:
        harness.ask(b"DELE 3")
        harness.ask(b"DELE 1")
        assert harness.ask(b"STAT") == b"+OK 1 %d" % harness.drop.messages[1].size
        assert harness.drop.deletions == []
        assert harness.ask(b"QUIT") == b"+OK Bye."
        assert harness.line() == b""
    assert harness.drop.deletions == [[0, 2]]
    assert harness.drop.closed


def test_hanging_up_deletes_nothing(caplog):
    with Harness().logged_in() as harness:
        harness.ask(b"DELE 1")
    assert harness.drop.deletions == []
    assert harness.drop.closed
    assert '127.0.0.1 user "scanner@contoso.com": session ended (connection closed), 0 retrieved, 0 deleted' in (
        caplog.text
    )


@pytest.mark.parametrize("error", [Closed, TimedOut])
def test_what_cannot_be_sent_is_not_deleted(error):
    """The answers to pipelined commands are collected: the client may be gone before it has any of them."""
    with Harness().logged_in() as harness:

        def flush():
            raise error

        harness.connection.flush = flush
        harness.client.sendall(b"UIDL 1\r\nDELE 1\r\nQUIT\r\n")
        harness.ended()
    assert harness.drop.deletions == [] and harness.drop.closed


def test_a_pipelined_message_has_left_before_it_is_deleted():
    with Harness().logged_in() as harness:
        had = []

        def delete(indices):
            had.extend([harness.line(), *harness.lines(), harness.line()])
            return 0

        harness.drop.delete = delete
        harness.client.sendall(b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
        harness.ended()
        assert had == [b"+OK 23 octets", b"Subject: one", b"", b"Hello", b"+OK Message 1 will be deleted at QUIT."]
        assert harness.line() == b"+OK Bye."


def test_rset_and_quit_deletes_nothing():
    with Harness().logged_in() as harness:
        harness.ask(b"DELE 1")
        harness.ask(b"RSET")
        assert harness.ask(b"QUIT") == b"+OK Bye."
    assert harness.drop.deletions == []


def test_idling_deletes_nothing(caplog):
    with Harness().logged_in() as harness:
        harness.session._idle_seconds = 0.05  # from the next command on
        harness.ask(b"DELE 1")
        assert harness.line() == b""
    assert harness.drop.deletions == []
    assert harness.drop.closed
    assert "timed out" in caplog.text


def test_what_could_not_be_deleted_is_said(caplog):
    with Harness().logged_in() as harness:
        harness.drop.undeletable = 1
        harness.ask(b"DELE 1")
        harness.ask(b"DELE 2")
        assert harness.ask(b"QUIT") == b"-ERR [SYS/TEMP] 1 of 2 messages were not deleted."
        assert harness.line() == b""
    assert "0 retrieved, 1 deleted" in caplog.text


@pytest.mark.parametrize("command", [b"DELE 1\r\nQUIT", b"QUIT"])
def test_the_mailbox_is_free_before_quit_is_answered(command):
    """Before the answer is so much as collected: it leaves at once if much is collected already."""
    order = []
    with Harness().logged_in() as harness:
        harness.drop.close = lambda: order.append("closed")
        write = harness.connection.write
        harness.connection.write = lambda data: (order.append(data), write(data))
        harness.say(command)
        harness.ended()
    assert order.index("closed") < order.index(b"+OK Bye.\r\n")


@each(
    "trouble, answer",
    [
        (Temporary("Graph is away."), b"-ERR [SYS/TEMP] Graph is away."),
        (SignInNeeded("Sign in."), b"-ERR [SYS/TEMP] Sign in."),
        (Permanent("This message is gone."), b"-ERR This message is gone."),
    ],
)
@each("command", [b"RETR 2", b"TOP 2 5"])
def test_one_message_that_cannot_be_had_ends_nothing(trouble, answer, command):
    with Harness(errors=2).logged_in() as harness:
        harness.drop.trouble[1] = trouble
        for _ in range(3):
            assert harness.ask(command) == answer
        assert harness.ask(b"RETR 1") == b"+OK 23 octets"
        assert harness.lines() == [b"Subject: one", b"", b"Hello"]


def test_a_message_whose_size_is_unknown_follows():
    with Harness().logged_in() as harness:
        harness.drop.trouble[0] = (b"A: b\r\n\r\n.", b"two\r\n")
        assert harness.ask(b"RETR 1") == b"+OK message follows"
        assert harness.lines() == [b"A: b", b"", b"..two"]


def test_a_client_that_leaves_in_the_middle_of_a_silence_is_not_waited_for():
    with Harness() as harness:
        harness.logged_in()
        harness.drop.trouble[0] = (b"Subject: half\r\n", SILENCE)
        harness.say(b"RETR 1\r\nNOOP")
        assert harness.line().startswith(b"+OK") and harness.line() == b"Subject: half"
        harness.leave()
        assert harness.drop.closed


@pytest.mark.parametrize("command", [b"RETR 1", b"TOP 1 9"])
def test_a_message_that_breaks_off_never_looks_whole(command, caplog):
    with Harness().logged_in() as harness:
        harness.ask(b"DELE 2")
        harness.drop.trouble[0] = (b"A: b\r\n\r\nbody\r\n", Temporary("Graph's answer broke off."))
        harness.say(command)
        answer = harness.file.read()
        harness.ended()
    assert answer.partition(b"\r\n")[2] == b"A: b\r\n\r\nbody\r\n"
    assert harness.drop.deletions == []
    assert "0 retrieved" in caplog.text


def test_octets_leave_before_the_session_waits_for_more():
    with Harness().logged_in() as harness:
        seen = []

        class Message:
            size = None

            def wait_ready(self, seconds):
                assert seconds == 20.0
                return True

            def chunks(self, before_wait, in_silence):
                yield b"first\r\n"
                before_wait()
                seen.append(harness.line())
                seen.append(harness.line())
                yield b"second\r\n"

        harness.drop.retrieve = lambda index: Message()
        harness.say(b"RETR 1")
        harness.say(b"QUIT")
        harness.ended()
    assert seen == [b"+OK message follows", b"first"]
