"""The Date field: reading what programs write there, writing what every program reads (RFC 5322 3.3, 4.3)."""

from __future__ import annotations

import functools
import re
import time
import unicodedata
from datetime import datetime, timedelta, timezone
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from . import charsets, words

# Characters of a date that are looked at.
_LONGEST = 300

# RFC 5322 3.3; strftime would speak the user's language.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# What every program reads: RFC 5322 3.3 without comments inside, and of its older forms only the zones UT and GMT.
_SOUND = re.compile(
    rb"((?:(?:%s)\s*,\s*)?[0-3]?\d\s+(?:%s)\s+(?:19|[2-9]\d)\d\d\s+[0-2]\d:[0-5]\d(?::(?:[0-5]\d|60))?\s+"
    rb"(?:[+-](?:0\d|1[0-4])[0-5]\d|UT|GMT))\s*(?:\([^()]*\)\s*)?\Z"
    % ("|".join(_DAYS).encode(), "|".join(_MONTHS).encode()),
    re.I,
)

# The months' names without accents, by month: any beginning of at least three letters that says which one.
# Some devices write them in the language of their menus.
_NAMES = (
    "january januar janner janvier enero gennaio januari janeiro",
    "february februar fevrier febrero febbraio februari fevereiro",
    "march marz maerz mrz mars marzo maart mrt marco",
    "april avril abril aprile",
    "may mai mayo maggio mei maio maj",
    "june juni juin junio giugno junho",
    "july juli juillet julio luglio julho",
    "august aout agosto augustus augusti",
    "september septembre septiembre setiembre settembre setembro",
    "october oktober octobre octubre ottobre outubro",
    "november novembre noviembre novembro",
    "december dezember decembre diciembre dicembre dezembro desember",
)

# Minutes east of Greenwich, and the zones there.  Names that mean several: as RFC 5322 4.3 says, else left out.
_NAMED = {
    -600: "hst",
    -540: "akst",
    -480: "pst akdt",
    -420: "mst pdt",
    -360: "cst mdt",
    -300: "est cdt cot pet",
    -240: "edt ast clt",
    -210: "nst",
    -180: "adt brt art clst",
    -150: "ndt",
    0: "ut utc gmt z wet",
    60: "cet met mez bst west wat",
    120: "cest mest mesz eet cat sast",
    180: "eest msk trt eat",
    240: "msd samt",
    300: "yekt pkt",
    345: "npt",
    360: "omst",
    420: "novt krat ict wib",
    480: "irkt hkt sgt awst",
    540: "jst kst yakt",
    570: "acst",
    600: "aest vlat",
    630: "acdt",
    660: "aedt magt",
    720: "nzst",
    780: "nzdt",
}
_ZONES = {name: minutes for minutes, names in _NAMED.items() for name in names.split()}

# The words a date is made of.  What stands between them means nothing.
_TOKEN = re.compile(
    r"(?P<ymd>\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?!\d))"
    r"|(?P<dmy>\d{1,2}[./]\s?\d{1,2}[./]\s?\d{4}(?!\d))"
    r"|(?P<clock>\d{1,2}:\d{1,2}(?::\d{1,2}(?:[.,]\d+)?)?(?![\d:])|\d{1,2}\.\d{2}(?:\.\d{2})?(?![\d.]))"
    r"|-(?P<dashed>[^\W\d_]{3,}\.?-\d+)"
    r"|(?P<zone>[+-]\d{1,2}(?::?\d{2})?(?!\d))"
    r"|(?P<word>[^\W\d_]+)"
    r"|(?P<number>\d+)(?:(?:st|nd|rd|th)\b)?",
    re.I,
)


