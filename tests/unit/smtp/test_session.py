"""What a text dialogue cannot show: logs, faults, deadlines, the stop, many clients at once."""

import base64
import logging
import smtplib
import ssl
import threading
import time
from types import SimpleNamespace

import pytest
from smtp_harness import PASSWORD, PLAIN, Harness, begin, log_in

from m365proxy.smtp import advice, reception, session

# -- what is logged --------------------------------------------------------


def test_an_accepted_message_is_a_line(certificate, logged):
    with Harness(certificate) as harness, harness.client() as talk:
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


@pytest.mark.parametrize(
    "greetings, auth, said",
    [
        (["HELO ups"], f"AUTH PLAIN {PLAIN}", {"helo": True, "auth": "PLAIN"}),
        (["HELO ups", "EHLO ups"], f"auth plain {PLAIN}", {"auth": "PLAIN"}),
        ([], f"AUTH PLAIN {PLAIN}", {"auth": "PLAIN"}),
    ],
)
def test_its_step_says_how_the_client_speaks(greetings, auth, said, caplog):
    caplog.set_level(logging.INFO)
    with Harness() as harness, harness.client() as talk:
        for line in (*greetings, auth):
            talk.ask(line)
        begin(talk)
        talk.ask("Subject: x\r\n.")
    (step,) = [record.event for record in caplog.records if record.event["event"] == "accepted"]
    assert {name: step[name] for name in ("helo", "auth") if name in step} == said


def test_of_many_recipients_some_are_named(logged):
    with Harness() as harness, harness.client() as talk:
        log_in(talk)
        talk.ask("MAIL FROM:<>")
        for number in range(13):
            talk.ask(f"RCPT TO:<r{number}@contoso.com>")
        talk.ask("DATA")
        talk.ask(".")
    named = ",".join(f"r{number}@contoso.com" for number in range(10))
    assert logged()[-1].endswith(f" size=0 tls=none recipients={named},+3")


def test_each_reply_that_refuses_is_counted_logged_or_not():
    reasons = []
    with Harness(errors=4, note_refusal=reasons.append) as harness, harness.client() as talk:
        for command in ("NONSENSE", "AUTH PLAIN !", "MAIL FROM:<a@contoso.com>", "NOOP", f"AUTH PLAIN {PLAIN}"):
            talk.ask(command)
        for _ in range(2):
            talk.ask("MAIL FROM:<somebody@fabrikam.com>")
        assert talk.ask("NONSENSE").startswith("421 ")
    assert reasons == ["500 5.5.2", "501 5.5.2", "530 5.7.0", "550 5.7.60", "550 5.7.60", "421 4.7.0"]


def test_bare_lf_is_noted(logged):
    with Harness(lf_only_clients=True) as harness, harness.client() as talk:
        talk.send(f"AUTH PLAIN {PLAIN}\nMAIL FROM:<>\nRCPT TO:<a@contoso.com>\nDATA\n.\n".encode())
        assert [talk.reply()[:3] for _ in range(5)] == ["235", "250", "250", "354", "250"]
    assert logged()[0] == "first seen from 127.0.0.1: it ends its lines with a bare LF (lf_only_clients)"


def test_bare_lf_that_waits_in_vain_is_told_why(logged):
    with Harness(data_seconds=0.05) as harness, harness.client() as talk:
        talk.send(f"AUTH PLAIN {PLAIN}\nMAIL FROM:<>\nRCPT TO:<a@contoso.com>\nDATA\n.\n".encode())
        assert [talk.reply()[:3] for _ in range(5)] == ["235", "250", "250", "354", "421"]
    assert logged()[0] == f"first seen from 127.0.0.1: {advice.BARE_LF}"


def test_a_failed_sign_in_is_a_line_with_the_address_first(logged):
    with Harness() as harness, harness.client() as talk:
        for login, password in (("scanner@contoso.com", "s3cret"), ('evil" user\r\nfrom 1.2.3.4', "s3cret")):
            plain = base64.b64encode(f"\0{login}\0{password}".encode()).decode()
            assert talk.ask(f"AUTH PLAIN {plain}").startswith("535 5.7.8 ")
        assert harness.users.seen[0] == ("scanner@contoso.com", "s3cret", "smtp", "127.0.0.1")
    assert logged() == [
        'login failed from 127.0.0.1 user "scanner@contoso.com": wrong password',
        'login failed from 127.0.0.1 user "evil\\" user\\\\x0d\\\\x0afrom 1.2.3.4": unknown user name',
    ]


