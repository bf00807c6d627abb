"""Real POP3 clients with their default settings: keep and delete, plain, STLS and TLS, over awkward messages.

One running program for all of them.  Every client must get every octet of
every message; what it was told to keep or delete must be so afterwards.
"""

import os
import poplib
import re
import shutil
import subprocess
import sys

import program as programs
import pytest
from pop3clients import CLIENTS, HEADER, PERL, Case, by_fdm, need, poll_fdm
from program import PASSWORD, SCANS, Program, wait_until

BODIES = {
    b"dots": b".\r\n..\r\n...three\r\n.one\r\nend\r\n.\r\n",
    b"unfinished": b"first\r\nlast line without an end",
    b"long": b"x" * 998 + b"\r\n." + b"y" * 1200 + b"\r\n" + b"z" * 2000 + b"\r\n",  # poplib takes 2048
    b"eight": "Grüße aus dem Lager\r\n".encode() + bytes(range(128, 256)) + b"\r\n",
}
RAWS = {name: HEADER % (name, name) + body for name, body in BODIES.items()}
WAYS = ["plain", "stls", "tls"]

# Octets of one more message: more than a connection, a client and the program's buffers hold, and a large scan.
LARGE, HUGE = 3 * 1024 * 1024, 30 * 1024 * 1024


def scan(octets):
    page = b".scanned page, " + b"p" * 60 + b"\r\n"
    return HEADER % (b"huge", b"huge") + page * (octets // len(page))


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    program = Program(tmp_path_factory.mktemp("pop3"), pop3s_port=0)
    try:
        program.login()
        yield program.start()
        assert "Traceback" not in program.said()
    finally:
        program.close()


# Each client with each kind of TLS, each kind with clients that delete and clients that keep, each client with a scan.
CASES = [
    pytest.param(
        client,
        way,
        (number + turn) % 2 == 1,
        HUGE if (number + turn) % len(WAYS) == 0 else LARGE,
        id=f"{client.__name__[3:]}-{way}",
    )
    for number, client in enumerate(CLIENTS)
    for turn, way in enumerate(WAYS)
]


@pytest.mark.parametrize("client, way, delete, octets", CASES)
def test_client(running, tmp_path, client, way, delete, octets):
    case = Case(running, tmp_path, way, delete, {**RAWS, b"huge": scan(octets)})
    try:
        case.check(client(case))
    finally:
        shutil.rmtree(tmp_path)  # pytest would keep 30 MB of each


# One message that Exchange never gives out, and clients that stop at the first -ERR.


def poll_mpop(case, url):
    return [
        need("mpop"),
        "--host=localhost",
        f"--port={case.port}",
        f"--user={SCANS}",
        "--tls=off",
        "--keep=off",
        "--passwordeval=cat " + case.write("password", PASSWORD + "\n"),
        "--auth=user",
        f"--delivery=maildir,{case.directory / 'Maildir'}",
        f"--uidls-file={case.directory / 'uidls'}",
    ]


def poll_movemail(case, url):
    return [need("movemail"), "--emacs", url, f"{case.directory / 'mbox'}", PASSWORD]


def poll_perl(case, url):
    return [
        need("perl"),
        "-e",
        PERL,
        str(case.port),
        "plain",
        "",
        SCANS,
        PASSWORD,
        "1",
        str(case.directory / "Maildir" / "new"),
    ]


POLLS = [poll_mpop, poll_fdm, poll_movemail, poll_perl]


@pytest.mark.parametrize("client", POLLS, ids=lambda client: client.__name__[5:])
@pytest.mark.parametrize("status", [500, 403, 404])
def test_a_client_that_stops_at_trouble_gets_past_an_unreadable_message(running, tmp_path, client, status):
    case = Case(running, tmp_path, "plain", True, {})
    for number in range(5):
        case.tenant.add_message(SCANS, HEADER % (b"n", b"n%d" % number) + b"text\r\n", received=1_700_000_000 + number)
    case.maildir()
    bad = case.tenant.items(SCANS)[1].immutable
    rule = running.sandbox.faults.add("answer", path=re.escape(bad) + "/.value", times=None, status=status)
    words = client(case, f"pop://{SCANS.replace('@', '%40')}@localhost:{case.port}")
    environ = dict(running.environ, HOME=str(tmp_path), LC_ALL="C.UTF-8")

    def sessions():
        """How many have begun, and how many have ended."""
        said = running.said()
        return said.count(f'logged in as "{SCANS}"'), said.count(f'user "{SCANS}": session ended')

    try:
        for _ in range(10):  # three are enough
            wait_until(lambda: len(set(sessions())) == 1, what="the end of the session before")
            done = subprocess.run(words, capture_output=True, timeout=60, env=environ, cwd=tmp_path)
            if [item.immutable for item in case.tenant.items(SCANS)] == [bad]:
                break
        else:
            pytest.fail(f"the messages behind the unreadable one never came: {done}")
        assert rule.hits
    finally:
        running.sandbox.faults.clear()
    got = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert all(b"<n%d@" % number in got for number in (0, 2, 3, 4))


# An Exchange that is slow at the login, with every message and at QUIT.

# Longest pause between two signs of life, and what a request takes (seconds).
SIGNS, LATENCY = 0.1, 0.5

HASTY = f"""
import sys
from m365proxy.pop3 import signsoflife
signsoflife.SECONDS = {SIGNS}
from m365proxy.cli import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    if os.environ.get("M365PROXY_TEST_COMMAND"):
        pytest.skip("an installed program gives a sign of life every 20 seconds")
    # What is changed has been copied in a process that has all modules.
    program = Program(tmp_path_factory.mktemp("slow"), forked=False)
    try:
        program.login()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(programs, "COMMAND", [sys.executable, "-c", HASTY])
            program.start(PYTHONPATH=str(programs.ROOT))
        program.sandbox.latency = LATENCY
        yield program
        assert "Traceback" not in program.said()
    finally:
        program.close()


def by_movemail(case):
    case.run(*poll_movemail(case, f"pop://{SCANS.replace('@', '%40')}@localhost:{case.port}"))
    return re.split(rb"^From .*\n", (case.directory / "mbox").read_bytes(), flags=re.MULTILINE)[1:]


@pytest.mark.parametrize("client", [*CLIENTS, by_fdm, by_movemail], ids=lambda client: client.__name__[3:])
def test_clients_bear_answers_that_are_begun_long_before_they_end(slow, tmp_path, client):
    raws = {name: RAWS[name] for name in (b"dots", b"unfinished")}
    case = Case(slow, tmp_path, "plain", True, raws)
    case.check(client(case))


def test_and_those_answers_are_begun(slow, tmp_path):
    case = Case(slow, tmp_path, "plain", True, {b"dots": RAWS[b"dots"]})
    client = poplib.POP3("localhost", case.port, timeout=60)
    client.user(SCANS)
    begun = re.compile(rb"\+OK Exchange is slow\.* (Welcome|[0-9]+ octets|message follows|Bye)")
    assert begun.match(client.pass_(PASSWORD))
    assert begun.match(client.retr(1)[0])
    client.dele(1)
    assert begun.match(client.quit())
