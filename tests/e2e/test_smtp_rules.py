"""Rules by address in the running program: proxies, networks, old TLS, the automatic certificate, fail2ban."""

import base64
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from lineclient import LineClient
from program import ALERTS, PASSWORD, ROOT, SCANS, Program, wait_until

PROXY, STRANGER = "127.0.0.2", "127.0.0.3"
RELAYED = "192.0.2.7"
FAIL2BAN = ROOT / "etc" / "fail2ban"


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    program = Program(
        tmp_path_factory.mktemp("rules"),
        mailboxes=[
            {"username": ALERTS, "password": PASSWORD, "login": "mfp-1"},
            {"username": SCANS, "password": PASSWORD},
        ],
        tls={"tls_cert": "auto"},
        smtps_port=0,
        listeners=[{"protocol": "smtp", "port": 0, "min_version": "TLSv1"}],
        proxy_protocol_from=[PROXY],
        allowed_networks=["127.0.0.1", "192.0.2.0/24", "2001:db8::/32"],
        plaintext_networks=["127.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"],
        relay_networks={RELAYED: SCANS},
    )
    try:
        yield program.sign_in().start()
        assert "Traceback" not in program.said()
    finally:
        program.close()


def ports(program):
    """smtp, smtps, pop3, the one for old TLS: in the config's order."""
    listed = [line.split() for line in program.status()["listeners"]]
    by_protocol = [(protocol, int(place.rpartition(":")[2])) for protocol, place in listed]
    smtp = [port for protocol, port in by_protocol if protocol == "smtp"]
    return smtp[0], dict(by_protocol)["smtps"], dict(by_protocol)["pop3"], smtp[1]


class Client(LineClient):
    def send_mail(self, subject):
        assert self.ask("MAIL FROM:<>").startswith("250 ")
        assert self.ask(f"RCPT TO:<{ALERTS}>").startswith("250 ")
        assert self.ask("DATA").startswith("354 ")
        return self.ask(f"Subject: {subject}\r\n\r\nx\r\n.")


def plain(login, password):
    return "AUTH PLAIN " + base64.b64encode(f"\0{login}\0{password}".encode()).decode()


def test_a_device_behind_a_proxy_relays_and_is_named(running):
    with Client(ports(running)[0], PROXY, RELAYED) as client:
        assert client.line().startswith("220 ")
        id = client.send_mail("behind a proxy").rpartition(" ")[2]
    accepted = rf"accepted {id} from {RELAYED}: mailbox={SCANS} sender={SCANS} size=\d+ tls=none recipients={ALERTS}\n"
    wait_until(lambda: re.search(accepted, running.said()), what="the line")
    wait_until(lambda: re.search(rf"{id} delivered .*\(request-id [0-9a-f-]+\)", running.said()), what="the line")


@pytest.mark.parametrize("behind", ["198.51.100.9", "2002::1"])
def test_a_stranger_behind_a_proxy(running, behind):
    with Client(ports(running)[0], PROXY, behind) as client:
        assert client.line() == "554 5.7.1 This address may not connect here (allowed_networks)"
        assert client.line() == ""


def test_strangers(running):
    smtp, _, pop3, _ = ports(running)
    with Client(smtp, STRANGER) as client:
        assert client.line() == "554 5.7.1 This address may not connect here (allowed_networks)"
    with Client(pop3, STRANGER) as client:
        assert client.line() == "-ERR [SYS/PERM] This address may not connect here (allowed_networks)"
    assert "not in allowed_networks" in running.said()


def test_pop3_behind_a_proxy(running):
    with Client(ports(running)[2], PROXY, "2001:db8::7") as client:
        assert client.line().startswith("+OK")
        client.ask(f"USER {SCANS}")
        assert client.ask(f"PASS {PASSWORD}").startswith("+OK")
    assert "2001:db8::7 logged in as" in running.said()