def restored(raw: bytes) -> Optional[str]:
    """A Date field's unfolded value as it goes on; None if no moment can be read from it.

    A value that every program reads stays octet for octet, but for a zone's name in another language.  Of any
    other the moment stays.
    """
    match = _SOUND.match(raw)
    found = read(raw.decode("ascii", "replace") if match else words.decode(charsets.text(raw[:_LONGEST])))
    if found is None:
        return None
    if match and _is_true(match.group(1).decode("ascii"), found):
        return (raw if raw.isascii() else match.group(1)).decode("ascii")
    return written(found)


def _is_true(sound: str, moment: datetime) -> bool:
    """Whether the day of the week, if there is one, is the day's."""
    day = sound[:3].title()
    return day not in _DAYS or day == _DAYS[moment.weekday()]


def written(moment: datetime) -> str:
    """A moment that knows its zone, as RFC 5322 3.3 has it."""
    offset = moment.utcoffset() or timedelta()
    if offset % timedelta(minutes=1):  # a zone of long ago
        moment, offset = moment.astimezone(timezone.utc), timedelta()
    minutes = offset // timedelta(minutes=1)
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"
    return f"{day}, {moment.day:02} {month} {moment.year:04} {moment:%H:%M:%S} {zone}"


def utc(value: str) -> str:
    """A date as `restored` and `written` give it, in the form of Graph's properties: "2026-11-28T09:00:00Z"."""
    moment = read(value)
    return "" if moment is None else f"{moment.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%S}Z"


def read(text: str) -> Optional[datetime]:
    """The moment that a date means, with its zone; None if it names no day or no time of day.

    Years of two and three digits are read as RFC 5322 4.3 says.  Without a zone, or with one nobody knows, it is
    this machine's: the device stands near it.
    """
    text, comments = _taken_apart(text[:_LONGEST])
    found = _Words(text)
    if found.clock is None:
        return None
    if not found.zone_known:
        found.read_zone(comments)
    try:
        year, month, day = found.day()
        hour, minute, second = found.clock
        moment = datetime(year, month, day, hour, minute, min(second, 59) if second == 60 else second)
        moment = found.in_zone(moment)
        moment.astimezone(timezone.utc)  # it may lie beyond the end of time
    except (ValueError, OverflowError):
        return None
    return moment


def _taken_apart(text: str) -> Tuple[str, str]:
    """(the text without comments, the comments); RFC 5322 3.2.2, and an open one goes to the end."""
    if "(" not in text and ")" not in text:
        return text, ""
    outside: List[str] = []
    inside: List[str] = []
    depth = 0
    for character in text:
        if character == "(":
            depth += 1
            character = " "
        elif character == ")":
            depth = max(0, depth - 1)
            character = " "
        (inside if depth else outside).append(character)
    return "".join(outside), "".join(inside)


