"""POP3 sessions over real sockets: what the dialogues cannot say."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import poplib
import random
import socket
import ssl
import threading

import pytest
from pop3_house import LOOPBACK, SILENCE, Drop, House, Maildrops, Users

from m365proxy.errors import InUse, Permanent, SignInNeeded, Temporary
from m365proxy.maildrop.holds import Session
from m365proxy.pop3.session import IDLE_SECONDS, Pop3Session
from m365proxy.server.connection import Closed, Connection, TimedOut
from m365proxy.server.tls import self_signed

REMOTE = "192.0.2.7"


@pytest.fixture(autouse=True)
def info(caplog):
    caplog.set_level(logging.INFO, "m365proxy")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate for localhost with its key, in one file."""
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    path.write_bytes(b"".join(self_signed(["localhost"])))
    return path


@pytest.fixture
def server_tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def client_tls(certificate):
    return ssl.create_default_context(cafile=certificate)


@contextlib.contextmanager
def listening(raws, tls=None, networks=LOOPBACK):
    """A loopback port with one session behind it, for clients that want to connect: (port, drop)."""
    drop = Drop(raws)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            client, address = listener.accept()
            Pop3Session(
                Connection(client, address[0]),
                users=Users(),
                maildrops=Maildrops(drop),
                tls_context=tls,
                plaintext_networks=networks,
            ).run()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], drop
        thread.join(10)
        assert not thread.is_alive()


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


def test_pipelined_commands_are_answered_in_order():
    with House() as house:
        house.client.sendall(
            b"USER scanner@contoso.com\r\nPASS pass word\r\nSTAT\r\nLIST 1\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n"
        )
        answers = [house.line() for _ in range(5)]
        assert answers[-2:] == [b"+OK 3 121", b"+OK 1 23"]
        assert house.line() == b"+OK 23 octets"
        assert house.lines() == [b"Subject: one", b"", b"Hello"]
        assert house.line().startswith(b"+OK")
        assert house.line() == b"+OK Bye."
        house.ended()
    assert house.drop.deletions == [[0]]


def test_lf_alone_ends_a_command_too():
    with House() as house:
        house.line()
        house.client.sendall(b"USER scanner@contoso.com\nPASS pass word\n")
        assert house.line().startswith(b"+OK")
        assert house.line().startswith(b"+OK")


# Deletion.


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


def test_the_inactivity_timer_is_ten_minutes():
    assert IDLE_SECONDS >= 600


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


# Trouble.


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
    with House() as house:
        house.line()
        house.maildrops.trouble = trouble
        house.ask(b"USER scanner@contoso.com")
        got = house.ask(b"PASS pass word")
        assert got.startswith(answer)
        assert len(got) <= 510
        assert house.ask(b"STAT") == b"-ERR Log in first."
        house.maildrops.trouble = None  # and it can be tried again
        house.ask(b"USER scanner@contoso.com")
        assert house.ask(b"PASS pass word").startswith(b"+OK")
    assert "the mailbox cannot be opened" in caplog.text


def test_too_busy_to_check_passwords():
    with House() as house:
        house.line()
        house.users.trouble = Temporary("Too many devices are signing in at once.")
        house.ask(b"USER scanner@contoso.com")
        assert house.ask(b"PASS pass word") == b"-ERR [SYS/TEMP] Too many devices are signing in at once."


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


def test_lines_too_long_are_refused_and_dropped():
    with House() as house:
        house.line()
        assert house.ask(b"USER " + b"x" * 600) == b"-ERR That line is too long."
        assert house.ask(b"A" * 30_000) == b"-ERR That line is too long."
        assert house.ask(b"AUTH PLAIN " + b"!" * 600) == b"-ERR This is not base64."
        assert house.ask(b"AUTH PLAIN " + b"=" * 13_000) == b"-ERR That line is too long."
        assert house.ask(b"USER " + b"x" * 400).startswith(b"+OK")


def test_a_line_too_long_inside_auth_is_one_error():
    with House() as house:
        house.line()
        assert house.ask(b"AUTH PLAIN") == b"+ "
        assert house.ask(b"A" * 13_000) == b"-ERR That line is too long."
        assert house.ask(b"NOOP") == b"-ERR Log in first."


