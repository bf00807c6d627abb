"""Where `status` gets from what it shows, and how it ends."""

import json
import os
import shutil
import time

import pytest
from configs import MAILBOX

from m365proxy import __version__
from m365proxy.account import Account, spool_of, watched
from m365proxy.admin import status
from m365proxy.monitoring import monitor, snapshot
from m365proxy.monitoring.counterfile import CounterFile
from m365proxy.monitoring.counters import Counters
from m365proxy.monitoring.snapshot import ProgramView
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.overview import Overview
from m365proxy.system import files, statusfile

SCANNER = MAILBOX["username"]
PROGRAM = ProgramView(
    pid=7,
    started=time.time() - 60,
    listeners=["smtp 127.0.0.1:2525"],
    deaf=[],
    draining=False,
    connections=2,
    paused="",
    clock_skew=0,
    sent={},
)


def test_a_queue_that_may_not_be_seen_is_not_empty(config, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(status.os, "stat", refuse)
    with pytest.raises(PermissionError):
        status.has_queue(config)


def test_there_is_no_queue_before_the_first_start(config):
    assert not status.has_queue(config)
    spool_of(config).make()
    assert status.has_queue(config)


class Program:
    """Runs, as far as its lock and what it writes show."""

    def __init__(self, config):
        self._config = config
        spool_of(config).make()
        self._lock = files.Lock(os.path.join(config.state_dir, "lock"))
        self._lock.acquire()

    def write(self, age=0.0, **changes):
        """What it reported so many seconds ago."""
        config = self._config
        taken = snapshot.take(
            watched(config, config.state_dir),
            Overview(spool_of(config)).look(),
            Account(config).tokens.state(),
            Counters(),
            time.time() - age,
            PROGRAM,
        )
        statusfile.write(config.state_dir, {**monitor.report_on({**taken, **changes})})

    def stop(self):
        self._lock.release()


@pytest.fixture
def full_disk(monkeypatch):
    """From now on the disk is full."""
    return lambda: monkeypatch.setattr(snapshot.files, "free_bytes", lambda directory: 0)


@pytest.fixture
def running(config, monkeypatch):
    monkeypatch.setattr("m365proxy.admin.running._ANSWERS", 0.0)
    program = Program(config)
    yield program
    program.stop()


@pytest.fixture
def signed_in(config):
    os.makedirs(config.state_dir, exist_ok=True)
    Account(config).token_file.sign_in(config.user, "contoso", "{}", time.time())


def keys(report):
    return [finding["key"] for finding in report["findings"]]


def put(config):
    incoming = spool_of(config).put(Envelope(SCANNER, SCANNER, ("a@contoso.com",), "192.0.2.7", "ups"))
    incoming.write(b"x")
    incoming.commit()


def test_of_a_program_that_does_not_run(config):
    report = status.look(config)
    assert (report["verdict"], report["running"], keys(report)) == ("Not running", False, ["stopped", "sign-in"])


def test_of_a_program_that_runs(config, running, signed_in):
    running.write()
    report = status.look(config)
    assert (report["verdict"], report["pid"], keys(report)) == ("All is well", 7, [])
    assert report == statusfile.read(config.state_dir)


@pytest.mark.parametrize("age", [31.0, -3600.0])
def test_what_it_wrote_long_ago_is_known_to_be_old_and_the_rest_is_looked_at_anew(config, running, signed_in, age):
    running.write(age)
    put(config)
    counters = Counters()
    counters.note(time.time(), {"event": "delivered", "mailbox": SCANNER})
    CounterFile(config.state_dir, counters).save(counters.content(), None)
    report = status.look(config)
    assert (keys(report), report["verdict"]) == (["stale"], "Attention: 1 thing to do")
    assert (report["running"], report["pid"], report["listeners"]) == (True, 7, PROGRAM["listeners"])
    assert abs(report["written"] - (time.time() - age)) < 20
    assert report["mailboxes"][SCANNER]["waiting"] == report["mailboxes"][SCANNER]["sent_24h"] == 1


def test_a_disk_that_was_full_before_the_program_could_write_so(config, running, signed_in, full_disk):
    running.write(age=2)
    full_disk()
    report = status.look(config)
    assert (report["verdict"], keys(report)) == ("Attention: 1 thing to do", ["disk full"])
    assert (report["pid"], report["disk_free_mb"]) == (7, 0)


def test_of_a_program_that_never_wrote_anything(config, running, signed_in):
    report = status.look(config)
    assert (keys(report), report["running"], report["written"], report["pid"]) == (["stale"], True, 0.0, 0)


def test_of_a_program_of_another_version(config, running, signed_in):
    statusfile.write(config.state_dir, {"version": "2.9", "written": time.time(), "pid": 7})
    report = status.look(config)
    assert keys(report) == ["version"] and "(2.9)" in report["findings"][0]["sentence"]
    assert (report["pid"], report["version"]) == (7, __version__)


def test_a_sign_in_shows_at_once(config, running):
    running.write(paused="Nobody is signed in.")
    assert keys(status.look(config)) == ["sign-in"]
    Account(config).token_file.sign_in(config.user, "contoso", "{}", time.time())
    os.utime(Account(config).token_file.path, (time.time() + 1, time.time() + 1))
    report = status.look(config)
    assert (report["verdict"], report["sign_in"]["user"], report["paused"]) == ("All is well", config.user, "")


def test_what_remains_after_a_sign_in_has_its_begin(config, running):
    running.write(paused="Nobody is signed in.", stalled=60)
    told = statusfile.read(config.state_dir)
    statusfile.write(config.state_dir, {**told, "findings": [{**one, "since": 5.0} for one in told["findings"]]})
    Account(config).token_file.sign_in(config.user, "contoso", "{}", time.time())
    os.utime(Account(config).token_file.path, (time.time() + 1, time.time() + 1))
    assert [(one["key"], one["since"]) for one in status.look(config)["findings"]] == [("stalled", 5.0)]


def test_a_sign_in_does_not_end_a_pause_of_another_kind(config, running, signed_in):
    running.write(paused="Graph does not answer.")
    os.utime(Account(config).token_file.path, (time.time() + 1, time.time() + 1))
    report = status.look(config)
    assert (report["paused"], keys(report)) == ("Graph does not answer.", ["paused"])


def test_a_sign_out_shows_at_once(config, running, signed_in):
    running.write()
    Account(config).tokens.logout()
    assert keys(status.look(config)) == ["sign-in"]


def just_started(config):
    """The sign-in as the program knows it before its first renewal."""
    return {"user": config.user, "signed_in_at": 0.0, "last_refresh": 0.0, "error": "", "needs_sign_in": False}


def test_what_the_program_does_not_know_yet_is_read_from_the_file(config, running, signed_in):
    running.write(sign_in=just_started(config))
    os.utime(Account(config).token_file.path, (time.time() - 60, time.time() - 60))
    assert status.look(config)["sign_in"]["signed_in_at"] > 0
    Account(config).tokens.logout()
    assert keys(status.look(config)) == ["sign-in"]


def test_a_sign_in_that_only_the_service_can_read_is_believed(config, running, signed_in):
    running.write()
    shutil.copy(os.path.join(config.state_dir, "tokens.enc"), os.path.join(config.state_dir, "token.key"))
    os.utime(Account(config).token_file.path, (time.time() + 1, time.time() + 1))
    assert status.look(config)["verdict"] == "All is well"


def test_how_it_ends(config, running, signed_in, capsys):
    running.write()
    assert status.show(config, "", as_json=False, environ={}) is None
    assert capsys.readouterr().out.startswith("All is well\n\nrunning ")
    running.write(paused="Graph does not answer.")
    assert status.show(config, "", as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "Attention: 1 thing to do" and told["findings"][0]["key"] == "paused"
    running.stop()
    assert status.show(config, "", as_json=False, environ={}) == 3
    assert capsys.readouterr().out.startswith("Not running\n")
