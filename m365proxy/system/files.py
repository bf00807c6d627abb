"""The only place that syncs, renames, creates and locks files.

Everything durable goes through here, so that one place has to be right about
power cuts, and one place has to be made to fail in tests.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import stat
import sys
import time
from typing import Any, BinaryIO, Iterator, Optional, Union

from ..errors import CannotCreate, InUse
from . import log

if sys.platform == "win32":
    import ctypes
    import msvcrt
    from ctypes import wintypes

    # CreateFileW (Win32 API, fileapi.h): Python's own open lets nobody rename or remove the file.
    _GENERIC_READ, _SHARE_ALL, _OPEN_EXISTING, _ATTRIBUTE_NORMAL = 0x80000000, 1 | 2 | 4, 3, 0x80
    _INVALID_HANDLE = wintypes.HANDLE(-1).value
    _create_file = ctypes.WinDLL("kernel32", use_last_error=True).CreateFileW
    _create_file.restype = wintypes.HANDLE
    _create_file.argtypes = (
        wintypes.LPCWSTR,
        wintypes.DWORD,
        wintypes.DWORD,
        wintypes.LPVOID,
        wintypes.DWORD,
        wintypes.DWORD,
        wintypes.HANDLE,
    )
else:
    import fcntl

logger = log.get("disk")

# A virus scanner or indexer on Windows holds a fresh file open for a moment, and no file is replaced while somebody
# reads it: if there were few attempts, one who reads it again and again might meet all of them.
_RENAME_PATIENCE = (0.01, 0.02) + (0.04,) * 18

# How often (seconds) the holder of a lock asks whether it is still its own.
CONFIRM_SECONDS = 5.0


# The errors of a disk that is full, or failing.
DISK_FAULTS = (errno.ENOSPC, errno.EIO, errno.EROFS, getattr(errno, "EDQUOT", errno.ENOSPC))


def cannot_create(sentence: str, error: OSError) -> CannotCreate:
    """To be raised for something that could not be made; a full or failing disk has an exit status of its own (74)."""
    failure = CannotCreate(sentence)
    if error.errno in DISK_FAULTS:
        failure.exit_status = 74
    return failure


class NoFile(OSError):
    """What has the name is no regular file, but a directory, a FIFO or the like."""


class NewFile(io.RawIOBase):
    """A file that is being written.  Each write is one system call: who writes little at a time has to collect it."""

    def __init__(self, handle: int):
        """`handle`: the descriptor, which is closed by this object."""
        self._handle = handle

    def fileno(self) -> int:
        return self._handle

    def write(self, data: Any) -> int:
        """Write all of it.  OSError if the disk does not take all."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._put(rest) :]
        return len(data)

    def _put(self, data: memoryview) -> int:
        return os.write(self._handle, data)

    def empty(self) -> None:
        """Remove what was written, and begin anew."""
        os.ftruncate(self._handle, 0)
        os.lseek(self._handle, 0, os.SEEK_SET)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._handle)


def create(path: str, mode: int = 0o600) -> NewFile:
    """Open a new file for writing; FileExistsError if the name is taken."""
    # Python's own open asks for the file's kind and position, too: three more system calls, in each of which other
    # threads can take the interpreter's lock.
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    return NewFile(os.open(path, flags, mode))


def open_to_append(path: str) -> BinaryIO:
    """Open a file of our own (0600) for writing at its end; made if it is not there.  OSError for what is no file."""
    return os.fdopen(_open_end(path), "ab")


def open_unbuffered(path: str) -> io.FileIO:
    """As `open_to_append`, but each write is one system call; a full disk may take less than all of it."""
    return io.FileIO(_open_end(path), "ab")


def _open_end(path: str) -> int:
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags, 0o600)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise NoFile(errno.EINVAL, "is no regular file", path)


def sync_file(file: Union[BinaryIO, NewFile]) -> None:
    """Put a file's content on the disk.

    A failure is final for the file: the kernel may have dropped the pages, so
    a second fsync could succeed over lost data.  Callers discard the file.
    """
    file.flush()
    os.fsync(file.fileno())


# What `replace` writes first, and after how many seconds nobody writes it any more, whichever way the clock was set.
_UNFINISHED = re.compile(r".+\.[0-9]+\.[0-9a-f]+\.tmp")
_UNFINISHED_SECONDS = 3600.0


class OpenDirectory:
    """A directory that is synced often: its descriptor stays open as long as there is this object (POSIX).

    It has no method to close it: another thread could be about to sync it, and the number of the descriptor might
    belong to another file by then.
    """

    def __init__(self, path: str):
        self._handle = -1
        if sys.platform != "win32":
            self._handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def fileno(self) -> int:
        return self._handle

    def __del__(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)


