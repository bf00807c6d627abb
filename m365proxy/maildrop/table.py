"""The messages of a folder in columns: as an object each they would take five times the memory."""

from __future__ import annotations

from array import array
from itertools import compress
from typing import Dict, Iterable, List, Optional, Sequence, Set


class Table:
    """What is known of each message of a folder.  It is not changed once others have it; a Revision makes a new one."""

    def __init__(self) -> None:
        self.ids: List[str] = []
        self.received = array("q")  # seconds since 1970; 0: not known
        self.sizes = array("q")  # octets, estimated; 0: not known
        self.exact = array("q")  # octets as RETR sends them; 0: not known yet

    def __len__(self) -> int:
        return len(self.ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Table):
            return NotImplemented
        mine = (self.ids, self.received, self.sizes, self.exact)
        return self is other or mine == (other.ids, other.received, other.sizes, other.exact)

    def append(self, id: str, received: int, size: int) -> None:
        """Add a message whose exact size is not known."""
        self.ids.append(id)
        self.received.append(received)
        self.sizes.append(size)
        self.exact.append(0)

    def extend(self, ids: Iterable[str], received: Iterable[int], sizes: Iterable[int], exact: Iterable[int]) -> None:
        """Add messages, a column each."""
        self.ids.extend(ids)
        self.received.extend(received)
        self.sizes.extend(sizes)
        self.exact.extend(exact)

    def rows(self, chosen: Sequence[int]) -> Table:
        """Some of the messages, in this order."""
        found = Table()
        numbers = (map(column.__getitem__, chosen) for column in (self.received, self.sizes, self.exact))
        found.extend(map(self.ids.__getitem__, chosen), *numbers)
        return found

    def with_exact(self, exact: array[int]) -> Table:
        """The same messages with other exact sizes."""
        found = Table()
        found.ids, found.received, found.sizes, found.exact = self.ids, self.received, self.sizes, exact
        return found

    def with_exact_of(self, other: Table) -> Table:
        """The same messages, with the exact sizes that another table knows."""
        known = dict(zip(compress(other.ids, other.exact), filter(None, other.exact)))
        return self.with_exact(array("q", (known.get(id, 0) for id in self.ids))) if known else self


class Revision:
    """A table that is brought up to date, one message after another; the table it begins with stays as it is."""

    def __init__(self, base: Table) -> None:
        self._table = base
        self._rows: Optional[Dict[str, int]] = None  # by id; None as long as nothing is new
        self._gone: Set[int] = set()

    def __len__(self) -> int:
        return len(self._table) - len(self._gone)

    @property
    def last_received(self) -> int:
        """When the message that was added last was received; 0 if there is none, or it is not known."""
        return self._table.received[-1] if len(self._table) else 0

    def note(self, id: str, received: int, size: int) -> None:
        """A message is there; 0 stands for what is not said of it, or not anew."""
        rows, table = self._open(), self._table
        row = rows.get(id)
        if row is None:
            rows[id] = len(table)
            table.append(id, received, size)
            return
        self._gone.discard(row)
        table.received[row] = received or table.received[row]
        table.sizes[row] = size or table.sizes[row]

    def remove(self, id: str) -> None:
        """A message is not there any more."""
        row = self._open().get(id)
        if row is not None:
            self._gone.add(row)

    def in_order_noted(self) -> Table:
        """The messages as they were noted."""
        if not self._gone:
            return self._table
        return self._table.rows([row for row in range(len(self._table)) if row not in self._gone])

    def oldest_first(self) -> Table:
        """The messages by the time they were received."""
        if self._rows is None:
            return self._table
        rows = (row for row in range(len(self._table)) if row not in self._gone)
        return self._table.rows(sorted(rows, key=self._table.received.__getitem__))

    def _open(self) -> Dict[str, int]:
        if self._rows is None:
            self._table = self._table.rows(range(len(self._table)))
            self._rows = {id: row for row, id in enumerate(self._table.ids)}
        return self._rows
