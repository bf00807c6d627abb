"""SMTP on one connection: RFC 5321 with SIZE (1870), 8BITMIME (6152), PIPELINING (2920), STARTTLS (3207),
AUTH (4954), ENHANCEDSTATUSCODES (2034), CHUNKING (3030) and SMTPUTF8 (6531).

A session knows nothing of Graph: it is given the logins and `accept` (the
spool).  Each verb returns a Reply; only the loop writes, logs, counts errors
and ends the session.
"""

from __future__ import annotations

import contextlib
import time
from typing import Callable, Dict, Iterator, Optional, Sequence

from ..errors import Temporary
from ..logins.sasl import Malformed
from ..logins.users import Logins, User
from ..server import clienthello, handshake
from ..server.client import Client, ServedProtocol
from ..server.connection import Closed, LineTooLong, TimedOut, WireError
from ..server.junk import JunkCommands, TooMuchJunk
from ..server.quirks import Habit
from ..spool.envelope import Envelope
from ..spool.incoming import Incoming
from ..system import events, log
from ..system.networks import within
from . import advice, auth, replies, syntax
from .auth import Authentication
from .dotreader import DotReader, LfDotReader
from .policy import Policy
from .reception import Reception, disk_refused
from .refusals import RefusalLog, is_to_mistake
from .replies import Reply
from .transaction import Transaction, choose_recipient, choose_sender

logger = log.get("smtp")

PROTOCOL = ServedProtocol("smtp", busy=bytes(replies.NO_CONNECTION_NOW), not_allowed=bytes(replies.NOT_ALLOWED))

# Octets of a command with its line end: RFC 5321 4.5.3.1.4 asks for 512, extensions add to it.
_COMMAND_LIMIT = 4096

# A client that has not sent one known command is cut off after this many lines.
_GARBAGE = 3

# The first words of HTTP requests, which browsers and scanners send to any port.
_HTTP = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "PRI")

# A client may name this many recipients beyond limits.recipients; each further one counts as a command that achieves
# nothing.  A client that pipelines a long list cannot know the limit (RFC 5321 4.5.3.1.10).
_OVERSHOOT = 1000

# A chunk of at least this many octets is progress with a message.
_SMALL_CHUNK = 64

# A refused chunk of up to this many octets is read to its end in any case.
_READ_ANYWAY = 64 * 1024

# RFC 5321 4.2.1 (221, 421): the connection ends with them.
_LAST = (221, 421)

# What must be true before a verb: the reply if it is not.
_Need = Callable[["SmtpSession"], Optional[Reply]]


