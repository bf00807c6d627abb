"""Whole SMTP sessions of broken and hostile clients, and everything SMTP parses.

A long run: M365PROXY_FUZZ_EXAMPLES=20000 python -m pytest --timeout=0 -p no:logging tests/fuzz/test_smtp.py, again and
again: hypothesis keeps what it has tried in memory.
What it finds goes to corpus/smtp/, a file of raw octets each, which every run plays again.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import logging
import os
import pathlib
import re
import socket
import threading

import pytest
from smtp_harness import LOOPBACK, PASSWORD, Harness, Users, user
from waiting import wait_until

from m365proxy.logins import sasl
from m365proxy.logins.sasl import Malformed
from m365proxy.mime.addresses import valid_address
from m365proxy.server.connections import Connections
from m365proxy.smtp import syntax
from m365proxy.smtp.dotreader import DotReader, LfDotReader

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

EXAMPLES = int(os.environ.get("M365PROXY_FUZZ_EXAMPLES", "100"))
short = hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None)
CORPUS = sorted((pathlib.Path(__file__).parent / "corpus" / "smtp").iterdir())

OWNER = user("scanner@contoso.com", send_as=("*@fabrikam.com",))
SIGN_IN = b"AUTH PLAIN AHNjYW5uZXJAY29udG9zby5jb20AcGFzcyB3b3Jk\r\n"

# -- sessions --------------------------------------------------------------

verbs = st.sampled_from(
    [
        b"EHLO",
        b"HELO",
        b"STARTTLS",
        b"AUTH",
        b"MAIL",
        b"RCPT",
        b"DATA",
        b"BDAT",
        b"RSET",
        b"NOOP",
        b"VRFY",
        b"EXPN",
        b"HELP",
        b"QUIT",
        b"mail",
        b"Rcpt",
        b"data",
        b"GET",
        b"PROXY",
        b"XCLIENT",
        b"",
        b"\0",
        b"\x16\x03",
        b"\xff",
    ]
)
arguments = st.one_of(
    st.lists(
        st.sampled_from(
            [
                b"FROM:",
                b"TO:",
                b"from :",
                b"To",
                b"<",
                b">",
                b"<>",
                b"scanner@contoso.com",
                b"a@b.example",
                b"@x:",
                b"boss@contoso.com",
                b"postmaster",
                b'"a b"@c',
                b'"Name" ',
                b"(none)",
                b"@[10.0.0.1]",
                b"AUTH=<>",
                b"j\xc3\xbc@c.example",
                b"\xff",
                b" ",
                b" ",
                b"\t",
                b"\\",
                b'"',
                b"SIZE=",
                b"99999999999",
                b"-1",
                b"BODY=8BITMIME",
                b"BODY=BINARYMIME",
                b"SMTPUTF8",
                b"RET=FULL",
                b"ENVID=",
                b"NOTIFY=NEVER",
                b"ORCPT=rfc822;",
                b"x" * 300,
                b"=",
                b"+2B",
                b"XNEW=1",
            ]
        ),
        max_size=8,
    ).map(b"".join),
    st.sampled_from(
        [
            b"FROM:<>",
            b"FROM:<scanner@contoso.com>",
            b"TO:<a@contoso.com>",
            b"TO:a@contoso.com NOTIFY=NEVER",
            b"PLAIN",
            b"LOGIN",
            b"PLAIN =",
            b"PLAIN AHNjYW5uZXJAY29udG9zby5jb20AcGFzcyB3b3Jk",
            b"PLAIN AAA=",
            b"LOGIN c2Nhbm5lckBjb250b3NvLmNvbQ==",
            b"CRAM-MD5",
            b"5",
            b"5 LAST",
            b"0 LAST",
            b"0",
            b"70000",
            b"1 x",
            b"99999999999999999999999",
            b"device.contoso.com",
            b"[192.0.2.7]",
        ]
    ),
    st.binary(max_size=20),
)
ends = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\0\r\n", b""])
commands = st.tuples(verbs, st.sampled_from([b" ", b" ", b"", b"\t", b"  "]), arguments, ends).map(b"".join)
bodies = st.sampled_from(
    [
        b"*\r\n",
        b"cGFzcyB3b3Jk\r\n",
        b"AHNjYW5uZXJAY29udG9zby5jb20AcGFzcyB3b3Jk\r\n",
        b"=\r\n",
        b"Subject: x\r\n\r\n",
        b".\r\n",
        b"\r\n.\r\n",
        b"\n.\n",
        b"\n.\r\n",
        b"\r.\r",
        b"\r\n.\n",
        b"\r\n.\r",
        b"..\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"x" * 5000,
        b"\0" * 10,
        b"\x16\x03\x01\x00\x05",
        b"QUIT\r\n",
        b"x\r\n.\r\nMAIL FROM:<>\r\n",
    ]
)
transactions = st.sampled_from(
    [
        b"MAIL FROM:<>\r\nRCPT TO:<a@contoso.com>\r\n",
        b"MAIL FROM:<>\r\nRCPT TO:<a@contoso.com>\r\nDATA\r\n",
        b"MAIL FROM:<>\nRCPT TO:<a@contoso.com>\nDATA\n",
        b"MAIL FROM:<>\r\nRCPT TO:<a@contoso.com>\r\nBDAT 3\r\nabc",
    ]
)
pieces = st.one_of(commands, commands, bodies, transactions)
beginnings = st.sampled_from([b"", SIGN_IN, SIGN_IN, SIGN_IN.replace(b"\r", b"")])
scripts = st.tuples(beginnings, st.lists(pieces, max_size=20)).map(lambda pair: pair[0] + b"".join(pair[1]))
headers = st.sampled_from(
    [
        b"PROXY TCP4 192.0.2.7 127.0.0.1 5 25\r\n",
        b"PROXY UNKNOWN\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY ",
        b"",
        b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\7\x7f\0\0\1\0\5\0\x19",
        b"\x16",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    ]
)


@pytest.fixture(scope="module")
def harnesses(certificate):
    """(plain with STARTTLS, with lf_only_clients, behind a proxy), each with a limit on mail and errors."""
    common = {"errors": 12, "size_limit": 20000, "recipients": 5}
    proxied = Connections(proxies=LOOPBACK)
    networks = (*LOOPBACK, ipaddress.ip_network("192.0.2.0/24"))
    before = set(threading.enumerate())
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(Harness(users=Users(OWNER), **common, **more))
            for more in (
                {"certificate": certificate},
                {"lf_only_clients": True},
                {"connections": proxied, "plaintext_networks": networks},
            )
        ]
    wait_until(lambda: set(threading.enumerate()) <= before, what="the end of the threads")


class Faults(logging.Handler):
    """Errors in the log.  caplog would keep every line of a long run."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


