"""Whatever is no JSON is one kind of error."""

import json

import pytest
from cases import each

from m365proxy.system import jsontext


@each("value", [None, 5, "Größe", [], {"a": [1, {"b": None}]}])
def test_values(value):
    text = json.dumps(value)
    assert jsontext.parse(text) == jsontext.parse(text.encode()) == value


@pytest.mark.parametrize("text, found", [("5", 5.0), ("0.25", 0.25), ("-1", -1.0)])
def test_numbers(text, found):
    assert jsontext.number(jsontext.parse(text)) == found


@each("text", ["NaN", "Infinity", "-1e999", "null", "[]", '"x"', "1" * 400])
def test_what_is_no_number(text):
    with pytest.raises((ValueError, TypeError, OverflowError)):
        jsontext.number(jsontext.parse(text))


@each(
    "content",
    ["", "{", b"\xff\xfe", "[" * 200_000, '{"a":' * 200_000],
    ids=lambda content: repr(content[:4]),
)
def test_what_is_none(content):
    with pytest.raises(ValueError):
        jsontext.parse(content)
