"""Answers that are begun while Exchange is slow, and how they end."""

from __future__ import annotations

import contextlib
import threading

import pytest
from pop3_harness import Harness

from m365proxy.errors import Temporary
from m365proxy.server.connection import Closed, TimedOut


@pytest.mark.parametrize("command, said", [(b"RETR 1", b"message follows"), (b"TOP 1 9", b"top of message follows")])
def test_the_answer_is_begun_while_graph_is_silent(command, said):
    with Harness().logged_in() as harness:
        harness.drop.trouble[0] = (3, b"A: b\r\n\r\nbody\r\n")
        assert harness.ask(command) == b"+OK Exchange is slow.. " + said
        assert harness.lines() == [b"A: b", b"", b"body"]
        assert harness.ask(b"NOOP").startswith(b"+OK")


def test_silence_that_ends_badly_is_a_clean_cut(caplog):
    with Harness().logged_in() as harness:
        harness.ask(b"DELE 2")
        harness.drop.trouble[0] = (2, Temporary("Graph is away."))
        harness.say(b"RETR 1")
        assert harness.file.read() == b"+OK Exchange is slow."
        harness.ended()
    assert harness.drop.deletions == [] and harness.drop.closed
    assert "cut off in the middle of an answer: Graph is away." in caplog.text


def test_logging_in_waits_for_exact_sizes_with_signs_of_life():
    with Harness() as harness:
        harness.line()
        harness.drop.unmeasured = [False, False, True]
        harness.ask(b"USER scanner@contoso.com")
        assert harness.ask(b"PASS pass word") == b"+OK Exchange is slow. Welcome: 3 messages (121 octets)."


class Gate:
    """Holds back whatever is called until it is opened, then lets it return or raise."""

    def __init__(self, result):
        self.result = result
        self.open = threading.Event()
        self.ended = []

    def __call__(self, *_):
        assert self.open.wait(10)
        self.ended.append(threading.current_thread().name)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


LOGIN = [b"USER scanner@contoso.com\r\nPASS pass word", b"AUTH PLAIN AHNjYW5uZXJAY29udG9zby5jb20AcGFzcyB3b3Jk"]


BEGUN = b"+OK Exchange is slow.."


@contextlib.contextmanager
def slow(command, result=None):
    """(a session that is held back in a login or a QUIT, the gate): the answer is begun already."""
    with Harness(silence_seconds=0.01) as harness:
        harness.line()
        if command == b"QUIT":
            harness.ask(LOGIN[0].split(b"\r\n")[0])
            harness.ask(LOGIN[0].split(b"\r\n")[1])
            harness.ask(b"DELE 1")
            harness.ask(b"DELE 2")
            gate = harness.drop.delete = Gate(result or 0)
        else:
            gate = harness.maildrops.open = Gate(result or harness.drop)
            if command.startswith(b"USER"):
                user, command = command.split(b"\r\n")
                harness.ask(user)
        harness.say(command)
        try:
            assert harness.file.read(len(BEGUN)) == BEGUN
            yield harness, gate
        finally:
            gate.open.set()


@pytest.mark.parametrize(
    "command, said", [(LOGIN[0], b"Welcome: 3 m"), (LOGIN[1], b"Welcome: 3 m"), (b"QUIT", b"Bye.")]
)
def test_the_answer_is_begun_while_a_mailbox_is_listed_or_messages_are_deleted(command, said):
    with slow(command) as (harness, gate):
        gate.open.set()
        assert harness.line().lstrip(b".").startswith(b" " + said)
        if command == b"QUIT":
            assert harness.line() == b""
        else:
            assert harness.ask(b"STAT") == b"+OK 3 121"


@pytest.mark.parametrize("command", [*LOGIN, b"QUIT"])
def test_a_begun_answer_to_what_failed_is_cut_off(command, caplog):
    with slow(command, Temporary("Graph is away.")) as (harness, gate):
        gate.open.set()
        assert harness.file.read().strip(b".") == b""
        harness.ended()
        assert harness.drop.closed == (command == b"QUIT")
    assert "cut off in the middle of an answer: Graph is away." in caplog.text
    if command != b"QUIT":
        assert 'user "scanner@contoso.com": the mailbox cannot be opened: Graph is away.' in caplog.text


def test_nor_does_a_begun_quit_that_left_messages_look_whole(caplog):
    with slow(b"QUIT", 1) as (harness, gate):
        gate.open.set()
        assert harness.file.read().strip(b".") == b""
        harness.ended()
        assert harness.drop.closed
    reason = "cut off in the middle of an answer: 1 of 2 messages were not deleted"
    assert f"session ended ({reason}), 0 retrieved, 1 deleted" in caplog.text


def _broken(harness, error):
    """The next thing the session sends does not leave."""

    def flush():
        del harness.connection.flush
        raise error

    harness.connection.flush = flush


WAYS_OUT = {
    "the client leaves": lambda harness: (harness.file.close(), harness.client.close()),
    "the client takes nothing": lambda harness: _broken(harness, TimedOut()),
    "the connection breaks": lambda harness: _broken(harness, Closed()),
    "a fault": lambda harness: _broken(harness, ZeroDivisionError()),
    "a stop": lambda harness: (harness.connection.interrupt(), harness.connection.cut()),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.parametrize("command", [LOGIN[0], b"QUIT"])
def test_the_mailbox_is_held_until_what_was_begun_is_over(command, way, caplog):
    """And then it is given back, though the client has gone."""
    with slow(command) as (harness, gate):
        WAYS_OUT[way](harness)
        harness.thread.join(0.05)
        assert harness.thread.is_alive() and not harness.drop.closed
        gate.open.set()
        harness.ended()
        assert len(gate.ended) == 1 and harness.drop.closed
    if command == b"QUIT":
        assert "0 retrieved, 2 deleted" in caplog.text
    assert 'user "scanner@contoso.com": session ended' in caplog.text


def test_a_wrong_password_is_refused_before_anything_is_begun():
    with Harness(silence_seconds=0.01) as harness:
        harness.line()
        harness.maildrops.open = Gate(harness.drop)
        harness.ask(b"USER scanner@contoso.com")
        assert harness.ask(b"PASS wrong") == b"-ERR [AUTH] Login failed: wrong user name or password."
        assert harness.maildrops.open.ended == []


def test_without_a_thread_of_its_own_a_mailbox_is_opened_and_messages_deleted_all_the_same(monkeypatch):
    with Harness() as harness:
        harness.line()

        def no_thread(self):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", no_thread)
        harness.ask(b"USER scanner@contoso.com")
        assert harness.ask(b"PASS pass word").startswith(b"+OK Welcome")
        harness.ask(b"DELE 1")
        assert harness.ask(b"QUIT") == b"+OK Bye."
    assert harness.drop.deletions == [[0]] and harness.drop.closed
