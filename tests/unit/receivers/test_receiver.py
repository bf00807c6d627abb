"""A receiver in a thread of this process, whose main process is the test."""

import contextlib
import logging
import smtplib
import socket
import sys
import threading

import pytest
from configs import configured
from waiting import wait_until

from m365proxy.account import spool_of
from m365proxy.receivers.channel import Channel
from m365proxy.receivers.receiver import Receiver
from m365proxy.receivers.words import Report, Task
from m365proxy.spool.state import Place
from m365proxy.system import files

if sys.platform == "win32":
    pytest.skip("there are no receivers without sockets that take descriptors", allow_module_level=True)

SCANNER = "scanner@contoso.com"
MAIL = f"From: {SCANNER}\r\nTo: alerts@contoso.com\r\nSubject: Scan\r\n\r\nA page.\r\n"
RELAY = {"127.0.0.0/8": SCANNER}


class Main:
    """What the main process does for one receiver."""

    def __init__(self, receiver):
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours)
        self.heard = []
        self.ended = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._work, args=(receiver, theirs), daemon=True).start()
        self.hearing = threading.Thread(target=self._hear, daemon=True)
        self.hearing.start()

    def _work(self, receiver, sock):
        with sock:
            receiver.run(sock)
        self.ended.set()

    def _hear(self):
        self.heard.extend(message for message, _ in self.channel.messages())

    def reports(self, word):
        return [values for found, *values in self.heard if found == word]

    def wait_for(self, word):
        return wait_until(lambda: self.reports(word), what=f"the report {word}")

    def connect(self):
        """A device that is handed over."""
        client = socket.create_connection(self._listening.getsockname(), timeout=60)
        accepted, _ = self._listening.accept()
        with accepted:
            assert self.channel.send_with(accepted, Task.SERVE, 0, "127.0.0.1", 2525, False)
        return client

    def smtp(self):
        smtp = smtplib.SMTP(timeout=60)
        smtp.sock = self.connect()
        assert smtp.getreply()[0] == 220
        return smtp

    def reload(self):
        with open(self.config.path, encoding="latin-1") as file:
            self.channel.send(Task.RELOAD, self.config.path, file.read())

    def close(self):
        self.channel.end()
        assert self.ended.wait(60)
        self.hearing.join(60)
        self.channel.close()
        self._listening.close()


@pytest.fixture
def make_main(tmp_path, caplog):
    caplog.set_level(logging.INFO, "m365proxy")
    root, made = logging.getLogger(), []
    handlers = list(root.handlers)

    def make(**settings):
        config = configured(tmp_path, **{"relay_networks": RELAY, "queue": {"min_free_mb": 0}, **settings})
        files.make_directory(config.state_dir)
        spool_of(config).make()
        made.append(Main(Receiver(config, {}, str(tmp_path / "hellos"))))
        made[-1].spool = spool_of(config)
        made[-1].config = config
        made[-1].wait_for(Report.READY)
        return made[-1]

    yield make
    for main in made:
        main.close()
    root.handlers = handlers


def test_what_it_accepts_is_in_the_queue_and_reported(make_main):
    main = make_main()
    with main.smtp() as smtp:
        smtp.sendmail(SCANNER, ["alerts@contoso.com"], MAIL)
    (entry,) = main.spool.entries(Place.NEW)
    assert main.wait_for(Report.QUEUED) == [[entry.id]]
    assert main.wait_for(Report.SESSION) == [["smtp", "127.0.0.1"]]
    assert main.wait_for(Report.LEFT) == [["127.0.0.1"]]
    steps = [values[-1] for values in main.reports(Report.RECORD) if values[-1]]
    assert [(step["event"], step["id"]) for step in steps] == [("accepted", entry.id)]


