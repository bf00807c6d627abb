import json

import pytest
from cases import each

from m365proxy.system.choices import DeletePolicy, DeleteRule, Service, TlsMode, listener_name


@pytest.mark.parametrize("text", [str(TlsMode.STARTTLS), f"{TlsMode.STARTTLS}"])
def test_in_a_log_line_a_word_is_what_the_config_says(text):
    assert text == "starttls"


def test_in_a_file_a_word_is_what_the_config_says():
    assert json.dumps({"tls": TlsMode.STARTTLS}) == '{"tls": "starttls"}'
    assert TlsMode("starttls") is TlsMode.STARTTLS


@each(
    "protocol, tls, name",
    [
        (Service.SMTP, TlsMode.IMPLICIT, "smtps"),
        ("pop3", TlsMode.IMPLICIT, "pop3s"),
        (Service.SMTP, TlsMode.STARTTLS, "smtp"),
        ("pop3", TlsMode.NONE, "pop3"),
        ("status", TlsMode.IMPLICIT, "status"),
    ],
)
def test_names_of_listeners(protocol, tls, name):
    assert listener_name(protocol, tls) == name


@each(
    "text, policy, folder",
    [
        ("trash", DeletePolicy.TRASH, ""),
        ("permanent", DeletePolicy.PERMANENT, ""),
        ("keep", DeletePolicy.KEEP, ""),
        ("move:Done/Scans", DeletePolicy.MOVE, "Done/Scans"),
        ("move:a:b", DeletePolicy.MOVE, "a:b"),
    ],
)
def test_delete_rules(text, policy, folder):
    assert DeleteRule.parse(text) == (policy, folder)


@each("text", ["", "Trash", "delete", ":Done", "Done/Scans"])
def test_what_is_no_delete_rule(text):
    with pytest.raises(ValueError):
        DeleteRule.parse(text)
