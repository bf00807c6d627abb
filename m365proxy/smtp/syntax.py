"""Takes command lines apart: pure functions, tolerant where devices need it.

Text is a command line decoded as UTF-8 with surrogateescape: every octet
survives, and none outside ASCII is taken for an ASCII letter.
"""

from __future__ import annotations

import re
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from ..logins.sasl import Malformed
from ..mime import addresses

_BLANK = " \t"

_BLANKS = re.compile(r"[ \t]+")

# What nearly all clients write: an address without route, quotes and blanks, and parameters (RFC 5321 4.1.2).
_ADDRESS = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]*[A-Za-z0-9-]"
_PARAMETER = r"[A-Za-z0-9-]+(?:=[!#-'*-;=?-~]*)?"
_PLAIN_PATHS = {
    keyword: re.compile(rf"{keyword}:<({_ADDRESS})>((?: {_PARAMETER})*)", re.IGNORECASE | re.ASCII)
    for keyword in ("FROM", "TO")
}

# A quoted string, also one that is not closed; a comment; any other character.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|\([^()]*\)|.', re.DOTALL)

# Where blanks mean nothing in an address (RFC 5322 4.4).
_BLANKS_AROUND = re.compile(r" ?([@.]) ?")

# What is not for the log, wherever it stands in a command.
_SECRET = re.compile(r"(AUTH=)\S+", re.IGNORECASE)

_KNOWN_PARAMETERS = {"MAIL": ("SIZE", "BODY", "AUTH", "RET", "ENVID", "SMTPUTF8"), "RCPT": ("NOTIFY", "ORCPT")}


def command(line: bytes) -> Tuple[str, str]:
    """(verb in upper case, argument); the verb is "" for an empty line."""
    text = line.decode("utf-8", "surrogateescape").strip(_BLANK)
    verb, *rest = _BLANKS.split(text, maxsplit=1)
    return (verb.upper() if verb.isascii() else verb), (rest[0] if rest else "")


def path(argument: str, keyword: str) -> Tuple[str, Dict[str, str]]:
    """The address and parameters of MAIL ("FROM") or RCPT ("TO"); "" for <>.  Malformed, also for a second address.

    Devices leave out <>, put a space beside the colon or forget the colon, and
    write a name before the address or a comment behind it, as in a header.
    The address comes without its source route, needless quotes and blanks, and
    a dot at its end.
    """
    found = _PLAIN_PATHS[keyword].fullmatch(argument)
    return (found[1], _parameters(found[2])) if found else _tolerant_path(argument, keyword)


def _tolerant_path(argument: str, keyword: str) -> Tuple[str, Dict[str, str]]:
    start = re.match(rf"{keyword}(?:[ \t]*:|[ \t])[ \t]*", argument, re.IGNORECASE)
    if not start:
        raise Malformed(keyword)
    before, address, after = _split(_TOKEN.findall(argument[start.end() :]))
    simple = _address(address)
    if "@" in before and _address(before).lower() != simple.lower():
        raise Malformed("two addresses")
    return simple, _parameters(_without_comments(after))


def _split(tokens: List[str]) -> Tuple[List[str], List[str], List[str]]:
    """What is before the brackets, in them and behind them; an address without brackets ends at a blank.  Malformed."""
    opening = _opening(tokens)
    if opening is not None:
        if ">" not in tokens[opening:]:
            raise Malformed("no closing >")
        closing = after = tokens.index(">", opening)
        # Some put the whole of "Name <address>" into brackets once more.
        opening = max(index for index in range(opening, closing) if tokens[index] == "<")
        while tokens[after : after + 1] == [">"]:
            after += 1
        return [token for token in tokens[:opening] if token != "<"], tokens[opening + 1 : closing], tokens[after:]
    begin = next((index for index, token in enumerate(tokens) if not _is_blank(token)), len(tokens))
    end = next((index for index in range(begin, len(tokens)) if _is_blank(tokens[index])), len(tokens))
    if begin == end:
        raise Malformed("no address")
    return [], tokens[begin:end], tokens[end:]


def _opening(tokens: Sequence[str]) -> Optional[int]:
    """Where the brackets of the path begin, which are not those of a parameter: AUTH=<>."""
    word = ""
    for index, token in enumerate(tokens):
        if token == "<" and ("=" not in word or word.endswith("?=")):  # the end of an encoded word
            return index
        word = "" if _is_blank(token) else word + token
    return None


def _is_blank(token: str) -> bool:
    """Whether it separates words, as blanks and comments do."""
    return token in _BLANK or (token.startswith("(") and len(token) > 1)


def _address(tokens: Iterable[str]) -> str:
    """An address in its simplest form, without route."""
    text = "".join(" " if _is_blank(token) else token for token in tokens)
    text = addresses.without_route(text.strip(_BLANK)).strip(_BLANK)
    if '"' not in text:
        text = _BLANKS_AROUND.sub(r"\1", re.sub("  +", " ", text))
    return addresses.plain(text)


def unknown_parameters(verb: str, parameters: Dict[str, str]) -> List[str]:
    return [key for key in parameters if key not in _KNOWN_PARAMETERS[verb]]


def _without_comments(tokens: Iterable[str]) -> str:
    text = ""
    for token in tokens:
        # A comment is a word of its own; in a word, brackets belong to the value.
        text += " " if _is_blank(token) and not text[-1:].strip(_BLANK) else token
    return text


def _parameters(text: str) -> Dict[str, str]:
    found: Dict[str, str] = {}
    for word in _BLANKS.split(text.strip(_BLANK)):
        key, _, value = word.partition("=")
        if "@" in key:
            raise Malformed("a second address")  # taken for a parameter, it would silently get no mail
        if key:
            found[key.upper()] = value
    return found


def without_secrets(command: str) -> str:
    """A MAIL or RCPT command for the log."""
    return _SECRET.sub(r"\1...", command)


class DeliveryNotes(NamedTuple):
    """What a client wants of delivery reports (RFC 3461); "" for what it did not say."""

    ret: str = ""
    envid: str = ""
    orcpt: str = ""
    notify: str = ""


def delivery_notes(parameters: Dict[str, str]) -> DeliveryNotes:
    """RET, ENVID, ORCPT and NOTIFY as far as they are well formed."""
    if not parameters:
        return DeliveryNotes()
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
