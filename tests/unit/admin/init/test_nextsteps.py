"""What comes next: commands as the program was called, and what the service does."""

import pytest
from cases import each
from configs import configured

from m365proxy.admin.init import nextsteps
from m365proxy.admin.init.nextsteps import Call


@pytest.fixture(autouse=True)
def _called(monkeypatch):
    monkeypatch.setattr(nextsteps.invocation, "program", lambda path, environ: f"m365proxy --config {path}")


@pytest.mark.parametrize("environ, sudo", [({}, ""), ({"SUDO_USER": "admin"}, "sudo ")])
def test_commands_are_for_who_called(environ, sudo):
    call = Call("/c.json", environ)
    assert call("check") == sudo + "m365proxy --config /c.json check"
    assert call.as_root("systemctl") == sudo + "systemctl"
    assert call.plain("check") == "m365proxy --config /c.json check"


CALL = Call("/c.json", {})


@pytest.mark.parametrize(
    "is_up, unit, settings, said",
    [
        (True, "m365proxy", {"attachment_limit_mb": 20}, "`m365proxy --config /c.json reload`"),
        (True, "m365proxy", {"smtp_port": 26}, "for smtp_port: `systemctl restart m365proxy`"),
        (True, "m365proxy@b", {"smtp_port": 26}, "`systemctl restart m365proxy@b`"),
        (True, "", {"smtp_port": 26}, "stop it, and start it again"),
        (False, "m365proxy", {}, "else start it: `systemctl restart m365proxy`"),
        (False, "", {}, "else start it: `m365proxy --config /c.json run`"),
    ],
)
def test_what_makes_the_program_use_it(tmp_path, monkeypatch, is_up, unit, settings, said):
    monkeypatch.setattr(nextsteps.running, "is_running", lambda config: is_up)
    monkeypatch.setattr(nextsteps.os.path, "isdir", lambda path: True)
    monkeypatch.setattr(nextsteps.packaged, "unit_of", lambda path: unit)
    before = configured(tmp_path)
    assert said in nextsteps.of_service(before, configured(tmp_path, **settings), CALL)


@each(
    "facts, words",
    [
        (
            {"has_ids": False, "is_signed_in": False, "script": "/s.ps1", "is_new": True},
            ["/s.ps1", "init --ids", "login", "start it", "check", "test"],
        ),
        (
            {"has_ids": True, "is_signed_in": False, "script": "", "is_new": True},
            ["login", "start it", "check", "test"],
        ),
        (
            {"has_ids": True, "is_signed_in": False, "script": "", "is_new": False},
            ["login", "start it", "check", "test"],
        ),
        ({"has_ids": True, "is_signed_in": True, "script": "/s.ps1", "is_new": False}, ["/s.ps1", "start it"]),
        ({"has_ids": True, "is_signed_in": True, "script": "", "is_new": False}, ["start it"]),
        ({"has_ids": True, "is_signed_in": True, "script": "", "grant": True, "is_new": False}, ["rights", "start it"]),
    ],
)
def test_only_what_is_left_to_do(facts, words):
    found = nextsteps.steps(service="start it", call=CALL, **{"grant": False, **facts})
    assert len(found) == len(words) and all(word in step for word, step in zip(words, found))


def test_who_needs_no_sign_in(tmp_path):
    here = configured(tmp_path)
    assert not nextsteps.is_signed_in(here, here)
    assert nextsteps.is_signed_in(None, configured(tmp_path, client_secret="s"))
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "tokens.enc").write_bytes(b"x")
    assert nextsteps.is_signed_in(here, here)


@pytest.mark.parametrize(
    "before", [None, {"user": "other@contoso.com"}, {"client_id": "22222222-2222-3333-4444-555555555555"}]
)
def test_a_sign_in_of_another_account_or_registration_is_none(tmp_path, before):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "tokens.enc").write_bytes(b"x")
    old = None if before is None else configured(tmp_path, **before)
    assert not nextsteps.is_signed_in(old, configured(tmp_path))
