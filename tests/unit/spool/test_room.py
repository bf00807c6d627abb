"""Room for new mail: how often the disk is asked, and that min_free is kept between two answers."""

import threading

import pytest

from m365proxy.errors import Temporary
from m365proxy.spool import room
from m365proxy.spool.room import Room
from m365proxy.system import files


class Disk:
    """What the disk answers, and how often it was asked."""

    def __init__(self, monkeypatch):
        self.free, self.inodes, self.asked, self.now = 1000, 50, 0, 0.0
        monkeypatch.setattr(files, "free_bytes", self._free)
        monkeypatch.setattr(files, "free_inodes", lambda path: self.inodes)

    def _free(self, path):
        self.asked += 1
        if isinstance(self.free, Exception):
            raise self.free
        return self.free

    def room(self, min_free=100):
        return Room("queue", min_free, lambda: self.now)


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def test_the_disk_is_asked_once_a_second(disk):
    made = disk.room()
    for _ in range(10):
        made.check()
    assert disk.asked == 1
    disk.now = 0.9
    made.check()
    assert disk.asked == 1
    disk.now = 1.0
    made.check()
    made.check()
    assert disk.asked == 2


def test_what_came_in_meanwhile_is_subtracted(disk):
    made = disk.room()
    made.check()
    made.hold(900)
    made.check()
    assert disk.asked == 1
    made.hold(1)
    disk.free = 999  # on the disk is nothing of it yet
    with pytest.raises(Temporary, match="min_free_mb"):
        made.check()
    assert disk.asked == 2


def test_octets_that_are_written_are_not_subtracted_twice(disk):
    made = disk.room()
    made.check()
    made.hold(500)
    made.let_go(500)
    disk.free, disk.now = 500, 1.0
    made.check()
    made.hold(400)
    made.check()
    assert disk.asked == 2


def test_octets_in_memory_will_need_room(disk):
    made = disk.room()
    made.hold(500)
    disk.free = 600
    made.check()
    disk.free, disk.now = 599, 1.0
    with pytest.raises(Temporary, match="min_free_mb"):
        made.check()
    made.let_go(500)
    made.check()


def test_nobody_is_refused_by_an_old_answer(disk):
    made = disk.room()
    disk.free = 99
    for asked in (1, 2):
        with pytest.raises(Temporary, match="min_free_mb"):
            made.check()
        assert disk.asked == asked
    disk.free = 100
    made.check()
    disk.inodes, disk.now = 0, 1.0
    for _ in range(2):
        with pytest.raises(Temporary, match="inodes"):
            made.check()
    disk.inodes = 1
    made.check()


@pytest.mark.parametrize("inodes", [None, 1])
def test_without_a_limit_only_files_have_to_be_possible(disk, inodes):
    disk.free, disk.inodes = 0, inodes
    made = disk.room(min_free=0)
    made.hold(10_000)
    made.check()


def test_a_disk_that_does_not_answer_is_trouble(disk):
    disk.free = OSError(5, "Input/output error")
    made = disk.room()
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output error"):
            made.check()
    disk.free = 100
    made.check()


def test_what_many_hold_is_bounded(disk):
    made = disk.room()
    taken = []

    def fill():
        while made.hold(1000):
            taken.append(1000)

    threads = [threading.Thread(target=fill) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == room.MOST_HELD // 1000 * 1000
    assert not made.hold(1000)
    made.let_go(1000)
    assert made.hold(1000)
