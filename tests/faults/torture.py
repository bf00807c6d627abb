"""Torture: nothing that was accepted is lost, nothing is delivered twice, whatever happens.

The real program takes mail for two mailboxes from several clients and serves
one by POP3, while a second one uses the same mailboxes and its clients the same
Message-IDs, the stand-in tenant has every fault there is and throttles a
mailbox for a while, the disk is full for a moment, the clock is set, the
program is reloaded and signed in anew, and kills come at random moments. One
run for each way Graph may treat drafts and sent copies.
The long form, about a quarter of an hour: python tests/faults/torture.py
(--help for less, or the same once more).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import random
import re
import secrets
import shutil
import smtplib
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Dict, Iterator, List, Optional, Sequence, Set, Tuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults.hasty import HASTE, HastyProgram  # noqa: E402
from faults.mishaps import Mishaps  # noqa: E402
from faults.readers import Reader  # noqa: E402
from program import ALERTS, KILL, SCANS, STOPPED, wait_until  # noqa: E402

from m365proxy.sandbox.faults import Fault, Faults  # noqa: E402

CLIENTS = 4

# Seconds (true ones: times HASTE): a sent copy is late by that, and a request may lie around before it is processed.
# Together less than delivery.STILL_DRAFT_AFTER, or a draft that is being sent would pass for one that never will.
COPY_DELAY, SLOW = 50.0 / HASTE, 10.0 / HASTE

TOKEN = re.compile(rb"token-[0-9a-z-]+")


@dataclasses.dataclass(frozen=True)
class Mode:
    """One way Graph may behave.

    `one_step`: permissions "send", where a lost answer is held.  `believed`: the program believes at each start that a
    draft's id leads to its sent copy, which is not so, and that two requests are enough.
    """

    message_id: str = "keep"
    id_survives: bool = True
    marker_survives: bool = True
    late: bool = False
    meanwhile: str = "gone"
    one_step: bool = False
    believed: bool = False

    @property
    def decidable(self) -> bool:
        """Whether something of a draft can be recognised in its sent copy."""
        marked = self.marker_survives and not self.believed
        traceable = self.message_id != "replace_at_send" or self.id_survives or marked
        return traceable and not self.one_step

    @property
    def is_bare(self) -> bool:
        """Whether it was learned, rightly or wrongly, that two requests are enough."""
        return self.believed or (self.id_survives and not self.one_step)

    def __str__(self) -> str:
        if self.one_step:
            return "one-step, hold"
        late = f"late, draft {self.meanwhile}" if self.late else "at once"
        lost = "believed" if self.believed else "lost"
        id, marker = "kept" if self.id_survives else lost, "kept" if self.marker_survives else "lost"
        return f"{self.message_id}, id {id}, marker {marker}, {late}"


def modes() -> List[Mode]:
    """All ways that differ."""
    rights = itertools.product(("keep", "replace_at_create", "replace_at_send"), (True, False), (True, False))
    copies = [(False, "gone"), (True, "gone"), (True, "drafts"), (True, "outbox")]
    wrong = [
        Mode(message_id, False, True, *copy, believed=True)
        for message_id in ("keep", "replace_at_create", "replace_at_send")
        for copy in copies
    ]
    return [Mode(*right, *copy) for right in rights for copy in copies] + wrong + [Mode(one_step=True)]


@dataclasses.dataclass
class Result:
    """What became of the messages that got 250: each is counted once, but for `duplicated`."""

    messages: int = 0
    kills: int = 0
    delivered: int = 0
    held: int = 0
    failed: int = 0
    lost: int = 0
    duplicated: int = 0
    seconds: float = 0.0
    faults: Dict[str, int] = dataclasses.field(default_factory=dict)
    names: Dict[str, List[str]] = dataclasses.field(default_factory=dict)  # of the lost and duplicated


_SAID = {"answer", "answer_after", "stranger", "stranger_after"}  # faults whose status matters


class Weather(Faults):
    """Every fault at random, from a seed; calm until `storm` is set."""

    # Of a hundred requests so many meet a fault: sends the most, as they are what can go wrong.
    SHARES = {"send": 35, "token": 30, "stream": 20, "other": 12}

    # Of a hundred requests so many begin a time in which their mailbox is throttled altogether.
    THROTTLED = 0.5

    def __init__(self, seed: int):
        super().__init__()
        self.storm = False
        self.requests = 0
        self.seen: Counter = Counter()
        self._dice = random.Random(seed)
        self._choosing = threading.Lock()
        self._hanging: List[Fault] = []
        self._throttled: Dict[str, float] = {}  # mailbox -> until when (monotonic)

    def choose(self, method: str, target: str, mailbox: str) -> Optional[Fault]:
        where = "token" if "/oauth2/" in target else "other"
        if method == "POST" and target.endswith(("/send", "/sendMail")):
            where = "send"
        if target.endswith("/$value"):
            where = "stream"
        with self._choosing:
            self.requests += 1
            if self.storm and mailbox and self._is_throttled(mailbox):
                self.seen["throttled"] += 1
                return Fault("answer", status=429, retry_after=self._dice.choice((1, 2)))
            if not self.storm or self._dice.uniform(0, 100) >= self.SHARES[where]:
                return None
            fault = self._fault(where)
            name = f"{fault.kind} {fault.status}" if fault.kind in _SAID else fault.kind
            self.seen["streamed " + fault.kind if where == "stream" else name] += 1
            self._hanging.append(fault)
            return fault

    def _is_throttled(self, mailbox: str) -> bool:
        now = time.monotonic()
        if self._dice.uniform(0, 100) < self.THROTTLED:
            self._throttled[mailbox] = now + self._dice.uniform(0.1, 0.6)
        return now < self._throttled.get(mailbox, 0.0)

    @contextlib.contextmanager
    def calm(self) -> Iterator[None]:
        """No new faults for a while."""
        before, self.storm = self.storm, False
        yield
        self.storm = before

    def _fault(self, where: str) -> Fault:
        dice = self._dice
        kind = dice.choice(
            (
                "answer",
                "answer",
                "answer_after",
                "portal",
                "html",
                "hang",
                "hang_after",
                "cut",
                "cut_after",
                "cut_body",
                "cut_answer",
                "slow",
                "stranger",
                "stranger_after",
                "drip",
                "drip_after",
                "drip_head",
            )
        )
        if kind == "answer":
            status = dice.choice((401, 429, 429, 500, 502, 503, 504))
            retry_after = dice.choice((1, "0.5", None)) if status in (429, 503) else None
            return Fault(kind, status=status, retry_after=retry_after)
        if kind == "answer_after":
            return Fault(kind, status=dice.choice((500, 502, 503, 504)), html=dice.random() < 0.3)
        if kind == "html":
            return Fault("answer", status=403, html=True)
        if kind == "portal":
            return Fault(kind, status=dice.choice((200, 302, 403, 511)))
        if kind.startswith("stranger"):
            return Fault(kind, status=dice.choice((200, 201, 202, 202, 204)))
        if kind.startswith("drip"):
            return Fault(kind, status=dice.choice((200, 201, 202)), seconds=1.0 / HASTE)
        if kind == "slow":
            return Fault(kind, seconds=dice.uniform(0, SLOW))
        # Once in a while longer than the program waits for an answer (120 s in truth).
        seconds = 8.0 if where == "send" and dice.random() < 0.03 else dice.uniform(0.05, 0.4)
        return Fault(kind, seconds=seconds)

    def clear(self) -> None:
        self.storm = False
        super().clear()
        with self._choosing:
            for fault in self._hanging:
                fault.release()
            self._hanging.clear()


class Clients:
    """Devices that send as fast as they are let; what was answered 250 is in `accepted`, with what the 250 said."""

    def __init__(self, program: HastyProgram, password: str, seed: int, site: str = "a"):
        """`site`: tells the mail of several gateways apart."""
        self.accepted: Dict[str, str] = {}  # by token
        self.tried = 0
        self.allowed = 0  # messages to be accepted so far
        self._program = program
        self._password = password
        self._site = site
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._send_all, args=(number, random.Random(seed * 100 + number)), daemon=True)
            for number in range(CLIENTS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _next(self, number: int) -> str:
        """A token that was never used, when one more message is wanted."""
        while not self._over.is_set():
            with self._lock:
                if len(self.accepted) + CLIENTS <= self.allowed + number:
                    self.tried += 1
                    return f"token-{self._site}-{self.tried}-{secrets.token_hex(4)}"
            self._over.wait(0.01)
        return ""

    def _send_all(self, number: int, dice: random.Random) -> None:
        token = self._next(number)
        while token:
            mailbox = dice.choice((ALERTS, SCANS))
            with contextlib.suppress(OSError, smtplib.SMTPException, KeyError, StopIteration, ValueError):
                port = self._program.port("smtp")
                with smtplib.SMTP("127.0.0.1", port, timeout=30) as smtp:
                    smtp.login(mailbox, self._password)
                    for _ in range(dice.randint(1, 4)):
                        message_id, recipient = _message_id(token, dice), _recipient(dice)
                        said = _send(smtp, mailbox, recipient, _mail(mailbox, recipient, token, message_id, dice))
                        with self._lock:
                            self.accepted[token] = said
                        token = ""
                        token = self._next(number)
                        if not token:
                            return
            self._over.wait(0.01)
            # Without a 250 the device sends again, as another message: the first may have arrived all the same.
            token = self._next(number)


def _send(smtp: smtplib.SMTP, sender: str, recipient: str, raw: bytes) -> str:
    """As smtplib's sendmail; what the 250 said, which has the queue id."""
    smtp.ehlo_or_helo_if_needed()
    code, said = smtp.mail(sender)
    if code == 250:
        code, said = smtp.rcpt(recipient)
    if code == 250:
        code, said = smtp.data(raw)
    if code != 250:
        raise smtplib.SMTPResponseException(code, said)
    return said.decode()


