"""The charsets of texts: which decoder reads what a mail declares, as browsers and mail programs have it."""

from __future__ import annotations

import encodings
import encodings.aliases
from typing import Dict, Optional

from . import iso2022

# Python's names of codecs that are not the charset of a text.
_NOT_CHARSETS = frozenset(("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem")) | {
    # These are no text encodings at all.
    *("base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec")
}
# Charsets that Python has but does not list among the aliases.
_UNALIASED = frozenset(("koi8_u", "koi8_t", "cp720", "cp737", "cp856", "cp874", "cp875", "cp1006", "utf_8_sig"))

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

_ISO_2022_CN = "iso2022_cn"  # Python has no such codec; `decoded` reads it


def text(octets: bytes) -> str:
    """Octets without a declared charset: UTF-8 if they are valid UTF-8, else windows-1252."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("cp1252", "replace")


def known(charset: str) -> Optional[str]:
    """The name of Python's codec that reads what is declared as this charset, or None.

    It is looked up in tables, because codecs.lookup would remember every made-up name for ever.  For the family of
    ISO-2022 use `decoded`, which reads more than Python's codecs.
    """
    name = encodings.normalize_encoding(charset.strip().strip("\"'").lower())
    name = _ALIASES.get(name) or encodings.aliases.aliases.get(name, name)
    name = _SUPERSETS.get(name, name)
    if name in _NOT_CHARSETS or name == _ISO_2022_CN:
        return None
    return name if name in _UNALIASED or name in encodings.aliases.aliases.values() else None


def is_iso2022(charset: str) -> bool:
    """Whether it is a charset with escape sequences, whose octets are all below 128."""
    name = encodings.normalize_encoding(charset.strip().strip("\"'").lower())
    return (known(charset) or _ALIASES.get(name, "")).startswith("iso2022")


def decoded(octets: bytes, charset: str) -> str:
    """Octets in a declared charset as text; never raises.  UTF-7 may leave lone surrogates."""
    if is_iso2022(charset):
        return iso2022.decoded(octets) if octets.isascii() else text(octets)
    name = known(charset)
    return octets.decode(name, "replace") if name and name != "ascii" else text(octets)
