"""Real programs with their default settings, in and out."""

import email
import email.message
import email.policy
import os
import poplib
import smtplib
import ssl
import subprocess

import pytest
from program import ALERTS, PASSWORD, SCANS, wait_until
from tools import need

PDF = b"%PDF-1.4\r\n" + bytes(range(256)) * 300 + b"\n%%EOF\r\n"


@pytest.fixture
def program(shared_program):
    return shared_program


def client(program, *words, stdin=b""):
    done = subprocess.run(words, input=stdin, capture_output=True, timeout=60, env=program.environ)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def swaks(program, *more):
    return client(
        program,
        need("swaks"),
        "--server",
        "127.0.0.1",
        "--port",
        str(program.port("smtp")),
        "--auth-user",
        ALERTS,
        "--auth-password",
        PASSWORD,
        "--from",
        ALERTS,
        "--to",
        SCANS,
        *more,
    )


def delivered(program, count=1):
    wait_until(lambda: len(program.sandbox.tenant.delivered) >= count, what="the delivery")
    assert len(program.sandbox.tenant.delivered) == count
    return program.sandbox.tenant.delivered


def parsed(raw):
    return email.message_from_bytes(raw, policy=email.policy.SMTP)


def leaves(mail):
    found = []
    for part in mail.walk():
        if not part.is_multipart():
            content = part.get_payload(decode=True) or b""
            if part.get_content_maintype() == "text":
                content = content.replace(b"\r\n", b"\n").rstrip(b"\n")
            found.append((part.get_content_type(), part.get_filename(), content))
    return found


@pytest.mark.parametrize("auth", ["LOGIN", "PLAIN"])
@pytest.mark.parametrize("tls", [["--tls"], []], ids=["starttls", "plain"])
def test_swaks(program, auth, tls):
    swaks(program, "--auth", auth, *tls, "--body", "toner low\n.\n..dots", "--header", "Subject: Toner")
    record = delivered(program)[0]
    assert record.recipients == (SCANS,) or list(record.recipients) == [SCANS]
    mail = parsed(record.raw)
    assert mail["Subject"] == "Toner" and mail["From"] == ALERTS and mail["To"] == SCANS
    assert leaves(mail)[0][2].startswith(b"toner low\n.\n..dots")


def test_swaks_attach(program, tmp_path):
    (tmp_path / "scan.pdf").write_bytes(PDF)
    swaks(
        program,
        "--tls",
        "--attach-type",
        "application/pdf",
        "--attach-name",
        "scan.pdf",
        "--attach",
        f"@{tmp_path / 'scan.pdf'}",
        "--body",
        "see attachment",
    )
    found = leaves(parsed(delivered(program)[0].raw))
    assert ("application/pdf", "scan.pdf", PDF) in found


def curl_in_and_out(program, tmp_path, secure):
    sent = tmp_path / "mail"
    sent.write_bytes(
        b"From: <%s>\r\nTo: <%s>\r\nSubject: by curl\r\n\r\n.one\r\n..two\r\nlast\r\n"
        % (ALERTS.encode(), SCANS.encode())
    )
    client(
        program,
        need("curl"),
        "-sS",
        *secure,
        "--user",
        f"{ALERTS}:{PASSWORD}",
        "--mail-from",
        ALERTS,
        "--mail-rcpt",
        SCANS,
        "--upload-file",
        str(sent),
        f"smtp://localhost:{program.port('smtp')}",
    )
    delivered(program)
    listed = client(
        program, "curl", "-sS", *secure, "--user", f"{SCANS}:{PASSWORD}", f"pop3://localhost:{program.port('pop3')}/"
    )
    assert listed.split()[0] == b"1"
    got = client(
        program, "curl", "-sS", *secure, "--user", f"{SCANS}:{PASSWORD}", f"pop3://localhost:{program.port('pop3')}/1"
    )
    assert parsed(got)["Subject"] == "by curl"
    assert leaves(parsed(got))[0][2] == b".one\n..two\nlast"


def test_curl_over_tls(program, tmp_path):
    curl_in_and_out(program, tmp_path, ["--ssl-reqd", "--cacert", str(program.certificate)])


def test_curl_without_tls_from_loopback(program, tmp_path):
    curl_in_and_out(program, tmp_path, [])


