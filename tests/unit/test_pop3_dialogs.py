"""Each tests/dialogs/pop3_*.txt is a conversation, played over a socketpair (README.md there)."""

from __future__ import annotations

import ssl
from pathlib import Path

from cases import each
from pop3_harness import MESSAGES, Harness

SCRIPTS = sorted((Path(__file__).parents[1] / "dialogs").glob("pop3_*.txt"))


def _settings(script):
    words = " ".join(line[len("given:") :] for line in script if line.startswith("given:")).split()
    named = dict(word.split("=") for word in words if "=" in word)
    more = {"errors": int(named["errors"])} if "errors" in named else {}
    if "tls" in words:
        more["tls"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    harness = Harness(() if "empty" in words else MESSAGES, peer=named.get("peer", "127.0.0.1"), **more)
    return harness.logged_in() if "logged-in" in words else harness


def _matches(wanted, line):
    if wanted.endswith("..."):
        return line.startswith(wanted[:-3])
    return line == wanted


def test_there_are_scripts():
    assert len(SCRIPTS) >= 10


@each("path", SCRIPTS, ids=lambda path: path.stem)
def test_dialog(path):
    script = path.read_text("utf-8").splitlines()
    with _settings(script) as harness:
        for number, row in enumerate(script, 1):
            if row.startswith("C: ") or row == "C:":
                harness.say(row[3:].encode("latin-1"))
            elif row == "S: <closed>":
                assert harness.file.readline() == b"", f"line {number}: still open"
            elif row.startswith("S: ") or row == "S:":
                line = harness.line().decode("latin-1")
                assert _matches(row[3:], line), f"line {number}: wanted {row[3:]!r}, got {line!r}"
            else:
                assert not row or row.startswith(("#", "given:")), f"line {number} is no part of a dialogue"
