"""A disk that loses power: stands before the functions of m365proxy.system.files and remembers what was synced.

After a cut the disk may hold any of many things.  What was synced is there; of
every later change of a directory it may have kept or lost each on its own, as
long as no change survives without an earlier one of the same name or file; and
of content that was not synced all, half or nothing.
"""

from __future__ import annotations

import itertools
import os
import threading
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from m365proxy.system import files

# What became of octets that were written and not synced.
CONTENTS = ("all", "half", "none")

STEPS = ("create", "sync_file", "sync_directory", "move", "remove")

# More changes than this at once cannot be tried in all combinations.
_MOST = 10


class PowerCut(SystemExit):
    """A thread that meets it ends without a word."""


class _File:
    """One inode: where its content stands, and the content that was synced."""

    def __init__(self, path: str):
        self.path = path
        self.synced = b""
        self.written = b""  # as it was when it was last looked at

    def look(self) -> None:
        content = files.read(self.path)
        if content is not None:
            self.written = content

    def after(self, contents: str) -> bytes:
        new = self.written if self.written.startswith(self.synced) else self.synced + self.written
        kept = {"all": len(new), "half": (len(self.synced) + len(new)) // 2, "none": len(self.synced)}
        return new[: kept[contents]]


class _Change(NamedTuple):
    """A change of directories that is not synced yet: names that go, names that come."""

    gone: Optional[str]
    come: Optional[str]
    file: _File

    @property
    def names(self) -> List[str]:
        return [name for name in (self.gone, self.come) if name]

    def touches(self, directory: str) -> bool:
        return any(os.path.dirname(name) == directory for name in self.names)

    def depends_on(self, earlier: "_Change") -> bool:
        return self.file is earlier.file or bool(set(self.names) & set(earlier.names))

    def apply(self, tree: Dict[str, _File]) -> None:
        if self.gone and tree.get(self.gone) is self.file:
            del tree[self.gone]
        if self.come:
            tree[self.come] = self.file


class Disk:
    """Everything below `root`; what is there already is synced.  Power fails instead of step `cut_at`."""

    def __init__(self, monkeypatch: Any, root: str):
        self.root = root
        self.steps: List[str] = []
        self.cut_at: Optional[int] = None
        self.off = False
        self._lock = threading.RLock()
        self._open: Dict[int, _File] = {}
        self._opened: List[Any] = []
        self._live: Dict[str, _File] = {}
        self._synced: Dict[str, _File] = {}
        self._pending: List[_Change] = []
        self._real = {name: getattr(files, name) for name in STEPS}
        self.calm()
        for name in self._real:
            monkeypatch.setattr(files, name, getattr(self, name))

    def calm(self) -> None:
        """Everything is synced: as long after the last change.  Steps are counted from here."""
        self._live = {}
        for directory, _, names in os.walk(self.root):
            for name in names:
                file = _File(os.path.join(directory, name))
                file.look()
                file.synced = file.written
                self._live[file.path] = file
        self._synced = dict(self._live)
        self._pending = []
        self.steps = []

    def _step(self, name: str) -> None:
        if self.off:
            raise PowerCut
        if len(self.steps) == self.cut_at:
            self.cut()
            raise PowerCut
        self.steps.append(name)

    def cut(self) -> None:
        """Power fails now."""
        with self._lock:
            self.off = True
            for file in self._live.values():
                file.look()

    # The functions of m365proxy.system.files.

    def create(self, path: str, mode: int = 0o600) -> Any:
        with self._lock:
            self._step("create")
            opened = self._real["create"](path, mode)
            file = self._open[opened.fileno()] = self._live[path] = _File(path)
            self._pending.append(_Change(None, path, file))
            self._opened.append(opened)
            return opened

    def sync_file(self, opened: Any) -> None:
        with self._lock:
            self._step("sync_file")
            opened.flush()
            file = self._open[opened.fileno()]
            file.look()
            file.synced = file.written

    def sync_directory(self, path: str, opened: Any = None) -> None:
        with self._lock:
            self._step("sync_directory")
            durable: List[_Change] = []
            for change in reversed(self._pending):
                if change.touches(path) or any(later.depends_on(change) for later in durable):
                    durable.append(change)
            for change in reversed(durable):
                change.apply(self._synced)
            self._pending = [change for change in self._pending if change not in durable]

    def move(self, source: str, target: str) -> None:
        with self._lock:
            self._step("move")
            if target in self._live:
                self._live[target].look()
            self._real["move"](source, target)
            file = self._live[target] = self._live.pop(source)
            file.path = target
            self._pending.append(_Change(source, target, file))

    def remove(self, path: str) -> None:
        with self._lock:
            self._step("remove")
            file = self._live.pop(path, None)
            if file is not None:
                file.look()
                self._pending.append(_Change(path, None, file))
            self._real["remove"](path)

    # After the cut.

    def outcomes(self) -> Iterator[Tuple[str, Dict[str, bytes]]]:
        """Every state the disk may be in: a name for it, and the content of each path relative to the root."""
        for opened in self._opened:
            opened.close()  # what the program would have written later is of no account any more
        seen = set()
        assert len(self._pending) <= _MOST, [change.names for change in self._pending]
        for chosen in itertools.product((False, True), repeat=len(self._pending)):
            kept = [change for change, keep in zip(self._pending, chosen) if keep]
            if not self._possible(kept):
                continue
            tree = dict(self._synced)
            for change in kept:
                change.apply(tree)
            for contents in CONTENTS:
                found = {os.path.relpath(path, self.root): file.after(contents) for path, file in tree.items()}
                key = frozenset(found.items())
                if key not in seen:
                    seen.add(key)
                    yield f"kept {[change.names for change in kept]}, contents {contents}", found

    def _possible(self, kept: List[_Change]) -> bool:
        return all(
            any(earlier is other for other in kept)
            for number, change in enumerate(self._pending)
            if any(change is other for other in kept)
            for earlier in self._pending[:number]
            if change.depends_on(earlier)
        )


def lay_out(directory: str, tree: Dict[str, bytes]) -> None:
    """Write an outcome into a directory."""
    for path, content in tree.items():
        os.makedirs(os.path.dirname(os.path.join(directory, path)), exist_ok=True)
        with open(os.path.join(directory, path), "wb") as file:
            file.write(content)
