"""A device's conversation with a listener that says what a test lets it say."""

import contextlib
import dataclasses
import datetime
import shutil
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from configs import configured
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from m365proxy.admin.steps import Failed
from m365proxy.admin.testmail import dialogue
from m365proxy.admin.testmail.device import Way
from m365proxy.admin.testmail.dialogue import Certificate, Pop3Device, Refused, SmtpDevice
from m365proxy.server import tls

LOGIN = "alerts@contoso.com"


class Script:
    """Answers each line with the next of `says`, the first at once; what it heard is in `heard`."""

    def __init__(self, *says, context=None, implicit=False):
        self.heard = []
        self._says = list(says)
        self._context = context
        self._implicit = implicit
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            client = self._listening.accept()[0]
        except OSError:  # the test is over, and nobody came
            return
        client.settimeout(20)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.callback(lambda: client.close())
            if self._implicit:
                client = self._context.wrap_socket(client, server_side=True)
            file = stack.enter_context(client.makefile("rb"))
            client.sendall(self._says.pop(0))
            while self._says:
                line = file.readline()
                if not line:
                    return
                self.heard.append(line)
                if line in (b"STARTTLS\r\n", b"STLS\r\n"):
                    client.sendall(self._says.pop(0))
                    client = self._context.wrap_socket(client, server_side=True)
                    file = stack.enter_context(client.makefile("rb"))
                elif not self._in_text():
                    client.sendall(self._says.pop(0))

    def _in_text(self):
        """Whether the client is between DATA and its dot."""
        return b"DATA\r\n" in self.heard[:-1] and b".\r\n" not in self.heard

    def close(self):
        self._listening.close()
        self._thread.join(20)


@pytest.fixture
def play(tmp_path):
    """play(*says, **settings): a script, and the way to it."""
    scripts = []

    def play(*says, mode="none", context=None, is_proxy=False, protocol="smtp"):
        scripts.append(Script(*says, context=context, implicit=mode == "implicit" and context is not None))
        listeners = [{"protocol": protocol, "port": scripts[-1].port, "tls": mode}]
        config = configured(tmp_path, listeners=listeners, tls={"tls_cert": "auto"})
        way = Way(config.sockets[0], "127.0.0.1", scripts[-1].port, is_proxy)
        return scripts[-1], way

    yield play
    for script in scripts:
        script.close()


@pytest.fixture
def context(certificate):
    return tls.server_context(*certificate)


@pytest.fixture
def trust(certificate):
    return Certificate.read(certificate[0])


GREETING, EHLO, OK = b"220 here\r\n", b"250-here\r\n250-SIZE 1000\r\n250 AUTH PLAIN\r\n", b"250 2.1.0 Ok\r\n"
GO_AHEAD, LOGGED_IN, BYE = b"354 go ahead\r\n", b"235 2.7.0 in\r\n", b"221 bye\r\n"


def test_a_mail_is_handed_over(play):
    script, way = play(GREETING, EHLO, LOGGED_IN, OK, OK, GO_AHEAD, b"250-2.0.0 Ok:\r\n250 queued as X\r\n", BYE)
    device = SmtpDevice(way, Certificate())
    device.log_in(LOGIN, "größe ")
    assert device.send(LOGIN, "b@contoso.com", b"Subject: x\r\n\r\n.\r\n..a\r\nb.\r\n") == "2.0.0 Ok: queued as X"
    device.quit()
    device.close()
    assert script.heard == [
        b"EHLO test.invalid\r\n",
        b"AUTH PLAIN AGFsZXJ0c0Bjb250b3NvLmNvbQBncsO2w59lIA==\r\n",
        b"MAIL FROM:<alerts@contoso.com>\r\n",
        b"RCPT TO:<b@contoso.com>\r\n",
        b"DATA\r\n",
        *(b"Subject: x\r\n", b"\r\n", b"..\r\n", b"...a\r\n", b"b.\r\n", b".\r\n"),
        b"QUIT\r\n",
    ]
    assert device.encryption == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
def test_a_device_has_the_listeners_own_address(play):
    """By it, relay_networks and allowed_networks decide."""
    _, way = play(GREETING)
    with socket.create_server(("127.0.0.2", 0)) as listening:
        device = dialogue._Dialogue(way._replace(address="127.0.0.2", port=listening.getsockname()[1]), Certificate())
        client, peer = listening.accept()
        client.close()
        device.close()
    assert peer[0] == "127.0.0.2"


