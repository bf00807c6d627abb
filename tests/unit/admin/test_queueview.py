"""How messages of the queue are shown: a list for people, one message, and JSON."""

import io
import pathlib
import time

import pytest

from m365proxy.admin import queueview
from m365proxy.admin.terminal import Terminal
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import Spool
from m365proxy.spool.state import State

SCANNER = "scanner@contoso.com"
FULL = "The mailbox scanner@contoso.com is full. Make room in it (Sent Items counts too)."
ENVELOPE = Envelope(SCANNER, SCANNER, ("a@contoso.com", "b@example.org"), "192.0.2.7", "ups")


@pytest.fixture(autouse=True)
def utc(monkeypatch):
    monkeypatch.setattr(time, "localtime", time.gmtime)


@pytest.fixture
def spool(tmp_path):
    made = Spool(str(tmp_path / "queue"))
    made.make()
    return made


def put(spool, text=b"Subject: x\r\nX-Y: z\r\n\r\nhello\r\n"):
    incoming = spool.put(ENVELOPE)
    incoming.write(text)
    return incoming.commit()


def message(id, **known):
    return {
        "id": id,
        "state": "waiting",
        "size": 700,
        "mailbox": SCANNER,
        "recipients": ["a@contoso.com"],
        "error": "",
        **known,
    }


def listed(*messages, width=80):
    stream = io.StringIO()
    queueview.show_list(Terminal(stream, {"COLUMNS": str(width)}), messages, "sudo m365proxy")
    return stream.getvalue()


def test_nothing():
    assert listed() == "The queue is empty.\n"


def test_each_reason_is_said_once_for_all_its_messages():
    said = listed(
        message("20261129T094207-94bb5edb358a-fad91c20", error=FULL, size=1500),
        message("20261129T094208-11115edb358a-fad91c20", error=FULL, recipients=["a@contoso.com", "b", "c"]),
        message("20261129T101000-22225edb358a-fad91c20", state="held", error="No answer.", size=48_000_000),
        message("20261129T101001-33335edb358a-fad91c20", state="sending"),
        message("20261129T101002-44445edb358a-fad91c20", error=FULL),
    )
    assert said == (
        "3 waiting in scanner@contoso.com: The mailbox scanner@contoso.com is full. Make\n"
        "room in it (Sent Items counts too).\n"
        "  20261129T094207-94bb  2026-11-29 09:42    1 KB  a@contoso.com\n"
        "  20261129T094208-1111  2026-11-29 09:42   700 B  a@contoso.com and 2 more\n"
        "  20261129T101002-4444  2026-11-29 10:10   700 B  a@contoso.com\n"
        "\n"
        "1 held in scanner@contoso.com: No answer. Each may have been sent: look into\n"
        "Sent Items. Then drop what is there, and retry what is not.\n"
        "  20261129T101000-2222  2026-11-29 10:10  45.8 MB  a@contoso.com\n"
        "\n"
        "1 being sent in scanner@contoso.com\n"
        "  20261129T101001-3333  2026-11-29 10:10   700 B  a@contoso.com\n"
        "\n"
        "`sudo m365proxy queue show ID` shows more of one; so much of an ID is enough,\n"
        "also for `retry` and `drop`.\n"
    )


def test_a_thousand_messages_are_about_a_thousand_lines():
    said = listed(*(message(f"20261129T094207-{number:012x}-fad91c20", error=FULL) for number in range(1000)))
    assert said.count("is full") == 1 and len(said.splitlines()) < 1010
    assert max(map(len, said.splitlines())) <= 80


def test_an_id_is_shown_as_long_as_it_takes_to_tell_it_from_others():
    said = listed(
        message("20261129T094207-94bb5edb358a-fad91c20"),
        message("20261129T094207-94bb5edd358a-fad91c20"),
    )
    assert "  20261129T094207-94bb5edb  2026" in said and "  20261129T094207-94bb5edd  2026" in said


def test_a_message_that_is_there_twice_is_listed_twice():
    id = "20261129T094207-94bb00000000-d0c5c1ac"
    assert listed(message(id), message(id, state="failed")).count("  20261129T094207-94bb  ") == 2


def test_a_damaged_message_is_listed():
    said = listed({"id": "20261129T094207-94bb5edb358a-fad91c20", "state": "failed", "error": "No envelope."})
    assert said.startswith("1 failed: No envelope.\n  20261129T094207-94bb  2026-11-29 09:42     0 B  ?\n")


def test_nothing_from_outside_reaches_the_terminal_raw():
    said = listed(message("20261129T094207-x\x1b-y", error="odd \x1b[2J", recipients=["a\x07@b"], mailbox="m\x1b"))
    assert "\x1b" not in said and "\x07" not in said


def test_one_message(spool):
    id = put(spool)
    spool.save_state(id, State(attempts=2, due=1_800_000_000.0, error="no answer\x1b", request_id="r-1"))
    entry = spool.find(id)
    stream = io.StringIO()
    told = queueview.described(spool, entry)
    queueview.show_message(Terminal(stream, {}), spool, entry, {**told, "age_seconds": 7200})
    said = stream.getvalue()
    accepted = time.strftime("%Y-%m-%d %H:%M:%S", time.strptime(id[:15], "%Y%m%dT%H%M%S"))
    assert f"accepted:     {accepted}, 2 h ago\n" in said
    assert "recipients:   a@contoso.com, b@example.org\n" in said
    assert "attempts:     2\n" in said and "request id:   r-1\n" in said
    assert "next attempt: 2027-01-15 08:00:00 at the latest\n" in said
    assert said.endswith("\n\nSubject: x\nX-Y: z\n") and "\x1b" not in said
    assert "due:" not in said and "age seconds:" not in said and "code:" not in said


def test_json_has_all_of_it(spool):
    id = put(spool)
    spool.save_state(id, State(error="no answer"))
    told = queueview.described(spool, spool.find(id))
    assert told["age_seconds"] < 60
    assert {**told, "age_seconds": 0} == {
        "id": id,
        "state": "waiting",
        "size": 29,
        "mailbox": SCANNER,
        "sender": SCANNER,
        "recipients": ["a@contoso.com", "b@example.org"],
        "client": "192.0.2.7",
        "kind": "message",
        "attempts": 0,
        "due": 0.0,
        "error": "no answer",
        "code": "",
        "request_id": "",
        "message_id": "",
        "age_seconds": 0,
    }


def test_a_message_that_has_just_left(spool):
    entry = spool.find(put(spool))
    spool.drop(entry)
    assert queueview.described(spool, entry) is None


def test_the_page_on_status_shows_what_is_listed():
    said = listed(
        message(
            "20270115T031402-fdaf5edb358a-fad91c20", state="held", error="No answer came.", mailbox="ups@contoso.com"
        ),
        message("20270115T074507-6c435edb358a-fad91c20", error=FULL, size=49_000, recipients=["support@contoso.com"]),
        message(
            "20270115T074802-baad5edb358a-fad91c20",
            error=FULL,
            size=1_200_000,
            recipients=["support@contoso.com", 2, 3],
        ),
        message("20270115T075136-611e5edb358a-fad91c20", error=FULL, size=67_000, recipients=["archive@contoso.com"]),
    )
    page = (pathlib.Path(__file__).resolve().parents[3] / "docs" / "status.md").read_text("utf-8")
    assert f"```\n$ sudo m365proxy queue list\n{said}```\n" in page
