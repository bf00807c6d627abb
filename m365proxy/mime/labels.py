"""The charset a text is really in, where it is not the one it is labelled with."""

from __future__ import annotations

import codecs
import encodings
import encodings.aliases
import itertools
import re
from typing import Callable, Dict, Iterable, List, Tuple

from . import charsets, iso2022

# Labels that say nothing about 8-bit text.
_NOTHING = frozenset(("", "us-ascii", "ascii", "unknown-8bit", "unknown", "x-unknown", "x-user-defined", "8bit"))

# Charsets with octets that mean nothing by themselves: only in these is NUL a part of a character.
_WIDE = re.compile(r"utf_?16|utf_?32|ucs_?[24]|iso_?10646")

# Charsets whose octets are all below 128, besides those of ISO-2022.
_SEVEN_BIT = frozenset(("utf_7", "hz"))

# What raw octets are in, where the label is of such a charset of the same language: Python's codec, and the label.
# The stricter one stands first.
_EIGHT_BIT: Dict[str, Tuple[Tuple[str, str], ...]] = {
    "jp": (("euc_jp", "euc-jp"), ("cp932", "shift_jis")),
    "kr": (("cp949", "euc-kr"),),
    "cn": (("gb18030", "gb18030"),),
    "hz": (("gb18030", "gb18030"),),
}

# By an escape of theirs, the charsets that a text without a label can be in.
_ESCAPES = ((re.compile(rb"\x1b\$[@B]"), "iso-2022-jp"), (re.compile(rb"\x1b\$\)C"), "iso-2022-kr"))

# Charsets by whose names senders mean larger ones, and the names of these, by Python's names.
_SMALLER = frozenset(("latin_1", "iso8859_9", "iso8859_11", "tis_620", "gb2312", "gbk"))
_LARGER = {"cp1252": "windows-1252", "cp1254": "windows-1254", "cp874": "windows-874", "gb18030": "gb18030"}

# In the ISO charsets control characters that nobody writes, in those of Windows letters and signs.
_CONTROL = re.compile(rb"[\x80-\x9f]")

# Octets of a line that is looked at for such escapes.
_LONGEST_LINE = 64 * 1024

_Source = Callable[[], Iterable[bytes]]


def real(source: _Source, declared: str) -> str:
    """The label of a text's charset: `declared`, as it was written, if the text is in it or cannot be told otherwise.

    Else it is "utf-8" if the text is valid UTF-8, a charset of the declared one's language, "utf-16" if it begins
    with its byte order mark, or "windows-1252", in which every octet is a character.  Unlabelled ASCII stays so.
    `source` gives the octets in chunks, and may be asked several times; neither time nor memory depends on what is in
    them.
    """
    name = charsets.known(declared) or ""
    if declared.lower() in _NOTHING or name == "ascii":
        return _of_unlabelled(source, declared)
    if charsets.is_iso2022(declared) or name in _SEVEN_BIT:
        return _of_seven_bit(source, declared, name)
    trials = _tried(source, [name, "utf_8"] if name else ["utf_8"])
    is_utf8 = trials[-1].fits
    if _WIDE.match(name):
        if trials[0].fits and (trials[0].has_nul or not is_utf8):
            return declared
        return "us-ascii" if trials[0].is_ascii else "utf-8" if is_utf8 else "windows-1252"
    if trials[0].is_ascii:
        return declared
    if name and trials[0].fits:
        return declared if _is_exact(source, declared) else _LARGER[name]
    if is_utf8:
        return "utf-8"
    believed = _is_mostly(source, name) if name else charsets.is_without_codec(declared)
    return declared if believed else _guessed(source)


def is_wide(charset: str) -> bool:
    """Whether NUL is a part of characters in a charset, and CR and LF are more than one octet."""
    return bool(_WIDE.match(charsets.known(charset) or ""))


def _of_unlabelled(source: _Source, declared: str) -> str:
    (trial,) = _tried(source, ["utf_8"])
    if trial.is_ascii:
        return (_escaped(source) if trial.has_escape else "") or declared
    return "utf-8" if trial.fits else _guessed(source)


def _guessed(source: _Source) -> str:
    """Of a text that nothing else is known of; files of Windows are often in UTF-16."""
    start = b"".join(itertools.islice((chunk for chunk in source() if chunk), 2))
    marked = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "utf-16" if marked and _tried(source, ["utf_16"])[0].fits else "windows-1252"


def _of_seven_bit(source: _Source, declared: str, name: str) -> str:
    """Of a text labelled with a charset that has no octets above 127."""
    kin = _EIGHT_BIT.get("jp" if "_jp" in name else name[-2:] or "cn", ())
    trials = _tried(source, ["utf_8", *(codec for codec, _ in kin)])
    if trials[0].is_ascii:
        return declared
    labels = ["utf-8", *(label for _, label in kin)]
    return next((label for label, trial in zip(labels, trials) if trial.fits), "windows-1252")


def _is_exact(source: _Source, declared: str) -> bool:
    """Whether a text that is in the larger charset is in the declared one, too."""
    name = encodings.normalize_encoding(declared.lower())
    name = encodings.aliases.aliases.get(name, name)
    if name not in _SMALLER:
        return True
    if name.startswith("gb"):
        return _tried(source, [name])[0].fits
    return not any(map(_CONTROL.search, source()))


class _Trial:
    """Whether a text can be decoded strictly by one codec, and what else was seen in it."""

    def __init__(self, codec: str):
        self.fits = True
        self.is_ascii, self.has_nul, self.has_escape = True, False, False
        self._decoder = codecs.getincrementaldecoder(codec)()

    def feed(self, chunk: bytes, final: bool = False) -> None:
        self.is_ascii = self.is_ascii and chunk.isascii()
        self.has_nul = self.has_nul or b"\0" in chunk
        self.has_escape = self.has_escape or b"\x1b" in chunk
        if self.fits:
            try:
                self._decoder.decode(chunk, final)
            except UnicodeError:
                self.fits = False


def _tried(source: _Source, names: List[str]) -> List[_Trial]:
    trials = [_Trial(name) for name in names]
    for chunk in source():
        for trial in trials:
            trial.feed(chunk)
    for trial in trials:
        trial.feed(b"", final=True)
    return trials


def _is_mostly(source: _Source, name: str) -> bool:
    """Whether at least half of what is not ASCII are characters of this charset: then a few octets were damaged."""
    decoder = codecs.getincrementaldecoder(name)("replace")
    right = wrong = 0
    for chunk in itertools.chain(source(), (b"",)):
        text = decoder.decode(chunk, not chunk)
        lost = text.count("\ufffd")
        wrong += lost
        right += len(text) - lost - len(text.encode("ascii", "ignore"))
    return right > 0 and right >= wrong


def _escaped(source: _Source) -> str:
    """The charset of ASCII octets with escapes to Japanese or Korean characters that can all be decoded; or ""."""
    label, held = "", b""
    for chunk in itertools.chain(source(), (b"\n",)):
        head, line_end, held = (held + chunk).rpartition(b"\n")
        if "\ufffd" in iso2022.decoded(head) or len(held) > _LONGEST_LINE:
            return ""
        label = label or next((name for escape, name in _ESCAPES if escape.search(head)), "")
    return label
