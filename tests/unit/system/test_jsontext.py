"""Whatever is no JSON is one kind of error."""

import json

import pytest

from m365proxy.system import jsontext


@pytest.mark.parametrize("value", [None, 5, "Größe", [], {"a": [1, {"b": None}]}])
def test_values(value):
    text = json.dumps(value)
    assert jsontext.parse(text) == jsontext.parse(text.encode()) == value


@pytest.mark.parametrize(
    "content",
    ["", "{", b"\xff\xfe", pytest.param("[" * 200_000, id="nested"), pytest.param('{"a":' * 200_000, id="objects")],
    ids=lambda content: repr(content[:4]),
)
def test_what_is_none(content):
    with pytest.raises(ValueError):
        jsontext.parse(content)
