"""What is said about a file that is not JSON; the folders json_* of tests/bad_configs have the rest."""

import pytest
from cases import each

from m365proxy.errors import ConfigError


@each(
    "line",
    [
        '"password": "hunter2" "x"',
        '"client_secret": hunter2',
        "hunter2",
        "// hunter2: old",
        '"name": "hunter2", x',
        '"bob@contoso.com": hunter2',
        '"user": "x", "pass" "hunter2"',
        '"hunter2"',
        "'password': 'hunter2'",
        '"https_proxy": "http://u:hunter2@proxy',
        "secret hunter2",
        '{"user": 1, "Passwort": "hunter2"',
    ],
)
def test_a_line_is_shown_without_what_may_be_a_secret(load, line):
    with pytest.raises(ConfigError) as caught:
        load('{\n  "smtp_port": 25,\n  ' + line + "\n}")
    assert "not valid JSON" in str(caught.value)
    assert "hunter2" not in "".join([*caught.value.problems, *caught.value.shown])


@each(
    "content, words",
    [
        ("", "line 1, column 1: The file is empty"),
        (" \n", "line 1, column 1: The file is empty"),
        ('{\n  "smtp_port":', "line 2, column 15: The file ends too early"),
        ('{"smtp_port": 25', "line 1, column 17: The file ends too early"),
        ('{"smtp_port": 25,', "line 1, column 18: The file ends too early"),
        ('{"smtp_port": }', "line 1, column 15: A value is missing"),
        ('{"smtp_port": 25,, "user": ""}', "line 1, column 18: A name in double quotes"),
        ('{"smtp_port" = 25}', "line 1, column 14: A colon"),
        ('{"smtp_port": 25; "user": ""}', "line 1, column 17: A comma or a closing bracket"),
    ],
)
def test_what_is_missing_is_named(load, content, words):
    with pytest.raises(ConfigError, match="is not valid JSON") as caught:
        load(content)
    assert words in str(caught.value)
