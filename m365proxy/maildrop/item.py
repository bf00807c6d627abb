"""The messages of a POP3 session, as they were when it began."""

from __future__ import annotations

import hashlib
from array import array
from typing import Collection, Iterator, Optional, Sequence, Type, Union, overload

from .copies import Copy
from .table import Table

# What a message is taken for whose size Graph does not say (octets).
_SIZE_UNSAID = 4096


class Snapshot(Sequence["Item"]):
    """The messages of one session in their order.  What is known of one is in columns here: an Item is only its place.

    Each column may be written by several threads, each octet of it by one.
    """

    def __init__(self, table: Table, left_out: Collection[str] = ()) -> None:
        """`left_out`: the ids of messages that are in the folder, but not shown."""
        self.table = table
        self.sizes = array("q", (exact or size or _SIZE_UNSAID for exact, size in zip(table.exact, table.sizes)))
        self.exact = bytearray(map(bool, table.exact))
        self.tried = bytearray(len(table))
        self.seen = bytearray(len(table))
        self.substituted = bytearray(len(table))
        rows: Sequence[int] = range(len(table))
        self._rows = [row for row in rows if table.ids[row] not in left_out] if left_out else rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: Union[int, slice]) -> Union[Item, Sequence[Item]]:
        if isinstance(index, slice):
            return [Item(self, row) for row in self._rows[index]]
        return Item(self, self._rows[index])

    def __iter__(self) -> Iterator[Item]:
        return (Item(self, row) for row in self._rows)

    @property
    def octets(self) -> int:
        """The sizes of all messages together."""
        return sum(map(self.sizes.__getitem__, self._rows))

    def learnt(self, gone: Collection[Item]) -> Table:
        """The folder as it is known now: with the exact sizes, and without the messages that are `gone`."""
        exact = array("q", (size if known else 0 for size, known in zip(self.sizes, self.exact)))
        table = self.table.with_exact(exact)
        rows = {item.row for item in gone}
        return table.rows([row for row in range(len(table)) if row not in rows]) if rows else table


class _Mark:
    """Yes or no, in a column of the snapshot that has the same name."""

    def __set_name__(self, owner: Type[Item], name: str) -> None:
        self._name = name

    def __get__(self, item: Item, owner: Optional[Type[Item]] = None) -> bool:
        return bool(getattr(item.snapshot, self._name)[item.row])

    def __set__(self, item: Item, value: bool) -> None:
        getattr(item.snapshot, self._name)[item.row] = value


class Item:
    """One message of a snapshot.

    `size` is in octets as RETR sends them, without doubled dots: an estimate
    unless `exact`.
    """

    __slots__ = ("snapshot", "row")

    exact = _Mark()
    tried = _Mark()  # a RETR was begun
    seen = _Mark()  # a RETR gave the whole message
    substituted = _Mark()  # a text of ours took its place

    def __init__(self, snapshot: Snapshot, row: int):
        self.snapshot = snapshot
        self.row = row

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Item) and (other.snapshot, other.row) == (self.snapshot, self.row)

    def __hash__(self) -> int:
        return self.row

    @property
    def id(self) -> str:
        return self.snapshot.table.ids[self.row]

    @property
    def uidl(self) -> str:
        """RFC 1939 section 7: at most 70 printable characters, the same in every session."""
        return hashlib.sha256(self.id.encode("utf-8", "surrogatepass")).hexdigest()[:40]

    @property
    def received(self) -> int:
        """Seconds since 1970; 0: not known."""
        return self.snapshot.table.received[self.row]

    @property
    def size(self) -> int:
        return self.snapshot.sizes[self.row]

    @property
    def doubtful(self) -> bool:
        """Whether no client is known to have had the whole message; then it is never deleted for good.

        An exact size shows that it came whole once, in this session or an earlier one.
        """
        return self.substituted or not (self.seen or (self.exact and not self.tried))

    def set_size(self, copy: Copy) -> None:
        """Take the size of a whole copy.  Any thread may call."""
        self.snapshot.sizes[self.row] = copy.size
        self.exact = not copy.substitute

    def become_text(self, size: int) -> None:
        """A text of ours, of so many octets, takes its place."""
        self.snapshot.sizes[self.row] = size
        self.exact = False  # that is for what came whole
        self.substituted = True
