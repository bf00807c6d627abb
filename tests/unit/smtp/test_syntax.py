import contextlib
import re

import pytest
from cases import each
from hypothesis import given
from hypothesis import strategies as st
from messages import flood

from m365proxy.logins.sasl import Malformed
from m365proxy.mime.addresses import valid_address
from m365proxy.smtp import syntax


@each(
    "line, verb, argument",
    [
        (b"", "", ""),
        (b"  \t ", "", ""),
        (b"quit", "QUIT", ""),
        (b" noop \t a  b ", "NOOP", "a  b"),
        (b"MAIL\tFROM:<a@b>", "MAIL", "FROM:<a@b>"),
        ("ſtarttls".encode(), "ſtarttls", ""),
        (b"\xff x", "\udcff", "x"),
    ],
)
def test_command(line, verb, argument):
    assert syntax.command(line) == (verb, argument)


@each(
    "argument, address, parameters",
    [
        ("FROM:<a@b.example>", "a@b.example", {}),
        ("from:a@b.example", "a@b.example", {}),
        ("FROM: <a@b.example> SIZE=10 body=8BITMIME x", "a@b.example", {"SIZE": "10", "BODY": "8BITMIME", "X": ""}),
        ("FROM : a@b.example SIZE=10", "a@b.example", {"SIZE": "10"}),
        ("FROM <a@b.example>", "a@b.example", {}),
        ("FROM:<>", "", {}),
        ("FROM:<> AUTH=<>", "", {"AUTH": "<>"}),
        ("FROM:<a@b.example>SIZE=1", "a@b.example", {"SIZE": "1"}),
        ("FROM:<@x.example,@y.example:a@b.example>", "a@b.example", {}),
        ('FROM:<"a> b"@b.example>', '"a> b"@b.example', {}),
        ('FROM:<"a\\" > b"@b.example> SIZE=1', '"a\\" > b"@b.example', {"SIZE": "1"}),
        ('FROM:"a b"@b.example SIZE=1', '"a b"@b.example', {"SIZE": "1"}),
        ("FROM:<a@b.example> ENVID=a=b", "a@b.example", {"ENVID": "a=b"}),
        # A name before it, as in a header
        ('FROM:"Name" <a@b.example>', "a@b.example", {}),
        ('FROM:"Name"<a@b.example> SIZE=1', "a@b.example", {"SIZE": "1"}),
        ('FROM:"Doe, \\"J\\" <x@y.example>" <a@b.example>', "a@b.example", {}),
        ("FROM: Scanner 2nd floor <a@b.example> SIZE=1", "a@b.example", {"SIZE": "1"}),
        ("FROM:=?utf-8?q?K=C3=BCche?= <a@b.example>", "a@b.example", {}),
        ("FROM:=?utf-8?q?K=C3=BCche?=<a@b.example>", "a@b.example", {}),
        ("FROM:A@b.example <a@B.example>", "a@B.example", {}),
        ("FROM:Name <> SIZE=1", "", {"SIZE": "1"}),
        # ... and all of that in brackets
        ('FROM:<"Name" <a@b.example>> SIZE=1', "a@b.example", {"SIZE": "1"}),
        ("FROM:<<a@b.example>>", "a@b.example", {}),
        ("FROM:<Name <a@b.example>", "a@b.example", {}),
        # Brackets that are those of a parameter
        ("FROM:a@b.example AUTH=<>", "a@b.example", {"AUTH": "<>"}),
        ("FROM:root AUTH=<> SIZE=1", "root", {"AUTH": "<>", "SIZE": "1"}),
        ("FROM:a@b.example ORCPT=rfc822;<a@b.example>", "a@b.example", {"ORCPT": "rfc822;<a@b.example>"}),
        # Comments
        ("FROM: a@b.example (Name)", "a@b.example", {}),
        ("FROM:a@b.example(x@y.example) SIZE=1", "a@b.example", {"SIZE": "1"}),
        ("FROM:<a@b.example> (x@y.example <z@y.example>) SIZE=1", "a@b.example", {"SIZE": "1"}),
        ("FROM:(Name) a@b.example", "a@b.example", {}),
        ("FROM:<a@b.example (Name)>", "a@b.example", {}),
        ("FROM:<a@b.example> ENVID=a(b)", "a@b.example", {"ENVID": "a(b)"}),
        ("FROM:<root@(none)>", "root@", {}),
        # Spellings of one address
        ('FROM:<"john.doe"@b.example>', "john.doe@b.example", {}),
        ('FROM:"john\\.doe"@b.example', "john.doe@b.example", {}),
        ('FROM:<"john doe"@b.example.>', '"john doe"@b.example', {}),
        ('FROM:<"john . doe"@b.example>', '"john . doe"@b.example', {}),
        ("FROM:<a@b.example.>", "a@b.example", {}),
        ("FROM:a@b.example. SIZE=1", "a@b.example", {"SIZE": "1"}),
        ("FROM:<a@b.example..>", "a@b.example.", {}),
        ("FROM:< a . b\t @ b.example >", "a.b@b.example", {}),
        ("FROM:<a b@b.example>", "a b@b.example", {}),
        ("FROM:<@[IPv6:::1], @y.example : a@b.example>", "a@b.example", {}),
        ("FROM:@x.example:a@b.example", "a@b.example", {}),
    ],
)
def test_path(argument, address, parameters):
    assert syntax.path(argument, "FROM") == (address, parameters)


