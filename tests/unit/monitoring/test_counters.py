"""What is counted, and what is kept of it over a restart."""

import pytest

from m365proxy.monitoring.counters import Counter, Counters

ALERTS = "alerts@contoso.com"
NOW = 1_800_000_000.0


@pytest.fixture
def counters():
    counters = Counters()
    counters.note(NOW, {"event": "accepted", "id": "1", "size": 700})
    counters.note(NOW, {"event": "delivered", "id": "1", "mailbox": ALERTS})
    counters.note(NOW + 1, {"event": "deferred", "id": "2", "mailbox": ALERTS, "reason": "No route.", "code": "x"})
    counters.note(NOW + 2, {"event": "failed", "id": "2", "mailbox": ALERTS, "reason": "Too large."})
    return counters


def test_steps_are_counted(counters):
    totals = counters.totals()
    assert totals[Counter.ACCEPTED, ""] == totals[Counter.DELIVERED, ""] == totals[Counter.FAILED, ""] == 1
    assert totals[Counter.ACCEPTED_OCTETS, ""] == 700


def test_a_mailbox_is_remembered(counters):
    memory = counters.mailbox(ALERTS)
    assert (memory.last_delivery, memory.last_error, memory.last_error_time) == (NOW, "Too large.", NOW + 2)
    assert memory.last_day(NOW) == (1, 1)
    assert memory.last_day(NOW + 86400) == memory.last_day(NOW - 3600) == (0, 0)


def test_a_restart_changes_nothing(counters, tmp_path):
    counters.save(str(tmp_path))
    later = Counters()
    later.load(str(tmp_path))
    assert later.totals() == counters.totals()
    assert later.mailbox(ALERTS).last_day(NOW) == (1, 1)
    assert later.mailbox(ALERTS).last_error == "Too large."


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"totals": 7}', b'{"totals": [["delivered", "", "x"]]}'])
def test_a_damaged_file_begins_at_zero(tmp_path, content):
    (tmp_path / "counters.json").write_bytes(content)
    counters = Counters()
    counters.load(str(tmp_path))
    assert counters.totals() == {}
