"""One thread writes for all, and the others go on."""

import threading

import pytest
from waiting import wait_until

from m365proxy.system import groupwriter
from m365proxy.system.groupwriter import GroupWriter


class Disk:
    """Takes what is written; it hangs while `goes_on` is not set."""

    def __init__(self):
        self.writes, self.threads, self.lost = [], [], []
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.began = threading.Semaphore(0)
        self.writer = GroupWriter(self.write, self.lost.append)

    def write(self, items):
        self.began.release()
        assert self.goes_on.wait(30)
        self.writes.append(list(items))
        self.threads.append(threading.current_thread().name)


@pytest.fixture
def disk():
    disk = Disk()
    yield disk
    disk.goes_on.set()


@pytest.fixture
def hanging(disk):
    """A disk that hangs with the first item in hand; its thread."""
    disk.goes_on.clear()
    thread = threading.Thread(target=disk.writer.put, args=("first",), name="hangs")
    thread.start()
    assert disk.began.acquire(timeout=30)
    yield thread
    disk.goes_on.set()
    thread.join(30)


def test_what_nobody_disturbs_is_written_when_put_returns(disk):
    for item in ("a", "b"):
        disk.writer.put(item)
        assert disk.writes[-1] == [item]
    assert disk.lost == []


def test_nobody_waits_for_a_write_that_hangs_and_what_came_meanwhile_is_one_write(disk, hanging):
    for number in range(5):
        disk.writer.put(number)
    assert disk.writes == []
    disk.goes_on.set()
    hanging.join(30)
    assert disk.writes == [["first"], [0, 1, 2, 3, 4]]
    assert disk.threads == ["hangs", "hangs"]


def test_while_it_is_held_nothing_is_written_and_nobody_waits(disk):
    with disk.writer.held():
        disk.writer.put("a")
        disk.writer.put("b")
        assert disk.writes == []
    assert disk.writes == [["a", "b"]]


def test_what_its_thread_could_not_write_yet_is_written_before_it_is_held(disk, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(disk.writer, "_write_waiting", lambda rounds: None)  # the system lets others run first
        disk.writer.put("a")
        with disk.writer.held():
            assert disk.writes == [["a"]]


def test_it_is_held_after_all_that_was_put_in_before(disk, hanging):
    disk.writer.put("second")
    found = []

    def hold():
        with disk.writer.held():
            found.extend(disk.writes)

    thread = threading.Thread(target=hold)
    thread.start()
    disk.goes_on.set()
    thread.join(30)
    assert found == [["first"], ["second"]]


def test_what_waits_has_a_limit_and_what_is_lost_is_told_once(disk, hanging, monkeypatch):
    monkeypatch.setattr(groupwriter, "_MOST", 3)
    for number in range(10):
        disk.writer.put(number)
    assert disk.lost == []
    disk.goes_on.set()
    hanging.join(30)
    disk.writer.put("later")
    assert disk.writes == [["first"], [0, 1, 2], ["later"]] and disk.lost == [7]


class Busy:
    """While something is written, somebody puts in the next."""

    def __init__(self, items):
        self.threads = []
        self._left = items
        self.writer = GroupWriter(self.write, None)

    def write(self, items):
        assert len(items) == 1
        self.threads.append(threading.current_thread().name)
        self._left -= 1
        if self._left:
            self.writer.put(self._left)


def test_nobody_writes_for_others_without_end():
    busy = Busy(50)
    busy.writer.put(50)
    wait_until(lambda: len(busy.threads) == 50)
    mine = threading.current_thread().name
    assert busy.threads == [mine] * groupwriter._ROUNDS + ["log-writer"] * (50 - groupwriter._ROUNDS)


def test_what_a_thread_puts_in_together_is_one_write_of_each_writer(disk):
    other = Disk()
    with groupwriter.together():
        for number in range(3):
            disk.writer.put(number)
            other.writer.put(-number)
        assert disk.writes == other.writes == []
    assert disk.writes == [[0, 1, 2]] and other.writes == [[0, -1, -2]]
    disk.writer.put("alone")
    assert disk.writes[-1] == ["alone"]


def test_what_another_thread_puts_in_takes_along_what_is_gathered(disk):
    with groupwriter.together():
        disk.writer.put("gathered")
        thread = threading.Thread(target=disk.writer.put, args=("other",))
        thread.start()
        thread.join(30)
        assert disk.writes == [["gathered", "other"]]
    assert disk.writes == [["gathered", "other"]]


def test_what_is_gathered_has_a_limit_and_nothing_is_lost(disk, monkeypatch):
    monkeypatch.setattr(groupwriter, "_TOGETHER", 3)
    with groupwriter.together():
        for number in range(4):
            disk.writer.put(number)
        assert disk.writes == [[0, 1, 2]]
    assert disk.writes == [[0, 1, 2], [3]] and disk.lost == []


def test_after_an_error_what_was_gathered_is_written(disk):
    with pytest.raises(KeyError), groupwriter.together():
        disk.writer.put("a")
        raise KeyError
    assert disk.writes == [["a"]]


def test_without_a_thread_to_hand_over_to_all_is_written_all_the_same(monkeypatch):
    def no_thread(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    busy = Busy(50)
    busy.writer.put(50)
    assert len(busy.threads) == 50


def test_a_write_that_fails_ends_the_turn(disk, monkeypatch):
    def interrupt(items):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(disk.writer, "_write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            disk.writer.put("a")
    disk.writer.put("b")
    assert disk.writes == [["b"]]


def test_many_threads_write_each_item_once_and_in_order(disk):
    each = groupwriter._MOST // 8  # none is thrown away, however long the one that writes is kept from it

    def put(name):
        for number in range(each):
            disk.writer.put((name, number))

    threads = [threading.Thread(target=put, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with disk.writer.held():
        items = [item for write in disk.writes for item in write]
    assert len(items) == 8 * each
    for name in range(8):
        assert [number for who, number in items if who == name] == list(range(each))
