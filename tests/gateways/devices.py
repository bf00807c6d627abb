"""Devices: each sends a mail every few seconds, and tries again until it has its 250.

`python -m gateways.devices FILE MAILBOX...` runs until it gets SIGTERM: then each ends with the mail it has begun.
Each try has a subject of its own, and its end is a line in FILE.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import smtplib
import ssl
import sys
import threading
import time
from typing import List, TextIO

from program import PASSWORD

# The address, how many devices there are, and the seconds between two mails of one (on average).
ADDRESS = "192.0.2.10"
DEVICES = 24
PAUSE = 2.2

# A device waits so long for an answer: what shortens the wait is the gateways' and HAProxy's, not its own impatience.
PATIENCE = 60

# Seconds until it tries again.
AGAIN = 0.5

# Octets of a mail: one of ten is a scan.
_SMALL, _SCAN = 2_000, 300_000


def own_address(number: int) -> str:
    """That of a device."""
    return f"192.0.2.{100 + number}"


class Log:
    def __init__(self, file: TextIO):
        self._file = file
        self._lock = threading.Lock()

    def note(self, **what: object) -> None:
        with self._lock:
            self._file.write(json.dumps(what) + "\n")
            self._file.flush()


class Device:
    """A third gives all of its mail the same Message-ID, a third gives it none, and a third is as it should be."""

    def __init__(self, number: int, mailbox: str, log: Log, is_over: threading.Event):
        self._number = number
        self._mailbox = mailbox
        self._log = log
        self._is_over = is_over
        self._random = random.Random(number)
        self._context = ssl.create_default_context()
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE

    def run(self) -> None:
        mail = 0
        while not self._is_over.wait(self._random.uniform(0.5, 1.5) * PAUSE):
            mail += 1
            self._send(f"{self._number}-{mail}", _SCAN if self._random.random() < 0.1 else _SMALL)

    def _send(self, name: str, size: int) -> None:
        begun, tries = time.time(), 0
        while True:
            tries += 1
            token = f"{name}-{tries}"
            try:
                self._try(token, size)
            except (OSError, smtplib.SMTPException) as error:
                self._log.note(token=token, failed=str(error) or type(error).__name__, at=time.time(), begun=begun)
                time.sleep(AGAIN)
            else:
                now = time.time()
                self._log.note(token=token, accepted=name, at=now, wait=now - begun, tries=tries)
                return

    def _try(self, token: str, size: int) -> None:
        """Returns after the 250."""
        is_at_once = self._number % 2
        port = 465 if is_at_once else 25
        kind = smtplib.SMTP_SSL if is_at_once else smtplib.SMTP
        more = {"context": self._context} if is_at_once else {}
        with kind(ADDRESS, port, timeout=PATIENCE, source_address=(own_address(self._number), 0), **more) as smtp:
            if not is_at_once:
                smtp.starttls(context=self._context)
            smtp.login(self._mailbox, PASSWORD)
            smtp.sendmail(self._mailbox, ["archive@contoso.com"], self._text(token, size))
            with contextlib.suppress(OSError):
                smtp.putcmd("quit")
            smtp.close()  # what happens to the connection from here on does not matter any more

    def _text(self, token: str, size: int) -> str:
        ids = ("Message-ID: <1@printer.local>\r\n", "", f"Message-ID: <{token}@printer.local>\r\n")
        head = (
            f"From: {self._mailbox}\r\nTo: archive@contoso.com\r\nSubject: {token} page\r\n{ids[self._number % 3]}\r\n"
        )
        return head + ("x" * 70 + "\r\n") * (size // 72)


def main(path: str, mailboxes: List[str]) -> None:
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    with open(path, "a", encoding="utf-8") as file:
        log = Log(file)
        threads = [
            threading.Thread(target=Device(number, mailboxes[number % len(mailboxes)], log, is_over).run)
            for number in range(DEVICES)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
