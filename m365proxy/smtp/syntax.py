"""Takes command lines apart: pure functions, tolerant where devices need it.

Text is a command line decoded as UTF-8 with surrogateescape: every octet
survives, and none outside ASCII is taken for an ASCII letter.
"""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Tuple

from ..logins.sasl import Malformed

_BLANK = " \t"

_KNOWN_PARAMETERS = {"MAIL": ("SIZE", "BODY", "AUTH", "RET", "ENVID", "SMTPUTF8"), "RCPT": ("NOTIFY", "ORCPT")}


def command(line: bytes) -> Tuple[str, str]:
    """(verb in upper case, argument); the verb is "" for an empty line."""
    text = line.decode("utf-8", "surrogateescape").strip(_BLANK)
    verb, *rest = re.split(r"[ \t]+", text, maxsplit=1)
    return (verb.upper() if verb.isascii() else verb), (rest[0] if rest else "")


def path(argument: str, keyword: str) -> Tuple[str, Dict[str, str]]:
    """The address and parameters of MAIL ("FROM") or RCPT ("TO"); "" for <>.  Malformed, also for a second address.

    Devices leave out <>, put a space beside the colon, or forget the colon.  A source route is
    dropped (RFC 5321 appendix C).
    """
    start = re.match(rf"{keyword}(?:[ \t]*:|[ \t])[ \t]*", argument, re.IGNORECASE)
    if not start:
        raise Malformed(keyword)
    rest = argument[start.end() :]
    bracketed = rest.startswith("<")
    end = _end_of_path(rest[bracketed:], ">" if bracketed else _BLANK)
    address = rest[bracketed:][:end].strip(_BLANK)
    after = rest[bracketed:][end:]
    if bracketed:
        if not after:
            raise Malformed("no closing >")
        after = after[1:]
    elif not address:
        raise Malformed("no address")
    if address.startswith("@") and ":" in address:
        address = address.partition(":")[2]
    return address, _parameters(after)


def _end_of_path(text: str, ends: str) -> int:
    """The index of the first of the characters `ends` outside a quoted string, or the length."""
    quoted = False
    escaped = False
    for index, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character in ends and not quoted:
            return index
    return len(text)


def unknown_parameters(verb: str, parameters: Dict[str, str]) -> List[str]:
    return [key for key in parameters if key not in _KNOWN_PARAMETERS[verb]]


def _parameters(text: str) -> Dict[str, str]:
    found: Dict[str, str] = {}
    for word in re.split(r"[ \t]+", text.strip(_BLANK)):
        key, _, value = word.partition("=")
        if "@" in key:
            raise Malformed("a second address")  # taken for a parameter, it would silently get no mail
        if key:
            found[key.upper()] = value
    return found


class DeliveryNotes(NamedTuple):
    """What a client wants of delivery reports (RFC 3461); "" for what it did not say."""

    ret: str = ""
    envid: str = ""
    orcpt: str = ""
    notify: str = ""


def delivery_notes(parameters: Dict[str, str]) -> DeliveryNotes:
    """RET, ENVID, ORCPT and NOTIFY as far as they are well formed."""
    ret = parameters.get("RET", "").upper()
    return DeliveryNotes(
        ret=ret if ret in ("FULL", "HDRS") else "",
        envid=_xtext(parameters.get("ENVID", ""), 100),
        orcpt=_xtext(parameters.get("ORCPT", ""), 500),
        notify=parameters.get("NOTIFY", "").upper(),
    )


def is_notify(value: str) -> bool:
    """Whether NOTIFY= may have this value (RFC 3461 4.1); some clients leave it empty."""
    return not value or {"NEVER", "SUCCESS", "FAILURE", "DELAY"}.issuperset(value.upper().split(","))


def _xtext(value: str, limit: int) -> str:
    # Kept as written: a report gives it back in the same form.
    return value if len(value) <= limit and all("!" <= character <= "~" for character in value) else ""


def chunk(argument: str) -> Tuple[int, bool]:
    """(octets, whether it is the last) of BDAT (RFC 3030 section 2).  Malformed."""
    size, *last = argument.upper().split()[:3] or [""]
    if not (size.isascii() and size.isdigit() and len(size) <= 20 and last in ([], ["LAST"])):
        raise Malformed("BDAT")
    return int(size), bool(last)
