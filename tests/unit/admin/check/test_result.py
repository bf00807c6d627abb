"""A line of a check: what a text says is so, and what it says is to be done."""

import errno

from cases import each

from m365proxy.admin.check import result
from m365proxy.admin.check.result import Result
from m365proxy.admin.terminal import Mark
from m365proxy.errors import ConfigError, InUse, Temporary


@each(
    "text, sentence, remedy",
    [
        ("Nobody is signed in. Run `m365proxy login`.", "Nobody is signed in.", "Run `m365proxy login`."),
        ("all in one", "all in one", ""),
        ("It is full (a.b.c). `df` shows it.", "It is full (a.b.c).", "`df` shows it."),
        ("cert.pem holds a key, v1.2 of it.", "cert.pem holds a key, v1.2 of it.", ""),
        ("Not Microsoft (HTTP 200). Is a proxy in between?", "Not Microsoft (HTTP 200).", "Is a proxy in between?"),
        ("Others can read x; run `chmod o-rwx x`.", "Others can read x", "Run `chmod o-rwx x`."),
        (
            "It was revoked. Run `m365proxy login`. (invalid_grant, AADSTS50173)",
            "It was revoked (invalid_grant, AADSTS50173).",
            "Run `m365proxy login`.",
        ),
    ],
)
def test_the_first_sentence_is_what_is_so(text, sentence, remedy):
    assert result.split(text) == (sentence, remedy)


@each(
    "error, sentence, remedy, status",
    [
        (InUse("It is used. Stop it."), "It is used.", "Stop it.", 75),
        (ConfigError("It is wrong."), "It is wrong.", "Mend it.", 78),
        (Temporary("No answer."), "No answer.", "Mend it.", 69),
        (OSError(errno.ENOSPC, "No space left", "/x"), "/x: No space left.", "Mend it.", 74),
        (OSError(errno.EACCES, "Permission denied", "/x"), "/x: Permission denied.", "Mend it.", 73),
        (OSError("odd"), "The system: odd.", "Mend it.", 73),
    ],
)
def test_errors(error, sentence, remedy, status):
    assert result.of_error("x", error, "Mend it.") == Result(Mark.WRONG, "x", sentence, remedy, status)


def test_what_may_pass_says_to_wait_unless_there_is_more_to_do():
    assert result.of_error("x", Temporary("No answer.")).remedy.startswith(
        "Wait a few minutes, then run `m365proxy check`"
    )
    assert result.of_error("x", Temporary("No answer. Plug it in.")).remedy == "Plug it in."
