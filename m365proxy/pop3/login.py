"""The AUTHORIZATION state (RFC 1939 section 4): STLS, USER and PASS, AUTH, until a mailbox is open."""

from __future__ import annotations

import base64
import logging
import ssl
from typing import TYPE_CHECKING, Callable, Optional, Protocol, Sequence

from ..errors import InUse, Permanent, ProxyError, Temporary
from ..logins import sasl
from ..logins.users import LoginRefused, Logins, User
from ..maildrop.locks import SessionHandle
from ..server.connection import CRLF, Connection
from ..server.junk import JunkCommands
from ..system import events, log
from ..system.networks import Network, within
from .job import Job
from .signsoflife import BrokenOff, SignsOfLife
from .transaction import CAPABILITIES, IMPLEMENTATION, LOGIN_CAPABILITIES, Transaction
from .verbs import Refused, Reply, Verb, fault, listing, ok, refusal

if TYPE_CHECKING:
    from ..maildrop.maildrop import Maildrop

_log = log.get("pop3")

_NO_TLS_HERE = "use a port with TLS, or on the server set tls.tls_cert (or plaintext_networks)"


class Maildrops(Protocol):
    """The mailboxes; maildrop.maildrop.Maildrops is one."""

    def open(self, user: User, session: SessionHandle) -> Maildrop: ...


