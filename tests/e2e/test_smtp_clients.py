"""Real SMTP clients with their default settings, each with every way to sign in and every kind of TLS it knows.

One running program for all of them; each case sends one message of its own,
whose way to the tenant is looked at.
"""

import contextlib
import email
import email.message
import email.policy
import json
import os
import pathlib
import pwd
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
import tempfile

import pytest
from program import ALERTS, PASSWORD, SCANS, Program, wait_until
from tools import need

TEXT = "toner low\n.\n..dots, and Gr\u00fc\u00dfe\nlast line\n"
TLS = ["none", "starttls", "implicit"]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    program = Program(tmp_path_factory.mktemp("smtp"), smtps_port=0)
    try:
        yield program.sign_in().start()
        assert "Traceback" not in program.said()
    finally:
        program.close()


class Case:
    """One client's turn."""

    def __init__(self, program, directory, way, name):
        self.program = program
        self.directory = directory
        self.way = way
        self.certificate = str(program.certificate)
        ports = [int(line.rpartition(":")[2]) for line in program.status()["listeners"] if line.startswith("smtp")]
        self.port = ports[1] if way == "implicit" else ports[0]
        self.subject = re.sub(r"\W+", " ", name).strip()

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    def mail(self):
        return (
            f"From: <{ALERTS}>\nTo: <{SCANS}>\nSubject: {self.subject}\nMIME-Version: 1.0\n"
            f"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{TEXT}"
        )

    def run(self, *words, stdin="", status=0, **environ):
        environ = dict(self.program.environ, HOME=str(self.directory), LC_ALL="C.UTF-8", **environ)
        done = subprocess.run(
            words, input=stdin.encode(), capture_output=True, timeout=60, env=environ, cwd=self.directory
        )
        assert done.returncode == status, (done.stdout[-2000:] + done.stderr[-2000:]).decode(errors="replace")
        return done.stdout.decode(errors="replace")

    def check(self):
        def mine():
            records = list(self.program.sandbox.tenant.delivered)
            return [record for record in records if parsed(record.raw)["Subject"] == self.subject]

        wait_until(mine, what="the delivery")
        (record,) = mine()
        mail = parsed(record.raw)
        assert list(record.recipients) == [SCANS]
        assert [address.addr_spec for address in mail["From"].addresses] == [ALERTS]
        assert [address.addr_spec for address in mail["To"].addresses] == [SCANS]
        assert mail["Date"] and mail["Message-ID"]
        accepted = rf"accepted \S+ from 127\.0\.0\.1: mailbox={ALERTS} .*"
        assert mail.get_content().replace("\r\n", "\n").rstrip("\n") == TEXT.rstrip("\n")
        line = wait_until(lambda: re.findall(accepted, self.program.said()), what="the line")[-1]
        assert ("tls=none" in line) == (self.way == "none")


def parsed(raw):
    return email.message_from_bytes(raw, policy=email.policy.SMTP)


@pytest.fixture
def case(running, tmp_path, request):
    def make(way):
        return Case(running, tmp_path, way, request.node.name)

    return make


# -- swaks -----------------------------------------------------------------

SWAKS_TLS = {"none": [], "starttls": ["--tls"], "implicit": ["--tls-on-connect"]}


@pytest.mark.parametrize("way", TLS)
@pytest.mark.parametrize("auth", [["--auth"], *(["--auth", name] for name in ("LOGIN", "PLAIN"))], ids=" ".join)
def test_swaks(case, way, auth):
    case = case(way)
    case.run(
        need("swaks"),
        "--server",
        "127.0.0.1",
        "--port",
        str(case.port),
        *SWAKS_TLS[way],
        *auth,
        "--auth-user",
        ALERTS,
        "--auth-password",
        PASSWORD,
        "--from",
        ALERTS,
        "--to",
        SCANS,
        "--data",
        "@" + case.write("mail", case.mail()),
    )
    case.check()


@pytest.mark.parametrize("auth", ["CRAM-MD5", "DIGEST-MD5"])
def test_swaks_gets_no_mechanism_that_is_not_offered(case, auth):
    case = case("none")
    said = case.run(
        need("swaks"),
        "--server",
        "127.0.0.1",
        "--port",
        str(case.port),
        "--auth",
        auth,
        "--auth-user",
        ALERTS,
        "--auth-password",
        PASSWORD,
        "--to",
        SCANS,
        status=28,
    )
    assert "250-AUTH LOGIN PLAIN" in said


# -- curl ------------------------------------------------------------------


