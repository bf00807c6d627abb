import errno
import os
import stat
import subprocess
import sys
import time
import types

import pytest
from cases import each

from m365proxy.errors import CannotCreate, InUse
from m365proxy.system import files


def test_replace_exchanges_the_content_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "x.json"
    files.replace(str(path), b"old")
    files.replace(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x.json"]
    if sys.platform != "win32":  # which has access lists instead of modes
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_replace_that_fails_keeps_the_old_content(tmp_path, monkeypatch, broken):
    path = tmp_path / "x.json"
    files.replace(str(path), b"old")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files.os, broken, fail)
    with pytest.raises(OSError):
        files.replace(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.json"]


def test_replace_syncs_the_file_before_the_rename_and_the_directory_after(tmp_path, monkeypatch):
    steps = []
    real_fsync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda fd: (steps.append("fsync"), real_fsync(fd)))
    monkeypatch.setattr(files.os, "replace", lambda a, b: (steps.append("rename"), real_replace(a, b)))
    files.replace(str(tmp_path / "x"), b"1")
    assert steps == ["fsync", "rename", *([] if sys.platform == "win32" else ["fsync"])]
    del steps[:]
    files.replace(str(tmp_path / "x"), b"1", durable=False)
    assert steps == ["rename"]


@pytest.mark.parametrize("hours", [-2, 2])
def test_what_a_dead_run_left_unfinished_is_removed_and_nothing_else(tmp_path, monkeypatch, hours):
    monkeypatch.setattr(files, "move", lambda source, target: None)
    monkeypatch.setattr(files, "remove", lambda path: None)
    for name in ("tokens.enc", "status.json"):
        files.replace(str(tmp_path / name), b"new")
    monkeypatch.undo()
    left = sorted(tmp_path.iterdir())
    assert len(left) == 2
    kept = [tmp_path / name for name in ("tokens.enc", "notes.tmp", "a.1.2f.tmp")]
    for path in kept:
        path.write_bytes(b"")
    for path in [*left, *kept[:2]]:
        os.utime(path, (time.time() - hours * 3600,) * 2)
    files.remove_unfinished(str(tmp_path))
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_create_never_takes_a_name_twice(tmp_path):
    files.create(str(tmp_path / "x")).close()
    with pytest.raises(FileExistsError):
        files.create(str(tmp_path / "x"))


@pytest.mark.parametrize("platform,told", [("linux", {"mode": 0o700}), ("win32", {})])
def test_make_directory_leaves_the_rights_to_the_parent_on_windows(tmp_path, monkeypatch, platform, told):
    """A mode of 0700 there is a protected access list without the service's user (gh-118486)."""
    made = []
    monkeypatch.setattr(files.sys, "platform", platform)
    monkeypatch.setattr(files.os, "makedirs", lambda path, exist_ok, **more: made.append(more))
    files.make_directory(str(tmp_path))
    assert made == [told]


def test_make_directory_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CannotCreate, match="cannot be created: a file is in its place, or in that of"):
            files.make_directory(str(path))


def test_make_directory_looks_for_the_file_itself(tmp_path, monkeypatch):
    """Windows only says that a path is not found, whatever is in its place."""

    def refuse(path, exist_ok, **more):
        raise FileNotFoundError(2, "The system cannot find the path specified")

    monkeypatch.setattr(files.os, "makedirs", refuse)
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotCreate, match="a file is in its place, or in that of"):
        files.make_directory(str(tmp_path / "file" / "a" / "b"))
    with pytest.raises(CannotCreate, match="cannot find the path specified"):
        files.make_directory(str(tmp_path / "a" / "b"))


@pytest.mark.skipif(sys.platform == "win32", reason="has no such call")
@pytest.mark.parametrize("flag, error", [(0, CannotCreate), (getattr(os, "ST_RDONLY", 1), OSError)])
def test_a_disk_that_became_read_only_is_no_matter_of_rights(tmp_path, monkeypatch, flag, error):
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    monkeypatch.setattr(files.os, "statvfs", lambda path: types.SimpleNamespace(f_flag=flag))
    with pytest.raises(error, match="who must own it" if error is CannotCreate else "Read-only file system"):
        files.make_directory(str(tmp_path))


def test_lock_is_refused_to_another_process_and_names_the_pid(tmp_path):
    lock = files.Lock(str(tmp_path / "lock"))
    lock.acquire()
    lock.note_holder()
    code = (
        "import sys; from m365proxy.system import files\n"
        "try: files.Lock(sys.argv[1]).acquire()\n"
        "except files.InUse as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], capture_output=True, text=True)
    assert f"pid {os.getpid()}" in said.stdout
    lock.release()
    said = subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], capture_output=True, text=True)
    assert said.stdout == said.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="there, only this process can end its lock")
def test_a_lock_that_went_to_another_is_noticed(tmp_path):
    import fcntl

    lock = files.Lock(str(tmp_path / "lock"))
    lock.confirm()
    lock.acquire()
    lock.confirm()
    fcntl.flock(lock._file, fcntl.LOCK_UN)  # as a volume does while it does not reach this machine
    lock.confirm()  # nobody has taken it: it is this one's again
    with pytest.raises(InUse):
        files.Lock(str(tmp_path / "lock")).acquire()
    fcntl.flock(lock._file, fcntl.LOCK_UN)
    with files.locked(str(tmp_path / "lock")), pytest.raises(InUse, match="its lock was lost"):
        lock.confirm()
    lock.release()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks no directories")
def test_a_directory_is_locked_without_a_file(tmp_path):
    with files.locked_directory(str(tmp_path), 0):
        with pytest.raises(InUse, match="Another m365proxy is writing"), files.locked_directory(str(tmp_path), 0.05):
            raise AssertionError("it is locked twice")
        assert list(tmp_path.iterdir()) == []
    with files.locked_directory(str(tmp_path), 0), files.locked_directory(str(tmp_path / "missing"), 0):
        pass


def test_lock_waits_no_longer_than_told(tmp_path):
    with files.locked(str(tmp_path / "lock")), pytest.raises(InUse):
        files.Lock(str(tmp_path / "lock")).acquire(0.05)


def test_move_over_a_rename_that_windows_refuses_for_a_moment(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("x")
    real = os.replace
    refusals = [PermissionError(13, "in use"), PermissionError(13, "in use")]

    def replace(source, target):
        if refusals:
            raise refusals.pop()
        real(source, target)

    monkeypatch.setattr(files.sys, "platform", "win32")
    monkeypatch.setattr(files.os, "replace", replace)
    monkeypatch.setattr(files, "_RENAME_PATIENCE", (0.0, 0.0))
    files.move(str(tmp_path / "a"), str(tmp_path / "b"))
    assert (tmp_path / "b").read_text() == "x"


@each("number, status", [("ENOSPC", 74), ("EROFS", 74), ("EIO", 74), ("EACCES", 73), ("ENOENT", 73)])
def test_a_full_or_failing_disk_has_an_exit_status_of_its_own(number, status):
    failure = files.cannot_create("No.", OSError(getattr(errno, number), "why"))
    assert (str(failure), failure.exit_status) == ("No.", status)
