"""A process that runs the real program in forks of itself and lets them die at one chosen step.

Reads a job (JSON) a line and answers with a line; see `Job`.  A step is a call
of a function of m365proxy.system.files on the queue, or a request to Graph.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import pathlib
import smtplib
import subprocess
import sys
import threading
import traceback
from typing import Any, Callable, Dict, List, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults.hasty import hurry  # noqa: E402
from program import ALERTS, SCANS, wait_until  # noqa: E402

from m365proxy.spool.state import Phase, Place  # noqa: E402

# The file, beside the config, where the runs of one installation log.
LOG = "log"

# What a fork that was to die at a step ends with.
_DEAD = 9

# The waits between looks and tries are this much shorter; nothing is late in the stand-in.
_HASTE = 200.0


# Octets of a file that is uploaded, in a story of large mail.
SMALLEST = 1000

_LARGE = (
    "Auto-Submitted: auto-generated\r\nContent-Type: multipart/mixed; boundary=outer\r\n\r\n--outer\r\n"
    "Content-Type: multipart/alternative; boundary=inner\r\n\r\n--inner\r\n\r\nplain\r\n--inner\r\n"
    "Content-Type: text/html\r\n\r\n<p>html\r\n--inner--\r\n--outer\r\nContent-Type: application/pdf; name=scan.pdf\r\n"
    "Content-Transfer-Encoding: base64\r\n\r\n" + "QUJD\r\n" * SMALLEST + "--outer--\r\n"
)


class Job(NamedTuple):
    """One run of the program: until it dies, or until nothing moves in its queue any more."""

    config: str
    subject: str = ""  # of a message it is given by SMTP
    size: int = 10  # octets of that message's body
    side: str = "before"  # or "after": when to die, seen from the step
    step: str = ""  # where to die; "": live
    time: int = 1  # ... when it is done for this time
    reports: bool = False  # whether the sender is told of what fails; a report is mail of its own
    large: bool = False  # whether the message is large mail: of two texts and a file, for which limits are lowered
    token: str = ""  # what a renewal of the sign-in gives


class Outcome(NamedTuple):
    """`said`: whether the message got 250; `died`: at which step, or ""; `steps`: all until then."""

    said: bool
    died: str
    steps: List[str]


class Server:
    """The process, as the tests see it.  Belongs to one thread at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, job: Job) -> Outcome:
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Outcome(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


# In the process.


class _Steps:
    """Counts the steps of a fork and ends it at the chosen one."""

    def __init__(self, job: Job, report: Callable[[Dict[str, Any]], None]):
        self.names: List[str] = []
        self._job = job
        self._report = report
        self._lock = threading.Lock()
        self._queue = os.path.join(os.path.dirname(job.config), "state", "queue") + os.sep

    def wrapped(self, function: Callable[..., Any], name_of: Callable[..., str]) -> Callable[..., Any]:
        def step(*values: Any, **more: Any) -> Any:
            name = name_of(*values)
            fatal = name and self._is_fatal(name)
            if fatal and self._job.side == "before":
                self._die(name)
            result = function(*values, **more)
            if fatal:
                self._die(name)
            return result

        return step

    def _is_fatal(self, name: str) -> bool:
        with self._lock:
            self.names.append(name)
            return name == self._job.step and self.names.count(name) == self._job.time

    def _die(self, name: str) -> None:
        self._report({"died": f"{self._job.side} {name}", "steps": self.names})
        os._exit(_DEAD)

    def place(self, *paths: Any) -> str:
        """The directories of the queue that paths (or an open file) are in; "" for all else."""
        names = [path if isinstance(path, str) else os.readlink(f"/proc/self/fd/{path.fileno()}") for path in paths]
        if not all(name.startswith(self._queue) for name in names):
            return ""
        return ">".join(name[len(self._queue) :].partition(os.sep)[0] for name in names)


def _watch(steps: _Steps) -> None:
    from m365proxy.graph import client
    from m365proxy.graph.request import Request
    from m365proxy.system import files

    def named(word: str, count: int) -> Callable[..., str]:
        return lambda *values: (lambda place: place and f"{word} {place}")(steps.place(*values[:count]))

    paths = {"create": 1, "sync_file": 1, "sync_directory": 1, "move": 2, "remove": 1, "replace": 1}
    for word, count in paths.items():
        setattr(files, word, steps.wrapped(getattr(files, word), named(word, count)))

    def label(_: client.Graph, request: Request) -> str:
        tail = request.url.partition("?")[0].rpartition("/")[2]
        return request.mailbox and f"{request.method} {tail if len(tail) < 20 else 'message'}"

    client.Graph._exchange = steps.wrapped(client.Graph._exchange, label)


class _Granted:
    """In place of a Renewer: a renewal is no step, and would take as long as a delivery."""

    def __init__(self, token: str, file: Any):
        self._token, self._file = token, file

    def renew(self, force: bool, note: Callable[..., object]) -> Any:
        from m365proxy.entra.renewer import Grant

        return Grant(self._token, 3600.0, fresh=True, identity=self._file.identity())

    def holder(self) -> None:
        """Nobody asks."""


def _live(job: Job, report: Callable[[Dict[str, Any]], None], told: int) -> None:
    """The fork: the program until its end."""
    from m365proxy.config import load
    from m365proxy.daemon import Daemon
    from m365proxy.delivery import uploads
    from m365proxy.delivery.reporter import Reporter
    from m365proxy.entra import renewalprocess
    from m365proxy.mime import prepare

    logging.basicConfig(
        filename=os.path.join(os.path.dirname(job.config), LOG), level=logging.INFO, format="%(asctime)s %(message)s"
    )
    settings = Reporter.__init__.__kwdefaults__
    settings["gather"] = 0.01 if job.reports else 3600.0

    if job.large:
        prepare.LARGE_MIME_CEILING, uploads._SMALLEST_UPLOAD, uploads.CHUNK = SMALLEST, SMALLEST, 2 * SMALLEST
    steps = _Steps(job, report)
    _watch(steps)
    Daemon._refresh_later = lambda self, seconds: None  # the renewal of the sign-in at start is no part of this
    renewalprocess.apart = lambda *which: _Granted(job.token, which[-1])
    daemon = Daemon(load.load(job.config, {}))
    daemon.start()
    report({"port": daemon.listeners[0].port})
    os.read(told, 1)  # the mail is in, or there is none

    def settled() -> bool:
        # new/ twice, so that nothing is missed that moves between two listings
        untold = job.reports and any(entry.phase is not Phase.REPORTED for entry in daemon.spool.entries(Place.FAILED))
        moving = list(daemon.spool.entries(Place.NEW, Place.CUR, Place.NEW))
        return not untold and all(entry.phase is Phase.HELD for entry in moving)

    wait_until(settled, what="an empty queue")
    daemon.stop()
    report({"died": "", "steps": steps.names})


def _run(job: Job) -> Outcome:
    reading, writing = os.pipe()
    told, telling = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            os.close(telling)
            _live(job, lambda news: os.write(writing, json.dumps(news).encode() + b"\n") and None, told)
            status = 0
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    os.close(writing)
    os.close(told)
    said, last = False, {"died": "", "steps": []}
    with os.fdopen(reading) as news:
        for line in news:
            if last.get("died"):
                continue  # what another of its threads said before the process had ended
            last = json.loads(line)
            if "port" in last:
                said = bool(job.subject) and _deliver(last["port"], job)
                with contextlib.suppress(OSError):
                    os.write(telling, b".")
    os.close(telling)
    status = os.WEXITSTATUS(os.waitpid(child, 0)[1])
    assert status == (_DEAD if last.get("died") else 0), f"the program ended with {status}"
    return Outcome(said, last["died"], last["steps"])


def _deliver(port: int, job: Job) -> bool:
    """Whether the message got its 250."""
    content = _LARGE if job.large else "\r\n" + f"{'x' * 70}\r\n" * (1 + job.size // 72)
    mail = f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: {job.subject}\r\n{content}"
    try:
        smtp = smtplib.SMTP("127.0.0.1", port, local_hostname="localhost", timeout=30)
    except (OSError, smtplib.SMTPException):
        return False
    try:
        smtp.sendmail(ALERTS, [SCANS], mail)
        return True
    except (OSError, smtplib.SMTPException):
        return False
    finally:
        smtp.close()


def main() -> None:
    """Serve until the end of the input."""
    # All that the program imports later, so that no fork has to: hundreds of them would take half their time for it.
    import _strptime  # noqa: F401
    import ctypes  # noqa: F401
    import encodings.ascii  # noqa: F401

    import cryptography.fernet  # noqa: F401
    import cryptography.x509  # noqa: F401
    import msal  # noqa: F401

    import m365proxy.system.httpsession  # noqa: F401
    from m365proxy.system import ownprocess

    ownprocess.is_possible = lambda: False  # a new interpreter for each fork would take longer than all its steps
    hurry(_HASTE)
    gc.freeze()  # no fork copies what it would look through
    for line in sys.stdin:
        print(json.dumps(_run(Job(*json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