def test_a_proxy_without_header(running):
    with Client(ports(running)[0], PROXY) as client:
        client.socket.sendall(b"EHLO device.contoso.com\r\n")
        assert client.line() == ""


def test_the_automatic_certificate_is_trusted_by_name_and_address_and_stays(running):
    public = running.directory / "state" / "tls-auto.crt"
    trust = ssl.create_default_context(cafile=str(public))
    seen = set()
    for name in ("127.0.0.1", "localhost", socket.gethostname()):
        with Client(ports(running)[1]).tls(trust, name) as client:
            assert client.line().startswith("220 ")
            seen.add(client.socket.getpeercert(binary_form=True))
    with Client(ports(running)[1], PROXY, "192.0.2.8").tls(trust) as client:  # the header comes before TLS
        assert client.line().startswith("220 ")
    running.stop()
    running.start()
    with Client(ports(running)[1]).tls(trust) as client:
        seen.add(client.socket.getpeercert(binary_form=True))
    assert len(seen) == 1
    assert running.command("check", "--offline", "--json").returncode == 0
    assert running.said().count("a new self-signed certificate was made") == 1


def test_old_tls_where_it_is_allowed_and_nowhere_else(running):
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1
    smtp, _, _, legacy = ports(running)
    for port in (smtp, legacy):
        with Client(port, PROXY, "192.0.2.66") as client:
            client.line()
            assert client.ask("STARTTLS").startswith("220 ")
            if port == smtp:
                with pytest.raises((ssl.SSLError, OSError)):
                    client.tls(old)
            else:
                assert client.tls(old).ask("NOOP").startswith("250 ")
                assert client.socket.version() == "TLSv1"
    for words in (
        "TLS handshake failed from 192.0.2.66: the client supports only older TLS",
        "WARNING smtp: first seen from 192.0.2.66: TLSv1, which is not secure",
    ):
        wait_until(lambda words=words: words in running.said(), what=f"the line {words}")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the most memory that a process had")