@pytest.mark.parametrize("tls", [True, False])
def test_what_keeps_a_client_from_signing_in_is_a_line_each(certificate, logged, tls):
    with Harness(certificate if tls else None, plaintext_networks=()) as harness, harness.client() as talk:
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


def test_the_time_for_a_message_does_not_begin_anew_with_each_chunk(ahead):
    with Harness(data_seconds=300.0) as harness, harness.client() as talk:
        log_in(talk)
        talk.ask("MAIL FROM:<>")
        talk.ask("RCPT TO:<jones@contoso.com>")
        for late, code in [(0.0, "250 2.0.0 "), (200.0, "250 2.0.0 "), (400.0, "421 4.4.2 ")]:
            ahead[0] = late
            talk.send(b"BDAT 1\r\nx")
            assert talk.reply().startswith(code)


def test_no_secret_is_logged(caplog):
    """Wherever a client may put one: cancelled, refused, broken or out of step exchanges."""
    caplog.set_level(logging.DEBUG)
    secrets = [PASSWORD, base64.b64encode(PASSWORD.encode()).decode(), PLAIN]
    with Harness(errors=1000) as harness, harness.client() as talk:
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
        for sender in ("<a@b.example>", "<a@b.example"):
            assert PLAIN not in talk.ask(f"MAIL FROM:{sender} AUTH={PLAIN}")
    told = "\n".join(record.getMessage() for record in caplog.records)
    # The user name was the password in one exchange above: a client that mixes them up tells it itself.
    told = told.replace('user "pass word"', "")
    assert not [secret for secret in secrets if secret in told]


def test_a_refused_handshake_is_a_line(certificate, logged):
    with Harness(certificate) as harness, harness.client() as talk:
        talk.ask("STARTTLS")
        talk.send(b"EHLO device\r\n")
        assert talk.closed()
    (line,) = logged()
    assert line.startswith("TLS handshake failed from 127.0.0.1: ")


def test_a_handshake_that_does_not_come_ends(certificate, logged):
    with Harness(certificate, handshake_seconds=0.05) as harness, harness.client() as talk:
        talk.ask("STARTTLS")
        assert talk.closed()
    assert logged() == ["TLS handshake failed from 127.0.0.1: no TLS handshake in time"]


def test_injection_is_a_line(certificate, logged):
    with Harness(certificate) as harness, harness.client() as talk:
        talk.send(b"STARTTLS\r\nRSET\r\n")
        assert talk.reply().startswith("220 ")
        assert talk.closed()
    assert logged() == ["TLS handshake failed from 127.0.0.1: commands were sent before it"]


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\n\n\n\n", b"\0\n" * 1000])
def test_garbage_is_one_line(logged, garbage):
    with Harness() as harness, harness.client() as talk:
        talk.send(garbage)
        while talk.line():
            pass
    assert logged() == ["session from 127.0.0.1 ended: This is a mail server (SMTP), closing"]


def test_unknown_parameters_are_logged_once(logged):
    with Harness() as harness:
        for _ in range(2):
            with harness.client() as talk:
                log_in(talk)
                for _ in range(2):
                    talk.ask("MAIL FROM:<scanner@contoso.com> SIZE=1 BODY=8BITMIME SMTPUTF8 RET=FULL XNEW=1 xnew=2")
                    talk.ask("RSET")
    assert logged() == ['first seen from 127.0.0.1: parameter "XNEW" of MAIL, ignored']


WHO = "refused from 127.0.0.1 (scanner@contoso.com): "


def test_refused_senders_and_recipients_are_lines(logged):
    with Harness(allowed_domains=("contoso.com",), errors=4) as harness, harness.client() as talk:
        log_in(talk)
        talk.ask("MAIL FROM:<root@localhost")
        # What a client that pipelines could not know is none of its mistakes.
        talk.send(b"MAIL FROM:<root@localhost>\r\nRCPT TO:<a@contoso.com>\r\nDATA\r\n")
        assert [talk.reply()[:3] for _ in range(3)] == ["550", "503", "503"]
        talk.ask("MAIL FROM:<scanner@contoso.com>")
        for recipient in ("<a@example.org>", "<b@example.org>", "<c@[10.0.0.1]>", "<d@contoso.com", "e@contoso.com"):
            talk.ask(f"RCPT TO:{recipient}")
        talk.ask("RCPT TO:<f@contoso.com> NOTIFY=x")
        talk.ask("QUIT")
    said = [line.split(": ")[:2] + line.split(": ")[2].split()[:1] for line in logged()]
    assert said == [
        [WHO[:-2], f'"{command}"', code]
        for command, code in (
            ("MAIL FROM:<root@localhost", "501"),
            ("MAIL FROM:<root@localhost>", "550"),
            ("RCPT TO:<a@example.org>", "550"),
            ("RCPT TO:<b@example.org>", "550"),
            ("RCPT TO:<c@[10.0.0.1]>", "501"),
            ("RCPT TO:<d@contoso.com", "501"),
            ("RCPT TO:<f@contoso.com> NOTIFY=x", "501"),
        )
    ]