@pytest.fixture(autouse=True)
def no_fault():
    faults = Faults()
    logging.getLogger("m365proxy").addHandler(faults)
    yield
    logging.getLogger("m365proxy").removeHandler(faults)
    assert not faults.lines


def play(harness, script, cuts=()):
    """All that comes back; None if the connection was reset with octets still on their way."""
    with socket.create_connection(("127.0.0.1", harness.listener.port), timeout=20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        try:
            for start, end in zip([0, *cuts], [*cuts, len(script)]):
                client.sendall(script[start:end])
            client.shutdown(socket.SHUT_WR)
            while True:
                data = client.recv(65536)
                if not data:
                    # What follows is TLS: an alert, or nothing if commands had come along with STARTTLS.
                    return re.sub(rb"(?s)(Ready to start TLS\r\n).*", rb"\1", received)
                received += data
        except (ConnectionError, OSError) as error:
            assert not isinstance(error, socket.timeout), "no end"
            return None


REPLY = re.compile(rb"[2-5][0-5]\d(?:-[ -~]*\r\n[2-5][0-5]\d)*(?: [ -~]*)\r\n")


def check(harness, script, answer):
    """What must be so of every session."""
    if answer is not None:
        assert re.fullmatch(rb"(?:%s)*" % REPLY.pattern, answer), answer
        assert all(len(line) < 512 for line in answer.split(b"\n"))
    deadline = threading.Event()
    for _ in range(2000):
        if not len(harness.connections):
            break
        deadline.wait(0.005)
    assert not len(harness.connections), "the session goes on"
    accepted, begun = harness.spool.accepted, harness.spool.begun
    assert not harness.spool.open_ones
    if answer is not None:
        assert answer.count(b"250 2.0.0 Ok: queued as ID") == len(accepted)
    for one in accepted:
        assert one.size <= 20000
        assert one.envelope.mailbox == OWNER.mailbox and OWNER.may_send_as(one.envelope.sender)
        assert 1 <= len(one.envelope.recipients) <= 5
        assert all(valid_address(recipient) for recipient in one.envelope.recipients)
    if accepted:  # nobody sends who did not sign in
        assert (OWNER.mailbox, PASSWORD) in {(login, password) for login, password, _, _ in harness.users.seen}
    found = [(one.envelope.sender, one.envelope.recipients, one.content) for one in accepted]
    del accepted[:], begun[:], harness.users.seen[:]
    return found


def check_both_ways(harness, script, cuts):
    """In one piece and in several: what is said and what is accepted is the same."""
    whole = play(harness, script)
    accepted = check(harness, script, whole)
    parts = play(harness, script, sorted(cut % (len(script) + 1) for cut in cuts))
    again = check(harness, script, parts)
    if whole is not None and parts is not None:
        assert parts == whole
        assert again == accepted


@short
@hypothesis.given(scripts, st.sampled_from([0, 1]), st.lists(st.integers(0, 5000), max_size=6))
def test_a_session_is_orderly_whatever_comes(harnesses, script, which, cuts):
    check_both_ways(harnesses[which], script, cuts)


@short
@hypothesis.given(headers, scripts, st.lists(st.integers(0, 200), max_size=6))
def test_a_session_behind_a_proxy(harnesses, header, script, cuts):
    check_both_ways(harnesses[2], header + script, cuts)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_corpus(harnesses, path):
    script = path.read_bytes()
    for harness in harnesses:
        check_both_ways(harness, script, range(1, min(len(script), 60)))


def test_the_servers_still_answer(harnesses):
    for harness in harnesses[:2]:
        assert play(harness, b"QUIT\r\n").startswith(b"220 ")


# -- parsers ---------------------------------------------------------------


@short
@hypothesis.given(st.one_of(commands, st.binary(max_size=100)))
def test_any_command(line):
    verb, argument = syntax.command(line.rstrip(b"\r\n"))
    assert verb == verb.strip(" \t") and " " not in verb
    for keyword in ("FROM", "TO"):
        try:
            address, parameters = syntax.path(argument, keyword)
        except Malformed:
            continue
        assert all(key and key == key.upper() for key in parameters)
        notes = syntax.delivery_notes(parameters)
        assert all(
            " " not in getattr(notes, name) and "\r" not in getattr(notes, name) for name in ("ret", "envid", "orcpt")
        )
        if valid_address(address):
            assert not set(address) & set('<>", \t\r\n')


@short
@hypothesis.given(st.one_of(arguments, st.integers(-5, 10**30).map(lambda number: b"%d LAST" % number)))
def test_any_chunk(octets):
    try:
        size, last = syntax.chunk(octets.decode("latin-1"))
    except Malformed:
        return
    assert size >= 0 and isinstance(last, bool)


@short
@hypothesis.given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: base64.b64encode(raw).decode()))
def test_any_sign_in(text):
    try:
        octets = sasl.unbase64(text)
        identity, login, password = sasl.plain(octets)
    except Malformed:
        return
    assert "\0" not in identity + login + password