class Login:
    """One session's way to a mailbox; `transaction` is what goes on in it, None until it is open."""

    def __init__(
        self,
        connection: Connection,
        users: Logins,
        maildrops: Maildrops,
        signs: SignsOfLife,
        junk: JunkCommands,
        *,
        tls_context: Optional[ssl.SSLContext],
        plaintext_networks: Sequence[Network],
        read_line: Callable[[], bytes],
        idle: Callable[[], float],
    ):
        """`read_line` reads the client's next line; `idle` says for how long its next command was waited for."""
        self.transaction: Optional[Transaction] = None
        self._connection = connection
        self._peer = connection.peer
        self._users = users
        self._maildrops = maildrops
        self._signs = signs
        self._junk = junk
        self._tls_context = tls_context
        self._plaintext_networks = plaintext_networks
        self._read_line = read_line
        self._idle = idle
        self._name = ""  # what USER said

    # -- what is allowed --------------------------------------------------

    def may_stay(self, transaction: Transaction) -> bool:
        """Whether the user who logged in still may: a reload may have taken the right away."""
        return self._may_log_in() and self._users.current(transaction.user, "pop3", self._peer) is not None

    def _may_log_in(self) -> bool:
        return self._connection.tls_version is not None or within(self._peer, self._plaintext_networks)

    def _may_start_tls(self) -> bool:
        return self._tls_context is not None and self._connection.tls_version is None

    def _require_privacy(self) -> None:
        if not self._may_log_in():
            way = "use STLS first" if self._may_start_tls() else _NO_TLS_HERE
            raise Refused(fault(f"Login needs encryption here: {way}."))

    # -- the verbs --------------------------------------------------------

    def _capa(self) -> Reply:
        """RFC 2449: only what is true in this state and on this connection."""
        able = [*CAPABILITIES]
        if self._may_log_in():
            able += LOGIN_CAPABILITIES
        if self._may_start_tls():
            able.append("STLS")
        return listing("Capabilities follow.", [*able, IMPLEMENTATION])

    def _stls(self) -> Reply:
        if not self._may_start_tls():
            return fault("TLS cannot be started here.")
        self._name = ""  # RFC 2595 section 4: what was learnt before TLS is forgotten
        return Reply(True, "Begin TLS now.", starts_tls=True)

    def _utf8(self) -> Reply:
        """RFC 6856: messages come as Exchange makes them in any case, user names and passwords may be UTF-8."""
        return ok("UTF-8 is accepted.")

    def _user(self, rest: bytes) -> Reply:
        self._require_privacy()
        self._name = sasl.user_name(rest.strip())
        if not self._name:
            return fault("Usage: USER name")
        return ok("Send the password.")

    def _pass(self, rest: bytes) -> Reply:
        self._require_privacy()
        if not self._name:
            return fault("Send USER first.")
        name, self._name = self._name, ""
        return self._log_in(name, sasl.credential(rest))

    def _auth(self, rest: bytes) -> Reply:
        """RFC 5034; a bare AUTH asks for the list, as old clients do."""
        self._require_privacy()
        mechanism, _, initial = rest.strip().partition(b" ")
        if not mechanism:
            return listing("Mechanisms follow.", ("PLAIN", "LOGIN"))
        if mechanism.upper() == b"PLAIN":
            response = _decoded(initial) if initial else self._ask(b"")
            try:
                identity, name, password = sasl.plain(response)
            except sasl.Malformed:
                return fault("This is not an AUTH PLAIN response.")
            return self._log_in(name, password, identity)
        if mechanism.upper() == b"LOGIN":
            response = _decoded(initial) if initial else self._ask(b"Username:")
            return self._log_in(sasl.user_name(response), sasl.credential(self._ask(b"Password:")))
        return fault("Only AUTH PLAIN and AUTH LOGIN are supported.")

    def _quit(self) -> Reply:
        return ok("Bye.")._replace(ends=True)

    VERBS = {
        b"CAPA": Verb(_capa, "CAPA"),
        b"STLS": Verb(_stls, "STLS"),
        b"UTF8": Verb(_utf8, "UTF8"),
        b"USER": Verb(_user, "USER name", raw=True),
        b"PASS": Verb(_pass, "PASS password", raw=True),
        b"AUTH": Verb(_auth, "AUTH mechanism [response]", raw=True),
        b"QUIT": Verb(_quit, "QUIT"),
    }

    # -- logging in -------------------------------------------------------

    def _ask(self, challenge: bytes) -> bytes:
        """One step of an AUTH exchange; the space after + is sent even before an empty challenge."""
        self._connection.write(b"+ " + base64.b64encode(challenge) + CRLF)
        line = self._read_line().strip()
        if line == b"*":
            raise Refused(fault("Login cancelled."))
        return _decoded(line)

    def _log_in(self, name: str, password: str, identity: str = "") -> Reply:
        """Check, open the mailbox, wait for its sizes; the reply.

        `identity` is whom the client asks to act as: nobody but itself (RFC 4616).
        """
        user = self._checked(name, password, identity)
        try:
            begun = self._open(name, user)
        except (ProxyError, BrokenOff) as error:
            # Another session has it: two clients that poll do that now and then.
            level = logging.INFO if isinstance(error, InUse) else logging.WARNING
            _log.log(level, "%s user %s: the mailbox cannot be opened: %s", self._peer, log.quote(name), error)
            if isinstance(error, BrokenOff):
                raise
            return refusal(f"[{_code(error)}] {error}")
        self._junk.forget()
        assert self.transaction is not None
        return self.transaction.welcome(begun)

    def _checked(self, name: str, password: str, identity: str) -> User:
        """The user, if the password is right; Refused if not."""
        peer, who = self._peer, log.quote(name)
        try:
            user = self._users.check(name, password, "pop3", peer)
            if identity and identity.lower() not in (name.lower(), user.mailbox):
                raise LoginRefused("it asked to act as somebody else")
        except Temporary as error:
            _log.warning("%s user %s: login deferred: %s", peer, who, error)
            raise Refused(refusal(f"[SYS/TEMP] {error}")) from None
        except Permanent as error:
            reason = getattr(error, "reason", error)
            _log.warning(
                "login failed from %s user %s: %s",
                peer,
                who,
                log.clean(reason),
                extra=events.step("login failed", service="pop3", client=peer, login=name, reason=str(reason)),
            )
            raise Refused(fault("[AUTH] Login failed: wrong user name or password.")) from None
        return user

    def _open(self, name: str, user: User) -> bool:
        """Open the user's mailbox; whether the +OK line was begun meanwhile."""
        session = SessionHandle(self._peer, self._idle, self._connection.interrupt)
        job = Job(lambda: self._maildrops.open(user, session), "pop3 open")
        try:
            return self._signs.wait(job.wait_over)
        finally:
            # The client may be gone: what was opened for it is closed with the session, and not before it is there.
            maildrop = job.result()
            if maildrop is not None:
                self.transaction = Transaction(self._connection, self._signs, name, user, maildrop)


def _code(error: ProxyError) -> str:
    """RFC 3206: what kind of trouble kept the mailbox closed."""
    if isinstance(error, InUse):
        return "IN-USE"
    return "SYS/PERM" if isinstance(error, Permanent) else "SYS/TEMP"


def _decoded(response: bytes) -> bytes:
    try:
        return sasl.unbase64(response.decode("latin-1"))
    except sasl.Malformed:
        raise Refused(fault("This is not base64.")) from None