def test_refusals_and_quirks_are_reported(make_main):
    main = make_main()
    with main.smtp() as smtp:
        smtp.docmd("MAIL FROM:<boss@contoso.com>")
        smtp.docmd(f"MAIL FROM:<{SCANNER}> XODD=1")
    assert main.wait_for(Report.REFUSAL)[0][0].startswith("550 5.7")
    ((peer, what, level, habit),) = main.wait_for(Report.QUIRK)
    assert (peer, level, habit) == ("127.0.0.1", logging.INFO, None) and "XODD" in what


def test_a_reload_ends_a_right_at_once(make_main, tmp_path):
    main = make_main()
    with main.smtp() as smtp:
        smtp.ehlo("device")
        assert smtp.docmd(f"MAIL FROM:<{SCANNER}>")[0] == 250
        assert smtp.docmd("RCPT TO:<alerts@contoso.com>")[0] == 250
        configured(tmp_path, relay_networks={})
        main.reload()
        assert wait_until(lambda: _refused(main), what="the reload")
        smtp.docmd("DATA")
        smtp.send(f"{MAIL}.\r\n")
        assert smtp.getreply()[0] == 421
    assert not list(main.spool.entries())


def _refused(main):
    """Whether a new session may not send any more."""
    with main.smtp() as other:
        return other.docmd(f"MAIL FROM:<{SCANNER}>")[0] == 530


def test_a_certificate_that_cannot_be_used_keeps_no_right_alive(make_main, tmp_path):
    main = make_main(tls={"tls_cert": "auto"})
    (tmp_path / "cert.pem").write_text("half of it")
    configured(tmp_path, relay_networks={}, tls={"tls_cert": "cert.pem", "tls_key": "cert.pem"})
    main.reload()
    assert "keeps the certificate it has" in main.wait_for(Report.RECORD)[0][4]
    assert main.wait_for(Report.RELOADED) and _refused(main)


def test_a_client_for_whom_there_is_no_descriptor_is_turned_away_and_no_other(make_main):
    main = make_main()
    with main.smtp() as smtp:
        main.channel.send(Task.SERVE, 0, "192.0.2.1", 2525, False)
        assert main.wait_for(Report.LEFT) == [["192.0.2.1"]]
        assert main.reports(Report.TURNED_AWAY) == [["smtp"]]
        assert "refused from 192.0.2.1: Too many open files" in main.reports(Report.RECORD)[0][4]
        assert smtp.docmd(f"MAIL FROM:<{SCANNER}>")[0] == 250


def test_a_stop_ends_its_sessions(make_main):
    main = make_main()
    with contextlib.closing(main.smtp()) as smtp:
        main.channel.send(Task.STOP, 5.0)
        assert main.wait_for(Report.STOPPED) == [[0]]
        assert smtp.getreply()[0] == 421
        assert main.ended.wait(60)


def test_so_many_wait_already(make_main):
    main = make_main(queue={"min_free_mb": 0, "max_waiting": 5})
    main.channel.send(Task.WAITING, 5)
    with main.smtp() as smtp:
        smtp.docmd(f"MAIL FROM:<{SCANNER}>")
        smtp.docmd("RCPT TO:<alerts@contoso.com>")
        assert smtp.docmd("DATA")[0] == 452


def test_what_was_learnt_since_the_start_is_known_to_one_that_is_made_later(tmp_path, caplog):
    config = configured(tmp_path, relay_networks=RELAY)
    receiver = Receiver(config, {}, str(tmp_path / "hellos"))
    (tmp_path / "hellos").write_text('["192.0.2.9"]')
    ours, theirs = socket.socketpair()
    handlers = list(logging.getLogger().handlers)
    with theirs:
        ours.close()
        receiver.run(theirs)
    logging.getLogger().handlers = handlers
    assert receiver._hellos.expected("192.0.2.9")


def test_an_address_that_begins_tls_at_once_is_reported_and_learnt(make_main):
    main = make_main(tls={"tls_cert": "auto"})
    main.channel.send(Task.CLIENT_HELLO, "127.0.0.1")
    main.channel.send(Task.LOOK)
    with main.connect() as client:
        client.sendall(b"NOOP\r\n")
        assert client.recv(4) == b"220 "