def test_errors_end_the_session_with_one_line(caplog):
    with House(errors=3) as house:
        house.line()
        for _ in range(3):
            assert house.ask(b"\xff\x00").startswith(b"-ERR")
        assert house.file.readline() == b""
        house.ended()
    ours = [record.getMessage() for record in caplog.records]
    assert ours == ["127.0.0.1: session ended before login (too many errors, 3 errors)"]


def test_a_connection_that_only_looks_leaves_no_line(caplog):
    with House() as house:
        house.line()
    assert caplog.records == []


# The log.


def test_the_log_tells_who_came_and_never_the_password(caplog):
    caplog.set_level(logging.DEBUG)
    with House(peer="127.0.0.9") as house:
        house.line()
        house.ask(b'USER "\xc3\xa9vil\x1b')
        assert house.ask(b"PASS sesame 4711").startswith(b"-ERR [AUTH]")
        house.ask(b"AUTH LOGIN")
        house.ask(b"c2Nhbm5lckBjb250b3NvLmNvbQ==")
        house.ask(b"c2VzYW1lIDQ3MTE=")
        house.ask(b"USER scanner@contoso.com")
        house.ask(b"PASS pass word")
        house.ask(b"RETR 1")
        house.lines()
        house.ask(b"QUIT")
        house.ended()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        'login failed from 127.0.0.9 user "\\"évil\\\\x1b": wrong password',
        'login failed from 127.0.0.9 user "scanner@contoso.com": wrong password',
        '127.0.0.9 logged in as "scanner@contoso.com": 3 messages',
        '127.0.0.9 user "scanner@contoso.com": session ended (quit), 1 retrieved, 0 deleted',
    ]
    assert "sesame" not in caplog.text and "pass word" not in caplog.text


def test_passwords_come_through_as_they_were_sent():
    with House() as house:
        house.line()
        for password in (b"  two spaces ", "größe".encode(), "größe".encode("latin-1")):
            house.ask(b"USER scanner@contoso.com")
            house.ask(b"PASS " + password)
    assert [(seen[1], seen[2], seen[3]) for seen in house.users.seen] == [
        ("  two spaces ", "pop3", "127.0.0.1"),
        ("größe", "pop3", "127.0.0.1"),
        ("größe", "pop3", "127.0.0.1"),
    ]


# TLS.


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
    with House(tls=server_tls) as house:
        house.line()
        assert house.ask(b"USER scanner@contoso.com").startswith(b"+OK")
        assert house.ask(b"STLS").startswith(b"+OK")
        with client_tls.wrap_socket(house.client, server_hostname="localhost") as client:
            client.sendall(b"PASS pass word\r\nSTLS\r\nQUIT\r\n")
            answers = b""
            while b"Bye" not in answers:
                answers += client.recv(1000)
        assert answers.startswith(b"-ERR Send USER first.\r\n-ERR TLS cannot be started here.\r\n")
        house.ended()


def test_commands_ahead_of_tls_end_the_session(server_tls, caplog):
    with House(peer=REMOTE, tls=server_tls) as house:
        house.line()
        house.client.sendall(b"STLS\r\nUSER scanner@contoso.com\r\n")
        assert house.line() == b"+OK Begin TLS now."
        assert house.line() == b""
        house.ended()
    assert "commands were sent ahead of the TLS handshake" in caplog.text
    assert house.users.seen == []


def test_a_failed_handshake_is_told_once_with_the_address(server_tls, caplog):
    with House(peer=REMOTE, tls=server_tls) as house:
        house.line()
        house.ask(b"STLS")
        house.client.sendall(b"this is no TLS at all\r\n" * 5)
        house.ended()
    assert [record.getMessage() for record in caplog.records if "handshake failed" in record.getMessage()]
    assert REMOTE in caplog.text


# Slow and broken messages.


def test_a_message_whose_size_is_unknown_follows():
    with House().logged_in() as house:
        house.drop.trouble[0] = (b"A: b\r\n\r\n.", b"two\r\n")
        assert house.ask(b"RETR 1") == b"+OK message follows"
        assert house.lines() == [b"A: b", b"", b"..two"]


@pytest.mark.parametrize("command, said", [(b"RETR 1", b"message follows"), (b"TOP 1 9", b"top of message follows")])
def test_the_answer_is_begun_while_graph_is_silent(command, said):
    with House().logged_in() as house:
        house.drop.trouble[0] = (3, b"A: b\r\n\r\nbody\r\n")
        assert house.ask(command) == b"+OK Exchange is slow.. " + said
        assert house.lines() == [b"A: b", b"", b"body"]
        assert house.ask(b"NOOP").startswith(b"+OK")


