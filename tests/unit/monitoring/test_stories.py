"""What became of messages, from the event log.  Most sentences are tested where `trace` prints them."""

import pytest
from cases import each

from m365proxy.monitoring import stories
from m365proxy.monitoring.stories import Story
from m365proxy.system import events

REQUEST = "5f3c9c1e-4d0a-4a55-9d55-8c0f7e2b1a10"


@pytest.fixture
def directory(tmp_path):
    return str(tmp_path / "events")


@pytest.fixture
def event_log(directory):
    made = events.EventLog(directory, 1 << 20)
    yield made
    made.close()


def test_the_newest_come_first_with_all_their_events(event_log, directory):
    for number in range(5):
        event_log.note("accepted", id=f"id{number}", sender="scanner@contoso.com")
    event_log.note("login failed", client="192.0.2.17")
    event_log.note("delivered", id="id2")
    found = stories.latest(directory, 3, 1 << 20)
    assert [story.id for story in found] == ["id4", "id3", "id2"]
    assert [event["event"] for event in found[2].events] == ["accepted", "delivered"]
    assert found[2].accepted["sender"] == "scanner@contoso.com" and found[2].last["event"] == "delivered"


def test_no_more_is_read_than_allowed(event_log, directory):
    for number in range(100):
        event_log.note("accepted", id=f"id{number:02}")
    found = stories.latest(directory, 100, 700)
    assert 5 < len(found) < 15 and found[0].id == "id99"


def test_of_nothing_there_are_no_stories(directory):
    assert stories.latest(directory, 200, 1000) == []
    assert Story("id", []).accepted == {} and Story("id", []).last["event"] == ""


def test_an_event_log_that_cannot_be_read_is_not_empty(tmp_path):
    (tmp_path / "events").write_text("")
    with pytest.raises(NotADirectoryError):
        stories.latest(str(tmp_path / "events"), 200, 1000)


def test_damaged_lines_have_no_part_in_a_story():
    assert stories.group([b'{"time": "2026', b"\n"]) == {"": [b'{"time": "2026', b"\n"]}
    assert stories.parsed([b'{"time": "2026', b"\n", b"\xff\n", b"[]\n"]) == []


@each(
    "event, told",
    [
        ({"event": "delivered", "seconds": 6.25, "request_id": REQUEST}, "after 6.2 s (request-id " + REQUEST + ")"),
        ({"event": "of a later version"}, "of a later version"),
        ({"event": "deferred", "reason": "a\u202eb\x00"}, "not sent: a\\u202eb\\x00"),
        ({"event": "deferred"}, "not sent: "),
    ],
)
def test_sentences(event, told):
    assert stories.sentence(event).endswith(told)


@pytest.mark.parametrize("moment", ["", "9", "9999-99-99T00:00:00"])
def test_a_time_that_is_none_is_shown_as_it_is(moment):
    assert stories.local({"time": moment, "event": "x"}) == moment


@pytest.mark.parametrize("recipients", [1, 40])
def test_as_many_as_are_wanted_if_there_is_room_for_them(event_log, directory, recipients):
    for number in range(50):
        event_log.note("accepted", id=f"id{number:02}", recipients=["support@fabrikam.com"] * recipients)
    assert [story.id for story in stories.latest(directory, 20, 40_000)] == [f"id{n}" for n in range(49, 29, -1)]