def test_at_most_two_passwords_are_checked_at_once(running):
    """Each check takes 16 MiB: thirty at once would show."""

    def peak():
        status = pathlib.Path(f"/proc/{running.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) / 1024

    answers = []

    def guess(number):
        with Client(ports(running)[0]) as client:
            client.line()
            answers.append(client.ask(plain(ALERTS if number % 2 else f"nobody{number}", "wrong")))

    guess(0)
    before = peak()
    threads = [threading.Thread(target=guess, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == {"535 5.7.8 User name or password is wrong"}
    assert peak() - before < 80


def test_a_user_name_without_domain(running):
    with Client(ports(running)[0]) as client:
        client.line()
        assert client.ask(plain("MFP-1", PASSWORD)).startswith("235 ")
        assert client.ask(f"MAIL FROM:<{SCANS}>").startswith('550 5.7.60 or add "rewrite_from": true')
        assert client.ask(f"MAIL FROM:<{ALERTS}>").startswith("250 ")


HOSTILE = [
    'x" from 198.51.100.66 user "y',
    '": wrong password\r\n2026-01-31T12:00:00Z WARNING smtp: login failed from 198.51.100.66 user "y',
    '\nWARNING smtp: login failed from 198.51.100.66 user "y',
    "login failed from 198.51.100.66",
    '\u2028WARNING smtp: login failed from 198.51.100.66 user "',
    *("\\", '\\"', "\x00\x1b[2K", "%s<HOST>", "ü" * 3000, " "),
]
GUESSERS = [*(f"192.0.2.{100 + number}" for number in range(len(HOSTILE))), "2001:db8::bad"]


@pytest.mark.skipif(sys.platform == "win32", reason="fail2ban reads logs on POSIX only")
def test_fail2ban_bans_those_who_guess_and_nobody_else(running, tmp_path):
    running.log.write_bytes(b"")
    smtp, _, pop3, _ = ports(running)
    threads = [
        threading.Thread(target=guess_badly, args=(smtp, pop3, *pair)) for pair in zip(GUESSERS, [*HOSTILE, "x"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Client(smtp, PROXY, "192.0.2.99") as client:  # who does nothing wrong, whatever is said of it
        client.line()
        client.ask('EHLO login failed from 192.0.2.99 user "x"')
        client.ask('MAIL FROM:<"login failed from 192.0.2.99 user "@contoso.com>')
        assert client.ask(plain(ALERTS, PASSWORD)).startswith("235 ")
    line = re.compile(r"^\S+ WARNING smtp: login failed from ", re.MULTILINE)
    wait_until(lambda: len(line.findall(running.said())) >= len(GUESSERS), what="the lines")
    log = tmp_path / "m365proxy.system.log"
    said = running.said().encode()
    log.write_bytes(said)
    assert said.count(b"login failed from 198.51.100.66") >= 1  # it was tried
    found = banned(log)
    assert sorted(set(found)) == sorted(GUESSERS)
    assert len(found) == 2 * len(GUESSERS)
    # The same lines as the journal and syslog hand them over.
    for prefix in ("Jan 31 12:00:00 host m365proxy[123]: ", "Jan 31 12:00:00 host m365proxy: "):
        log.write_text("".join(prefix + line.split(" ", 1)[1] for line in said.decode().splitlines(keepends=True)))
        assert banned(log) == found


def guess_badly(smtp, pop3, address, login):
    with Client(smtp, PROXY, address) as client:
        client.line()
        assert client.ask(plain(login.replace("\0", ""), "wrong")).startswith("535 ")
    with Client(pop3, PROXY, address) as client:
        client.line()
        octets = base64.b64encode(f"\0{login}\0wrong".replace("\0" + login, "\0" + login.replace("\0", "")).encode())
        assert client.ask("AUTH PLAIN " + octets.decode()).startswith("-ERR")


def banned(log):
    """The addresses the filter finds, in order: by fail2ban itself, else by its expression."""
    filter_file = FAIL2BAN / "filter.d" / "m365proxy.conf"
    program = shutil.which("fail2ban-regex")
    if program:
        # What it includes is looked for beside it.
        shutil.copy("/etc/fail2ban/filter.d/common.conf", log.parent)
        filter_file = shutil.copy(filter_file, log.parent)
        done = subprocess.run(
            [program, "--out", "ip", "-e", "utf-8", str(log), str(filter_file)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()
    print("fail2ban is not installed: its expression is tried by Python alone")
    expression = re.search(r"^failregex = (.*)$", filter_file.read_text(), re.M).group(1)
    expression = expression.replace("%(__prefix_line)s", r"\S+ m365proxy(?:\[\d+\])?: ").replace(
        "<ADDR>", r"(?P<address>[0-9a-f.:]+)"
    )
    date = r"^(?:\d{4}-\d\d-\d\dT[\d:]+Z|\w{3} \d\d [\d:]+)\s"
    matches = (re.match(expression, re.sub(date, "", line)) for line in log.read_text().splitlines())
    return [match.group("address") for match in matches if match]


def test_networks_change_with_a_reload(running):
    running.configure(allowed_networks=["127.0.0.1", STRANGER], proxy_protocol_from=[])
    assert running.command("reload").returncode == 0

    def welcome(address):
        with Client(ports(running)[0], address) as client:
            return client.line().startswith("220 ")

    wait_until(lambda: welcome(STRANGER), what="the new networks")
    assert not welcome(PROXY)


def test_the_jail_uses_the_filter():
    jail = (FAIL2BAN / "jail.d" / "m365proxy.conf").read_text()
    assert "\n[m365proxy]\n" in jail and "\nfilter = m365proxy\n" in jail
    # Who guesses at the status page is kept out there, too.
    (ports,) = re.findall(r"^port = (.+)$", jail, re.MULTILINE)
    assert f'"status_port": {ports.split(",")[-1]}' in (ROOT / "docs" / "monitoring.md").read_text("utf-8")
