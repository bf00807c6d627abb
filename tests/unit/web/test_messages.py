"""The last messages on the page."""

import re

import pages
from cases import each

from m365proxy.monitoring import stories
from m365proxy.monitoring.stories import Story
from m365proxy.spool.overview import accepted_time
from m365proxy.web.messages import messages

TIME = "2026-11-29T09:42:07.311Z"


def event(name, **fields):
    return {"time": TIME, "event": name, **fields}


def text(html):
    return " ".join(re.sub("<.*?>", "", html).split())


@each(
    "last, word, tone",
    [
        ("accepted", "accepted", "wait"),
        ("delivered", "sent", "good"),
        ("deferred", "waiting", "wait"),
        ("doubtful", "unknown", "wait"),
        ("held", "held", "bad"),
        ("failed", "failed", "bad"),
        ("reported", "accepted", "wait"),
        ("retried", "waiting", "wait"),
        ("dropped", "deleted", "none"),
        ("removed", "deleted", "none"),
        ("of a later version", "", "none"),
    ],
)
def test_how_it_stands(last, word, tone):
    assert f'<span class="mark {tone}">{word}</span>' in messages([Story("id", [event(last)])], "m365proxy")


def test_the_way_of_a_message_as_trace_tells_it(tmp_path):
    pages.troubled(tmp_path)
    latest = stories.latest(str(tmp_path / "events"), 200, 1 << 20)
    html = messages(latest, "m365proxy")
    assert html.count("<details") == len(latest) == 13
    for story in latest:
        for one in story.events:
            assert f"{stories.local(one)} {stories.sentence(one).replace('`', '')}" in text(html)
    assert f"{pages.SCANNER} to {pages.SUPPORT}, {pages.INVOICES}" in html


def test_a_message_that_was_accepted_long_ago():
    id = "20261124T094207-7991cf5d-18580a40"
    html = messages([Story(id, [event("deferred", mailbox=pages.ERP, reason="No.")])], "m365proxy")
    assert f"of {pages.ERP}, accepted {stories.local_time(accepted_time(id))}" in html
    assert "of a mailbox, accepted earlier" in messages([Story("id", [event("dropped")])], "m365proxy")


def test_a_bounce_has_no_sender():
    assert "&lt;&gt; to a@b.de" in messages([Story("i", [event("accepted", sender="", recipients=["a@b.de"])])], "x")


def test_of_many_steps_the_first_and_the_last_are_shown():
    story = Story("id", [event("accepted"), *(event("deferred", reason=f"Number {number}.") for number in range(99))])
    shown = text(messages([story], "m365proxy"))
    assert re.findall(r"Number (\d+)", shown) == ["0", "1", *map(str, range(91, 99))]
    assert "89 more steps" in shown
