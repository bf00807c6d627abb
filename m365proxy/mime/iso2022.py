"""Text with escape sequences between 7-bit charsets: ISO-2022-JP, ISO-2022-KR, ISO-2022-CN and their extensions.

Sources: RFC 1468, 1554, 1557, 1922, 2237.  Python's own decoders know only a part of each, and none knows the
characters that Windows adds to JIS X 0208 (a circled 1, a variant of a surname), which are in every second mail.
"""

from __future__ import annotations

import re
from typing import Dict, List, Tuple

_SHIFT_OUT, _SHIFT_IN = b"\x0e", b"\x0f"

_ASCII = ("ascii", b"")
_KATAKANA = ("katakana", b"")
# After an escape: the codec that reads a pair with its eighth bits set, and what it needs before the pair.
_SETS: Dict[bytes, Tuple[str, bytes]] = {
    b"(B": _ASCII,
    b"(J": _ASCII,  # Roman letters; its yen sign is read as the backslash it is used for
    b"(H": _ASCII,  # a registered set of Sweden, written by old programs for the one above
    b"(I": _KATAKANA,
    b"$@": ("euc_jp", b""),
    b"$B": ("euc_jp", b""),
    b"$(@": ("euc_jp", b""),
    b"$(B": ("euc_jp", b""),
    b"$(D": ("euc_jp", b"\x8f"),
    b"$(O": ("euc_jis_2004", b""),
    b"$(P": ("euc_jis_2004", b"\x8f"),
    b"$(Q": ("euc_jis_2004", b""),
    b"$A": ("gb2312", b""),
    b"$(A": ("gb2312", b""),
    b"$(C": ("euc_kr", b""),
}
# Sets that stand between "shift out" and "shift in".
_SHIFTED_SETS = {b"$)A": ("gb2312", b""), b"$)C": ("euc_kr", b"")}

_CHANGE = re.compile(rb"\x1b(\$[@AB]|\$\([@ABCDOPQ]|\$\)[AC]|\([BHIJ])|[\x0e\x0f\n]")
# An escape that nobody writes by accident: to a set that is not ASCII.
_LEAVES_ASCII = re.compile(rb"\x1b(?:\$[@AB]|\$\([@ABCDOPQ]|\$\)[AC]|\(I)")
_PAIRS = re.compile(rb"(?:[!-~]{2})+|[!-~]")
_HIGH = bytes(octet | 0x80 for octet in range(256))


def is_escaped(octets: bytes) -> bool:
    """Whether there is an escape to a set of Japanese, Chinese or Korean characters."""
    return b"\x1b" in octets and bool(_LEAVES_ASCII.search(octets))


def decoded(octets: bytes) -> str:
    """The text.  What cannot be decoded becomes U+FFFD, except octets above 127 outside the sets, which are latin-1.

    Every line begins in ASCII, as the RFCs want it.
    """
    result: List[str] = []
    main, shifted = _ASCII, _ASCII
    is_shifted, position = False, 0
    for match in _CHANGE.finditer(octets):
        result.append(_segment(octets[position : match.start()], shifted if is_shifted else main))
        position = match.end()
        change = match.group()
        if change == b"\n":
            result.append("\n")
            main, is_shifted = _ASCII, False
        elif change in (_SHIFT_OUT, _SHIFT_IN):
            is_shifted = change == _SHIFT_OUT
        else:
            main = _SETS.get(match.group(1), main)
            shifted = _SHIFTED_SETS.get(match.group(1), shifted)
    result.append(_segment(octets[position:], shifted if is_shifted else main))
    return "".join(result)


def _segment(octets: bytes, charset: Tuple[str, bytes]) -> str:
    if charset == _ASCII:
        return octets.decode("latin-1")
    if charset == _KATAKANA:
        return octets.translate(_HIGH_GRAPHIC).decode("cp932", "replace")
    codec, prefix = charset
    result, position = [], 0
    for match in _PAIRS.finditer(octets):
        result.append(octets[position : match.start()].decode("latin-1"))
        result.append(_pairs(match.group(), codec, prefix))
        position = match.end()
    result.append(octets[position:].decode("latin-1"))
    return "".join(result)


# Katakana are the octets from 0x21 to 0x5F with their eighth bits set.
_HIGH_GRAPHIC = bytes(octet | 0x80 if 0x21 <= octet <= 0x5F else octet for octet in range(256))


def _pairs(octets: bytes, codec: str, prefix: bytes) -> str:
    """Characters of two octets each; a half one is U+FFFD."""
    if len(octets) == 1:
        return "\ufffd"
    high = octets.translate(_HIGH)
    if prefix:
        high = b"".join(prefix + high[i : i + 2] for i in range(0, len(high), 2))
    try:
        return high.decode(codec)
    except UnicodeDecodeError:
        if codec == "euc_jp" and not prefix:
            return _shifted_jis(octets).decode("cp932", "replace")
        return high.decode(codec, "replace")


def _shifted_jis(octets: bytes) -> bytes:
    """Pairs of JIS X 0208 as Shift_JIS, whose decoder knows the characters of Windows too."""
    result = bytearray()
    for row, cell in zip(octets[::2], octets[1::2]):
        lead = ((row - 0x21) >> 1) + 0x81
        trail = cell + 0x7E if row % 2 == 0 else cell + (0x1F if cell < 0x60 else 0x20)
        result += bytes((lead if lead < 0xA0 else lead + 0x40, trail))
    return bytes(result)
