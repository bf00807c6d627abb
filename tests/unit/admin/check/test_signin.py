"""The sign-in: whose, how old, whether it is renewed now, and what it permits."""

import os
import time

import pytest
from program import RELAY, Program

from m365proxy.admin.check import runner
from m365proxy.admin.check.subject import Subject
from m365proxy.admin.terminal import Mark
from m365proxy.config import load as configuration
from m365proxy.sandbox.tenant import Tenant

APP = {"client_secret": "sandbox-secret", "user": None}
GRANTED = Tenant((RELAY,), RELAY, "", "").granted_scopes


@pytest.fixture
def program(tmp_path):
    made = Program(tmp_path).sign_in()
    yield made
    made.close()


def found(program, *names, offline=False, **settings):
    """The lines of these names."""
    program.configure(**settings)
    subject = Subject(configuration.load(str(program.config), {}))
    lines = {line.name: line for _, line in runner.run(subject, offline)}
    return [lines[name] for name in names]


@pytest.mark.parametrize(
    "revoke,settings,exit_status,words",
    [
        (lambda sandbox: sandbox.entra.revoke(50173), {}, 77, "Run `m365proxy login`"),
        (lambda sandbox: sandbox.entra.refuse("refresh_token", "temporarily_unavailable"), {}, 69, "for now"),
        (lambda sandbox: sandbox.tenant.client_secrets.clear(), APP, 78, "client_secret is wrong"),
    ],
    ids=["revoked", "away", "secret"],
)
def test_the_sign_in_is_renewed_to_know_that_it_is_good(program, revoke, settings, exit_status, words):
    line, permissions = found(program, "token", "permissions", **settings)
    assert line.mark is Mark.OK and permissions.mark is (Mark.INFO if settings else Mark.OK)
    revoke(program.sandbox)
    line, permissions, mailboxes = found(program, "token", "permissions", "mailboxes", **settings)
    assert (line.mark, line.exit_status) == (Mark.WRONG, exit_status)
    assert words in f"{line.sentence} {line.remedy}"
    assert [one.sentence for one in (permissions, mailboxes)] == ["skipped, because token failed"] * 2


def test_permissions_that_are_granted_and_those_that_are_missing(program):
    (line,) = found(program, "permissions")
    assert line.sentence == "granted: Mail.Send, Mail.ReadWrite, Mail.Send.Shared, Mail.ReadWrite.Shared, User.Read"
    program.sandbox.tenant.granted_scopes = set(GRANTED) - {"Mail.ReadWrite.Shared", "Mail.ReadWrite"}
    line, token = found(program, "permissions", "token")
    assert (line.mark, line.exit_status) == (Mark.WRONG, 77) and token.mark is Mark.OK
    assert (
        "grants Mail.Send, Mail.Send.Shared, User.Read, but not Mail.ReadWrite, Mail.ReadWrite.Shared" in line.sentence
    )
    assert line.remedy.endswith("then sign in anew: `m365proxy login`")
    (line,) = found(program, "permissions", permissions="send", pop3_port=None)
    assert line.mark is Mark.OK


@pytest.mark.parametrize("days, mark", [(3, Mark.OK), (61, Mark.ATTENTION)])
def test_days_since_the_last_renewal(program, days, mark):
    before = time.time() - days * 86400 - 60
    os.utime(program.directory / "state" / "tokens.enc", (before, before))
    (line,) = found(program, "sign-in", offline=True)
    assert line.mark is mark and line.sentence.startswith(f"{RELAY}, since ")
    assert f"last renewed {days} days ago" in line.sentence


def test_nobody_is_signed_in(program):
    (program.directory / "state" / "tokens.enc").unlink()
    line, token = found(program, "sign-in", "token", offline=True)
    assert (line.mark, line.exit_status, line.remedy) == (Mark.WRONG, 77, "Run `m365proxy login`.")
    (token,) = found(program, "token")
    assert token.sentence == "skipped, because sign-in failed"
