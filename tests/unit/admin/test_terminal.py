"""Printing for people: what a stream can show, marks, and lines as wide as the terminal."""

import io
import os
import sys

import pytest
from cases import each

from m365proxy.admin import terminal
from m365proxy.admin.terminal import Mark, Terminal


class Screen(io.TextIOWrapper):
    """A stream; a terminal if it says so."""

    def __init__(self, encoding="utf-8", tty=True):
        super().__init__(io.BytesIO(), encoding=encoding, newline="")
        self.tty = tty

    def isatty(self):
        super().isatty()  # ValueError if it is closed
        return self.tty

    def shown(self):
        return self.buffer.getvalue().decode(self.encoding)


def made(encoding="utf-8", tty=True, **environ):
    return Terminal(Screen(encoding, tty), {"TERM": "xterm", **environ})


@pytest.mark.parametrize(
    "encoding, tty, environ, colour, unicode",
    [
        ("utf-8", True, {}, True, True),
        ("utf-8", True, {"NO_COLOR": "1"}, False, True),
        ("utf-8", True, {"NO_COLOR": ""}, True, True),
        ("utf-8", True, {"TERM": "dumb"}, False, True),
        ("utf-8", True, {"TERM": "linux"}, True, False),
        ("utf-8", False, {"TERM": "linux"}, False, True),
        ("ascii", True, {}, True, False),
        ("latin-1", True, {}, True, False),
        ("cp437", True, {}, True, False),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="TERM says nothing on Windows")
def test_colour_and_characters(encoding, tty, environ, colour, unicode):
    found = made(encoding, tty, **environ)
    assert (found.colour, found.unicode) == (colour, unicode)


@pytest.mark.parametrize("environ, knows", [({}, False), ({"WT_SESSION": "1"}, True)])
def test_on_windows_only_the_new_terminal_has_colour_and_marks(monkeypatch, environ, knows):
    monkeypatch.setattr(terminal.os, "name", "nt")
    found = made(**environ)
    assert (found.colour, found.unicode) == (knows, knows)


def test_no_term_is_no_colour():
    assert not Terminal(Screen(), {}).colour


def test_a_closed_stream_shows_nothing():
    for stream in (None, Screen()):
        if stream:
            stream.close()
        found = Terminal(stream, {"TERM": "xterm"})
        assert (found.colour, found.interactive, found.width) == (False, False, 80)
    Terminal(None, {}).line("nobody sees this")


@each("columns, width", [("40", 40), ("3", 20), ("0", 80), ("", 80), ("many", 80), ("²", 80), ("200", 200)])
def test_the_width_is_what_the_environment_says(columns, width):
    assert made(COLUMNS=columns).width == width


@pytest.mark.parametrize("columns, width", [(40, 40), (8, 20), (0, 80)])
def test_else_the_width_is_the_terminals(monkeypatch, columns, width):
    monkeypatch.setattr(terminal.os, "get_terminal_size", lambda handle: os.terminal_size((columns, 24)))
    stream = Screen()
    stream.fileno = lambda: 1
    assert Terminal(stream, {}).width == width


def test_interactive_is_with_somebody_at_both_ends(monkeypatch):
    for stdin, there in ((Screen(tty=True), True), (Screen(tty=False), False), (None, False)):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert made().interactive is there
        assert not made(tty=False).interactive


def test_nobody_sits_at_the_null_device():
    """Windows counts NUL among the terminals: a command started without input would wait for a password for ever."""
    with open(os.devnull) as null:
        assert not terminal.is_terminal(null)


@each(
    "kind, plain, ascii, coloured",
    [
        (Mark.OK, "✓", "ok", "\x1b[32m✓\x1b[0m"),
        (Mark.ATTENTION, "!", "! ", "\x1b[33m!\x1b[0m"),
        (Mark.WRONG, "✗", "x ", "\x1b[1;31m✗\x1b[0m"),
        (Mark.SKIPPED, "-", "- ", "\x1b[2m-\x1b[0m"),
        (Mark.INFO, "-", "- ", "-"),
    ],
)
def test_marks(kind, plain, ascii, coloured):
    assert made(tty=False).mark(kind) == plain
    assert made("ascii", tty=False).mark(kind) == ascii
    assert made(WT_SESSION="1").mark(kind) == coloured


def test_bold():
    assert made(WT_SESSION="1").bold("here") == "\x1b[1mhere\x1b[0m"
    assert made(tty=False).bold("here") == "here"


@each(
    "text, wrapped",
    [
        ("", ""),
        ("one line", "  one line"),
        ("exactly as wide as it", "  exactly as wide as\n  it"),
        ("18 columns are here.", "  18 columns are\n  here."),
        ("18 columns it is ok", "  18 columns it is\n  ok"),
        ("a line\n\nand another", "  a line\n\n  and another"),
        ("do: `apt install python3-msal` now", "  do:\n  `apt install python3-msal`\n  now"),
        ("in (`a b c d e f g h`), and", "  in\n  (`a b c d e f g h`),\n  and"),
        ("mail longer.than.the.line@contoso.com", "  mail\n  longer.than.the.line@contoso.com"),
        ("a lone ` of no pair at all", "  a lone ` of no\n  pair at all"),
        ("\x1b[1mbold\x1b[0m takes no columns", "  \x1b[1mbold\x1b[0m takes no\n  columns"),
    ],
)
def test_wrapping(text, wrapped):
    assert made(COLUMNS="20").wrap(text, "  ") == wrapped


def test_a_line_is_shown_at_once():
    screen = Screen()
    found = Terminal(screen, {})
    found.line("first")
    assert screen.shown() == "first\n"
    found.line()
    assert screen.shown() == "first\n\n"
