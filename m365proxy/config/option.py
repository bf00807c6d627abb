"""One key of the configuration: the columns of the option table."""

from __future__ import annotations

from typing import NamedTuple, Tuple

from .types import Type


class Option(NamedTuple):
    """One key.

    path: a dot follows the name of a section, and "[]" the name of a list of
        objects: "queue.retry_interval", "mailboxes[].login".
    default: as in the file; None means the key has no value unless it is given.
    help: one sentence or two, for the manual page and the sample.
    example: a value for the sample.
    restart: a reload does not put a change to use, only a restart does.
    needs: keys of the same section, one of which must be set too.
    excludes: a key of the same section that must not be set too.
    unused: accepted, but without effect in this version.
    """

    path: str
    type: Type
    default: object
    help: str
    required: bool = False
    example: object = None
    restart: bool = False
    needs: Tuple[str, ...] = ()
    excludes: str = ""
    unused: bool = False

    @property
    def section(self) -> str:
        """The path of the section that has the key: "", "queue", "mailboxes[].logins[]"."""
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]
