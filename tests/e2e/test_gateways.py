"""Several gateways for the same mailboxes, at one tenant that counts all of their requests."""

import collections
import contextlib
import ctypes
import os
import pathlib
import poplib
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest
import spawner
from program import ALERTS, COMMAND, PASSWORD, SCANS, wait_until
from tools import need

from m365proxy.system import files

# Messages of each node: enough for all of its slots, several times.
MAILS = 12


@pytest.fixture
def make_nodes(make_program):
    """So many programs, signed in and running, of one tenant."""

    def make(number, **settings):
        settings = {"limits": {"nodes": number}, "receivers": 0, **settings}
        first = make_program(**settings)
        return [first.sign_in().start()] + [
            make_program(beside=first, **settings).sign_in().start() for _ in range(1, number)
        ]

    return make


def submit(node, subjects, port=0):
    """`port`: it is known already, and not asked of the node."""
    with smtplib.SMTP("127.0.0.1", port or node.port("smtp"), timeout=60) as smtp:
        smtp.login(ALERTS, PASSWORD)
        for subject in subjects:
            text = f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: {subject}\r\n\r\nx\r\n"
            assert smtp.sendmail(ALERTS, [SCANS], text) == {}


def delivered(sandbox):
    """How often each subject was delivered."""
    heads = [record.raw.partition(b"\r\n\r\n")[0] for record in list(sandbox.tenant.delivered)]
    return collections.Counter(re.search(rb"(?im)^subject: (\S+)", head).group(1).decode() for head in heads)


@pytest.mark.parametrize("number", [2, 3])
def test_nodes_share_what_a_mailbox_is_allowed(make_nodes, number):
    nodes = make_nodes(number)
    sandbox = nodes[0].sandbox
    for index, node in enumerate(nodes):
        submit(node, [f"first-{index}"])  # each learns the way
    wait_until(lambda: all(node.queue() == [] for node in nodes), what="empty queues")
    sandbox.forget()
    sandbox.latency = 0.1
    subjects = [[f"{index}-{mail}" for mail in range(MAILS)] for index in range(number)]
    for node, mine in zip(nodes, subjects):
        submit(node, mine)
    wait_until(lambda: all(node.queue() == [] for node in nodes), what="empty queues")
    found = delivered(sandbox)
    assert [subject for mine in subjects for subject in mine if found[subject] != 1] == []
    # Nobody was asked to wait, and no request was made in vain: none waited longer than for its turn.
    assert [request.path for request in sandbox.requests if request.status == 429] == []
    assert sandbox.peak_concurrency[ALERTS] <= 4
    sends = [request for request in sandbox.seen("/send$", "POST") if request.mailbox == ALERTS]
    assert len(sends) == number * MAILS


def test_with_more_nodes_than_slots_each_has_one(make_program):
    node = make_program(limits={"nodes": 5}, receivers=0).sign_in().start()
    sandbox = node.sandbox
    sandbox.concurrency_limit = None
    sandbox.latency = 0.05
    submit(node, [str(mail) for mail in range(MAILS)])
    wait_until(lambda: node.queue() == [], what="an empty queue")
    assert sandbox.peak_concurrency[ALERTS] == 1


# -- drain ---------------------------------------------------------------------


def readiness(node):
    return readiness_at(node.port("status"))


