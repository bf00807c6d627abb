"""What `check` prints for people and for programs."""

import io
import json

from cases import each

from m365proxy.admin.check.report import Report, as_json, summary
from m365proxy.admin.check.result import Group, Result
from m365proxy.admin.terminal import Mark, Terminal

MACHINE, MICROSOFT, MAILBOXES = Group
FINE = Result(Mark.OK, "config", "/etc/m365proxy.json")
BUSY = Result(Mark.WRONG, "port", "It is in use.", "Stop it: `systemctl stop exim4`, or choose another port.", 75)
SIGN_IN = Result(Mark.WRONG, "sign-in", "Nobody is signed in.", "Run `m365proxy login`.", 77)
LOOK = Result(Mark.ATTENTION, "clock", "It is slow.")
INFO = Result(Mark.INFO, "a@contoso.com send", "unknown")


def skipped(name, why="skipped, because tcp failed"):
    return Result(Mark.SKIPPED, name, why)


def printed(*lines, encoding="utf-8", columns="60", program="m365proxy"):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    report = Report(Terminal(stream, {"COLUMNS": columns}), program)
    for group, result in lines:
        report.add(group, result)
    report.end()
    return stream.buffer.getvalue().decode(encoding)


def test_groups_marks_and_the_last_line():
    assert printed((MACHINE, FINE), (MACHINE, BUSY), (MICROSOFT, SIGN_IN), (MAILBOXES, INFO)) == (
        "This machine\n"
        "  ✓ config: /etc/m365proxy.json\n"
        "  ✗ port: It is in use.\n"
        "      Stop it:\n"
        "        systemctl stop exim4\n"
        "      or choose another port.\n"
        "\n"
        "Microsoft\n"
        "  ✗ sign-in: Nobody is signed in.\n"
        "        m365proxy login\n"
        "\n"
        "Mailboxes\n"
        "  - a@contoso.com send: unknown\n"
        "\n"
        "2 problems; first mend: port. Stop it:\n"
        "`systemctl stop exim4`, or choose another port.\n"
    )


def test_all_commands_start_the_program_as_it_was_started():
    """Who copied the single file has no command of that name; the last line is what is read first."""
    plain = Result(Mark.ATTENTION, "config", "It is plain text; `m365proxy hash-password` prints what to put there.")
    shown = printed((MACHINE, plain), (MICROSOFT, SIGN_IN), program="python3 /opt/m365proxy.py", columns="200")
    assert "; `python3 /opt/m365proxy.py hash-password` prints" in shown
    assert shown.endswith("1 problem; mend: sign-in. Run `python3 /opt/m365proxy.py login`.\n")


def test_in_ascii_and_forty_columns():
    text = "It is not as it should be, and that takes more than a line."
    assert printed(
        (MACHINE, FINE),
        (MACHINE, Result(Mark.ATTENTION, "log", text, "Do this or that, whatever you like better.")),
        encoding="ascii",
        columns="40",
    ) == (
        "This machine\n"
        "  ok config: /etc/m365proxy.json\n"
        "  !  log: It is not as it should be, and\n"
        "     that takes more than a line.\n"
        "       Do this or that, whatever you\n"
        "       like better.\n"
        "\n"
        "Nothing is wrong, but see the lines with\n"
        "an exclamation mark.\n"
    )


def test_what_is_skipped_for_one_reason_is_one_line():
    shown = printed(
        (MICROSOFT, skipped("tls")),
        (MICROSOFT, skipped("graph")),
        (MICROSOFT, skipped("other", "skipped for fun")),
        (MICROSOFT, LOOK),
        (MICROSOFT, skipped("token")),
        (MAILBOXES, skipped("mailboxes")),
    )
    assert [line for line in shown.splitlines() if line.startswith("  ")] == [
        "  - tls, graph: skipped, because tcp failed",
        "  - other: skipped for fun",
        "  ! clock: It is slow.",
        "  - token: skipped, because tcp failed",
        "  - mailboxes: skipped, because tcp failed",
    ]
    assert shown.count("\n\n") == 2  # a group, and the last line


@each(
    "remedy, lines",
    [
        ("Run `m365proxy login`.", ["    m5 -c x login"]),
        ("Set it.", ["  Set it."]),
        ("Wait. Run `m365proxy login`. Then wait.", ["  Wait.", "    m5 -c x login", "  Then wait."]),
        (
            "Grant it, then run `m365proxy login` again.",
            ["  Grant it, then run:", "    m5 -c x login"],
        ),
        (
            "Grant it with: `Add-It a@contoso.com` (takes hours). Or not.",
            ["  Grant it with:", "    Add-It a@contoso.com", "  (takes hours). Or not."],
        ),
        ("Use `a` or `b` for it.", ["  Use `a` or `b` for it."]),
    ],
)
def test_commands_stand_on_lines_of_their_own_and_start_the_program_as_it_was_started(remedy, lines):
    shown = printed((MACHINE, SIGN_IN._replace(remedy=remedy)), program="m5 -c x").splitlines()
    assert shown[2 : 2 + len(lines)] == ["    " + line for line in lines]
    assert shown[2 + len(lines)] == ""


@each(
    "results, words",
    [
        ([FINE], "All is well."),
        ([FINE, INFO], "All is well."),
        ([FINE, skipped("tls")], "All that was looked at is well."),
        ([FINE, LOOK], "Nothing is wrong, but see the lines with an exclamation mark."),
        ([FINE, SIGN_IN], "1 problem; mend: sign-in. Run `m365proxy login`."),
        ([LOOK, SIGN_IN, BUSY], "2 problems; first mend: sign-in. Run `m365proxy login`."),
        ([SIGN_IN._replace(remedy="")], "1 problem; mend: sign-in. Nobody is signed in."),
        ([SIGN_IN._replace(remedy="Do it. It helps.")], "1 problem; mend: sign-in. Do it."),
    ],
)
def test_the_last_line(results, words):
    assert summary(results) == words


def test_one_object_of_json_says_the_same():
    told = json.loads(as_json([(MACHINE, FINE), (MICROSOFT, SIGN_IN), (MACHINE, BUSY), (MAILBOXES, skipped("x"))]))
    assert (told["ok"], told["exit_status"]) == (False, 77)
    assert told["summary"] == "2 problems; first mend: sign-in. Run `m365proxy login`."
    assert told["checks"][1] == {"group": "Microsoft", **SIGN_IN._asdict()}
    assert [check["mark"] for check in told["checks"]] == ["ok", "WRONG", "WRONG", "skipped"]
    assert json.loads(as_json([(MACHINE, FINE)]))["ok"] is True
