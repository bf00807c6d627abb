"""Warnings; contradictions have a folder each in tests/bad_configs."""

import json

import pytest
from cases import each
from configs import CERT, HASHED, MINIMAL, QUIET

from m365proxy.config import load as config


@each(
    "document, starts",
    [
        (QUIET, []),
        (MINIMAL, ["mailboxes[0].password is plain text; `m365proxy hash-password` prints"]),
        (
            {**QUIET, "mailboxes": [{**HASHED, "logins": [{"login": n, "password": "x"} for n in "abc"]}]},
            ["mailboxes[0].logins[0].password (and 2 more) is plain text"],
        ),
        ({**QUIET, "tls": {"min_version": "TLSv1.1"}}, ["tls.min_version is below TLSv1.2"]),
        (
            {**QUIET, "listeners": [{"protocol": "smtp", "port": 1, "min_version": "TLSv1"}]},
            ["listeners[0].min_version is below TLSv1.2"],
        ),
        (
            {**QUIET, "bind": ["192.168.1.1", "10.0.0.1"], "pop3_port": 110},
            [
                "smtp_port has no TLS, and plaintext_networks has only this machine",
                "pop3_port has no TLS, and plaintext_networks has only this machine",
            ],
        ),
        (
            {**QUIET, "bind": "0.0.0.0", "plaintext_networks": ["127.0.0.1", "192.168.1.0/24"]},
            ["smtp_port has no TLS, so passwords from 192.168.1.0/24 can be read"],
        ),
        ({**QUIET, "bind": "0.0.0.0", "relay_networks": {"10.0.0.0/8": "scanner@contoso.com"}}, []),
        ({**QUIET, **CERT, "bind": "0.0.0.0", "plaintext_networks": ["192.168.1.0/24"]}, []),
        (
            {**QUIET, "relay_networks": {"0.0.0.0/7": "scanner@contoso.com", "2001::/31": "scanner@contoso.com"}},
            ['relay_networks["2001::/31"] is very wide', 'relay_networks["0.0.0.0/7"] is very wide'],
        ),
        ({**QUIET, "relay_networks": {"2001:db8::/32": "scanner@contoso.com"}}, []),
        ({**QUIET, "mailboxes": [{**HASHED, "pop3_delete": "permanent"}]}, []),
        (
            {**QUIET, "cloud": "china", "mailboxes": [{**HASHED, "pop3_delete": "permanent"}]},
            ['mailboxes[0].pop3_delete is "permanent", which this cloud does not offer'],
        ),
    ],
)
def test_warnings(load, document, starts):
    said = load(document).warnings
    assert [warning[: len(start)] for warning, start in zip(said, starts)] == starts
    assert len(said) == len(starts)
    assert all(warning.endswith(".") and "\n" not in warning and "s3cret" not in warning for warning in said)


@pytest.mark.parametrize(
    "change,hint",
    [
        ({"queue": {"dedupe_minutes": 5}}, "queue.dedupe_minutes is set, but has no effect"),
        ({"user": None, "client_secret": "s", "client_secret_expires": "2020-01-01"}, "ends on 2020-01-01"),
    ],
)
def test_warnings_of_options_without_effect_and_of_secrets_that_expire(tmp_path, change, hint):
    settings = {
        "user": "relay@contoso.com",
        "client_id": "00000000-0000-0000-0000-000000000001",
        "tenant_id": "00000000-0000-0000-0000-000000000002",
        "smtp_port": 2525,
        "mailboxes": [{"username": "alerts@contoso.com", "password": "x"}],
        **change,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))
    assert any(hint in warning for warning in config.load(str(path), {}).warnings)