data_pieces = st.sampled_from([b"\r\n.\r\n", b"\r\n..", b"\r\n.", b"\r\n", b"\n.\n", b"\n", b"\r", b".", b"..", b"x"])
chunked = st.lists(st.lists(data_pieces, max_size=6).map(b"".join), max_size=8)


def expected(data, end):
    """(content, rest or None) by the letter of RFC 5321 4.5.2, with `end` for CRLF."""
    text = end + data
    found = text.find(end + b"." + end)
    if found < 0:
        return None
    return text[: found + len(end)].replace(end + b".", end)[len(end) :], text[found + 2 * len(end) + 1 :]


@short
@hypothesis.given(chunked)
def test_the_end_of_data_does_not_depend_on_the_chunks(chunks):
    wanted = expected(b"".join(chunks), b"\r\n")
    assert feed(DotReader(), chunks) == wanted


@short
@hypothesis.given(chunked)
def test_the_end_of_data_with_bare_lf(chunks):
    chunks = [chunk.replace(b"\r", b"") for chunk in chunks]
    assert feed(LfDotReader(), chunks) == expected(b"".join(chunks), b"\n")


@short
@hypothesis.given(chunked)
def test_the_first_cr_ends_leniency(chunks):
    """Where a CR came before LF.LF, only CRLF.CRLF ends the data."""
    data = b"".join(chunks)
    hypothesis.assume(b"\r" in data)
    before, behind = data[: data.index(b"\r")], data[data.index(b"\r") :]
    ended = b"\n.\n" in b"\n" + before or b"\r\n.\r\n" in behind
    assert (feed(LfDotReader(), chunks) is not None) == ended


def feed(reader, chunks):
    content = b""
    for number, chunk in enumerate(chunks):
        content += reader.feed(chunk)
        if reader.done:
            return content, reader.rest + b"".join(chunks[number + 1 :])
    return None
