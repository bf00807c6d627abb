"""What a range of octets may travel as."""

from __future__ import annotations

from cases import each

from m365proxy.mime.survey import Survey, survey_of

CLEAN = Survey(ascii=True, nul=False, long_line=False, stray_cr=False, escape=False)


@each(
    "octets, found, clean",
    [
        (b"", CLEAN, True),
        (b"x\r\n" * 3, CLEAN, True),
        ((b"x" * 997 + b"\n") * 3, CLEAN, True),
        (b"x" * 998, CLEAN, True),
        (b"x" * 999, CLEAN._replace(long_line=True), False),
        (b"\r\n" + b"x" * 998 + b"\n", CLEAN, True),
        (b"\r\n" + b"x" * 998 + b"\r\n", CLEAN._replace(long_line=True), False),
        ("ä".encode(), CLEAN._replace(ascii=False), False),
        (b"\0", CLEAN._replace(nul=True), False),
        (b"a\rb\r\n", CLEAN._replace(stray_cr=True), True),
        (b"\x1b$B", CLEAN._replace(escape=True), True),
    ],
)
def test_it_is_the_same_however_it_comes(octets, found, clean):
    assert survey_of([octets]) == found
    assert survey_of([octets[place : place + 1] for place in range(len(octets))]) == found
    assert found.clean is clean