@pytest.mark.parametrize("way", TLS)
@pytest.mark.parametrize("auth", ["", "AUTH=PLAIN", "AUTH=LOGIN"])
def test_curl(case, way, auth):
    case = case(way)
    options = ["--login-options", auth] if auth else []
    if way == "starttls":
        options += ["--ssl-reqd"]
    scheme = "smtps" if way == "implicit" else "smtp"
    case.run(
        need("curl"),
        "-sS",
        "--cacert",
        case.certificate,
        *options,
        "--user",
        f"{ALERTS}:{PASSWORD}",
        "--mail-from",
        ALERTS,
        "--mail-rcpt",
        SCANS,
        "--upload-file",
        case.write("mail", case.mail().replace("\n", "\r\n")),
        f"{scheme}://localhost:{case.port}",
    )
    case.check()


# -- msmtp, s-nail ---------------------------------------------------------


@pytest.mark.parametrize("way", TLS)
def test_msmtp(case, way):
    case = case(way)
    tls = {"none": "tls off", "starttls": "tls on\ntls_starttls on", "implicit": "tls on\ntls_starttls off"}[way]
    config = case.write(
        "msmtprc",
        f"account default\nhost localhost\nport {case.port}\nfrom {ALERTS}\nuser {ALERTS}\npassword {PASSWORD}\n"
        # Without TLS it wants to be told that it may say the password.
        f"auth {'plain' if way == 'none' else 'on'}\n{tls}\n"
        + ("" if way == "none" else f"tls_trust_file {case.certificate}\n"),
    )
    case.run(need("msmtp"), "-C", config, SCANS, stdin=case.mail())
    case.check()


@pytest.mark.parametrize("way", TLS)
def test_s_nail(case, way):
    case = case(way)
    scheme = "smtps" if way == "implicit" else "smtp"
    user, password = ALERTS.replace("@", "%40"), PASSWORD.replace(" ", "%20")
    config = case.write(
        "mailrc",
        f"set v15-compat\nset mta={scheme}://{user}:{password}@localhost:{case.port}\n"
        f"set smtp-auth=plain\nset from={ALERTS}\nset tls-ca-file={case.certificate} tls-ca-no-defaults\n"
        + ("set smtp-use-starttls\n" if way == "starttls" else "")
        + "set sendcharsets=utf-8 ttycharset=utf-8 sendwait\n",
    )
    case.run(need("s-nail"), "-s", case.subject, SCANS, stdin=TEXT, MAILRC=config, NAIL_NO_SYSTEM_RC="1")
    case.check()


# -- libraries -------------------------------------------------------------


@pytest.mark.parametrize("way", TLS)
def test_smtplib(case, way):
    case = case(way)
    trust = ssl.create_default_context(cafile=case.certificate)
    if way == "implicit":
        client = smtplib.SMTP_SSL("localhost", case.port, context=trust, timeout=30)
    else:
        client = smtplib.SMTP("localhost", case.port, timeout=30)
    with client:
        if way == "starttls":
            client.starttls(context=trust)
        client.login(ALERTS, PASSWORD)
        client.sendmail(ALERTS, [SCANS], case.mail().replace("\n", "\r\n").encode())
    case.check()


NODE = """
const transport = require("nodemailer").createTransport(JSON.parse(process.argv[2]));
transport.sendMail(JSON.parse(process.argv[3]), (error, info) => {
  if (error) { console.error(error); process.exit(1); }
  console.log(info.response);
});
"""


@pytest.mark.parametrize("auth", ["", "PLAIN", "LOGIN"])
@pytest.mark.parametrize("way", TLS)
def test_nodemailer(case, nodemailer, way, auth):
    case = case(way)
    (nodemailer / "send.js").write_text(NODE)
    options = {"host": "localhost", "port": case.port, "auth": {"user": ALERTS, "pass": PASSWORD}}
    if auth:
        options["authMethod"] = auth
    if way == "implicit":
        options["secure"] = True
    elif way == "none":
        options["ignoreTLS"] = True  # by default it takes STARTTLS where it is offered
    mail = {"from": ALERTS, "to": SCANS, "subject": case.subject, "text": TEXT}
    case.run(
        "node", str(nodemailer / "send.js"), json.dumps(options), json.dumps(mail), NODE_EXTRA_CA_CERTS=case.certificate
    )
    case.check()


# -- Postfix ---------------------------------------------------------------


