"""POP3 on one connection: RFC 1939 with 2449 (CAPA), 2595 (STLS), 3206 (response codes), 5034 (AUTH), 6856 (UTF8).

A session knows nothing of Graph: it is handed `users` and `maildrops`.  Each
verb returns a Reply (see `login` and `transaction`); only the session sends
them, counts mistakes and closes.
"""

from __future__ import annotations

import ssl
import time
from typing import Callable, Dict, Optional, Sequence, Union

from ..logins.users import Logins
from ..server import handshake
from ..server.client import ServedProtocol
from ..server.connection import CRLF, Closed, Connection, Injection, LineTooLong, TimedOut, WireError
from ..server.junk import JunkCommands, TooMuchJunk
from ..system import events, log
from ..system.networks import Network
from .login import Login, Maildrops
from .signsoflife import SECONDS, BrokenOff, SignsOfLife
from .transaction import Transaction
from .verbs import Refused, Reply, fault, ok, refusal

_log = log.get("pop3")

# RFC 1939 section 3: an inactivity timer must be at least ten minutes.
IDLE_SECONDS = 600.0

# Octets of a command with its line end (RFC 2449 asks for 255), and of an AUTH exchange (RFC 4954).
_COMMAND = 512
_AUTH_LINE = 12288

# A reply line may have 512 octets (RFC 2449 section 4); the sentence in it is kept shorter.
_SENTENCE = 480

# Commands that achieve something the first time they are used on a message, and on all of them.
_OF_MESSAGES = (b"RETR", b"TOP", b"LIST", b"UIDL", b"DELE", b"STAT")

# A list of so many messages again costs as much as one more command, up to the dearest.
_LISTED_AT_ONCE = 500
_DEAREST = 20

# RFC 3206.
PROTOCOL = ServedProtocol(
    "pop3",
    busy=b"-ERR [SYS/TEMP] No more connections are taken for now, try again in a minute\r\n",
    not_allowed=b"-ERR [SYS/PERM] This address may not connect here (allowed_networks)\r\n",
)

# How a session may end without a line in the log.
_QUIT, _LOST = "quit", "connection closed"


