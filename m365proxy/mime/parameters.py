"""Field values with parameters: Content-Type and Content-Disposition (RFC 2045, 2183, 2231)."""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Tuple

from . import charsets, words

# How many characters of a value are read.
_LONGEST = 64 * 1024

# The most sections of one parameter (RFC 2231 section 3).
_SECTIONS = 100

# Characters of a value that is written plainly; a longer one is written in sections.
_LONGEST_PLAIN = 200

# Characters of one written section.
_SECTION = 54

_TOKEN = re.compile(r"[A-Za-z0-9!#$&+.^_`{|}~-]+\Z")
_MAIN = re.compile(r"\s*([!#-'*+./0-9:<>?-~-]{0,127})(?![^\s,;()=\"])|")
_NAME = re.compile(r"([A-Za-z0-9!#$&+.^_`|~-]{1,60}?)(?:\*(\d{1,2}))?(\*)?\s*=\s*")
_BEFORE_NAME = re.compile(r"[,;\s]+")
_QUOTED = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.S)
# A name continues after a semicolon if no parameter begins there.
_UNQUOTED_NAME = re.compile(r"[^;]*(?:;(?!\s*[A-Za-z*0-9-]{1,60}\s*=)[^;]*)*")
_UNQUOTED_BOUNDARY = re.compile(r"[^;\s]*(?:\s+(?![A-Za-z*0-9-]{1,60}\s*=|\()[^;\s]+)*")
_UNQUOTED_WORD = re.compile(r"[^;\s]*")
# RFC 2045 5.1 without comments, which some readers do not know.
_STRICT_TOKEN = r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+"
_STRICT = re.compile(
    rf"{_STRICT_TOKEN}(?:/{_STRICT_TOKEN})?"
    rf"""(?:[ \t]*;[ \t]*{_STRICT_TOKEN}=(?:{_STRICT_TOKEN}|"(?:[ \t!#-\[\]-~]|\\["\\])*"))*[ \t]*\Z"""
)
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_RAW = re.compile(r"([^\x00-\x7f]+)")
_NAMES = ("name", "filename")


class Parameter(NamedTuple):
    """A parameter's text, decoded; `plain` unless it was given in RFC 2231 form only."""

    text: str
    plain: bool


