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
