"""A message on its way to new/: what of it is in memory, which calls the disk gets, and that a fault leaves nothing."""

import collections
import errno
import io
import os
import random
import sys

import pytest

from m365proxy.errors import Temporary
from m365proxy.spool import incoming as incoming_module
from m365proxy.spool import room
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.incoming import SMALL
from m365proxy.spool.spool import Spool
from m365proxy.system import files

ENVELOPE = Envelope("alerts@contoso.com", "alerts@contoso.com", ("a@contoso.com",))
MAIL = b"Subject: x\r\n\r\nhello\r\n"
LARGE = random.Random(1).randbytes(3 * SMALL + 17)

CALLS = ("open", "write", "fsync", "close", "replace", "unlink", "lseek", "read", "fdopen", "statvfs")


@pytest.fixture
def spool(tmp_path):
    made = Spool(str(tmp_path / "queue"), min_free=1)
    made.make()
    return made


@pytest.fixture
def calls(monkeypatch):
    """How often each function of `os` that is a system call was called; files opened by Python's own open, too."""
    counted = collections.Counter()

    def count(module, name):
        real = getattr(module, name)

        def call(*values, **more):
            counted[name] += 1
            return real(*values, **more)

        monkeypatch.setattr(module, name, call)

    for name in filter(lambda name: hasattr(os, name), CALLS):
        count(os, name)
    count(io, "FileIO")
    return counted


def put(spool, *pieces, accepted=lambda id: None):
    incoming = spool.put(ENVELOPE, accepted)
    for piece in pieces:
        incoming.write(piece)
    return incoming


def in_new(spool):
    [entry] = spool.entries()
    assert entry.place == "new"
    envelope, file = spool.open(entry)
    with file:
        assert envelope.recipients == ENVELOPE.recipients
        return file.read()


def in_tmp(spool):
    return os.listdir(os.path.join(spool.directory, "tmp"))


def sizes(octets):
    return [octets[start : start + 1000] for start in range(0, len(octets), 1000)]


@pytest.mark.skipif(sys.platform == "win32", reason="a directory is not synced there")
def test_a_small_message_takes_one_write_and_two_syncs(spool, calls):
    put(spool).abort()  # the free space was asked for
    calls.clear()
    incoming = put(spool, MAIL, MAIL)
    with incoming.open() as file:
        assert file.read() == 2 * MAIL
    assert calls == {}
    incoming.commit()
    incoming.abort()
    assert calls == {"open": 1, "write": 1, "fsync": 2, "close": 1, "replace": 1}
    assert in_new(spool) == 2 * MAIL


def test_a_large_message_is_written_in_large_pieces(spool, calls):
    put(spool, *sizes(LARGE)).commit()
    assert calls["open"] == 1 and calls["write"] == 3 and calls["unlink"] == 0
    assert in_new(spool) == LARGE


@pytest.mark.parametrize("octets, writes", [(SMALL - 1000, 0), (SMALL, 1)])
def test_up_to_64_kb_nothing_is_on_the_disk_until_the_end(spool, octets, writes):
    incoming = put(spool, *sizes(LARGE[:octets]))
    assert len(in_tmp(spool)) == writes
    incoming.commit()
    assert in_new(spool) == LARGE[:octets] and in_tmp(spool) == []


@pytest.mark.parametrize("content", [MAIL, LARGE], ids=["small", "large"])
def test_it_is_looked_at_and_taken_as_it_came(spool, content):
    incoming = put(spool, *sizes(content))
    for _ in range(2):
        with incoming.open() as file:
            assert file.tell() == incoming._start and file.read() == content
    incoming.write(b"more\r\n")
    assert incoming.size == len(content) + 6
    incoming.commit()
    assert in_new(spool) == content + b"more\r\n"


@pytest.mark.parametrize("content", [MAIL, LARGE], ids=["small", "large"])
def test_abort_leaves_nothing(spool, content):
    incoming = put(spool, content)
    incoming.abort()
    incoming.abort()
    assert in_tmp(spool) == [] and list(spool.entries()) == []
    with pytest.raises(AssertionError):
        incoming.commit()


@pytest.mark.parametrize("content", [MAIL, LARGE], ids=["small", "large"])
def test_a_message_that_was_taken_stays(spool, content):
    incoming = put(spool, content)
    incoming.commit()
    incoming.abort()
    assert in_new(spool) == content