def readiness_at(port, seconds=60):
    """The status; 0 if there is none in time, which to a load balancer is as red as 503."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=seconds) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except socket.timeout:  # a TimeoutError from Python 3.10 on
        return 0


@pytest.mark.parametrize("receivers", [0, 2])
def test_drain(make_program, receivers):
    node = make_program(status_port=0, tls={}, receivers=receivers).sign_in().start()
    node.sandbox.faults.add("answer", method="POST", path="/messages$", status=503, times=1000)
    with contextlib.ExitStack() as stack:
        waiting = stack.enter_context(contextlib.closing(smtplib.SMTP("127.0.0.1", node.port("smtp"), timeout=60)))
        coming = stack.enter_context(contextlib.closing(smtplib.SMTP("127.0.0.1", node.port("smtp"), timeout=60)))
        reading = stack.enter_context(contextlib.closing(poplib.POP3("127.0.0.1", node.port("pop3"), timeout=60)))
        waiting.ehlo()
        begin_data(coming)
        reading.user(ALERTS)
        reading.pass_(PASSWORD)
        assert readiness(node) == 200
        done = []
        draining = threading.Thread(target=lambda: done.append(node.command("drain", timeout=120)))
        draining.start()
        # Who waits for nothing is told at once, without having said anything.
        assert waiting.getreply()[0] == 421
        assert readiness(node) == 503
        with pytest.raises(smtplib.SMTPConnectError) as refused:
            smtplib.SMTP("127.0.0.1", node.port("smtp"), timeout=60)
        assert refused.value.smtp_code == 421
        with socket.create_connection(("127.0.0.1", node.port("pop3")), timeout=60) as sock:
            assert sock.makefile("rb").readline().startswith(b"-ERR [SYS/TEMP] ")
        # What had begun is taken.
        coming.send(b"From: alerts@contoso.com\r\nSubject: last\r\n\r\nx\r\n.\r\n")
        assert coming.getreply()[0] == 250
        assert coming.noop()[0] == 421
        assert reading.stat()[0] == 0
        reading.quit()
    wait_until(lambda: "message is still to be sent." in squeezed(node.command("status").stdout), what="the status")
    assert done == [] and node.queue() != []
    node.sandbox.faults.clear()
    node.command("queue", "retry", "all")
    draining.join(120)
    assert done[0].returncode == 0, done[0].stderr
    assert done[0].stdout.endswith("Stop m365proxy now; a start accepts mail again.\n")
    assert node.queue() == [] and delivered(node.sandbox)["last"] == 1
    status = node.command("status")
    assert status.returncode == 1 and "Drained" in status.stdout
    # A restart ends it.
    assert node.stop() == 0
    assert node.command("drain").returncode == 3
    node.start()
    assert readiness(node) == 200
    submit(node, ["after"])


def begin_data(smtp):
    """Log in and go on until the message's text is awaited."""
    smtp.login(ALERTS, PASSWORD)
    smtp.mail(ALERTS)
    smtp.rcpt(SCANS)
    smtp.putcmd("data")
    assert smtp.getreply()[0] == 354


def squeezed(text):
    return " ".join(text.split())


# -- standby -------------------------------------------------------------------


def test_a_standby_takes_over(make_program, tmp_path):
    first = make_program(receivers=1).sign_in().start()
    submit(first, ["before"])
    # What is being sent at a kill is looked for during minutes: it may be a draft for so long.
    wait_until(lambda: first.queue() == [], what="an empty queue")
    with open(tmp_path / "standby", "wb") as log:
        words = [*COMMAND, "--config", str(first.config), "run", "--standby"]
        second = spawner.popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=first.environ, cwd=tmp_path)

    def said():
        return (tmp_path / "standby").read_text()

    try:
        wait_until(lambda: "Waiting for its end." in said(), what="the second one's word")
        assert f"(pid {first.process.pid})" in said() and "started" not in said()
        first.stop(signal.SIGKILL)
        first.process = second  # it has the same config, and so the same ports and state
        wait_until(first._is_up, what="the takeover")
        submit(first, ["after"])
        wait_until(lambda: first.queue() == [], what="an empty queue")
        assert delivered(first.sandbox) == {"before": 1, "after": 1}
        assert "taking over" in said()
    finally:
        first.process = second


def test_a_standby_that_waits_can_be_stopped(make_program, tmp_path):
    first = make_program(receivers=0).start()
    with open(tmp_path / "standby", "wb") as log:
        words = [*COMMAND, "--config", str(first.config), "run", "--standby"]
        second = spawner.popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=first.environ, cwd=tmp_path)
    wait_until(lambda: "Waiting for its end." in (tmp_path / "standby").read_text(), what="the second one's word")
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0
    assert "Traceback" not in (tmp_path / "standby").read_text()
    assert first.process.poll() is None


