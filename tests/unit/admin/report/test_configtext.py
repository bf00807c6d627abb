import json

import pytest
from cases import each

from m365proxy.admin.report import configtext
from m365proxy.admin.report.pseudonyms import Pseudonyms


def shown(document, pseudonyms=None):
    return json.loads(configtext.text(document, pseudonyms or Pseudonyms()))


def test_what_fits_its_option_is_shown_with_pseudonyms():
    document = {
        "#note": "call Mr Mueller",
        "user": "relay@contoso.com",
        "tenant_id": "contoso.onmicrosoft.com",
        "client_id": "11111111-2222-3333-4444-555555555555",
        "client_certificate": {"private_key": "/etc/ssl/private/contoso.pem", "thumbprint": "A1" * 20},
        "https_proxy": "http://user:pass@proxy.contoso.com:3128",
        "mailboxes": [
            {
                "username": "scans@contoso.com",
                "password": "a plain one",
                "login": "scans",
                "send_as": "*@contoso.com",
                "folder": "inbox",
                "pop3_delete": "move:Customer A",
                "rewrite_from": True,
                "sent_items": "delete_after_days:3",
            }
        ],
        "bind": "0.0.0.0",
        "tls": {"tls_cert": "auto", "min_version": "TLSv1.2"},
        "relay_networks": {"192.168.10.7": "scans@contoso.com", "#": "the printers"},
        "allowed_domains": ["*", "contoso.com"],
        "notify": None,
        "notify_url": "https://me:pass@ntfy.contoso.com/topic",
        "notify_command": ["/usr/local/bin/page", "k3y"],
        "queue": {"retry_interval": 5},
        "status_password": "another one",
        "client_secret_expires": "2027-03-31",
    }
    assert shown(document) == {
        "user": "mailbox-1@domain-1",
        "tenant_id": "domain-2",
        "client_id": "app-1",
        "client_certificate": {"private_key": "/etc/ssl/private/domain-1.pem", "thumbprint": "<set>"},
        "https_proxy": "http://host-1:3128",
        "mailboxes": [
            {
                "username": "mailbox-2@domain-1",
                "password": "<plain password>",
                "login": "mailbox-2",
                "send_as": ["*@domain-1"],
                "folder": "inbox",
                "pop3_delete": "move:name-1",
                "rewrite_from": True,
                "sent_items": "delete_after_days:3",
            }
        ],
        "bind": ["0.0.0.0"],
        "tls": {"tls_cert": "auto", "min_version": "TLSv1.2"},
        "relay_networks": {"device-1": "mailbox-2@domain-1"},
        "allowed_domains": ["*", "domain-1"],
        "notify": None,
        "notify_url": "https://host-2/<secret>",
        "notify_command": ["/usr/local/bin/name-2", "<secret>"],
        "queue": {"retry_interval": 5},
        "status_password": "<plain password>",
        "client_secret_expires": "2027-03-31",
    }


@each(
    "document,expected",
    [
        ({"smtp_port": "hunter2"}, {"smtp_port": "<wrong: text>"}),
        ({"smtp_prot": "hunter2"}, {"smtp_prot": "<text>"}),
        ({"hunter2": {"a": ["hunter2"]}}, {"<unknown key>": "<an object>"}),
        ({"mailboxes": "hunter2"}, {"mailboxes": "<wrong: text>"}),
        ({"mailboxes": ["hunter2"]}, {"mailboxes": ["<wrong: text>"]}),
        ({"queue": {"retry_interval": "hunter2"}}, {"queue": {"retry_interval": "<wrong: text>"}}),
        ({"user": "hunter2"}, {"user": "<wrong: text>"}),
        ({"#": "hunter2"}, {}),
    ],
)
def test_what_does_not_fit_is_out_and_stays_out_of_all_texts(document, expected):
    pseudonyms = Pseudonyms()
    assert shown(document, pseudonyms) == expected
    assert "hunter2" not in pseudonyms.scrub('must be a port, not "hunter2"; hunter2 is unknown')


def test_a_long_value_is_out_where_a_sentence_shows_its_beginning():
    pseudonyms, value = Pseudonyms(), "very secret words without an end " * 5
    shown({"smtp_port": value}, pseudonyms)
    assert "very secret" not in pseudonyms.scrub(f"not {value[:56]}...")


def test_texts_of_a_file_that_is_no_json():
    pseudonyms = Pseudonyms()
    content = b'{"password": "hunter2", \'x\': \'Tr0ub4dor\', "smtp_port": 25,}'
    assert configtext.parsed(content) is None
    configtext.hide_all(content, pseudonyms)
    assert pseudonyms.scrub("hunter2 and tr0ub4dor of smtp_port") == "<secret> and <secret> of smtp_port"


@pytest.mark.parametrize("content", [b"[]", b"", b"\xff\xfe\x00"])
def test_what_is_no_config(content):
    assert configtext.parsed(content) is None


def test_utf_16_is_read():
    assert configtext.parsed('{"user": "x"}'.encode("utf-16")) == {"user": "x"}