class SmtpSession:
    """One client, from the greeting to the end.  Belongs to the one thread that calls `run`.

    `accept(envelope)` begins a message in the spool.
    """

    def __init__(
        self,
        client: Client,
        *,
        hostname: str,
        users: Logins,
        accept: Callable[[Envelope], Incoming],
        policy: Policy,
        junk: Optional[JunkCommands] = None,
    ):
        self._client = client
        self._connection = client.connection
        self._peer = client.peer
        self._hostname = hostname
        self._accept = accept
        self._policy = policy
        self._deadline = time.monotonic() + policy.session_seconds
        self._authentication = Authentication(client.connection, users, policy.command_seconds, policy.relay)
        self._transaction: Optional[Transaction] = None
        self._errors = 0
        self._junk = junk or JunkCommands(client.note_progress)
        self._recipients_named = 0  # since the last message
        self._spoke_smtp = False
        self._saw_no_auth = False  # the answer to its last EHLO offered no AUTH, and it has not begun TLS since
        self._mail_refused = False
        self._habits: Dict[str, events.Value] = {}  # fields of the step "accepted"
        self._refusals = RefusalLog(client.peer)
        self._over = False

    # -- the loop ---------------------------------------------------------

    def run(self) -> None:
        """Serve the client until it quits, goes, takes too long or errs too often."""
        try:
            self._say(replies.greeting(self._hostname))
            if not self._tls_on():
                self._look_for_client_hello()
            while not self._over:
                self._turn()
        except TimedOut:
            if self._transaction and self._transaction.reception and not self._connection.saw_cr:
                self._policy.quirks.note(self._peer, advice.BARE_LF, habit=Habit.BARE_LF)
            self._end(replies.TOO_SLOW)
        except Closed as error:
            if self._client.stopping:
                self._end(replies.STOPPING)
            elif self._transaction is not None:
                self._log_end(f"in the middle of a message: {str(error) or 'connection closed'}")
        except Exception:
            with contextlib.suppress(WireError):
                self._say(replies.OUR_FAULT)
            self._end(replies.CLOSING)
            raise
        finally:
            self._reset()
            self._refusals.close(self._user)
            if self._saw_no_auth and not self._client.stopping:
                self._note_ways()

    def _note_ways(self) -> None:
        ways = advice.without_auth(self._peer, self._policy, self._can_start_tls(), self._client.settings.tls_required)
        self._policy.quirks.note(self._peer, ways, habit=Habit.NO_AUTH)

    def _look_for_client_hello(self) -> None:
        first = self._connection.read_some(self._policy.command_seconds)
        self._connection.unread(first)
        if not first.startswith(clienthello.FIRST_OCTET):
            return
        hellos = self._client.settings.client_hellos
        if hellos is None or not self._can_start_tls():
            self._end(replies.NOT_SMTP)
            return
        hellos.note(self._peer)
        self._over = True  # no reply: what it reads next must be TLS

    def _turn(self) -> None:
        """One command and its reply."""
        remaining = self._deadline - time.monotonic()
        if self._client.stopping:
            return self._end(replies.STOPPING)
        if remaining <= 0:
            return self._end(replies.SESSION_TOO_LONG)
        try:
            line = self._connection.read_line(auth.LINE_LIMIT, min(self._policy.command_seconds, remaining))
            reply = self._obey(line)
        except LineTooLong:
            reply = replies.LINE_TOO_LONG
        if reply is None:
            return None
        if self._is_mistake(reply):
            self._errors += 1
            if not self._spoke_smtp and self._errors >= _GARBAGE:
                reply = replies.NOT_SMTP
            elif self._errors >= self._policy.errors:
                reply = replies.TOO_MANY_ERRORS
        if reply.code not in _LAST:
            reply = self._slow_down(reply)
        return self._end(reply) if reply.code in _LAST else self._say(reply)

    def _obey(self, line: bytes) -> Optional[Reply]:
        verb, argument = syntax.command(line)
        if len(line) > _COMMAND_LIMIT and verb != "AUTH":
            return replies.LINE_TOO_LONG
        if not verb:
            return replies.EMPTY_LINE
        if verb in _HTTP:
            return replies.NOT_SMTP
        if verb not in self._VERBS:
            return replies.UNKNOWN_COMMAND
        self._spoke_smtp = True
        method, needs = self._VERBS[verb]
        reply = self._refused(needs) or method(self, argument)
        if verb == "MAIL":
            self._mail_refused = reply is not replies.SENDER_OK
        if reply is not None and not self._follows_refused_mail(reply):
            self._refusals.note(reply, self._user, verb, argument)
        return reply

    def _follows_refused_mail(self, reply: Reply) -> bool:
        """Whether it is a refusal that a client that pipelines could not foresee."""
        return reply is replies.SENDER_FIRST and self._mail_refused

    def _is_mistake(self, reply: Reply) -> bool:
        return is_to_mistake(reply) and not self._follows_refused_mail(reply)

    def _slow_down(self, reply: Reply) -> Reply:
        """The reply, after a pause if many commands achieved nothing; TOO_MUCH_JUNK if too many did."""
        try:
            self._junk.note(self._user is not None, self._connection.flush)
        except TooMuchJunk:
            return replies.TOO_MUCH_JUNK
        return reply

    def _refused(self, needs: Sequence[_Need]) -> Optional[Reply]:
        """The reply of the first need that is not met."""
        for need in needs:
            reply = need(self)
            if reply is not None:
                return reply
        return None

    def _say(self, reply: Reply) -> None:
        if reply.code >= 400:
            self._policy.note_refusal(f"{reply.code} {reply.enhanced}")
        self._connection.write(reply.octets)

    def _end(self, reply: Reply) -> None:
        """Say a last reply and leave the loop."""
        self._over = True
        if reply.code != 221 and reply is not replies.STOPPING:
            self._log_end(reply.lines[0])
        with contextlib.suppress(WireError):
            self._say(reply)
            self._connection.flush()

    def _log_end(self, reason: str) -> None:
        extra = events.step("session ended", service="smtp", client=self._peer, reason=reason)
        logger.info("session from %s ended: %s", self._peer, reason, extra=extra)

    # -- what must be true before a verb ----------------------------------

    @property
    def _user(self) -> Optional[User]:
        return self._authentication.sender

    def _tls_on(self) -> bool:
        return self._connection.tls_version is not None

    def _can_start_tls(self) -> bool:
        return self._client.starttls is not None and not self._tls_on()

    def _may_log_in(self) -> bool:
        return self._tls_on() or (
            not self._client.settings.tls_required and within(self._peer, self._policy.plaintext_networks)
        )

    def _needs_tls_where_required(self) -> Optional[Reply]:
        return replies.TLS_FIRST if self._client.settings.tls_required and not self._tls_on() else None

    def _needs_safe_login(self) -> Optional[Reply]:
        if self._may_log_in():
            return None
        return replies.LOGIN_NEEDS_TLS if self._can_start_tls() else replies.LOGIN_NEEDS_CERTIFICATE

    def _needs_no_login(self) -> Optional[Reply]:
        return replies.LOGGED_IN_ALREADY if self._authentication.user else None

    def _needs_user(self) -> Optional[Reply]:
        if self._user is not None:
            return None
        if self._may_log_in():
            return replies.LOGIN_NEEDED
        return replies.LOGIN_NEEDED_TLS if self._can_start_tls() else replies.LOGIN_NEEDED_CERTIFICATE

    def _needs_right_kept(self) -> Optional[Reply]:
        """A reload may have ended the right of an open session."""
        clear_login = self._authentication.user is not None and not self._may_log_in()
        return replies.RIGHT_LOST if clear_login or not self._authentication.refresh() else None

    def _needs_no_transaction(self) -> Optional[Reply]:
        return replies.NOT_IN_TRANSACTION if self._transaction else None

    def _needs_no_sender(self) -> Optional[Reply]:
        return replies.NESTED_MAIL if self._transaction else None

    def _needs_sender(self) -> Optional[Reply]:
        return None if self._transaction else replies.SENDER_FIRST

    def _needs_recipients(self) -> Optional[Reply]:
        return None if self._transaction and self._transaction.recipients else replies.NO_RECIPIENTS

    def _needs_no_chunks(self) -> Optional[Reply]:
        return replies.CHUNKS_BEGUN if self._transaction and self._transaction.reception else None

    # -- greeting, TLS and the small verbs --------------------------------

    def _ehlo(self, argument: str) -> Reply:
        self._reset()  # RFC 5321 4.1.4; any name will do, and TLS and the login stay
        self._habits.pop("helo", None)
        extensions = ["PIPELINING", f"SIZE {self._policy.size_limit}", "8BITMIME"]
        if self._can_start_tls():
            extensions.append("STARTTLS")
        if self._may_log_in():
            extensions.append("AUTH LOGIN PLAIN")  # this order: some try the first only, and know LOGIN
        self._saw_no_auth = self._user is None and not self._may_log_in()
        return replies.ehlo(self._hostname, (*extensions, "ENHANCEDSTATUSCODES", "CHUNKING", "SMTPUTF8", "HELP"))

    def _helo(self, argument: str) -> Reply:
        self._reset()
        self._habits["helo"] = True
        return replies.helo(self._hostname)

    def _starttls(self, argument: str) -> Optional[Reply]:
        if argument:
            return replies.NO_ARGUMENT
        if self._tls_on():
            return replies.TLS_ALREADY
        tls = self._client.starttls
        if tls is None:
            return replies.NO_TLS
        self._saw_no_auth = False
        self._say(replies.START_TLS)
        try:
            self._connection.start_tls(tls, self._client.settings.handshake_seconds)
        except WireError as error:
            handshake.log_failure("smtp", self._peer, error)
            self._over = True  # no reply: neither side knows any more what the other reads
            return None
        # RFC 3207 4.2: everything the client said before is forgotten.
        self._authentication.user = None
        self._habits.clear()
        self._reset()
        return None

    def _rset(self, argument: str) -> Reply:
        self._reset()
        return replies.OK

    def _noop(self, argument: str) -> Reply:
        return replies.OK

    def _vrfy(self, argument: str) -> Reply:
        return replies.CANNOT_VERIFY

    def _expn(self, argument: str) -> Reply:
        return replies.NOT_IMPLEMENTED

    def _help(self, argument: str) -> Reply:
        return replies.help_text(self._VERBS)

    def _quit(self, argument: str) -> Reply:
        return replies.BYE

    def _auth(self, argument: str) -> Reply:
        reply = self._authentication.exchange(argument)
        if reply is replies.LOGGED_IN:
            self._junk.forget()
            self._habits["auth"] = self._authentication.mechanism
        return reply

    # -- a mail transaction (RFC 5321 3.3) --------------------------------

    def _mail(self, argument: str) -> Reply:
        assert self._user is not None
        try:
            sender, parameters = syntax.path(argument, "FROM")
        except Malformed:
            return replies.sender_syntax(syntax.without_secrets(argument))
        self._note_unknown("MAIL", parameters)
        size = parameters.get("SIZE", "0")
        if not (size.isascii() and size.isdigit() and len(size) <= 20):
            return replies.SIZE_SYNTAX
        if int(size) > self._policy.size_limit:
            return self._policy.too_large
        if parameters.get("BODY", "").upper() == "BINARYMIME":
            return replies.BINARY_REFUSED
        smtputf8 = "SMTPUTF8" in parameters
        chosen = choose_sender(sender, smtputf8, self._user)
        if isinstance(chosen, Reply):
            return chosen
        self._transaction = Transaction(chosen, smtputf8, syntax.delivery_notes(parameters), null_sender=not sender)
        return replies.SENDER_OK

    def _rcpt(self, argument: str) -> Reply:
        assert self._transaction is not None and self._user is not None
        self._recipients_named += 1
        if self._recipients_named <= self._policy.recipients + _OVERSHOOT:
            self._junk.excuse()
        try:
            recipient, parameters = syntax.path(argument, "TO")
        except Malformed:
            return replies.recipient_syntax(syntax.without_secrets(argument))
        self._note_unknown("RCPT", parameters)
        chosen = choose_recipient(recipient, self._transaction.smtputf8, self._user, self._policy.allowed_domains)
        if isinstance(chosen, Reply):
            return chosen
        if not syntax.is_notify(parameters.get("NOTIFY", "")):
            return replies.NOTIFY_SYNTAX
        if chosen not in self._transaction:
            if len(self._transaction.recipients) >= self._policy.recipients:
                return replies.TOO_MANY_RECIPIENTS
            self._transaction.add(chosen, syntax.delivery_notes(parameters))
        return replies.RECIPIENT_OK

    def _note_unknown(self, verb: str, parameters: Dict[str, str]) -> None:
        for key in syntax.unknown_parameters(verb, parameters):
            self._policy.quirks.note(self._peer, f"parameter {log.quote(key, 30)} of {verb}, ignored")

    def _begin(self) -> Optional[Reply]:
        """Begin the message in the spool, unless it has begun; a Reply if that is impossible."""
        assert self._transaction is not None and self._user is not None
        transaction = self._transaction
        if transaction.reception is not None:
            return None
        try:
            incoming = self._accept(transaction.fix_envelope(self._user, self._peer))
        except Temporary as error:
            return disk_refused(self._peer, error)
        transaction.reception = Reception(self._connection, self._policy, incoming, None)
        return None

    def _data(self, argument: str) -> Reply:
        assert self._transaction is not None
        refusal = self._begin()
        if refusal is not None:
            return refusal
        reception = self._transaction.reception
        assert reception is not None
        self._say(replies.START_DATA)
        lf_only = self._client.settings.lf_only_clients and not self._connection.saw_cr
        if lf_only:
            self._policy.quirks.note(self._peer, advice.LF_ONLY, habit=Habit.LF_ONLY)
        with self._receiving():
            reception.read_data(LfDotReader() if lf_only else DotReader())
            return self._finish(reception)

    def _bdat(self, argument: str) -> Reply:
        try:
            size, last = syntax.chunk(argument)
        except Malformed:
            self._over = True  # nobody knows where the next command begins
            return replies.CHUNK_SYNTAX
        refusal = self._refused(self._BDAT_NEEDS) or self._begin()
        if refusal is not None and size > max(self._policy.size_limit if self._user else 0, _READ_ANYWAY):
            self._over = True  # to read it to its end could take hours
            return refusal
        reception = self._transaction.reception if self._transaction else None
        if refusal is not None or reception is None:
            reception = Reception(self._connection, self._policy, None, refusal)
        with self._receiving():
            reception.read_chunk(size)
            if size >= _SMALL_CHUNK and reception.refusal is None:
                self._junk.excuse()
            if last or reception.refusal is not None:
                return self._finish(reception)
        return replies.chunk_taken(size)

    @contextlib.contextmanager
    def _receiving(self) -> Iterator[None]:
        """A with block that an orderly stop of the program waits for."""
        self._client.receiving = True
        try:
            yield
        finally:
            self._client.receiving = False

    def _finish(self, reception: Reception) -> Reply:
        transaction = self._transaction
        reply = reception.refusal or self._needs_right_kept()  # no 250 for a mailbox that a reload has removed
        user = self._user
        if reply is None:
            assert transaction is not None and transaction.envelope is not None and user is not None
            reply = reception.finish(transaction.envelope, user, transaction.null_sender, self._habits)
            if reply.code < 500:  # what our disk refuses is not the client's fault
                self._junk.forget()
                self._recipients_named = 0
        self._reset()
        return reply

    def _reset(self) -> None:
        """Forget the transaction, and what has come in of its message."""
        if self._transaction is not None and self._transaction.reception is not None:
            self._transaction.reception.abort()  # leaves an accepted message alone
        self._transaction = None

    # -- the table --------------------------------------------------------

    _BDAT_NEEDS = (_needs_tls_where_required, _needs_user, _needs_sender, _needs_recipients)

    # verb: what it does, and what must be true before (asked in this order)
    _VERBS = {
        "EHLO": (_ehlo, ()),
        "HELO": (_helo, ()),
        "STARTTLS": (_starttls, ()),
        "AUTH": (_auth, (_needs_tls_where_required, _needs_no_login, _needs_no_transaction, _needs_safe_login)),
        "MAIL": (_mail, (_needs_tls_where_required, _needs_right_kept, _needs_user, _needs_no_sender)),
        "RCPT": (_rcpt, (_needs_tls_where_required, _needs_user, _needs_sender, _needs_no_chunks)),
        "DATA": (_data, (_needs_tls_where_required, _needs_user, _needs_sender, _needs_no_chunks, _needs_recipients)),
        "BDAT": (_bdat, ()),  # what it needs is asked inside, because its octets must be read in any case
        "RSET": (_rset, ()),
        "NOOP": (_noop, ()),
        "VRFY": (_vrfy, (_needs_tls_where_required,)),
        "EXPN": (_expn, (_needs_tls_where_required,)),
        "HELP": (_help, ()),
        "QUIT": (_quit, ()),
    }