def sync_directory(path: str, opened: Optional[OpenDirectory] = None) -> None:
    """Put a directory's entries on the disk.  Windows has no such call; NTFS journals them.

    `opened`: the same directory, if it is open already.
    """
    if sys.platform == "win32":
        return
    if opened is None:
        opened = OpenDirectory(path)
    os.fsync(opened.fileno())


def move(source: str, target: str) -> None:
    """Rename within one file system; FileNotFoundError if somebody else moved `source` first."""
    for pause in _RENAME_PATIENCE:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if sys.platform != "win32":
                raise
            time.sleep(pause)
    os.replace(source, target)


def remove(path: str) -> None:
    """Delete a file; one that is already gone is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def replace(path: str, content: Union[bytes, bytearray], mode: int = 0o600, durable: bool = True) -> None:
    """Exchange a file's content in one step: readers see the old or the new, whole.

    With `durable` the new content survives a power cut once this returns.
    """
    temporary = f"{path}.{os.getpid()}.{time.monotonic_ns():x}.tmp"
    try:
        with create(temporary, mode) as file:
            file.write(content)
            if durable:
                sync_file(file)
        move(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    if durable:
        sync_directory(os.path.dirname(path) or ".")


def remove_unfinished(directory: str) -> None:
    """Remove what `replace` left in a directory when the program or the machine died in it.

    Only what is an hour old: a command may be writing beside the program.  What cannot be removed stays.
    """
    for name in list(names(directory)):
        path = os.path.join(directory, name)
        with contextlib.suppress(OSError):
            if _UNFINISHED.fullmatch(name) and abs(time.time() - os.stat(path).st_mtime) > _UNFINISHED_SECONDS:
                remove(path)


def read(path: str, limit: int = 16 * 1024 * 1024) -> Optional[bytes]:
    """A small file's content (at most `limit` octets), or None if there is no such file."""
    try:
        with open_shared(path) as file:
            # With a limit, Python takes so much memory before it reads.
            return file.read(limit if os.fstat(file.fileno()).st_size > limit else -1)
    except FileNotFoundError:
        return None


