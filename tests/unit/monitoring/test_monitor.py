"""The monitor: status.json and the counters over starts and stops."""

import logging
import time

import pytest
from snapshots import ALERTS, NOW, PROGRAM, SIGNED_IN, watch

from m365proxy.monitoring.monitor import Monitor
from m365proxy.spool.overview import Overview
from m365proxy.spool.spool import Spool
from m365proxy.system import events, files, statusfile
from m365proxy.system.events import EventLog


class Notices:
    """Takes them at once."""

    def __init__(self):
        self.sent = []

    def send(self, notice, snapshot, settle):
        self.sent.append(notice)
        settle(notice, True)

    def stop(self):
        pass


@pytest.fixture
def notices():
    return Notices()


def expired():
    """A sign-in that is lost."""
    return {**SIGNED_IN, "needs_sign_in": True, "error": "It has expired. Run `m365proxy login`."}


def full(*_arguments, **_more):
    raise OSError(28, "No space left on device")


@pytest.fixture
def make_monitor(tmp_path, notices):
    made = []

    def make(clock=time.time, program=PROGRAM, sign_in=lambda: SIGNED_IN, **more):
        spool = Spool(str(tmp_path / "queue"))
        spool.make()
        made.append(
            Monitor(
                lambda: watch(tmp_path),
                Overview(spool),
                sign_in,
                lambda: program,
                clock=clock,
                notices=notices,
                **more,
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


def test_steps_in_the_log_are_counted_over_a_restart(make_monitor, caplog):
    logger = logging.getLogger("m365proxy.courier")
    caplog.set_level(logging.INFO, logger.name)
    for id in ("1", "2"):
        monitor = make_monitor()
        logger.info("sent", extra=events.step("delivered", id=id, mailbox=ALERTS))
        monitor.stop()
    assert make_monitor().report()["mailboxes"][ALERTS]["sent_24h"] == 2


def test_a_kill_is_made_good_by_the_event_log(make_monitor, tmp_path, caplog):
    logger = logging.getLogger("m365proxy.courier")
    caplog.set_level(logging.INFO, logger.name)
    event_log = EventLog(str(tmp_path / "events"), 8000)
    logging.getLogger().addHandler(event_log)
    killed = make_monitor(event_log=event_log)
    logger.info("sent", extra=events.step("delivered", id="1", mailbox=ALERTS))
    later = make_monitor()
    assert later.report()["mailboxes"][ALERTS]["sent_24h"] == 1
    later.stop()
    killed.stop()
    assert event_log in logging.getLogger().handlers  # steps of the stop are still written
    logging.getLogger().removeHandler(event_log)
    event_log.close()
    assert (tmp_path / "events" / "00000001.jsonl").read_bytes().count(b"\n") == 1


def test_counters_are_saved_each_minute(make_monitor, tmp_path):
    now = [100.0]
    monitor = make_monitor(monotonic=lambda: now[0])
    saved = tmp_path / "counters.json"
    for seconds, is_saved in ((59, False), (1, True), (59, False), (1, True)):
        saved.unlink(missing_ok=True)
        monitor.note_session("smtp", "192.0.2.9")
        now[0] += seconds
        monitor.tick()
        assert saved.exists() is is_saved


def test_counters_that_the_disk_does_not_take_stop_nothing(make_monitor, tmp_path, caplog):
    now = [100.0]
    (tmp_path / "counters.json").mkdir()
    monitor = make_monitor(monotonic=lambda: now[0])
    for _ in range(3):
        now[0] += 60
        assert monitor.tick() is not None
    said = [record.getMessage() for record in caplog.records if "cannot be written" in record.getMessage()]
    assert len(said) == 1 and said[0].startswith("counters.json and devices.json cannot be written: ")
    (tmp_path / "counters.json").rmdir()
    monitor.stop()
    assert (tmp_path / "counters.json").is_file()


def test_a_disk_that_takes_nothing_is_survived_and_logged_once(make_monitor, monkeypatch, caplog):
    monitor, names = make_monitor(), iter("abcd")

    def filled(directory, status):
        raise OSError(28, "No space left on device", next(names))

    with monkeypatch.context() as patch:
        patch.setattr(statusfile, "write", filled)
        monitor.tick()
        monitor.tick()
    said = [record.getMessage() for record in caplog.records]
    assert said == ["status.json cannot be written: No space left on device"]
    monitor.tick()
    assert monitor.report()["unwritable"] == ""


def test_a_full_disk_keeps_nobody_from_being_warned(make_monitor, notices, monkeypatch, caplog):
    seconds = [0.0]
    monitor = make_monitor(clock=lambda: NOW, monotonic=lambda: seconds[0], sign_in=expired)
    monkeypatch.setattr(statusfile, "write", full)
    monkeypatch.setattr(files, "replace", full)
    for _ in range(3):
        assert "sign-in" in [finding["key"] for finding in monitor.tick()["findings"]]
        seconds[0] += 600.0
    first, second = notices.sent
    assert first.keys == {"sign-in"} and "sign-in" in second.keys and len(second.keys) == 2
    assert caplog.text.count("warnings.json") == 1


def test_of_a_queue_that_cannot_be_read_somebody_is_warned(make_monitor, notices, monkeypatch):
    seconds = [0.0]
    monitor = make_monitor(monotonic=lambda: seconds[0])

    def unreadable(overview):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(Overview, "look", unreadable)
    report = monitor.tick()
    assert (report["unreadable"], [one["key"] for one in report["findings"]]) == (
        "Stale file handle",
        ["disk unreadable"],
    )
    seconds[0] = 600.0
    monitor.tick()
    assert [notice.keys for notice in notices.sent] == [{"disk unreadable"}]


def test_what_is_warned_of_outlives_a_restart(make_monitor, notices):
    seconds, wall = [0.0], [NOW]
    for sign_in, begin in ((expired, [NOW + 50.0]), (expired, [NOW + 50.0]), (lambda: SIGNED_IN, [])):
        monitor = make_monitor(lambda: wall[0], monotonic=lambda: seconds[0], sign_in=sign_in)
        for _ in range(20):
            seconds[0] += 50.0
            wall[0] += 50.0
            report = monitor.tick()
        monitor.stop()
        assert [finding["since"] for finding in report["findings"]] == begin
    assert [(len(notice.standing), len(notice.over)) for notice in notices.sent] == [(1, 0), (0, 1)]


def test_without_notices_the_log_says_it(make_monitor, caplog):
    seconds = [0.0]
    monitor = make_monitor(clock=lambda: NOW, monotonic=lambda: seconds[0], sign_in=expired)
    monitor._notices = None
    for _ in range(20):
        seconds[0] += 50.0
        monitor.tick()
    assert [record.getMessage() for record in caplog.records] == ["It has expired. Run: m365proxy login"]


def test_devices_are_kept_over_a_restart(make_monitor, tmp_path):
    before = make_monitor()
    logger = logging.getLogger("m365proxy.smtp")
    logger.setLevel(logging.INFO)
    logger.info("refused", extra=events.step("refused", client="192.0.2.7", reply="504 Use AUTH PLAIN"))
    before.stop()
    assert [view["client"] for view in make_monitor().devices.views()] == ["192.0.2.7"]


def test_a_disk_that_takes_nothing_is_reported_until_it_does_again(make_monitor, monkeypatch):
    monitor = make_monitor()
    assert monitor.report()["unwritable"] == ""
    with monkeypatch.context() as patched:
        patched.setattr(statusfile, "write", full)
        monitor.tick()
    assert monitor.report()["unwritable"] == "No space left on device"
    assert monitor.tick() is not None
    assert monitor.report()["unwritable"] == ""


def test_alive_is_who_ticks_and_listens(make_monitor):
    now, deaf = [0.0], []
    monitor = make_monitor(program={**PROGRAM, "deaf": deaf}, monotonic=lambda: now[0])
    now[0] = 59.9
    assert monitor.is_alive()
    now[0] = 60.0
    assert not monitor.is_alive()
    assert monitor.report()["stalled"] == 60
    monitor.tick()
    assert monitor.is_alive()
    deaf.append("smtp 127.0.0.1:2525")
    assert not monitor.is_alive()
    assert monitor.report()["deaf"] == deaf


def test_a_report_says_why_mail_is_refused(tmp_path):
    spool = Spool(str(tmp_path / "queue"), min_free=2**62)
    spool.make()
    monitor = Monitor(lambda: watch(tmp_path), Overview(spool), lambda: SIGNED_IN, lambda: PROGRAM)
    assert "queue.min_free_mb" in monitor.report()["refusing"]
