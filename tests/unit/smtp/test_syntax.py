import pytest
from hypothesis import given
from hypothesis import strategies as st

from m365proxy.logins.sasl import Malformed
from m365proxy.smtp import syntax


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
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
    ],
)
def test_path(argument, address, parameters):
    assert syntax.path(argument, "FROM") == (address, parameters)


@pytest.mark.parametrize("argument", ["", "FROM", "FROM:", "FROM: ", "TO:<a@b>", "FROM:<a@b", "FROMa@b", 'FROM:<"a>'])
def test_no_path(argument):
    with pytest.raises(Malformed):
        syntax.path(argument, "FROM")


@given(st.text(max_size=60))
def test_a_path_is_read_or_refused(text):
    try:
        address, parameters = syntax.path("FROM:" + text, "FROM")
    except Malformed:
        return
    assert address in text
    assert all(key == key.upper() for key in parameters)


@pytest.mark.parametrize(
    "argument, wanted", [("0", (0, False)), ("12", (12, False)), ("12 LAST", (12, True)), (" 12  last ", (12, True))]
)
def test_chunk(argument, wanted):
    assert syntax.chunk(argument) == wanted


@pytest.mark.parametrize(
    "argument", ["", "LAST", "x", "-1", "+1", "1.0", "1 FIRST", "1 LAST x", "\u0661", "\u00b2", "9" * 21]
)
def test_no_chunk(argument):
    with pytest.raises(Malformed):
        syntax.chunk(argument)


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
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