@pytest.mark.parametrize("mode", ["starttls", "implicit"])
def test_the_listener_is_known_by_its_certificate(play, context, trust, mode):
    begin = (GREETING, EHLO, b"220 go\r\n") if mode == "starttls" else (GREETING,)
    script, way = play(*begin, EHLO, LOGGED_IN, mode=mode, context=context)
    device = SmtpDevice(way, trust)
    device.log_in(LOGIN, "x")
    device.close()
    assert device.encryption.startswith("TLSv1.") and script.heard[-1].startswith(b"AUTH PLAIN ")


def issued(tmp_path, days, key=None, since=-90):
    """The paths of a certificate that another one has issued, and of its key, as a public authority's are.

    It is valid from `since` to `days` days after today.
    """

    def name(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    authority = ec.generate_private_key(ec.SECP256R1())
    key = key or authority
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    made = (
        x509.CertificateBuilder()
        .subject_name(name("mail.contoso.com"))
        .issuer_name(name("An authority"))
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now + datetime.timedelta(days=since))
        .not_valid_after(now + datetime.timedelta(days=days))
        .sign(authority, hashes.SHA256())
    )
    raw = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *raw))
    return str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")


def test_a_certificate_of_an_authority_need_not_have_our_name(play, tmp_path):
    cert, key = issued(tmp_path, 10)
    _, way = play(GREETING, EHLO, mode="implicit", context=tls.server_context(cert, key))
    device = SmtpDevice(way, Certificate.read(cert))
    assert device.encryption
    device.close()


@pytest.mark.parametrize("min_version, good", [("TLSv1", True), ("TLSv1.2", False)])
def test_for_old_devices_the_certificate_may_be_an_old_one(play, tmp_path, min_version, good):
    """OpenSSL's security level 2 wants keys of 2048 bits."""
    cert, key = issued(tmp_path, 10, rsa.generate_private_key(65537, 1024))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(cert, key)
    _, way = play(GREETING, EHLO, mode="implicit", context=context)
    way = way._replace(socket=dataclasses.replace(way.socket, min_version=min_version))
    with contextlib.nullcontext() if good else pytest.raises(Failed, match="key too weak"):
        SmtpDevice(way, Certificate.read(cert)).close()


def refused(play, paths, trusted):
    """How a device that trusts a certificate refuses that of a listener, whom it has told nothing."""
    script, way = play(GREETING, EHLO, mode="implicit", context=tls.server_context(*paths))
    with pytest.raises(Failed) as caught:
        SmtpDevice(way, trusted)
    assert caught.value.exit_status == 78 and script.heard == []
    return caught.value


def test_another_certificate_gets_no_password(play, tmp_path, trust):
    error = refused(play, issued(tmp_path, 10), trust)
    assert "has another certificate than" in str(error) and "m365proxy reload" in error.advice


@pytest.mark.parametrize("since, days, words", [(-90, -1, "has expired"), (1, 90, "is not valid yet")])
def test_a_certificate_of_another_time_names_the_clock(play, tmp_path, since, days, words):
    """A machine without a battery starts in a year before the certificate was made."""
    paths = issued(tmp_path, days, since=since)
    error = refused(play, paths, Certificate.read(paths[0]))
    assert f"{paths[0]} {words}" in str(error) and "by this machine's clock" in error.advice
    assert ("renew it" in error.advice) == (days < 0)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_a_certificate_with_the_trust_of_openssl_in_it(play, tmp_path):
    cert, key = issued(tmp_path, 10)
    subprocess.run(["openssl", "x509", "-in", cert, "-trustout", "-out", cert], check=True)
    _, way = play(GREETING, EHLO, mode="implicit", context=tls.server_context(cert, key))
    device = SmtpDevice(way, Certificate.read(cert))
    assert device.encryption
    device.close()


def test_a_listener_that_speaks_no_tls(play, trust):
    _, way = play(GREETING, b"", mode="implicit")
    with pytest.raises(Failed, match="TLS with SMTPS 127.0.0.1:.* failed"):
        SmtpDevice(way, trust)


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "cannot be read: No such file"),
        (b"hello", "no certificate in PEM"),
        (b"-----BEGIN CERTIFICATE-----\nMA\n-----END CERTIFICATE-----\n", "no certificate in PEM"),
    ],
)
def test_a_certificate_that_cannot_be_read(tmp_path, content, words):
    if content:
        (tmp_path / "cert.pem").write_bytes(content)
    with pytest.raises(Failed, match=words) as caught:
        Certificate.read(str(tmp_path / "cert.pem"))
    assert caught.value.exit_status == 78


