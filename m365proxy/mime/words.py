"""Header text: RFC 2047 encoded words in both directions.

The standard library's decoders differ between Python versions and raise on
input that devices really send, so both directions are written out here.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from typing import List

from . import charsets

# RFC 2047 section 2: no encoded word is longer than this.
LONGEST = 75

# A token without white space longer than this cannot be folded and is encoded.
LONGEST_TOKEN = 900

# The bounds keep the search linear on hostile input.
_WORD = re.compile(r"=\?([A-Za-z0-9_.:+-]{1,40})(?:\*[A-Za-z0-9-]{0,20})?\?([bBqQ])\?([^?]{0,4000})\?=")
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]")
_Q_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_PREFIX_B, _PREFIX_Q, _SUFFIX = b"=?utf-8?b?", b"=?utf-8?q?", b"?="


def decode(value: str) -> str:
    """Unfolded header text with its encoded words decoded, including those inside quotes.

    White space between neighbouring words is removed (RFC 2047 section 6.2),
    and neighbours of one charset are decoded together, because many encoders
    cut between the octets of a character.
    """
    result: List[str] = []
    pending, charset, position = b"", "", 0
    for match in _WORD.finditer(value):
        gap = value[position : match.start()]
        octets = _octets(match.group(2), match.group(3))
        if pending and not gap.strip(" \t") and match.group(1).lower() == charset:
            pending += octets
        else:
            if charset:
                result.append(charsets.decoded(pending, charset))
            if not charset or gap.strip(" \t"):
                result.append(gap)
            pending, charset = octets, match.group(1).lower()
        position = match.end()
    if charset:
        result.append(charsets.decoded(pending, charset))
    result.append(value[position:])
    return "".join(result)


def _octets(kind: str, body: str) -> bytes:
    raw = body.encode("utf-8", "replace")
    if kind in "qQ":
        return _HEX.sub(lambda match: bytes((int(match.group(1), 16),)), raw.replace(b"_", b" "))
    result = b""
    for piece in _NOT_BASE64.sub("", body).split("="):
        piece = piece[: len(piece) - 1] if len(piece) % 4 == 1 else piece
        result += binascii.a2b_base64(piece + "=" * (-len(piece) % 4))
    return result


def clean(value: str) -> str:
    """Text without control characters, line separators and direction overrides; white space trimmed."""
    if value.isascii() and value.isprintable():
        return value.strip()
    return "".join(_harmless(character) for character in value).strip()


def _harmless(character: str) -> str:
    if character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069":
        return ""
    return " " if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") else character


def is_clean(value: str) -> bool:
    """Whether `clean` would leave the text as it is, except for tabs and white space around it."""
    value = value.replace("\t", " ").strip()
    return clean(value) == value


def encode(value: str) -> List[bytes]:
    """Text as encoded words of at most 75 octets each, in UTF-8, safe in a phrase too."""
    octets = value.encode("utf-8", "replace")
    plain = sum(octet in _Q_SAFE or octet == 0x20 for octet in octets)
    if plain + 3 * (len(octets) - plain) <= (len(octets) + 2) // 3 * 4:
        prefix, room, encoder = _PREFIX_Q, LONGEST - len(_PREFIX_Q) - len(_SUFFIX), _q
    else:
        prefix, room, encoder = _PREFIX_B, 60, _b
    result, current, width = [], "", 0
    for character in value:
        cost = len(encoder(character)) if encoder is _q else len(character.encode("utf-8", "replace"))
        # 60 octets of base64 hold 45 of the text.
        if width + cost > (room if encoder is _q else 45):
            result.append(prefix + encoder(current) + _SUFFIX)
            current, width = "", 0
        current += character
        width += cost
    if current:
        result.append(prefix + encoder(current) + _SUFFIX)
    return result


def _q(value: str) -> bytes:
    octets = value.encode("utf-8", "replace")
    return b"".join(
        bytes((octet,)) if octet in _Q_SAFE else b"_" if octet == 0x20 else b"=%02X" % octet for octet in octets
    )


def _b(value: str) -> bytes:
    return binascii.b2a_base64(value.encode("utf-8", "replace"), newline=False)


def encoded(value: str) -> bytes:
    """Unstructured text for a header: plain ASCII words stay, everything else becomes encoded words.

    Not folded.  `decode` of the result gives the cleaned text back.
    """
    result: List[bytes] = []
    run = ""
    for gap, word in re.findall(r"([ \t]*)([^ \t]+)", clean(value)):
        if not word.isascii() or "=?" in word or len(word) > LONGEST_TOKEN:
            if run:
                run += gap + word
                continue
            result.append(gap.encode("ascii"))
            run = word
            continue
        if run:
            result.append(b" ".join(encode(run)))
            run = ""
        result.append((gap + word).encode("ascii"))
    if run:
        result.append(b" ".join(encode(run)))
    return b"".join(result)
