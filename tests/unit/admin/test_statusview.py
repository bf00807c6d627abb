"""What `status` prints for people."""

import io
import pathlib
import time

import pytest
from cases import each
from snapshots import ALERTS, NOW, snapshot_of, watch

from m365proxy.admin import statusview
from m365proxy.admin.statusview import StatusView
from m365proxy.admin.terminal import Terminal
from m365proxy.monitoring.counters import Counters
from m365proxy.monitoring.findings import stale
from m365proxy.monitoring.monitor import report_on
from m365proxy.spool.spool import mailbox_tag

TAG = mailbox_tag(ALERTS)
FULL = "The mailbox alerts@contoso.com is full. Make room in it."
DENIED = "Access denied. Grant it with: `Add-RecipientPermission x` (soon), then run `m365proxy login` again."


def printed(width=80, unit="", sudo="", found=(), **changes):
    """What is printed of a snapshot."""
    return printed_of(report_on(snapshot_of(**changes), found), width, unit, sudo)


def printed_of(report, width=80, unit="", sudo=""):
    stream = io.StringIO()
    StatusView(Terminal(stream, {"COLUMNS": str(width)}), f"{sudo}m365proxy", unit, sudo).show(report, NOW)
    return stream.getvalue()


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setattr(time, "localtime", time.gmtime)


def group(reason="", count=1, state="waiting", status="", tag=TAG):
    return {
        "state": state,
        "tag": tag,
        "reason": reason,
        "status": status,
        "code": "",
        "count": count,
        "oldest": NOW - 60,
    }


def test_all_is_well():
    assert printed(disk_free_mb=5120) == (
        "All is well\n"
        "\n"
        "running     since 2027-01-15 06:00:00, pid 4711, version 3.0.0, 0 connections\n"
        "sign-in     relay@contoso.com, since 24 h, renewed 60 min ago\n"
        "ports       smtp 127.0.0.1:2525\n"
        "disk        5120 MB free (below 64 MB new mail is refused)\n"
        "queue       empty\n"
        "\n"
        "mailbox             sent 24 h  failed 24 h  waiting  last delivery\n"
        "alerts@contoso.com          0            0        0  none yet\n"
    )


def test_what_to_do_comes_with_its_commands_as_they_are_typed_here():
    counters = Counters()
    counters.note(NOW - 7200, {"event": "delivered", "mailbox": ALERTS})
    counters.note(NOW - 300, {"event": "deferred", "mailbox": ALERTS, "reason": DENIED})
    said = printed(
        sudo="sudo ",
        counters=counters,
        sign_in={"error": "Nobody is signed in. Run `m365proxy login`.", "needs_sign_in": True, "user": ""},
        paused="Nobody is signed in. Run `m365proxy login`.",
        queue={
            "waiting": 3,
            "oldest": NOW - 60,
            "groups": [group(DENIED, 3, status="4.7.0")],
            "waiting_by_tag": {TAG: 3},
        },
        certificate={"path": "/etc/cert.pem", "days": 1},
        secret_days=40,
    )
    assert said == (
        "Attention: 3 things to do\n"
        "\n"
        "  1. Nobody is signed in.\n"
        "       sudo m365proxy login\n"
        "  2. 3 messages wait: Access denied. Grant it with:\n"
        "       Add-RecipientPermission x\n"
        "     (soon), then run:\n"
        "       sudo m365proxy login\n"
        "     After that, send at once what waits.\n"
        "       sudo m365proxy queue retry all\n"
        "  3. tls.tls_cert: /etc/cert.pem expires in 1 day. Renew it, then run:\n"
        "       sudo m365proxy reload\n"
        "\n"
        "running     since 2027-01-15 06:00:00, pid 4711, version 3.0.0, 0 connections\n"
        "sign-in     none\n"
        "sending     paused: Nobody is signed in.\n"
        "ports       smtp 127.0.0.1:2525\n"
        "certificate /etc/cert.pem, valid for 1 day\n"
        "app secret  valid for 40 days\n"
        "queue       3 waiting; the oldest waits for 60 s\n"
        "            3 messages: Access denied.\n"
        "\n"
        "mailbox             sent 24 h  failed 24 h  waiting  last delivery\n"
        "alerts@contoso.com          1            0        3  2 h ago\n"
        "    last error 5 min ago: Access denied.\n"
    )


