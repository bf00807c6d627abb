"""This machine: the config, files and who may read them, the disk, the log, the clock."""

from __future__ import annotations

import errno
import os
import shlex
import stat
import sys
import time
from typing import Iterator, List, Optional

from ...errors import CannotCreate, ConfigError
from ...system import files, log, machines
from ...system.clock import clock_is_plausible
from ...system.machineid import this_machine
from ..terminal import Mark
from .result import DISK, Result, of_text
from .subject import Subject

# Files that other programs of this machine may need fewer of than these are free.
_FEW_INODES = 1000


def config(subject: Subject) -> Iterator[Result]:
    """What the config itself says; ConfigError if what it names for all of the way out cannot be used."""
    yield Result(Mark.OK, "config", subject.config.path)
    for warning in subject.config.warnings:
        yield of_text(Mark.ATTENTION, "config", warning)
    _ = subject.account


def rights(subject: Subject) -> Iterator[Result]:
    """Whether the program may use its files, and nobody else may read the secrets among them."""
    if sys.platform == "win32":
        from . import accesslists

        yield from accesslists.rights(subject)
        return
    found = [*_of_config(subject), *_of_state(subject), *_of_keys(subject)]
    yield from found
    if not found:
        yield Result(Mark.OK, "files", f"can be read by {_me()}; sign-in and keys are closed to others")


def _of_config(subject: Subject) -> Iterator[Result]:
    path = subject.config.path
    try:
        found = os.stat(path)
    except OSError:
        return  # it was there a moment ago: the next command will say so
    if not os.access(path, os.R_OK):  # root has read it, and is somebody else now
        group = _group_of(subject.config.state_dir)
        yield Result(
            Mark.ATTENTION,  # started by root, as here, the program can read it once
            "files",
            f"{path} cannot be read by {_me()}, as whom the service runs: it can neither start nor reload.",
            f"Let its group read it: `chgrp {group} {shlex.quote(path)}` and: `chmod 640 {shlex.quote(path)}`",
        )
    if found.st_mode & stat.S_IWOTH:
        yield _open(path, "changed", "o-w")


def _of_state(subject: Subject) -> Iterator[Result]:
    """The state directory and the files in it: the sign-in with its key, and what the program remembers."""
    directory = subject.config.state_dir
    try:
        owner = os.stat(directory)
        entries = sorted((entry for entry in os.scandir(directory)), key=lambda entry: entry.name)
    except PermissionError:
        yield _closed(directory)
        return
    except OSError:
        return  # it is not there yet, or none: the line of the disk says so
    if owner.st_mode & 0o077:
        yield _open(directory, "read", "go-rwx")
    for entry in entries:
        try:
            found = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # the running program has put it in the place of another
            continue
        path = entry.path
        if found.st_uid != owner.st_uid and entry.name != "lost+found":  # the file system's own, where it is mounted
            user = _name(owner.st_uid)
            yield Result(
                Mark.WRONG,
                "files",
                f"{path} belongs to the user {_name(found.st_uid)}, not to {user}, as whom the program runs.",
                f"Give it back: `chown -R {user}:{_group_of(directory)} {shlex.quote(directory)}`",
                CannotCreate.exit_status,
            )
            return  # the one command is for all of them
        if entry.name in ("tokens.enc", "token.key") and found.st_mode & 0o077:
            yield _open(path, "read", "go-rwx")


def _closed(directory: str) -> Result:
    try:
        owner = os.stat(directory).st_uid
    except OSError:  # one above it is closed
        owner = None
    mine = sys.platform != "win32" and owner == os.geteuid()
    return Result(
        Mark.WRONG,
        "files",
        f"{directory} cannot be read by {_me()}.",
        f"Run `chmod 700 {shlex.quote(directory)}`."
        if mine
        else "Run the command as root or as the user the service runs as.",
        CannotCreate.exit_status,
    )


def _of_keys(subject: Subject) -> Iterator[Result]:
    """The private keys that the config names; whether they can be used is said elsewhere."""
    certificate = subject.config.client_certificate
    for path in (subject.config.tls.tls_key, certificate.private_key if certificate else None):
        try:
            is_open = path is not None and os.stat(path).st_mode & stat.S_IROTH
        except OSError:
            continue
        if path and is_open:
            yield _open(path, "read", "o-rwx")


def _open(path: str, how: str, mode: str) -> Result:
    return Result(
        Mark.ATTENTION,
        "files",
        f"{path} can be {how} by other users of this machine.",
        f"Run `chmod {mode} {shlex.quote(path)}`.",
    )


def _me() -> str:
    if sys.platform == "win32":
        return "this user"
    return _name(os.geteuid())