class Value:
    """The leading word of a value in lower case ("text/plain", "attachment") and its parameters.

    `strict`: it was written so that every reader understands it the same way.
    """

    def __init__(self, main: str, parameters: Dict[str, Parameter], strict: bool = True):
        self.main = main
        self.parameters = parameters
        self.strict = strict

    def get(self, name: str) -> str:
        """A parameter's text, "" if it is missing."""
        found = self.parameters.get(name)
        return found.text if found else ""

    def has_plain(self, name: str) -> bool:
        found = self.parameters.get(name)
        return found is not None and found.plain

    def set(self, name: str, text: str) -> None:
        self.parameters[name] = Parameter(text, True)

    def lines(self) -> bytes:
        """The value for a header: ASCII, one parameter per line."""
        return b";\r\n ".join([self.main.encode("ascii", "replace")] + self._written())

    def _written(self) -> List[bytes]:
        result = []
        for name, parameter in self.parameters.items():
            text = words.clean(parameter.text)
            if is_plain(text):
                quoted = text if _TOKEN.match(text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
                result.append(f"{name}={quoted}".encode("ascii"))
            elif name == "name":
                # Outlook and Exchange read a name only in this form (RFC 2047 forbids it, everybody does it).
                result.append(b'name="' + b"\r\n ".join(words.encode(text)) + b'"')
            else:
                result += _sections(name, text)
        return result


def is_plain(text: str) -> bool:
    """Whether a parameter's text is written without encoding."""
    return text.isascii() and len(text) <= _LONGEST_PLAIN


def parse(text: str) -> Value:
    """Read a value; accepts missing semicolons, unclosed quotes, raw 8-bit text and encoded words in names.

    Of several parameters with one name the first counts, and the RFC 2231 form rather than the plain one.
    """
    if not text:
        return Value("", {}, strict=False)
    text = text[:_LONGEST]
    strict = bool(_STRICT.match(text))
    main = _MAIN.match(text)
    assert main is not None  # it also matches the empty string
    plain: Dict[str, str] = {}
    sections: Dict[str, Dict[int, Tuple[str, bool]]] = {}
    position = main.end()
    closed_quotes = True
    while position < len(text):
        gap = _BEFORE_NAME.match(text, position)
        position = gap.end() if gap else position
        match = _NAME.match(text, position)
        if not match:
            position = text.find(";", position + 1)
            if position < 0:
                break
            continue
        name, number, starred = match.group(1).lower(), match.group(2), match.group(3)
        value, position, closed_quotes = _value(text, match.end(), name, closed_quotes)
        if number or starred:
            sections.setdefault(name, {}).setdefault(int(number or 0), (value, bool(starred)))
        else:
            strict = strict and name not in plain
            plain.setdefault(name, value)
    return Value((main.group(1) or "").lower(), _merged(plain, sections), strict)


def _value(text: str, position: int, name: str, closed_quotes: bool) -> "tuple[str, int, bool]":
    if text[position : position + 1] == '"' and closed_quotes:
        match = _QUOTED.match(text, position)
        # A quoted name may itself contain quotes: it ends only where no more of it follows.
        if match and (name not in _NAMES or text[match.end() : match.end() + 1] in ("", ";", " ", "\t", "(")):
            # Other backslashes belong to Windows paths.
            value = match.group(1).replace('\\"', '"').replace("\\\\", "\\")
            return value, match.end(), True
        closed_quotes = match is not None
    pattern = _UNQUOTED_NAME if name in _NAMES else _UNQUOTED_BOUNDARY if name == "boundary" else _UNQUOTED_WORD
    match = pattern.match(text, position)
    assert match is not None  # each of them also matches the empty string
    return match.group().strip().rstrip(";").strip().strip('"'), match.end(), closed_quotes


def _merged(plain: Dict[str, str], sections: Dict[str, Dict[int, Tuple[str, bool]]]) -> Dict[str, Parameter]:
    result = {}
    for name in dict.fromkeys([*plain, *sections]):
        if name in sections and 0 in sections[name]:
            result[name] = Parameter(_joined(sections[name]), name in plain)
        elif name in plain:
            result[name] = Parameter(words.decode(plain[name]) if name in _NAMES else plain[name], True)
    return result


def _joined(sections: Dict[int, Tuple[str, bool]]) -> str:
    result, octets, charset = [], b"", "utf-8"
    for number in range(_SECTIONS):
        if number not in sections:
            break
        value, starred = sections[number]
        if number == 0 and starred and value.count("'") >= 2:
            charset, _, value = value.split("'", 2)
        for piece in _RAW.split(value):
            if not piece.isascii():  # octets that should not be here, and are characters already
                result += [charsets.decoded(octets, charset), piece]
                octets = b""
                continue
            raw = piece.encode("ascii")
            octets += _PERCENT.sub(lambda match: bytes((int(match.group(1), 16),)), raw) if starred else raw
    return "".join(result) + charsets.decoded(octets, charset)


def _sections(name: str, text: str) -> List[bytes]:
    """RFC 2231 form, in sections where it is long."""
    pieces, current = [], "utf-8''"
    for character in text:
        octets = character.encode("utf-8", "replace")
        shown = (
            character
            if character.isascii() and (character.isalnum() or character in "-._~")
            else "".join(f"%{octet:02X}" for octet in octets)
        )
        if len(current) + len(shown) > _SECTION:
            pieces.append(current)
            current = ""
        current += shown
    pieces.append(current)
    if len(pieces) == 1:
        return [f"{name}*={pieces[0]}".encode("ascii")]
    return [f"{name}*{number}*={piece}".encode("ascii") for number, piece in enumerate(pieces[:_SECTIONS])]
