"""What keeps a client from sending, found in the steps of the log; and what can be set, on the device or here."""

from __future__ import annotations

from typing import Dict, Mapping, NamedTuple, Optional, Tuple

from ..server import handshake
from ..server.quirks import Habit
from ..server.sessions import NOT_ALLOWED
from ..system.choices import Word
from ..system.events import Value


class Trouble(Word):
    """What a client meets; the words are in devices.json and in `devices --json`."""

    NOT_ALLOWED = "not allowed"
    TOO_MANY_CONNECTIONS = "too many connections"
    UNKNOWN_LOGIN = "unknown login"
    WRONG_PASSWORD = "wrong password"
    EMPTY_LOGIN = "empty login"
    LOGIN_BLOCKED = "login blocked"
    LOGIN_ELSEWHERE = "login for another network"
    LOGIN_OTHERWISE = "login refused"
    MECHANISM = "AUTH mechanism"
    NO_LOGIN = "no login"
    LOGIN_WITHOUT_TLS = "login without TLS"
    TLS_REQUIRED = "TLS required"
    OLD_TLS = "old TLS"
    UNTRUSTED = "certificate not trusted"
    NO_TLS = "no TLS on a TLS port"
    TLS_BROKEN = "TLS handshake broken off"
    TLS_AT_ONCE = "TLS at once"
    BARE_LF = "bare LF"
    SENDER = "sender not allowed"
    DOMAIN = "recipient domain not allowed"
    TOO_LARGE = "too large"
    NOT_SMTP = "not SMTP"
    REFUSED = "refused"


# A login was tried, and failed.
LOGIN_TROUBLES = (
    Trouble.UNKNOWN_LOGIN,
    Trouble.WRONG_PASSWORD,
    Trouble.EMPTY_LOGIN,
    Trouble.LOGIN_BLOCKED,
    Trouble.LOGIN_ELSEWHERE,
    Trouble.LOGIN_OTHERWISE,
    Trouble.MECHANISM,
)


class Words(NamedTuple):
    """`did`: what the client does, for a table.  `advice`: what to set, whole sentences."""

    did: str
    advice: str


WORDS: Dict[Trouble, Words] = {
    Trouble.NOT_ALLOWED: Words(
        "connects from outside allowed_networks", "If it is one of yours, add its address to allowed_networks."
    ),
    Trouble.TOO_MANY_CONNECTIONS: Words(
        "opens too many connections", "See limits.connections and limits.connections_per_client."
    ),
    Trouble.UNKNOWN_LOGIN: Words(
        "logs in with an unknown user name",
        "Correct the user name on the device, or add it with `m365proxy init --add-login LOGIN`.",
    ),
    Trouble.WRONG_PASSWORD: Words("logs in with a wrong password", "Type the password anew on the device."),
    Trouble.EMPTY_LOGIN: Words(
        "logs in with empty user name and password", "Set the user name and password of a login on the device."
    ),
    Trouble.LOGIN_BLOCKED: Words(
        "is blocked after wrong passwords",
        "Correct the password on the device, and wait for limits.auth_block_minutes.",
    ),
    Trouble.LOGIN_ELSEWHERE: Words(
        "logs in from outside the login's networks", "Add its address to the networks of this login in the config."
    ),
    Trouble.LOGIN_OTHERWISE: Words("has a login that is refused", "Use another user name on the device."),
    Trouble.MECHANISM: Words(
        "wants a login that is not offered (CRAM-MD5, NTLM)",
        "Set the authentication on the device to LOGIN, PLAIN or automatic, never to CRAM-MD5, NTLM or Kerberos.",
    ),
    Trouble.NO_LOGIN: Words(
        "does not log in",
        "Set user name and password on the device. If it cannot log in, add its address to relay_networks.",
    ),
    Trouble.LOGIN_WITHOUT_TLS: Words(
        "does not begin TLS, so it cannot log in",
        "Set TLS (STARTTLS) on the device. If it has none, add its address to plaintext_networks.",
    ),
    Trouble.TLS_REQUIRED: Words(
        "does not begin TLS, which is required",
        "Set TLS (STARTTLS) on the device. If it has none, it needs a listener that does not require TLS.",
    ),
    Trouble.OLD_TLS: Words(
        "supports only old TLS",
        "Update its firmware. If that does not help, give it a listener of its own with min_version.",
    ),
    Trouble.UNTRUSTED: Words(
        "does not trust the certificate",
        "Turn the server certificate check off on the device, or install the certificate there.",
    ),
    Trouble.NO_TLS: Words(
        "does not speak TLS on a port for TLS",
        "Set SSL/TLS on the device for this port, or use the port for STARTTLS (smtp_port).",
    ),
    Trouble.TLS_BROKEN: Words(
        "breaks off the TLS handshake",
        "Turn the server certificate check off on the device. If that does not help, see min_version.",
    ),
    Trouble.TLS_AT_ONCE: Words(
        "begins TLS at once on a port for STARTTLS",
        "Try a second time; from then on it works. With its address in tls_first the first attempt works, too.",
    ),
    Trouble.BARE_LF: Words("ends its lines with a bare LF", "Give it a listener of its own with lf_only_clients."),
    Trouble.SENDER: Words(
        "sends with a From that the mailbox may not use",
        "Set From on the device to the mailbox's address, or see send_as and rewrite_from.",
    ),
    Trouble.DOMAIN: Words(
        "sends to a domain that is not in allowed_domains",
        "If mail may go there, add the recipient's domain to allowed_domains.",
    ),
    Trouble.TOO_LARGE: Words("sends mail that is too large", "Scan with less resolution, or see attachment_limit_mb."),
    Trouble.NOT_SMTP: Words(
        "does not speak SMTP", "Look at the port on the device: this is a mail server, and no web or print server."
    ),
    Trouble.REFUSED: Words("is refused", "The refusal says why; `m365proxy trace ADDRESS` shows all of them."),
}

