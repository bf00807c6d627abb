"""A config that is read, changed and written: comments stay, and a file is there whole or not at all."""

import datetime
import errno
import json
import os
import signal
import stat
import sys

import pytest
from cases import each
from configs import HASHED, MINIMAL
from init_harness import comments_of

from m365proxy.admin.init import configfile
from m365proxy.admin.init.configfile import Access, NewFile
from m365proxy.config import sample
from m365proxy.errors import CannotCreate, ConfigError

OWN = Access(-1, -1, 0o600)

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no modes and owners of this kind")

TEXT = """\
{
  "#": "first",
  "#": "second, ü",
  "user": "relay@contoso.com", "#user": {"#": "deep", "#": "deeper"},
  "mailboxes": [{"#": "a", "#": "b", "username": "scanner@contoso.com"}], "queue": {}
}"""


def test_comments_stay_in_their_order_even_with_the_same_name():
    written = configfile.render(configfile.parse(TEXT.encode(), "/c.json"))
    assert comments_of(written) == comments_of(TEXT) and len(comments_of(TEXT)) == 7
    assert json.loads(written) == json.loads(TEXT) and "ü" in written.decode()
    assert configfile.render(configfile.parse(written, "/c.json")) == written


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_windows_editors(encoding):
    assert configfile.parse(TEXT.encode(encoding), "/c.json")["user"] == "relay@contoso.com"


def test_half_a_surrogate_pair_stays():
    content = rb'{"#": "\ud800"}'
    assert comments_of(configfile.render(configfile.parse(content, "/c.json"))) == comments_of(content)


def test_short_lists_are_on_one_line_and_long_ones_are_not():
    document = {"a": [1, 2], "b": ["x" * 60, "y" * 60], "c": [], "d": {}}
    assert configfile.render(document).decode().splitlines() == [
        *("{", '  "a": [1, 2],', '  "b": [', f'    "{"x" * 60}",', f'    "{"y" * 60}"', "  ],"),
        *('  "c": [],', '  "d": {}', "}"),
    ]


@each("content", [b"", b"{", b"[]", b"[" * 100000, b"\xff\xfe\xfa", b'{"a": NaN'])
def test_what_is_no_config_is_a_sentence(content):
    with pytest.raises(ConfigError, match=r"/c\.json"):
        configfile.parse(content, "/c.json")


@pytest.mark.parametrize("content", [b'{"user": 1, "user": 2}', b'{"#": 1, "#": 2, "tls": {"a": 1, "#": 3, "a": 2}}'])
def test_a_key_that_is_there_twice_is_not_lost(content):
    with pytest.raises(ConfigError, match='"(user|a)" is there twice; keep one.'):
        configfile.parse(content, "/c.json")


def test_what_init_wrote_is_known_again():
    document = configfile.parse(TEXT.encode(), "/c.json")
    assert configfile.notes(document) == {} and not configfile.is_as_written(document)
    for _ in range(2):  # the second time in place of the first
        configfile.set_notes(document, {"tenant": "contoso.com"})
    read = configfile.parse(configfile.render(document), "/c.json")
    assert configfile.notes(read)["tenant"] == "contoso.com" and configfile.is_as_written(read)
    assert len(comments_of(configfile.render(read))) == len(comments_of(TEXT)) + 2
    read["smtp_port"] = 26
    assert not configfile.is_as_written(read)


@each(
    "tenant, client, has_ids, name",
    [
        ("contoso.com", MINIMAL["client_id"], True, "contoso.com"),
        (configfile.ZEROS, configfile.ZEROS, False, ""),
        ("contoso.com", configfile.ZEROS, False, "contoso.com"),
        ("contoso.com", None, False, "contoso.com"),
    ],
)
def test_ids_that_are_missing_are_no_mistake(tenant, client, has_ids, name):
    document = {**MINIMAL, "tenant_id": tenant, "client_id": client, "mailboxes": [HASHED]}
    assert configfile.has_ids(document) == has_ids and configfile.tenant_id(document) == name
    assert configfile.loaded(document, "/c.json").user == MINIMAL["user"]
    with pytest.raises(ConfigError, match="smtp_port"):
        configfile.loaded({**document, "smtp_port": -1}, "/c.json")


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_all_files_or_none(tmp_path, monkeypatch):
    path = tmp_path / "c.json"
    path.write_text("old")
    new = [NewFile(str(tmp_path / "script"), b"script", OWN), NewFile(str(path), b"new", OWN)]

    real = configfile.files.sync_file
    synced = []

    def full(file):
        synced.append(file)
        if len(synced) == 3:  # the script, the copy of the config, the config
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file)

    monkeypatch.setattr(configfile.files, "sync_file", full)
    with pytest.raises(OSError, match="No space left on device; nothing was changed") as caught:
        configfile.write(new)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert names(tmp_path) == ["c.json"] and path.read_text() == "old"

    copies = configfile.write(new)
    today = datetime.date.today().isoformat()
    assert copies == [f"{path}.{today}"] and names(tmp_path) == ["c.json", f"c.json.{today}", "script"]
    assert path.read_text() == "new" and (tmp_path / f"c.json.{today}").read_text() == "old"


