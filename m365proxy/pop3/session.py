"""POP3 on one connection: RFC 1939 with 2449 (CAPA), 2595 (STLS), 3206 (response codes), 5034 (AUTH), 6856 (UTF8).

A session knows nothing of Graph: it is handed `users.check` and
`maildrops.open`.  Each verb returns a Reply; only the loop writes, counts and
closes.  What a client deletes is deleted at QUIT and at no other time.
"""

from __future__ import annotations

import base64
import ssl
import time
from typing import Any, Callable, Dict, Iterable, Iterator, NamedTuple, Optional, Sequence

from ..errors import InUse, Permanent, ProxyError, Temporary
from ..logins import sasl
from ..logins.users import SignInRefused
from ..maildrop.copies import top
from ..maildrop.holds import Session
from ..server import handshake
from ..server.client import ServedProtocol
from ..server.connection import CRLF, Closed, Connection, Injection, LineTooLong, TimedOut, WireError, stuffed
from ..server.junk import JunkCommands, TooMuchJunk
from ..system import log
from ..system.networks import within
from .job import Job
from .signsoflife import SECONDS, BrokenOff, SignsOfLife

_log = log.get("pop3")

# RFC 1939 section 3: an inactivity timer must be at least ten minutes.
IDLE_SECONDS = 600.0

# Octets of a command with its line end (RFC 2449 asks for 255), and of an AUTH exchange (RFC 4954).
_COMMAND = 512
_AUTH_LINE = 12288

# A reply line may have 512 octets (RFC 2449 section 4); the sentence in it is kept shorter.
_SENTENCE = 480

# Commands that bring something the first time they are used on a message, and on all of them.
_OF_MESSAGES = (b"RETR", b"TOP", b"LIST", b"UIDL", b"DELE", b"STAT")

# A list of so many messages again costs as much as one more command, up to the dearest.
_LISTED_AT_ONCE = 500
_DEAREST = 20

# RFC 3206.
PROTOCOL = ServedProtocol(
    "pop3",
    busy=b"-ERR [SYS/TEMP] Too many connections, try again in a minute\r\n",
    not_allowed=b"-ERR [SYS/PERM] This address may not connect here (allowed_networks)\r\n",
)

# How a session may end that nobody needs to hear of.
_QUIT, _LOST = "quit", "connection closed"


class Reply(NamedTuple):
    """What a verb answers; the loop sends it."""

    good: bool
    text: str
    body: Iterable[bytes] = ()  # as it goes on the wire, closing dot included
    begun: bool = False  # its +OK went ahead, because there was nothing else to say
    fault: bool = False  # the client's mistake: counts against the limit of errors
    starts_tls: bool = False
    ends: bool = False


def _ok(text: str) -> Reply:
    return Reply(True, text)


def _refusal(text: str) -> Reply:
    return Reply(False, text)


def _fault(text: str) -> Reply:
    return Reply(False, text, fault=True)


def _listing(text: str, lines: Iterable[str]) -> Reply:
    return Reply(True, text, stuffed(line.encode("ascii") + CRLF for line in lines))


class _Refused(Exception):
    """Ends a verb early with its reply."""

    def __init__(self, reply: Reply):
        super().__init__(reply.text)
        self.reply = reply


class Verb(NamedTuple):
    """One row of a state's table; `form` is shown to a client that got the arguments wrong."""

    do: Callable[..., Reply]
    form: str
    least: int = 0
    most: int = 0
    raw: bool = False  # takes the rest of the line as it stands, spaces included


