"""POP3 sessions over real sockets: what the dialogues cannot say."""

from __future__ import annotations

from pop3_harness import Harness

from m365proxy.maildrop.locks import SessionHandle
from m365proxy.pop3.session import IDLE_SECONDS


def test_pipelined_commands_are_answered_in_order():
    with Harness() as harness:
        harness.client.sendall(
            b"USER scanner@contoso.com\r\nPASS pass word\r\nSTAT\r\nLIST 1\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n"
        )
        answers = [harness.line() for _ in range(5)]
        assert answers[-2:] == [b"+OK 3 121", b"+OK 1 23"]
        assert harness.line() == b"+OK 23 octets"
        assert harness.lines() == [b"Subject: one", b"", b"Hello"]
        assert harness.line().startswith(b"+OK")
        assert harness.line() == b"+OK Bye."
        harness.ended()
    assert harness.drop.deletions == [[0]]


def test_messages_that_were_retrieved_are_counted():
    counts = []
    with Harness(note_retrieved=counts.append) as harness:
        harness.client.sendall(b"USER scanner@contoso.com\r\nPASS pass word\r\nRETR 1\r\nRETR 2\r\nTOP 3 0\r\nQUIT\r\n")
        harness.ended()
    assert counts == [2]


def test_lf_alone_ends_a_command_too():
    with Harness() as harness:
        harness.line()
        harness.client.sendall(b"USER scanner@contoso.com\nPASS pass word\n")
        assert harness.line().startswith(b"+OK")
        assert harness.line().startswith(b"+OK")


def test_the_inactivity_timer_is_ten_minutes():
    assert IDLE_SECONDS >= 600


def test_lines_too_long_are_refused_and_dropped():
    with Harness() as harness:
        harness.line()
        assert harness.ask(b"USER " + b"x" * 600) == b"-ERR That line is too long."
        assert harness.ask(b"A" * 30_000) == b"-ERR That line is too long."
        assert harness.ask(b"AUTH PLAIN " + b"!" * 600) == b"-ERR This is not base64."
        assert harness.ask(b"AUTH PLAIN " + b"=" * 13_000) == b"-ERR That line is too long."
        assert harness.ask(b"USER " + b"x" * 400).startswith(b"+OK")


def test_errors_end_the_session_with_one_line(caplog):
    with Harness(errors=3) as harness:
        harness.line()
        for _ in range(3):
            assert harness.ask(b"\xff\x00").startswith(b"-ERR")
        assert harness.file.readline() == b""
        harness.ended()
    ours = [record.getMessage() for record in caplog.records]
    assert ours == ["127.0.0.1: session ended before login (too many errors, 3 errors)"]
    (step,) = (record.event for record in caplog.records)  # without it nothing bounds the lines of one client
    reason = "too many errors, 3 errors"
    assert step == {"event": "session ended", "service": "pop3", "client": "127.0.0.1", "reason": reason}


def test_a_connection_that_only_looks_leaves_no_line(caplog):
    with Harness() as harness:
        harness.line()
    assert caplog.records == []


def test_the_registry_can_tell_an_idle_session_and_end_it(caplog):
    now = [100.0]
    with Harness(clock=lambda: now[0]).logged_in() as harness:
        ((_, session),) = harness.maildrops.opened
        assert isinstance(session, SessionHandle) and session.peer == "127.0.0.1"
        harness.ask(b"DELE 1")
        harness.ask(b"NOOP")
        now[0] += 61
        assert session.idle() == 61
        session.end()
        assert harness.file.readline() == b""
        harness.ended()
    assert harness.drop.deletions == [] and harness.drop.closed


def test_a_session_at_work_is_not_idle():
    now = [100.0]
    with Harness(clock=lambda: now[0]).logged_in() as harness:
        ((_, session),) = harness.maildrops.opened
        idle = []
        retrieve = harness.drop.retrieve

        def slowly(index):
            now[0] += 300
            idle.append(session.idle())
            return retrieve(index)

        harness.drop.retrieve = slowly
        harness.ask(b"RETR 1")
        harness.lines()
    assert idle == [0.0]