def test_a_rename_that_fails_leaves_the_old(tmp_path, monkeypatch):
    path = tmp_path / "c.json"
    path.write_text("old")

    def busy(source, target):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(configfile.files, "move", busy)
    with pytest.raises(OSError, match="mount the directory it is in instead"):
        configfile.write([NewFile(str(path), b"new", OWN)])
    assert names(tmp_path) == ["c.json"] and path.read_text() == "old"


def test_files_that_were_written_before_a_rename_failed_are_as_they_were(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in ("new", "changed", "c.json")]
    for path in paths[1:]:
        path.write_text("old")
    real = configfile.files.move

    def busy(source, target):
        if target == str(paths[2]):
            raise OSError(errno.EBUSY, "Device or resource busy")
        real(source, target)

    monkeypatch.setattr(configfile.files, "move", busy)
    with pytest.raises(OSError, match="nothing was changed"):
        configfile.write([NewFile(str(path), b"new", OWN) for path in paths])
    assert names(tmp_path) == ["c.json", "changed"]
    assert [path.read_text() for path in paths[1:]] == ["old", "old"]


def test_secrets_are_masked():
    written = configfile.parse(
        b"""{"client_secret": "S1", "#": "note", "#client_secret": "S2", "status_password": "S3", "smtp_port": 25,
        "https_proxy": "http://user:S4@proxy.contoso.com:3128", "##https_proxy": {"url": "http://u:S5@p",
        "password": "S6"},
        "mailboxes": [{"username": "scanner@contoso.com", "#password": 57, "password": null, "logins": [
        {"login": "a", "password": "S7"}, {"login": "b", "password": "HASH"}]}]}""".replace(
            b"HASH", HASHED["password"].encode()
        ),
        "/c.json",
    )
    shown = configfile.render(configfile.masked(written)).decode()
    assert not [secret for secret in ("S1", "S2", "S3", "S4", "S5", "S6", "S7", "57") if secret in shown]
    for kept in (
        '"note"',
        "http://***@proxy.contoso.com:3128",
        HASHED["password"],
        '"password": null',
        '"smtp_port": 25',
    ):
        assert kept in shown
    of_sample = configfile.parse(sample.sample().encode(), "/c.json")
    assert "Password for devices, best as" in configfile.render(configfile.masked(of_sample)).decode()


def test_what_a_killed_init_left_goes_with_the_next(tmp_path):
    left = ["c.json.12.4de7071fefdf.tmp", "c.json.9999999.1.tmp"]
    others = ["c.json", "c.json.2026-11-29", "c.json.tmp", "other.json.12.4de7071fefdf.tmp", "c.json.12.x.tmp"]
    for name in left + others:
        (tmp_path / name).write_text("k")
    configfile.write([NewFile(str(tmp_path / "c.json"), b"new", OWN, keep=False)])
    assert names(tmp_path) == sorted(others)


@posix
def test_who_owned_the_config_owns_the_new_one_and_its_copy(tmp_path, monkeypatch):
    path = tmp_path / "c.json"
    path.write_text("old")
    owners = []
    monkeypatch.setattr(configfile.os, "fchown", lambda file, user, group: owners.append((user, group)))
    configfile.write([NewFile(str(path), b"new", Access(1001, 1002, 0o640))])
    assert owners == [(1001, 1002)] * 2


@posix
def test_a_copy_is_closed_to_others(tmp_path):
    path = tmp_path / "c.json"
    path.write_text("old")
    (copy,) = configfile.write([NewFile(str(path), b"new", OWN._replace(mode=0o644))])
    assert [stat.S_IMODE(os.stat(one).st_mode) for one in (copy, path)] == [0o640, 0o644]


