"""The daily work: what it hands to those who remove things."""

import logging
import os
import types

import pytest
from configs import HASHED, configured

from m365proxy import daily
from m365proxy.account import spool_of
from m365proxy.daily import Daily
from m365proxy.errors import Temporary
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import mailbox_tag
from m365proxy.spool.state import State

NOW, DAY = 1_800_000_000.0, 24 * 3600.0
SCANNER, ALERTS, RELAY = "scanner@contoso.com", "alerts@contoso.com", "relay@contoso.com"


class Graph:
    """Knows the time, unless it cannot be reached."""

    user = RELAY
    away = False

    def check_reachable(self):
        if self.away:
            raise Temporary("Graph is away.")

    def now(self):
        return NOW


class Harness:
    def __init__(self, path, **settings):
        self.path = path
        self.swept = []  # (mailboxes, keep_days) of each sweep of mailboxes
        self.graph = Graph()
        self.config = configured(path, **settings)
        self.spool = spool_of(self.config)
        self.spool.make()
        self.daily = Daily(self.config, types.SimpleNamespace(graph=self.graph), self.spool)

    def run(self, **settings):
        """The daily work with the config as it is now."""
        self.daily.run(configured(self.path, **settings))

    def leftovers(self, graph, drafts, spool, keep_days):
        """In place of Leftovers, which has tests of its own."""
        return types.SimpleNamespace(sweep=lambda mailboxes: self.swept.append((list(mailboxes), keep_days)))

    def put_failed(self, days):
        """A message that was given up so many days ago."""
        incoming = self.spool.put(Envelope(SCANNER, SCANNER, (ALERTS,)))
        claim = self.spool.claim(incoming.commit())
        claim.state = State(last_attempt=NOW - days * DAY)
        claim.fail()
        return claim.id


@pytest.fixture
def make(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)

    def make(**settings):
        harness = Harness(tmp_path, **settings)
        monkeypatch.setattr(daily, "Leftovers", harness.leftovers)
        return harness

    return make


@pytest.mark.parametrize("away, keep_days, stays", [(False, 90, False), (False, 92, True), (True, 1, True)])
def test_failed_messages_go_by_graphs_clock_and_the_present_config(make, away, keep_days, stays):
    harness = make(queue={"keep_failed_days": 7})
    harness.graph.away = away
    id = harness.put_failed(days=91)
    harness.run(queue={"keep_failed_days": keep_days})
    assert (harness.spool.find(id) is not None) == stays


def test_mailboxes_of_the_present_config_are_swept_and_the_accounts_own(make):
    harness = make()
    own = {**HASHED, "username": RELAY}
    alerts = {**HASHED, "username": ALERTS, "sent_items": "delete_after_days:30"}
    harness.run(mailboxes=[HASHED, alerts])
    harness.run(mailboxes=[own, HASHED])
    harness.graph.user = ""  # the app by itself
    harness.run(mailboxes=[HASHED])
    assert harness.swept == [
        ([SCANNER, ALERTS, RELAY], {mailbox_tag(ALERTS): 30}),
        ([RELAY, SCANNER], {}),
        ([SCANNER], {}),
    ]


def test_drafts_are_known_by_the_installation_of_the_state_directory_in_use(make):
    harness = make()
    harness.run(state_dir="elsewhere")
    assert "installation" in os.listdir(harness.config.state_dir)
    assert not (harness.path / "elsewhere").exists()


@pytest.mark.parametrize("at_start, now, swept", [("send", "full", 0), ("full", "send", 1)])
def test_the_permissions_of_the_start_decide_whether_mailboxes_are_opened(make, at_start, now, swept):
    harness = make(permissions=at_start)
    harness.run(permissions=now)
    assert len(harness.swept) == swept