def test_a_machine_that_waited_for_the_lock_needs_no_adoption(make_program, tmp_path):
    first = make_program(receivers=0).start(M365PROXY_MACHINE="one")
    environ = dict(first.environ, M365PROXY_MACHINE="two")
    with open(tmp_path / "standby", "wb") as log:
        words = [*COMMAND, "--config", str(first.config), "run", "--standby"]
        second = spawner.popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, cwd=tmp_path)
    wait_until(lambda: "Waiting for its end." in (tmp_path / "standby").read_text(), what="the second one's word")
    first.stop()
    first.process = second
    wait_until(first._is_up, what="the takeover")
    assert first.stop() == 0
    # Either may go on, and a third one may not.
    first.start(M365PROXY_MACHINE="one")
    assert first.stop() == 0
    assert first.command("run", "--standby", M365PROXY_MACHINE="three").returncode == 78


def descriptors(program):
    return map(int, os.listdir(f"/proc/{program.pid}/fd"))


def is_open_as(program, number, path):
    """By the file itself: a program in a root of its own has another path for it."""
    with contextlib.suppress(FileNotFoundError):  # it has just been closed
        return os.path.samefile(f"/proc/{program.pid}/fd/{number}", path)
    return False


def unlock(program, path):
    """Take its lock from a running program, as a volume does that has not reached its machine for long."""
    fcntl = pytest.importorskip("fcntl")
    number = next(number for number in descriptors(program) if is_open_as(program, number, path))
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    opened = syscall(434, program.pid, 0)  # pidfd_open(2), pidfd_getfd(2): of the program's own open file
    handle = syscall(438, opened, number, 0)
    if min(opened, handle) < 0:
        pytest.skip(f"no file of another process can be had here: {os.strerror(ctypes.get_errno())}")
    fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)
    os.close(opened)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="takes the program's lock by means of Linux")
@pytest.mark.parametrize("receivers", [0, 1])
def test_a_program_whose_lock_went_to_another_ends(make_program, receivers):
    node = make_program(receivers=receivers).sign_in().start()
    path = node.directory / "state" / "lock"
    unlock(node.process, path)
    with files.locked(str(path), 60):
        assert node.process.wait(60) == 75
    node.process = None
    assert "its lock was lost" in node.said() and "Traceback" not in node.said()
    # With all of its processes, and nothing is amiss for the next one.
    assert node.start().stop() == 0


# -- behind HAProxy ------------------------------------------------------------

HAPROXY_CFG = pathlib.Path(__file__).resolve().parents[2] / "etc" / "haproxy.cfg"

BEHIND_HAPROXY = {
    "smtps_port": 0,
    "pop3_port": None,
    "pop3s_port": 0,
    "status_port": 0,
    "status_password": PASSWORD,
    "proxy_protocol_from": ["127.0.0.1"],
}


def free_ports(number):
    with contextlib.ExitStack() as stack:
        return [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1] for _ in range(number)]


@pytest.fixture
def haproxy(tmp_path):
    """HAProxy with the file of etc/, before nodes of these tests; where it listens, by service."""
    running = []

    def start(nodes):
        program = need("haproxy")
        text = HAPROXY_CFG.read_text("utf-8")
        ports = dict(zip(("smtp", "smtps", "pop3s", "stats"), free_ports(4)))
        text = text.replace("global\n", f"global\n    stats socket ipv4@127.0.0.1:{ports['stats']}\n")
        for service, usual in (("smtp", 25), ("smtps", 465), ("pop3s", 995)):
            text = text.replace(f"    bind :{usual}\n", f"    bind 127.0.0.1:{ports[service]}\n")
        for index, node in enumerate(nodes, 1):
            for service, usual in (("smtp", 2525), ("smtps", 2465), ("pop3s", 2995)):
                real = f"127.0.0.1:{node.port(service)} port {node.port('status')}"
                text = text.replace(f"192.0.2.2{index}:{usual} port 8025", real)
        # `inter` is also the time in which a check's connection must be made: a busy machine needs some.
        (tmp_path / "haproxy.cfg").write_text(text.replace("inter 2s fastinter 500ms", "inter 500ms fastinter 100ms"))
        running.append(subprocess.Popen([program, "-db", "-f", str(tmp_path / "haproxy.cfg")], stderr=subprocess.PIPE))
        return ports

    yield start
    for process in running:
        process.kill()
        process.communicate()


