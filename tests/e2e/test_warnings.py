"""Warnings of the running program, by all ways: a mail, a POST, and a program that is run."""

import json
import os
import re
import signal
import stat
import sys
import time

import pytest
from program import ALERTS, ROOT, SCANS, wait_until
from receiver import Receiver

from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import Spool
from m365proxy.system import control

# The program, but what takes it minutes takes it a moment.
HASTY = """
import sys
sys.path.insert(0, sys.argv.pop(1))
hold, again = float(sys.argv.pop(1)), float(sys.argv.pop(1))
from m365proxy import daemon
from m365proxy.cli import main
from m365proxy.monitoring import notices
from m365proxy.monitoring.warnings import Warnings
daemon._STATUS_SECONDS = daemon._CONTROL_SECONDS = 0.05
Warnings.hold, Warnings.again = hold, again
notices.Notices.__init__.__defaults__ = ((0.0, 0.2),)
sys.exit(main())
"""
COMMAND = [sys.executable, "-c", HASTY, str(ROOT), "0.5", "1"]

pytestmark = pytest.mark.skipif("M365PROXY_TEST_COMMAND" in os.environ, reason="needs the program from the source tree")
posix = pytest.mark.skipif(os.name == "nt", reason="the program that is run is a shell script")


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


def put_failed(program):
    """A message that was given up, and of which nobody wants a report; its id."""
    spool = Spool(str(program.directory / "state" / "queue"))
    spool.make()
    claim = spool.claim(spool.put(Envelope(ALERTS, ALERTS, (SCANS,), silent=(SCANS,))).commit())
    claim.state.error = "Exchange refuses it."
    claim.fail()
    return claim.id


def posted(receiver):
    """(status, keys that stand, keys that are over) of each POST."""
    bodies = [json.loads(body) for _, _, body in receiver.got]
    return [(one["status"], [f["key"] for f in one["findings"]], [f["key"] for f in one["over"]]) for one in bodies]


def mails(program):
    """The notices among the mails of the administrator, who is SCANS."""
    tenant = program.sandbox.tenant
    with tenant.lock:
        raw = [item.raw.decode() for item in tenant.items(SCANS)]
    return [text for text in raw if "Subject: m365proxy on " in text]


WARNED = ("down", ["failed"], [])
OVER = ("up", [], ["failed"])


@posix
def test_by_every_way_and_its_end_too(make_program, receiver, tmp_path):
    page = tmp_path / "page-admin"
    page.write_text(f'#!/bin/sh\ncat > {tmp_path}/got.new\necho "$M365PROXY_STATUS $1" >> {tmp_path}/got.new\n')
    with open(page, "a") as script:
        script.write(f"mv {tmp_path}/got.new {tmp_path}/got\n")
    page.chmod(0o700)
    program = make_program(notify=SCANS, notify_url=receiver.url(), notify_command=[str(page), "a b"])
    id = put_failed(program)
    program.sign_in().start(COMMAND)
    wait_until(lambda: (tmp_path / "got").exists() and receiver.got and mails(program))
    assert posted(receiver) == [WARNED]
    said = (tmp_path / "got").read_text()
    assert "1 thing to do\n\n- 1 message was given up" in said and said.endswith("\ndown a b\n")
    [mail] = mails(program)
    assert f"From: Mail gateway <{ALERTS}>" in mail or f"From: Mail gateway <{SCANS}>" in mail
    assert "Run: m365proxy queue list" in mail
    [finding] = program.status()["findings"]
    assert finding["key"] == "failed" and 0 <= time.time() - finding["since"] < 3600

    # A restart neither repeats nor forgets.
    wait_until(lambda: '"is_told": true' in (program.directory / "state" / "warnings.json").read_text())
    assert program.stop() == 0
    program.start(COMMAND)
    assert program.command("queue", "drop", id).returncode == 0
    wait_until(lambda: len(receiver.got) == 2 and len(mails(program)) == 2)
    wait_until(lambda: (tmp_path / "got").read_text().endswith("\nup a b\n"))
    assert posted(receiver) == [WARNED, OVER]
    wait_until(lambda: program.queue() == [])


def test_a_queue_that_is_stuck_warns_by_url(make_program, receiver):
    """Nobody is signed in: no mail goes out, and none is left in the queue."""
    program = make_program(notify=SCANS, notify_url=receiver.url())
    program.start(COMMAND)
    wait_until(lambda: receiver.got)
    assert posted(receiver)[0] == ("down", ["sign-in"], [])
    wait_until(lambda: program.said().count("notify: no notice: No mailbox can send at present.") >= 2)
    assert "has reached nobody" not in program.said() and program.queue() == []


