"""SMTP in figures: durable acceptance beside Postfix, delivery at 250 ms a request, start, idle memory.

    python tests/bench/smtp.py [--messages N] [--directory DIR]

The real program as a child process.  smtp-source of Postfix is the client of
both servers, in the same run, with the queues on the same disk (DIR, else the
system's place for temporary files).  Without Postfix (`apt install postfix`),
or not as root, that row is left out.  Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import pwd
import re
import shutil
import smtplib
import socket
import subprocess
import sys
import tempfile
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[place]) for place in (1, 2)]

from program import ALERTS, PASSWORD, SCANS, Program, wait_until  # noqa: E402

from m365proxy.graph.client import SLOTS  # noqa: E402

SESSIONS, SIZE = 20, 4096
LATENCY = 0.25
BOXES = ["alerts@contoso.com", "scans@contoso.com", "ups@contoso.com", "door@contoso.com"]


def row(what, value, budget=""):
    print(f"{what:<58} {value:>12}  {budget}", flush=True)


def memory(pid, what="VmRSS"):
    """MB, of a process."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what + ":")) / 1024


def source(port, messages, one_each):
    """Messages a second that smtp-source gets rid of; one connection for each, or the same ones for all."""
    words = ["smtp-source", "-s", str(SESSIONS), "-l", str(SIZE), "-m", str(messages), "-f", ALERTS, "-t", SCANS]
    begun = time.monotonic()
    subprocess.run([*words, *([] if one_each else ["-d"]), f"127.0.0.1:{port}"], check=True, timeout=600)
    return messages / (time.monotonic() - begun)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@contextlib.contextmanager
def postfix(directory):
    """A Postfix of its own that keeps all it accepts in its hold queue; its port."""
    config, queue, data = (directory / name for name in ("config", "queue", "data"))
    for path in (config, queue, data):
        path.mkdir(parents=True)
    shutil.chown(data, "postfix")
    port = free_port()
    (config / "main.cf").write_text(
        f"compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {data}\n"
        "inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\nmydestination =\n"
        "myhostname = bench.contoso.com\nsmtpd_client_restrictions = static:HOLD\nalias_maps =\n"
        "smtpd_relay_restrictions = permit_mynetworks, reject\ndefault_process_limit = 100\n"
        f"maillog_file = {directory}/log\nmaillog_file_prefixes = {directory}\n"
        "smtpd_client_connection_count_limit = 0\n"
    )
    stock = pathlib.Path("/usr/share/postfix/master.cf.dist").read_text().splitlines()
    # Without the machine's port 25, and without chroot.
    services = [line for line in stock if not line.startswith("smtp      inet")]
    services = [re.sub(r"^((\S+\s+){4})y(?=\s)", r"\1n", line) for line in services]
    (config / "master.cf").write_text(f"127.0.0.1:{port} inet n - n - - smtpd\n" + "\n".join(services) + "\n")
    subprocess.run(["postfix", "-c", str(config), "start"], check=True, capture_output=True)
    try:
        wait_until(lambda: answers(port), what="Postfix")
        yield port
        row("  held by Postfix afterwards", str(sum(len(names) for _, _, names in os.walk(queue / "hold"))))
    finally:
        subprocess.run(["postfix", "-c", str(config), "stop"], capture_output=True)


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            return client.recv(1)
    except OSError:
        return b""


@contextlib.contextmanager
def running(directory, mailboxes=(ALERTS, SCANS), signed_in=True, **settings):
    directory.mkdir()
    program = Program(
        directory,
        mailboxes=[{"username": name, "password": PASSWORD} for name in mailboxes],
        relay_networks={"127.0.0.0/8": ALERTS},
        **settings,
    )
    for name in mailboxes:
        program.sandbox.tenant.add_mailbox(name)
    try:
        if signed_in:
            program.sign_in()
        begun = time.monotonic()
        program.start()
        program.started_in = time.monotonic() - begun
        yield program
    finally:
        program.close()


