"""Copies that grow while they are read."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

import pytest

from m365proxy.errors import Temporary
from m365proxy.maildrop import copies
from m365proxy.maildrop.copies import Cancelled, Copy, clear
from m365proxy.maildrop.top import top


@pytest.fixture
def make(tmp_path):
    made = []

    def make(lines=None, more=lambda copy, octets: True, settle=0.0):
        copy = Copy(str(tmp_path / f"{len(made)}.copy"), lines, more, settle)
        copy.open()
        made.append(copy)
        return copy

    yield make
    for copy in made:
        copy.close()


def test_it_is_read_while_it_grows(make):
    copy = make()
    assert not copy.wait_ready(0.0)
    asked = threading.Semaphore(0)
    found = []

    def read():
        found.extend(copy.chunks(asked.release))
        found.append("end")

    copy.write(b"one")
    assert copy.wait_ready(10.0) and not copy.whole
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert asked.acquire(timeout=10)  # it has read what there is, and says so before it waits
    assert found == [b"one"]
    copy.write(b"two")
    assert asked.acquire(timeout=10)
    assert found == [b"one", b"two"]
    copy.complete()
    copy.close()
    reader.join(10)
    assert found == [b"one", b"two", "end"]


def test_it_begins_anew_only_while_nothing_was_read(make):
    copy = make()
    copy.write(b"half")
    assert copy.restart() and copy.size == 0
    copy.write(b"whole")
    assert next(copy.chunks(lambda: None)) == b"whole"
    assert not copy.restart()


def test_what_breaks_off_is_told_before_the_first_octet_and_in_the_middle(make):
    early, late = make(), make()
    for copy in (early, late):
        copy.write(b"half")
    octets = late.chunks(lambda: None)
    assert next(octets) == b"half"
    for copy in (early, late):
        copy.fail(Temporary("broken"))
        copy.close()
    with pytest.raises(Temporary, match="broken"):
        early.wait_ready(10.0)
    assert late.wait_ready(0.0)
    with pytest.raises(Temporary, match="broken"):
        next(octets)


@pytest.mark.parametrize("taken", [False, True])
def test_one_that_breaks_off_before_it_is_read_may_be_gone(make, taken):
    """Between the reply's first line and the message's first octet, or between TOP and RETR."""
    copy = make()
    copy.write(b"half")
    assert copy.wait_ready(0.0)
    if taken:
        before = copy.chunks(lambda: None)
        assert next(before) == b"half"
        before.close()
    copy.fail(Temporary("broken"))
    copy.close()
    copies.remove(copy.path)
    with pytest.raises(Temporary, match="broken"):
        next(copy.chunks(lambda: None))


def test_what_broke_off_before_it_is_read_is_not_given_out(make):
    copy = make()
    copy.write(b"half")
    assert copy.wait_ready(0.0)
    copy.fail(Temporary("broken"))
    copy.close()
    with pytest.raises(Temporary, match="broken"):
        next(copy.chunks(lambda: None))


def test_the_writer_may_leave_a_copy_only_while_nobody_claimed_it(make):
    left, kept = make(), make()
    assert kept.claim(None)
    kept.require_claim()
    with pytest.raises(Cancelled):
        left.require_claim()
    assert not left.claim(None)


def test_a_writer_that_ends_without_a_word_fails_the_copy(make):
    copy = make()
    copy.close()
    assert not copy.useful and not copy.claim(None)
    with pytest.raises(Temporary):
        copy.wait_ready(10.0)


def test_silence_in_the_middle_ends_the_reader(make, monkeypatch):
    """The client has long given up, and its next session must not find the mailbox in use."""
    monkeypatch.setattr(copies, "_SILENCE", 0.0)
    monkeypatch.setattr(copies, "_SLICE", 0.0)
    copy = make()
    copy.write(b"half")
    octets = copy.chunks(lambda: None)
    assert next(octets) == b"half"
    with pytest.raises(Temporary, match="stopped sending"):
        next(octets)


def test_in_silence_it_is_asked_whether_to_go_on(make, monkeypatch):
    monkeypatch.setattr(copies, "_SLICE", 0.0)
    answers = [None, None, Temporary("gone")]

    def go_on():
        answer = answers.pop(0)
        if answer:
            raise answer

    with pytest.raises(Temporary, match="gone"):
        next(make().chunks(lambda: None, go_on))
    assert answers == []


def test_a_stopped_writer_learns_of_it(make):
    copy = make()
    copy.stop()
    with pytest.raises(Cancelled):
        copy.write(b"x")


def test_a_stopped_copy_is_not_begun_anew_and_asks_nothing(make):
    copy = make()
    copy.stop()
    assert not copy.restart()
    with pytest.raises(Cancelled):
        copy.cancellation.begin(None)


def test_stopping_interrupts_the_call_that_is_under_way(make):
    interrupted = []
    copy = make()
    copy.cancellation.begin(SimpleNamespace(interrupt=lambda: interrupted.append(1)))
    copy.stop()
    assert interrupted == [1]
    assert not copy.cancellation.end()
    copy.stop()
    assert interrupted == [1]  # the session may be another call's by now


def test_one_that_broke_off_before_is_given_out_when_it_is_whole(make):
    copy = make()
    copy.only_when_whole = True
    copy.write(b"half")
    assert not copy.wait_ready(0.0)
    assert copy.restart()
    copy.write(b"whole")
    copy.complete()
    copy.close()
    assert copy.wait_ready(0.0) and b"".join(copy.chunks(lambda: None)) == b"whole"


def test_a_copy_nobody_claimed_may_not_outgrow_its_charge(make):
    asked = []
    copy = make(more=lambda copy, octets: bool(asked.append(octets)))
    copy.charge = 10
    copy.write(b"x" * 10)
    with pytest.raises(Cancelled):
        copy.write(b"y")
    assert asked == [1] and copy.size == 10


def test_a_claimed_copy_may(make):
    copy = make(more=lambda copy, octets: False)
    assert copy.claim(None)
    copy.write(b"x" * 1000)


HEAD = b"A: b\r\n\r\n"


@pytest.mark.parametrize(
    "body, whole",
    [(b"one\r\n", True), (b"one\r\n" * 10_000, True), (b"one\r\n" * 20_000, False)],
)
def test_a_top_goes_on_a_little_and_may_become_the_whole(make, body, whole):
    copy = make(lines=1)
    raw = HEAD + body
    try:
        for at in range(0, len(raw), 1000):
            copy.write(raw[at : at + 1000])
        copy.complete()
    except Cancelled:
        assert copy.size < 70_000
    copy.close()
    assert copy.whole == whole and copy.useful
    assert copy.claim(0) and copy.claim(1)
    assert copy.claim(2) == copy.claim(None) == whole
    assert b"".join(top(copy.chunks(lambda: None), 1)) == HEAD + b"one\r\n"


def test_clearing_takes_what_is_ours_only(tmp_path):
    for name in ("1.copy", "new.json", "old.json", "old.tmp", "note.txt"):
        (tmp_path / name).write_text("x")
        if name.startswith(("old", "note")):
            os.utime(tmp_path / name, (1000.0, 1000.0))
    clear(str(tmp_path), 1000.0)
    assert sorted(os.listdir(tmp_path)) == ["new.json", "note.txt"]


def test_a_copy_that_cannot_be_removed_stops_no_start(tmp_path, monkeypatch, caplog):
    for name in ("1.copy", "2.copy"):
        (tmp_path / name).write_text("x")
    remove = os.unlink

    def held(path):
        if path.endswith("1.copy"):
            raise PermissionError(13, "Sharing violation", path)
        remove(path)

    monkeypatch.setattr(os, "unlink", held)
    stays = ["1.copy"]
    if os.name == "posix":  # on Windows it takes a right to make links
        (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
        stays.append("gone.json")
    clear(str(tmp_path), 1000.0)
    assert sorted(os.listdir(tmp_path)) == stays
    assert "1.copy, left by an earlier run, cannot be removed: Sharing violation" in caplog.text
