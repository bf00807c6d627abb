"""Parameters of Content-Type and Content-Disposition, read and written."""

from __future__ import annotations

from cases import each
from messages import flood

from m365proxy.mime import parameters


@each("unit", ['a="', 'a="\\";', ";", "a", "a*1=", " ", "a =", "; a", 'name="', ";name=a;b", "boundary=a b "])
def test_hostile_parameters_are_read_in_linear_time(unit):
    parameters.parse("text/plain; " + flood(unit, 30_000))  # a quadratic reader needs minutes


@each(
    "name, text, written",
    [
        ("charset", "utf-8", b"x/y;\r\n charset=utf-8"),
        ("filename", 'a "b" \\.pdf', b'x/y;\r\n filename="a \\"b\\" \\\\.pdf"'),
        ("filename", "\u00dc.pdf", b"x/y;\r\n filename*=utf-8''%C3%9C.pdf"),
        ("name", "\u00dc.pdf", b'x/y;\r\n name="=?utf-8?b?w5wucGRm?="'),
        ("name", "a\r\nBcc: b", b'x/y;\r\n name="a  Bcc: b"'),
    ],
)
def test_parameters_written(name, text, written):
    value = parameters.Value("x/y", {})
    value.set(name, text)
    assert value.lines() == written


@each("text", ["\u00dc" * 300, "a" * 300 + ".pdf", "\u65e5\u672c\u8a9e" * 30 + ".pdf"])
@each("name", ["name", "filename"])
def test_long_names_survive(name, text):
    value = parameters.Value("x/y", {})
    value.set(name, text)
    lines = value.lines().split(b"\r\n")
    assert max(map(len, lines)) <= 78 + len("filename*10*=")
    assert parameters.parse("".join(line.decode("ascii") for line in lines)).get(name) == text


@each(
    "value, text",
    [
        ("filename*=utf-8''%C3%BC.pdf", "ü.pdf"),
        ("filename*=gb2312''%D2%C6%B6%AF.pdf", "移动.pdf"),
        ("filename*=shift_jis''%95\\.pdf", "表.pdf"),
        ("filename*=utf-8''ü%C3%BC.pdf", "üü.pdf"),
        ("filename*=iso-8859-1''日%FC本.pdf", "日ü本.pdf"),
        ("filename*0*=utf-8''%C3; filename*1*=%BC", "ü"),
        ("filename*0=日; filename*1=本", "日本"),
        ("filename==?utf-8?b?w7w=?=.pdf", "ü.pdf"),
    ],
)
def test_names_read(value, text):
    assert parameters.parse("attachment; " + value).get("filename") == text
