"""The reader for clients that know no CR, and chunks; DATA itself is shown by the dialogues and test_smtp."""

import threading

import pytest
from smtp_house import House, Spool

from m365proxy.errors import Temporary
from m365proxy.smtp import reception


def log_in_and_begin(talk):
    talk.ask("AUTH PLAIN AHNjYW5uZXJAY29udG9zby5jb20AcGFzcyB3b3Jk")
    talk.ask("MAIL FROM:<>")
    assert talk.ask("RCPT TO:<a@contoso.com>").startswith("250 ")


@pytest.mark.parametrize("end", ["QUIT", "RSET", "EHLO x", "close", "half"])
def test_chunks_without_a_last_leave_nothing(end, wait_until):
    with House() as house:
        with house.client() as talk:
            log_in_and_begin(talk)
            assert talk.ask("BDAT 3\r\nabc") == "250 2.0.0 3 octets received"
            assert len(house.spool.open_ones) == 1
            if end == "half":
                talk.send(b"BDAT 10\r\nabc")
            elif end != "close":
                talk.ask(end)
        wait_until(lambda: not house.spool.open_ones)
        assert not house.spool.accepted


def test_a_chunk_comes_in_small_pieces():
    with House() as house, house.client() as talk:
        log_in_and_begin(talk)
        talk.send(b"BDAT 3000000 LAST\r\n")
        talk.send(b"x" * 3000000)
        assert talk.reply().startswith("250 2.0.0 Ok: queued as ")
        (incoming,) = house.spool.accepted
        assert incoming.size == 3000000
        assert incoming.writes >= 3000000 // 70000


@pytest.mark.parametrize("step", ["put", "write", "commit"])
def test_a_refused_chunk_is_read_all_the_same(step):
    with House(spool=Spool({step: Temporary("The disk is full.")})) as house, house.client() as talk:
        log_in_and_begin(talk)
        talk.send(b"BDAT 6 LAST\r\nQUIT\r\n")
        assert talk.reply() == "452 4.3.1 Cannot store mail at the moment, try again later"
        assert talk.ask("NOOP") == "250 2.0.0 Ok"
        assert not house.spool.accepted
        assert not house.spool.open_ones


def test_a_stop_waits_for_a_chunk():
    with House() as house, house.client() as talk:
        log_in_and_begin(talk)
        talk.send(b"BDAT 6 LAST\r\nabc")
        house.listener.close()
        cut = []
        stopping = threading.Thread(target=lambda: cut.append(house.connections.stop(30)))
        while not house.spool.begun or house.spool.begun[0].size < 3:
            pass
        stopping.start()
        while not house.connections.is_stopping():
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
    with House() as house, house.client() as talk:
        log_in_and_begin(talk)
        monkeypatch.setattr(reception, "logger", Broken())
        talk.send(last)
        replies = [talk.reply()[:3] for _ in range(1 + last.startswith(b"DATA"))]
        assert replies[-1] == "250"
        assert len(house.spool.accepted) == 1