def scanner_mail():
    """What a scanner makes: no Message-ID, no text encoding, a PDF without Content-Disposition."""
    import base64

    body = base64.encodebytes(PDF).replace(b"\n", b"\r\n")
    return (
        b'From: "MFP, 2nd floor" <' + ALERTS.encode() + b">\r\nTo: " + SCANS.encode() + b"\r\n"
        b"Subject: Scanned image\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed;\r\n boundary="DC_BOUND_PRE_<1>"\r\n\r\n'
        b"--DC_BOUND_PRE_<1>\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nDEVICE NAME: MFP\r\n\r\n"
        b'--DC_BOUND_PRE_<1>\r\nContent-Type: application/pdf; name="scan.pdf"\r\n'
        b"Content-Transfer-Encoding: base64\r\n\r\n" + body + b"\r\n--DC_BOUND_PRE_<1>--\r\n"
    )


def python_mail():
    mail = email.message.EmailMessage(policy=email.policy.SMTP)
    mail["From"] = ALERTS
    mail["To"] = SCANS
    mail["Subject"] = "Füllstand niedrig – 5 %"
    mail.set_content("Grüße\n.\nfrom the tank\n")
    mail.add_alternative("<p class=3D>Grüße</p>\n", subtype="html")
    mail.add_attachment(PDF, maintype="application", subtype="pdf", filename="Bericht für März.pdf")
    mail.add_attachment("a,b\n1,2\n", subtype="csv", filename="data.csv")
    return bytes(mail)


@pytest.mark.parametrize("make", [scanner_mail, python_mail])
def test_smtplib_in_and_poplib_out(program, make):
    raw = make()
    trust = ssl.create_default_context(cafile=str(program.certificate))
    with smtplib.SMTP("localhost", program.port("smtp"), timeout=30) as smtp:
        smtp.starttls(context=trust)
        smtp.login(ALERTS, PASSWORD)
        smtp.sendmail(ALERTS, [SCANS], raw)
    received = parsed(delivered(program)[0].raw)
    assert leaves(received) == leaves(parsed(raw))
    assert str(received["Subject"]) == str(parsed(raw)["Subject"])
    assert received["Date"] and received["Message-ID"]

    pop = poplib.POP3("localhost", program.port("pop3"), timeout=30)
    pop.stls(context=trust)
    pop.user(SCANS)
    pop.pass_(PASSWORD)
    assert pop.stat()[0] == 1
    fetched = parsed(b"\r\n".join(pop.retr(1)[1]) + b"\r\n")
    assert leaves(fetched) == leaves(parsed(raw))
    pop.dele(1)
    pop.quit()
    tenant = program.sandbox.tenant
    assert len(tenant.items(SCANS, "inbox")) == 0
    assert len(tenant.items(SCANS, "deleteditems")) == 1


def test_bcc_by_envelope_reaches_whom_it_should_and_nobody_else(program):
    with smtplib.SMTP("localhost", program.port("smtp"), timeout=30) as smtp:
        smtp.login(ALERTS, PASSWORD)
        smtp.sendmail(
            ALERTS,
            [SCANS, "hidden@example.org"],
            f"From: {ALERTS}\r\nTo: {SCANS}, not-in-envelope@example.org\r\nBcc: smuggled@example.org\r\n\r\nx\r\n",
        )
    record = delivered(program)[0]
    assert sorted(record.recipients) == sorted([SCANS, "hidden@example.org"])
    shown = program.sandbox.tenant.items(SCANS, "inbox")[0].raw
    assert b"hidden@" not in shown and b"smuggled@" not in shown


def test_too_large_is_said_at_mail_and_after_data(make_program):
    program = make_program(attachment_limit_mb=1).start()
    with smtplib.SMTP("localhost", program.port("smtp"), timeout=30) as smtp:
        smtp.login(ALERTS, PASSWORD)
        limit = int(smtp.esmtp_features["size"])
        code, _ = smtp.docmd(f"MAIL FROM:<{ALERTS}> SIZE={limit + 1}")
        assert code == 552
        smtp.mail(ALERTS)
        smtp.rcpt(SCANS)
        code, _ = smtp.data(b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * (limit // 72 + 1))
        assert code == 552
        assert smtp.noop()[0] == 250
    assert program.queue() == [] and os.listdir(program.directory / "state" / "queue" / "tmp") == []


def test_nobody_sends_as_another(program):
    with smtplib.SMTP("localhost", program.port("smtp"), timeout=30) as smtp:
        smtp.login(ALERTS, PASSWORD)
        assert smtp.mail(SCANS)[0] == 550
        smtp.rset()
        smtp.mail(ALERTS)
        smtp.rcpt(SCANS)
        code, said = smtp.data(f"From: {SCANS}\r\n\r\nx\r\n".encode())
        assert code == 550 and b"send_as" in said
    assert program.sandbox.tenant.delivered == [] and program.queue() == []
