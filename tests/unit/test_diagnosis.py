"""`check`'s lines: what is asked of Microsoft and of this machine, and what to do about the answers."""

import pytest
from program import ALERTS, RELAY, SCANS, Program

from m365proxy import config as configuration
from m365proxy import diagnosis


@pytest.fixture
def program(tmp_path):
    made = Program(tmp_path).sign_in()
    yield made
    made.close()


def found(program, name, **settings):
    """The line of that name, and the exit status of the first thing that is wrong."""
    program.configure(**settings)
    results = diagnosis.online(configuration.load(str(program.config), {}))
    return next(result for result in results if result.name == name)


def one(mailbox, **more):
    return {"username": mailbox, "password": "secret word", **more}


@pytest.mark.parametrize("settings", [
    {}, {"pop3_port": None, "mailboxes": [one(ALERTS, sent_items="delete_after_days:7")]}
])
def test_a_mailbox_without_full_access(program, settings):
    program.sandbox.tenant.full_access.discard(ALERTS)
    line = found(program, ALERTS, **settings)
    assert (line.mark, line.exit_status) == (diagnosis.WRONG, 77)
    assert f"Add-MailboxPermission {ALERTS} -User {RELAY} -AccessRights FullAccess" in line.sentence


@pytest.mark.parametrize("settings", [{"pop3_port": None}, {"mailboxes": [one(ALERTS, services=["smtp"])]}])
def test_a_mailbox_that_only_sends_needs_no_full_access(program, settings):
    program.sandbox.tenant.full_access.discard(ALERTS)
    line = found(program, ALERTS, **settings)
    assert (line.mark, line.exit_status) == (diagnosis.WARNING, 0) and "Add-MailboxPermission" in line.sentence


@pytest.mark.parametrize("settings", [{}, {"pop3_port": None}])
def test_a_mailbox_that_does_not_exist(program, settings):
    line = found(program, "nobody@contoso.com", mailboxes=[one("nobody@contoso.com")], **settings)
    assert (line.mark, line.exit_status) == (diagnosis.WRONG, 78)
    assert "There is no mailbox nobody@contoso.com" in line.sentence


def test_a_mailbox_without_licence(program):
    program.sandbox.tenant.unlicensed.add(SCANS)
    line = found(program, SCANS)
    assert line.exit_status == 78 and "no licence" in line.sentence


def test_an_answer_nobody_knows_is_told_as_it_is(program):
    program.sandbox.tenant.no_access = (403, "ErrorOfTomorrow")
    program.sandbox.tenant.full_access.discard(ALERTS)
    line = found(program, ALERTS)
    assert line.exit_status == 69 and "403 ErrorOfTomorrow" in line.sentence and "queued" not in line.sentence


def test_an_app_that_may_not_open_a_mailbox(program):
    program.sandbox.tenant.app_mailboxes = frozenset({SCANS})
    line = found(program, ALERTS, client_secret="sandbox-secret", user=None)
    assert line.exit_status == 77 and "Application Mail.ReadWrite" in line.sentence
    assert "-User" not in line.sentence


APP = {"client_secret": "sandbox-secret", "user": None}


@pytest.mark.parametrize("revoke,settings,exit_status,words", [
    (lambda sandbox: sandbox.entra.revoke(50173), {}, 77, "Run `m365proxy login`"),
    (lambda sandbox: sandbox.entra.refuse("refresh_token", "temporarily_unavailable"), {}, 69, "for now"),
    (lambda sandbox: sandbox.tenant.client_secrets.clear(), APP, 78, "client_secret is wrong"),
], ids=["revoked", "away", "secret"])
def test_the_sign_in_is_renewed_to_know_that_it_is_good(program, revoke, settings, exit_status, words):
    assert found(program, "token", **settings).mark == diagnosis.OK
    revoke(program.sandbox)
    line = found(program, "token", **settings)
    assert (line.mark, line.exit_status) == (diagnosis.WRONG, exit_status) and words in line.sentence


def offline(program, dropped_root=False, **settings):
    program.configure(**settings)
    return diagnosis.offline(configuration.load(str(program.config), {}), False, dropped_root)


@pytest.mark.parametrize("networks,mark,words", [
    (["127.0.0.0/8"], diagnosis.OK, "no password is taken from the network"),
    ([], diagnosis.OK, "no password is taken from the network"),
    (["192.168.0.0/16"], diagnosis.WARNING, "unencrypted"),
])
def test_without_certificate_it_depends_on_where_passwords_are_taken(program, networks, mark, words):
    results = offline(program, tls={}, plaintext_networks=networks)
    line = next(result for result in results if result.name == "certificate")
    assert line.mark == mark and words in line.sentence


@pytest.mark.parametrize("dropped,mark,words", [(True, "warning", "its unit"), (False, "WRONG", "setcap")])
def test_a_low_port_after_root_was_given_up(program, monkeypatch, dropped, mark, words):
    class Refusing(diagnosis.socket.socket):
        def bind(self, address):
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(diagnosis.socket, "socket", Refusing)
    results = offline(program, dropped, smtp_port=25, pop3_port=None)
    line = next(result for result in results if result.name == "port")
    assert line.mark == mark and words in line.sentence
