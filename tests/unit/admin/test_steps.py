"""What a step looks like: its time, a mark, and lines no wider than the terminal."""

import io
import re

import pytest

from m365proxy.admin.steps import Failed, Steps
from m365proxy.admin.terminal import Mark, Terminal


@pytest.fixture
def show():
    out = io.StringIO()
    return Steps(Terminal(out, {"COLUMNS": "40"})), lambda: re.sub(r"\d\.\d\d s", "N.NN s", out.getvalue())


def test_a_step_has_a_time_and_a_note_has_none(show):
    steps, said = show
    steps.done("It works.")
    steps.note("It is off.", Mark.SKIPPED)
    steps.done("It worked before.", took=1.0)
    assert said() == "    N.NN s ok It works.\n           -  It is off.\n    N.NN s ok It worked before.\n"


def test_long_lines_are_wrapped_and_nothing_moves_the_cursor(show):
    steps, said = show
    steps.done("an address of some length: relay@contoso.com \x1b[2J\r\n")
    assert said().split("\n") == [
        "    N.NN s ok an address of some length:",
        " " * 13 + "relay@contoso.com",
        " " * 13 + "\\x1b[2J\\x0d\\x0a",
        "",
    ]


@pytest.mark.parametrize("advice, more", [("", []), ("Do `a b`.", [" " * 13 + "Do `a b`."])])
def test_a_failure_names_the_step_and_says_what_to_do(show, advice, more):
    steps, said = show
    steps.start("the login")
    steps.fail(Failed("no", advice, 78))
    assert said().splitlines() == ["    N.NN s x  the login: no", *more]


def test_commands_are_shown_as_they_are_to_be_typed():
    out = io.StringIO()
    steps = Steps(Terminal(out, {"COLUMNS": "200"}), "python3 m365proxy.py --config /srv/a.json")
    steps.fail(Failed("Run `m365proxy login`.", "See `m365proxy status`; m365proxy was here.", 77))
    said = [line.strip() for line in out.getvalue().splitlines()]
    assert said[0].endswith(": Run `python3 m365proxy.py --config /srv/a.json login`.")
    assert said[1:] == ["See `python3 m365proxy.py --config /srv/a.json status`; m365proxy was here."]