def accept(directory, messages):
    """Both ways of using connections, our program and Postfix by turns, twice; the better of two."""
    print(f"Acceptance: {messages} messages of {SIZE} octets, {SESSIONS} sessions at once, synced to disk before 250")
    with contextlib.ExitStack() as stack:
        # Nobody is signed in: all stays in the queue, as it does in Postfix's.
        ours = stack.enter_context(running(directory / "ours", signed_in=False))
        ports = {"m365proxy": ours.port("smtp")}
        if shutil.which("postfix") and os.geteuid() == 0 and "postfix" in {entry.pw_name for entry in pwd.getpwall()}:
            ports["Postfix"] = stack.enter_context(postfix(directory / "theirs"))
        else:
            print("  (no Postfix here, or not root: not compared)")
        for one_each, said in ((True, "a connection each"), (False, "kept connections")):
            best = dict.fromkeys(ports, 0.0)
            for _ in range(2):
                for name, port in ports.items():
                    best[name] = max(best[name], source(port, messages, one_each))
            for name, rate in best.items():
                share = f"{100 * rate / best['Postfix']:.0f} % of Postfix" if "Postfix" in best else ""
                row(f"  {name}, {said}", f"{rate:.0f}/s", share if name == "m365proxy" else "")
        row("  queued by m365proxy afterwards", str(len(ours.queue())))


def deliver(directory, boxes, messages):
    """Messages a second that leave `boxes` mailboxes, against what the requests allow."""
    with running(directory / f"deliver{boxes}", BOXES[:boxes]) as program:
        tenant = program.sandbox.tenant

        def submit(count):
            for name in BOXES[:boxes]:
                with smtplib.SMTP("127.0.0.1", program.port("smtp")) as smtp:
                    smtp.login(name, PASSWORD)
                    for number in range(count):
                        smtp.sendmail(name, [SCANS], f"From: {name}\r\nSubject: {number}\r\n\r\nx\r\n")

        submit(1)  # the ways are learnt, the libraries loaded
        wait_until(lambda: len(tenant.delivered) == boxes and not program.queue())
        program.sandbox.offline()
        submit(messages)
        wait_until(lambda: "paused" in program.said())
        program.sandbox.latency = LATENCY
        program.sandbox.forget()
        program.sandbox.online()
        total = boxes * (messages + 1)
        wait_until(lambda: len(tenant.delivered) == total and not program.queue(), 600)
        sent = [request for request in program.sandbox.requests if request.mailbox]
        seconds = max(request.end for request in sent) - min(request.start for request in sent)
        requests = len(sent) / boxes
        possible = boxes * messages / (requests * LATENCY / SLOTS)
        rate = boxes * messages / seconds
        row(
            f"  {boxes} mailbox(es), {requests / messages:.1f} requests a message",
            f"{rate:.1f}/s",
            f"{100 * rate / possible:.0f} % of {possible:.1f}/s (budget 95 %)",
        )


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--messages", type=int, default=2000, help="to accept")
    options.add_argument("--deliveries", type=int, default=100, help="to deliver, per mailbox")
    options.add_argument("--directory", help="where the queues are to be")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="m365proxy-bench-", dir=chosen.directory) as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)  # Postfix's processes are other users
        with running(directory / "idle") as program:
            starts = [program.started_in]
            for _ in range(4):
                program.stop()
                begun = time.monotonic()
                program.start()
                starts.append(time.monotonic() - begun)
            row("start to listening, median of 5", f"{sorted(starts)[2]:.2f} s", "budget 0.5 s")
            time.sleep(2)  # the refresh of the sign-in loads its libraries
            row("resident memory, idle, signed in", f"{memory(program.process.pid):.1f} MB", "budget 45 or 55 MB")
        accept(directory, chosen.messages)
        print(f"Delivery at {1000 * LATENCY:.0f} ms a request, {SLOTS} requests at a time and mailbox")
        for boxes in (1, 4):
            deliver(directory, boxes, chosen.deliveries)


if __name__ == "__main__":
    main()
