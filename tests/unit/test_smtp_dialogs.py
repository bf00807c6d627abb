"""Each tests/dialogs/smtp_*.txt is a conversation, played against a real listener (README.md there)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from smtp_harness import Harness, Users, user

SCRIPTS = sorted((Path(__file__).parents[1] / "dialogs").glob("smtp_*.txt"))
NUMBERS = ("size_limit", "recipients", "errors")


def _harness(script, certificate):
    words = " ".join(line[len("given:") :] for line in script if line.startswith("given:")).split()
    named = dict(word.split("=") for word in words if "=" in word)
    policy = {name: int(named.pop(name)) for name in NUMBERS if name in named}
    if "domains" in named:
        policy["allowed_domains"] = tuple(named.pop("domains").split(","))
    person = user(rewrite_from="rewrite-from" in words, send_as=("reports@contoso.com", "*@fabrikam.com"))
    if "no-plaintext" in words:
        policy["plaintext_networks"] = ()
    if "relay" in words:
        policy["relay"] = lambda peer: user("alerts@contoso.com", login="")
    assert not named
    assert set(words) <= {"tls", "tls-required", "no-plaintext", "relay", "rewrite-from", "lf-only"} | {
        w for w in words if "=" in w
    }
    return Harness(
        certificate if "tls" in words else None,
        tls_required="tls-required" in words,
        lf_only_clients="lf-only" in words,
        users=Users(person),
        **policy,
    )


def _octets(text):
    return ast.literal_eval('b"' + text.replace('"', '\\"') + '"')


def _envelope(envelope, wanted):
    for word in wanted.split():
        name, _, value = word.partition("=")
        found = getattr(envelope, name)
        yield (",".join(found) if isinstance(found, tuple) else found) == value


def _play(row, talk, harness):
    """Do one row; returns what went wrong, or ""."""
    kind, _, text = row.partition(":")
    text = text[1:]
    accepted = harness.spool.accepted
    if kind == "C":
        talk.send(text.encode("utf-8") + b"\r\n")
    elif kind == "octets":
        talk.send(_octets(text))
    elif kind == "handshake":
        talk.start_tls()
    elif row == "S: <closed>":
        return "" if talk.closed() else "still open"
    elif kind == "S":
        line = talk.line().decode("ascii")
        fits = line.startswith(text[:-3]) if text.endswith("...") else line == text
        return "" if fits else f"got {line!r}"
    elif kind == "accepted":
        return "" if accepted and accepted[-1].content == _octets(text) else f"got {accepted and accepted[-1].content}"
    elif kind == "envelope":
        return "" if accepted and all(_envelope(accepted[-1].envelope, text)) else f"got {accepted[-1].envelope}"
    elif kind == "count":
        return "" if len(accepted) == int(text) else f"{len(accepted)} accepted"
    else:
        return "" if kind == "given" or not row or row.startswith("#") else "no part of a dialogue"
    return ""


def test_there_are_scripts():
    assert len(SCRIPTS) >= 30


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_dialog(path, certificate):
    script = path.read_text("utf-8").splitlines()
    with _harness(script, certificate) as harness, harness.client(greeted=False) as talk:
        for number, row in enumerate(script, 1):
            problem = _play(row, talk, harness)
            assert not problem, f"line {number}: {row}: {problem}"
    assert not harness.spool.open_ones
