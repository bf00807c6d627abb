"""The PDF is one that every viewer opens: its table says where its objects are."""

import re

from cases import each

from m365proxy.admin.testmail import pdf


def parsed(file):
    """The objects of a PDF by their number, found by way of its cross-reference table (ISO 32000-1, 7.5)."""
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n\Z", file).group(1))
    table = re.match(rb"xref\n0 (\d+)\n((?:.{18} \n)+)trailer\n<< /Size (\d+) /Root 1 0 R >>\n", file[start:])
    entries = table.group(2).splitlines(keepends=True)
    assert int(table.group(1)) == int(table.group(3)) == len(entries)
    assert all(len(entry) == 20 for entry in entries) and entries[0] == b"0000000000 65535 f \n"
    objects = {}
    for number, entry in enumerate(entries[1:], 1):
        head, _, rest = file[int(entry[:10]) :].partition(b"\n")
        assert head == b"%d 0 obj" % number
        objects[number] = rest.partition(b"\nendobj\n")[0]
    return objects


def test_its_objects_are_where_its_table_says():
    objects = parsed(pdf.one_page(["One", "Two"]))
    assert b"/Catalog" in objects[1] and b"/Count 1" in objects[2] and b"/MediaBox [0 0 595 842]" in objects[3]
    length, text = re.fullmatch(rb"<< /Length (\d+) >>\nstream\n(.*)\nendstream", objects[4], re.S).groups()
    assert len(text) == int(length)
    assert text.count(b"Tj") == 2 and b"(One) Tj" in text


@each(
    "line, shown",
    [
        ("a (b) \\c", b"(a \\(b\\) \\\\c)"),
        ("Größe", b"(Gr\xf6\xdfe)"),
        ("印", b"(?)"),
        ("", b"()"),
    ],
)
def test_every_line_can_be_shown(line, shown):
    assert shown + b" Tj" in parsed(pdf.one_page([line]))[4]