def send_through(port, subject):
    """A device that tries again until its mail is taken."""

    def is_taken():
        try:
            with smtplib.SMTP("127.0.0.1", port, timeout=60) as smtp:
                smtp.login(ALERTS, PASSWORD)
                text = f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: {subject}\r\n\r\nx\r\n"
                return smtp.sendmail(ALERTS, [SCANS], text) == {}
        except (OSError, smtplib.SMTPException):
            return False

    wait_until(is_taken, what="the 250")


def uidls_through(port):
    """What a POP3 client that tries again sees."""
    found = []

    def is_read():
        try:
            with contextlib.closing(poplib.POP3_SSL("127.0.0.1", port, context=unverified(), timeout=60)) as pop3:
                pop3.user(SCANS)
                pop3.pass_(PASSWORD)
                found[:] = [line.split()[1] for line in pop3.uidl()[1]]
                pop3.quit()
                return True
        except (OSError, poplib.error_proto):
            return False

    wait_until(is_read, what="POP3")
    return found


def unverified():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def read_through(port, nodes):
    """What a POP3 client sees, and on which node it does."""

    def readers():
        return [len(re.findall(r" logged in as .*: \d+ messages", node.said())) for node in nodes]

    before = readers()
    found = uidls_through(port)
    after = wait_until(lambda: (now := readers()) != before and now, what="the log")
    return found, next(node for node, one, other in zip(nodes, before, after) if one != other)


def test_three_gateways_behind_haproxy(make_nodes, haproxy):
    nodes = make_nodes(3, **BEHIND_HAPROXY)
    sandbox = nodes[0].sandbox
    ports = haproxy(nodes)
    subjects = [f"round-{number}" for number in range(6)]
    for subject in subjects:
        send_through(ports["smtp"], subject)
    wait_until(lambda: sum(delivered(sandbox).values()) == 6, what="the delivery of all")
    # One of them has all POP3 sessions.  It is drained: devices and POP3 clients go to the others.
    first, drained = read_through(ports["pop3s"], nodes)
    assert len(first) == len(set(first)) == 6
    assert drained.command("drain", timeout=120).returncode == 0
    second, dead = read_through(ports["pop3s"], nodes)
    assert second == first and dead is not drained
    dead.stop(signal.SIGKILL)
    third, last = read_through(ports["pop3s"], nodes)
    assert third == first and last not in (drained, dead)
    send_through(ports["smtp"], "late")
    wait_until(lambda: last.queue() == [], what="an empty queue")
    assert delivered(sandbox) == dict.fromkeys([*subjects, "late"], 1)


def state(ports):
    """What HAProxy thinks of the first gateway, as far as SMTP goes; "" as long as there is no HAProxy."""
    try:
        with socket.create_connection(("127.0.0.1", ports["stats"]), timeout=60) as sock:
            sock.sendall(b"show stat\n")
            lines = sock.makefile("r").read().splitlines()
    except ConnectionRefusedError:
        return ""
    rows = [dict(zip(lines[0].lstrip("# ").split(","), line.split(","))) for line in lines[1:]]
    return next(row["status"] for row in rows if (row.get("pxname"), row["svname"]) == ("smtp", "gateway1"))


