"""The mails of tests/corpus through the running program, small and large, and out again by POP3."""

import os
import re
import smtplib
import sys

import mailcorpus
import mailreader
import program as programs
import pytest
from mailreader import parsed
from pop3clients import CLIENTS, Case, by_fdm, by_getmail
from program import ALERTS, PASSWORD, SCANS, Program, wait_until

MAILS = {path.stem: path for path in sorted(mailcorpus.HERE.glob("*.eml"))}
SEALED = {name for name in MAILS if re.match("signed|encrypted", name)}

# For this program, each mail is a large one.
ALL_LARGE = """
import sys
from m365proxy.mime import prepare
prepare.LARGE_MIME_CEILING = 0
from m365proxy.cli import main
sys.exit(main())
"""


def started(program, **environ):
    program.sign_in().start(**environ)
    program.sandbox.tenant.drops_headers = program.sandbox.tenant.regenerate = False
    return program


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    program = started(Program(tmp_path_factory.mktemp("corpus")))
    try:
        yield program
        assert "Traceback" not in program.said()
    finally:
        program.close()


def carried(program):
    """(what arrived in the mailbox, what was refused), by the name in the Message-ID."""
    refused = {}
    with smtplib.SMTP("127.0.0.1", program.port("smtp"), timeout=60) as smtp:
        smtp.login(ALERTS, PASSWORD)
        for name, path in MAILS.items():
            raw = path.read_bytes()
            try:
                assert smtp.sendmail(ALERTS, [*mailcorpus.recipients(raw), SCANS], raw, ["BODY=8BITMIME"]) == {}
            except smtplib.SMTPDataError as error:
                refused[name] = error.smtp_error.decode()
    tenant = program.sandbox.tenant
    wait_until(lambda: len(tenant.delivered) == len(MAILS) - len(refused) and not program.queue(), what="deliveries")
    items = [tenant.value(item) if item.raw is None else item.raw for item in tenant.items(SCANS)]
    found = {re.search(r"(?im)^Message-ID:\s*<([\w-]+)@", raw.decode("latin-1")).group(1): raw for raw in items}
    return {name: raw for name, raw in found.items() if name in MAILS}, refused


@pytest.fixture(scope="module")
def small(running):
    return carried(running)


def test_small_mail_arrives_as_it_was_sent(small):
    found, refused = small
    wrong = {name: [why] for name, why in refused.items()}
    for name, raw in found.items():
        wrong[name] = mailreader.differences(mailcorpus.right(MAILS[name]), mailreader.shown(raw))
    assert MAILS.keys() - wrong.keys() == set()
    assert {name: why for name, why in wrong.items() if why} == {}


@pytest.mark.skipif("M365PROXY_TEST_COMMAND" in os.environ, reason="an installed program's limits cannot be set")
@pytest.mark.parametrize("exchange", ["keep", "forget_mime"])
def test_the_parts_of_large_mail_arrive_as_they_were_sent(tmp_path, monkeypatch, exchange):
    """As MIME with the large files added, and as JSON."""
    monkeypatch.setattr(programs, "COMMAND", [sys.executable, "-c", ALL_LARGE])
    program = started(Program(tmp_path, forked=False), PYTHONPATH=str(programs.ROOT))
    program.sandbox.tenant.mime_drafts_take_files = exchange
    try:
        found, refused = carried(program)
        assert refused.keys() == SEALED
        for name, raw in found.items():
            was, now = parsed(mailcorpus.arrived(MAILS[name].read_bytes())), mailreader.pieces(parsed(raw))
            assert list(missing(was, now)) == [], name
    finally:
        program.close()


def missing(was, now):
    """The parts that did not arrive, but for texts that say the same."""
    alternatives = {
        piece
        for part in was.walk()
        if part.get_content_type() == "multipart/alternative"
        for piece in mailreader.pieces(part)
    }
    names, contents = {piece.name for piece in now}, {piece.content for piece in now}
    for part, piece in mailreader.leaves(was):
        content = piece.content
        if part["Content-Type"] is None and piece.disposition:  # a file without a type is no text
            content = (mailreader.escaped(part.get_payload(decode=True)),)
        if piece.kind.startswith("message/"):
            here = piece.content in contents or any(name.endswith((".eml", ".txt")) for name in names)
        else:
            here = content in contents and (piece.name in names or not piece.name)
        if not here and not (piece.kind.startswith("text/") and (piece in alternatives or not any(piece.content))):
            yield piece


@pytest.mark.parametrize("client", [*CLIENTS, by_fdm], ids=lambda client: client.__name__[3:])
def test_pop3_clients_read_them_without_a_difference(running, small, tmp_path, client):
    if client is by_getmail:
        pytest.skip("getmail6 writes header fields anew: the next test")
    raws = {name.encode("ascii"): raw for name, raw in small[0].items()}
    case = Case(running, tmp_path, "plain", False, raws)
    case.check(client(case))


def test_getmail_reads_them_without_a_difference(running, small, tmp_path):
    """It takes a tenth of a second for each, and folds header fields in its own way."""
    chosen = dict(list(small[0].items())[::4])
    case = Case(running, tmp_path, "plain", False, {name.encode("ascii"): raw for name, raw in chosen.items()})
    added = ["Return-Path", "Delivered-To", "Received"]
    assert sorted(mailreader.shown(raw, added) for raw in by_getmail(case)) == sorted(
        map(mailreader.shown, chosen.values())
    )
