"""Whole POP3 sessions of broken and hostile clients, and everything POP3 parses: messages, listings, ledgers."""

from __future__ import annotations

import json
import os
import socket
import tempfile

import pytest
from pop3_harness import MESSAGES, Harness, as_served

from m365proxy.errors import ProxyError
from m365proxy.maildrop.folders import Folders
from m365proxy.maildrop.item import Snapshot
from m365proxy.maildrop.ledger import Ledger
from m365proxy.maildrop.listing import Listings
from m365proxy.maildrop.table import Table
from m365proxy.maildrop.top import top
from m365proxy.pop3.dotwriter import stuffed

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

EXAMPLES = int(os.environ.get("M365PROXY_FUZZ_EXAMPLES", "100"))
short = hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None)

# -- sessions

SIGN_IN = b"USER scanner@contoso.com\r\nPASS pass word\r\n"

numbers = st.sampled_from([b"0", b"1", b"2", b"3", b"4", b"-1", b"01", b"9" * 40, b"\xb2", b"1.0", b"", b"x"])
words = st.sampled_from(
    [
        b"USER",
        b"PASS",
        b"AUTH",
        b"STLS",
        b"CAPA",
        b"QUIT",
        b"UTF8",
        b"STAT",
        b"LIST",
        b"UIDL",
        b"RETR",
        b"TOP",
        b"DELE",
        b"RSET",
        b"NOOP",
        b"retr",
        b"Quit",
        b"APOP",
        b"HELO",
        b"GET",
        b"",
        b"\0",
        b"\xff\xfe",
        b" LIST",
    ]
)
arguments = st.one_of(
    numbers,
    st.tuples(numbers, numbers).map(b" ".join),
    st.sampled_from(
        [
            b"scanner@contoso.com",
            b"pass word",
            b"PLAIN",
            b"PLAIN AHNjYW5uZXJAY29udG9zby5jb20AcGFzcyB3b3Jk",
            b"LOGIN",
            b"PLAIN =",
            b"*",
            b"AAAA",
            b"x" * 600,
            b"CRAM-MD5",
            b"\xc3\xa9",
            b"  1  2 ",
        ]
    ),
    st.binary(max_size=20),
)
ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\0\r\n", b"\r\r\n"])
lines = st.tuples(words, st.sampled_from([b" ", b" ", b"", b"\t"]), arguments, ends).map(b"".join)
scripts = st.tuples(st.sampled_from([b"", SIGN_IN, SIGN_IN]), st.lists(lines, max_size=25)).map(
    lambda pair: pair[0] + b"".join(pair[1])
)


@short
@hypothesis.given(scripts)
def test_a_session_answers_in_lines_and_deletes_at_quit_only(script):
    with Harness(errors=30) as harness:
        harness.client.sendall(script)
        harness.client.shutdown(socket.SHUT_WR)
        answer = harness.file.read()
        harness.ended()
        assert answer.startswith(b"+OK m365proxy") and answer.endswith(b"\r\n")
        assert answer.count(b"\r\n") == answer.count(b"\n") == answer.count(b"\r")
        if harness.drop.deletions:
            (deleted,) = harness.drop.deletions
            assert deleted == sorted(set(deleted)) and set(deleted) <= set(range(len(MESSAGES)))
            assert b"quit" in script.lower() and b"dele" in script.lower()
            assert answer.endswith(b"+OK Bye.\r\n")
        assert bool(harness.maildrops.opened) <= bool(harness.drop.closed)


@short
@hypothesis.given(
    st.lists(st.sampled_from(["RETR", "TOP", "DELE", "LIST", "UIDL", "RSET", "NOOP", "STAT"]), max_size=20),
    st.lists(st.integers(0, 4), min_size=20, max_size=20),
)
def test_a_well_behaved_session_keeps_count(verbs, chosen):
    """Against a model: which messages are marked, what each command therefore answers."""
    marked = set()
    with Harness(errors=1000).logged_in() as harness:
        for verb, number in zip(verbs, chosen):
            known = 1 <= number <= len(MESSAGES) and number not in marked
            takes = {"TOP": f"TOP {number} 99", "RSET": "RSET", "NOOP": "NOOP", "STAT": "STAT"}
            answer = harness.ask(takes.get(verb, f"{verb} {number}").encode())
            good = known or verb in ("RSET", "NOOP", "STAT")
            assert answer.startswith(b"+OK" if good else b"-ERR")
            if good and verb in ("RETR", "TOP"):
                raw = b"".join(line[line.startswith(b".") :] + b"\r\n" for line in harness.lines())
                assert raw == harness.drop.raws[number - 1]
            if good and verb == "DELE":
                marked.add(number)
            if verb == "RSET":
                marked.clear()
            if verb == "STAT":
                left = [len(raw) for place, raw in enumerate(harness.drop.raws, 1) if place not in marked]
                assert answer == b"+OK %d %d" % (len(left), sum(left))
        assert harness.ask(b"QUIT") == b"+OK Bye."
        harness.ended()
    assert harness.drop.deletions == ([[number - 1 for number in sorted(marked)]] if marked else [])


