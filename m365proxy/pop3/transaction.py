"""The TRANSACTION and UPDATE states (RFC 1939 sections 5 and 6): what a client does with an open mailbox.

What a client deletes is deleted at QUIT and at no other time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Iterator, Set, Tuple

from ..errors import Permanent, ProxyError
from ..logins.users import User
from ..maildrop.top import top
from ..server.connection import Closed, Connection
from ..system import log
from .dotwriter import stuffed
from .job import Job
from .signsoflife import BrokenOff, SignsOfLife
from .verbs import Refused, Reply, Verb, fault, listing, ok, refusal

if TYPE_CHECKING:
    from ..maildrop.item import Item
    from ..maildrop.maildrop import Maildrop, Message

_log = log.get("pop3")

# What CAPA announces (RFC 2449): always, where a login is possible, and at the end.
CAPABILITIES = ("TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "EXPIRE NEVER", "UTF8 USER")
LOGIN_CAPABILITIES = ("USER", "SASL PLAIN LOGIN")
IMPLEMENTATION = "IMPLEMENTATION m365proxy"


class Transaction:
    """One session's open mailbox.  `retrieved` and `deleted` count messages."""

    def __init__(self, connection: Connection, signs: SignsOfLife, name: str, user: User, maildrop: Maildrop):
        """`name`: the user name that the client gave."""
        self.user = user
        self.retrieved = 0
        self.deleted = 0
        self.who = f"{connection.peer} user {log.quote(name)}"
        self._name = name
        self._connection = connection
        self._signs = signs
        self._maildrop = maildrop
        self._marked: Set[int] = set()

    @property
    def count(self) -> int:
        """Messages of the mailbox, those marked as deleted included."""
        return len(self._maildrop.messages)

    def welcome(self, begun: bool) -> Reply:
        """The answer to a login, when sizes are as exact as they are to be; `begun`: its +OK line is on the way."""
        peer, who = self._connection.peer, log.quote(self._name)
        _log.info("%s logged in as %s: %d messages", peer, who, self.count)
        begun = self._signs.wait(self._maildrop.wait_measured, begun)
        return self._summary("Welcome: {} messages ({} octets).")._replace(begun=begun)

    def close(self) -> None:
        """Give the mailbox back; again is fine."""
        self._maildrop.close()

    # -- numbers ----------------------------------------------------------

    def _remaining(self) -> Iterator[Tuple[int, Item]]:
        """(number, item) of every message not marked as deleted."""
        for number, item in enumerate(self._maildrop.messages, 1):
            if number not in self._marked:
                yield number, item

    def _number(self, text: bytes) -> int:
        """A message number that exists and is not marked as deleted."""
        number = int(text) if text.isdigit() else 0
        if not 1 <= number <= self.count:
            raise Refused(fault("There is no such message."))
        if number in self._marked:
            raise Refused(refusal(f"Message {number} is marked as deleted."))
        return number

    def _summary(self, form: str) -> Reply:
        messages = self._maildrop.messages
        marked = sum(messages[number - 1].size for number in self._marked)
        return ok(form.format(self.count - len(self._marked), messages.octets - marked))

    def _scan(self, which: bytes, value: Callable[[Item], object]) -> Reply:
        if which:
            number = self._number(which)
            return ok(f"{number} {value(self._maildrop.messages[number - 1])}")
        lines = (f"{number} {value(item)}" for number, item in self._remaining())
        return listing(f"{self.count - len(self._marked)} messages", lines)

    # -- messages ---------------------------------------------------------

    def _message(self, number: int, get: Callable[[], Message]) -> Tuple[Message, bool]:
        """(message, whether the +OK line was begun while waiting for its first octets)."""
        try:
            message = get()
            return message, self._signs.wait(message.wait_ready)
        except Permanent as error:
            raise Refused(refusal(str(error))) from None
        except ProxyError as error:
            _log.warning("%s: message %d cannot be read: %s", self.who, number, error)
            raise Refused(refusal(f"[SYS/TEMP] {error}")) from None

    def _octets(self, message: Message) -> Iterator[bytes]:
        try:
            yield from message.chunks(self._connection.flush, self._require_client)
        except ProxyError as error:
            raise BrokenOff(str(error)) from None

    def _require_client(self) -> None:
        if self._connection.hung_up():
            raise Closed

    def _whole(self, message: Message) -> Iterator[bytes]:
        yield from stuffed(self._octets(message))
        self.retrieved += 1

    # -- the verbs --------------------------------------------------------

    def _capa(self) -> Reply:
        return listing("Capabilities follow.", (*CAPABILITIES, *LOGIN_CAPABILITIES, IMPLEMENTATION))

    def _stat(self) -> Reply:
        return self._summary("{} {}")

    def _list(self, which: bytes = b"") -> Reply:
        return self._scan(which, lambda item: item.size)

    def _uidl(self, which: bytes = b"") -> Reply:
        return self._scan(which, lambda item: item.uidl)

    def _retr(self, which: bytes) -> Reply:
        number = self._number(which)
        message, begun = self._message(number, lambda: self._maildrop.retrieve(number - 1))
        text = "message follows" if message.size is None else f"{message.size} octets"
        return Reply(True, text, self._whole(message), begun=begun)

    def _top(self, which: bytes, count: bytes) -> Reply:
        number = self._number(which)
        if not count.isdigit():
            return fault("Usage: TOP message lines")
        lines = int(count)
        message, begun = self._message(number, lambda: self._maildrop.top(number - 1, lines))
        return Reply(True, "top of message follows", stuffed(top(self._octets(message), lines)), begun=begun)

    def _dele(self, which: bytes) -> Reply:
        number = self._number(which)
        self._marked.add(number)
        return ok(f"Message {number} will be deleted at QUIT.")

    def _rset(self) -> Reply:
        self._marked.clear()
        return ok("No message is marked as deleted.")

    def _noop(self) -> Reply:
        return ok("Still here.")

    def _quit(self) -> Reply:
        """RFC 1939 section 6: the UPDATE state."""
        reply = self._update() if self._marked else ok("Bye.")
        # Given back before the client gets the reply: it may come again at once.
        self.close()
        return reply._replace(ends=True)

    def _update(self) -> Reply:
        # Pipelined answers may not have left yet: nothing is deleted that could not be sent.
        self._connection.flush()
        marked = len(self._marked)
        indices = [number - 1 for number in sorted(self._marked)]
        job = Job(lambda: marked - self._maildrop.delete(indices), "pop3 delete")
        try:
            begun = self._signs.wait(job.wait_over)
        except ProxyError as error:
            return refusal(f"[SYS/TEMP] {error}")
        finally:
            # The mailbox is given back when nothing is deleted any more, though the client may be gone.
            self.deleted = job.result() or 0
        failed = marked - self.deleted
        if failed and begun:
            raise BrokenOff(f"{failed} of {marked} messages were not deleted")
        if failed:
            return refusal(f"[SYS/TEMP] {failed} of {marked} messages were not deleted.")
        return ok("Bye.")._replace(begun=begun)

    VERBS = {
        b"CAPA": Verb(_capa, "CAPA"),
        b"STAT": Verb(_stat, "STAT"),
        b"LIST": Verb(_list, "LIST [message]", most=1),
        b"UIDL": Verb(_uidl, "UIDL [message]", most=1),
        b"RETR": Verb(_retr, "RETR message", 1, 1),
        b"TOP": Verb(_top, "TOP message lines", 2, 2),
        b"DELE": Verb(_dele, "DELE message", 1, 1),
        b"RSET": Verb(_rset, "RSET"),
        b"NOOP": Verb(_noop, "NOOP"),
        b"QUIT": Verb(_quit, "QUIT"),
    }
