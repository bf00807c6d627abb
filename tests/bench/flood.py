"""Clients that send commands without end, from one address, and honest ones beside them.

    python tests/bench/flood.py [--hostile N] [--honest N] [--rounds N]

The real program as a child process.  Each hostile client sends its commands as fast as they are taken, in packets of
many, and connects again as soon as it is cut off; they come from the machine's own address in its network, since
limits by address spare loopback.  Each honest one connects, logs in over TLS
and sends a message (SMTP), or logs in and reads its mailbox's list (POP3).  Printed: the median of an honest client's
seconds without and with the hostile ones, in the same run.  Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import pathlib
import poplib
import smtplib
import socket
import ssl
import statistics
import sys
import tempfile
import threading
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[place]) for place in (1, 2)]

from program import ALERTS, PASSWORD, SCANS, Program, wait_until  # noqa: E402

FLOODS = {
    "SMTP RSET": ("smtp", b"RSET\r\n" * 500),
    "SMTP EHLO": ("smtp", b"EHLO x\r\n" * 500),
    "SMTP 20 RSET, again": ("smtp", b"RSET\r\n" * 20 + b"QUIT\r\n"),
    "SMTP connections": ("smtp", b"QUIT\r\n"),
    "POP3 CAPA": ("pop3", b"CAPA\r\n" * 500),
}


def own_address():
    """This machine's address towards others; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return probe.getsockname()[0]


def flood(address, port, commands, over):
    """One hostile client: everything it can send, and again when it is cut off."""
    while not over.is_set():
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=5) as client:
            while not over.is_set():
                client.sendall(commands)
                if not client.recv(1 << 16):
                    break


def flooding(port, commands, count, over):
    """A process of hostile clients: they must not take the honest ones' interpreter."""
    threads = [threading.Thread(target=flood, args=(own_address(), port, commands, over)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _trusting():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def send(program):
    with smtplib.SMTP("127.0.0.1", program.port("smtp"), timeout=60) as smtp:
        smtp.starttls(context=_trusting())
        smtp.login(ALERTS, PASSWORD)
        smtp.sendmail(ALERTS, [SCANS], f"From: {ALERTS}\r\nSubject: x\r\n\r\nx\r\n")


def poll(program):
    pop3 = poplib.POP3("127.0.0.1", program.port("pop3"), timeout=60)
    pop3.user(SCANS)
    with contextlib.suppress(poplib.error_proto):  # another of them is reading it
        pop3.pass_(PASSWORD)
        pop3.list()
    pop3.quit()


def honest(program, act, clients, rounds):
    """Seconds of each turn of each honest client; the program must serve them all."""
    seconds, wrong = [], []

    def turns():
        for _ in range(rounds):
            begun = time.monotonic()
            try:
                act(program)
            except (OSError, smtplib.SMTPException, poplib.error_proto) as error:
                wrong.append(repr(error))
            seconds.append(time.monotonic() - begun)

    threads = [threading.Thread(target=turns) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong
    return statistics.median(seconds)


def measure(program, name, hostile, clients, rounds):
    """(median without, median with the flood of this name)."""
    protocol, commands = FLOODS[name]
    act = send if protocol == "smtp" else poll
    alone = honest(program, act, clients, rounds)
    over = multiprocessing.Event()
    process = multiprocessing.Process(target=flooding, args=(program.port(protocol), commands, hostile, over))
    process.start()
    try:
        time.sleep(2)  # a flood that has come to its full strength
        return alone, honest(program, act, clients, rounds)
    finally:
        over.set()
        process.join(30)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--hostile", type=int, default=100)
    options.add_argument("--honest", type=int, default=10)
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    # 100 is also what one address may have open.
    with tempfile.TemporaryDirectory(prefix="m365proxy-bench-") as name:
        program = Program(name, bind=["0.0.0.0"])
        try:
            program.sign_in().start()
            honest(program, send, 1, 1)  # libraries are loaded, ways learnt
            print(f"{chosen.hostile} hostile and {chosen.honest} honest clients; median seconds of an honest one")
            for flood_name in FLOODS:
                wait_until(lambda: not program.queue(), 120, "the delivery of all mail")
                alone, beside = measure(program, flood_name, chosen.hostile, chosen.honest, chosen.rounds)
                print(f"{flood_name:<20} {alone:>8.3f} alone {beside:>8.3f} beside them {beside / alone:>6.1f} times")
        finally:
            program.close()


if __name__ == "__main__":
    main()
