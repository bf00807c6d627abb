"""What is changed in the config: one entry more, all else as it was."""

import copy

import pytest
from cases import each

from m365proxy.admin.devices import changes
from m365proxy.errors import UsageError

SCANNER = "scanner@contoso.com"
PRINTER = "192.168.10.21"


@each(
    "change, before, added, shown",
    [
        (
            changes.extended("plaintext_networks", ["127.0.0.0/8"], PRINTER),
            {},
            {"plaintext_networks": ["127.0.0.0/8", PRINTER]},
            f'"plaintext_networks": ["127.0.0.0/8", "{PRINTER}"]',
        ),
        (
            changes.extended("plaintext_networks", ["127.0.0.0/8"], PRINTER),
            {"plaintext_networks": ["10.0.0.0/8"]},
            {"plaintext_networks": ["10.0.0.0/8", PRINTER]},
            f'"plaintext_networks": ["10.0.0.0/8", "{PRINTER}"]',
        ),
        (
            changes.extended("allowed_networks", [], PRINTER),
            {"allowed_networks": "10.0.0.0/8"},
            {"allowed_networks": ["10.0.0.0/8", PRINTER]},
            f'"allowed_networks": ["10.0.0.0/8", "{PRINTER}"]',
        ),
        (
            changes.extended("tls_first", [], PRINTER),
            {"tls_first": [PRINTER]},
            {"tls_first": [PRINTER]},
            f'"tls_first": ["{PRINTER}"]',
        ),
        (
            changes.relayed(PRINTER, SCANNER),
            {"relay_networks": {"10.0.0.1": SCANNER}},
            {"relay_networks": {"10.0.0.1": SCANNER, PRINTER: SCANNER}},
            f'"relay_networks": {{"10.0.0.1": "{SCANNER}", "{PRINTER}": "{SCANNER}"}}',
        ),
        (
            changes.listening({"protocol": "smtp", "port": 2526}, 2525),
            {},
            {"smtp_port": 2525, "listeners": [{"protocol": "smtp", "port": 2526}]},
            '"smtp_port": 2525\n"listeners": [{"protocol": "smtp", "port": 2526}]',
        ),
        (
            changes.listening({"protocol": "smtp", "port": 2526}, 2525),
            {"listeners": [{"protocol": "smtp", "port": 25}]},
            {"listeners": [{"protocol": "smtp", "port": 25}, {"protocol": "smtp", "port": 2526}]},
            '"listeners": [{"protocol": "smtp", "port": 25}, {"protocol": "smtp", "port": 2526}]',
        ),
        (
            changes.rewriting(SCANNER),
            {"mailboxes": [{"username": "Scanner@contoso.com"}, {"username": "ups@contoso.com"}]},
            {
                "mailboxes": [
                    {"username": "Scanner@contoso.com", "rewrite_from": True},
                    {"username": "ups@contoso.com"},
                ]
            },
            f'"rewrite_from": true for {SCANNER}',
        ),
        (
            changes.sending_as(SCANNER, "boss@contoso.com"),
            {"mailboxes": [{"username": SCANNER, "send_as": ["a@contoso.com"]}]},
            {"mailboxes": [{"username": SCANNER, "send_as": ["a@contoso.com", "boss@contoso.com"]}]},
            f'"send_as": ["a@contoso.com", "boss@contoso.com"] for {SCANNER}',
        ),
        (
            changes.admitting("mfp-1", PRINTER),
            {"mailboxes": [{"username": SCANNER, "logins": [{"login": "MFP-1", "networks": "10.0.0.1"}]}]},
            {"mailboxes": [{"username": SCANNER, "logins": [{"login": "MFP-1", "networks": ["10.0.0.1", PRINTER]}]}]},
            f'"networks": ["10.0.0.1", "{PRINTER}"] for mfp-1',
        ),
    ],
)
def test_a_change(change, before, added, shown):
    document = {"user": "relay@contoso.com", **copy.deepcopy(before)}
    assert change(document) == shown
    assert document == {"user": "relay@contoso.com", **before, **added}


@each(
    "change",
    [changes.rewriting(SCANNER), changes.sending_as(SCANNER, "x@contoso.com"), changes.admitting("x", PRINTER)],
)
@each("mailboxes", [[], None, [{"username": "ups@contoso.com"}], ["x"]])
def test_what_is_gone_meanwhile_is_said(change, mailboxes):
    with pytest.raises(UsageError, match="of the config any more"):
        change({"mailboxes": mailboxes})
