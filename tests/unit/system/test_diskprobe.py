"""Whether a disk that hangs is noticed, by a write that does not come back, and a clock that is set."""

import threading

import pytest
from waiting import wait_until

from m365proxy.system import diskprobe
from m365proxy.system.diskprobe import DiskProbe


class Disk:
    """What stands for `files.replace`: it can hang, or fail."""

    def __init__(self):
        self.writes = 0
        self.error = None
        self.answers = threading.Event()
        self.answers.set()

    def replace(self, path, content):
        self.writes += 1
        self.answers.wait()
        if self.error is not None:
            raise self.error


@pytest.fixture
def disk(monkeypatch):
    disk = Disk()
    monkeypatch.setattr(diskprobe.files, "replace", disk.replace)
    yield disk
    disk.answers.set()


@pytest.fixture
def noted():
    return []


@pytest.fixture
def now():
    return [100.0]


@pytest.fixture
def probe(disk, noted, now):
    return DiskProbe("state", noted.append, lambda: now[0])


def hang(probe, disk, now, seconds):
    """Ask while the disk hangs, and let so much time pass."""
    disk.answers.clear()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(probe.is_well()))
    asking.start()
    wait_until(lambda: disk.writes, what="the write")
    with probe._changed:
        now[0] += seconds
        probe._changed.notify_all()  # the clock that was set wakes nobody
    asking.join(60)
    return answers


def test_a_disk_that_answers_is_not_asked_at_once_again(probe, disk, noted, now):
    assert probe.is_well() and probe.is_well()
    assert disk.writes == 1
    now[0] += 2.0
    assert probe.is_well()
    assert (disk.writes, noted) == (2, [])


def test_a_disk_that_hangs(probe, disk, noted, now, caplog):
    assert hang(probe, disk, now, diskprobe.PATIENCE) == [False]
    assert not probe.is_well()  # at once: a second check of a load balancer waits for no more
    assert noted == []
    now[0] += diskprobe.DEADLINE - diskprobe.PATIENCE
    assert not probe.is_well()
    assert noted == [True]
    assert not probe.is_well()  # at once, and no second thread waits for the disk
    assert disk.writes == 1
    disk.answers.set()
    wait_until(lambda: noted == [True, False], what="the answer")
    assert probe.is_well()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]


def test_a_disk_that_refuses(probe, disk, noted, now, caplog):
    disk.error = OSError(30, "Read-only file system")
    assert not probe.is_well()
    assert "the disk of state does not take a file: Read-only file system" in caplog.text
    disk.error = None
    now[0] += 5.0
    assert probe.is_well()
    assert noted == []


def test_the_real_disk(tmp_path):
    assert DiskProbe(str(tmp_path)).is_well()
    assert not DiskProbe(str(tmp_path / "gone")).is_well()
