"""The status port of the running program, asked by curl."""

import contextlib
import os
import re
import shutil
import signal
import smtplib
import socket
import subprocess

import pytest
from program import ALERTS, ROOT, wait_until
from program import PASSWORD as DEVICE_PASSWORD
from tools import need

from m365proxy.server import tls

FILTER = ROOT / "etc" / "fail2ban" / "filter.d" / "m365proxy.conf"
PASSWORD = "a drawer full of screws"


class Answer:
    def __init__(self, text):
        head, _, self.body = text.partition("\r\n\r\n")
        first, *fields = head.split("\r\n")
        self.status = int(first.split()[1])
        self.header = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}


def curl(program, path, *options, name="127.0.0.1", scheme="http"):
    """What curl gets; None if it gets no answer."""
    url = f"{scheme}://{name}:{program.port('status')}{path}"
    words = [need("curl"), "--noproxy", "*", "-sS", "--http1.1", "-i", "--max-time", "30", *options, url]
    done = subprocess.run(words, capture_output=True, timeout=60, env={"HOME": "/nonexistent"})
    return Answer(done.stdout.decode()) if done.stdout else None


def over_tls(program, path, *options, name="localhost"):
    trust = ["--cacert", str(program.certificate), "--resolve", f"{name}:{program.port('status')}:127.0.0.1"]
    return curl(program, path, *trust, *options, name=name, scheme="https")


def with_password(password):
    return ["--user", f"admin:{password}"]


def test_it_is_named_in_the_log_and_answers(make_program):
    program = make_program(status_port=0).sign_in().start()
    assert f"status 127.0.0.1:{program.port('status')}" in program.said()
    for path in ("/livez", "/readyz", "/healthz"):
        found = curl(program, path)
        assert (found.status, found.body) == (200, "ok\n"), path
    assert curl(program, "/").status == curl(program, "/metrics").status == 200
    assert curl(program, "/livez", name="localhost").status == 200
    assert curl(program, "/livez", "-H", "Host: rebound.example.org").status == 421
    assert curl(program, "/livez", "-X", "POST", "-d", "x").header["allow"] == "GET, HEAD"
    assert program.stop() == 0


def test_a_lost_sign_in_is_not_healthy_and_all_the_same_ready(make_program):
    program = make_program(status_port=0).start()
    assert [curl(program, path).status for path in ("/livez", "/readyz", "/healthz")] == [200, 200, 503]
    assert "m365proxy login" not in curl(program, "/readyz").body
    assert "Nobody is signed in" in curl(program, "/healthz").body


def test_with_certificate_and_password_it_is_over_tls(make_program):
    program = make_program(status_port=0, status_password=PASSWORD).sign_in().start()
    assert curl(program, "/livez") is None
    assert over_tls(program, "/livez").status == over_tls(program, "/readyz").status == 200
    refused = over_tls(program, "/healthz")
    assert refused.status == 401 and refused.header["www-authenticate"].startswith("Basic ")
    assert over_tls(program, "/healthz", *with_password("wrong")).status == 401
    assert over_tls(program, "/healthz", *with_password(PASSWORD)).status == 200
    (line,) = [line for line in program.said().splitlines() if "login failed" in line]
    assert line.endswith('web: login failed from 127.0.0.1 user "admin": wrong password')
    expression = re.search(r"^failregex = (.*)$", FILTER.read_text(), re.MULTILINE).group(1)
    expression = expression.replace("%(__prefix_line)s", "").replace("<ADDR>", "127.0.0.1")
    assert re.match(expression, line.partition(" ")[2])  # fail2ban takes the time away
    assert PASSWORD not in program.said()


def test_a_reload_changes_certificate_and_password_and_takes_neither_away(make_program):
    program = make_program(status_port=0, status_password=PASSWORD).sign_in().start()
    assert over_tls(program, "/healthz", *with_password(PASSWORD)).status == 200
    certificate, key = tls.self_signed(["gateway.contoso.com"])
    program.certificate.write_bytes(certificate)
    (program.directory / "key.pem").write_bytes(key)
    program.configure(status_password="another one")
    assert program.command("reload").returncode == 0
    wait_until(lambda: "reloaded" in program.said())
    name = "gateway.contoso.com"
    found = [over_tls(program, "/healthz", *with_password(one), name=name).status for one in (PASSWORD, "another one")]
    assert found == [401, 200]
    program.configure(status_password=None)
    assert program.command("reload").returncode == 0
    wait_until(lambda: "a change of status_password needs a restart" in program.said())
    assert over_tls(program, "/healthz", name=name).status == 401