@pytest.fixture
def postfix():
    """postfix(case, *settings) starts a Postfix of its own, whose smarthost is the program; returns its config."""
    program = need("postfix")
    if os.geteuid() or "postfix" not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip("Postfix starts for root only")

    def start(case, *settings):
        # Its processes are other users, who may not look into pytest's directories.
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="m365proxy-postfix-")))
        directory.chmod(0o755)
        config, queue, data = (directory / name for name in ("config", "queue", "data"))
        for path in (config, queue, data):
            path.mkdir()
        shutil.chown(data, "postfix")
        (config / "main.cf").write_text(
            "\n".join(
                [
                    "compatibility_level = 3.6",
                    f"queue_directory = {queue}",
                    f"data_directory = {data}",
                    "inet_interfaces = loopback-only",
                    "inet_protocols = ipv4",
                    "mydestination =",
                    "alias_maps =",
                    "myhostname = smarthost.contoso.com",
                    f"maillog_file = {directory}/log",
                    "maillog_file_prefixes = /",
                    f"relayhost = [localhost]:{case.port}",
                    "smtp_sasl_auth_enable = yes",
                    "smtp_host_lookup = native",
                    f"smtp_sasl_password_maps = inline:{{ {{ [localhost]:{case.port} = {ALERTS}:{PASSWORD} }} }}",
                    f"smtp_tls_CAfile = {case.certificate}",
                    *settings,
                    "",
                ]
            )
        )
        stock = pathlib.Path("/usr/share/postfix/master.cf.dist").read_text().splitlines()
        # Without a port of its own, and without chroot.
        services = [
            re.sub(r"^((\S+\s+){4})y(?=\s)", r"\1n", line) for line in stock if not line.startswith("smtp      inet")
        ]
        (config / "master.cf").write_text("\n".join(services) + "\n")
        done = subprocess.run([program, "-c", str(config), "start"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + (directory / "log").read_text()
        stack.callback(subprocess.run, [program, "-c", str(config), "stop"], capture_output=True)
        return directory

    with contextlib.ExitStack() as stack:
        yield start


POSTFIX_TLS = {
    "none": ["smtp_sasl_security_options = noanonymous"],
    "starttls": ["smtp_tls_security_level = verify", "smtp_sasl_tls_security_options = noanonymous"],
    "implicit": [
        "smtp_tls_security_level = verify",
        "smtp_tls_wrappermode = yes",
        "smtp_sasl_tls_security_options = noanonymous",
    ],
}


@pytest.mark.parametrize("way", TLS)
def test_postfix_as_smarthost_client(case, postfix, way):
    case = case(way)
    directory = postfix(case, *POSTFIX_TLS[way])
    case.run(need("sendmail"), "-i", "-C", str(directory / "config"), "-f", ALERTS, SCANS, stdin=case.mail())
    try:
        case.check()
    except AssertionError:
        print((directory / "log").read_text())
        raise


def test_postfix_gets_rid_of_its_bounces(case, postfix):
    """What it writes itself has the empty sender and From: MAILER-DAEMON@its.own.name; refused, it would be lost."""
    case = case("none")
    config = str(postfix(case, *POSTFIX_TLS["none"]) / "config")
    # The underscore is refused by the program, so Postfix reports that to the sender, through the program.
    case.run(need("sendmail"), "-i", "-C", config, "-f", ALERTS, "nobody@my_nas.contoso.com", stdin=case.mail())

    def bounces():
        mails = [parsed(record.raw) for record in list(case.program.sandbox.tenant.delivered)]
        return [mail for mail in mails if mail["Subject"] == "Undelivered Mail Returned to Sender"]

    wait_until(bounces, what="the bounce")
    (mail,) = bounces()
    assert [(one.display_name, one.addr_spec) for one in mail["From"].addresses] == [("Mail Delivery System", ALERTS)]
    assert [one.addr_spec for one in mail["Reply-To"].addresses] == ["MAILER-DAEMON@smarthost.contoso.com"]
    assert [one.addr_spec for one in mail["To"].addresses] == [ALERTS]
    assert "its domain has an underscore" in " ".join(mail.get_payload()[0].get_content().split())
    wait_until(lambda: "Mail queue is empty" in case.run(need("postqueue"), "-c", config, "-p"), what="an empty queue")


def test_the_port_answers_after_all_of_them(running):
    for line in running.status()["listeners"]:
        if line.startswith("smtp"):
            socket.create_connection(("127.0.0.1", int(line.rpartition(":")[2])), timeout=5).close()
    wait_until(lambda: running.queue() == [])
