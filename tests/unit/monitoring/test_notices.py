"""By which ways a notice goes, and how often, until it arrives."""

import logging
import threading

import pytest
from snapshots import ALERTS, NOW, SIGNED_IN, snapshot_of, watch

from m365proxy.errors import Temporary
from m365proxy.monitoring import command, notices, webhook
from m365proxy.monitoring.counters import Counters
from m365proxy.monitoring.notice import Notice
from m365proxy.monitoring.notices import Notices, Way, Ways, senders

SCANS, ADMIN = "scans@contoso.com", "admin@contoso.com"
FINDING = {"key": "held", "sentence": "1 message is held.", "commands": [], "since": NOW}
URL = "https://u:s3cret@ntfy.contoso.com/t0ken"
ALL = Ways(ADMIN, URL, ("/usr/local/bin/page-admin",))


class Harness:
    """Three ways that do as the test wants; they are told apart by their options."""

    def __init__(self, monkeypatch):
        self.ways = ALL
        self.fail = {}  # way: how often it still fails
        self.tried = []  # (way, title) of each try; of mail, the mailbox in place of the title
        self.settled = []
        self.hold = {}  # way: an event that its try waits for
        self.notices = Notices(lambda: self.ways, self.mail, outbound=None, waits=(0.0, 0.0, 0.0, 0.0))
        monkeypatch.setattr(webhook, "post", lambda outbound, url, notice: self.attempt(Way.URL, notice.title))
        monkeypatch.setattr(command, "run", lambda words, notice, stopped: self.attempt(Way.COMMAND, notice.title))

    def mail(self, mailbox, to, subject, text, stopped):
        assert to == ADMIN
        self.attempt(Way.MAIL, mailbox)

    def attempt(self, way, what):
        self.tried.append((way, what))
        if way in self.hold:
            assert self.hold[way].wait(30)
        if self.fail.get(way):
            self.fail[way] -= 1
            raise Temporary(f"{way} is away.")
        return "taken"

    def send(self, *keys):
        notice = Notice(tuple({**FINDING, "key": key} for key in keys))
        self.notices.send(notice, lambda: snapshot_of(watched=watch(mailboxes=(ALERTS, SCANS))), self.settle)
        return notice

    def settle(self, notice, has_arrived):
        self.settled.append((notice, has_arrived))

    def join(self):
        for thread in self.notices._threads:
            thread.join(30)
            assert not thread.is_alive()

    def tries(self, way):
        return [what for one, what in self.tried if one is way]