def test_each_copy_has_a_name_of_its_own(tmp_path):
    path = tmp_path / "c.json"
    path.write_text("0")
    for number in "123":
        configfile.write([NewFile(str(path), number.encode(), OWN)])
    configfile.write([NewFile(str(path), b"4", OWN, keep=False)])
    configfile.write([NewFile(str(path), b"4", OWN)])
    today = datetime.date.today().isoformat()
    copies = {name: (tmp_path / name).read_text() for name in names(tmp_path)}
    assert copies == {"c.json": "4", f"c.json.{today}": "0", f"c.json.{today}.2": "1", f"c.json.{today}.3": "2"}


@posix
def test_modes(tmp_path):
    path = tmp_path / "c.json"
    before = os.umask(0o077)
    try:
        configfile.write([NewFile(str(path), b"new", Access(-1, -1, 0o640))])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert configfile.access_for(str(path)) == (os.getuid(), os.getgid(), 0o640)
    assert configfile.access_for(str(tmp_path / "none")).mode in (0o600, 0o640)


@posix
@pytest.mark.parametrize(
    "gid, mode, group, found",
    [
        (0, 0o644, 77, (77, 0o640)),
        (0, 0o644, None, (0, 0o644)),
        (5, 0o660, 77, (5, 0o660)),
        (0, 0o600, 77, (77, 0o640)),
    ],
)
def test_the_service_may_read_what_root_made(tmp_path, monkeypatch, gid, mode, group, found):
    status = os.stat_result((stat.S_IFREG | mode, 0, 0, 1, 0, gid, 0, 0, 0, 0))
    monkeypatch.setattr(configfile.packaged, "group", lambda: group)
    monkeypatch.setattr(configfile.os, "stat", lambda path: status)
    monkeypatch.setattr(configfile.machine, "is_root", lambda: True)
    assert configfile.access_for("/etc/m365proxy.json") == (0, *found)


@posix
@pytest.mark.parametrize("is_root, mode", [(True, 0o644), (False, 0o640)])
def test_a_users_own_config_is_closed_to_others(tmp_path, monkeypatch, is_root, mode):
    path = tmp_path / "c.json"
    path.write_text("{}")
    path.chmod(0o644)
    monkeypatch.setattr(configfile.packaged, "group", lambda: None)
    monkeypatch.setattr(configfile.machine, "is_root", lambda: is_root)
    assert configfile.access_for(str(path)).mode == mode


@posix
def test_a_new_config_of_root_belongs_to_the_services_group(tmp_path, monkeypatch):
    monkeypatch.setattr(configfile.packaged, "group", lambda: 77)
    assert configfile.access_for(str(tmp_path / "c.json")) == (0, 77, 0o640)


@posix
def test_a_link_stays_one(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "c.json").write_text("old")
    (tmp_path / "c.json").symlink_to(tmp_path / "real" / "c.json")
    configfile.write([NewFile(str(tmp_path / "c.json"), b"new", OWN, keep=False)])
    assert (tmp_path / "c.json").is_symlink() and (tmp_path / "real" / "c.json").read_text() == "new"


def test_what_is_written_survives_a_power_cut(tmp_path, monkeypatch):
    done = []
    for name in ("sync_file", "move", "sync_directory"):
        real = getattr(configfile.files, name)
        monkeypatch.setattr(configfile.files, name, lambda *a, name=name, real=real: (done.append(name), real(*a)))
    configfile.write([NewFile(str(tmp_path / "c.json"), b"new", OWN)])
    assert done == ["sync_file", "move", "sync_directory"]


@posix
def test_a_new_directory_lets_the_services_group_through(tmp_path):
    path = tmp_path / "etc" / "c.json"
    configfile.write([NewFile(str(path), b"new", Access(-1, os.getgid(), 0o640))])
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    own = tmp_path / "home" / "c.json"
    configfile.write([NewFile(str(own), b"new", OWN)])
    assert stat.S_IMODE(own.parent.stat().st_mode) == 0o700


def test_a_directory_that_is_missing_is_made(tmp_path):
    path = tmp_path / "a" / "b" / "c.json"
    configfile.check_writable(str(path), "m365proxy init")
    configfile.write([NewFile(str(path), b"new", OWN)])
    assert path.read_text() == "new"


def test_a_directory_that_may_not_be_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(configfile.os, "access", lambda path, mode: False)
    with pytest.raises(CannotCreate, match="Run `sudo m365proxy init`"):
        configfile.check_writable(str(tmp_path / "c.json"), "m365proxy init")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_ends_the_program_waits(name):
    number, happened = getattr(signal, name), []
    before = signal.signal(number, lambda *_: happened.append("the end"))
    try:
        with configfile.undisturbed():
            os.kill(os.getpid(), number)
            happened.append("all of it")
    finally:
        signal.signal(number, before)
    assert happened == ["all of it", "the end"]