class Sites:
    """The clients of all gateways: what they may send is shared out evenly."""

    def __init__(self, clients: Sequence[Clients]):
        self._clients = clients

    @property
    def accepted(self) -> Dict[str, str]:
        return {token: said for clients in self._clients for token, said in clients.accepted.items()}

    def allow(self, messages: int) -> None:
        """So many messages may have been accepted from now on, at least."""
        for clients in self._clients:
            clients.allowed = -(-messages // len(self._clients))

    def start(self) -> None:
        for clients in self._clients:
            clients.start()

    def stop(self) -> None:
        for clients in self._clients:
            clients.stop()


def _recipient(dice: random.Random) -> str:
    return dice.choice((SCANS, ALERTS, "somebody@example.org"))


def _message_id(token: str, dice: random.Random) -> str:
    """Many devices put one and the same on all their mail, or none, and those of another site count alike."""
    return dice.choice((f"<{token.split('-')[2]}@printer.local>", "<1@printer.local>", ""))


def _mail(mailbox: str, recipient: str, token: str, message_id: str, dice: random.Random) -> bytes:
    """The clock of some devices writes the name of its zone in a language of its own; some mail has a Bcc."""
    shown = dice.choice((recipient, recipient, "somebody@example.org"))
    fields = f"From: {mailbox}\r\nTo: {shown}\r\nSubject: {token}\r\n".encode()
    if message_id:
        fields += f"Message-ID: {message_id}\r\n".encode()
    fields += dice.choice((b"", b"Date: Sat, 20 Sep 2008 20:04:30 +0300 (\xd6\xe5\xed\xf2\xf0)\r\n"))
    return fields + b"\r\n" + b"A line of text.\r\n" * dice.choice((1, 20, 3000))


def torment(mode: Mode, seed: int, messages: int, kills: int, directory: str) -> Result:
    """One run in a mode: `messages` accepted at least by both gateways, the first one killed `kills` times."""
    began = time.monotonic()
    dice = random.Random(seed)
    password = secrets.token_hex(8)  # a port of ours may become another program's while the child is down
    program = _installation(mode, directory, password)
    other = _installation(mode, directory, password, beside=program)
    try:
        weather = program.sandbox.faults = Weather(seed)
        _set(program.sandbox.tenant, mode)
        program.sign_in()
        other.sign_in()
        if mode.is_bare:
            _believe(other)
        other.launch()
        mishaps = Mishaps(program, other, dice, weather.calm)
        sites = Sites([Clients(program, password, seed), Clients(other, password, seed + 1, "b")])
        reader = Reader(program, SCANS, password, random.Random(seed))
        sites.start()
        reader.start()
        try:
            weather.storm = True
            _kill_again_and_again(program, other, sites, weather, mishaps, messages, kills, mode.is_bare)
            mishaps.end()
            wait_until(lambda: len(sites.accepted) >= messages, what="the last mail")
        finally:
            sites.stop()
        # What is left is sorted out in bad weather, as far as that goes.
        _pass(weather, 100, 4.0)
        weather.clear()
        wait_until(lambda: settled(program) and settled(other), 120, "an empty queue")
        reader.stop()
        for one in (program, other):
            assert one.stop() == STOPPED
            assert "Traceback" not in one.said(), one.said()
        # What is still being processed there ends now.
        program.sandbox.offline()
        result = judge(program, sites.accepted, other)
        result.kills, result.seconds = kills, time.monotonic() - began
        bare = sum(not delivery.marker for delivery in program.sandbox.tenant.delivered)
        result.faults = {**weather.seen, **mishaps.seen, "read by POP3": reader.read, "sent without a marker": bare}
        return result
    finally:
        other.close()
        program.close()


def _installation(mode: Mode, directory: str, password: str, beside: Optional[HastyProgram] = None) -> HastyProgram:
    """The first one, or another that uses the same mailboxes."""
    path = pathlib.Path(directory)
    if beside:
        path = path / "other"
        path.mkdir()
    queue = {"min_free_mb": 0, "retry_interval": 60, "on_ambiguous": "hold"}
    boxes = [{"username": address, "password": password} for address in (ALERTS, SCANS)]
    program = HastyProgram(path, beside=beside, mailboxes=boxes, queue=queue)
    if mode.one_step or beside:
        program.settings.pop("pop3_port")
    program.configure(permissions="send" if mode.one_step else "full")
    return program


def _set(tenant: object, mode: Mode) -> None:
    tenant.message_id, tenant.draft_id_survives, tenant.marker_survives = (
        mode.message_id,
        mode.id_survives,
        mode.marker_survives,
    )
    tenant.sent_copy_delay, tenant.while_sending = COPY_DELAY if mode.late else 0.0, mode.meanwhile
    tenant.keep_content = False


def _believe(program: HastyProgram) -> None:
    """As if the mailboxes' drafts had been found by their ids among their sent copies; no program runs."""
    known = {address: {"kept": True, "learned": time.time()} for address in (ALERTS, SCANS)}
    (program.directory / "state" / "routes.json").write_text(json.dumps({"sent ids": known}))


def _kill_again_and_again(
    program: HastyProgram,
    other: HastyProgram,
    sites: Sites,
    weather: Weather,
    mishaps: Mishaps,
    messages: int,
    kills: int,
    bare: bool,
) -> None:
    dice = mishaps.dice
    for number in range(kills + 1):
        if bare and number % 3:
            _believe(program)
        program.launch()
        if number < kills and dice.random() < 0.1:
            time.sleep(dice.uniform(0.05, 0.6))  # killed while it starts
        else:
            wait_until(program._is_up, what="start")
            # Enough new mail for the kill to find some in each state.
            sites.allow(messages * (number + 1) // (kills + 1))
            if dice.random() < 0.2:
                _go_offline(program, dice)
            mishaps.one()
            if number == kills:
                return
            _pass(weather, dice.randint(0, 50), 3.0)
            time.sleep(dice.uniform(0, 0.02))
        program.stop(KILL)
        if dice.random() < 0.3:
            other.stop(KILL)
            other.launch()


def _pass(weather: Weather, requests: int, seconds: float) -> None:
    """Let the program make so many requests; or, while it waits for better days, the time pass."""
    wanted, deadline = weather.requests + requests, time.monotonic() + seconds
    while weather.requests < wanted and time.monotonic() < deadline:
        time.sleep(0.002)


def _go_offline(program: HastyProgram, dice: random.Random) -> None:
    time.sleep(dice.uniform(0, 0.3))
    program.sandbox.offline(dice.choice(("refuse", "reset")))
    time.sleep(dice.uniform(0.05, 0.4))
    program.sandbox.online()


def _entries(program: HastyProgram, *places: str) -> List[Tuple[str, str]]:
    """(directory, file name) of what is in the queue."""
    queue = program.directory / "state" / "queue"
    return [(place, name) for place in places for name in os.listdir(queue / place)]


def settled(program: HastyProgram) -> bool:
    """Nothing moves any more; new/ is read twice, so that nothing is missed that moves between two listings."""
    assert program.process.poll() is None, program.said()[-2000:]
    return all(name.endswith(".held") for _, name in _entries(program, "new", "cur", "new"))


def judge(program: HastyProgram, accepted: Dict[str, str], *others: HastyProgram) -> Result:
    """Count what the tenant delivered and what stands in the queues; nothing runs any more."""
    times = Counter(_token(delivery.raw) for delivery in program.sandbox.tenant.delivered)
    places: Dict[str, str] = {}
    for one in (program, *others):
        for place, name in _entries(one, "new", "cur", "failed"):
            places[_token((one.directory / "state" / "queue" / place / name).read_bytes())] = place
    result = Result(messages=len(accepted))
    lost: Set[str] = set()
    for token in accepted:
        place = places.get(token)
        if place == "failed":
            result.failed += 1
        elif place is not None:
            result.held += 1
        elif times[token]:
            result.delivered += 1
        else:
            lost.add(token)
    # Also without a 250: that mail may arrive once, as nobody knows who lost the answer, but not twice.
    duplicated = {token for token, count in times.items() if count > 1}
    result.lost, result.duplicated = len(lost), len(duplicated)
    result.names = {"lost": sorted(f"{token}: {accepted[token]}" for token in lost), "duplicated": sorted(duplicated)}
    return result


def _token(content: bytes) -> str:
    found = TOKEN.search(content)
    return found.group().decode() if found else "unknown"


# The command.

_COLUMNS = ("messages", "kills", "delivered", "held", "failed", "lost", "duplicated", "seconds")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="default: a new one, printed")
    parser.add_argument("--messages", type=int, default=3000, help="over all modes, at least")
    parser.add_argument("--kills", type=int, default=300, help="over all modes, at least")
    parser.add_argument("--jobs", type=int, default=2, help="modes at a time")
    parser.add_argument("--mode", default="", help="only modes whose name contains this")
    parser.add_argument("--keep", help="a directory for the installations of runs that found something")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)  # the number of one mode, for a child
    return parser.parse_args()