@pytest.fixture
def harness(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    made = Harness(monkeypatch)
    yield made
    made.notices.stop()
    assert "s3cret" not in caplog.text and "t0ken" not in caplog.text


def test_each_way_is_tried_once_if_it_works(harness):
    notice = harness.send("held")
    harness.join()
    assert sorted(way for way, _ in harness.tried) == sorted(Way)
    assert harness.settled == [(notice, True)]


@pytest.mark.parametrize("way", list(Way))
def test_a_way_is_tried_again_until_it_works(harness, way):
    harness.fail[way] = 3
    harness.send("held")
    harness.join()
    assert len(harness.tries(way)) == 4 and len(harness.tried) == 6 and len(harness.settled) == 1


def test_a_way_is_given_up_after_four_tries(harness, caplog):
    harness.ways = Ways("", URL, ())
    harness.fail[Way.URL] = 9
    notice = harness.send("held")
    harness.join()
    assert len(harness.tried) == 4 and harness.settled == [(notice, False)]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 4 + ["ERROR"]
    assert "has reached nobody" in caplog.text


def test_one_way_that_works_is_enough(harness, caplog):
    harness.fail = {Way.URL: 9, Way.MAIL: 9}
    notice = harness.send("held")
    harness.join()
    assert harness.settled == [(notice, True)] and "has reached nobody" not in caplog.text


def test_where_no_way_is_configured_all_is_said_by_the_log(harness):
    harness.ways = Ways("", "", ())
    notice = harness.send("held")
    assert harness.settled == [(notice, True)] and harness.tried == []


def test_mail_goes_through_another_mailbox_the_next_time(harness):
    harness.ways = Ways(ADMIN, "", ())
    harness.fail[Way.MAIL] = 9
    harness.send("held")
    harness.join()
    assert harness.tries(Way.MAIL) == [ALERTS, SCANS, ALERTS, SCANS]


def test_a_newer_notice_takes_the_place_of_one_that_has_not_arrived(harness, wait_until):
    harness.ways = Ways("", URL, ())
    harness.hold[Way.URL] = threading.Event()
    harness.fail[Way.URL] = 1
    harness.send("held")
    wait_until(lambda: harness.tried)
    newer = harness.send("held", "failed")
    harness.hold[Way.URL].set()
    harness.join()
    assert harness.tries(Way.URL) == [Notice((FINDING,)).title, newer.title]
    assert harness.settled == [(newer, True)]


def test_a_notice_that_arrives_when_there_is_a_newer_one_has_arrived(harness, wait_until):
    harness.ways = Ways("", URL, ())
    harness.hold[Way.URL] = threading.Event()
    older = harness.send("held")
    wait_until(lambda: harness.tried)
    newer = harness.send("held", "failed")
    harness.hold[Way.URL].set()
    harness.join()
    assert harness.settled == [(older, True), (newer, True)]


def test_a_stop_tries_nothing_more_and_settles_nothing(harness, wait_until, caplog):
    harness.ways = Ways("", URL, ())
    harness.hold[Way.URL] = threading.Event()
    harness.fail[Way.URL] = 9
    harness.send("held")
    wait_until(lambda: harness.tried)
    stopping = threading.Thread(target=harness.notices.stop)
    stopping.start()
    wait_until(harness.notices._stopped.is_set)
    harness.hold[Way.URL].set()
    stopping.join()
    harness.join()
    assert len(harness.tried) == 1 and harness.settled == [] and caplog.text == ""


def test_a_fault_in_a_way_is_no_notice_that_is_never_settled(harness, monkeypatch):
    harness.ways = Ways("", URL, ())
    monkeypatch.setattr(webhook, "post", lambda *arguments: 1 / 0)
    notice = harness.send("held")
    harness.join()
    assert harness.settled == [(notice, False)]


def test_no_thread_is_no_notice(harness, monkeypatch):
    harness.ways = Ways(ADMIN, URL, ())
    monkeypatch.setattr(notices, "try_start", lambda thread: False)
    notice = harness.send("held")
    assert harness.settled == [(notice, False)]


def test_a_test_tries_the_ways_configured(harness):
    harness.fail[Way.URL] = 1
    said = {}
    for way, attempt in harness.notices.test(lambda: snapshot_of()):
        try:
            said[way] = attempt()
        except Temporary as error:
            said[way] = str(error)
    assert said == {
        Way.MAIL: f"sent to {ADMIN} through {ALERTS}",
        Way.URL: "notify_url is away.",
        Way.COMMAND: "taken",
    }


# Which mailbox sends.

TIMES = {"a": (0, 0), "b": (100, 0), "c": (200, 300), "d": (50, 10)}  # name: last delivery, last error


def snapshot_with(**changes):
    counters = Counters()
    for name, (delivered, failed) in TIMES.items():
        for when, event in ((delivered, "delivered"), (failed, "deferred")):
            if when:
                counters.note(NOW + when, {"event": event, "id": "1", "mailbox": name})
    return snapshot_of(watched=watch(mailboxes=tuple(TIMES)), counters=counters, **changes)


def test_the_mailbox_that_sent_last_without_error_comes_first():
    assert senders(snapshot_with()) == ["b", "d", "a", "c"]


@pytest.mark.parametrize("changes", [{"paused": "Graph is away."}, {"sign_in": {**SIGNED_IN, "error": "Expired."}}])
def test_no_mailbox_where_nothing_can_be_sent(changes):
    assert senders(snapshot_with(**changes)) == []