@pytest.mark.parametrize("goodbye", ["QUIT", None])
def test_a_flood_of_refused_recipients_is_eleven_lines(logged, goodbye, wait_until):
    with Harness(errors=5, recipients=1) as harness:
        with harness.client() as talk:
            log_in(talk)
            talk.ask("MAIL FROM:<scanner@contoso.com>")
            talk.send(b"RCPT TO:<fax 1>\r\n" * 300)
            assert {talk.reply()[:9] for _ in range(300)} == {"501 5.1.3"}
            if goodbye:
                talk.ask(goodbye)
        wait_until(lambda: len(harness.connections) == 0)
    lines = [line for line in logged() if line.startswith(WHO)]
    assert len(lines) == 11 and lines[-1] == WHO + "290 more senders and recipients"


def test_the_last_mistake_of_too_many_is_a_line_too(logged):
    with Harness(errors=2) as harness, harness.client() as talk:
        log_in(talk)
        talk.ask("MAIL FROM:")
        assert talk.ask("MAIL FROM:").startswith("421 ")
    assert [line.rpartition(": ")[2] for line in logged()] == [
        *["501 Use MAIL FROM:<address>, not FROM:"] * 2,
        "Too many errors, closing",
    ]


# -- deadlines -------------------------------------------------------------


def test_no_command_in_time(logged):
    with Harness(command_seconds=0.05) as harness, harness.client() as talk:
        assert talk.reply() == "421 4.4.2 Nothing came for too long, closing"
        assert talk.closed()
    assert logged() == ["session from 127.0.0.1 ended: Nothing came for too long, closing"]


def test_no_answer_to_a_challenge_in_time():
    harness = Harness(command_seconds=0.05)
    with harness.client(greeted=False) as talk:
        talk.send(b"AUTH LOGIN\r\n")  # before anybody listens: it cannot be too late
        with harness:
            assert [talk.reply()[:4] for _ in range(3)] == ["220 ", "334 ", "421 "]


def test_no_end_of_data_in_time():
    with Harness(data_seconds=0.05) as harness, harness.client() as talk:
        log_in(talk)
        begin(talk)
        talk.send(b"Subject: x\r\n")
        assert talk.reply().startswith("421 4.4.2 ")
        assert talk.closed()
        assert harness.spool.begun[0].aborted


def test_dripping_data_gains_no_time():
    stop = threading.Event()

    def drip(talk):
        while not stop.wait(0.01):
            try:
                talk.send(b"x")
            except OSError:
                return

    with Harness(data_seconds=0.1) as harness, harness.client() as talk:
        log_in(talk)
        begin(talk)
        thread = threading.Thread(target=drip, args=(talk,))
        thread.start()
        try:
            assert talk.reply().startswith("421 4.4.2 ")
        finally:
            stop.set()
            thread.join()


@pytest.fixture
def ahead(monkeypatch):
    """Seconds that the clock of sessions and of messages is ahead; to be set."""
    seconds, monotonic = [0.0], time.monotonic
    clock = SimpleNamespace(monotonic=lambda: monotonic() + seconds[0])
    monkeypatch.setattr(reception, "time", clock)
    monkeypatch.setattr(session, "time", clock)
    return seconds


def test_a_large_message_has_more_time(ahead, wait_until):
    """8 KiB buy a second: after 800 KiB there are 100 more than data_seconds."""
    with Harness(data_seconds=300.0) as harness, harness.client() as talk:
        log_in(talk)
        begin(talk)
        octets = 0
        for late, more in [(0.0, 800 * 1024), (350.0, 100)]:
            ahead[0] = late
            talk.send(b"x" * more)
            octets += more
            wait_until(lambda octets=octets: harness.spool.begun[0].size == octets)
        ahead[0] = 450.0
        talk.send(b"x" * 100)  # it may be read, or found too late before
        assert talk.reply().startswith("421 4.4.2 ")