@pytest.mark.parametrize("content", [MAIL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("broken", ["create", "sync_file", "move", "sync_directory"])
def test_a_disk_that_fails_leaves_nothing_and_tells_nobody(spool, monkeypatch, content, broken):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, broken, fail)
    with pytest.raises(Temporary, match="Input/output error"):
        put(spool, content, accepted=lambda id: pytest.fail("told")).commit()
    assert in_tmp(spool) == [] and list(spool.entries()) == []
    assert spool._room._held == 0


@pytest.mark.parametrize("content", [MAIL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("fits", [0, 30])
def test_a_disk_that_fills_up_leaves_nothing(spool, monkeypatch, content, fits):
    real, free = os.write, [fits]

    def write(handle, data):
        if not free[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(handle, data[: free[0]])
        free[0] -= written
        return written

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(Temporary, match="No space left"):
        put(spool, content).commit()
    assert in_tmp(spool) == [] and list(spool.entries()) == []
    assert spool._room._held == 0


def test_a_disk_that_takes_a_little_at_a_time_gets_all(spool, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:7]))
    put(spool, MAIL).commit()
    assert in_new(spool) == MAIL


def test_what_cannot_be_removed_is_said(spool, monkeypatch, caplog):
    def fail(path, *_):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    incoming = put(spool, LARGE)
    monkeypatch.setattr(files, "remove", fail)
    incoming.abort()
    assert f"{incoming.id} cannot be removed: Permission denied. Remove it by hand." in caplog.text


# -- memory ------------------------------------------------------------------


def test_beyond_what_may_be_in_memory_a_message_is_written_as_it_comes_in(spool, monkeypatch):
    monkeypatch.setattr(room, "MOST_HELD", 10_000)
    first, second = (put(spool, LARGE[:4000]) for _ in range(2))
    assert in_tmp(spool) == []
    third = put(spool, LARGE[:4000], LARGE[4000:4010])
    assert in_tmp(spool) == [third.id]
    assert spool._room._held < 10_000
    with third.open() as file:
        assert file.read() == LARGE[:4010]
    for one in (first, third, second):
        one.commit()
    assert spool._room._held == 0 and len(list(spool.entries())) == 3
    put(spool, LARGE[:8000])
    assert in_tmp(spool) == []


def test_what_is_in_memory_does_not_depend_on_how_small_the_pieces_are(spool, monkeypatch):
    incoming = put(spool)
    for _ in range(1000):
        incoming.write(b"x")
    assert sys.getsizeof(incoming._pending) < 3000


def test_an_envelope_that_is_larger_is_written_at_once(spool):
    many = tuple(f"{'x' * 60}{number}@example.org" for number in range(1000))
    incoming = spool.put(Envelope("alerts@contoso.com", "", many))
    assert in_tmp(spool) == [incoming.id]
    incoming.write(MAIL)
    incoming.commit()
    envelope, file = spool.open(next(spool.entries()))
    with file:
        assert envelope.recipients == many and file.read() == MAIL


# -- the directory -----------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc/self/fd")
def test_the_directory_is_open_until_the_spool_is_closed(spool):
    def opened():
        targets = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
        return [os.readlink(one) for one in targets if os.path.lexists(one)].count(os.path.join(spool.directory, "new"))

    put(spool, MAIL).commit()
    assert opened() == 1
    spool.make()
    assert opened() == 1
    spool.close()
    assert opened() == 0
    put(spool, MAIL).commit()
    assert opened() == 0 and len(list(spool.entries())) == 2


def test_nothing_is_said_before_the_last_sync(spool, monkeypatch):
    steps = []
    for name in ("create", "sync_file", "move", "sync_directory"):
        real = getattr(files, name)
        monkeypatch.setattr(files, name, lambda *a, real=real, name=name: (steps.append(name), real(*a))[1])
    put(spool, MAIL, accepted=lambda id: steps.append("told")).commit()
    assert steps == ["create", "sync_file", "move", "sync_directory", "told"]


def test_the_limit_of_memory_is_far_above_that_of_one_message():
    assert incoming_module.SMALL * 100 < room.MOST_HELD
