"""Who sends what to whom: the X-M365Proxy-* lines before a spooled message, written once and never sent."""

from __future__ import annotations

from typing import Any, BinaryIO, Dict, List, NamedTuple, Tuple

from ..errors import Permanent

_PREFIX = b"X-M365Proxy-"
_END = b"X-M365Proxy-End: 1\r\n"

# Octets of all envelope lines, as written and as read.  Those of the largest message that is accepted (1,000
# recipients, each with NOTIFY and the longest ORCPT) have less than half as many.
_LIMIT = 4 * 1024 * 1024


class Envelope(NamedTuple):
    """Who sends to whom (RFC 5321 2.3.1), and how the message came here."""

    mailbox: str
    sender: str = ""  # "" is the null reverse-path
    recipients: Tuple[str, ...] = ()
    client: str = ""
    login: str = ""
    kind: str = "message"  # "report": one of our own delivery reports; "warning": a notice to the administrator
    accepted: float = 0.0  # seconds since 1970 by the wall clock
    ret: str = ""  # DSN RET=: FULL or HDRS (RFC 3461 4.3)
    envid: str = ""  # DSN ENVID= (RFC 3461 4.4)
    silent: Tuple[str, ...] = ()  # recipients with NOTIFY=NEVER (RFC 3461 4.1)
    orcpt: Tuple[str, ...] = ()  # "recipient ORCPT-value" pairs (RFC 3461 4.2)


# Envelope field -> header name.  Fields with a tuple write one line per value.
_FIELDS = {
    "mailbox": b"Mailbox",
    "sender": b"Sender",
    "recipients": b"Recipient",
    "client": b"Client",
    "login": b"Login",
    "kind": b"Kind",
    "accepted": b"Accepted",
    "ret": b"Ret",
    "envid": b"Envid",
    "silent": b"Silent",
    "orcpt": b"Orcpt",
}
_NAMES = {name: field for field, name in _FIELDS.items()}
_TUPLES = ("recipients", "silent", "orcpt")


class DamagedMessage(Permanent):
    """A file of the spool has no readable envelope."""


def envelope_lines(envelope: Envelope) -> bytes:
    """The envelope as the first lines of a spooled file.  ValueError if it has a line end in it or is too large."""
    lines = []
    for field, name in _FIELDS.items():
        value = getattr(envelope, field)
        for item in value if field in _TUPLES else (value,):
            if item == "" or item == 0.0:
                continue
            text = f"{item:.3f}" if field == "accepted" else item
            if "\r" in text or "\n" in text or "\0" in text:
                raise ValueError(f"line end in envelope field {field}")
            lines.append(_PREFIX + name + b": " + text.encode("utf-8", "surrogateescape") + b"\r\n")
    written = b"".join(lines) + _END
    if len(written) > _LIMIT:
        raise ValueError("the envelope is too large to be read again")
    return written


def read_envelope(file: BinaryIO) -> Envelope:
    """Parse the leading lines and leave `file` at the message; DamagedMessage if they are not whole."""
    values: Dict[str, List[str]] = {}
    total = 0
    while True:
        line = file.readline(_LIMIT)
        total += len(line)
        if line == _END:
            break
        name, colon, value = line.partition(b": ")
        field = _NAMES.get(name[len(_PREFIX) :]) if name.startswith(_PREFIX) else None
        if not field or not colon or not value.endswith(b"\r\n") or total > _LIMIT:
            raise DamagedMessage("The spooled file has no readable envelope; it is kept in failed/.")
        values.setdefault(field, []).append(value[:-2].decode("utf-8", "surrogateescape"))
    if not values.get("mailbox") or not values.get("recipients"):
        raise DamagedMessage("The spooled file has no readable envelope; it is kept in failed/.")
    return Envelope(**{field: _field_value(field, items) for field, items in values.items()})


def _field_value(field: str, items: List[str]) -> Any:
    if field in _TUPLES:
        return tuple(items)
    if field == "accepted":
        try:
            return float(items[0])
        except ValueError:
            raise DamagedMessage("The spooled file has no readable envelope; it is kept in failed/.") from None
    return items[0]
