"""Header text: RFC 2047 encoded words in both directions.

The standard library's decoders differ between Python versions and raise on
input that devices really send, so both directions are written out here.
"""

from __future__ import annotations

import binascii
import itertools
import re
import unicodedata
from typing import Iterator, List, NamedTuple, Sequence

from . import charsets, encodings, iso2022

# RFC 2047 section 2: no encoded word is longer than this.
LONGEST = 75

# A token without white space longer than this cannot be folded and is encoded.
LONGEST_TOKEN = 900

# What a word begins with, also as bad programs write it; the bounds keep the search linear on hostile input.
_BEGIN = re.compile(
    rb'=\?[ \t]{0,3}"?([A-Za-z0-9_.:+-]{0,40})"?(?:\*[A-Za-z0-9-]{0,20})?[ \t]{0,3}\?[ \t]{0,3}([bBqQ])[ \t]{0,3}\?'
)
# Where it ends, or where at the latest it would have had to: at the beginning of another one.
_END = re.compile(rb"\?=|=\?(?=[A-Za-z0-9_\"? \t])")
# A word without an end, where it is clear what belongs to it: all up to the end of the value, the quotes or the blanks.
_ENDLESS_B = re.compile(rb"([A-Za-z0-9+/]+=*)\??[ \t]*(?=\"|\Z)")
_ENDLESS_Q = re.compile(rb"([^ \t\"<>()?]+)\??[ \t]*(?=\"|\Z)")
# The grammar of RFC 2047 section 2; and what would be read as something else in an address list (section 5 (3)).
_TOKEN = rb"[!#$%&'*+0-9A-Z\\^_`a-z{|}~-]+"
_PROPER = re.compile(
    rb"=\?" + _TOKEN + rb"\?(?:[bB]\?(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:[A-Za-z0-9+/]{2}|==|[A-Za-z0-9+/]=))"
    rb"|[qQ]\?(?:[!-<>@-~]|=[0-9A-Fa-f]{2})+)\?=\Z"
)
_SPECIAL = re.compile(rb'[()<>@,;:\\"\[\]]')
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")
_Q_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_PREFIX_B, _PREFIX_Q, _SUFFIX = b"=?utf-8?b?", b"=?utf-8?q?", b"?="
_BLANK = _PREFIX_Q + b"_" + _SUFFIX


class _Word(NamedTuple):
    """An encoded word and where it stands.  `charset` is in lower case, `encoding` is b"b" or b"q"."""

    start: int
    end: int
    charset: str
    encoding: bytes
    body: bytes


def text(octets: bytes, fallback: str = "", in_phrases: bool = False, doubted: bool = False) -> str:
    """A field's octets, in one line, as text in which every encoded word is a proper one.

    Raw octets are read as ISO-2022 where they have its escapes, else as UTF-8 if they are that, else in the charset
    `fallback`, else as windows-1252; those inside a word belong to the word.  Words that are not as RFC 2047 section 2
    has them are written anew; `in_phrases`, those too that an address list would be torn at.  `doubted` is as for
    charsets.text.
    """
    octets = mended(octets, fallback, in_phrases)
    return iso2022.decoded(octets) if iso2022.is_escaped(octets) else charsets.text(octets, fallback, doubted)


def mended(octets: bytes, fallback: str = "", in_phrases: bool = False) -> bytes:
    """The octets with the same text as before in encoded words that are all proper; what is proper stays as it is."""
    if b"=?" not in octets:
        return octets
    runs = list(_runs(octets))
    result, position = [], 0
    for run, following in zip(runs, [*(run[0].start for run in runs[1:]), len(octets)]):
        before, position = octets[position : run[0].start], run[-1].end
        written = octets[run[0].start : position]
        if not _is_proper(written, run, in_phrases):
            written = _rewritten(run, fallback)
            if not written and b"=?" in before + octets[position:following]:
                written = _BLANK  # without it, what stands before and behind might become a word
        result += [before, written]
    result.append(octets[position:])
    return b"".join(result)


def is_proper(octets: bytes, in_phrases: bool = False) -> bool:
    """Whether `mended` would leave these octets as they are."""
    return mended(octets, "", in_phrases) == octets