@pytest.mark.parametrize(
    "unit, command",
    [("m365proxy", "sudo systemctl start m365proxy"), ("", "sudo m365proxy run")],
)
def test_nothing_runs(unit, command):
    said = printed(unit=unit, sudo="sudo ", program=None)
    assert said.startswith("Not running\n\n  m365proxy is not running: no mail is accepted or sent. Start it.\n")
    assert f"\n    {command}\n" in said and "running     no\n" in said and "ports" not in said


def test_what_is_old_says_from_when_it_is():
    report = report_on(snapshot_of(), stale(NOW - 240, NOW))
    report["written"] = NOW - 240
    said = printed_of(report, unit="m365proxy")
    assert (
        "has written no status for 4 min" in said
        and "\n    journalctl -u m365proxy -n 50\n    systemctl restart m365proxy\n" in said
    )
    assert "(this and the ports as of 2027-01-15 07:56:00)" in " ".join(said.split())


@each("changes", [{"deaf": ["smtp 127.0.0.1:2525"]}, {"stalled": 60}, {"secret_days": 3}, {"secret_days": -1}])
def test_what_ends_by_a_restart_says_how(changes):
    assert "\n    sudo systemctl restart m365proxy\n" in printed(unit="m365proxy", sudo="sudo ", **changes)
    assert "systemctl" not in printed(unit="", sudo="sudo ", **changes)


def test_a_program_that_told_nothing():
    report = report_on(snapshot_of(program={**snapshot_program(), "listeners": []}), stale(0.0, NOW))
    report["written"] = 0.0
    assert "running     yes, but it has written nothing about itself\n" in printed_of(report)


def snapshot_program():
    return {
        "pid": 0,
        "started": 0.0,
        "listeners": [],
        "deaf": [],
        "draining": False,
        "connections": 0,
        "paused": "",
        "clock_skew": 0.0,
        "sent": {},
    }


def test_equal_reasons_of_several_mailboxes_are_one_line(monkeypatch):
    monkeypatch.setattr(statusview, "_REASONS", 2)
    groups = [
        group("No route. See.", 30),
        group("No route. See.", 11, tag="b"),
        group(FULL, 2, "failed"),
        group("Odd.", 1, "held"),
        group("", 5),
    ]
    said = printed(queue={"waiting": 47, "held": 1, "failed": 2, "groups": groups, "unread": 1})
    assert (
        "queue       47 waiting, 1 held, 2 failed\n"
        "            41 messages: No route.\n"
        "            2 messages (failed): The mailbox alerts@contoso.com is full.\n"
        "            1 message for other reasons; 1 message not looked into:\n"
        "            `m365proxy queue list`\n"
    ) in said


def test_what_was_not_looked_into_is_no_other_reason():
    said = printed(queue={"waiting": 10_000, "groups": [group("", 500)], "unread": 9500})
    assert "            9500 messages not looked into: `m365proxy queue list`\n" in said


def many(count):
    """Mailboxes of which the tenth has trouble."""
    names = [f"device-{number:03}@contoso.com" for number in range(count)]
    counters = Counters()
    for name in names:
        counters.note(NOW - 60, {"event": "delivered", "mailbox": name})
    counters.note(NOW - 30, {"event": "failed", "mailbox": names[10], "reason": "No. And no."})
    return {"watched": watch(mailboxes=tuple(names)), "counters": counters}


def test_of_many_mailboxes_those_with_something_to_say_are_shown():
    said = printed(**many(500))
    assert said.endswith(
        "mailbox                 sent 24 h  failed 24 h  waiting  last delivery\n"
        "device-010@contoso.com          1            1        0  60 s ago\n"
        "    last error 30 s ago: No.\n"
        "499 other mailboxes: 499 sent, 0 failed in 24 h, 0 waiting\n"
    )


