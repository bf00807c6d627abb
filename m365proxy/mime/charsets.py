"""The charsets of texts: which decoder reads what a mail declares, as browsers and mail programs have it."""

from __future__ import annotations

import encodings
import encodings.aliases
import functools
from typing import Dict, Optional

from . import iso2022

# Python's names of codecs that are not the charset of a text.
_NOT_CHARSETS = frozenset(("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem")) | {
    # These are no text encodings at all.
    *("base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec")
}
# Charsets that Python has but does not list among the aliases.
_UNALIASED = frozenset(("koi8_u", "koi8_t", "cp720", "cp737", "cp856", "cp874", "cp875", "cp1006", "utf_8_sig"))

_CODECS = (_UNALIASED | frozenset(encodings.aliases.aliases.values())) - _NOT_CHARSETS

# No charset's name is longer.
_LONGEST_NAME = 100

# Names that Python does not know (https://encoding.spec.whatwg.org/#names-and-labels, and what devices write).
_ALIASES: Dict[str, str] = {
    "ansi": "cp1252",
    "big5_eten": "big5",
    "chinesebig5": "big5",
    "cn_big5": "big5",
    "cn_gb": "gb2312",
    "cp50220": "iso2022_jp",
    "cp50221": "iso2022_jp",
    "dos_866": "cp866",
    "dos_874": "cp874",
    "gb_2312": "gb2312",
    "gb_2312_80": "gb2312",
    "iso88591": "latin_1",
    "iso88592": "iso8859_2",
    "iso885915": "iso8859_15",
    "iso_2022_cn": "iso2022_cn",
    "iso_2022_cn_ext": "iso2022_cn",
    "iso_2022_jp_ms": "iso2022_jp",
    "iso_8859_6_e": "iso8859_6",
    "iso_8859_6_i": "iso8859_6",
    "iso_8859_8_e": "iso8859_8",
    "iso_8859_8_i": "iso8859_8",
    "koi": "koi8_r",
    "koi8": "koi8_r",
    "koi8_ru": "koi8_u",
    "sjis_win": "cp932",
    "unicode_1_1_utf_8": "utf_8",
    "utf_8_mb4": "utf_8",
    "utf8mb4": "utf_8",
    "win_1250": "cp1250",
    "win_1251": "cp1251",
    "win_1252": "cp1252",
    "win1250": "cp1250",
    "win1251": "cp1251",
    "win1252": "cp1252",
    "windows1250": "cp1250",
    "windows1251": "cp1251",
    "windows1252": "cp1252",
    "windows_874": "cp874",
    "windows_932": "cp932",
    "windows_936": "gbk",
    "windows_949": "cp949",
    "windows_950": "cp950",
    "x_cp1250": "cp1250",
    "x_cp1251": "cp1251",
    "x_cp1252": "cp1252",
    "x_euc_jp": "euc_jp",
    "x_gbk": "gbk",
    "x_mac_cyrillic": "mac_cyrillic",
    "x_mac_roman": "mac_roman",
    "x_sjis": "cp932",
    "x_utf_8": "utf_8",
    "x_x_big5": "big5",
}

# A charset is read as one that has all its characters and more: senders write the name of the smaller one.
_SUPERSETS: Dict[str, str] = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "cp950",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "latin_1": "cp1252",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "tis_620": "cp874",
}

# Charsets that mail is in somewhere and Python does not know (https://www.iana.org/assignments/character-sets).
_WITHOUT_CODEC = frozenset(
    ("armscii_8", "bocu_1", "cesu_8", "euc_tw", "x_euc_tw", "georgian_ps", "iso_8859_12", "iso2022_cn", "scsu", "tscii")
    + ("tcvn", "tcvn5712_1", "viscii", "vps", "vni", "x_mac_ce", "x_mac_centraleurroman", "x_viet_tcvn5712")
)

# What raw octets above 127 are in where the text is in a charset without such octets.
_EIGHT_BIT = {"iso2022_jp": "cp932", "iso2022_kr": "cp949", "hz": "gb18030"}

