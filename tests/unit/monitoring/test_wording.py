"""How things stand, in words.  What both `status` and the page say every day is tested with them."""

import pytest
from cases import each
from snapshots import ALERTS, NOW, SIGNED_IN, snapshot_of

from m365proxy.monitoring import wording
from m365proxy.monitoring.counters import Counters
from m365proxy.monitoring.monitor import report_on
from m365proxy.spool.overview import EMPTY


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"program": None}, "no"),
        ({"written": 0.0}, "yes, but it has written nothing about itself"),
        ({"started": 0.0}, "pid 4711, version 3.0.0, 0 connections"),
    ],
)
def test_whether_it_runs(changes, said):
    assert wording.running(report_on(snapshot_of(**changes))) == said


@each(
    "changes, said",
    [
        ({}, "relay@contoso.com, since 24 h, renewed 60 min ago"),
        ({"signed_in_at": 0.0, "last_refresh": 0.0}, "relay@contoso.com"),
        ({"user": ""}, "none"),
        ({"error": "It was revoked."}, "relay@contoso.com, since 24 h, renewed 60 min ago (see above)"),
        ({"signed_in_at": NOW + 9e9}, "relay@contoso.com, since 0 s, renewed 60 min ago"),
    ],
)
def test_the_sign_in(changes, said):
    assert wording.sign_in({**SIGNED_IN, **changes}, NOW) == said


@pytest.mark.parametrize(
    "free, least, said", [(9, 64, "9 MB free (below 64 MB new mail is refused)"), (9, 0, "9 MB free")]
)
def test_the_disk(free, least, said):
    assert wording.disk(free, least) == said


def test_what_ends_one_day():
    report = report_on(snapshot_of(certificate={"path": "/a.pem", "days": 1}, secret_days=-2))
    assert wording.ends(report) == [("certificate", "/a.pem, valid for 1 day"), ("app secret", "expired")]
    assert wording.ends(report_on(snapshot_of())) == []


@pytest.mark.parametrize(
    "changes, said",
    [
        ({}, "empty"),
        ({"waiting": 2, "oldest": NOW - 7200}, "2 waiting; the oldest waits for 2 h"),
        ({"sending": 1, "held": 1, "failed": 3}, "1 being sent, 1 held, 3 failed"),
    ],
)
def test_the_queue(changes, said):
    assert wording.queue({**EMPTY, **changes}, NOW) == said


@each(
    "steps, is_news",
    [
        ([], False),
        ([("deferred", NOW - 60)], True),
        ([("deferred", NOW - 90_000)], False),
        ([("deferred", NOW - 60), ("delivered", NOW - 30)], False),
        ([("failed", NOW - 60), ("delivered", NOW - 30)], True),
    ],
)
def test_which_mailbox_is_news(steps, is_news):
    counters = Counters()
    for event, when in steps:
        counters.note(when, {"event": event, "mailbox": ALERTS, "reason": "No."})
    box = snapshot_of(counters=counters)["mailboxes"][ALERTS]
    assert wording.is_news(box, NOW) is is_news
    assert wording.is_news({**box, "waiting": 1}, NOW)
