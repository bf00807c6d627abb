"""What a notice says."""

import json
import time

import pytest
from messages import flood

from m365proxy.monitoring.notice import Health, Notice

BEGIN = time.mktime((2026, 11, 29, 17, 2, 0, 0, 0, -1))
FINDING = {"key": "held", "sentence": "1 message is held.", "commands": ["m365proxy queue list"], "since": BEGIN}
OTHER = {"key": "failed", "sentence": "2 messages were given up.", "commands": [], "since": BEGIN}


@pytest.fixture(autouse=True)
def host(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "gateway")


def test_what_is_to_do():
    notice = Notice((FINDING, OTHER))
    assert notice.title == "m365proxy on gateway: 2 things to do" and notice.health is Health.DOWN
    assert notice.text.split("\n") == [
        "- 1 message is held. (since 2026-11-29 17:02)",
        "  Run: m365proxy queue list",
        "- 2 messages were given up. (since 2026-11-29 17:02)",
    ]


def test_what_is_over():
    notice = Notice((), ((FINDING, BEGIN + 3600),))
    assert notice.title == "m365proxy on gateway: all is well again" and notice.health is Health.UP
    assert notice.text == "No more:\n- 1 message is held. (from 2026-11-29 17:02 to 2026-11-29 18:02)"


def test_both():
    notice = Notice((FINDING,), ((OTHER, BEGIN + 60),))
    assert notice.title.endswith(": 1 thing to do") and "\n\nNo more:\n- 2 messages" in notice.text
    assert notice.keys == {"held", "failed"}


def test_a_test_says_that_it_is_one():
    notice = Notice((), is_test=True)
    assert notice.title == "m365proxy on gateway: this is a test" and "Nothing is wrong" in notice.text
    assert notice.health is Health.UP


def test_json():
    notice = Notice((FINDING,), ((OTHER, BEGIN + 60),))
    assert json.loads(notice.as_json()) == {
        "title": notice.title,
        "message": notice.text,
        "text": f"{notice.title}\n{notice.text}",
        "status": "down",
        "priority": 4,
        "count": 1,
        "findings": [FINDING],
        "over": [{**OTHER, "ended": BEGIN + 60}],
    }


def test_many_things_are_a_short_text():
    many = tuple({**FINDING, "key": str(n)} for n in range(500))
    notice = Notice(many, tuple((one, BEGIN) for one in many))
    assert notice.text.count("\n- and 490 more: see `m365proxy status`") == 2
    posted = json.loads(notice.as_json())
    assert posted["count"] == 500 and posted["findings"] == list(many[: len(posted["findings"])])
    assert posted["over"] == [{**one, "ended": BEGIN} for one in many[: len(posted["over"])]] and posted["over"]


@pytest.mark.parametrize("letter", ["x", "ü", "漢", "\U0001f4e7", "\udc80", '"'])
def test_however_long_and_foreign_all_receivers_take_it(letter):
    many = tuple({**FINDING, "key": str(n), "sentence": flood(letter, 3000)} for n in range(500))
    notice = Notice(many, tuple((one, BEGIN) for one in many))
    assert len(notice.text.encode()) < 4096 and "No more:\n- " in notice.text
    posted = notice.as_json()
    assert len(posted) < 28 * 1024 and json.loads(posted)["findings"] and json.loads(posted)["over"]


def test_no_control_character_gets_in():
    text = Notice(({**FINDING, "sentence": "a\x1b[31m\r\nSubject: x", "commands": ["a\nb"]},)).text
    assert "\x1b" not in text and "\r" not in text and len(text.split("\n")) == 2


def test_a_time_that_is_none():
    assert "since an unknown time" in Notice(({**FINDING, "since": 1e30},)).text
