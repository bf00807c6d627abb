"""The screen of `login`: what stands on it, on which terminal, and when nobody can read it any more."""

import io
import os
import pathlib

import pytest
from cases import each
from configs import configured

from m365proxy.admin import invocation, signin
from m365proxy.admin.signin import Screen
from m365proxy.entra.devicecode import DeviceCode
from m365proxy.errors import CannotCreate, SignInNeeded

CODE = DeviceCode("https://microsoft.com/devicelogin", "GQ7B3MXK2", "relay@contoso.com", 900)
XTERM = {"TERM": "xterm", "WT_SESSION": "one of Windows Terminal"}


class Tty(io.StringIO):
    """A terminal; `gone` is what every further write gets."""

    gone = None

    def __init__(self, encoding="utf-8"):
        super().__init__()
        self._encoding = encoding

    encoding = property(lambda self: self._encoding)

    def isatty(self):
        return True

    def write(self, text):
        if self.gone:
            raise self.gone
        return super().write(text)


def shown(columns=80, encoding="utf-8", **environ):
    stream = Tty(encoding)
    Screen(stream, {**XTERM, "COLUMNS": str(columns), **environ}).show(CODE)
    return stream.getvalue()


def test_a_terminal_shows_the_code_large_and_as_text():
    page = shown()
    assert "\x1b[1m  " in page and page.count("█") > 50
    assert "\n  GQ7B3MXK2\n" in page and CODE.address in page and "Sign in there as relay@contoso.com." in page
    assert "good for 15 minutes" in page and "If you give up, nothing is changed." in page
    assert "m365proxy status" in page


@each("columns, large", [(80, True), (63, True), (62, False), (40, False), (20, False)])
def test_no_line_is_wider_than_the_terminal(columns, large):
    page = shown(columns, NO_COLOR="1")
    assert ("█" in page) is large
    whole = (CODE.address, "`m365proxy status`.", CODE.user + ".")  # what is copied is not broken
    lines = [line for line in page.splitlines() if len(line) > columns]
    assert all(any(one in line for one in whole) for line in lines)
    assert large or "G Q 7 B 3 M X K 2" in page


def test_a_terminal_without_blocks_gets_ascii():
    page = shown(encoding="ascii", NO_COLOR="1")
    assert page.isascii() and page.count("#") > 50 and "\x1b" not in page


def test_a_code_that_has_no_large_letters():
    stream = Tty()
    Screen(stream, XTERM).show(CODE._replace(code="abc 123"))
    assert "█" not in stream.getvalue() and "a b c   1 2 3" in stream.getvalue()


@pytest.mark.parametrize("stream, environ", [(io.StringIO(), XTERM), (Tty(), {"TERM": "dumb"})])
def test_a_pipe_gets_one_line_and_no_countdown(stream, environ):
    screen = Screen(stream, environ)
    screen.show(CODE)
    screen.count_down(899.0)
    screen.say("Signed in.")
    assert stream.getvalue() == f"{CODE} Interrupt this command to give up; nothing is changed then.\nSigned in.\n"


def test_the_time_left_is_counted_down_in_place():
    stream = Tty()
    screen = Screen(stream, XTERM)
    for seconds in (605.0, 599.2, 0.0):
        screen.count_down(seconds)
    screen.say("Signed in.")
    assert stream.getvalue() == (
        "\rWaiting. 10:05 left. Ctrl-C: give up."
        "\rWaiting. 9:59 left. Ctrl-C: give up. "
        "\rWaiting. 0:00 left. Ctrl-C: give up."
        "\nSigned in.\n"
    )


def test_the_countdown_fits_a_narrow_terminal():
    stream = Tty()
    Screen(stream, {**XTERM, "COLUMNS": "20"}).count_down(600.0)
    assert stream.getvalue() == "\rWaiting. 10:00 left"