class Pop3Session:
    """One client, from the greeting to the end.  Belongs to the one thread that calls `run`.

    `tls_context` offers STLS; clients in `plaintext_networks` may log in
    without it.  `errors` mistakes end the session; `idle_seconds` without a
    command do too.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        users: Logins,
        maildrops: Maildrops,
        tls_context: Optional[ssl.SSLContext] = None,
        plaintext_networks: Sequence[Network] = (),
        errors: int = 10,
        idle_seconds: float = IDLE_SECONDS,
        handshake_seconds: float = 30.0,
        silence_seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
        junk: Optional[JunkCommands] = None,
        note_retrieved: Callable[[int], object] = lambda messages: None,
    ):
        """`silence_seconds`: how often a client that waits gets a sign of life; `junk` counts useless commands.

        `note_retrieved` is told at the end how many messages the client has fetched.
        """
        self._connection = connection
        self._peer = connection.peer
        self._tls_context = tls_context
        self._errors = errors
        self._idle_seconds = idle_seconds
        self._handshake_seconds = handshake_seconds
        self._clock = clock
        self._begun = clock()
        self._idle_since: Optional[float] = None
        self._end_reason = _QUIT
        self._faults = 0
        self._junk = junk or JunkCommands()
        self._used: Dict[bytes, bytearray] = {}  # verb -> 1 for each message it was used on
        self._over = False
        self._note_retrieved = note_retrieved
        self._login = Login(
            connection,
            users,
            maildrops,
            SignsOfLife(connection, silence_seconds),
            self._junk,
            tls_context=tls_context,
            plaintext_networks=plaintext_networks,
            read_line=self._read_line,
            idle=self._idle,
        )

    @property
    def _transaction(self) -> Optional[Transaction]:
        return self._login.transaction

    def run(self) -> None:
        """Serve the client until it quits, goes, idles too long or errs too often."""
        reason = "internal error"
        try:
            self._send(ok("m365proxy POP3 ready"))
            while not self._over:
                self._send(self._next())
            reason = self._end_reason
            if self._faults >= self._errors:
                reason = "too many errors"
        except Closed:
            reason = _LOST
        except TimedOut:
            reason = "timed out"
        except BrokenOff as error:
            reason = f"cut off in the middle of an answer: {error}"
        except Injection:
            reason = "commands were sent ahead of the TLS handshake"
        finally:
            self._close(reason)

    # -- commands ---------------------------------------------------------

    def _next(self) -> Reply:
        try:
            self._idle_since = self._clock()
            line = self._read_line()
            self._idle_since = None
            return self._obey(line)
        except LineTooLong:
            return fault("That line is too long.")
        except Refused as refused:
            return refused.reply

    def _read_line(self) -> bytes:
        seconds = self._idle_seconds
        if self._transaction is None:
            # Before the login this is the time for all commands together: they would keep the connection for ever.
            seconds -= self._clock() - self._begun
        return self._connection.read_line(_AUTH_LINE, seconds)

    def _idle(self) -> float:
        """Seconds waited for the client's next command; 0 while one is carried out.  Any thread may call."""
        since = self._idle_since
        return 0.0 if since is None else self._clock() - since

    def _obey(self, line: bytes) -> Reply:
        word, _, rest = line.partition(b" ")
        word = word.upper()
        if len(line) + len(CRLF) > _COMMAND and word != b"AUTH":
            return fault("That line is too long.")
        transaction = self._transaction
        if transaction is not None and not self._login.may_stay(transaction):
            self._end_reason = "the configuration has changed"
            return refusal("The configuration has changed: log in again.")._replace(ends=True)
        state: Union[Login, Transaction] = self._login if transaction is None else transaction
        verb = state.VERBS.get(word)
        if verb is None:
            return fault(_why_not(word, transaction is not None))
        self._count(word, rest.strip())
        return verb.call(state, rest)

    def _count(self, word: bytes, rest: bytes) -> None:
        """Before a command is carried out: wait if many achieved nothing; Refused, and the end, if too many did."""
        if word == b"QUIT":
            return
        weight = self._weight(word, rest) if self._transaction is not None and word in _OF_MESSAGES else 1
        try:
            self._junk.note(self._transaction is not None, self._connection.flush, weight)
        except TooMuchJunk:
            self._end_reason = "too many commands that achieve nothing"
            raise Refused(refusal("Too many commands that achieve nothing.")._replace(ends=True)) from None

    def _weight(self, word: bytes, rest: bytes) -> int:
        """What a command on messages counts if it achieves nothing; the first one on each achieves something."""
        assert self._transaction is not None
        used = self._used.setdefault(word, bytearray(self._transaction.count + 1))
        first, _, _ = rest.partition(b" ")
        number = int(first) if first.isdigit() else 0  # 0 is all of them
        if number < len(used) and not used[number]:
            used[number] = 1
            if number and word in (b"RETR", b"TOP"):
                self._junk.forget()
            else:
                self._junk.excuse()
        elif not rest:
            return 1 + min(len(used) // _LISTED_AT_ONCE, _DEAREST)
        return 1

    # -- replies ----------------------------------------------------------

    def _send(self, reply: Reply) -> None:
        """The only place that writes replies, counts mistakes and ends the session."""
        text = log.clean(reply.text, _SENTENCE).encode("ascii", "replace")
        head = b" " if reply.begun else b"+OK " if reply.good else b"-ERR "
        self._connection.write(head + text + CRLF)
        for chunk in reply.body:
            self._connection.write(chunk)
        if reply.fault:
            self._faults += 1
        if reply.starts_tls:
            self._start_tls()
        self._over = reply.ends or self._faults >= self._errors

    def _start_tls(self) -> None:
        assert self._tls_context is not None
        try:
            self._connection.start_tls(self._tls_context, self._handshake_seconds)
        except WireError as error:
            handshake.log_failure("pop3", self._peer, error)
            raise

    def _close(self, reason: str) -> None:
        transaction = self._transaction
        if transaction is not None:
            transaction.close()
        self._connection.close()
        if transaction is not None:
            self._note_retrieved(transaction.retrieved)
            _log.info(
                "%s: session ended (%s), %d retrieved, %d deleted",
                transaction.who,
                reason,
                transaction.retrieved,
                transaction.deleted,
            )
        elif self._faults or reason not in (_QUIT, _LOST):
            why = f"{reason}, {self._faults} errors"
            extra = events.step("session ended", service="pop3", client=self._peer, reason=why)
            _log.info("%s: session ended before login (%s)", self._peer, why, extra=extra)


def _why_not(word: bytes, logged_in: bool) -> str:
    """Why a word is no verb of the session's state."""
    if logged_in:
        return "You are logged in already." if word in Login.VERBS else "Unknown command."
    return "Log in first." if word in Transaction.VERBS else "Unknown command."
