"""What a text dialogue cannot show: logs, faults, deadlines, the stop, many clients at once."""

import base64
import ipaddress
import logging
import smtplib
import socket
import ssl
import threading
import time

import pytest
from smtp_house import LOOPBACK, PASSWORD, House, Incoming, Spool, Users, user

from m365proxy.errors import Permanent, Temporary
from m365proxy.smtp import reception, replies

PLAIN = base64.b64encode(f"\0scanner@contoso.com\0{PASSWORD}".encode()).decode()
FULL = Temporary("The disk is full.")


@pytest.fixture(autouse=True)
def logged(caplog):
    """The lines at INFO and above."""
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def log_in(talk):
    assert talk.ask(f"AUTH PLAIN {PLAIN}") == "235 2.7.0 Logged in"


def begin(talk, recipient="jones@contoso.com"):
    """Up to and with DATA; returns the reply to DATA."""
    assert talk.ask("MAIL FROM:<scanner@contoso.com>") == "250 2.1.0 Ok"
    assert talk.ask(f"RCPT TO:<{recipient}>") == "250 2.1.5 Ok"
    return talk.ask("DATA")


# -- what is logged --------------------------------------------------------


def test_an_accepted_message_is_a_line(certificate, logged):
    with House(certificate) as house, house.client() as talk:
        talk.ask("STARTTLS")
        talk.start_tls()
        log_in(talk)
        begin(talk)
        assert talk.ask("Subject: x\r\n.") == "250 2.0.0 Ok: queued as ID1"
        version = talk.socket.version()
    assert logged() == [
        "accepted ID1 from 127.0.0.1: mailbox=scanner@contoso.com sender=scanner@contoso.com "
        f"size=12 tls={version} recipients=jones@contoso.com"
    ]


def test_of_many_recipients_some_are_named(logged):
    with House() as house, house.client() as talk:
        log_in(talk)
        talk.ask("MAIL FROM:<>")
        for number in range(13):
            talk.ask(f"RCPT TO:<r{number}@contoso.com>")
        talk.ask("DATA")
        talk.ask(".")
    named = ",".join(f"r{number}@contoso.com" for number in range(10))
    assert logged()[-1].endswith(f" size=0 tls=none recipients={named},+3")


def test_bare_lf_is_noted(logged):
    with House(data_seconds=0.05, lf_only_clients=True) as house, house.client() as talk:
        talk.send(f"AUTH PLAIN {PLAIN}\nMAIL FROM:<>\nRCPT TO:<a@contoso.com>\nDATA\n.\n".encode())
        assert [talk.reply()[:3] for _ in range(5)] == ["235", "250", "250", "354", "250"]
    assert logged()[0] == "first seen from 127.0.0.1: it ends its lines with a bare LF (lf_only_clients)"


def test_bare_lf_that_waits_in_vain_is_told_why(logged):
    with House(data_seconds=0.05) as house, house.client() as talk:
        talk.send(f"AUTH PLAIN {PLAIN}\nMAIL FROM:<>\nRCPT TO:<a@contoso.com>\nDATA\n.\n".encode())
        assert [talk.reply()[:3] for _ in range(5)] == ["235", "250", "250", "354", "421"]
    assert logged()[0] == "first seen from 127.0.0.1: it ends its lines with a bare LF: it needs lf_only_clients"


def test_a_failed_sign_in_is_a_line_with_the_address_first(logged):
    with House() as house, house.client() as talk:
        for login, password in (("scanner@contoso.com", "s3cret"), ('evil" user\r\nfrom 1.2.3.4', "s3cret")):
            plain = base64.b64encode(f"\0{login}\0{password}".encode()).decode()
            assert talk.ask(f"AUTH PLAIN {plain}").startswith("535 5.7.8 ")
        assert house.users.seen[0] == ("scanner@contoso.com", "s3cret", "smtp", "127.0.0.1")
    assert logged() == [
        'login failed from 127.0.0.1 user "scanner@contoso.com": wrong password',
        'login failed from 127.0.0.1 user "evil\\" user\\\\x0d\\\\x0afrom 1.2.3.4": unknown user name',
    ]