def test_only_the_line_of_the_countdown_is_ended():
    stream = Tty()
    screen = Screen(stream, XTERM)
    screen.say("")
    assert stream.getvalue() == ""
    screen.count_down(1.0)
    screen.say("")
    assert stream.getvalue().endswith("give up.\n")


GONE = [OSError(5, "Input/output error"), BrokenPipeError(32, "Broken pipe")]


@pytest.mark.parametrize("gone", GONE)
def test_a_terminal_that_goes_ends_nothing(gone):
    lost = []
    stream = Tty()
    screen = Screen(stream, XTERM, lost.append)
    screen.show(CODE)
    stream.gone = gone
    for _ in range(2):
        screen.count_down(5.0)
        screen.say("Signed in.")
    assert lost == [1]


def test_after_a_hangup_nothing_is_printed():
    lost = []
    stream = Tty()
    screen = Screen(stream, XTERM, lost.append)
    screen.leave()
    screen.say("Signed in.")
    assert stream.getvalue() == "" and lost == [1, 2]


@pytest.mark.parametrize("gone", GONE)
def test_a_code_that_nobody_sees_is_not_waited_for(gone):
    stream = Tty()
    stream.gone = gone
    with pytest.raises(CannotCreate, match="cannot be shown"):
        Screen(stream, XTERM, lambda descriptor: None).show(CODE)
    with pytest.raises(CannotCreate, match="cannot be shown"):
        Screen(None, XTERM).show(CODE)


# The command, with a sign-in that ends as it likes


@pytest.fixture
def ending(monkeypatch, tmp_path):
    """Run the command; `how` is called in place of the sign-in, with the tokens' state."""
    config = configured(tmp_path)

    def run(how):
        state = {"user": "relay@contoso.com", "signed_in_at": 5.0}

        class Tokens:
            def __init__(self, _config):
                self.tokens = self

            def state(self):
                return dict(state)

            def login(self, show, count_down):
                show(CODE)
                return how(state)

        monkeypatch.setattr(signin, "Account", Tokens)
        return signin.login(config)

    return run


def give_up(state, **changes):
    state.update(changes)
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "changes, words",
    [
        ({}, "Given up. Nothing was changed. relay@contoso.com is signed in as before.\n"),
        ({"signed_in_at": 9.0}, "Interrupted, but the sign-in was complete already: it is stored.\n"),
    ],
)
def test_giving_up_says_what_is_stored(ending, capsys, changes, words):
    with pytest.raises(KeyboardInterrupt):
        ending(lambda state: give_up(state, **changes))
    assert capsys.readouterr().out.endswith(words)


def test_giving_up_where_nobody_was_signed_in(ending, capsys):
    def how(state):
        state.update(user="", signed_in_at=0.0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ending(how)
    assert "is signed in" not in capsys.readouterr().out


def test_after_it_the_next_command_is_named(ending, capsys, monkeypatch):
    monkeypatch.setattr(invocation, "program", lambda path: f"python3 m365proxy.py --config {pathlib.Path(path).name}")
    assert ending(lambda state: "relay@contoso.com") is None
    next_one = "Signed in as relay@contoso.com. Next:\n`python3 m365proxy.py --config config.json check`.\n"
    assert capsys.readouterr().out.endswith(next_one)


def test_commands_on_the_screen_start_this_program():
    stream = Tty()
    Screen(stream, XTERM, program="python3 m365proxy.py").show(CODE)
    assert "`python3 m365proxy.py status`" in stream.getvalue()


def test_a_refusal_goes_on_to_the_command_line(ending):
    def how(state):
        raise SignInNeeded("Nobody signed in before the code expired.")

    with pytest.raises(SignInNeeded):
        ending(how)


def test_an_app_needs_no_sign_in(tmp_path, capsys):
    config = configured(tmp_path, user=None, client_secret="sandbox-secret")
    assert signin.login(config) is None
    assert "No sign-in is needed" in capsys.readouterr().out
    assert os.listdir(config.state_dir) == [] and pathlib.Path(config.state_dir).is_dir()
