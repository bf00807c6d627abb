"""The reader for clients that know no CR, and chunks; DATA itself is shown by the dialogues and test_smtp."""

import logging
import socket
import threading

import pytest
from smtp_harness import FULL, Harness, Incoming, Spool, begin, log_in

from m365proxy.errors import Permanent, Temporary
from m365proxy.smtp import reception, replies


def log_in_and_begin(talk):
    talk.ask("AUTH PLAIN AHNjYW5uZXJAY29udG9zby5jb20AcGFzcyB3b3Jk")
    talk.ask("MAIL FROM:<>")
    assert talk.ask("RCPT TO:<a@contoso.com>").startswith("250 ")


@pytest.mark.parametrize("end", ["QUIT", "RSET", "EHLO x", "close", "half"])
def test_chunks_without_a_last_leave_nothing(end, wait_until):
    with Harness() as harness:
        with harness.client() as talk:
            log_in_and_begin(talk)
            assert talk.ask("BDAT 3\r\nabc") == "250 2.0.0 3 octets received"
            assert len(harness.spool.open_ones) == 1
            if end == "half":
                talk.send(b"BDAT 10\r\nabc")
            elif end != "close":
                talk.ask(end)
        wait_until(lambda: not harness.spool.open_ones)
        assert not harness.spool.accepted


def test_a_chunk_comes_in_small_pieces():
    with Harness() as harness, harness.client() as talk:
        log_in_and_begin(talk)
        talk.send(b"BDAT 3000000 LAST\r\n")
        talk.send(b"x" * 3000000)
        assert talk.reply().startswith("250 2.0.0 Ok: queued as ")
        (incoming,) = harness.spool.accepted
        assert incoming.size == 3000000
        assert incoming.writes >= 3000000 // 70000


@pytest.mark.parametrize("step", ["put", "write", "commit"])
def test_a_refused_chunk_is_read_all_the_same(step):
    with Harness(spool=Spool({step: Temporary("The disk is full.")})) as harness, harness.client() as talk:
        log_in_and_begin(talk)
        talk.send(b"BDAT 6 LAST\r\nQUIT\r\n")
        assert talk.reply() == "452 4.3.1 Cannot store mail at the moment, try again later"
        assert talk.ask("NOOP") == "250 2.0.0 Ok"
        assert not harness.spool.accepted
        assert not harness.spool.open_ones


def test_a_stop_waits_for_a_chunk():
    with Harness() as harness, harness.client() as talk:
        log_in_and_begin(talk)
        talk.send(b"BDAT 6 LAST\r\nabc")
        harness.listener.close()
        cut = []
        stopping = threading.Thread(target=lambda: cut.append(harness.connections.stop(30)))
        while not harness.spool.begun or harness.spool.begun[0].size < 3:
            pass
        stopping.start()
        while not harness.connections.is_stopping():
            pass
        talk.send(b"def")
        assert talk.reply().startswith("250 2.0.0 Ok: queued as ")
        stopping.join()
        assert cut == [0]


class Broken:
    """A logger that raises whatever it is asked."""

    def __getattr__(self, name):
        raise OSError("The log is gone.")


@pytest.mark.parametrize("last", [b"BDAT 6 LAST\r\nabcdef", b"DATA\r\nabcdef\r\n.\r\n"])
def test_a_log_that_fails_does_not_make_the_device_send_again(monkeypatch, last):
    with Harness() as harness, harness.client() as talk:
        log_in_and_begin(talk)
        monkeypatch.setattr(reception, "logger", Broken())
        talk.send(last)
        replies = [talk.reply()[:3] for _ in range(1 + last.startswith(b"DATA"))]
        assert replies[-1] == "250"
        assert len(harness.spool.accepted) == 1


# -- promise 1: 250 means it is on disk ------------------------------------


def test_no_250_before_the_commit_has_returned():
    allowed = threading.Event()

    class Slow(Incoming):
        def commit(self):
            assert allowed.wait(10)
            return super().commit()

    class SlowSpool(Spool):
        def put(self, envelope):
            self.begun.append(Slow(self, envelope))
            return self.begun[-1]

    with Harness(spool=SlowSpool()) as harness, harness.client() as talk:
        log_in(talk)
        begin(talk)
        talk.send(b"x\r\n.\r\n")
        talk.socket.settimeout(0.1)
        with pytest.raises(socket.timeout):
            talk.socket.recv(1)
        talk.socket.settimeout(10)
        allowed.set()
        # makefile objects do not survive a time-out
        assert talk.socket.recv(100) == b"250 2.0.0 Ok: queued as ID1\r\n"


def test_a_full_disk_is_told_before_354(logged):
    with Harness(spool=Spool({"put": FULL})) as harness, harness.client() as talk:
        log_in(talk)
        assert begin(talk) == "452 4.3.1 Cannot store mail at the moment, try again later"
        del harness.spool.trouble["put"]
        assert talk.ask("DATA").startswith("354 ")
        assert talk.ask(".") == "250 2.0.0 Ok: queued as ID1"
    assert "mail from 127.0.0.1 not accepted: The disk is full." in logged()


