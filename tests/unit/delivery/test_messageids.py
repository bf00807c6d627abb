"""Message-IDs that were used before: how many are remembered, and that the file does not grow for ever."""

import os

import pytest

from m365proxy.delivery import messageids
from m365proxy.delivery.messageids import SeenIds


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(messageids, "_REMEMBERED", 10)


def test_the_file_stays_small_and_keeps_the_newest(tmp_path):
    ids = SeenIds(str(tmp_path))
    for number in range(95):
        assert ids.is_new("tag", f"<{number}@device>", "id")
        assert len((tmp_path / "tag").read_bytes().splitlines()) <= 20
    for known in (ids, SeenIds(str(tmp_path))):
        assert not known.is_new("tag", "<94@device>", "another")
        assert not known.is_new("tag", "<85@device>", "another")
    assert ids.is_new("tag", "<84@device>", "another")


def test_a_disk_that_refuses_costs_no_mail(tmp_path, caplog):
    ids = SeenIds(str(tmp_path / "nowhere"))
    for number in range(10):
        assert ids.is_new("tag", f"<{number}@device>", "id")
    assert len(caplog.records) == 10 and not ids.is_new("tag", "<1@device>", "another")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs in directories")
def test_a_fifo_keeps_no_mail_waiting(tmp_path):
    os.mkfifo(tmp_path / "tag")
    seen = SeenIds(str(tmp_path))
    assert seen.is_new("tag", "<1@contoso.com>", "a") and not seen.is_new("tag", "<1@contoso.com>", "b")


def test_a_crash_right_after_choosing_the_message_id_does_not_change_it(tmp_path):
    for _ in range(2):
        ids = SeenIds(str(tmp_path))
        assert ids.is_new("tag", "<mine@device>", "id") and ids.is_new("tag", "<mine@device>", "id")
        assert not ids.is_new("tag", "<mine@device>", "another")
