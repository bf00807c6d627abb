"""A config file that is changed: its keys, its comments, and files that are written together or not at all."""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import json
import os
import re
import signal
import stat
import sys
import threading
import time
from typing import Iterator, List, NamedTuple, Optional, Sequence

from ...config import load as configuration
from ...config.options import OPTIONS
from ...config.sections import Config
from ...config.types import SecretText, shown
from ...errors import CannotCreate, ConfigError
from ...logins.passwords import is_hash
from ...system import files, machine
from .. import packaged
from .amendment import ZEROS, Document

# What init notes down in the file itself, as a comment.
_NOTES = "#init"

# Stands for the ids as long as they are the sample's, so that all else can be checked.
_SOME_ID = "11111111-1111-1111-1111-111111111111"

_ENDS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

# Keys whose values are secrets (passwords could be tried against the digest), and what the sample says of them; the
# user and password of a URL.
_SECRETS = {"digest", *(option.name for option in OPTIONS if isinstance(option.type, SecretText))}
_HELPS = {option.help for option in OPTIONS}
_URL_USER = re.compile(r"(?<=://).*@")
_MASK = "***"

# Characters of a line; a list that fits is on one.
_LINE = 110


class _Comment(str):
    """A key that begins with #: there may be several of the same text, and none must be lost."""

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def parse(content: bytes, path: str) -> Document:
    """The keys and comments of a config, in their order; ConfigError if it is no JSON, or has a key twice."""
    try:
        document = json.loads(content.decode(json.detect_encoding(content)), object_pairs_hook=_object)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        configuration.parsed(content, path)  # says what is wrong
        raise ConfigError(f"{path} is not valid JSON.")
    return document


def _object(pairs: "list[tuple[str, object]]") -> Document:
    found: Document = {_Comment(key) if key.startswith("#") else key: value for key, value in pairs}
    if len(found) < len(pairs):
        names = [key for key, _ in pairs if not key.startswith("#")]
        twice = next(key for key in names if names.count(key) > 1)
        raise ConfigError(f"{shown(twice)} is there twice; keep one.")
    return found


def render(document: Document) -> bytes:
    """The document as a file."""
    text = _value(document, "") + "\n"
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell and UTF-8 cannot
        return (json.dumps(document, indent=2) + "\n").encode()


def _value(value: object, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, dict) and value:
        items = (
            f"{inner}{json.dumps(str(key), ensure_ascii=False)}: {_value(one, inner)}" for key, one in value.items()
        )
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and value:
        line = json.dumps(value, ensure_ascii=False)
        if not any(isinstance(one, (dict, list)) for one in value) and len(indent + line) < _LINE:
            return line
        return "[\n" + ",\n".join(inner + _value(one, inner) for one in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False)


def masked(document: Document) -> Document:
    """The document as it may be shown: without passwords and secrets, also those in comments; hashes stay."""
    return {name: _masked(value, str(name)) for name, value in document.items()}


def _masked(value: object, key: str) -> object:
    if isinstance(value, dict):
        return masked(value)
    if isinstance(value, list):
        return [_masked(one, key) for one in value]
    if key.lstrip("#") in _SECRETS and value is not None:
        return value if is_hash(str(value)) or value in _HELPS else _MASK
    return _URL_USER.sub(_MASK + "@", value) if isinstance(value, str) else value


def notes(document: Document) -> Document:
    """What init noted down in the document; {} if nothing."""
    found = [value for key, value in document.items() if str(key) == _NOTES]
    return dict(found[-1]) if found and isinstance(found[-1], dict) else {}


def set_notes(document: Document, noted: Document) -> None:
    """Note something down, at the end, with a digest of all else."""
    for key in [key for key in document if str(key) == _NOTES]:
        del document[key]
    document[_Comment(_NOTES)] = {"#": "Of m365proxy init", **noted, "digest": _digest(document)}


def is_as_written(document: Document) -> bool:
    """Whether the document is exactly what init wrote: nobody changed it since."""
    others = {key: value for key, value in document.items() if str(key) != _NOTES}
    return notes(document).get("digest") == _digest(others)


def digest(content: bytes) -> str:
    """What tells one content from another, in a few characters."""
    return hashlib.sha256(content).hexdigest()[:16]


def _digest(document: Document) -> str:
    return digest(render(document))


def has_ids(document: Document) -> bool:
    """Whether the ids of the app registration are there, and not the sample's."""
    return all(str(document.get(key) or "").strip("0-") for key in ("tenant_id", "client_id"))


def tenant_id(document: Document) -> str:
    """The tenant the document names; "" if it is the sample's."""
    found = str(document.get("tenant_id") or "")
    return found if found.strip("0-") else ""


def loaded(document: Document, path: str) -> Config:
    """The document as the program will read it; ConfigError says what is wrong.  Ids may be the sample's."""
    filled = dict(document)
    for key in ("tenant_id", "client_id"):
        if filled.get(key, ZEROS) in (ZEROS, None):
            filled[key] = _SOME_ID
    return configuration.parsed(render(filled), path)


class Access(NamedTuple):
    """Who owns a file, and its mode; -1 leaves the owner or the group as it is made."""

    user: int
    group: int
    mode: int

    def without_others(self) -> Access:
        """For what only the owner and the group may read."""
        return self._replace(mode=self.mode & ~0o007)


