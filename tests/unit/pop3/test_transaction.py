"""What a client does with an open mailbox: messages to the octet, and deletion at QUIT."""

from __future__ import annotations

import hashlib
import poplib
import random

import pytest
from pop3_house import SILENCE, House, listening

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


@pytest.mark.parametrize("length", [998, 999, 1000, 32 * 1024 - 1, 32 * 1024, 100_000])
def test_lines_of_any_length_pass(length):
    raw = b"A: b\r\n\r\n." + b"x" * length + b"\r\n.end\r\n"
    with House([raw]).logged_in() as house:
        assert house.ask(b"RETR 1") == b"+OK %d octets" % len(raw)
        assert house.lines() == [b"A: b", b"", b".." + b"x" * length, b"..end"]
        assert house.ask(b"TOP 1 1").startswith(b"+OK")
        assert house.lines() == [b"A: b", b"", b".." + b"x" * length]


def test_a_large_message_comes_whole():
    raw = b"A: b\r\n\r\n" + random.Random(5).randbytes(3_000_000).hex().encode() + b"\r\n"
    with House([raw]).logged_in() as house:
        house.say(b"RETR 1")
        assert house.line() == b"+OK %d octets" % len(raw)
        whole = b"".join(line + b"\r\n" for line in house.lines())
        assert hashlib.sha256(whole).digest() == hashlib.sha256(raw).digest()
        house.say(b"RETR 1")  # and leaves in the middle of it
        house.file.read(1000)
    assert house.drop.closed


def test_deleted_at_quit_and_only_then():
    with House().logged_in() as house:
        house.ask(b"DELE 3")
        house.ask(b"DELE 1")
        assert house.drop.deletions == []
        assert house.ask(b"QUIT") == b"+OK Bye."
        assert house.line() == b""
    assert house.drop.deletions == [[0, 2]]
    assert house.drop.closed


def test_hanging_up_deletes_nothing(caplog):
    with House().logged_in() as house:
        house.ask(b"DELE 1")
    assert house.drop.deletions == []
    assert house.drop.closed
    assert '127.0.0.1 user "scanner@contoso.com": session ended (connection closed), 0 retrieved, 0 deleted' in (
        caplog.text
    )


@pytest.mark.parametrize("error", [Closed, TimedOut])
def test_what_cannot_be_sent_is_not_deleted(error):
    """The answers to pipelined commands are collected: the client may be gone before it has any of them."""
    with House().logged_in() as house:

        def flush():
            raise error

        house.connection.flush = flush
        house.client.sendall(b"UIDL 1\r\nDELE 1\r\nQUIT\r\n")
        house.ended()
    assert house.drop.deletions == [] and house.drop.closed


def test_a_pipelined_message_has_left_before_it_is_deleted():
    with House().logged_in() as house:
        had = []

        def delete(indices):
            had.extend([house.line(), *house.lines(), house.line()])
            return 0

        house.drop.delete = delete
        house.client.sendall(b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
        house.ended()
        assert had == [b"+OK 23 octets", b"Subject: one", b"", b"Hello", b"+OK Message 1 will be deleted at QUIT."]
        assert house.line() == b"+OK Bye."


def test_rset_and_quit_deletes_nothing():
    with House().logged_in() as house:
        house.ask(b"DELE 1")
        house.ask(b"RSET")
        assert house.ask(b"QUIT") == b"+OK Bye."
    assert house.drop.deletions == []


def test_idling_deletes_nothing(caplog):
    with House(idle_seconds=0.3).logged_in() as house:
        house.ask(b"DELE 1")
        assert house.line() == b""
    assert house.drop.deletions == []
    assert house.drop.closed
    assert "timed out" in caplog.text


def test_what_could_not_be_deleted_is_said(caplog):
    with House().logged_in() as house:
        house.drop.undeletable = 1
        house.ask(b"DELE 1")
        house.ask(b"DELE 2")
        assert house.ask(b"QUIT") == b"-ERR [SYS/TEMP] 1 of 2 messages were not deleted."
        assert house.line() == b""
    assert "0 retrieved, 1 deleted" in caplog.text


@pytest.mark.parametrize("command", [b"DELE 1\r\nQUIT", b"QUIT"])
def test_the_mailbox_is_free_before_quit_is_answered(command):
    """Before the answer is so much as collected: it leaves at once if much is collected already."""
    order = []
    with House().logged_in() as house:
        house.drop.close = lambda: order.append("closed")
        write = house.connection.write
        house.connection.write = lambda data: (order.append(data), write(data))
        house.say(command)
        house.ended()
    assert order.index("closed") < order.index(b"+OK Bye.\r\n")


@pytest.mark.parametrize(
    "trouble, answer",
    [
        (Temporary("Graph is away."), b"-ERR [SYS/TEMP] Graph is away."),
        (SignInNeeded("Sign in."), b"-ERR [SYS/TEMP] Sign in."),
        (Permanent("This message is gone."), b"-ERR This message is gone."),
    ],
)
@pytest.mark.parametrize("command", [b"RETR 2", b"TOP 2 5"])
def test_one_message_that_cannot_be_had_ends_nothing(trouble, answer, command):
    with House(errors=2).logged_in() as house:
        house.drop.trouble[1] = trouble
        for _ in range(3):
            assert house.ask(command) == answer
        assert house.ask(b"RETR 1") == b"+OK 23 octets"
        assert house.lines() == [b"Subject: one", b"", b"Hello"]


def test_a_message_whose_size_is_unknown_follows():
    with House().logged_in() as house:
        house.drop.trouble[0] = (b"A: b\r\n\r\n.", b"two\r\n")
        assert house.ask(b"RETR 1") == b"+OK message follows"
        assert house.lines() == [b"A: b", b"", b"..two"]


def test_a_client_that_leaves_in_the_middle_of_a_silence_is_not_waited_for():
    with House() as house:
        house.logged_in()
        house.drop.trouble[0] = (b"Subject: half\r\n", SILENCE)
        house.say(b"RETR 1\r\nNOOP")
        assert house.line().startswith(b"+OK") and house.line() == b"Subject: half"
        house.leave()
        assert house.drop.closed


@pytest.mark.parametrize("command", [b"RETR 1", b"TOP 1 9"])
def test_a_message_that_breaks_off_never_looks_whole(command, caplog):
    with House().logged_in() as house:
        house.ask(b"DELE 2")
        house.drop.trouble[0] = (b"A: b\r\n\r\nbody\r\n", Temporary("Graph's answer broke off."))
        house.say(command)
        answer = house.file.read()
        house.ended()
    assert answer.partition(b"\r\n")[2] == b"A: b\r\n\r\nbody\r\n"
    assert house.drop.deletions == []
    assert "0 retrieved" in caplog.text


def test_octets_leave_before_the_session_waits_for_more():
    with House().logged_in() as house:
        seen = []

        class Message:
            size = None

            def wait_ready(self, seconds):
                assert seconds == 20.0
                return True

            def chunks(self, before_wait, in_silence):
                yield b"first\r\n"
                before_wait()
                seen.append(house.line())
                seen.append(house.line())
                yield b"second\r\n"

        house.drop.retrieve = lambda index: Message()
        house.say(b"RETR 1")
        house.say(b"QUIT")
        house.ended()
    assert seen == [b"+OK message follows", b"first"]