def _name(number: int) -> str:
    if sys.platform == "win32":
        return str(number)
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group_of(path: str) -> str:
    if sys.platform == "win32":
        return ""
    import grp

    number = os.stat(path).st_gid if os.path.exists(path) else os.getegid()
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def machine(subject: Subject) -> Iterator[Result]:
    """OtherMachine if the state directory is another machine's; no line else."""
    machines.check(subject.config.state_dir, this_machine(os.environ))
    yield from ()


def disk(subject: Subject) -> Iterator[Result]:
    """Whether the state directory takes a file, and has room for mail; CannotCreate if it is closed to this user."""
    directory = subject.config.state_dir
    is_there = os.path.isdir(directory)
    place = directory if is_there else _nearest(directory)
    if is_there:
        trouble = _probe(directory)
        if trouble:
            yield trouble
            return
    elif not os.path.isdir(place):
        raise CannotCreate(f"The directory {directory} cannot be created: {place} is a file. Move it away.")
    elif not os.access(place, os.W_OK | os.X_OK):
        raise CannotCreate(
            f"The directory {directory} is not there, or cannot be seen by this user, who cannot create it. Run the "
            "command as root or as the user the service runs as."
        )
    free = files.free_bytes(place) // (1024 * 1024)
    least = subject.config.queue.min_free_mb
    if free < least:
        yield Result(
            Mark.WRONG,
            "disk",
            f"Only {free} MB are free for {directory}; new mail is refused below {least} MB (queue.min_free_mb).",
            _make_room(place),
            DISK,
        )
        return
    inodes = files.free_inodes(place)
    if inodes is not None and inodes < _FEW_INODES:
        sentence = f"Only {inodes} more files fit on the file system of {directory} (inodes)."
        yield Result(Mark.WRONG, "disk", sentence, "Remove files that nobody needs.", DISK)
        return
    state = "is writable" if is_there else "is made at the first start"
    yield Result(Mark.OK, "disk", f"{directory} {state}, {free} MB free")


def _probe(directory: str) -> Optional[Result]:
    """Write a file, as the program does; a line if the disk does not take it."""
    path = os.path.join(directory, "check-probe")
    try:
        files.replace(path, b"x" * 4096)
        files.remove(path)
    except OSError as error:
        if error.errno not in files.DISK_FAULTS:
            files.make_directory(directory)  # it is: this says that it cannot be written
            raise
        is_full = error.errno not in (errno.EIO, errno.EROFS)
        remedy = _make_room(directory) if is_full else "Repair the disk. See what the system says of it: `dmesg`"
        sentence = f"No file can be written in {directory}: {(error.strerror or str(error)).lower()}."
        return Result(Mark.WRONG, "disk", sentence, remedy, DISK)
    return None


def _make_room(place: str) -> str:
    """What to do about a full file system: all of it may be to blame."""
    while not os.path.ismount(place) and os.path.dirname(place) != place:
        place = os.path.dirname(place)
    return f"Free some disk space. See what takes it: `du -xh -d1 {shlex.quote(place)}`"


def _nearest(path: str) -> str:
    """The lowest directory, or what is in its place, that is there."""
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def log_file(subject: Subject) -> Iterator[Result]:
    path = subject.config.logging.file
    if path:
        log.check_file(path)
    yield Result(Mark.OK, "log", f"{path} is writable" if path else "goes to standard error")


def notify(subject: Subject) -> Iterator[Result]:
    """Whether notify_command is there; no line without one.  Nothing is sent."""
    import shutil

    words = subject.config.notify_command
    if not words:
        return
    found = shutil.which(words[0])
    if found:
        yield Result(Mark.OK, "notify", f"{found} can be run for warnings; `m365proxy test --notify` tries it")
    else:
        yield Result(
            Mark.WRONG,
            "notify",
            f"notify_command: {log.clean(words[0])} is no program that {_me()} may run.",
            "Give its whole path, and make it executable.",
            ConfigError.exit_status,
        )


def clock(_subject: Subject) -> Iterator[Result]:
    """A clock that nobody set.  Whether it is right to the minute is for Microsoft to say."""
    if not clock_is_plausible(time.time()):
        when = time.strftime("%Y-%m-%d", time.gmtime())
        yield Result(Mark.ATTENTION, "clock", f"The clock of this machine is wrong: it says {when}.", set_clock())


def set_clock(which: Optional[List[str]] = None) -> str:
    """What to do about a wrong clock, by the tool that this machine has."""
    import shutil

    commands = {
        "timedatectl": "timedatectl set-ntp true",
        "chronyc": "chronyc makestep",
        "ntpd": "ntpd -n -q -p pool.ntp.org",
        "w32tm": "w32tm /resync",
    }
    found = next((tool for tool in commands if (tool in which if which is not None else shutil.which(tool))), None)
    return f"Let it be set by NTP: `{commands[found]}`" if found else "Set it, or use NTP."