def test_of_few_mailboxes_all_are_shown():
    assert printed(**many(20)).count("60 s ago\n") == 20


def test_many_findings_and_many_mailboxes_with_trouble_are_cut_off():
    names = [f"device-{number:03}@contoso.com" for number in range(500)]
    groups = [group(f"Denied {name}.", status="4.7.0", tag=mailbox_tag(name)) for name in names]
    by_tag = {mailbox_tag(name): 1 for name in names}
    queue = {"waiting": 500, "groups": groups, "waiting_by_tag": by_tag}
    said = printed(watched=watch(mailboxes=tuple(names)), queue=queue)
    assert said.startswith("Attention: 500 things to do\n")
    assert said.count("Denied ") == 3 + 5  # things to do, and reasons in the queue
    assert "\n     and 497 more (refused): device-003@contoso.com, device-004@contoso.com," in said
    assert said.endswith("480 other mailboxes: 0 sent, 0 failed in 24 h, 480 waiting\n")
    assert len(said.splitlines()) < 55


@pytest.mark.parametrize("width", [40, 80])
def test_a_line_is_as_wide_as_the_terminal_at_most(width):
    name = "a-device-with-a-name-that-is-longer-than-others@subsidiary.contoso.com"
    counters = Counters()
    counters.note(NOW - 60, {"event": "deferred", "mailbox": name, "reason": "Because of many long words. " * 3})
    said = printed(
        width,
        watched=watch(mailboxes=(name, ALERTS)),
        counters=counters,
        queue={"held": 1, "groups": [group("Because of many long words. " * 3, 3)]},
    )
    table = [line for line in said.splitlines() if "  " in line.strip() and "running" not in line]
    assert f"\n{name}\n" in said
    assert width < 80 or max(map(len, [line for line in said.splitlines() if line != name])) <= width
    assert table


def test_nothing_from_outside_reaches_the_terminal_raw():
    said = printed(
        queue={"waiting": 1, "groups": [group("odd \x1b[2J reason.", status="4.7.0")]},
        paused="odd \x07 pause.",
    )
    assert "\x1b" not in said and "\x07" not in said


def test_the_page_on_status_shows_what_is_printed():
    """Its first block is what is printed of this."""
    scanner, ups = "scanner@contoso.com", "ups@contoso.com"
    large = "The message is larger than ups@contoso.com may send. To allow up to 150 MB: `Set-Mailbox ups`"
    full = "The mailbox scanner@contoso.com is full. Make room in it (Sent Items counts too)."
    counters = Counters()
    for number in range(212):
        counters.note(NOW - 900 - number, {"event": "delivered", "mailbox": scanner})
    counters.note(NOW - 360, {"event": "deferred", "mailbox": scanner, "reason": full})
    for number in range(4):
        counters.note(NOW - 7200 - number, {"event": "delivered", "mailbox": ups})
    counters.note(NOW - 10900, {"event": "failed", "mailbox": ups, "reason": large})
    said = printed(
        sudo="sudo ",
        watched=watch(mailboxes=(scanner, ups)),
        counters=counters,
        sign_in={"signed_in_at": NOW - 41 * 86400, "last_refresh": NOW - 5 * 3600},
        program={
            **snapshot_program(),
            "pid": 812,
            "started": NOW - 3 * 86400,
            "listeners": ["smtp 192.168.1.10:25", "smtps 192.168.1.10:465", "pop3 192.168.1.10:110"],
        },
        disk_free_mb=8006,
        certificate={"path": "/etc/ssl/mail.pem", "days": 61},
        queue={
            "waiting": 5,
            "failed": 1,
            "oldest": NOW - 900,
            "groups": [
                group(full, 5, status="4.2.2", tag=mailbox_tag(scanner)),
                group(large, 1, "failed", "5.3.4", mailbox_tag(ups)),
            ],
            "waiting_by_tag": {mailbox_tag(scanner): 5},
        },
    )
    page = (pathlib.Path(__file__).resolve().parents[3] / "docs" / "status.md").read_text("utf-8")
    assert f"```\n$ sudo m365proxy status\n{said}```\n" in page