def test_a_full_queue_is_alive_and_not_ready(make_program):
    program = make_program(status_port=0, queue={"min_free_mb": 1024 * 1024}).sign_in().start()
    assert [curl(program, path).status for path in ("/livez", "/readyz", "/healthz")] == [200, 503, 503]
    assert "new mail is refused" in curl(program, "/healthz").body


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_a_program_that_was_stopped_by_a_signal_goes_on(make_program):
    program = make_program(status_port=0).sign_in().start()
    program.process.send_signal(signal.SIGSTOP)
    try:
        assert curl(program, "/livez", "--max-time", "1") is None
    finally:
        program.process.send_signal(signal.SIGCONT)
    assert curl(program, "/livez").status == 200
    assert program.stop(signal.SIGKILL) == -signal.SIGKILL


def test_a_state_directory_that_is_gone_is_not_ready(make_program):
    program = make_program(status_port=0).sign_in().start()
    shutil.rmtree(program.directory / "state" / "queue")
    wait_until(lambda: curl(program, "/readyz").status == 503)
    assert curl(program, "/livez").status == 200
    assert curl(program, "/healthz").status == 503


def test_two_hundred_slow_clients_keep_neither_probes_nor_mail_from_their_answer(make_program):
    program = make_program(status_port=0).sign_in().start()
    with contextlib.ExitStack() as slow:
        for number in range(200):
            sock = slow.enter_context(socket.create_connection(("127.0.0.1", program.port("status")), timeout=20))
            with contextlib.suppress(OSError):  # cut already
                sock.sendall((b"", b"GET /li", b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\nHost: ")[number % 4])
        assert [curl(program, path).status for path in ("/livez", "/readyz", "/healthz", "/")] == [200] * 4
        with smtplib.SMTP("127.0.0.1", program.port("smtp"), timeout=60) as device:
            device.login(ALERTS, DEVICE_PASSWORD)
            device.sendmail(ALERTS, ["admin@contoso.com"], "Subject: x\r\n\r\ny")
    wait_until(lambda: program.queue() == [])


GARBAGE = [
    os.urandom(100_000),
    b"\0" * 100_000,
    b"\r\n" * 10_000,
    b"GET /" + b"../" * 400_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 50_000,
    b"GET / HTTP/1.1\r\nHost: " + b"x" * 1_000_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: -1\r\nHost: localhost\r\n\r\n",
    b"HELO printer\r\nMAIL FROM:<a@contoso.com>\r\n",
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
]


def send(program, data):
    """Send octets, and wait for the end of the connection."""
    sock = socket.create_connection(("127.0.0.1", program.port("status")), timeout=60)
    with sock, contextlib.suppress(OSError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass


@pytest.mark.parametrize("password", [None, PASSWORD], ids=["plain", "tls"])
def test_garbage_costs_nothing_but_its_connection(make_program, password):
    program = make_program(status_port=0, **({"status_password": password} if password else {})).sign_in().start()
    for data in GARBAGE:
        send(program, data)
    found = over_tls(program, "/livez") if password else curl(program, "/livez")
    assert found.status == 200
    assert " ERROR " not in program.said()


def test_haproxy_sees_which_gateway_takes_mail(make_program, tmp_path):
    haproxy = need("haproxy")
    well = make_program(status_port=0, status_password=PASSWORD).sign_in().start()
    full = make_program(status_port=0, status_password=PASSWORD, queue={"min_free_mb": 1024 * 1024}).sign_in().start()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines = [
        *("defaults", " mode tcp", " timeout connect 10s", " timeout client 60s", " timeout server 60s"),
        *("listen stats", f" bind 127.0.0.1:{port}", " mode http", " stats enable", " stats uri /stats"),
        *("listen smtp", f" bind abns@m365proxy-{port}", " option httpchk GET /readyz"),
    ]
    for name, program in (("well", well), ("full", full)):
        check = f"check port {program.port('status')} check-ssl verify none inter 100ms"
        lines.append(f" server {name} 127.0.0.1:{program.port('smtp')} send-proxy-v2 {check}")
    (tmp_path / "haproxy.cfg").write_text("\n".join([*lines, ""]))
    process = subprocess.Popen([haproxy, "-db", "-f", str(tmp_path / "haproxy.cfg")], stderr=subprocess.PIPE)
    try:
        wait_until(lambda: states(port, smtp=("well", "full")) == {"well": "UP", "full": "DOWN"}, what="HAProxy")
    finally:
        process.kill()
        process.communicate()


def states(port, **servers):
    """What HAProxy says of each server; {} while it starts."""
    words = [need("curl"), "--noproxy", "*", "-sS", f"http://127.0.0.1:{port}/stats;csv"]
    rows = [line.split(",") for line in subprocess.run(words, capture_output=True, text=True).stdout.splitlines()]
    return {row[1]: row[17].split()[0] for row in rows if len(row) > 17 and row[1] in servers.get(row[0], ())}