@pytest.mark.parametrize("tls", [True, False])
def test_what_keeps_a_client_from_signing_in_is_a_line_each(certificate, logged, tls):
    with House(certificate if tls else None, plaintext_networks=()) as house, house.client() as talk:
        for _ in range(2):
            talk.ask("AUTH LOGIN")
            talk.ask("MAIL FROM:<scanner@contoso.com>")
        if tls:
            talk.ask("STARTTLS")
            talk.start_tls()
            for command in ("AUTH CRAM-MD5", "AUTH PLAIN !!!", "AUTH CRAM-MD5", "AUTH", "MAIL FROM:<>"):
                talk.ask(command)
    started = [line.split(": ")[:2] for line in logged()]
    assert all(start == "refused from 127.0.0.1" for start, _ in started)
    codes = [reply.split()[0] for _, reply in started]
    assert codes == (["538", "530", "504", "501", "501", "530"] if tls else ["538", "530"])


def test_the_time_for_a_message_does_not_begin_anew_with_each_chunk(monkeypatch):
    monkeypatch.setattr(reception, "_SLOWEST", 1e9)  # octets do not count
    with House(data_seconds=0.2, command_seconds=10) as house, house.client() as talk:
        log_in(talk)
        talk.ask("MAIL FROM:<>")
        talk.ask("RCPT TO:<jones@contoso.com>")
        began, reply = time.monotonic(), "250"
        while reply.startswith("250"):
            assert time.monotonic() < began + 10
            talk.send(b"BDAT 1\r\nx")
            reply = talk.reply()
        assert reply.startswith("421 4.4.2 ")


def test_no_secret_is_logged(caplog):
    """Wherever a client may put one: cancelled, refused, broken or out of step exchanges."""
    caplog.set_level(logging.DEBUG)
    secrets = [PASSWORD, base64.b64encode(PASSWORD.encode()).decode(), PLAIN]
    with House(errors=1000) as house, house.client() as talk:
        for line in (
            f"AUTH PLAIN {PLAIN}!",
            f"AUTH CRAM-MD5 {PLAIN}",
            f"AUTH PLAIN {PLAIN} x",
            PLAIN,
            secrets[1],
            PASSWORD,
            f"PASS {PASSWORD}",
            f"MAIL FROM:<a@b.example> AUTH={PLAIN}",
            f"AUTHPLAIN {PLAIN}",
        ):
            assert talk.ask(line)[0] == "5"
        talk.ask("AUTH LOGIN")
        talk.ask(secrets[1])
        talk.ask(secrets[1])
        log_in(talk)
    told = "\n".join(record.getMessage() for record in caplog.records)
    # The user name was the password in one exchange above: a client that mixes them up tells it itself.
    told = told.replace('user "pass word"', "")
    assert not [secret for secret in secrets if secret in told]


def test_a_refused_handshake_is_a_line(certificate, logged):
    with House(certificate) as house, house.client() as talk:
        talk.ask("STARTTLS")
        talk.send(b"EHLO device\r\n")
        assert talk.closed()
    (line,) = logged()
    assert line.startswith("TLS handshake failed from 127.0.0.1: ")


def test_a_handshake_that_does_not_come_ends(certificate, logged):
    with House(certificate, handshake_seconds=0.05) as house, house.client() as talk:
        talk.ask("STARTTLS")
        assert talk.closed()
    assert logged() == ["TLS handshake failed from 127.0.0.1: no TLS handshake in time"]


def test_injection_is_a_line(certificate, logged):
    with House(certificate) as house, house.client() as talk:
        talk.send(b"STARTTLS\r\nRSET\r\n")
        assert talk.reply().startswith("220 ")
        assert talk.closed()
    assert logged() == ["TLS handshake failed from 127.0.0.1: commands were sent before it"]


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\n\n\n\n", b"\0\n" * 1000])
def test_garbage_is_one_line(logged, garbage):
    with House() as house, house.client() as talk:
        talk.send(garbage)
        while talk.line():
            pass
    assert logged() == ["session from 127.0.0.1 ended: This is a mail server (SMTP), closing"]


def test_unknown_parameters_are_logged_once(logged):
    with House() as house:
        for _ in range(2):
            with house.client() as talk:
                log_in(talk)
                for _ in range(2):
                    talk.ask("MAIL FROM:<scanner@contoso.com> SIZE=1 BODY=8BITMIME SMTPUTF8 RET=FULL XNEW=1 xnew=2")
                    talk.ask("RSET")
    assert logged() == ['first seen from 127.0.0.1: parameter "XNEW" of MAIL, ignored']


