"""docs/first-mail.md is what a terminal showed; .ci/packages goes the whole way again (journey.py) and compares."""

import pathlib
import re
import shlex

import firstmail
import pytest

from m365proxy import cli

PAGE = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "first-mail.md").read_text("utf-8")
PROMPT = "root@gateway:~# "


@pytest.mark.parametrize(
    ("output", "screen"),
    [
        ("one\r\ntwo\r\n", "one\ntwo\n"),
        ("\x1b[1;32m✓\x1b[0m fine\r\n", "✓ fine\n"),
        ("14:59 left\r14:58 left\r\n", "14:58 left\n"),
        ("Waiting. 9:59 left\r\x1b[KSigned in.\r\n", "Signed in.\n"),
        ("12345\r\x1b[2K  3\r\n", "  3\n"),
        ("done\x1b7\x1b[24;0fProgress: [ 98%]\x1b8.\r\n", "done.\n"),
    ],
    ids=["lines", "colours", "overwritten", "erased", "erased whole", "a bar elsewhere"],
)
def test_what_a_screen_shows(output, screen):
    assert firstmail.plain(output) == screen


STEPS = [
    firstmail.Step("Sign in", "m365proxy login", "Enter this code:\n\n  █ ██\n\n  0FEDCBA98\n\nSigned in.\n", 7.2),
    firstmail.Step(
        "Send a mail",
        "m365proxy test",
        "    0.51 s ✓ 250: on disk, queue id 20261129T140238-8209396fcba4-9f262fbb, with a PDF as it was\n",
        12.7,
    ),
]
LATER = [
    firstmail.Step("Sign in", "m365proxy login", "Enter this code:\n\n  ████\n\n  123456789\n\nSigned in.\n", 9.9),
    firstmail.Step(
        "Send a mail",
        "m365proxy test",
        "           ✓ 250: on disk, queue id 20270101T000000-0123456789ab-00000000, with\n   a PDF as it was\n",
        100.0,
    ),
]


def test_another_time_is_no_difference():
    assert firstmail.difference(firstmail.page(PROMPT, STEPS), firstmail.page(PROMPT, LATER)) == ""


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            "Signed out.",
            [
                "after 'root@gateway:~# m365proxy login Enter this code: CODE Signed'",
                "  the page: 'in.'",
                "  now:      'out.'",
            ],
        ),
        ("", ["  the page: 'Signed in.'", "  now:      ''"]),
        ("Signed in. Next:", ["  the page: ''", "  now:      'Next:'"]),
    ],
    ids=["other", "less", "more"],
)
def test_another_word_is_a_difference(other, said):
    changed = [STEPS[0]._replace(screen=STEPS[0].screen.replace("Signed in.", other)), STEPS[1]]
    found = firstmail.difference(firstmail.page(PROMPT, STEPS), firstmail.page(PROMPT, changed)).splitlines()
    assert len(found) == 3
    assert found[-len(said) :] == said


def typed():
    return [line[len(PROMPT) :] for line in PAGE.splitlines() if line.startswith(PROMPT)]


def test_the_page_goes_the_whole_way():
    installed, *commands = typed()
    assert installed.startswith("apt install")
    assert commands == [f"m365proxy {name}" for name in ("init", "login", "check", "test")]
    for command in commands:
        cli.parser().parse_args(shlex.split(command)[1:])
    until = [int(seconds) for seconds in re.findall(r"^Until here: (\d+) s\.$", PAGE, re.MULTILINE)]
    assert len(until) == 5 and until == sorted(until)


def test_the_page_ends_well():
    assert "\nAll is well.\n" in PAGE
    assert re.search(r"fetched from POP3 .*; its PDF is what was sent\nDone, in ", PAGE)