def test_a_session_ends_between_two_commands_only(ahead):
    with Harness(session_seconds=3600.0) as harness, harness.client() as talk:
        log_in(talk)
        begin(talk)
        ahead[0] = 3601.0
        assert talk.ask("x\r\n.\r\nNOOP") == "250 2.0.0 Ok: queued as ID1"
        assert talk.reply() == "421 4.4.2 This session has lasted too long, connect again"
        assert talk.closed()


# -- the stop --------------------------------------------------------------


def test_a_stop_tells_idle_clients(logged):
    with Harness() as harness:
        clients = [harness.client() for _ in range(3)]
        clients[1].ask("AUTH LOGIN")
        harness.listener.close()
        assert harness.connections.stop(30) == 0
        for talk in clients:
            assert talk.reply() == "421 4.3.2 The server is being stopped, try again in a minute"
            assert talk.closed()
            talk.close()
    assert logged() == []


def test_a_stop_waits_for_a_message_that_comes_in():
    with Harness() as harness, harness.client() as talk:
        log_in(talk)
        begin(talk)
        harness.listener.close()
        cut = []
        stopping = threading.Thread(target=lambda: cut.append(harness.connections.stop(30)))
        stopping.start()
        while not harness.connections.is_stopping():
            pass
        talk.send(b"Subject: x\r\n")
        assert talk.ask(".\r\nNOOP") == "250 2.0.0 Ok: queued as ID1"
        assert talk.reply().startswith("421 4.3.2 ")
        stopping.join()
        assert cut == [0]


def test_a_stop_after_a_message_waits_for_nothing():
    with Harness() as harness, harness.client() as talk:
        log_in(talk)
        begin(talk)
        talk.ask(".")
        harness.listener.close()
        assert harness.connections.stop(5) == 0
        assert talk.reply().startswith("421 4.3.2 ")


def test_a_stop_does_not_wait_for_ever():
    with Harness() as harness, harness.client() as talk:
        log_in(talk)
        begin(talk)
        talk.send(b"Subject: x\r\n")
        harness.listener.close()
        assert harness.connections.stop(0.1) == 1
        assert talk.closed()
    assert harness.spool.begun[0].aborted


# -- real clients, and many ------------------------------------------------


@pytest.mark.parametrize("secure", ["no", "starttls", "implicit"])
def test_smtplib(certificate, secure):
    trusting = ssl.create_default_context(cafile=certificate[0])
    mode = "implicit" if secure == "implicit" else "starttls"
    with Harness(certificate, tls_mode=mode) as harness:
        if secure == "implicit":
            client = smtplib.SMTP_SSL("localhost", harness.listener.port, timeout=10, context=trusting)
        else:
            client = smtplib.SMTP("localhost", harness.listener.port, timeout=10)
        with client:
            if secure == "starttls":
                client.starttls(context=trusting)
            client.login("scanner@contoso.com", PASSWORD)
            client.sendmail("scanner@contoso.com", ["a@contoso.com", "b@contoso.com"], "Subject: x\n\n.dot\ntext\n")
        (incoming,) = harness.spool.accepted
    assert incoming.content == b"Subject: x\r\n\r\n.dot\r\ntext\r\n"
    assert incoming.envelope.recipients == ("a@contoso.com", "b@contoso.com")


def test_two_hundred_clients_at_once(wait_until):
    before = set(threading.enumerate())
    with Harness() as harness:
        clients = [harness.client() for _ in range(200)]
        for talk in clients:
            talk.send(f"EHLO x\r\nAUTH PLAIN {PLAIN}\r\nMAIL FROM:<>\r\nRCPT TO:<a@contoso.com>\r\nDATA\r\n".encode())
        for talk in clients:
            talk.send(b"Subject: x\r\n\r\n.\r\nQUIT\r\n")
        for talk in clients:
            answers = [talk.reply() for _ in range(7)]
            assert answers[5].startswith("250 2.0.0 Ok: queued as "), answers
            assert talk.closed()
            talk.close()
        assert len(harness.spool.accepted) == 200
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_stalled_clients_hold_nobody_up():
    with Harness() as harness:
        stalled = [harness.client() for _ in range(50)]
        for number, talk in enumerate(stalled):
            log_in(talk)
            if number % 2:
                begin(talk)
            talk.send(b"half a li")
        with harness.client() as talk:
            log_in(talk)
            begin(talk)
            assert talk.ask(".").startswith("250 ")
        for talk in stalled:
            talk.close()
