"""Dates as programs write them, and as they go on."""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone

import pytest
from cases import each

from m365proxy.mime import dates

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

EXAMPLES = int(os.environ.get("M365PROXY_FUZZ_EXAMPLES", "200"))


@pytest.fixture(params=["Europe/Berlin", "Asia/Shanghai", "UTC"])
def here(request, monkeypatch):
    """A machine in that zone."""
    if not hasattr(time, "tzset"):
        pytest.skip("the zone of this machine cannot be set")
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


SOUND = [
    "Sat, 28 Nov 2026 10:00:00 +0100",
    "28 Nov 2026 10:00 -0000",
    "Sat, 28 Nov 2026 10:00:00 GMT",
    "Thu, 1 Jan 1970 00:00:04 +0000",
    "Sat, 28 Nov 2026 10:00:00 +0100 (CET)",
    "sat,  28 NOV 2026  10:00:60 ut",
    "Sat,28 Nov 2026 10:00:00 +0545",
]


@each("value", SOUND)
def test_what_every_program_reads_stays(value):
    assert dates.restored(value.encode()) == value


ODD = [
    # No day of the week, or a wrong one, or in the device's language.
    ("Sun, 28 Nov 2026 10:00:00 +0100", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("Saturday, 28 November 2026 10:00:00 +0100", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("Sat 28 Nov 2026 10:00:00 +0100", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("Sa, 28 Nov 2026 10:00:00 +0100", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("sam., 28 nov. 2026 10:00:00 +0100", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("mar. 1 déc. 2026 10:00:00 +0100", "Tue, 01 Dec 2026 10:00:00 +0100"),
    ("Mi, 04 Mär 2026 10:00:00 +0100", "Wed, 04 Mar 2026 10:00:00 +0100"),
    ("28. Oktober 2026 10:00:00 +0100", "Wed, 28 Oct 2026 10:00:00 +0100"),
    # Years, and fields of one digit.
    ("28 Nov 26 10:00:00 +0100", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("28 Nov 99 10:00:00 +0100", "Sun, 28 Nov 1999 10:00:00 +0100"),
    ("Sat, 28 Nov 126 10:00:00 +0100", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("Sat, 28 Nov 2026 1:2:3 +0100", "Sat, 28 Nov 2026 01:02:03 +0100"),
    ("Tue, 1 Dec 2026 9:05 +0100", "Tue, 01 Dec 2026 09:05:00 +0100"),
    # Comments, wherever they stand.
    ("Sat (Samstag), 28 (x) Nov (11 (eleven)) 2026 10:00:00 +0100", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("Sat, 28 Nov 2026 10:00:00 (CEST)", "Sat, 28 Nov 2026 10:00:00 +0200"),
    ("Sat, 28 Nov 2026 10:00:00 +0100 (Central (European) Time)", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("Sat, 28 Nov 2026 10:00:00 +0100 (CET", "Sat, 28 Nov 2026 10:00:00 +0100"),
    # Zones.
    ("Sat, 28 Nov 2026 10:00:00 CET", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("Sat, 28 Nov 2026 10:00:00 MSK", "Sat, 28 Nov 2026 10:00:00 +0300"),
    ("Sat, 28 Nov 2026 10:00:00 EST", "Sat, 28 Nov 2026 10:00:00 -0500"),
    ("Sat, 28 Nov 2026 10:00:00 GMT+2", "Sat, 28 Nov 2026 10:00:00 +0200"),
    ("Sat, 28 Nov 2026 10:00:00 UTC-05:30", "Sat, 28 Nov 2026 10:00:00 -0530"),
    ("Sat, 28 Nov 2026 10:00:00 +01:00", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("Sat, 28 Nov 2026 10:00:00 +1", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("Sat, 28 Nov 2026 10:00:00 Z", "Sat, 28 Nov 2026 10:00:00 +0000"),
    ("Sat, 28 Nov 2026 10:00:00 +0100 MET", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("Sat, 28 Nov 2026 10:00:00+0100", "Sat, 28 Nov 2026 10:00:00 +0100"),
    # ISO 8601 and what languages print by themselves.
    ("2026-11-28T10:00:00Z", "Sat, 28 Nov 2026 10:00:00 +0000"),
    ("2026-11-28T10:00:00.123456+01:00", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("2026-11-28 10:00:00 +0100", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("2026/11/28 10:00:00 +0100", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("20261128T100000Z", "Sat, 28 Nov 2026 10:00:00 +0000"),
    ("2026-11-28 10:00:00.1234 +0100 CET m=+0.0001", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("Sat Nov 28 10:00:00 CET 2026", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("Sat Nov 28 10:00:00 +0100 2026", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("Sat Nov 28 2026 10:00:00 GMT+0100 (Central European Standard Time)", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("Sat, 28-Nov-2026 10:00:00 GMT", "Sat, 28 Nov 2026 10:00:00 +0000"),
    ("28-Nov-26 10:00:00 +0100", "Sat, 28 Nov 2026 10:00:00 +0100"),
    # Figures only, and times with dots.
    ("28.11.2026 10:00:00 +0100", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("Sat, 28 Nov 2026 10.00.00 +0100", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("28/11/2026 10:00:00 +0100", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("11/28/2026 10:00:00 PM +0100", "Sat, 28 Nov 2026 22:00:00 +0100"),
    ("11/12/2026 12:00:00 AM +0100", "Thu, 12 Nov 2026 00:00:00 +0100"),
    ("November 28th, 2026 10:00 PM +0100", "Sat, 28 Nov 2026 22:00:00 +0100"),
    ("10:00:00 28 Nov 2026 +0100", "Sat, 28 Nov 2026 10:00:00 +0100"),
    ("=?utf-8?q?Sat=2C_28_Nov_2026_10=3A00=3A00_=2B0100?=", "Sat, 28 Nov 2026 10:00:00 +0100"),
]


@each("value, right", ODD, ids=[row[0] for row in ODD])
def test_what_can_be_read_keeps_its_moment(value, right, here):
    assert dates.restored(value.encode()) == right
    assert dates.restored(right.encode()) == right


@pytest.mark.parametrize(
    "value, berlin, shanghai",
    [
        ("Sat, 28 Nov 2026 10:00:00", "Sat, 28 Nov 2026 10:00:00 +0100", "Sat, 28 Nov 2026 10:00:00 +0800"),
        ("Tue, 28 Jul 2026 10:00:00", "Tue, 28 Jul 2026 10:00:00 +0200", "Tue, 28 Jul 2026 10:00:00 +0800"),
        ("Sat Nov 28 10:00:00 2026", "Sat, 28 Nov 2026 10:00:00 +0100", "Sat, 28 Nov 2026 10:00:00 +0800"),
        ("2026-11-28 10:00", "Sat, 28 Nov 2026 10:00:00 +0100", "Sat, 28 Nov 2026 10:00:00 +0800"),
        # Names that no table has, and what cannot be a zone.
        ("28 Nov 2026 10:00:00 Mitteleuropäische Zeit", "Sat, 28 Nov 2026 10:00:00 +0100", None),
        ("28 Nov 2026 10:00:00 +9900", "Sat, 28 Nov 2026 10:00:00 +0100", None),
        # China's CST is not America's.
        ("28 Nov 2026 10:00:00 CST", "Sat, 28 Nov 2026 10:00:00 -0600", "Sat, 28 Nov 2026 10:00:00 +0800"),
    ],
)
@pytest.mark.parametrize("here", ["Europe/Berlin", "Asia/Shanghai"], indirect=True)
def test_without_a_zone_it_is_this_machine_s(value, berlin, shanghai, here):
    right = berlin if here == "Europe/Berlin" else shanghai or berlin.replace("+0100", "+0800")
    assert dates.restored(value.encode()) == right


@each(
    "value",
    [
        *("", "yesterday", "0", "28 Nov 2026", "10:00:00", "Sat, 28 2026 10:00:00 +0000", "Nov 2026 10:00"),
        *("31 Feb 2026 10:00:00 +0000", "28 Nov 2026 25:00:00 +0000", "28 Nov 2026 10:61 +0000", "0 Nov 2026 10:00 Z"),
        *("Sat, 28 Nov 0126 10:00:00 +0000", "28 Nov 20266 10:00 +0000", "31 Dec 9999 23:59:59 -0100"),
        # The eleventh of December or the twelfth of November.
        "11/12/2026 10:00:00 +0100",
        "%a, %d %b %Y %H:%M:%S %z",
    ],
)
def test_what_cannot_be_read(value):
    assert dates.restored(value.encode()) is None


@pytest.mark.parametrize("charset", ["utf-8", "latin-1"])
def test_raw_names_of_months(charset):
    assert dates.restored("4 Mär 2026 10:00:00 +0100".encode(charset)) == "Wed, 04 Mar 2026 10:00:00 +0100"


def test_the_form_of_graph_s_properties():
    assert dates.utc("Sat, 28 Nov 2026 00:30:00 +0100") == "2026-11-27T23:30:00Z"


def test_a_zone_of_long_ago_has_whole_minutes():
    moment = datetime(1900, 1, 1, tzinfo=timezone.utc).astimezone(timezone(dates.timedelta(minutes=53, seconds=28)))
    assert dates.written(moment) == "Mon, 01 Jan 1900 00:00:00 +0000"


WORDS = """Sat , Sun 28 Nov nov. Mar 2026 26 126 10:00:00 1:2 10.00.00 28.11.2026 11/12/2026 2026-11-28 28-Nov-2026 T Z
+0100 -1 +99 GMT EST ( ) (x) am PM 20261128 100000 = \xe9 \u0664 99999999999999999999 : - ."""
words = st.sampled_from(WORDS.split())


@hypothesis.settings(max_examples=EXAMPLES, deadline=None, database=None)
@hypothesis.given(st.one_of(st.lists(words, max_size=12).map(" ".join), st.text(max_size=40)), st.booleans())
def test_any_words(text, tight):
    raw = (text.replace(" ", "") if tight else text).encode("utf-8", "replace")
    found = dates.restored(raw)
    if found is not None:
        assert found.isascii() and dates.restored(found.encode()) == found
        assert dates.read(found) is not None


def test_a_long_value_takes_no_longer():
    for piece in (b"(", b"1:", b"-Nov-", b"Sat, ", b"28.11.", b"+1"):
        assert dates.restored(piece * 1_000_000) is None
