"""A PDF of one page of text, as a scanner might send it."""

from __future__ import annotations

from typing import List, Sequence

# A4 in points, the margin, the size of the letters and the distance between lines.
_WIDTH, _HEIGHT, _MARGIN, _SIZE, _LEADING = 595, 842, 72, 12, 18


def one_page(lines: Sequence[str]) -> bytes:
    """A whole PDF 1.4 file (ISO 32000-1, 7.5); what Latin-1 does not have becomes a question mark."""
    shown = b"".join(b"(%s) Tj T*\n" % _escaped(line) for line in lines)
    start = b"BT /F1 %d Tf %d TL %d %d Td\n" % (_SIZE, _LEADING, _MARGIN, _HEIGHT - _MARGIN)
    text = start + shown + b"ET"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 %d %d] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>" % (_WIDTH, _HEIGHT),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(text), text),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    # The second line has octets above 127, so that nobody takes the file for text (7.5.2).
    file = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"
    places: List[int] = []
    for number, body in enumerate(objects, 1):
        places.append(len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    count = len(objects) + 1
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (count, len(file))
    return file + b"xref\n0 %d\n" % count + table + trailer


def _escaped(line: str) -> bytes:
    """The octets of a literal string (section 7.3.4.2)."""
    octets = line.encode("latin-1", "replace")
    for special in (b"\\", b"(", b")"):
        octets = octets.replace(special, b"\\" + special)
    return octets
