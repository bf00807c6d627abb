"""What is proposed for each trouble, and what is never proposed."""

import copy

import pytest
from cases import each
from configs import MAILBOX, configured

from m365proxy.admin.devices import proposals as module
from m365proxy.admin.devices.proposals import Surroundings, proposals
from m365proxy.monitoring.troubles import Trouble
from m365proxy.smtp import advice, replies

PRINTER = "192.168.10.21"
SCANNER = MAILBOX["username"]
CERT = {"tls": {"tls_cert": "auto"}}
LOGINS = [{"username": SCANNER, "logins": [{"login": "mfp-1", "password": "s3cret", "networks": "10.0.0.1"}]}]


@pytest.fixture(autouse=True)
def _every_port_is_free(monkeypatch):
    monkeypatch.setattr(module.freeports, "trouble", lambda addresses, port, ours=(): "")


@pytest.fixture
def propose(tmp_path):
    """propose(trouble, ...): the proposals, and what they change in an empty document, in one text each."""

    def make(*troubles, client=PRINTER, mailbox=SCANNER, gateways=(), step=None, **settings):
        around = Surroundings(
            configured(tmp_path, **settings),
            gateways,
            lambda client: mailbox,
            lambda command: f"m365proxy {command}",
            {},
        )
        document = {"mailboxes": copy.deepcopy(settings.get("mailboxes", [MAILBOX]))}
        found = proposals(client, {trouble: step or {} for trouble in troubles}, around)
        return [f"{one.sentence} {one.change(document) if one.change else '-'} {one.after}".strip() for one in found]

    return make


class Sender:
    mailbox, send_as, default_from = SCANNER, (), SCANNER


def refused(reply):
    return {"mailbox": SCANNER, "reply": f"{reply.code} {' '.join(reply.lines)}"}


@each(
    "trouble, settings, step, said",
    [
        (Trouble.NO_LOGIN, {}, {}, f'"relay_networks": {{"{PRINTER}": "{SCANNER}"}}'),
        (Trouble.LOGIN_WITHOUT_TLS, CERT, {}, f'"plaintext_networks": ["127.0.0.0/8", "::1", "{PRINTER}"]'),
        (Trouble.LOGIN_WITHOUT_TLS, CERT, {}, "Set TLS (STARTTLS) on the device"),
        (Trouble.LOGIN_WITHOUT_TLS, {}, {}, "Without a certificate, let this address"),
        (Trouble.LOGIN_WITHOUT_TLS, {"tls": {"tls_cert": "auto", "required": True}}, {}, "does not require TLS. -"),
        (Trouble.LOGIN_WITHOUT_TLS, {**CERT, "plaintext_networks": "192.168.0.0/16"}, {}, "does not require TLS. -"),
        (Trouble.TLS_REQUIRED, {}, {}, "does not require TLS. -"),
        (Trouble.TLS_AT_ONCE, CERT, {}, f'"tls_first": ["{PRINTER}"]'),
        (
            Trouble.NOT_ALLOWED,
            {"allowed_networks": "10.0.0.0/8"},
            {},
            f'"allowed_networks": ["10.0.0.0/8", "{PRINTER}"]',
        ),
        (
            Trouble.OLD_TLS,
            CERT,
            {"service": "smtp"},
            '"listeners": [{"protocol": "smtp", "port": 2526, "min_version": "TLSv1"}] Set port 2526 on the device.',
        ),
        (
            Trouble.OLD_TLS,
            CERT,
            {"service": "pop3", "at_once": True},
            '[{"protocol": "pop3", "port": 1111, "tls": "implicit", "min_version": "TLSv1"}]',
        ),
        (
            Trouble.OLD_TLS,
            {**CERT, "listeners": [{"protocol": "smtp", "port": 2600, "min_version": "TLSv1"}]},
            {"service": "smtp"},
            "set port 2600 on the device. -",
        ),
        (Trouble.BARE_LF, {}, {}, '[{"protocol": "smtp", "port": 2526, "lf_only_clients": true}]'),
        (Trouble.BARE_LF, {"smtp_port": 2526}, {}, '"port": 2527'),
        (
            Trouble.BARE_LF,
            {"listeners": [{"protocol": "smtp", "port": 2600, "lf_only_clients": True}]},
            {},
            "set port 2600 on the device. -",
        ),
        (Trouble.UNKNOWN_LOGIN, {}, {"login": "scaner@contoso.com"}, f"Did you mean {SCANNER}?"),
        (Trouble.UNKNOWN_LOGIN, {}, {"login": "a'b c"}, "`m365proxy init --add-login 'a'\"'\"'b c'` -"),
        (Trouble.WRONG_PASSWORD, {}, {"login": "mfp-1"}, 'Type the password of "mfp-1" anew'),
        (Trouble.LOGIN_ELSEWHERE, {"mailboxes": LOGINS}, {"login": "mfp-1"}, f'"networks": ["10.0.0.1", "{PRINTER}"]'),
        (
            Trouble.SENDER,
            {},
            refused(advice.sender_refused("Boss@contoso.com", Sender)),
            f'"send_as": ["boss@contoso.com"] for {SCANNER}',
        ),
        (Trouble.SENDER, {}, refused(advice.sender_refused("root@localhost", Sender)), '"rewrite_from": true'),
        (Trouble.SENDER, {}, refused(advice.sender_refused("*@contoso.com", Sender)), '"rewrite_from": true'),
        (Trouble.SENDER, {}, refused(advice.sender_refused("a@fabrikam.example", Sender)), '"rewrite_from": true'),
        (Trouble.SENDER, {}, {}, "Set From on the device to the mailbox's address"),
        (
            Trouble.DOMAIN,
            {"allowed_domains": ["contoso.com"]},
            refused(replies.domain_refused("fabrikam.example")),
            '"allowed_domains": ["contoso.com", "fabrikam.example"]',
        ),
        (Trouble.DOMAIN, {}, {}, "allowed_domains. -"),
        (Trouble.MECHANISM, {}, {}, "never to CRAM-MD5, NTLM or Kerberos. -"),
        (Trouble.TOO_LARGE, {}, {}, "attachment_limit_mb. -"),
    ],
)
def test_a_proposal(trouble, settings, step, said, propose):
    (found,) = propose(trouble, step=step, **settings)
    assert said in found


