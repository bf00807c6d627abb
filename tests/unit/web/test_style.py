"""The look of the page: what can be checked without a browser."""

import re

from cases import each

from m365proxy.web.style import STYLE

LIGHT, DARK = (
    dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", part)) for part in STYLE.split("@media (prefers-color-scheme: dark)")
)

# Text, and what it stands on.
PAIRS = [
    *(("text", "card"), ("text", "page"), ("text", "code"), ("quiet", "card"), ("quiet", "page"), ("quiet", "code")),
    *(("good", "card"), ("good", "good-back"), ("bad", "card"), ("bad", "bad-back"), ("wait", "wait-back")),
    *(("link", "page"), ("link", "card")),
]


def luminance(colour):
    """WCAG 2.1, relative luminance."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@each("colours", [LIGHT, DARK], ids=["light", "dark"])
@each("front, back", PAIRS)
def test_every_text_can_be_read(colours, front, back):
    assert set(colours) == {*dict(PAIRS), *dict(map(reversed, PAIRS)), "line"}
    lighter, darker = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_it_loads_nothing_and_ends_where_it_should():
    assert not re.search(r"url\(|@import|</|<!--", STYLE)
