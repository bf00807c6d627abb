"""POP3 in figures: sign-in on 10,000 messages, an unchanged poll, 1,000 messages at 100 ms a request, memory.

    python tests/bench/pop3.py [--messages N] [--latency SECONDS]

The real program as a child process against the stand-in tenant in this one.
The reference, the same messages from the same tenant one request after
another on one connection, is measured in the same run.
"""

import argparse
import http.client
import pathlib
import poplib
import ssl
import sys
import tempfile
import time
from urllib.parse import quote

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[place]) for place in (1, 2)]

from program import PASSWORD, SCANS, Program  # noqa: E402

LISTED = 10_000
BODY = (b"." + b"x" * 75 + b"\r\n") * (20_000 // 78)
MEGABYTE = 1024 * 1024


def mail(number, body=BODY):
    return b"Subject: %d\r\nContent-Type: text/plain\r\n\r\n" % number + body


def resident(program, what="VmRSS"):
    """Resident memory of the program in MB (Linux only)."""
    for line in pathlib.Path(f"/proc/{program.process.pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def signed_in(program):
    client = poplib.POP3("127.0.0.1", program.port("pop3"), timeout=300)
    client.user(SCANS)
    client.pass_(PASSWORD)
    return client


def timed(work):
    begun = time.monotonic()
    found = work()
    return found, time.monotonic() - begun


def sign_in(program):
    """(messages, list requests, requests in all) of one sign-in and QUIT, and its seconds."""
    program.sandbox.forget()
    client, seconds = timed(lambda: signed_in(program))
    count = client.stat()[0]
    seen = program.sandbox.requests
    client.quit()
    return count, len([r for r in seen if "/mailFolders/" in r.path]), len(seen), seconds


def one_after_another(program, items):
    """The messages on one connection, without read-ahead: what a simple program would need."""
    sandbox = program.sandbox
    connection = http.client.HTTPSConnection(
        "127.0.0.1", sandbox.port, context=ssl.create_default_context(cafile=sandbox.ca_file)
    )
    token = sandbox.entra.token()
    octets = 0
    for item in items:
        connection.request(
            "GET",
            f"/v1.0/users/{SCANS}/messages/{quote(item.immutable, safe='')}/$value",
            headers={"Authorization": "Bearer " + token, "Prefer": 'IdType="ImmutableId"'},
        )
        octets += len(connection.getresponse().read())
    connection.close()
    return octets


def retrieve(client, order, command="RETR"):
    for number in order:
        assert (client.retr(number) if command == "RETR" else client.top(number, 0))[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds per request")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        program = Program(directory)
        try:
            program.login()
            program.start()
            measure(program, chosen.messages, chosen.latency)
        finally:
            program.close()


def measure(program, messages, latency):
    tenant = program.sandbox.tenant
    print(f"resident before:                     {resident(program):8.1f} MB")
    for number in range(LISTED):
        tenant.add_message(SCANS, mail(number, b"x\r\n"), received=1_700_000_000 + number)
    for what in ("first sign-in", "unchanged, again"):
        count, listings, requests, seconds = sign_in(program)
        print(f"{what + ':':25} {count} messages, {listings} list requests, {requests} in all, {seconds:.2f} s")
    print(f"resident after:                      {resident(program):8.1f} MB")
    for item in tenant.items(SCANS):
        tenant.purge(item)
    for number in range(messages):
        tenant.add_message(SCANS, mail(number), received=1_700_000_000 + number)
    sign_in(program)

    program.sandbox.latency = latency
    octets, reference = timed(lambda: one_after_another(program, tenant.items(SCANS)))
    print(f"{messages} messages, {octets / MEGABYTE:.0f} MB, {latency * 1000:.0f} ms a request")
    print(f"one request after another:           {reference:8.1f} s")
    upward = range(1, messages + 1)
    for what, order, command in (
        ("RETR, oldest first", upward, "RETR"),
        ("RETR, newest first", reversed(upward), "RETR"),
        ("TOP n 0, oldest first", upward, "TOP"),
    ):
        program.sandbox.forget()
        client = signed_in(program)
        _, seconds = timed(lambda: retrieve(client, order, command))  # noqa: B023
        client.quit()
        peak = program.sandbox.peak_concurrency.get(SCANS, 0)
        print(f"{what + ':':36} {seconds:8.1f} s = {reference / seconds:.2f} times as fast; {peak} at a time at most")
    print(f"resident, most:                      {resident(program, 'VmHWM'):8.1f} MB")


if __name__ == "__main__":
    main()