def test_a_client_that_leaves_in_the_middle_of_a_silence_is_not_waited_for():
    with House() as house:
        house.logged_in()
        house.drop.trouble[0] = (b"Subject: half\r\n", SILENCE)
        house.say(b"RETR 1\r\nNOOP")
        assert house.line().startswith(b"+OK") and house.line() == b"Subject: half"
        house.leave()
        assert house.drop.closed


def test_silence_that_ends_badly_is_a_clean_cut(caplog):
    with House().logged_in() as house:
        house.ask(b"DELE 2")
        house.drop.trouble[0] = (2, Temporary("Graph is away."))
        house.say(b"RETR 1")
        assert house.file.read() == b"+OK Exchange is slow."
        house.ended()
    assert house.drop.deletions == [] and house.drop.closed
    assert "cut off in the middle of an answer: Graph is away." in caplog.text


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

            def ready(self, seconds):
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


def test_logging_in_waits_for_exact_sizes_with_signs_of_life():
    with House() as house:
        house.line()
        house.drop.unmeasured = [False, False, True]
        house.ask(b"USER scanner@contoso.com")
        assert house.ask(b"PASS pass word") == b"+OK Exchange is slow. Welcome: 3 messages (121 octets)."


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


SIGN_IN = [b"USER scanner@contoso.com\r\nPASS pass word", b"AUTH PLAIN AHNjYW5uZXJAY29udG9zby5jb20AcGFzcyB3b3Jk"]
BEGUN = b"+OK Exchange is slow.."


@contextlib.contextmanager
def slow(command, result=None):
    """(a session that is held back in a login or a QUIT, the gate): the answer is begun already."""
    with House(silence_seconds=0.01) as house:
        house.line()
        if command == b"QUIT":
            house.ask(SIGN_IN[0].split(b"\r\n")[0])
            house.ask(SIGN_IN[0].split(b"\r\n")[1])
            house.ask(b"DELE 1")
            house.ask(b"DELE 2")
            gate = house.drop.delete = Gate(result or 0)
        else:
            gate = house.maildrops.open = Gate(result or house.drop)
            if command.startswith(b"USER"):
                user, command = command.split(b"\r\n")
                house.ask(user)
        house.say(command)
        try:
            assert house.file.read(len(BEGUN)) == BEGUN
            yield house, gate
        finally:
            gate.open.set()


@pytest.mark.parametrize(
    "command, said", [(SIGN_IN[0], b"Welcome: 3 m"), (SIGN_IN[1], b"Welcome: 3 m"), (b"QUIT", b"Bye.")]
)
def test_the_answer_is_begun_while_a_mailbox_is_listed_or_messages_are_deleted(command, said):
    with slow(command) as (house, gate):
        gate.open.set()
        assert house.line().lstrip(b".").startswith(b" " + said)
        if command == b"QUIT":
            assert house.line() == b""
        else:
            assert house.ask(b"STAT") == b"+OK 3 121"


@pytest.mark.parametrize("command", [*SIGN_IN, b"QUIT"])
def test_a_begun_answer_to_what_failed_is_cut_off(command, caplog):
    with slow(command, Temporary("Graph is away.")) as (house, gate):
        gate.open.set()
        assert house.file.read().strip(b".") == b""
        house.ended()
        assert house.drop.closed == (command == b"QUIT")
    assert "cut off in the middle of an answer: Graph is away." in caplog.text
    if command != b"QUIT":
        assert 'user "scanner@contoso.com": the mailbox cannot be opened: Graph is away.' in caplog.text


def test_nor_does_a_begun_quit_that_left_messages_look_whole(caplog):
    with slow(b"QUIT", 1) as (house, gate):
        gate.open.set()
        assert house.file.read().strip(b".") == b""
        house.ended()
        assert house.drop.closed
    reason = "cut off in the middle of an answer: 1 of 2 messages were not deleted"
    assert f"session ended ({reason}), 0 retrieved, 1 deleted" in caplog.text


def _broken(house, error):
    """The next thing the session sends does not leave."""

    def flush():
        del house.connection.flush
        raise error

    house.connection.flush = flush


