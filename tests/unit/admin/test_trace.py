"""`trace`: the story of a message from events and queue, for people."""

import dataclasses
import json
import pathlib
import re
import sys
import time

import pytest
from cases import each

from m365proxy.account import spool_of
from m365proxy.admin import trace
from m365proxy.errors import UsageError
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.state import State
from m365proxy.system import events, files

SCANNER, UPS, SUPPORT = "scanner@contoso.com", "ups@contoso.com", "support@fabrikam.com"
REQUEST = "5f3c9c1e-4d0a-4a55-9d55-8c0f7e2b1a10"


@pytest.fixture
def event_log(config):
    made = events.EventLog(config.state_dir + "/events", 80_000)
    yield made
    made.close()


@pytest.fixture
def spool(config):
    made = spool_of(config)
    made.make()
    return made


def accept(event_log, id, sender=SCANNER, **fields):
    fields = {"client": "192.0.2.17", "login": "scan1", "recipients": [SUPPORT], "size": 48211, **fields}
    event_log.note("accepted", id=id, mailbox=sender, sender=sender, **fields)


def put(spool):
    incoming = spool.put(Envelope(SCANNER, SCANNER, (SUPPORT,)))
    incoming.write(b"Subject: x\r\n\r\nx\r\n")
    return incoming.commit()


@pytest.fixture
def tell(config, capsys, monkeypatch):
    """What is printed, in one line of blanks, the times as T."""
    monkeypatch.setenv("COLUMNS", "2000")

    def tell(what, since=0.0, as_json=False):
        assert trace.trace(config, what, since, as_json) is None
        printed = capsys.readouterr().out
        return printed if as_json else re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "T", printed)

    return tell


def test_a_message_that_was_delivered(event_log, tell):
    accept(event_log, "20261129T094207-aa-x", tls="TLSv1.2")
    event_log.note("deferred", id="20261129T094207-aa-x", reason="Graph is busy.", request_id="r1", seconds=5)
    event_log.note("delivered", id="20261129T094207-aa-x", request_id=REQUEST, seconds=6.2)
    accept(event_log, "20261129T094208-bb-x", UPS)
    assert tell("20261129T094207") == (
        "\n20261129T094207-aa-x\n"
        f"  {SCANNER} -> {SUPPORT}\n"
        "  T: accepted from 192.0.2.17, 48211 octets, login scan1, TLSv1.2\n"
        "  T: not sent: Graph is busy. (request-id r1)\n"
        f"  T: handed over to Exchange after 6.2 s (request-id {REQUEST})\n"
        "  Where it is now, Exchange knows: Exchange admin center, Mail flow, Message trace from "
        f"{SCANNER} to {SUPPORT}, about T. Microsoft's support asks for the request-id.\n"
    )


@pytest.mark.parametrize("what", [SCANNER, SCANNER.upper(), "scan1", "192.0.2.17", SUPPORT, "20261129T094207-aa-x"])
def test_all_that_names_it_finds_it(event_log, tell, what):
    accept(event_log, "20261129T094207-aa-x")
    accept(event_log, "20261129T094208-bb-x", UPS, client="192.0.2.18", login="ups", recipients=[UPS])
    told = tell(what)
    assert "aa-x" in told and "bb-x" not in told


posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows hands over Unicode")


def in_ascii(text):
    """As a terminal with LANG=C hands it over."""
    return text.encode().decode("ascii", "surrogateescape")


@pytest.mark.parametrize("login", ["CONTOSO\\scanner", 'the "old" one', "MÜLLER"])
@pytest.mark.parametrize("typed", [str, str.lower, pytest.param(in_ascii, marks=posix)])
def test_a_login_is_found_as_it_is_typed(event_log, tell, login, typed):
    event_log.note("login failed", client="192.0.2.17", service="smtp", login=login, reason="wrong password")
    assert login in tell(typed(login))


