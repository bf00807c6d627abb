"""Every SMTP reply, by name, with its enhanced status code (RFC 2034, RFC 3463).

A Reply that breaks a convention cannot be made, so importing this module
checks the constants; a test makes every reply that has a variable part.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Iterable, Optional, Sequence, Tuple

# A reply line with its CRLF (RFC 5321 4.5.3.1.5).
LINE_LIMIT = 512

# Octets of a line of advice, which may quote two addresses.
_LONGEST_WAY = 480

# RFC 2034 section 4: no enhanced code in the greeting, in answers to EHLO and HELO, and in 3xx.
_MAY_BE_BARE = (220, 250, 334, 354)

_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")


@dataclasses.dataclass(frozen=True)
class Reply:
    """A code, its enhanced code (or None), and text, one string a line.  ValueError if it breaks a rule."""

    code: int
    enhanced: Optional[str]
    lines: Tuple[str, ...]
    octets: bytes = dataclasses.field(init=False, repr=False, compare=False)  # as they are sent

    def __post_init__(self) -> None:
        # RFC 5321 4.2: the first digit is 2 to 5, the second 0 to 5.
        if not re.fullmatch("[2-5][0-5][0-9]", str(self.code)):
            raise ValueError(f"{self.code} is no SMTP reply code")
        if self.enhanced is None:
            if self.code not in _MAY_BE_BARE:
                raise ValueError(f"{self.code} needs an enhanced code")
        elif not _ENHANCED.fullmatch(self.enhanced) or self.enhanced[0] != str(self.code)[0]:
            raise ValueError(f"{self.enhanced} does not go with {self.code}")
        if not self.lines:
            raise ValueError("a reply has at least one line")
        for line in self.lines:
            if not (line.isascii() and line.isprintable()):
                raise ValueError(f"{line!r} is not printable ASCII")
        object.__setattr__(self, "octets", self._octets())
        for octets in self.octets.splitlines(keepends=True):
            if len(octets) >= LINE_LIMIT:
                raise ValueError(f"{octets!r} is too long")

    def __bytes__(self) -> bytes:
        return self.octets

    def _octets(self) -> bytes:
        text = f"{self.enhanced} " if self.enhanced else ""
        last = len(self.lines) - 1
        return b"".join(
            f"{self.code}{' ' if number == last else '-'}{text}{line}\r\n".encode()
            for number, line in enumerate(self.lines)
        )


def _reply(code: int, enhanced: Optional[str], *lines: str) -> Reply:
    return Reply(code, enhanced, lines)


def _shown(value: str, limit: int = 100) -> str:
    """Text from outside in a reply: printable ASCII, at most `limit` octets."""
    plain = value.isascii() and value.isprintable()
    text = value if plain else "".join(c if " " <= c <= "~" else "?" for c in value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


# Greetings and the end


@functools.lru_cache(maxsize=16)  # as those below: the same for nearly all sessions
def greeting(hostname: str) -> Reply:
    return _reply(220, None, f"{_shown(hostname)} ESMTP m365proxy")  # RFC 5321 3.1


@functools.lru_cache(maxsize=16)
def helo(hostname: str) -> Reply:
    return _reply(250, None, _shown(hostname))  # RFC 5321 4.1.1.1


@functools.lru_cache(maxsize=16)
def ehlo(hostname: str, extensions: Tuple[str, ...]) -> Reply:
    return _reply(250, None, _shown(hostname), *extensions)  # RFC 5321 4.1.1.1


def help_text(verbs: Iterable[str]) -> Reply:
    return _reply(214, "2.0.0", "Commands: " + " ".join(verbs))  # RFC 5321 4.1.1.8


BYE = _reply(221, "2.0.0", "Bye")  # RFC 5321 4.1.1.10
STOPPING = _reply(421, "4.3.2", "The server is being stopped, try again in a minute")  # RFC 5321 3.8
TOO_SLOW = _reply(421, "4.4.2", "Nothing came for too long, closing")  # RFC 5321 4.5.3.2.7
SESSION_TOO_LONG = _reply(421, "4.4.2", "This session has lasted too long, connect again")
TOO_MANY_ERRORS = _reply(421, "4.7.0", "Too many errors, closing")
TOO_MUCH_JUNK = _reply(421, "4.7.0", "Too many commands without a message, closing")
RIGHT_LOST = _reply(421, "4.7.0", "The configuration has changed: connect and log in again")
NOT_SMTP = _reply(421, "4.7.0", "This is a mail server (SMTP), closing")
NOT_ALLOWED = _reply(554, "5.7.1", "This address may not connect here (allowed_networks)")  # RFC 5321 3.1
NO_CONNECTION_NOW = _reply(421, "4.3.2", "No more connections are taken for now, try again in a minute")
OUR_FAULT = _reply(451, "4.3.0", "Internal error, see the log of the server; try again later")  # RFC 5321 4.2.2
CLOSING = _reply(421, "4.3.0", "Closing after an internal error")

# Commands as such

OK = _reply(250, "2.0.0", "Ok")
CANNOT_VERIFY = _reply(252, "2.0.0", "Addresses are not verified here, send the message")  # RFC 5321 3.5.3
UNKNOWN_COMMAND = _reply(500, "5.5.2", "Unknown command")  # RFC 5321 4.2.4
EMPTY_LINE = _reply(500, "5.5.2", "A command was expected, not an empty line")
LINE_TOO_LONG = _reply(500, "5.5.2", "Line too long")  # RFC 5321 4.5.3.1.9
NOT_IMPLEMENTED = _reply(502, "5.5.1", "Command not implemented")  # RFC 5321 3.5.2, EXPN
NO_ARGUMENT = _reply(501, "5.5.4", "This command takes no argument")  # RFC 3207 section 4

# TLS

START_TLS = _reply(220, "2.0.0", "Ready to start TLS")  # RFC 3207 section 4
NO_TLS = _reply(502, "5.5.1", "TLS is not possible: no certificate is configured (tls.tls_cert)")
TLS_ALREADY = _reply(503, "5.5.1", "TLS is on already")
TLS_FIRST = _reply(530, "5.7.0", "Must issue a STARTTLS command first")  # RFC 3207 section 4

# Logging in (RFC 4954)

ASK_USER = _reply(334, None, "VXNlcm5hbWU6")  # "Username:"; a Xerox quits at anything else
ASK_PASSWORD = _reply(334, None, "UGFzc3dvcmQ6")  # "Password:"
ASK_PLAIN = _reply(334, None, "")  # the space after 334 is part of it (RFC 4954 section 4)
LOGGED_IN = _reply(235, "2.7.0", "Logged in")  # RFC 4954 section 6
LOGIN_BUSY = _reply(454, "4.7.0", "Cannot check the password now, try again")  # RFC 4954 section 6
AUTH_CANCELLED = _reply(501, "5.0.0", "Login cancelled")  # RFC 4954 section 4
AUTH_SYNTAX = _reply(501, "5.5.4", "Use AUTH PLAIN or AUTH LOGIN")  # RFC 4954 section 4
BAD_BASE64 = _reply(501, "5.5.2", "Cannot decode this (base64, RFC 4954)")  # RFC 4954 section 4
AUTH_LINE_TOO_LONG = _reply(500, "5.5.6", "Login line too long")  # RFC 4954 section 6
LOGGED_IN_ALREADY = _reply(503, "5.5.1", "You are logged in already")  # RFC 4954 section 4
NOT_IN_TRANSACTION = _reply(503, "5.5.1", "Not during a mail transaction")  # RFC 4954 section 4
UNKNOWN_MECHANISM = _reply(504, "5.5.4", "Use AUTH PLAIN or AUTH LOGIN")  # RFC 4954 section 4
_NO_TLS_HERE = (
    "login from this address needs TLS, which this port has not: set tls.tls_cert (and no listener's tls to none), "
    "or plaintext_networks, on the server"
)
LOGIN_NEEDED = _reply(
    530, "5.7.0", "Log in first: set the mailbox's user name and password on the device"
)  # RFC 4954 section 6
LOGIN_NEEDED_TLS = _reply(530, "5.7.0", "Log in first: set TLS (STARTTLS), user name and password on the device")
LOGIN_NEEDED_CERTIFICATE = _reply(530, "5.7.0", f"Log in first. A {_NO_TLS_HERE}")
LOGIN_NEEDS_TLS = _reply(
    538, "5.7.11", "A login from this address needs TLS: set STARTTLS on the device"
)  # RFC 4954 section 4
LOGIN_NEEDS_CERTIFICATE = _reply(538, "5.7.11", f"A {_NO_TLS_HERE}")
LOGIN_REFUSED = _reply(535, "5.7.8", "User name or password is wrong")  # RFC 4954 section 6
LOGIN_EMPTY = _reply(535, "5.7.8", "User name and password are empty: set those of the mailbox on the device")
LOGIN_AS_OTHER = _reply(535, "5.7.8", "A login cannot act as somebody else")  # RFC 4616

# MAIL

SENDER_OK = _reply(250, "2.1.0", "Ok")  # RFC 3463 3.2
SIZE_SYNTAX = _reply(501, "5.5.4", "SIZE= takes a number of octets")  # RFC 1870 section 6
BINARY_REFUSED = _reply(501, "5.6.1", "BODY=BINARYMIME is not offered here")  # RFC 3030 section 3
NESTED_MAIL = _reply(503, "5.5.1", "A sender is set already, use RSET")  # RFC 5321 4.1.4


def sender_syntax(given: str) -> Reply:
    return _reply(501, "5.1.7", f"Use MAIL FROM:<address>, not {_shown(given) or 'nothing'}")  # RFC 5321 4.1.1.2


def not_ascii(address: str) -> Reply:
    return _reply(553, "5.6.7", f"{_shown(address)} contains characters outside ASCII")  # RFC 6531 3.5


def sender_refused(sender: str, mailbox: str, ways: Sequence[str]) -> Reply:
    """`ways`: what can be done in the configuration, a line each."""
    return _reply(
        550,
        "5.7.60",
        f"{_shown(mailbox)} may not send as {_shown(sender)}:",
        f"set the device's sender address to {_shown(mailbox)},",
        *(_shown(way, _LONGEST_WAY) for way in ways),
    )


# RCPT

BAD_RECIPIENT = "5.1.3"  # the enhanced code for the form of an address, RFC 3463 3.2
RECIPIENT_OK = _reply(250, "2.1.5", "Ok")  # RFC 3463 3.2
NOTIFY_SYNTAX = _reply(501, "5.5.4", "NOTIFY= takes NEVER, or any of SUCCESS, FAILURE and DELAY")  # RFC 3461 4.1
SENDER_FIRST = _reply(503, "5.5.1", "MAIL comes first")  # RFC 5321 4.1.4
TOO_MANY_RECIPIENTS = _reply(
    452, "4.5.3", "Too many recipients, send the rest separately (limits.recipients)"
)  # 4.5.3.1.10


def recipient_syntax(given: str) -> Reply:
    return _reply(
        501, BAD_RECIPIENT, f"Use RCPT TO:<user@domain>, not {_shown(given) or 'nothing'}"
    )  # RFC 5321 4.1.1.3


def recipient_refused(address: str, reason: str) -> Reply:
    """`reason` follows "because"."""
    return _reply(501, BAD_RECIPIENT, f"Microsoft 365 cannot send to {_shown(address)}, because {reason}")


def domain_refused(domain: str) -> Reply:
    return _reply(550, "5.7.1", f"Mail to {_shown(domain)} is not allowed here (allowed_domains)")


# DATA

START_DATA = _reply(354, None, "Go ahead, end with a line that is only a dot")  # RFC 5321 4.1.1.4
NO_RECIPIENTS = _reply(554, "5.5.1", "No valid recipients")  # RFC 5321 3.3
TOO_LARGE = _reply(552, "5.3.4", "The message is too large (attachment_limit_mb)")  # RFC 1870 section 6
TOO_LARGE_TO_SEND_ONLY = _reply(
    552, "5.3.4", 'Mail of more than 2.9 MB needs "permissions": "full" in the configuration of m365proxy'
)
NO_ROOM = _reply(452, "4.3.1", "Cannot store mail at the moment, try again later")  # RFC 5321 4.2.2


CHUNK_SYNTAX = _reply(501, "5.5.4", "Use BDAT octets [LAST]; closing")  # RFC 3030 section 2
CHUNKS_BEGUN = _reply(503, "5.5.1", "After BDAT only BDAT and RSET are possible")  # RFC 3030 section 2


def chunk_taken(size: int) -> Reply:
    return _reply(250, "2.0.0", f"{size} octets received")  # RFC 3030 section 2


def queued(id: str) -> Reply:
    """The promise of RFC 5321 4.2.5: sent only when the message is on the disk."""
    return _reply(250, "2.0.0", f"Ok: queued as {_shown(id)}")


def too_large(reason: str) -> Reply:
    """RFC 1870 section 6 again, where it is not attachment_limit_mb that speaks."""
    return _reply(552, "5.3.4", _shown(reason, 400))


BOUNCE_OF_A_BOUNCE = _reply(
    554, "5.4.6", "A bounce of a bounce is not sent, because the two could go round for ever"
)  # RFC 3463 3.5


def message_refused(reason: str) -> Reply:
    return _reply(554, "5.6.0", _shown(reason, 400))  # RFC 3463 3.7