# How the reasons begin for which a login is refused (logins/users.py, logins/guard.py).
_LOGINS = (
    ("no such user name", Trouble.UNKNOWN_LOGIN),
    ("wrong password", Trouble.WRONG_PASSWORD),
    ("user name and password are empty", Trouble.EMPTY_LOGIN),
    ("blocked", Trouble.LOGIN_BLOCKED),
    ("the user name is not for this network", Trouble.LOGIN_ELSEWHERE),
)

# How the reasons begin for which a handshake fails.
_HANDSHAKES = (
    (handshake.OLD_TLS, Trouble.OLD_TLS),
    (handshake.NO_CIPHER, Trouble.OLD_TLS),
    (handshake.UNTRUSTED, Trouble.UNTRUSTED),
    (handshake.NO_TLS, Trouble.NO_TLS),
    (handshake.NO_HTTP, Trouble.NOT_SMTP),
)

# Reply codes and how the text goes on (smtp/replies.py); the first that fits.
_REPLIES: Tuple[Tuple[str, str, Trouble], ...] = (
    ("504", "", Trouble.MECHANISM),
    ("530", "Log in first: set the mailbox's user name", Trouble.NO_LOGIN),
    ("530", "Log in first", Trouble.LOGIN_WITHOUT_TLS),
    ("530", "", Trouble.TLS_REQUIRED),
    ("538", "", Trouble.LOGIN_WITHOUT_TLS),
    ("550", " may not send as ", Trouble.SENDER),
    ("550", "(allowed_domains)", Trouble.DOMAIN),
    ("552", "", Trouble.TOO_LARGE),
)

_HABITS = {
    Habit.BARE_LF.value: Trouble.BARE_LF,
    Habit.NO_AUTH.value: Trouble.LOGIN_WITHOUT_TLS,
    Habit.TLS_AT_ONCE.value: Trouble.TLS_AT_ONCE,
}

_NOT_SMTP = "This is a mail server"


def trouble_in(step: Mapping[str, Value]) -> Optional[Trouble]:
    """What the client of a step meets; None if nothing, or if it is not at fault."""
    event, reason = str(step.get("event")), str(step.get("reason", ""))
    if event == "login failed":
        return next((found for begin, found in _LOGINS if reason.startswith(begin)), Trouble.LOGIN_OTHERWISE)
    if event == "TLS failed":
        return next((found for begin, found in _HANDSHAKES if reason.startswith(begin)), Trouble.TLS_BROKEN)
    if event == "first seen":
        return _HABITS.get(str(step.get("habit")))
    if event == "session ended":
        return Trouble.NOT_SMTP if reason.startswith(_NOT_SMTP) else None
    if event == "refused":
        return _in_refusal(str(step.get("reply", "")), reason)
    return None


def _in_refusal(reply: str, reason: str) -> Optional[Trouble]:
    if not reply:  # the connection was refused
        return Trouble.NOT_ALLOWED if reason == NOT_ALLOWED else Trouble.TOO_MANY_CONNECTIONS
    if reason:  # our disk is at fault
        return None
    for code, text, trouble in _REPLIES:
        if reply.startswith(code) and text in reply:
            return trouble
    return Trouble.REFUSED