@pytest.mark.parametrize("step", ["write", "commit"])
def test_a_disk_that_fills_up_meanwhile(step, logged):
    with Harness(spool=Spool({step: FULL})) as harness, harness.client() as talk:
        log_in(talk)
        begin(talk)
        talk.send(b"QUIT\r\n" * 50000)
        assert talk.ask(".") == "452 4.3.1 Cannot store mail at the moment, try again later"
        assert talk.ask("NOOP") == "250 2.0.0 Ok"
        assert not harness.spool.accepted
        assert harness.spool.begun[0].aborted
    assert logged().count("mail from 127.0.0.1 not accepted: The disk is full.") == 1


def test_a_message_refused_for_good():
    with Harness(spool=Spool({"commit": Permanent("Signed mail of this size cannot be sent.")})) as harness:
        with harness.client() as talk:
            log_in(talk)
            begin(talk)
            assert talk.ask(".") == "554 5.6.0 Signed mail of this size cannot be sent."
            assert talk.ask("NOOP") == "250 2.0.0 Ok"
        assert harness.spool.begun[0].aborted


@pytest.mark.parametrize("step", ["put", "write", "commit"])
def test_a_fault_is_451_and_leaves_nothing(step, caplog):
    with Harness(spool=Spool({step: KeyError("a fault")})) as harness:
        with harness.client() as talk:
            log_in(talk)
            answer = begin(talk)
            if step != "put":
                answer = talk.ask("x\r\n.")
            assert answer == "451 4.3.0 Internal error, see the log of the server; try again later"
            assert talk.reply().startswith("421 ")
            assert talk.closed()
        assert not harness.spool.accepted
        assert not harness.spool.open_ones
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


@pytest.mark.parametrize("sent", [b"", b"Subject: x\r\n", b"x\r\n.", b"x\r\n.\r"])
def test_a_client_that_goes_in_the_middle_leaves_nothing(sent, wait_until, logged):
    with Harness() as harness:
        with harness.client() as talk:
            log_in(talk)
            begin(talk)
            talk.send(sent)
        wait_until(lambda: not len(harness.connections))
        assert not harness.spool.accepted
        assert not harness.spool.open_ones
    assert logged() == ["session from 127.0.0.1 ended: in the middle of a message: connection closed"]


def test_a_message_is_looked_at_before_it_is_accepted():
    seen = []

    def check(file, who, null_sender):
        seen.append((file.read(), who.mailbox, null_sender, len(harness.spool.accepted)))
        return replies.sender_refused("boss@contoso.com", who.mailbox, []) if len(seen) == 1 else None

    with Harness(check_message=check) as harness, harness.client() as talk:
        log_in(talk)
        begin(talk)
        assert talk.ask("From: boss@contoso.com\r\n.").startswith("550-5.7.60 ")
        assert harness.spool.begun[0].aborted
        begin(talk)
        assert talk.ask("From: scanner@contoso.com\r\n.") == "250 2.0.0 Ok: queued as ID1"
        for sender in ("<>", "root"):
            talk.send(f"MAIL FROM:{sender}\r\nRCPT TO:<a@contoso.com>\r\nDATA\r\n.\r\n".encode())
            assert [talk.reply()[:3] for _ in range(4)] == ["250", "250", "354", "250"]
    assert seen == [
        (b"From: boss@contoso.com\r\n", "scanner@contoso.com", False, 0),
        (b"From: scanner@contoso.com\r\n", "scanner@contoso.com", False, 0),
        (b"", "scanner@contoso.com", True, 1),
        (b"", "scanner@contoso.com", False, 2),
    ]


class Forgetful(Incoming):
    """Keeps no octet, only the size of the largest piece."""

    largest = 0

    def write(self, data):
        self.size += len(data)
        self.largest = max(self.largest, len(data))


class ForgetfulSpool(Spool):
    def put(self, envelope):
        self.begun.append(Forgetful(self, envelope))
        return self.begun[-1]


def test_a_large_message_comes_in_small_pieces():
    with Harness(spool=ForgetfulSpool()) as harness, harness.client() as talk:
        log_in(talk)
        begin(talk)
        for _ in range(32):
            talk.send((b"x" * 76 + b"\r\n") * 13000)
        assert talk.ask(".").startswith("250 ")
        (incoming,) = harness.spool.accepted
        assert incoming.size == 32 * 13000 * 78
        assert incoming.largest <= 70000


def test_a_message_that_is_too_large_is_off_the_disk_at_once(wait_until):
    with Harness(size_limit=10) as harness, harness.client() as talk:
        log_in(talk)
        begin(talk)
        talk.send(b"x" * 11)
        wait_until(lambda: harness.spool.begun[0].aborted)
        assert talk.ask("\r\n.").startswith("552 5.3.4 ")