def decode(value: str) -> str:
    """Text with its encoded words decoded, including those inside quotes.

    White space between neighbouring words is removed (RFC 2047 section 6.2),
    and neighbours of one charset are decoded together, because many encoders
    cut between the octets of a character.
    """
    if "=?" not in value:
        return value
    octets = value.encode("utf-8", "replace")
    result, position = [], 0
    for run in _runs(octets):
        result += [octets[position : run[0].start].decode("utf-8"), _decoded(run, "")]
        position = run[-1].end
    result.append(octets[position:].decode("utf-8"))
    return "".join(result)


def _runs(octets: bytes) -> Iterator[List[_Word]]:
    """The words of a value, those with nothing but white space between them together."""
    run: List[_Word] = []
    for word in _words(octets):
        if run and octets[run[-1].end : word.start].strip(b" \t"):
            yield run
            run = []
        run.append(word)
    if run:
        yield run


def _words(octets: bytes) -> Iterator[_Word]:
    begin = _BEGIN.search(octets)
    while begin:
        charset, encoding = begin.group(1).decode("ascii").lower(), begin.group(2).lower()
        end = _END.search(octets, begin.end())
        stop, position = (end.start(), end.end()) if end else (len(octets), len(octets))
        body = octets[begin.end() : stop]
        if end is None or end.group() != b"?=":
            position = stop
            endless = (_ENDLESS_B if encoding == b"b" else _ENDLESS_Q).match(body)
            if endless and charsets.known(charset):
                yield _Word(begin.start(), begin.end() + endless.end(), charset, encoding, endless.group(1))
        else:
            yield _Word(begin.start(), position, charset, encoding, body)
        begin = _BEGIN.search(octets, position)


def _is_proper(written: bytes, run: Sequence[_Word], in_phrases: bool) -> bool:
    """Whether every reader finds the same harmless text in a run of words, or none can be found here.

    A charset that Python does not know may be known to the receiver: such a word stays as it is.
    """
    start = run[0].start
    for word, following in zip(run, [*run[1:], None]):
        octets = written[word.start - start : word.end - start]
        if len(octets) > LONGEST or not _PROPER.match(octets) or (following and following.start == word.end):
            return False
        if in_phrases and _SPECIAL.search(word.body):
            return False
    for group in _groups(run):
        joined = b"".join(map(_octets, group))
        found = charsets.strictly(joined, group[0].charset)
        if found is None:
            if _is_foreign(joined, group[0].charset):
                continue
            return False
        whole = len(group) == 1 or all(charsets.strictly(_octets(word), word.charset) is not None for word in group)
        if not whole or _tame(found) != found.replace("\t", " "):
            return False
    return True


def _is_foreign(octets: bytes, charset: str) -> bool:
    if charsets.is_iso2022(charset):
        return octets.isascii()
    return charsets.is_without_codec(charset) or charsets.known(charset) not in (None, "ascii", "utf_8")


def _rewritten(run: Sequence[_Word], fallback: str) -> bytes:
    return b" ".join(encode(_tame(_decoded(run, fallback))))


def _groups(run: Sequence[_Word]) -> Iterator[List[_Word]]:
    """The neighbours of one charset."""
    return (list(group) for _, group in itertools.groupby(run, lambda word: word.charset))


def _decoded(run: Sequence[_Word], fallback: str) -> str:
    return "".join(_group_decoded(group, fallback) for group in _groups(run))


def _group_decoded(group: Sequence[_Word], fallback: str) -> str:
    charset = group[0].charset
    octets = b"".join(map(_octets, group))
    found = charsets.strictly(octets, charset)
    if found is None and len(group) > 1 and all(word.encoding == b"b" for word in group):
        # Some programs cut the base64 itself wherever the line is full.
        joined = _from_base64(b"".join(word.body for word in group))
        found = charsets.strictly(joined, charset)
    return charsets.decoded(octets, charset, fallback) if found is None else found


def _octets(word: _Word) -> bytes:
    if word.encoding == b"q":
        return _HEX.sub(lambda match: bytes((int(match.group(1), 16),)), word.body.replace(b"_", b" "))
    return _from_base64(word.body)


def _from_base64(body: bytes) -> bytes:
    """Tolerant: skips what is not base64, needs no padding, goes on after padding in the middle."""
    return b"".join(encodings.decoded([body], "base64"))


def clean(value: str) -> str:
    """Text without control characters, line separators and direction overrides; white space trimmed."""
    return _tame(value).strip()


def _tame(value: str) -> str:
    if value.isprintable():  # nothing that is changed below is that
        return value
    return "".join(map(_harmless, value))


def _harmless(character: str) -> str:
    if character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069":
        return ""
    return " " if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") else character


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
