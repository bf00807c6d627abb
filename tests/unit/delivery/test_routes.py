"""Which way a mailbox's mail goes: what is tried, what is remembered, and for how long."""

import json
import logging

import pytest

from m365proxy.delivery.routes import Route, Routes

RELAY, ALERTS, SCANS = "relay@contoso.com", "alerts@contoso.com", "scans@contoso.com"
OWN, SHARED = Route(RELAY, True), Route(ALERTS, True)
OWN_AT_ONCE, SHARED_AT_ONCE = Route(RELAY, False), Route(ALERTS, False)
DAY = 24 * 3600.0


class Harness:
    """What was learned in a state directory; `open` again after a restart."""

    def __init__(self, path):
        self.path = path
        self.now = 1_800_000_000.0
        self.open()

    def open(self, user=RELAY, drafts=True):
        self.routes = Routes(str(self.path), user, drafts, clock=lambda: self.now)
        return self.routes

    @property
    def file(self):
        return self.path / "routes.json"


@pytest.fixture
def harness(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    return Harness(tmp_path)


@pytest.mark.parametrize(
    "user, drafts, mailbox, ways",
    [
        (RELAY, True, ALERTS, [SHARED, OWN, SHARED_AT_ONCE, OWN_AT_ONCE]),
        ("Relay@Contoso.com", True, ALERTS, [SHARED, OWN, SHARED_AT_ONCE, OWN_AT_ONCE]),
        (RELAY, False, ALERTS, [SHARED_AT_ONCE, OWN_AT_ONCE]),
        (RELAY, True, RELAY, [OWN, OWN_AT_ONCE]),
        ("", True, ALERTS, [SHARED, SHARED_AT_ONCE]),
        ("", False, ALERTS, [SHARED_AT_ONCE]),
    ],
)
def test_drafts_come_first_and_the_mailbox_itself_before_the_account(harness, user, drafts, mailbox, ways):
    assert harness.open(user, drafts).candidates(mailbox) == ways


@pytest.mark.parametrize("restarted", [False, True])
def test_a_learned_way_comes_first_for_a_day(harness, restarted):
    harness.routes.learn(ALERTS, OWN)
    if restarted:
        harness.open()
    best = harness.routes.candidates(SCANS)
    assert best[0] == Route(SCANS, True)
    harness.now += DAY - 1
    assert harness.routes.candidates(ALERTS) == [OWN, SHARED, SHARED_AT_ONCE, OWN_AT_ONCE]
    harness.now += 1
    assert harness.routes.candidates(ALERTS)[0] == SHARED


def test_what_was_learned_by_a_clock_that_was_ahead_is_tried_anew(harness):
    harness.routes.learn(ALERTS, OWN)
    harness.now -= 30 * DAY
    assert harness.routes.candidates(ALERTS)[0] == SHARED


@pytest.mark.parametrize(
    "user, drafts, ways",
    [
        (RELAY, False, [SHARED_AT_ONCE, OWN_AT_ONCE]),
        ("other@contoso.com", False, [SHARED_AT_ONCE, Route("other@contoso.com", False)]),
        ("", True, [SHARED, SHARED_AT_ONCE]),
    ],
    ids=["permissions", "account", "app"],
)
def test_a_way_that_the_config_no_longer_allows_is_not_tried(harness, user, drafts, ways):
    harness.routes.learn(ALERTS, OWN)
    assert harness.open(user, drafts).candidates(ALERTS) == ways


def test_the_same_way_again_is_no_news(harness, caplog):
    harness.routes.learn(ALERTS, SHARED)
    harness.file.unlink()
    harness.routes.learn(ALERTS, SHARED)
    assert not harness.file.exists() and len(caplog.records) == 1
    harness.routes.learn(ALERTS, SHARED_AT_ONCE)
    assert harness.file.exists()
    assert [record.getMessage() for record in caplog.records] == [
        f"{ALERTS}: mail goes through {ALERTS} by drafts",
        f"{ALERTS}: mail goes through {ALERTS} by one-step sendMail; a lost answer cannot be looked up",
    ]


def test_after_a_refusal_all_ways_are_tried_anew(harness):
    harness.routes.learn(ALERTS, OWN)
    harness.routes.learn(SCANS, OWN)
    harness.routes.note_sent(ALERTS)
    harness.routes.forget(ALERTS)
    for routes in (harness.routes, harness.open()):
        assert routes.candidates(ALERTS)[0] == SHARED
        assert routes.sent(ALERTS) == 0
        assert routes.candidates(SCANS)[0] == OWN


def test_that_mail_was_sent_is_noted_once_a_day(harness):
    first = harness.now
    harness.routes.learn(ALERTS, SHARED)
    assert harness.routes.sent(ALERTS) == 0
    for seconds, noted in ((0, first), (DAY - 1, first), (1, first + DAY)):
        harness.now += seconds
        harness.routes.note_sent(ALERTS)
        assert harness.routes.sent(ALERTS) == noted
    assert harness.open().sent(ALERTS) == first + DAY


def test_a_time_from_before_the_clock_was_set_back_is_replaced(harness):
    harness.routes.learn(ALERTS, SHARED)
    harness.routes.note_sent(ALERTS)
    harness.now -= 10 * DAY
    harness.routes.note_sent(ALERTS)
    assert harness.routes.sent(ALERTS) == harness.now


def test_nothing_is_noted_of_a_mailbox_without_a_way(harness):
    harness.routes.note_sent(ALERTS)
    harness.routes.forget(ALERTS)
    assert harness.routes.sent(ALERTS) == 0 and not harness.file.exists()


GOOD = {"url_mailbox": RELAY, "drafts": True, "learned": 1_800_000_000.0, "sent": 1_800_000_000.0}


@pytest.mark.parametrize(
    "entry",
    [
        [],
        {},
        {**GOOD, "url_mailbox": None},
        {**GOOD, "drafts": "yes"},
        {**GOOD, "learned": "today"},
        {**GOOD, "sent": "today"},
        {**GOOD, "learned": 10**400, "sent": 0},
    ],
    ids=str,
)
def test_a_damaged_entry_is_as_good_as_none_and_spoils_no_other(harness, entry):
    harness.file.write_text(json.dumps({ALERTS: entry, SCANS: GOOD}))
    routes = harness.open()
    assert routes.candidates(ALERTS)[0] == SHARED and routes.sent(ALERTS) == 0
    assert routes.candidates(SCANS)[0] == OWN and routes.sent(SCANS) == GOOD["sent"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a": 1}', pytest.param(b"[" * 100_000, id="nested")]
)
def test_a_damaged_file_is_as_good_as_none(harness, content):
    harness.file.write_bytes(content)
    assert harness.open().candidates(ALERTS)[0] == SHARED
    harness.routes.learn(ALERTS, OWN)
    assert harness.open().candidates(ALERTS)[0] == OWN


def test_what_cannot_be_read_or_written_costs_no_mail(harness, caplog):
    harness.file.mkdir()
    routes = harness.open()
    routes.learn(ALERTS, OWN)
    assert routes.candidates(ALERTS)[0] == OWN
    assert caplog.records[-1].getMessage().startswith("routes.json cannot be written: ")


WEEK = 7 * DAY


@pytest.mark.parametrize("kept", [True, False])
def test_what_a_mailbox_does_with_large_mail_is_known_for_a_week(harness, kept):
    assert harness.routes.keeps_form(ALERTS) is None
    harness.routes.learn_form(ALERTS, kept)
    harness.routes.learn(ALERTS, OWN)
    harness.routes.forget(ALERTS)
    harness.open()
    harness.now += WEEK - 1
    assert harness.routes.keeps_form(ALERTS.upper()) is kept and harness.routes.keeps_form(RELAY) is None
    harness.now += 1
    assert harness.routes.keeps_form(ALERTS) is None
    harness.now -= 2 * WEEK
    assert harness.routes.keeps_form(ALERTS) is None, "a clock that was ahead is not believed for ever"


def test_what_a_mailbox_does_with_ids_is_known_for_a_week_too(harness):
    harness.routes.learn_form(ALERTS, False)
    harness.routes.learn_ids(ALERTS, True)
    harness.open()
    harness.now += WEEK - 1
    assert harness.routes.keeps_ids(ALERTS) is True and harness.routes.keeps_form(ALERTS) is False
    harness.routes.learn_ids(ALERTS, False)
    assert harness.open().keeps_ids(ALERTS) is False and harness.routes.keeps_ids(RELAY) is None
    harness.now += WEEK
    assert harness.routes.keeps_ids(ALERTS) is None


def test_a_file_of_an_older_version_is_read(harness):
    harness.file.write_text(json.dumps({ALERTS: {"url_mailbox": RELAY, "drafts": True, "learned": harness.now}}))
    assert harness.open().candidates(ALERTS)[0] == OWN and harness.routes.keeps_form(ALERTS) is None
    harness.routes.learn_form(ALERTS, True)
    known = json.loads(harness.file.read_text())
    assert known.pop("large mail") == {ALERTS: {"kept": True, "learned": harness.now}} and list(known) == [ALERTS]


@pytest.mark.parametrize(
    "forms", [[], 1, {ALERTS: 1}, {ALERTS: {"kept": 1, "learned": 1.0}}, {ALERTS: {"kept": True}}], ids=str
)
def test_damage_is_not_known(harness, forms):
    way = {"url_mailbox": RELAY, "drafts": True, "learned": harness.now}
    harness.file.write_text(json.dumps({"large mail": forms, ALERTS: way}))
    assert harness.open().keeps_form(ALERTS) is None and harness.routes.candidates(ALERTS)[0] == OWN


def test_a_damaged_entry_of_large_mail_is_as_good_as_none(harness):
    harness.file.write_text(json.dumps({"large mail": {ALERTS: {"kept": True, "learned": 10**400}}}))
    assert harness.open().keeps_form(ALERTS) is None