@pytest.mark.parametrize(
    "what, error", [("", "Nothing to look for"), (" ", "Nothing to look for"), ("\udcff", "Nothing is known")]
)
def test_what_is_no_name_at_all(event_log, tell, what, error):
    accept(event_log, "20261129T094207-aa-x")
    with pytest.raises(UsageError, match=error):
        tell(what)


def test_an_event_log_that_cannot_be_read_is_not_empty(config, tell):
    files.make_directory(config.state_dir)
    pathlib.Path(config.state_dir, "events").write_text("")
    with pytest.raises(NotADirectoryError):
        tell(SCANNER)


def test_a_closed_screen_stops_nothing(config, event_log, monkeypatch):
    accept(event_log, "20261129T094207-aa-x")
    monkeypatch.setattr(sys, "stdout", None)
    assert trace.trace(config, "scan1", 0.0, True) is None
    assert trace.trace(config, "scan1", 0.0, False) is None


@pytest.mark.parametrize("what", ["scan", "192.0.2.1", "contoso.com", "octets", "accepted", "094207"])
def test_a_part_of_a_name_is_no_name(event_log, tell, what):
    accept(event_log, "20261129T094207-aa-x")
    with pytest.raises(UsageError, match="Nothing is known of "):
        tell(what)


def test_a_client_that_was_refused(event_log, tell):
    event_log.note("login failed", client="192.0.2.17", service="smtp", login="scan1", reason="the password is wrong")
    event_log.note("refused", client="192.0.2.17", command="MAIL FROM:<x>", reply="550 5.7.60 no")
    event_log.note("refused", client="192.0.2.17", reply="452", reason="The disk is full.")
    event_log.note("throttled", client="192.0.2.17", mailbox=SCANNER, seconds=300.0)
    event_log.note("refused", client="192.0.2.99", reply="550 5.7.60 no")
    assert tell("192.0.2.17") == (
        "  T: 192.0.2.17 login failed (smtp, scan1): the password is wrong\n"
        '  T: 192.0.2.17 refused: "MAIL FROM:<x>": 550 5.7.60 no\n'
        "  T: 192.0.2.17 refused: 452: The disk is full.\n"
        f"  T: 192.0.2.17 Graph asked to leave {SCANNER} alone for 300 s\n"
    )


def place(spool, where):
    id = put(spool)
    claim = spool.claim(id)
    claim.state = State(due=time.time() + 900) if where == "deferred" else State()
    if where == "held":
        claim.mark_posting()
        claim.hold()
    elif where == "deferred":
        claim.defer()
    elif where == "failed":
        claim.fail()
    elif where == "waiting":
        claim.release()
    elif where == "gone":
        claim.remove_sent()
    return id


@pytest.mark.parametrize(
    "where, said",
    [
        ("waiting", "It waits in the queue. Send it now with `m365proxy queue retry ID`."),
        ("deferred", "It waits in the queue. Its next attempt is T at the latest. Send it now with"),
        ("sending", "It is being sent now."),
        ("held", "then run `m365proxy queue retry ID` or `m365proxy queue drop ID`."),
        ("failed", "It is kept in failed/. Send it again with `m365proxy queue retry ID`."),
        ("gone", "It is no longer in the queue, and the event log does not say why."),
    ],
)
def test_the_queue_says_how_a_message_stands(event_log, spool, tell, where, said):
    id = place(spool, where)
    accept(event_log, id)
    assert said in tell(id).replace(id, "ID")


@pytest.mark.parametrize("event", ["delivered", "dropped", "removed"])
def test_what_has_left_the_queue_is_not_looked_for_there(event_log, tell, event):
    accept(event_log, "20261129T094207-aa-x")
    event_log.note(event, id="20261129T094207-aa-x")
    assert "queue." not in tell("scan1").replace("queue.keep_failed_days", "")


def test_a_report_is_found_by_the_message_it_is_about(event_log, tell):
    event_log.note("reported", id="20261129T094209-cc-x", messages=["20261129T094207-aa-x"], recipients=[SCANNER])
    assert "the delivery report 20261129T094209-cc-x was queued" in tell("20261129T094207-aa-x")


