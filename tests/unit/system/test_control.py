"""control/: words of commands, each obeyed once, and faults of the directory."""

import os

import pytest

from m365proxy.system import control, files


@pytest.fixture
def directory(tmp_path):
    return str(tmp_path)


@pytest.fixture
def reader(directory):
    made = control.Control(directory)
    made.make()
    return made


def test_each_word_is_taken_once(reader, directory):
    control.request(directory, "queued", "20270101T000000-a")
    control.request(directory, "reload")
    assert sorted(reader.take()) == [("queued", "20270101T000000-a"), ("reload", "")]
    assert reader.take() == []


def test_what_was_asked_of_an_earlier_run_is_forgotten(directory):
    control.request(directory, "reload")
    made = control.Control(directory)
    made.make()
    assert made.take() == []


def test_a_file_that_cannot_be_removed_is_obeyed_later_and_stops_nothing(reader, directory, monkeypatch, caplog):
    control.request(directory, "reload")
    control.request(directory, "flush")
    real = files.remove

    def remove(path):
        if os.path.basename(path).startswith("reload"):
            raise PermissionError(13, "sharing violation")
        real(path)

    monkeypatch.setattr(files, "remove", remove)
    assert reader.take() == [("flush", "")]
    assert reader.take() == []
    assert caplog.text.count("sharing violation") == 1
    monkeypatch.setattr(files, "remove", real)
    assert reader.take() == [("reload", "")]


def test_a_directory_that_cannot_be_read_is_told_once_until_it_works_again(reader, directory, caplog):
    for _ in range(2):
        os.rmdir(os.path.join(directory, "control"))
        assert reader.take() == reader.take() == []
        os.mkdir(os.path.join(directory, "control"))
        assert reader.take() == []
    assert caplog.text.count("commands do not arrive") == 2


def test_what_was_asked_can_be_watched_and_withdrawn(reader, directory):
    control.request(directory, "login", "0f")
    assert control.is_waiting(directory, "login", "0f") and not control.is_waiting(directory, "login", "1f")
    assert reader.take() == [("login", "0f")] and not control.is_waiting(directory, "login", "0f")
    control.request(directory, "status")
    for _ in range(2):
        control.withdraw(directory, "status")
    assert reader.take() == []