def access_for(path: str) -> Access:
    """For a config at `path`: as the file there has it, or, if it is new, what keeps its secrets."""
    group = packaged.group()
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return Access(-1, -1, 0o600) if group is None else Access(0, group, 0o640)
    mode = stat.S_IMODE(there.st_mode)
    if group is not None and there.st_gid == 0:
        return Access(there.st_uid, group, (mode | 0o640) & ~0o007)
    if not machine.is_root():  # whose file it is, and who runs the program
        mode &= ~0o007
    return Access(there.st_uid, there.st_gid, mode)


class NewFile(NamedTuple):
    """A file to be written; with `keep`, a copy with the date stays of what is there and different.

    `is_secret`: never to be shown.
    """

    path: str
    content: bytes
    access: Access
    keep: bool = True
    is_secret: bool = False


def check_writable(path: str, command: str) -> None:
    """CannotCreate if a file cannot be put there: better before all the questions than after them."""
    directory = os.path.dirname(os.path.realpath(path))
    while not os.path.isdir(directory) and os.path.dirname(directory) != directory:
        directory = os.path.dirname(directory)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise CannotCreate(
            f"{path} cannot be written: this user may not change {directory}. Run `sudo {command}`, or name another "
            "file with --config."
        )


class _Prepared(NamedTuple):
    """A file that needs only its name.  What has that name now, and the path of a copy of it; None and "" if not."""

    temporary: str
    path: str
    copy: str
    there: Optional[bytes]
    access: Access

    def undo(self) -> None:
        """After the move: what had the name has it again.  OSError, and nothing is lost, if the disk is full."""
        if self.there is None:
            files.remove(self.path)
        else:
            _create(self.temporary, self.there, self.access)
            files.move(self.temporary, self.path)


def write(new: Sequence[NewFile]) -> List[str]:
    """Write all files, or none of them; returns the paths of the copies that stay.  Inside `undisturbed`.

    OSError with one of the paths and a sentence, and everything is as it was.
    """
    prepared: List[_Prepared] = []
    moved: List[_Prepared] = []
    path = ""
    try:
        for file in new:
            path = file.path
            prepared.append(_prepare(file))
        for one in prepared:
            path = one.path
            files.move(one.temporary, path)
            moved.append(one)
            files.sync_directory(os.path.dirname(path))
    except BaseException as error:
        for one in prepared:
            files.remove(one.temporary)
            with contextlib.suppress(OSError):
                if one in moved:
                    one.undo()
                if one.copy:
                    files.remove(one.copy)
        if isinstance(error, OSError):
            raise _explained(error, path) from None
        raise
    return [one.copy for one in prepared if one.copy]


def _prepare(file: NewFile) -> _Prepared:
    path = os.path.realpath(file.path)  # a link stays one
    _make_directory(os.path.dirname(path), file.access)
    there = files.read(path)
    copy = ""
    if file.keep and there is not None and there != file.content:
        copy = _copy(path, there, file.access.without_others())
    _remove_unfinished(path)
    temporary = f"{path}.{os.getpid()}.{time.monotonic_ns():x}.tmp"
    try:
        _create(temporary, file.content, file.access)
    except BaseException:
        if copy:
            files.remove(copy)
        raise
    return _Prepared(temporary, path, copy, there, file.access)


def _remove_unfinished(path: str) -> None:
    """Remove what `_prepare` left there when it was killed: nobody else writes now, and keys must not lie about."""
    directory, name = os.path.split(path)
    unfinished = re.compile(re.escape(name) + r"\.[0-9]+\.[0-9a-f]+\.tmp")
    for left in list(files.names(directory)):
        if unfinished.fullmatch(left):
            files.remove(os.path.join(directory, left))


def _make_directory(path: str, access: Access) -> None:
    """The directory of a file, where it is missing, for those who may read the file."""
    is_new = not os.path.isdir(path)
    files.make_directory(path)
    if is_new and access.group >= 0 and sys.platform != "win32":
        os.chown(path, -1, access.group)
        os.chmod(path, 0o750)


def _explained(error: OSError, path: str) -> OSError:
    reason = error.strerror or str(error)
    if error.errno == errno.EBUSY:
        reason += "; it is mounted by itself, so mount the directory it is in instead"
    return OSError(error.errno, f"{reason}; nothing was changed", path)


def _copy(path: str, content: bytes, access: Access) -> str:
    """Keep what is there beside it, under a name with the date."""
    day = datetime.date.today().isoformat()
    for number in range(1, 1000):
        copy = f"{path}.{day}" + (f".{number}" if number > 1 else "")
        try:
            _create(copy, content, access)
        except FileExistsError:
            continue
        return copy
    raise CannotCreate(f"There are too many copies {path}.{day}.*; remove some.")


def _create(path: str, content: bytes, access: Access) -> None:
    """A new file, whole and on the disk, or none."""
    file = files.create(path, 0o600)
    try:
        with file:
            if sys.platform != "win32":
                os.fchown(file.fileno(), access.user, access.group)
                os.fchmod(file.fileno(), access.mode)
            file.write(content)
            files.sync_file(file)
    except BaseException:
        files.remove(path)
        raise


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Whatever ends the program waits for the end of the block: Ctrl-C, a terminal that goes, `kill`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: List[int] = []
    before = {number: signal.signal(number, lambda number, _frame: pressed.append(number)) for number in _ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for number in pressed[:1]:
        signal.raise_signal(number)