def test_equal_refusals_are_one_line(logged):
    with House(allowed_domains=("contoso.com",)) as house, house.client() as talk:
        log_in(talk)
        talk.ask("MAIL FROM:<scanner@contoso.com>")
        for recipient in ("a@example.org", "b@example.org", "c@example.net", "d@contoso.com"):
            talk.ask(f"RCPT TO:<{recipient}>")
        talk.ask("QUIT")
    assert logged() == [
        "refused from 127.0.0.1 (scanner@contoso.com): 550 Mail to example.org is not allowed here (allowed_domains)",
        "refused from 127.0.0.1 (scanner@contoso.com): 550 Mail to example.net is not allowed here (allowed_domains)",
    ]


# -- sign-in ---------------------------------------------------------------


def test_a_busy_check_is_454_and_no_failure(logged):
    users = Users(user(), trouble=Temporary("Too many are signing in."))
    with House(users=users, errors=2) as house, house.client() as talk:
        for _ in range(5):
            assert talk.ask(f"AUTH PLAIN {PLAIN}") == "454 4.7.0 Cannot check the password now, try again"
    assert len(logged()) == 5
    assert not [line for line in logged() if "failed" in line]


def test_nobody_gets_in_without_a_check():
    """No way through AUTH ends in 235 unless users.check said so."""
    with House(errors=1000) as house, house.client() as talk:
        for line in (
            "AUTH PLAIN =",
            "AUTH PLAIN AA==",
            "AUTH PLAIN AAA=",
            "AUTH PLAIN AAAA",
            "AUTH PLAIN AABh",
            "AUTH EXTERNAL =",
            "AUTH ANONYMOUS",
            "AUTH XOAUTH2 dXNlcj0=",
        ):
            assert talk.ask(line)[0] == "5", line
        assert talk.ask("MAIL FROM:<scanner@contoso.com>").startswith("530 ")
        assert all(password != PASSWORD for _, password, _, _ in house.users.seen)


def test_old_devices_send_latin_1():
    with House() as house, house.client() as talk:
        talk.ask("AUTH PLAIN " + base64.b64encode(b"\0m\xfcller\0gr\xfc\xdfe").decode())
        assert house.users.seen == [("müller", "grüße", "smtp", "127.0.0.1")]


def test_the_relay_is_asked_for_the_peer():
    asked = []
    with House(relay=lambda peer: asked.append(peer)) as house, house.client() as talk:
        assert talk.ask("MAIL FROM:<>").startswith("530 ")
    assert asked == ["127.0.0.1"]


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

    with House(spool=SlowSpool()) as house, house.client() as talk:
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
    with House(spool=Spool({"put": FULL})) as house, house.client() as talk:
        log_in(talk)
        assert begin(talk) == "452 4.3.1 Cannot store mail at the moment, try again later"
        del house.spool.trouble["put"]
        assert talk.ask("DATA").startswith("354 ")
        assert talk.ask(".") == "250 2.0.0 Ok: queued as ID1"
    assert "mail from 127.0.0.1 not accepted: The disk is full." in logged()


@pytest.mark.parametrize("step", ["write", "commit"])
def test_a_disk_that_fills_up_meanwhile(step, logged):
    with House(spool=Spool({step: FULL})) as house, house.client() as talk:
        log_in(talk)
        begin(talk)
        talk.send(b"QUIT\r\n" * 50000)
        assert talk.ask(".") == "452 4.3.1 Cannot store mail at the moment, try again later"
        assert talk.ask("NOOP") == "250 2.0.0 Ok"
        assert not house.spool.accepted
        assert house.spool.begun[0].aborted
    assert logged().count("mail from 127.0.0.1 not accepted: The disk is full.") == 1


def test_a_message_refused_for_good():
    with House(spool=Spool({"commit": Permanent("Signed mail of this size cannot be sent.")})) as house:
        with house.client() as talk:
            log_in(talk)
            begin(talk)
            assert talk.ask(".") == "554 5.6.0 Signed mail of this size cannot be sent."
            assert talk.ask("NOOP") == "250 2.0.0 Ok"
        assert house.spool.begun[0].aborted


@pytest.mark.parametrize("step", ["put", "write", "commit"])
def test_a_fault_is_451_and_leaves_nothing(step, caplog):
    with House(spool=Spool({step: KeyError("a fault")})) as house:
        with house.client() as talk:
            log_in(talk)
            answer = begin(talk)
            if step != "put":
                answer = talk.ask("x\r\n.")
            assert answer == "451 4.3.0 Internal error, see the log of the server; try again later"
            assert talk.reply().startswith("421 ")
            assert talk.closed()
        assert not house.spool.accepted
        assert not house.spool.open_ones
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


