"""What known kinds of devices need beyond the ordinary settings; docs/devices.md says the same at length."""

from __future__ import annotations

from typing import Callable, List, NamedTuple, Optional, Tuple

from ...system.choices import TlsMode
from .entrances import Entrance

PRINTERS = "Printers and scanners (MFPs)"
MACHINES = "UPS cards, cameras, PLCs, iDRAC and iLO, NAS"


class Facts(NamedTuple):
    """What the config has for the device; `sending` is how it sends, the others are further ports for SMTP."""

    login: str
    sending: Entrance
    old_tls: Optional[Entrance]
    bare_lf: Optional[Entrance]
    starts_with_tls: bool
    rewrites_from: bool
    is_self_signed: bool


class Hint(NamedTuple):
    """`kind` is a heading of docs/devices.md, `symptom` words in italics below it; no advice: no matter."""

    kind: str
    symptom: str
    advice: Callable[[Facts], str]


def hints(facts: Facts) -> List[Tuple[str, str, str]]:
    """(kind, symptom, advice) of what may be met with these settings."""
    return [(hint.kind, hint.symptom, advice) for hint in HINTS for advice in [hint.advice(facts)] if advice]


def _short_login(facts: Facts) -> str:
    if not facts.login or ("@" not in facts.login and len(facts.login) <= 31):
        return ""
    return "ask for a short user name (the administrator adds a `login` to the mailbox)."


def _tls_at_once(facts: Facts) -> str:
    if facts.sending.tls != TlsMode.STARTTLS or facts.starts_with_tls:
        return ""
    return "try a second time; from then on it works."


def _old_tls(facts: Facts) -> str:
    if facts.sending.tls == TlsMode.NONE or facts.sending.is_special:
        return ""
    if facts.old_tls is not None:
        return f"use port {facts.old_tls.port}."
    return "ask for a port of its own (the administrator adds a listener with `min_version`)."


def _odd_from(facts: Facts) -> str:
    if facts.rewrites_from:
        return "leave it as it is; it is replaced on the way."
    return "ask for help (the administrator sets `rewrite_from` for the mailbox)."


def _bare_lf(facts: Facts) -> str:
    if facts.sending.lf_only:
        return ""
    if facts.bare_lf is not None:
        return f"use port {facts.bare_lf.port}."
    return "ask for a port of its own (the administrator adds a listener with `lf_only_clients`)."


def _insists_on_certificate(facts: Facts) -> str:
    if facts.sending.tls == TlsMode.NONE or not facts.is_self_signed:
        return ""
    return "install the server's certificate on it (the administrator has it)."


HINTS: Tuple[Hint, ...] = (
    Hint(PRINTERS, "Allows only 31 characters in a user name, or no @", _short_login),
    Hint(PRINTERS, "Starts TLS at once on a STARTTLS port", _tls_at_once),
    Hint(PRINTERS, "Supports TLS 1.0 or 1.1 only", _old_tls),
    Hint(MACHINES, "From cannot be set, or is something like root@localhost", _odd_from),
    Hint(MACHINES, "Ends all lines with a bare LF, commands too", _bare_lf),
    Hint(MACHINES, "Requires a valid certificate and uses the server's IP address", _insists_on_certificate),
)