def names(directory: str) -> Iterator[str]:
    """The regular files of a directory: opening anything else, as a FIFO, could wait for ever."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                yield entry.name


def open_shared(path: str) -> BinaryIO:
    """Open a file for reading so that it can be renamed and removed meanwhile, which Windows has to be asked for.

    NoFile for what is no regular file.
    """
    if sys.platform == "win32":
        handle = _create_file(path, _GENERIC_READ, _SHARE_ALL, None, _OPEN_EXISTING, _ATTRIBUTE_NORMAL, None)
        if handle == _INVALID_HANDLE:
            raise ctypes.WinError(ctypes.get_last_error())
        return os.fdopen(msvcrt.open_osfhandle(handle, os.O_RDONLY | os.O_BINARY), "rb")
    else:  # type checkers read one branch only
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # no waiting for a FIFO's other end
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return os.fdopen(handle, "rb")
        os.close(handle)
        raise NoFile(errno.EINVAL, "is no regular file", path)


def make_directory(path: str) -> None:
    """Make a directory (0700) and its parents, and see that it can be written; CannotCreate, or OSError for the disk.

    Windows gets no mode: its Pythons make an access list of 0700 that holds
    the one who made the directory only, and would shut a service's user out.
    What is inherited from the parent protects it there.
    """
    mode = {} if sys.platform == "win32" else {"mode": 0o700}
    try:
        os.makedirs(path, exist_ok=True, **mode)
    except OSError as error:
        if _file_in_its_place(path):
            raise CannotCreate(
                f"The directory {path} cannot be created: a file is in its place, or in that of a directory above it. "
                "Move the file away."
            ) from None
        sentence = (
            f"The directory {path} cannot be created: {error.strerror}. Create it, or give this user the right to."
        )
        raise cannot_create(sentence, error) from None
    if not os.access(path, os.W_OK | os.X_OK):
        if _is_read_only(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
        raise CannotCreate(
            f"The directory {path} cannot be written by this user. Run the command as root or as the user the service "
            "runs as, who must own it with the right to write."
        )


def _file_in_its_place(path: str) -> bool:
    """Whether there is something else than a directory; the errors differ, and Windows says that there is nothing."""
    while not os.path.lexists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return os.path.lexists(path) and not os.path.isdir(path)


def _is_read_only(path: str) -> bool:
    """Whether its file system is: Linux makes it so after errors of the disk."""
    return sys.platform != "win32" and bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def make_private(path: str) -> None:
    """`make_directory`, and close to others what an earlier version left open to them: the directory and its files."""
    make_directory(path)
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):  # somebody else's file: the directory is closed first
        os.chmod(path, 0o700)
        for entry in os.scandir(path):
            if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mode & 0o077:
                os.chmod(entry.path, 0o600)


def free_bytes(path: str) -> int:
    """Octets an ordinary user may still write on the file system of `path`."""
    return shutil.disk_usage(path).free


def free_inodes(path: str) -> Optional[int]:
    """Files that can still be made on the file system of `path`; None where there is no such number."""
    if sys.platform == "win32":
        return None
    numbers = os.statvfs(path)
    return numbers.f_favail if numbers.f_files else None


class Lock:
    """An operating-system lock on a file: gone when the process is, however it ends."""

    def __init__(self, path: str):
        self.path = path
        self._file: Optional[BinaryIO] = None

    @property
    def is_held(self) -> bool:
        return self._file is not None

    def acquire(self, seconds: float = 0.0) -> None:
        """Take the lock, waiting up to `seconds`; InUse names the holder's pid where it is known."""
        file = self._open()
        deadline = time.monotonic() + seconds
        while not _try_lock(file):
            if time.monotonic() >= deadline:
                holder = self._holder(file)
                file.close()
                raise InUse(f"{os.path.dirname(self.path)} is in use by another m365proxy{holder}.")
            time.sleep(0.02)
        self._file = file

    def confirm(self) -> None:
        """InUse if the lock is another machine's now: a volume gives it away while it does not reach this machine.

        It is asked for anew, which on a disk of this machine's own costs nothing.
        """
        file = self._file
        if sys.platform != "win32" and file is not None and _is_locked_by_others(file.fileno()):
            raise InUse(f"{os.path.dirname(self.path)} is in use by another m365proxy now: its lock was lost.")

    def keep(self) -> None:
        """For a timer, as whoever writes may hang: the end of the program if `confirm` fails.

        Nothing is put in order: all of that is the other one's now, which goes by what a kill leaves behind.
        """
        try:
            self.confirm()
        except InUse as error:
            logger.critical("%s This one ends.", error)
            os._exit(error.exit_status)

    def note_holder(self) -> None:
        """Write our pid into the lock file, for the message that others get."""
        assert self._file is not None
        self._file.seek(1)
        self._file.truncate()
        self._file.write(b"%d\n" % os.getpid())
        self._file.flush()

    def release(self) -> None:
        if self._file is not None:
            if sys.platform == "win32":
                self._file.seek(0)
                msvcrt.locking(self._file.fileno(), msvcrt.LK_UNLCK, 1)
            self._file.close()
            self._file = None

    def _open(self) -> BinaryIO:
        flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_BINARY", 0)
        try:
            return os.fdopen(os.open(self.path, flags, 0o600), "r+b", buffering=0)
        except OSError as error:
            raise cannot_create(
                f"The lock file {self.path} cannot be opened: {error.strerror}. "
                "Run as the user who owns the state directory.",
                error,
            ) from None

    @staticmethod
    def _holder(file: BinaryIO) -> str:
        # Octet 0 is what Windows locks; the pid comes after it and stays readable.
        try:
            file.seek(1)
            pid = file.read(20).strip().decode("ascii", "replace")
        except OSError:
            return ""
        return f" (pid {pid})" if pid.isdigit() else ""


@contextlib.contextmanager
def locked_directory(path: str, seconds: float) -> Iterator[None]:
    """Hold a lock on a directory, waiting up to `seconds`, without a file for it; InUse if another program has it.

    No lock where there is none: on Windows, on some file systems of the
    network, and as long as the directory is not there.
    """
    try:
        if sys.platform == "win32":
            raise NotADirectoryError
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield
        return
    try:
        deadline = time.monotonic() + seconds
        while _is_locked_by_others(handle):
            if time.monotonic() >= deadline:
                raise InUse(f"Another m365proxy is writing in {path}. Run the command again.")
            time.sleep(0.02)
        yield
    finally:
        os.close(handle)


def _is_locked_by_others(handle: int) -> bool:
    """Whether somebody else has the lock; if not, it is ours, where there are locks."""
    if sys.platform != "win32":
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return isinstance(error, BlockingIOError)
    return False


def _try_lock(file: BinaryIO) -> bool:
    try:
        if sys.platform == "win32":
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def locked(path: str, seconds: float = 30.0) -> Iterator[None]:
    """Hold the lock file `path` for the length of a with block."""
    lock = Lock(path)
    lock.acquire(seconds)
    try:
        yield
    finally:
        lock.release()