_DOUBLE_BYTE = frozenset(("gb18030", "cp950", "big5hkscs", "cp949", "cp932", "euc_jp"))

# What Python's decoders say of octets that end inside a character.
_CUT = ("unexpected end of data", "incomplete multibyte sequence")

_PRINTABLE = bytes(range(32, 127))


def known(charset: str) -> Optional[str]:
    """The name of Python's codec that reads what is declared as this charset, or None.

    It is looked up in tables, because codecs.lookup would remember every made-up name for ever.  For the family of
    ISO-2022 use `decoded`, which reads more than Python's codecs.
    """
    name = _name(charset)
    return name if name in _CODECS else None


def is_without_codec(charset: str) -> bool:
    """Whether others may read what is in this charset, though Python cannot."""
    return _name(charset) in _WITHOUT_CODEC


def is_iso2022(charset: str) -> bool:
    """Whether it is a charset with escape sequences, whose octets are all below 128."""
    return _name(charset).startswith("iso2022")


def _name(charset: str) -> str:
    return _looked_up(charset[:_LONGEST_NAME])


@functools.lru_cache(maxsize=64)
def _looked_up(charset: str) -> str:
    name = encodings.normalize_encoding(charset.strip().strip("\"'").lower())
    name = _ALIASES.get(name) or encodings.aliases.aliases.get(name, name)
    return _SUPERSETS.get(name, name)


def strictly(octets: bytes, charset: str) -> Optional[str]:
    """The text, if the charset is known and every character of it is whole; else None."""
    name = known(charset)
    if is_iso2022(charset):
        found = iso2022.decoded(octets) if octets.isascii() else "\ufffd"
        return None if "\ufffd" in found else found
    try:
        return octets.decode(name) if name else None
    except UnicodeError:
        return None


def decoded(octets: bytes, charset: str, fallback: str = "") -> str:
    """Octets in a declared charset as text; never raises.  UTF-7 may leave lone surrogates.

    `fallback` is for octets whose charset is not known, and for those declared as UTF-8 in which nothing else than
    ASCII is UTF-8: some devices declare everything as UTF-8.
    """
    if is_iso2022(charset):
        return iso2022.decoded(octets) if octets.isascii() else text(octets, fallback)
    name = known(charset)
    if name is None or name == "ascii":
        return text(octets, fallback)
    found = octets.decode(name, "replace")
    if name == "utf_8" and "\ufffd" in found and found.replace("\ufffd", "").isascii():
        return text(octets, fallback)
    return found


def text(octets: bytes, fallback: str = "", doubted: bool = False) -> str:
    """Octets without a declared charset: UTF-8 if they are that, else `fallback` if it reads them, else windows-1252.

    A text may be cut inside its last character, as small devices do it at the end of their buffers.  `doubted`: it
    is known of the sender that its texts are not all in UTF-8.  Then a few Chinese or Korean characters are not taken
    for UTF-8 where they happen to be Latin or Greek letters in it.
    """
    if octets.isascii():
        return octets.decode("ascii")
    name = known(fallback) or ""
    name = _EIGHT_BIT.get(name, name)
    found = _up_to_a_cut(octets, "utf_8")
    if found is not None and not (doubted and name in _DOUBLE_BYTE and max(found) < "\u0800"):
        return found
    other = _up_to_a_cut(octets, name) if name and _has_ascii(name) else None
    if other is not None:
        return other
    return octets.decode("cp1252", "replace") if found is None else found


def _up_to_a_cut(octets: bytes, name: str) -> Optional[str]:
    try:
        return octets.decode(name)
    except UnicodeDecodeError as error:
        whole = octets[: error.start].decode(name) if error.reason in _CUT else ""
        return None if whole.isascii() else whole + "\ufffd"


def _has_ascii(name: str) -> bool:
    """Whether a header's own characters are in the charset: they are not in UTF-16, nor in those of mainframes."""
    return _PRINTABLE.decode(name, "replace") == _PRINTABLE.decode("ascii")