def test_a_warning_that_cannot_be_sent_is_no_reason_for_another(make_program):
    program = make_program(notify="nobody@contoso.com")
    put_failed(program)
    program.sandbox.faults.add(
        "answer", method="POST", path="/send$|/sendMail$", status=400, code="ErrorInvalidRecipients", times=None
    )
    program.sign_in().start([*COMMAND[:-2], "7", "3600"])  # longer than a mail waits for its second attempt: 5 s
    wait_until(lambda: "a notice has reached nobody" in program.said())
    assert program.said().count("notify: no notice: Exchange refused the recipients") == 2
    assert program.queue() == [("failed", "")]
    program.stop()
    told = [
        line for line in program.said().splitlines() if " WARNING warnings: " in line and " no notice: " not in line
    ]
    assert len(told) == 1 and "given up" in told[0]


def test_a_server_that_is_away_gets_it_later(make_program, receiver):
    program = make_program(notify_url=receiver.url("/t0ken", "gateway:s3cret@"))
    receiver.status = 503
    put_failed(program)
    program.sign_in().start(COMMAND)
    wait_until(lambda: "a notice has reached nobody" in program.said())
    receiver.status = 200
    wait_until(lambda: "notify_url: notice taken by 127.0.0.1 (200)" in program.said())
    assert set(map(str, posted(receiver))) == {str(WARNED)}
    program.stop()
    assert "t0ken" not in program.said() and "s3cret" not in program.said()


@pytest.mark.parametrize(
    "how, status", [(signal.SIGTERM, 0), pytest.param(getattr(signal, "SIGKILL", 9), -9, marks=posix)]
)
def test_a_stop_during_a_notice_leaves_it_to_the_next_run(make_program, receiver, how, status):
    program = make_program(notify_url=receiver.url())
    receiver.hangs = True
    put_failed(program)
    program.sign_in().start(COMMAND)
    wait_until(lambda: receiver.got)
    assert program.stop(how) == status
    receiver.hangs = False
    program.start(COMMAND)
    wait_until(lambda: "notify_url: notice taken" in program.said())
    assert posted(receiver) == [WARNED, WARNED]


def test_the_daemon_answers_while_all_ways_hang(make_program, receiver):
    program = make_program(
        notify_url=receiver.url(), notify_command=[sys.executable, "-c", "import time; time.sleep(60)"]
    )
    receiver.hangs = True
    put_failed(program)
    program.sign_in().start(COMMAND)
    wait_until(lambda: receiver.got)
    for _ in range(3):
        before = program.status()["written"]
        control.request(str(program.directory / "state"), "status")
        wait_until(lambda before=before: program.status()["written"] > before)
    assert program.stop() == 0


def transcript():
    """What docs/monitoring.md shows of `test --notify`, without the times."""
    page = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    return without_times(page.partition("$ sudo m365proxy test --notify\n")[2].partition("```")[0])


def without_times(text):
    return re.sub(r"\d+\.\d\d s", "0.00 s", text)


@posix
def test_each_way_can_be_tried(make_program, receiver, tmp_path):
    page = tmp_path / "page-admin"
    page.write_text("#!/bin/sh\necho no modem >&2\nexit 1\n")
    page.chmod(stat.S_IRWXU)
    program = make_program().sign_in().start()
    ways = {"notify": "admin@contoso.org", "notify_url": "http://ntfy.contoso.com/mail-gateway"}
    # Through a proxy, the URL may have a name that nobody knows.
    program.configure(https_proxy=receiver.url(""), notify_command=str(page), **ways)
    done = program.command("test", "--notify", PYTHONUTF8="1")
    assert done.returncode == 69 and done.stderr == ""
    assert without_times(done.stdout) == transcript()
    assert posted(receiver) == [("up", [], [])] and len(program.sandbox.tenant.outside) == 1
    page.write_text("#!/bin/sh\n")
    assert program.command("test", "--notify").returncode == 0
    program.stop()
    done = program.command("test", "--notify", COLUMNS="200")
    assert done.returncode == 3 and "notify: m365proxy is not running, so no mail is sent." in done.stdout
    assert program.command("test", "--notify", "--to", SCANS).returncode == 64
    program.configure(notify=None, notify_url=None, notify_command=None)
    done = program.command("test", "--notify")
    assert done.returncode == 64 and "set notify, notify_url or notify_command" in done.stderr


def test_a_reload_puts_other_ways_to_use(make_program, receiver):
    program = make_program()
    put_failed(program)
    program.sign_in().start(COMMAND)
    wait_until(lambda: "were given up" in program.said() or "was given up" in program.said())
    program.configure(notify_url=receiver.url())
    assert program.command("reload").returncode == 0
    wait_until(lambda: "reloaded" in program.said())
    for entry in os.listdir(program.directory / "state" / "queue" / "failed"):
        assert program.command("queue", "drop", entry.partition(".")[0]).returncode == 0
    wait_until(lambda: receiver.got)
    assert posted(receiver) == [OVER]
