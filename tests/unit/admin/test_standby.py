"""A second program that waits for the state directory of the first."""

import queue
import threading

from configs import configured
from waiting import wait_until

from m365proxy.admin import standby
from m365proxy.system import files


class Manager:
    """What stands for the service manager."""

    def __init__(self):
        self.told = []

    def wait(self, status, seconds):
        assert seconds > 0
        self.told.append(status)


def begin(config, manager, asked):
    """(the thread that waits, what it returned)"""
    found = []
    waiting = threading.Thread(target=lambda: found.append(standby.wait(config, manager, asked)))
    waiting.start()
    return waiting, found


def test_it_waits_for_the_directory_and_does_not_make_it(tmp_path):
    manager = Manager()
    waiting, found = begin(configured(tmp_path), manager, queue.SimpleQueue())
    wait_until(lambda: manager.told, what="the word to the service manager")
    assert not (tmp_path / "state").exists() and found == []
    (tmp_path / "state").mkdir()
    waiting.join(60)
    assert found[0].lock.is_held and not found[0].has_waited
    found[0].lock.release()
    assert "is not there; waiting for its volume to be mounted." in manager.told[0]


def test_it_waits_for_the_lock(tmp_path):
    manager = Manager()
    (tmp_path / "state").mkdir()
    first = files.Lock(str(tmp_path / "state" / "lock"))
    first.acquire()
    first.note_holder()
    waiting, found = begin(configured(tmp_path), manager, queue.SimpleQueue())
    wait_until(lambda: manager.told, what="the word to the service manager")
    assert found == []
    first.release()
    waiting.join(60)
    assert found[0].lock.is_held and found[0].has_waited
    found[0].lock.release()
    assert "is in use by another m365proxy (pid " in manager.told[0]


def test_a_stop_ends_the_waiting(tmp_path):
    asked = queue.SimpleQueue()
    asked.put("reload")
    asked.put("stop")
    waiting, found = begin(configured(tmp_path), Manager(), asked)
    waiting.join(60)
    assert found == [None]


def test_a_directory_that_is_free_is_taken_at_once(tmp_path):
    manager = Manager()
    turn = standby.wait(configured(tmp_path, state_dir="."), manager, queue.SimpleQueue())
    assert turn.lock.is_held and not turn.has_waited and manager.told == []
    turn.lock.release()