@each(
    "argument",
    [
        "",
        "FROM",
        "FROM:",
        "FROM: ",
        "TO:<a@b>",
        "FROM:<a@b",
        "FROMa@b",
        'FROM:<"a>',
        "FROM:(a)",
        "FROM:<a@b> <c@d>",
        "FROM:<a@b>,<c@d>",
        "FROM:a@b <c@d>",
        'FROM:"a"@b <c@d>',
        "FROM:<a@b <c@d>>",
        "FROM:a@b c@d",
        "FROM:Name <a@b> c@d",
    ],
)
def test_no_path(argument):
    with pytest.raises(Malformed):
        syntax.path(argument, "FROM")


@given(st.text(max_size=60))
def test_a_path_is_read_or_refused(text):
    try:
        address, parameters = syntax.path("FROM:" + text, "FROM")
    except Malformed:
        return
    assert set(address) <= set(text)
    assert all(key == key.upper() for key in parameters)


PIECES = [
    "<",
    ">",
    '"',
    "\\",
    "(",
    ")",
    "@",
    ":",
    ".",
    " ",
    "\t",
    "=",
    "?=",
    "a",
    "b.example",
    ",",
    "[",
    "]",
    "AUTH=<>",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_no_address_is_made_of_two(text):
    """Whatever is taken and could be mailed to stands there in one piece, but for blanks, dots and needless quotes."""
    try:
        address, _ = syntax.path("TO:" + text, "TO")
    except Malformed:
        return
    if valid_address(address):
        assert address in re.sub(r'[ \t"\\]|\([^()]*\)', "", text)


@given(st.lists(st.sampled_from([*PIECES, "<", ">", "@", " ", "a", "SIZE=1", "-"]), max_size=12).map("".join))
def test_a_plain_path_is_read_as_any_other(text):
    argument = "TO:<a@" + text
    results = []
    for read in (syntax.path, syntax._tolerant_path):
        try:
            results.append(read(argument, "TO"))
        except Malformed:
            results.append(None)
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "unit", ['"', "(", "<", ">", "\\", "(\\", " ", "<a ", "=<", "@", "@[", ".", '" ', "(a", " .", "<@["]
)
def test_hostile_paths_are_read_in_linear_time(unit):
    with contextlib.suppress(Malformed):  # a quadratic reader needs minutes
        syntax.path("TO:" + flood(unit, 50_000), "TO")


def test_what_is_not_for_the_log():
    assert syntax.without_secrets("MAIL FROM:<a@b> auth=s3cret SIZE=1") == "MAIL FROM:<a@b> auth=... SIZE=1"
    assert syntax.without_secrets('MAIL FROM:"Name" <a@b>') == 'MAIL FROM:"Name" <a@b>'


@each("argument, wanted", [("0", (0, False)), ("12", (12, False)), ("12 LAST", (12, True)), (" 12  last ", (12, True))])
def test_chunk(argument, wanted):
    assert syntax.chunk(argument) == wanted


@each("argument", ["", "LAST", "x", "-1", "+1", "1.0", "1 FIRST", "1 LAST x", "\u0661", "\u00b2", "9" * 21])
def test_no_chunk(argument):
    with pytest.raises(Malformed):
        syntax.chunk(argument)


@each(
    "parameters, wanted",
    [
        ({}, {}),
        (
            {"RET": "full", "ENVID": "a+20b", "ORCPT": "rfc822;a@b", "NOTIFY": "never"},
            {"ret": "FULL", "envid": "a+20b", "orcpt": "rfc822;a@b", "notify": "NEVER"},
        ),
        ({"RET": "ALL", "ENVID": "x" * 101, "ORCPT": "rfc822;\u00fc"}, {}),
        ({"ENVID": "a\tb", "ORCPT": "x" * 501}, {}),
    ],
)
def test_delivery_notes(parameters, wanted):
    assert syntax.delivery_notes(parameters) == syntax.DeliveryNotes(**wanted)


@each(
    "value, known",
    [
        ("", True),
        ("never", True),
        ("SUCCESS,FAILURE,DELAY", True),
        ("FAILUR", False),
        ("FAILURE,", False),
        ("ALL", False),
        ("FAILURE DELAY", False),
    ],
)
def test_is_notify(value, known):
    assert syntax.is_notify(value) == known