@pytest.mark.parametrize("sent", [b"", b"Subject: x\r\n", b"x\r\n.", b"x\r\n.\r"])
def test_a_client_that_goes_in_the_middle_leaves_nothing(sent, wait_until, logged):
    with House() as house:
        with house.client() as talk:
            log_in(talk)
            begin(talk)
            talk.send(sent)
        wait_until(lambda: not len(house.connections))
        assert not house.spool.accepted
        assert not house.spool.open_ones
    assert logged() == ["session from 127.0.0.1 ended in the middle of a message: connection closed"]


def test_a_message_is_looked_at_before_it_is_accepted():
    seen = []

    def check(file, who):
        seen.append((file.read(), who.mailbox, len(house.spool.accepted)))
        return replies.sender_refused("boss@contoso.com", who.mailbox) if len(seen) == 1 else None

    with House(check_message=check) as house, house.client() as talk:
        log_in(talk)
        begin(talk)
        assert talk.ask("From: boss@contoso.com\r\n.").startswith("550-5.7.60 ")
        assert house.spool.begun[0].aborted
        begin(talk)
        assert talk.ask("From: scanner@contoso.com\r\n.") == "250 2.0.0 Ok: queued as ID1"
    assert seen == [
        (b"From: boss@contoso.com\r\n", "scanner@contoso.com", 0),
        (b"From: scanner@contoso.com\r\n", "scanner@contoso.com", 0),
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
    with House(spool=ForgetfulSpool()) as house, house.client() as talk:
        log_in(talk)
        begin(talk)
        for _ in range(32):
            talk.send((b"x" * 76 + b"\r\n") * 13000)
        assert talk.ask(".").startswith("250 ")
        (incoming,) = house.spool.accepted
        assert incoming.size == 32 * 13000 * 78
        assert incoming.largest <= 70000


def test_a_message_that_is_too_large_is_off_the_disk_at_once(wait_until):
    with House(size_limit=10) as house, house.client() as talk:
        log_in(talk)
        begin(talk)
        talk.send(b"x" * 11)
        wait_until(lambda: house.spool.begun[0].aborted)
        assert talk.ask("\r\n.").startswith("552 5.3.4 ")


# -- deadlines -------------------------------------------------------------


def test_no_command_in_time(logged):
    with House(command_seconds=0.05) as house, house.client() as talk:
        assert talk.reply() == "421 4.4.2 Nothing came for too long, closing"
        assert talk.closed()
    assert logged() == ["session from 127.0.0.1 ended: Nothing came for too long, closing"]


def test_no_answer_to_a_challenge_in_time():
    with House(command_seconds=0.05) as house, house.client() as talk:
        assert talk.ask("AUTH LOGIN") == "334 VXNlcm5hbWU6"
        assert talk.reply().startswith("421 4.4.2 ")


def test_no_end_of_data_in_time():
    with House(data_seconds=0.05) as house, house.client() as talk:
        log_in(talk)
        begin(talk)
        talk.send(b"Subject: x\r\n")
        assert talk.reply().startswith("421 4.4.2 ")
        assert talk.closed()
        assert house.spool.begun[0].aborted


def test_dripping_data_gains_no_time():
    stop = threading.Event()

    def drip(talk):
        while not stop.wait(0.01):
            try:
                talk.send(b"x")
            except OSError:
                return

    with House(data_seconds=0.1) as house, house.client() as talk:
        log_in(talk)
        begin(talk)
        thread = threading.Thread(target=drip, args=(talk,))
        thread.start()
        try:
            assert talk.reply().startswith("421 4.4.2 ")
        finally:
            stop.set()
            thread.join()


def test_a_large_message_has_more_time():
    """8 KiB buy a second: after 80 KiB there are ten more than data_seconds."""
    with House(data_seconds=0.3) as house, house.client() as talk:
        log_in(talk)
        begin(talk)
        talk.send(b"x" * 80 * 1024)
        time.sleep(0.4)
        assert talk.ask("\r\n.").startswith("250 ")


def test_a_session_ends_between_two_commands_only():
    with House(session_seconds=0.2) as house, house.client() as talk:
        log_in(talk)
        begin(talk)
        time.sleep(0.25)
        assert talk.ask("x\r\n.\r\nNOOP") == "250 2.0.0 Ok: queued as ID1"
        assert talk.reply() == "421 4.4.2 This session has lasted too long, connect again"
        assert talk.closed()


# -- the stop --------------------------------------------------------------


def test_a_stop_tells_idle_clients(logged):
    with House() as house:
        clients = [house.client() for _ in range(3)]
        clients[1].ask("AUTH LOGIN")
        house.listener.close()
        assert house.connections.stop(30) == 0
        for talk in clients:
            assert talk.reply() == "421 4.3.2 The server is being stopped, try again in a minute"
            assert talk.closed()
            talk.close()
    assert logged() == []


def test_a_stop_waits_for_a_message_that_comes_in():
    with House() as house, house.client() as talk:
        log_in(talk)
        begin(talk)
        house.listener.close()
        cut = []
        stopping = threading.Thread(target=lambda: cut.append(house.connections.stop(30)))
        stopping.start()
        while not house.connections.is_stopping():
            pass
        talk.send(b"Subject: x\r\n")
        assert talk.ask(".\r\nNOOP") == "250 2.0.0 Ok: queued as ID1"
        assert talk.reply().startswith("421 4.3.2 ")
        stopping.join()
        assert cut == [0]


def test_a_stop_after_a_message_waits_for_nothing():
    with House() as house, house.client() as talk:
        log_in(talk)
        begin(talk)
        talk.ask(".")
        house.listener.close()
        assert house.connections.stop(5) == 0
        assert talk.reply().startswith("421 4.3.2 ")


def test_a_stop_does_not_wait_for_ever():
    with House() as house, house.client() as talk:
        log_in(talk)
        begin(talk)
        talk.send(b"Subject: x\r\n")
        house.listener.close()
        assert house.connections.stop(0.1) == 1
        assert talk.closed()
    assert house.spool.begun[0].aborted


# -- real clients, and many ------------------------------------------------


@pytest.mark.parametrize("secure", ["no", "starttls", "implicit"])
def test_smtplib(certificate, secure):
    trusting = ssl.create_default_context(cafile=certificate[0])
    mode = "implicit" if secure == "implicit" else "starttls"
    with House(certificate, tls_mode=mode) as house:
        if secure == "implicit":
            client = smtplib.SMTP_SSL("localhost", house.listener.port, timeout=10, context=trusting)
        else:
            client = smtplib.SMTP("localhost", house.listener.port, timeout=10)
        with client:
            if secure == "starttls":
                client.starttls(context=trusting)
            client.login("scanner@contoso.com", PASSWORD)
            client.sendmail("scanner@contoso.com", ["a@contoso.com", "b@contoso.com"], "Subject: x\n\n.dot\ntext\n")
        (incoming,) = house.spool.accepted
    assert incoming.content == b"Subject: x\r\n\r\n.dot\r\ntext\r\n"
    assert incoming.envelope.recipients == ("a@contoso.com", "b@contoso.com")


def test_two_hundred_clients_at_once(wait_until):
    before = threading.active_count()
    with House() as house:
        clients = [house.client() for _ in range(200)]
        for talk in clients:
            talk.send(f"EHLO x\r\nAUTH PLAIN {PLAIN}\r\nMAIL FROM:<>\r\nRCPT TO:<a@contoso.com>\r\nDATA\r\n".encode())
        for talk in clients:
            talk.send(b"Subject: x\r\n\r\n.\r\nQUIT\r\n")
        for talk in clients:
            answers = [talk.reply() for _ in range(7)]
            assert answers[5].startswith("250 2.0.0 Ok: queued as "), answers
            assert talk.closed()
            talk.close()
        assert len(house.spool.accepted) == 200
    wait_until(lambda: threading.active_count() == before)


def test_stalled_clients_hold_nobody_up():
    with House() as house:
        stalled = [house.client() for _ in range(50)]
        for number, talk in enumerate(stalled):
            log_in(talk)
            if number % 2:
                begin(talk)
            talk.send(b"half a li")
        with house.client() as talk:
            log_in(talk)
            begin(talk)
            assert talk.ask(".").startswith("250 ")
        for talk in stalled:
            talk.close()


# -- a reload takes a right away from an open session ------------------------


def test_a_login_that_a_reload_ended_begins_no_message(logged):
    with House() as house, house.client() as talk:
        log_in(talk)
        house.users.lost = True
        assert talk.ask("MAIL FROM:<>") == str(bytes(replies.RIGHT_LOST), "ascii").strip()
        assert talk.closed()
    assert any("session from 127.0.0.1 ended: The configuration" in line for line in logged())


@pytest.mark.parametrize("begun, ended", [("DATA", "x\r\n."), ("BDAT 0", "BDAT 0 LAST")])
def test_no_message_is_accepted_for_a_login_that_a_reload_ended_meanwhile(begun, ended):
    with House() as house, house.client() as talk:
        log_in(talk)
        talk.ask("MAIL FROM:<>")
        talk.ask("RCPT TO:<jones@contoso.com>")
        talk.ask(begun)
        house.users.lost = True
        assert talk.ask(ended).startswith("421 ")
        assert talk.closed()
    assert not house.spool.accepted and not house.spool.open_ones


@pytest.mark.parametrize("after", [None, "other@contoso.com"])
def test_a_network_that_relays_no_longer_ends_the_session(after):
    relays = [user(login="")]
    with House(relay=lambda peer: relays[0]) as house, house.client() as talk:
        assert talk.ask("MAIL FROM:<>").startswith("250 ")
        talk.ask("RSET")
        relays[0] = after and user(after, login="")
        assert talk.ask("MAIL FROM:<>").startswith("421 ")


def test_other_rights_count_from_the_next_message_on():
    with House() as house, house.client() as talk:
        log_in(talk)
        assert talk.ask("MAIL FROM:<other@contoso.com>").startswith("550-")
        house.users.user = user(send_as=("other@contoso.com",))
        assert talk.ask("MAIL FROM:<other@contoso.com>").startswith("250 ")


def test_a_clear_login_ends_with_its_network():
    networks = [*LOOPBACK]
    with House(plaintext_networks=networks) as house, house.client() as talk:
        log_in(talk)
        networks.clear()
        assert talk.ask("MAIL FROM:<>").startswith("421 ")


# -- a client that was offered no AUTH ---------------------------------------

LEFT = "first seen from 127.0.0.1: it was offered no AUTH, because it had not begun TLS, and left: "
CLEAR = '"plaintext_networks": ["10.0.0.0/8", "127.0.0.1"]'
RELAY = '"relay_networks": {"127.0.0.1": "its mailbox"}'


@pytest.mark.parametrize("goodbye", [["QUIT"], [], ["MAIL FROM:<>", "QUIT"]])
@pytest.mark.parametrize("has_certificate", [True, False])
def test_who_was_offered_no_auth_and_left_is_told_of_with_three_ways_out(
    certificate, has_certificate, goodbye, logged, wait_until
):
    networks = [ipaddress.ip_network("10.0.0.0/8")]
    with House(certificate if has_certificate else None, plaintext_networks=networks) as house:
        for _ in range(2):
            with house.client() as talk:
                for command in ["EHLO x", *goodbye]:
                    talk.ask(command)
            wait_until(lambda: len(house.connections) == 0)
    lines = [line for line in logged() if line.startswith(LEFT)]
    assert len(lines) == 1
    assert ("tls.tls_cert" in lines[0]) is not has_certificate
    assert CLEAR in lines[0] and RELAY in lines[0] and "STARTTLS" in lines[0]


def test_the_ways_that_tls_required_closes_are_not_named(certificate, logged, wait_until):
    with House(certificate, tls_required=True) as house, house.client() as talk:
        talk.ask("EHLO x")
        talk.ask("QUIT")
        assert talk.closed()
        wait_until(lambda: len(house.connections) == 0)
    assert [line for line in logged() if line.startswith(LEFT)] == [LEFT + "set TLS (STARTTLS) on the device"]


@pytest.mark.parametrize("commands", [["EHLO x", "QUIT"], ["QUIT"], ["EHLO x", f"AUTH PLAIN {PLAIN}", "QUIT"]])
def test_who_was_offered_auth_or_did_not_ask_is_not_told_of(commands, logged):
    with House() as house, house.client() as talk:
        for command in commands:
            talk.ask(command)
    assert logged() == []


def test_who_begins_tls_is_not_told_of(certificate, logged):
    with House(certificate, plaintext_networks=()) as house, house.client() as talk:
        talk.ask("EHLO x")
        talk.ask("STARTTLS")
        talk.start_tls()
        talk.ask("QUIT")
    assert logged() == []