WAYS_OUT = {
    "the client leaves": lambda house: (house.file.close(), house.client.close()),
    "the client takes nothing": lambda house: _broken(house, TimedOut()),
    "the connection breaks": lambda house: _broken(house, Closed()),
    "a fault": lambda house: _broken(house, ZeroDivisionError()),
    "a stop": lambda house: (house.connection.interrupt(), house.connection.cut()),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.parametrize("command", [SIGN_IN[0], b"QUIT"])
def test_the_mailbox_is_held_until_what_was_begun_is_over(command, way, caplog):
    """And then it is given back, though the client has gone."""
    with slow(command) as (house, gate):
        WAYS_OUT[way](house)
        house.thread.join(0.2)
        assert house.thread.is_alive() and not house.drop.closed
        gate.open.set()
        house.ended()
        assert len(gate.ended) == 1 and house.drop.closed
    if command == b"QUIT":
        assert "0 retrieved, 2 deleted" in caplog.text
    assert 'user "scanner@contoso.com": session ended' in caplog.text


def test_a_wrong_password_is_refused_before_anything_is_begun():
    with House(silence_seconds=0.01) as house:
        house.line()
        house.maildrops.open = Gate(house.drop)
        house.ask(b"USER scanner@contoso.com")
        assert house.ask(b"PASS wrong") == b"-ERR [AUTH] Login failed: wrong user name or password."
        assert house.maildrops.open.ended == []


def test_without_a_thread_of_its_own_a_mailbox_is_opened_and_messages_deleted_all_the_same(monkeypatch):
    with House() as house:
        house.line()

        def no_thread(self):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", no_thread)
        house.ask(b"USER scanner@contoso.com")
        assert house.ask(b"PASS pass word").startswith(b"+OK Welcome")
        house.ask(b"DELE 1")
        assert house.ask(b"QUIT") == b"+OK Bye."
    assert house.drop.deletions == [[0]] and house.drop.closed


def test_commands_alone_do_not_keep_a_session_without_a_login():
    now = [0.0]
    with House(clock=lambda: now[0]) as house:
        assert house.line().startswith(b"+OK")
        now[0] = 599.0
        assert house.ask(b"UTF8").startswith(b"+OK")
        now[0] = 601.0
        assert house.ask(b"UTF8").startswith(b"+OK") and house.line() == b""


def test_a_session_that_logged_in_may_stay():
    now = [0.0]
    with House(clock=lambda: now[0]).logged_in() as house:
        now[0] = 6000.0
        assert house.ask(b"NOOP").startswith(b"+OK") and house.ask(b"NOOP").startswith(b"+OK")


def test_the_registry_can_tell_an_idle_session_and_end_it(caplog):
    now = [100.0]
    with House(clock=lambda: now[0]).logged_in() as house:
        ((_, session),) = house.maildrops.opened
        assert isinstance(session, Session) and session.peer == "127.0.0.1"
        house.ask(b"DELE 1")
        house.ask(b"NOOP")
        now[0] += 61
        assert session.idle() == 61
        session.end()
        assert house.file.readline() == b""
        house.ended()
    assert house.drop.deletions == [] and house.drop.closed


def test_a_session_at_work_is_not_idle():
    now = [100.0]
    with House(clock=lambda: now[0]).logged_in() as house:
        ((_, session),) = house.maildrops.opened
        idle = []
        retrieve = house.drop.retrieve

        def slowly(index):
            now[0] += 300
            idle.append(session.idle())
            return retrieve(index)

        house.drop.retrieve = slowly
        house.ask(b"RETR 1")
        house.lines()
    assert idle == [0.0]


@pytest.mark.parametrize("command", [b"NOOP", b"RETR 1", b"DELE 2", b"QUIT"])
def test_a_login_that_a_reload_ended_reads_and_deletes_nothing(command, caplog):
    caplog.set_level(logging.INFO)
    with House().logged_in() as house:
        assert house.ask(b"DELE 1").startswith(b"+OK")
        house.users.lost = True
        assert house.ask(command).startswith(b"-ERR The configuration has changed")
        assert house.line() == b""
        house.ended()
        assert house.drop.deletions == [] and house.drop.closed
    assert "session ended (the configuration has changed)" in caplog.text


def test_a_clear_login_ends_with_its_network():
    networks = [*LOOPBACK]
    with House(networks=networks).logged_in() as house:
        networks.clear()
        assert house.ask(b"NOOP").startswith(b"-ERR ")
        assert house.line() == b""