def test_haproxy_ends_the_sessions_of_a_silent_gateway_and_not_those_of_a_draining_one(make_nodes, haproxy):
    (node,) = make_nodes(1, **BEHIND_HAPROXY)
    ports = haproxy([node])
    wait_until(lambda: state(ports) == "UP", what="a gateway that is up")
    with smtplib.SMTP("127.0.0.1", ports["smtp"], timeout=60) as waiting:
        waiting.ehlo()
        node.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(smtplib.SMTPServerDisconnected) as ended:
                waiting.getreply()
            assert "timed out" not in str(ended.value)
        finally:
            node.process.send_signal(signal.SIGCONT)
    wait_until(lambda: state(ports) == "UP", what="a gateway that is up again")
    with contextlib.closing(smtplib.SMTP("127.0.0.1", ports["smtp"], timeout=60)) as coming:
        begin_data(coming)
        draining = threading.Thread(target=lambda: node.command("drain", timeout=120))
        draining.start()
        wait_until(lambda: state(ports) == "NOLB", what="HAProxy's notice of the draining")
        coming.send(b"From: alerts@contoso.com\r\nSubject: last\r\n\r\nx\r\n.\r\n")
        assert [coming.getreply()[0], coming.getreply()[0]] == [250, 421]
    draining.join(120)
    assert delivered(node.sandbox) == {"last": 1}


# -- a volume that hangs -------------------------------------------------------


@pytest.fixture
def volume(tmp_path):
    """A directory on a file system of its own: (its path, a function that lets it hang, one that ends that)."""
    bindfs = need("bindfs")
    if os.path.basename(COMMAND[0]) == "chroot":
        pytest.skip("the program, in a root of its own, does not see what is mounted now")
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("mounting needs root and /dev/fuse")
    for name in ("real", "volume"):
        (tmp_path / name).mkdir()
    mounted = str(tmp_path / "volume")
    process = subprocess.Popen([bindfs, "-f", str(tmp_path / "real"), mounted], stderr=subprocess.PIPE)
    try:
        wait_until(lambda: os.path.ismount(mounted) or process.poll() is not None, what="the mount")
        if process.poll() is not None:
            pytest.skip(f"bindfs cannot mount: {process.stderr.read().decode()[-200:]}")
        yield mounted, lambda: process.send_signal(signal.SIGSTOP), lambda: process.send_signal(signal.SIGCONT)
    finally:
        process.send_signal(signal.SIGCONT)
        subprocess.run(["umount", "-l", mounted], check=False)
        process.terminate()
        process.communicate()


@pytest.mark.parametrize("receivers", [0, 1])
def test_a_volume_that_hangs_turns_devices_away(make_program, volume, receivers):
    mounted, hang, go_on = volume
    node = make_program(status_port=0, tls={}, receivers=receivers, state_dir=f"{mounted}/state")
    node.sign_in()
    (node.directory / "state").symlink_to(f"{mounted}/state")
    node.start()
    smtp, status = node.port("smtp"), node.port("status")
    submit(node, ["before"], smtp)
    wait_until(lambda: node.queue() == [], what="an empty queue")
    assert readiness_at(status) == 200
    hang()
    try:
        # One that asked right before may wait for the listing of the queue, as long as it likes.
        wait_until(lambda: readiness_at(status, 10) == 503, what="a red /readyz")
        wait_until(lambda: readiness_at(status, 10) == 503 and greeting(smtp) == b"421", what="the 421")
    finally:
        go_on()
    wait_until(lambda: readiness_at(status) == 200, what="a green /readyz")
    wait_until(lambda: greeting(smtp) == b"220", what="the greeting")
    submit(node, ["after"], smtp)  # status.json may still be that from before
    wait_until(lambda: delivered(node.sandbox) == {"before": 1, "after": 1}, what="both")
    assert "has not taken a small file" in node.said() and "answers again" in node.said()
    assert node.stop() == 0


def greeting(port):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        return sock.makefile("rb").read(3)
