"""The config as it is and as it will be: samples, what somebody typed, and what init wrote before."""

import json
import stat
import sys

import pytest
from cases import each
from configs import HASHED, MINIMAL
from init_harness import CLIENT, IDS, TENANT

from m365proxy.admin.init import appkey, installation
from m365proxy.admin.init.amendment import ZEROS
from m365proxy.admin.init.installation import Installation
from m365proxy.admin.init.tenantscript import parse_ids
from m365proxy.config import sample
from m365proxy.errors import CannotCreate, ConfigError
from m365proxy.logins import passwords


@pytest.fixture(scope="module")
def _key():
    return appkey.make("m365proxy")


@pytest.fixture(autouse=True)
def _made(monkeypatch, _key):
    """Hashes and keys are not made again: that takes long."""
    monkeypatch.setattr(passwords, "hash_password", lambda password: HASHED["password"])
    monkeypatch.setattr(appkey, "make", lambda name: _key)


ZERO_IDS = {"tenant_id": ZEROS, "client_id": ZEROS}


def opened(document, path="/nowhere/config.json"):
    return Installation(path, document if isinstance(document, bytes) else json.dumps(document).encode())


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"smtp_port": 26},
        {**MINIMAL, **ZERO_IDS, "mailboxes": [{"username": "x@contoso.com", "password": "`m365proxy hash-password`"}]},
        sample.sample().encode(),
    ],
)
def test_a_sample_answers_nothing_and_keeps_the_rest(document):
    found = opened(document)
    assert found.present is None and not found.document.get("mailboxes")
    if isinstance(document, dict) and "smtp_port" in document:
        assert found.before.smtp_port == 26 and found.document["smtp_port"] == 26


@each(
    "changes, tenant, account",
    [
        ({}, "contoso.com", "relay@contoso.com"),
        (ZERO_IDS, "", "relay@contoso.com"),
        ({"client_id": ZEROS}, "contoso.com", "relay@contoso.com"),
        ({**ZERO_IDS, "#init": {"tenant": "contoso.de", "new": ["a@contoso.de"]}}, "contoso.de", "relay@contoso.com"),
        ({**ZERO_IDS, "#init": {"tenant": [], "new": "x"}}, "", "relay@contoso.com"),
        ({**ZERO_IDS, "user": None}, "", ""),
    ],
)
def test_what_somebody_typed_are_answers(changes, tenant, account):
    document = {**MINIMAL, "mailboxes": [HASHED], **changes}
    found = opened({key: value for key, value in document.items() if value is not None})
    assert (found.present.tenant, found.present.account) == (tenant, account)
    assert found.present.mailboxes == ("scanner@contoso.com",) and found.has_ids == (changes == {})


def test_the_service_waits_as_long_as_one_id_is_missing():
    found = opened({**MINIMAL, "client_id": ZEROS, "mailboxes": [HASHED]})
    found.amend(found.present)
    assert found.finish().user == "relay@contoso.com"
    assert {key: found.document[key] for key in ZERO_IDS} == ZERO_IDS
    again = opened(installation.configfile.render(found.document))
    assert again.present.tenant == "contoso.com"


def test_a_config_with_mistakes_is_not_changed():
    with pytest.raises(ConfigError, match="smtp_prot"):
        opened({**MINIMAL, "smtp_prot": 25})


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError

    monkeypatch.setattr(installation.files, "read", refuse)
    with pytest.raises(CannotCreate, match="Run `sudo m365proxy init`"):
        Installation.read("/etc/m365proxy.json", "m365proxy init")


def answered(found, **changes):
    """Taken over and finished: what a first run leads to, with some answers changed."""
    present = opened({**MINIMAL, "mailboxes": [HASHED]}).present
    found.amend(present._replace(**{"new": frozenset(["scanner@contoso.com"]), **changes}))
    return found.finish()


