"""The monitor: status.json and the counters over starts and stops."""

import logging
import time

import pytest
from snapshots import ALERTS, NOW, PROGRAM, SIGNED_IN, watch

from m365proxy.monitoring.monitor import Monitor
from m365proxy.spool.overview import Overview
from m365proxy.spool.spool import Spool
from m365proxy.system import events, statusfile


@pytest.fixture
def make_monitor(tmp_path):
    made = []

    def make(clock=time.time):
        made.append(
            Monitor(
                lambda: watch(tmp_path),
                Overview(Spool(str(tmp_path / "queue"))),
                lambda: SIGNED_IN,
                lambda: PROGRAM,
                clock=clock,
            )
        )
        made[-1].start()
        return made[-1]

    yield make
    for monitor in made:
        monitor.stop()


def test_what_is_reported_is_what_is_written(make_monitor, tmp_path):
    monitor = make_monitor(clock=lambda: NOW)
    assert monitor.tick() == monitor.report() == statusfile.read(str(tmp_path))


def test_steps_in_the_log_are_counted_over_a_restart(make_monitor, monkeypatch):
    logger = logging.getLogger("m365proxy.courier")
    monkeypatch.setattr(logger, "level", logging.INFO)
    for _ in range(2):
        monitor = make_monitor()
        logger.info("sent", extra=events.step("delivered", id="1", mailbox=ALERTS))
        monitor.stop()
    assert make_monitor().report()["mailboxes"][ALERTS]["sent_24h"] == 2


def test_a_disk_that_takes_nothing_is_survived(make_monitor, tmp_path, monkeypatch):
    monitor = make_monitor()

    def full(directory, status):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(statusfile, "write", full)
    assert monitor.tick() is None


def test_devices_are_kept_over_a_restart(make_monitor, tmp_path):
    before = make_monitor()
    logger = logging.getLogger("m365proxy.smtp")
    logger.setLevel(logging.INFO)
    logger.info("refused", extra=events.step("refused", client="192.0.2.7", reply="504 Use AUTH PLAIN"))
    before.stop()
    assert [view["client"] for view in make_monitor().devices.views()] == ["192.0.2.7"]