def test_what_is_about_a_mailbox_only(event_log, tell):
    event_log.note("throttled", mailbox=SCANNER, seconds=7)
    assert tell(SCANNER) == f"  T: Graph asked to leave {SCANNER} alone for 7 s\n"


def test_of_many_recipients_some_are_named(event_log, tell):
    accept(event_log, "20261129T094207-aa-x", recipients=[f"r{number}@fabrikam.com" for number in range(12)])
    assert f"{SCANNER} -> r0@fabrikam.com, " in tell("scan1") and "r9@fabrikam.com and 2 more\n" in tell("scan1")


@pytest.mark.parametrize("octets, said", [(16, "The event log is empty."), (0, "is switched off (logging.events_mb)")])
def test_why_nothing_is_known(config, spool, octets, said):
    put(spool)  # the beginning of every ID is none
    config = dataclasses.replace(config, logging=dataclasses.replace(config.logging, events_mb=octets))
    with pytest.raises(UsageError, match=re.escape(said)):
        trace.trace(config, "20", 0.0, False)


def test_a_message_that_the_event_log_does_not_know(spool, tell):
    id = place(spool, "failed")
    assert tell(id[:20]) == f"\n{id}\n  It is kept in failed/. Send it again with `m365proxy queue retry {id}`.\n"


def test_a_narrow_terminal_breaks_lines_and_no_word(event_log, tell, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    accept(event_log, "20261129T094207-aa-x")
    lines = tell("scan1").replace("  T:", "  2026-11-29 09:42:07:").splitlines()
    assert max(map(len, lines)) <= 40 and "    192.0.2.17, 48211 octets, login" in lines


def test_the_last_twenty_are_shown(event_log, tell):
    for number in range(25):
        accept(event_log, f"20261129T0942{number:02}-aa-x")
        event_log.note("dropped", id=f"20261129T0942{number:02}-aa-x")
    told = tell(SCANNER)
    assert "5 earlier messages are not shown" in told
    assert re.findall(r"T0942(\d\d)", told) == [f"{number:02}" for number in range(5, 25)]


def test_json_is_the_events_as_they_are(event_log, tell):
    accept(event_log, "20261129T094207-aa-x", sender="größe@contoso.com")
    event_log.note("dropped", id="20261129T094207-aa-x")
    told = [json.loads(line) for line in tell("scan1", as_json=True).splitlines()]
    assert [event["event"] for event in told] == ["accepted", "dropped"]
    assert told[0]["sender"] == "größe@contoso.com"


def test_nothing_older_is_shown(event_log, tell):
    accept(event_log, "20261129T094207-aa-x")
    assert tell("scan1", since=time.time() - 60)
    with pytest.raises(UsageError):
        tell("scan1", since=time.time() + 60)


def test_damaged_lines_are_passed_over(config, event_log, tell):
    accept(event_log, "20261129T094207-aa-x")
    with open(config.state_dir + "/events/00000001.jsonl", "ab") as file:
        file.write(b'{"time": "2026-11-29T10:00:00.000Z", "id": "20261129T094207-aa-x"}\n')  # of no kind
        file.write(
            b'{"time": "9\n{"time": 5, "id": "20261129T094207-aa-x", "event": "x"}\n[]\n\xff\xfe\n{"time": "2026'
        )
    assert "accepted from" in tell("scan1")


@each("span, seconds", [("90s", 90), ("30m", 1800), ("2h", 7200), ("7D", 604800), (" 2h ", 7200), ("999999d", 1e10)])
def test_spans(span, seconds):
    assert trace.begin_of(span, 1e10) == max(0.0, 1e10 - seconds)


@each("span", ["", "2", "h", "2 h", "-2h", "2026-11-29", "1e3h"])
def test_what_is_no_span(span):
    with pytest.raises(UsageError, match="such as 30m, 2h or 7d"):
        trace.begin_of(span, 1e10)