def test_a_config_that_was_open_is_closed_with_its_first_passwords(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text('{"cloud": "usgov-high"}')
    path.chmod(0o644)
    monkeypatch.setattr(installation.configfile.machine, "is_root", lambda: True)
    found = opened(path.read_bytes(), str(path))
    answered(found)
    assert found.files()[-1].access.mode & 0o007 == 0


def test_new_files_of_an_account(tmp_path):
    found = opened({}, str(tmp_path / "config.json"))
    loaded = answered(found)
    assert loaded.user == "relay@contoso.com" and found.passwords.keys() == {"scanner@contoso.com"}
    script, config = found.files()
    assert (script.path, config.path) == (str(tmp_path / "config-tenant.ps1"), str(tmp_path / "config.json"))
    assert "'scanner@contoso.com'; New = $true" in script.content.decode()
    password = found.passwords["scanner@contoso.com"]
    assert password not in config.content.decode() and b"scrypt$16384$" in config.content and config.keep
    found.set_ids(parse_ids(IDS))
    found.finish()
    written = json.loads(found.files()[-1].content)
    assert (written["tenant_id"], written["client_id"], found.has_ids) == (TENANT, CLIENT, True)
    again = opened(found.files()[-1].content, str(tmp_path / "config.json"))
    assert again.present.new == {"scanner@contoso.com"} and again.present.tenant == "contoso.com"
    assert answered(again) and again.passwords == {} and not again.files()[-1].keep


def test_new_files_of_an_application(tmp_path):
    found = opened({}, str(tmp_path / "config.json"))
    loaded = answered(found, app_only=True, account="")
    assert loaded.user is None and loaded.client_secret_expires is not None
    assert loaded.client_certificate.private_key == str(tmp_path / "config-app.pem")
    files = {file.path.rpartition("config")[2]: file for file in found.files()}
    assert list(files) == ["-app.pem", "-app.crt", "-tenant.ps1", ".json"]
    assert files["-app.pem"].is_secret and files["-app.pem"].access.mode & 0o007 == 0
    assert loaded.client_certificate.thumbprint in files["-tenant.ps1"].content.decode()
    for file in files.values():
        (tmp_path / file.path).write_bytes(file.content)
    again = opened(files[".json"].content, str(tmp_path / "config.json"))
    answered(again, app_only=True, account="", mailboxes=("scanner@contoso.com", "alerts@contoso.com"))
    assert [file.path.rpartition("config")[2] for file in again.files()] == ["-tenant.ps1", ".json"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes of this kind")
def test_the_applications_key_is_closed_even_if_the_config_is_open(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**MINIMAL, "mailboxes": [HASHED]}))
    path.chmod(0o644)
    monkeypatch.setattr(installation.configfile.machine, "is_root", lambda: True)  # whose service may read it so
    found = Installation.read(str(path), "init")
    answered(found, app_only=True, account="")
    found.write()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "config-app.pem").stat().st_mode) & 0o007 == 0
    assert (tmp_path / "config-app.pem").read_bytes() == appkey.make("m365proxy").key


def test_an_application_with_a_secret_of_somebody_else_needs_no_script(tmp_path):
    found = opened({**MINIMAL, "user": None, "client_secret": "s", "mailboxes": [HASHED]}, str(tmp_path / "c.json"))
    answered(found, app_only=True, account="")
    assert [file.path for file in found.files()] == [str(tmp_path / "c.json")]


def test_a_script_that_somebody_changed_is_kept(tmp_path):
    found = opened({}, str(tmp_path / "config.json"))
    answered(found)
    for file in found.files():
        (tmp_path / file.path).write_bytes(file.content)
    again = Installation.read(found.path, "init")
    answered(again, mailboxes=("scanner@contoso.com", "alerts@contoso.com"))
    assert [file.keep for file in again.files()] == [False, False]
    (tmp_path / "config-tenant.ps1").write_text("mine")
    assert [file.keep for file in again.files()] == [True, False]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no packaged service")
@pytest.mark.parametrize(
    "path, group, openwrt, places",
    [
        ("/etc/m365proxy.json", 77, False, {"state_dir": "/var/lib/m365proxy"}),
        ("/etc/m365proxy/contoso.json", 77, False, {"state_dir": "/var/lib/m365proxy/contoso"}),
        ("/etc/m365proxy.json", None, False, {}),
        ("/srv/m365proxy.json", 77, False, {}),
        (
            "/etc/m365proxy.json",
            None,
            True,
            {"state_dir": "/etc/m365proxy", "queue": {"min_free_mb": 4}, "receivers": 0},
        ),
    ],
)
def test_the_service_and_commands_have_one_state_directory(monkeypatch, path, group, openwrt, places):
    monkeypatch.setattr(installation.packaged, "group", lambda: group)
    monkeypatch.setattr(installation.machine, "is_openwrt", lambda: openwrt)
    found = opened({}, path)
    answered(found)
    assert {key: found.document[key] for key in ("state_dir", "queue", "receivers") if key in found.document} == places


def test_on_windows_state_and_log_are_beside_the_config(monkeypatch):
    monkeypatch.setattr(installation.sys, "platform", "win32")
    assert installation._places("/m365proxy/config.json") == {
        "state_dir": "state",
        "logging": {"file": "m365proxy.log"},
    }
    assert installation._places(installation.os.path.expanduser("~/.m365proxy/config.json")) == {}