class _Words:
    """What the words of a date say.  `day` and `in_zone` raise ValueError if they say nothing."""

    def __init__(self, text: str):
        self.clock: Optional[Tuple[int, int, int]] = None
        self._date: Optional[Tuple[int, int, int]] = None
        self._month = 0
        self._numbers: List[str] = []
        self._minutes: Optional[int] = None  # the zone in figures
        self._named: Optional[int] = None  # the zone by its name
        self._half = ""  # am, pm
        self._numeric: Optional[Tuple[int, int, int]] = None
        self._readers: Dict[str, Callable[[str], None]] = {
            "ymd": self._read_ymd,
            "dmy": self._read_dmy,
            "clock": self._read_clock,
            "dashed": self._read_dashed,
            "zone": self._read_zone,
            "word": self._read_word,
            "number": self._read_number,
        }
        self._read(text, tuple(self._readers))

    def _read(self, text: str, kinds: Sequence[str]) -> None:
        for match in _TOKEN.finditer(text):
            kind = match.lastgroup or ""
            if kind in kinds:
                self._readers[kind](match.group(kind))

    @property
    def zone_known(self) -> bool:
        return self._minutes is not None or self._named is not None

    def read_zone(self, comments: str) -> None:
        """Take the zone from the comments."""
        self._read(comments, ("word", "zone"))

    def _read_ymd(self, text: str) -> None:
        year, month, day = map(int, re.split("[-/.]", text))
        self._date = year, month, day

    def _read_dmy(self, text: str) -> None:
        first, second, year = map(int, re.split(r"[./]\s?", text))
        if "/" not in text or first > 12 or first == second:
            self._date = year, second, first
        elif second > 12:
            self._date = year, first, second
        else:
            self._numeric = year, first, second

    def _read_clock(self, text: str) -> None:
        if self.clock is not None:
            return
        fields = [int(number) for number in re.split("[:.,]", text)[:3]]
        self.clock = fields[0], fields[1], fields[2] if len(fields) > 2 else 0

    def _read_dashed(self, text: str) -> None:
        name, _, year = text.partition("-")
        self._read_word(name)
        self._numbers.append(year)

    def _read_zone(self, text: str) -> None:
        if self.clock is None or self._minutes is not None:
            return
        digits = text[1:].replace(":", "")
        hours, minutes = (int(digits), 0) if len(digits) < 3 else (int(digits[:-2]), int(digits[-2:]))
        if hours <= 14 and minutes < 60:
            self._minutes = (hours * 60 + minutes) * (-1 if text[0] == "-" else 1)

    def _read_word(self, text: str) -> None:
        name = text.lower()
        month = _month(name)
        if month:
            # Of two the first was a day of the week: "mar" is Tuesday in French.
            self._month = month
        elif name in ("am", "pm"):
            self._half = name
        elif self.clock is not None and self._named is None:
            self._named = _zone(name)

    def _read_number(self, text: str) -> None:
        if len(text) == 8 and self._date is None:
            self._date = int(text[:4]), int(text[4:6]), int(text[6:])
        elif len(text) == 6 and self._date is not None and self.clock is None:
            self.clock = int(text[:2]), int(text[2:4]), int(text[4:])
        else:
            self._numbers.append(text)

    def day(self) -> Tuple[int, int, int]:
        """Year, month and day."""
        date = self._date
        if date is None and self._numeric is not None and self._half:
            date = self._numeric  # nobody but Americans writes am and pm behind such a date
        if date is None:
            if not self._month or len(self._numbers) != 2:
                raise ValueError
            day, year = self._numbers if len(self._numbers[0]) < 3 else reversed(self._numbers)
            date = _year(year), self._month, int(day)
        if date[0] < 1900:
            raise ValueError
        return date

    def in_zone(self, moment: datetime) -> datetime:
        """The moment, which was read without them, with its half of the day and its zone."""
        if self._half and moment.hour <= 12:
            moment = moment.replace(hour=moment.hour % 12 + (12 if self._half == "pm" else 0))
        minutes = self._named if self._minutes is None else self._minutes
        if minutes is not None:
            return moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
        try:
            return moment.astimezone()
        except (OSError, OverflowError):  # the system does not know what was so long ago
            return moment.replace(tzinfo=timezone.utc)


@functools.lru_cache(maxsize=64)
def _month(name: str) -> int:
    """The month with that name, 1 to 12; 0 if there is none, or several."""
    if len(name) < 3:
        return 0
    plain = "".join(letter for letter in unicodedata.normalize("NFD", name) if letter.isalpha())
    found = [number for number, names in enumerate(_NAMES, 1) if (" " + names).find(" " + plain) >= 0]
    return found[0] if len(found) == 1 else 0


def _zone(name: str) -> Optional[int]:
    """Minutes east of Greenwich; this machine's, if its zone has that name ("CST" is China's too)."""
    for ours, seconds in zip(time.tzname, (time.timezone, time.altzone)):
        if ours.lower() == name:
            return -seconds // 60
    return _ZONES.get(name)


def _year(digits: str) -> int:
    year = int(digits)
    if len(digits) > 3:
        return year
    return year + (2000 if len(digits) < 3 and year < 50 else 1900)