def test_every_trouble_has_one(propose):
    assert all(len(propose(trouble, mailboxes=LOGINS, step={"login": "mfp-1"})) == 1 for trouble in Trouble)


def test_who_has_a_login_needs_no_relaying(propose):
    (found,) = propose(Trouble.NO_LOGIN, Trouble.WRONG_PASSWORD)
    assert "relay_networks" not in found


def test_if_nobody_says_which_mailbox_none_is_written(propose):
    (found,) = propose(Trouble.NO_LOGIN, mailbox="")
    assert found.endswith("(or another mailbox) -")


@each("trouble", [Trouble.NOT_ALLOWED, Trouble.NO_LOGIN, Trouble.LOGIN_WITHOUT_TLS, Trouble.LOGIN_ELSEWHERE])
@each(
    "client, gateways, why",
    [
        ("93.184.215.14", (), "It comes from the internet"),
        ("2a00::1", (), "It comes from the internet"),
        (PRINTER, (PRINTER,), "may hide other clients"),
        ("proxy:192.168.10.1", (), "The proxy did not say its address"),
    ],
)
def test_nothing_is_proposed_that_lets_in_more_than_a_device(trouble, client, gateways, why, propose):
    (found,) = propose(trouble, client=client, gateways=gateways, mailboxes=LOGINS, step={"login": "mfp-1"}, **CERT)
    assert why in found and found.endswith("-")


@pytest.mark.parametrize("trouble", [Trouble.OLD_TLS, Trouble.BARE_LF, Trouble.TLS_AT_ONCE])
def test_a_stranger_who_has_not_logged_in_opens_no_port(trouble, propose):
    (found,) = propose(trouble, client="93.184.215.14", **CERT)
    assert "It comes from the internet" in found and found.endswith("-")
    (found,) = propose(trouble, client=PRINTER, gateways=(PRINTER,), **CERT)
    assert "may hide other clients" not in found


def test_no_free_port(propose, monkeypatch):
    monkeypatch.setattr(module.freeports, "trouble", lambda addresses, port, ours=(): "is in use")
    (found,) = propose(Trouble.BARE_LF)
    assert found.endswith("no port from 2526 on is free. -")