class Pop3Session:
    """One client, from the greeting to the end.  Belongs to the one thread that calls `run`.

    `users.check(login, password, "pop3", peer)` and `maildrops.open(user, session)`
    are all it asks of the rest of the program.  `tls_context` offers STLS;
    `plaintext_networks` (ipaddress networks) may sign in without it.
    `errors` mistakes end the session; `idle_seconds` without a command do too.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        users,
        maildrops,
        tls_context: Optional[ssl.SSLContext] = None,
        plaintext_networks: Sequence = (),
        errors: int = 10,
        idle_seconds: float = IDLE_SECONDS,
        handshake_seconds: float = 30.0,
        silence_seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
        junk: Optional[JunkCommands] = None,
    ):
        self._connection = connection
        self._peer = connection.peer
        self._users = users
        self._maildrops = maildrops
        self._tls_context = tls_context
        self._plaintext_networks = plaintext_networks
        self._errors = errors
        self._idle_seconds = idle_seconds
        self._handshake_seconds = handshake_seconds
        self._signs = SignsOfLife(connection, silence_seconds)
        self._clock = clock
        self._begun = clock()
        self._idle_since: Optional[float] = None
        self._login = ""
        self._maildrop = None
        self._signed_in: Any = None
        self._end_reason = _QUIT
        self._marked: set = set()
        self._faults = 0
        self._junk = junk or JunkCommands()
        self._asked: Dict[bytes, bytearray] = {}  # verb -> 1 for each message it was used on
        self._retrieved = 0
        self._deleted = 0
        self._over = False

    # -- the loop ---------------------------------------------------------

    def run(self) -> None:
        """Serve the client until it quits, goes, idles too long or errs too often."""
        reason = "a fault here"
        try:
            self._send(_ok("m365proxy POP3 ready"))
            while not self._over:
                self._send(self._next())
            reason = self._end_reason
            if self._faults >= self._errors:
                reason = "too many errors"
        except Closed:
            reason = _LOST
        except TimedOut:
            reason = "nothing came or went in time"
        except BrokenOff as error:
            reason = f"cut off in the middle of an answer: {error}"
        except Injection:
            reason = "commands were sent ahead of the TLS handshake"
        finally:
            self._close(reason)

    def _next(self) -> Reply:
        try:
            self._idle_since = self._clock()
            line = self._read_line()
            self._idle_since = None
            return self._obey(line)
        except LineTooLong:
            return _fault("That line is too long.")
        except _Refused as refused:
            return refused.reply

    def _slow_down(self, word: bytes, rest: bytes) -> None:
        """Before a command is carried out: wait if many brought nothing; _Refused, and the end, if too many did."""
        if word == b"QUIT":
            return
        weight = 1
        if self._maildrop is not None and word in _OF_MESSAGES:
            known = self._asked.setdefault(word, bytearray(len(self._maildrop.messages) + 1))
            first, _, _ = rest.partition(b" ")
            number = int(first) if first.isdigit() else 0  # 0 is all of them
            if number < len(known) and not known[number]:
                known[number] = 1
                (self._junk.forget if number and word in (b"RETR", b"TOP") else self._junk.excuse)()
            elif not rest:
                weight += min(len(known) // _LISTED_AT_ONCE, _DEAREST)
        try:
            self._junk.note(self._maildrop is not None, self._connection.flush, weight)
        except TooMuchJunk:
            self._end_reason = "too many commands that bring nothing"
            raise _Refused(_refusal("Too many commands that bring nothing.")._replace(ends=True)) from None

    def _read_line(self) -> bytes:
        seconds = self._idle_seconds
        if self._maildrop is None:
            # Without a sign-in that is for all commands together: they would hold the connection for ever.
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
            return _fault("That line is too long.")
        here, elsewhere = self._AUTHORISATION, self._TRANSACTION
        if self._maildrop is not None:
            here, elsewhere = elsewhere, here
            if not self._may_stay():
                self._end_reason = "the configuration has changed"
                return _refusal("The configuration has changed: log in again.")._replace(ends=True)
        verb = here.get(word)
        if verb is None and word in elsewhere:
            return _fault("Sign in first." if self._maildrop is None else "You are signed in already.")
        if verb is None:
            return _fault("There is no such command.")
        self._slow_down(word, rest.strip())
        if verb.raw:
            return verb.do(self, rest)
        arguments = rest.split()
        if not verb.least <= len(arguments) <= verb.most:
            return _fault(f"The form is: {verb.form}")
        return verb.do(self, *arguments)

    def _send(self, reply: Reply) -> None:
        """The only place that writes replies, counts mistakes and ends the session."""
        text = log.clean(reply.text, _SENTENCE).encode("ascii", "replace")
        head = b" " if reply.begun else b"+OK " if reply.good else b"-ERR "
        self._connection.write(head + text + CRLF)
        for chunk in reply.body:
            self._connection.write(chunk)
        self._faults += reply.fault
        if reply.starts_tls:
            self._start_tls()
        self._over = reply.ends or self._faults >= self._errors

    def _start_tls(self) -> None:
        try:
            self._connection.start_tls(self._tls_context, self._handshake_seconds)
        except WireError as error:
            handshake.log_failure(self._connection.peer, error)
            raise

    def _close(self, reason: str) -> None:
        if self._maildrop is not None:
            self._maildrop.close()
        self._connection.close()
        if self._maildrop is not None:
            _log.info(
                "%s: session ended (%s), %d retrieved, %d deleted",
                self._who(),
                reason,
                self._retrieved,
                self._deleted,
            )
        elif self._faults or reason not in (_QUIT, _LOST):
            _log.info("%s: session ended before sign-in (%s, %d errors)", self._peer, reason, self._faults)

    def _who(self) -> str:
        return f"{self._peer} user {log.quote(self._login)}"

    # -- either state -----------------------------------------------------

    def _capa(self) -> Reply:
        """RFC 2449: only what is true in this state and on this connection."""
        able = ["TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "EXPIRE NEVER", "UTF8 USER"]
        if self._may_sign_in():
            able += ["USER", "SASL PLAIN LOGIN"]
        if self._may_start_tls() and self._maildrop is None:
            able.append("STLS")
        able.append("IMPLEMENTATION m365proxy")
        return _listing("This is what I can do.", able)

    # -- authorisation ----------------------------------------------------

    def _may_sign_in(self) -> bool:
        return self._connection.tls_version is not None or within(self._peer, self._plaintext_networks)

    def _may_stay(self) -> bool:
        """Whether who signed in still may: a reload may have taken the right away."""
        return self._may_sign_in() and self._users.current(self._signed_in, "pop3", self._peer) is not None

    def _may_start_tls(self) -> bool:
        return self._tls_context is not None and self._connection.tls_version is None

    def _require_privacy(self) -> None:
        if not self._may_sign_in():
            way = "use STLS first" if self._may_start_tls() else "use the TLS port"
            raise _Refused(_fault(f"Sign-in needs encryption here: {way}."))

    def _stls(self) -> Reply:
        if not self._may_start_tls():
            return _fault("TLS cannot begin here.")
        self._login = ""  # RFC 2595 section 4: what was learnt before TLS is forgotten
        return Reply(True, "Begin TLS now.", starts_tls=True)

    def _utf8(self) -> Reply:
        """RFC 6856: messages go as Exchange makes them in any case, names and passwords may be UTF-8."""
        return _ok("UTF-8 is fine.")

    def _user(self, rest: bytes) -> Reply:
        self._require_privacy()
        self._login = sasl.credential(rest.strip())
        if not self._login:
            return _fault("The form is: USER name")
        return _ok("And the password?")

    def _pass(self, rest: bytes) -> Reply:
        self._require_privacy()
        if not self._login:
            return _fault("USER comes first.")
        login, self._login = self._login, ""
        return self._sign_in(login, sasl.credential(rest))

    def _auth(self, rest: bytes) -> Reply:
        """RFC 5034; a bare AUTH asks for the list, as old clients do."""
        self._require_privacy()
        name, _, initial = rest.strip().partition(b" ")
        if not name:
            return _listing("These are the mechanisms.", ("PLAIN", "LOGIN"))
        if name.upper() == b"PLAIN":
            response = _decoded(initial) if initial else self._ask(b"")
            try:
                identity, login, password = sasl.plain(response)
            except sasl.Malformed:
                return _fault("That is no AUTH PLAIN response.")
            return self._sign_in(login, password, identity)
        if name.upper() == b"LOGIN":
            login = _decoded(initial) if initial else self._ask(b"Username:")
            return self._sign_in(sasl.credential(login), sasl.credential(self._ask(b"Password:")))
        return _fault("I know AUTH PLAIN and AUTH LOGIN.")

    def _ask(self, challenge: bytes) -> bytes:
        """One step of an AUTH exchange; the space after + stands even before nothing."""
        self._connection.write(b"+ " + base64.b64encode(challenge) + CRLF)
        line = self._read_line().strip()
        if line == b"*":
            raise _Refused(_fault("Sign-in cancelled."))
        return _decoded(line)

    def _sign_in(self, login: str, password: str, identity: str = "") -> Reply:
        """`identity` is whom the client asks to act as: nobody but itself (RFC 4616)."""
        peer, who = self._peer, log.quote(login)
        try:
            user = self._users.check(login, password, "pop3", peer)
            if identity and identity.lower() not in (login.lower(), user.mailbox):
                raise SignInRefused("it asked to act as somebody else")
        except Temporary as error:
            _log.warning("%s user %s: sign-in put off: %s", peer, who, error)
            return _refusal(f"[SYS/TEMP] {error}")
        except Permanent as error:
            reason = getattr(error, "reason", error)
            _log.warning("sign-in failed from %s user %s: %s", peer, who, log.clean(reason))
            return _fault("[AUTH] Sign-in failed: wrong name or password.")
        try:
            begun = self._open(login, user)
        except (ProxyError, BrokenOff) as error:
            _log.warning("%s user %s: the mailbox cannot be opened: %s", peer, who, error)
            if isinstance(error, BrokenOff):
                raise
            return _refusal(f"[{_code(error)}] {error}")
        self._junk.forget()
        _log.info("%s signed in as %s: %d messages", peer, who, len(self._maildrop.messages))
        begun = self._signs.until(self._maildrop.measured, begun)
        return self._stat_text("Welcome: {} messages ({} octets).")._replace(begun=begun)

    def _open(self, login: str, user: Any) -> bool:
        """Open the user's maildrop; whether the +OK line was begun meanwhile."""
        session = Session(self._peer, self._idle, self._connection.interrupt)
        job = Job(lambda: self._maildrops.open(user, session), "pop3 open")
        try:
            return self._signs.until(job.ready)
        finally:
            # The client may be gone: what was opened for it is closed with the session, and not before it is there.
            self._maildrop = job.wait()
            if self._maildrop is not None:
                self._login, self._signed_in = login, user

    # -- transaction ------------------------------------------------------

    def _remaining(self) -> Iterator[tuple]:
        """(number, item) of every message not marked deleted."""
        for number, item in enumerate(self._maildrop.messages, 1):
            if number not in self._marked:
                yield number, item

    def _number(self, text: bytes) -> int:
        """A message number that exists and is not marked deleted."""
        number = int(text) if text.isdigit() else 0
        if not 1 <= number <= len(self._maildrop.messages):
            raise _Refused(_fault("There is no such message."))
        if number in self._marked:
            raise _Refused(_refusal(f"Message {number} is marked as deleted."))
        return number

    def _stat_text(self, form: str) -> Reply:
        sizes = [item.size for _, item in self._remaining()]
        return _ok(form.format(len(sizes), sum(sizes)))

    def _stat(self) -> Reply:
        return self._stat_text("{} {}")

    def _list(self, which: bytes = b"") -> Reply:
        return self._scan(which, lambda item: item.size)

    def _uidl(self, which: bytes = b"") -> Reply:
        return self._scan(which, lambda item: item.uidl)

    def _scan(self, which: bytes, value: Callable) -> Reply:
        if which:
            number = self._number(which)
            return _ok(f"{number} {value(self._maildrop.messages[number - 1])}")
        lines = [f"{number} {value(item)}" for number, item in self._remaining()]
        return _listing(f"{len(lines)} messages", lines)

    def _retr(self, which: bytes) -> Reply:
        number = self._number(which)
        message, begun = self._message(number, self._maildrop.retrieve, number - 1)
        text = "message follows" if message.size is None else f"{message.size} octets"
        return Reply(True, text, self._whole(message), begun=begun)

    def _top(self, which: bytes, count: bytes) -> Reply:
        number = self._number(which)
        if not count.isdigit():
            return _fault("The form is: TOP message lines")
        lines = int(count)
        message, begun = self._message(number, self._maildrop.top, number - 1, lines)
        return Reply(True, "The top follows.", stuffed(top(self._octets(message), lines)), begun=begun)

    def _message(self, number: int, get: Callable[..., Any], *arguments: int) -> tuple:
        """(message, whether the +OK line was begun while waiting for its first octets)."""
        try:
            message = get(*arguments)
            return message, self._signs.until(message.ready)
        except Permanent as error:
            raise _Refused(_refusal(str(error))) from None
        except ProxyError as error:
            _log.warning("%s: message %d cannot be read: %s", self._who(), number, error)
            raise _Refused(_refusal(f"[SYS/TEMP] {error}")) from None

    def _octets(self, message: Any) -> Iterator[bytes]:
        try:
            yield from message.chunks(self._connection.flush, self._require_client)
        except ProxyError as error:
            raise BrokenOff(str(error)) from None

    def _require_client(self) -> None:
        if self._connection.hung_up():
            raise Closed

    def _whole(self, message: Any) -> Iterator[bytes]:
        yield from stuffed(self._octets(message))
        self._retrieved += 1

    def _dele(self, which: bytes) -> Reply:
        number = self._number(which)
        self._marked.add(number)
        return _ok(f"Message {number} goes at QUIT.")

    def _rset(self) -> Reply:
        self._marked.clear()
        return _ok("Nothing is marked as deleted.")

    def _noop(self) -> Reply:
        return _ok("Still here.")

    def _quit(self) -> Reply:
        """RFC 1939 section 6: the UPDATE state; without a sign-in just the end."""
        if self._maildrop is None or not self._marked:
            return self._farewell(_ok("Bye."))
        # What was pipelined may still be here: nothing is deleted that could not be sent.
        self._connection.flush()
        marked = len(self._marked)
        indices = [number - 1 for number in sorted(self._marked)]
        job = Job(lambda: marked - self._maildrop.delete(indices), "pop3 delete")
        try:
            begun = self._signs.until(job.ready)
        except ProxyError as error:
            return self._farewell(_refusal(f"[SYS/TEMP] {error}"))
        finally:
            # The mailbox is given back when nothing is deleted any more, though the client may be gone.
            self._deleted = job.wait() or 0
        failed = marked - self._deleted
        if failed and begun:
            raise BrokenOff(f"{failed} of {marked} messages were not deleted")
        if failed:
            return self._farewell(_refusal(f"[SYS/TEMP] {failed} of {marked} messages were not deleted."))
        return self._farewell(_ok("Bye.")._replace(begun=begun))

    def _farewell(self, reply: Reply) -> Reply:
        # Given back before the client hears of it: it may come again at once.
        if self._maildrop is not None:
            self._maildrop.close()
        return reply._replace(ends=True)

    _AUTHORISATION = {
        b"CAPA": Verb(_capa, "CAPA"),
        b"STLS": Verb(_stls, "STLS"),
        b"UTF8": Verb(_utf8, "UTF8"),
        b"USER": Verb(_user, "USER name", raw=True),
        b"PASS": Verb(_pass, "PASS password", raw=True),
        b"AUTH": Verb(_auth, "AUTH mechanism [response]", raw=True),
        b"QUIT": Verb(_quit, "QUIT"),
    }

    _TRANSACTION = {
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


def _code(error: ProxyError) -> str:
    """RFC 3206: what kind of trouble kept the mailbox closed."""
    if isinstance(error, InUse):
        return "IN-USE"
    return "SYS/PERM" if isinstance(error, Permanent) else "SYS/TEMP"


def _decoded(response: bytes) -> bytes:
    try:
        return sasl.unbase64(response.decode("latin-1"))
    except sasl.Malformed:
        raise _Refused(_fault("That is not base64.")) from None