def main() -> int:
    """Run the modes, each in a process of its own, and print the table; 1 if anything was lost or came twice."""
    arguments = _arguments()
    if arguments.keep:
        os.makedirs(arguments.keep, exist_ok=True)
    chosen = [(number, mode) for number, mode in enumerate(modes()) if arguments.mode in str(mode)]
    messages, kills = -(-arguments.messages // len(chosen)), -(-arguments.kills // len(chosen))
    if arguments.one is not None:
        return _one(arguments, modes()[arguments.one])
    print(f"seed {arguments.seed}", flush=True)
    width = max(len(str(mode)) for _, mode in chosen)
    print(_row("mode", _COLUMNS, width), flush=True)
    total, bad, faults = Result(), 0, Counter()
    began = time.monotonic()

    def run(job: Tuple[int, Mode]) -> Tuple[Mode, Optional[Result], str]:
        number, mode = job
        words = [
            sys.executable,
            __file__,
            "--one",
            str(number),
            "--seed",
            str(arguments.seed + number),
            "--messages",
            str(messages),
            "--kills",
            str(kills),
        ]
        words += ["--keep", arguments.keep] if arguments.keep else []
        done = subprocess.run(words, capture_output=True, text=True)
        result = Result(**json.loads(done.stdout)) if done.returncode == 0 else None
        return mode, result, done.stderr

    with ThreadPoolExecutor(arguments.jobs) as pool:
        for mode, result, said in pool.map(run, chosen):
            if result is None:
                bad += 1
                print(f"{mode}: broken\n{said}", flush=True)
                continue
            bad += _is_bad(mode, result)
            print(_row(str(mode), [getattr(result, name) for name in _COLUMNS], width), flush=True)
            if any(result.names.values()):
                print(result.names, flush=True)
            faults.update(result.faults)
            for name in _COLUMNS:
                setattr(total, name, getattr(total, name) + getattr(result, name))
    total.seconds = time.monotonic() - began
    print(_row("all", [getattr(total, name) for name in _COLUMNS], width))
    print("faults: " + ", ".join(f"{count} {name}" for name, count in sorted(faults.items())))
    return 1 if bad else 0


def _is_bad(mode: Mode, result: Result) -> bool:
    return bool(result.lost or result.duplicated or result.failed or (result.held and mode.decidable))


def _row(name: str, values: Sequence[object], width: int) -> str:
    return name.ljust(width) + "".join(
        (f"{value:.0f}" if isinstance(value, float) else str(value)).rjust(11) for value in values
    )


def _one(arguments: argparse.Namespace, mode: Mode) -> int:
    directory = tempfile.mkdtemp(prefix="torture-", dir=arguments.keep)
    result = torment(mode, arguments.seed, arguments.messages, arguments.kills, directory)
    if not (arguments.keep and _is_bad(mode, result)):
        shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps(dataclasses.asdict(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
