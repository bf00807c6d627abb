"""One message of a POP3 snapshot."""

from __future__ import annotations

import hashlib

from .copies import Copy
from .listing import Listed


class Item:
    """One message of a snapshot.

    `size` is in octets as RETR sends them, without doubled dots: an estimate
    unless `exact`.
    """

    __slots__ = ("id", "uidl", "size", "exact", "received", "tried", "seen", "substituted")

    def __init__(self, listed: Listed, exact: int = 0):
        """`exact` is the size an earlier session found; 0 if none did."""
        self.id = listed.id
        # RFC 1939 section 7: at most 70 printable characters, the same in every session.
        self.uidl = hashlib.sha256(listed.id.encode()).hexdigest()[:40]
        self.size = exact or listed.size
        self.exact = bool(exact)
        self.received = listed.received
        self.tried = False  # a RETR was begun
        self.seen = False  # a RETR gave the whole message
        self.substituted = False  # a text of ours took its place

    @property
    def doubtful(self) -> bool:
        """Whether no client is known to have had the whole message; then it is never deleted for good.

        An exact size shows that it came whole once, in this session or an earlier one.
        """
        return self.substituted or not (self.seen or (self.exact and not self.tried))

    def set_size(self, copy: Copy) -> None:
        """Take the size of a whole copy.  Any thread may call."""
        self.size = copy.size
        self.exact = not copy.substitute

    def become_text(self, size: int) -> None:
        """A text of ours, of so many octets, takes its place."""
        self.size = size
        self.exact = False  # that is for what came whole
        self.substituted = True