# -- messages

pieces = st.lists(
    st.sampled_from([b".", b"..", b"\r", b"\n", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"x", b"\xff\0", b""]), max_size=20
)


@short
@hypothesis.given(pieces, pieces, st.integers(0, 5))
def test_octets_do_not_depend_on_the_pieces(first, second, count):
    raw = b"".join(first + second)
    whole = b"".join(as_served([raw]))
    assert b"".join(as_served(first + second)) == whole
    assert whole.count(b"\r\n") == whole.count(b"\n") == whole.count(b"\r")
    assert whole == b"" or whole.endswith(b"\r\n")
    sent = b"".join(stuffed(as_served(first + second)))
    assert sent == b"".join(stuffed([whole]))
    assert sent.endswith(b".\r\n") and (b"\r\n" + sent).count(b"\r\n.\r\n") == 1
    cut = b"".join(top(iter(first + second), count))
    assert raw.startswith(cut) and cut == b"".join(top([raw], count))


# -- what Graph says

junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=8,
)
ids = st.sampled_from(["a", "b", "c", "", "\u00e9", 5, None])
entries = st.one_of(
    junk,
    st.fixed_dictionaries(
        {"id": ids},
        optional={
            "receivedDateTime": st.one_of(st.sampled_from(["2026-01-01T00:00:00Z", "2026"]), junk),
            "@removed": junk,
            "singleValueExtendedProperties": st.one_of(
                junk, st.lists(st.fixed_dictionaries({"id": st.just("Long 0xe08"), "value": junk}), max_size=2)
            ),
        },
    ),
)
links = st.sampled_from(["https://graph.example/1", "https://graph.example/2", "", None, 5])
pages = st.one_of(
    junk,
    st.fixed_dictionaries(
        {"value": st.one_of(junk, st.lists(entries, max_size=5))},
        optional={"@odata.nextLink": links, "@odata.deltaLink": links},
    ),
)


class Answer:
    status = 200
    ok = True

    def __init__(self, value):
        self._value = value

    def json(self):
        return self._value if isinstance(self._value, dict) else {}


class Graph:
    """Gives the pages in turn, whatever is asked for, and then empty ones that end."""

    user = "alerts@contoso.com"
    app = ""

    def __init__(self, given):
        self._given = list(given)

    def throttled_for(self, mailbox):
        return 0.0

    def read(self, *_, **__):
        end = {"value": [], "@odata.deltaLink": "https://graph.example/end"}
        return Answer(self._given.pop(0) if self._given else end)

    def follow(self, mailbox, url, headers=None):
        assert isinstance(url, str) and url
        return self.read()


@short
@hypothesis.given(st.lists(pages, max_size=6), st.sampled_from(["", "https://graph.example/0"]))
def test_any_listing_is_a_listing_or_an_error(given, link):
    graph = Graph(given)
    listings = Listings(graph, Folders(graph, sleep=lambda seconds: None, clock=lambda: 0.0), lambda: 0.0)
    try:
        found, next_link, _ = listings.track("scanner@contoso.com", "inbox", Table(), link)
    except ProxyError:
        return
    assert isinstance(next_link, str)
    for item in Snapshot(found):
        assert item.id and isinstance(item.id, str)
        assert isinstance(item.size, int) and item.size > 0 and isinstance(item.received, int)


heads = st.fixed_dictionaries({"format": st.just(2), "written": junk, "link": junk, "messages": st.integers(0, 5)})
columns = st.lists(st.lists(st.one_of(junk, st.integers(), st.text()), max_size=3), max_size=5)


@short
@hypothesis.given(st.lists(st.one_of(junk, heads, columns), max_size=4))
def test_any_ledger_is_one_or_none(lines):
    with tempfile.TemporaryDirectory() as directory:
        Ledger(directory, ("key",)).save(Table(), "x")
        (name,) = os.listdir(directory)
        with open(os.path.join(directory, name), "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        ledger = Ledger(directory, ("key",))
        assert isinstance(ledger.link, str)
        for item in Snapshot(ledger.messages):
            assert len(item.uidl) == 40
