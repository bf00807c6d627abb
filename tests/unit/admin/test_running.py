"""Whether the program runs."""

import os

import pytest

from m365proxy.admin import running
from m365proxy.admin.running import at_rest, is_running
from m365proxy.system import files


def test_before_the_first_start_nothing_runs(config):
    assert not is_running(config)
    assert not os.path.exists(config.state_dir)


def test_the_lock_says_whether_it_runs(config):
    files.make_directory(config.state_dir)
    lock = files.Lock(os.path.join(config.state_dir, "lock"))
    lock.acquire()
    assert is_running(config)
    lock.release()
    assert not is_running(config)


def test_nothing_can_start_within_the_block(config):
    files.make_directory(config.state_dir)
    open(os.path.join(config.state_dir, "lock"), "w").close()
    with at_rest(config) as outer:
        assert outer and is_running(config)
    assert not is_running(config)


def test_who_may_not_know_is_not_told_that_nothing_runs(config, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(running.os, "stat", refuse)
    with pytest.raises(PermissionError):
        is_running(config)