def test_behind_a_load_balancer_a_proxy_header_comes_first(play):
    script, way = play(b"", GREETING, EHLO, is_proxy=True)
    SmtpDevice(way, Certificate()).close()
    words = script.heard[0].split()
    assert words[:4] == [b"PROXY", b"TCP4", b"127.0.0.1", b"127.0.0.1"] and int(words[5]) == way.port


@pytest.mark.parametrize(
    "says, said, code",
    [
        ([b"554 5.7.1 Not allowed\r\n"], "554 5.7.1 Not allowed", "554"),
        ([b"421-4.3.2 Too many,\r\n421 later\r\n"], "421 4.3.2 Too many, later", "421"),
        ([GREETING, b"502 no\r\n"], "502 no", "502"),
    ],
)
def test_what_the_listener_refuses_with_is_kept(play, says, said, code):
    _, way = play(*says, b"")
    with pytest.raises(Refused) as caught:
        SmtpDevice(way, Certificate())
    assert (caught.value.said, caught.value.code) == (said, code)


def test_a_refusal_does_not_show_the_password(play):
    _, way = play(GREETING, EHLO, b"535 5.7.8 no\r\n", b"")
    device = SmtpDevice(way, Certificate())
    with pytest.raises(Refused) as caught:
        device.log_in(LOGIN, "secret")
    assert str(caught.value) == "AUTH PLAIN: 535 5.7.8 no"
    device.close()


@pytest.mark.parametrize("says", [[b""], [b"220 he"], [GREETING, b"250-a\r\n"]])
def test_a_connection_that_ends_is_an_error_and_no_reply(play, says):
    _, way = play(*says)
    with pytest.raises(OSError):
        SmtpDevice(way, Certificate())


HERE, DONE = b"+OK here\r\n", b"+OK\r\n"


def test_the_newest_mail_is_fetched_first(play):
    script, way = play(
        *(HERE, DONE, b"+OK Exchange is slow.. 3 messages\r\n", b"+OK 3 12000\r\n"),
        *(b"+OK\r\nSubject: three\r\n\r\n.\r\n", b"+OK\r\nSubject: two\r\n\r\n.\r\n"),
        *(b"+OK 9 octets\r\n..\r\nx\r\n...\r\n.\r\n", DONE, b""),
        protocol="pop3",
    )
    device = Pop3Device(way, Certificate(), LOGIN, "word")
    assert list(device.newest(2)) == [(3, b"Subject: three\r\n\r\n"), (2, b"Subject: two\r\n\r\n")]
    assert device.retrieve(3) == b".\r\nx\r\n..\r\n"
    device.quit()
    device.close()
    words = [b"USER " + LOGIN.encode(), b"PASS word", b"STAT", b"TOP 3 0", b"TOP 2 0", b"RETR 3", b"QUIT"]
    assert script.heard == [word + b"\r\n" for word in words]


def test_pop3_over_stls(play, context, trust):
    script, way = play(HERE, DONE, DONE, DONE, b"", mode="starttls", context=context, protocol="pop3")
    device = Pop3Device(way, trust, LOGIN, "word")
    device.close()
    assert device.encryption and script.heard[0] == b"STLS\r\n"


@pytest.mark.parametrize("code", ["IN-USE", "SYS/TEMP", ""])
def test_a_refusal_over_pop3_has_its_code(play, code):
    line = f"-ERR [{code}] No." if code else "-ERR No."
    _, way = play(HERE, DONE, line.encode() + b"\r\n", b"", protocol="pop3")
    with pytest.raises(Refused) as caught:
        Pop3Device(way, Certificate(), LOGIN, "secret")
    assert caught.value.code == code and str(caught.value) == f"PASS: {line}"


@pytest.mark.parametrize("text", [b"+OK\r\nSubject: x\r\n", b"+OK\r\n" + b"x" * 100 + b"\r\n" * 200])
def test_a_message_without_its_end_is_an_error(play, monkeypatch, text):
    monkeypatch.setattr(dialogue, "_TEXT_LIMIT", 200)
    _, way = play(HERE, DONE, DONE, text, protocol="pop3")
    device = Pop3Device(way, Certificate(), LOGIN, "word")
    with pytest.raises(ConnectionError):
        device.retrieve(1)
    device.close()
