"""The stored sign-in: encrypted, whole at every instant, and never overwritten by an older one."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import subprocess
import sys

import pytest
from cases import each
from cryptography.fernet import Fernet

from m365proxy.entra.tokenfile import KeyUnusable, TokenFile, TokenFileDamaged, merge
from m365proxy.errors import CannotCreate, SignInNeeded
from m365proxy.system import files

USER, TENANT = "relay@contoso.com", "5f0c8d3a-7f3e-4a52-9a55-0d6a1c6f1b11"


def cache(refresh="rt", stamp=100, **entries):
    """msal's cache with one refresh token, and further ones by their key."""
    tokens = {"r": {"secret": refresh, "last_modification_time": str(stamp)}}
    tokens.update({key: {"secret": value, "last_modification_time": str(stamp)} for key, value in entries.items()})
    return json.dumps({"RefreshToken": tokens, "Account": {"a": {"username": USER}}})


def refresh_token(stored, key="r"):
    return json.loads(stored.cache)["RefreshToken"][key]["secret"]


@pytest.fixture
def directory(tmp_path):
    return str(tmp_path)


@pytest.fixture
def file(directory):
    return TokenFile(directory, {})


def names(directory):
    return sorted(os.listdir(directory))


# Storing and reading


def test_nothing_there(file, directory):
    assert file.load() is None and file.identity() is None and file.remove() is False
    assert names(directory) == []


def test_whether_it_is_newer(file):
    assert not file.is_newer(0.0)
    file.sign_in("relay@contoso.com", "t", "{}", 5.0)
    os.utime(file.path, (1000.5, 1000.5))
    assert file.is_newer(1000.25) and not file.is_newer(1000.75)


def test_round_trip(file, directory):
    stored = file.sign_in(USER, TENANT, cache("S3cret"), 1234.5)
    again = TokenFile(directory, {}).load()
    assert again == stored
    assert (again.user, again.tenant, again.signed_in_at, refresh_token(again)) == (USER, TENANT, 1234.5, "S3cret")
    assert names(directory) == ["token.key", "tokens.enc", "tokens.lock"]


@pytest.mark.skipif(sys.platform == "win32", reason="no POSIX modes")
def test_only_the_owner_can_read(file, directory):
    file.sign_in(USER, TENANT, cache(), 0)
    assert {stat.S_IMODE(os.stat(os.path.join(directory, name)).st_mode) for name in names(directory)} == {0o600}


def test_nothing_readable_on_disk(file, directory):
    file.sign_in(USER, TENANT, cache("S3cret"), 0)
    content = b"".join(open_bytes(os.path.join(directory, name)) for name in names(directory))
    assert b"S3cret" not in content and USER.encode() not in content


def open_bytes(path):
    with open(path, "rb") as handle:
        return handle.read()


def test_secrets_do_not_show(file):
    assert "S3cret" not in repr(file.sign_in(USER, TENANT, cache("S3cret"), 0)) + repr(file)


def test_generation_rises_by_one(file):
    first = file.sign_in(USER, TENANT, cache(), 0).generation
    assert file.sign_in(USER, TENANT, cache(), 0).generation == first + 1


def test_generation_is_another_after_a_logout(file):
    before = {file.sign_in(USER, TENANT, cache(), 0).generation}
    file.remove()
    assert file.sign_in(USER, TENANT, cache(), 0).generation not in before


def test_remove_keeps_the_key(file, directory):
    file.sign_in(USER, TENANT, cache(), 0)
    key = open_bytes(os.path.join(directory, "token.key"))
    assert file.remove() is True
    assert file.load() is None
    file.sign_in(USER, TENANT, cache(), 0)
    assert open_bytes(os.path.join(directory, "token.key")) == key


def test_identity_tells_a_change_by_others(file, directory):
    file.sign_in(USER, TENANT, cache(), 0)
    seen = file.identity()
    assert file.identity() == seen
    TokenFile(directory, {}).sign_in(USER, TENANT, cache(), 0)
    changed = file.identity()
    assert changed != seen
    file.remove()
    assert file.identity() is None


# Where the key comes from


def keys(tmp_path, place, key):
    """An environment with the key in that place."""
    if place == "M365PROXY_KEY":
        return {"M365PROXY_KEY": key.decode()}
    (tmp_path / "credentials").mkdir(exist_ok=True)
    (tmp_path / "credentials" / "m365proxy.key").write_bytes(key + b"\n")
    return {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}


@pytest.mark.parametrize("place", ["M365PROXY_KEY", "credential"])
def test_key_from_outside(tmp_path, place):
    directory = tmp_path / "state"
    directory.mkdir()
    environ = keys(tmp_path, place, Fernet.generate_key())
    TokenFile(str(directory), environ).sign_in(USER, TENANT, cache("S3cret"), 0)
    assert names(str(directory)) == ["tokens.enc", "tokens.lock"]
    assert refresh_token(TokenFile(str(directory), environ).load()) == "S3cret"
    with pytest.raises(TokenFileDamaged, match="token.key is missing"):
        TokenFile(str(directory), {}).load()


def test_variable_comes_before_credential_before_file(tmp_path):
    directory = str(tmp_path)
    key = Fernet.generate_key()
    both = {**keys(tmp_path, "credential", Fernet.generate_key()), **keys(tmp_path, "M365PROXY_KEY", key)}
    TokenFile(directory, {}).sign_in(USER, TENANT, cache(), 0)  # makes token.key
    TokenFile(directory, both).sign_in(USER, TENANT, cache("by variable"), 0)
    assert refresh_token(TokenFile(directory, {"M365PROXY_KEY": key.decode()}).load()) == "by variable"
    credential = {"CREDENTIALS_DIRECTORY": both["CREDENTIALS_DIRECTORY"]}
    with pytest.raises(TokenFileDamaged, match="with the credential"):
        TokenFile(directory, credential).load()
    TokenFile(directory, credential).sign_in(USER, TENANT, cache("by credential"), 0)
    assert refresh_token(TokenFile(directory, credential).load()) == "by credential"
    with pytest.raises(TokenFileDamaged, match="with .*token.key"):
        TokenFile(directory, {}).load()


@pytest.mark.parametrize("place", ["M365PROXY_KEY", "credential"])
def test_sign_in_without_the_services_key_is_told(tmp_path, place):
    """The key is set for the service only, and `login` made one of its own."""
    TokenFile(str(tmp_path), {}).sign_in(USER, TENANT, cache(), 0)
    with pytest.raises(TokenFileDamaged) as caught:
        TokenFile(str(tmp_path), keys(tmp_path, place, Fernet.generate_key())).load()
    assert "was encrypted with" in str(caught.value) and "token.key, but the key here is" in str(caught.value)
    assert place in str(caught.value) and "systemd-run" in str(caught.value)


@pytest.mark.parametrize("place", ["M365PROXY_KEY", "credential"])
@pytest.mark.parametrize("own", [False, True])
def test_command_without_the_services_key_is_told(tmp_path, place, own):
    """The other way round: a command that has not got the key of the service."""
    if own:
        TokenFile(str(tmp_path), {}).sign_in(USER, TENANT, cache(), 0)
    TokenFile(str(tmp_path), keys(tmp_path, place, Fernet.generate_key())).sign_in(USER, TENANT, cache(), 0)
    with pytest.raises(TokenFileDamaged, match="If the service has its key from .*M365PROXY_KEY or a systemd cred"):
        TokenFile(str(tmp_path), {}).load()


@pytest.mark.parametrize("place", ["M365PROXY_KEY", "credential"])
def test_key_from_outside_that_is_none(tmp_path, place):
    file = TokenFile(str(tmp_path), {})
    file.sign_in(USER, TENANT, cache("kept"), 0)
    wrong = TokenFile(str(tmp_path), keys(tmp_path, place, b"S3cret"))
    for use in (wrong.load, lambda: wrong.sign_in(USER, TENANT, cache("new"), 0)):
        with pytest.raises(KeyUnusable, match="is not a key") as caught:
            use()
        assert caught.value.exit_status == 78 and "S3cret" not in str(caught.value)
    assert refresh_token(file.load()) == "kept"


def test_credentials_directory_without_our_key(tmp_path):
    (tmp_path / "credentials").mkdir()
    file = TokenFile(str(tmp_path), {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")})
    file.sign_in(USER, TENANT, cache(), 0)
    assert (tmp_path / "token.key").exists() and file.load() is not None


# Damage


def damage_content(path):
    content = open_bytes(path)
    files.replace(path, content[:-8] + b"AAAAAAA=")


DAMAGES = {
    "tampered": lambda d: damage_content(os.path.join(d, "tokens.enc")),
    "garbage": lambda d: files.replace(os.path.join(d, "tokens.enc"), b"\xff\x00garbage"),
    "empty": lambda d: files.replace(os.path.join(d, "tokens.enc"), b""),
    "key missing": lambda d: os.unlink(os.path.join(d, "token.key")),
    "key exchanged": lambda d: files.replace(os.path.join(d, "token.key"), Fernet.generate_key()),
    "key garbage": lambda d: files.replace(os.path.join(d, "token.key"), b"garbage"),
    "key empty": lambda d: files.replace(os.path.join(d, "token.key"), b""),
    "newer format": lambda d: files.replace(
        os.path.join(d, "tokens.enc"),
        Fernet(open_bytes(os.path.join(d, "token.key"))).encrypt(b'{"version": 2, "more": 1}'),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_told_and_kept_until_the_next_sign_in(file, directory, damage):
    stored = file.sign_in(USER, TENANT, cache(), 0)
    DAMAGES[damage](directory)
    bad = open_bytes(file.path)
    for use in (file.load, lambda: file.refreshed(stored, cache("new"))):
        with pytest.raises(TokenFileDamaged) as caught:
            use()
        assert "`m365proxy login`" in str(caught.value) and "tokens.enc.bad" in str(caught.value)
        assert caught.value.exit_status == 77
        assert open_bytes(file.path) == bad
    file.sign_in(USER, TENANT, cache("new"), 0)
    assert refresh_token(file.load()) == "new"
    assert open_bytes(file.path + ".bad") == bad


def test_damaged_file_can_be_removed(file, directory):
    file.sign_in(USER, TENANT, cache(), 0)
    DAMAGES["garbage"](directory)
    assert file.remove() is True and file.load() is None


def test_unreadable_file_is_not_damaged(file, monkeypatch):
    file.sign_in(USER, TENANT, cache(), 0)

    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(files, "read", refuse)
    for use in (file.load, lambda: file.sign_in(USER, TENANT, cache("new"), 0)):
        with pytest.raises(SignInNeeded, match="cannot be read: Permission denied") as caught:
            use()
        assert not isinstance(caught.value, TokenFileDamaged)
    monkeypatch.undo()
    assert refresh_token(file.load()) == "rt"


# What a refresh may store


def test_refresh_is_stored(file):
    base = file.sign_in(USER, TENANT, cache("old"), 7.0)
    stored = file.refreshed(base, cache("new", 200))
    assert refresh_token(file.load()) == "new"
    assert stored == file.load() and (stored.generation, stored.signed_in_at) == (base.generation, 7.0)


def test_refresh_of_an_older_sign_in_is_dropped(file, directory):
    base = file.sign_in(USER, TENANT, cache("old"), 0)
    TokenFile(directory, {}).sign_in(USER, TENANT, cache("signed in meanwhile", 100), 0)
    current = file.refreshed(base, cache("late", 999))
    assert refresh_token(current) == refresh_token(file.load()) == "signed in meanwhile"


def test_refresh_after_a_logout_is_dropped(file, directory):
    base = file.sign_in(USER, TENANT, cache("old"), 0)
    file.remove()
    assert file.refreshed(base, cache("late", 999)) is None
    assert file.load() is None and "tokens.enc" not in names(directory)


def test_two_refreshes_of_one_sign_in_lose_nothing(file, directory):
    base = file.sign_in(USER, TENANT, cache("old", 100), 0)
    other = TokenFile(directory, {})
    other.refreshed(base, cache("theirs", 200, x="only theirs"))
    stored = file.refreshed(base, cache("ours", 300, y="only ours"))
    assert [refresh_token(stored, key) for key in "rxy"] == ["ours", "only theirs", "only ours"]
    late = other.refreshed(base, cache("too late", 250))
    assert refresh_token(late) == "ours"


MERGES = {
    # name: (base, ours, theirs, merged) as {key: (secret, stamp)}
    "only ours changed": ({"k": ("a", 1)}, {"k": ("b", 2)}, {"k": ("a", 1)}, {"k": "b"}),
    "only theirs changed": ({"k": ("a", 1)}, {"k": ("a", 1)}, {"k": ("b", 2)}, {"k": "b"}),
    "only ours changed, by a clock set back": ({"k": ("a", 9)}, {"k": ("b", 2)}, {"k": ("a", 9)}, {"k": "b"}),
    "only theirs changed, by a clock set back": ({"k": ("a", 9)}, {"k": ("a", 9)}, {"k": ("b", 2)}, {"k": "b"}),
    "both changed, ours younger": ({"k": ("a", 1)}, {"k": ("b", 3)}, {"k": ("c", 2)}, {"k": "b"}),
    "both changed, theirs younger": ({"k": ("a", 1)}, {"k": ("b", 2)}, {"k": ("c", 3)}, {"k": "c"}),
    "new of ours": ({}, {"k": ("a", 1)}, {}, {"k": "a"}),
    "new of theirs": ({}, {}, {"k": ("a", 1)}, {"k": "a"}),
    "gone in ours": ({"k": ("a", 1)}, {}, {"k": ("a", 1)}, {}),
    "gone in theirs": ({"k": ("a", 1)}, {"k": ("a", 1)}, {}, {}),
    "gone in ours, changed in theirs": ({"k": ("a", 1)}, {}, {"k": ("b", 2)}, {"k": "b"}),
    "gone in theirs, changed in ours": ({"k": ("a", 1)}, {"k": ("b", 2)}, {}, {"k": "b"}),
}


@each("field", ["last_modification_time", "cached_at"])
@each("name", MERGES)
def test_merge(name, field):
    base, ours, theirs, merged = MERGES[name]

    def section(entries):
        return {"T": {key: {"secret": secret, field: str(stamp)} for key, (secret, stamp) in entries.items()}}

    result = merge(section(base), section(ours), section(theirs))
    assert {key: entry["secret"] for key, entry in result["T"].items()} == merged


# Trouble while writing


STEPS = ("create", "sync_file", "move", "sync_directory")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("what", ["sign in", "refresh"])
def test_disk_trouble_leaves_the_old_sign_in(file, directory, monkeypatch, step, what):
    base = file.sign_in(USER, TENANT, cache("old"), 0)

    def fail(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, step, fail)
    if what == "sign in":
        with pytest.raises(CannotCreate, match="No space left") as caught:
            file.sign_in(USER, TENANT, cache("new"), 0)
        assert caught.value.exit_status == 74
    else:
        with pytest.raises(OSError, match="No space left"):
            file.refreshed(base, cache("new", 200))
    monkeypatch.undo()
    # A failed sync of the directory comes after the rename: the new content is whole too.
    assert refresh_token(file.load()) == ("new" if step == "sync_directory" else "old")
    assert names(directory) == ["token.key", "tokens.enc", "tokens.lock"]


KILLED = """
import os, sys
from m365proxy.system import files
from m365proxy.entra.tokenfile import TokenFile
step, directory, cache = sys.argv[1:]
name, when = step.split()
whole = getattr(files, name)
def last(*args, **more):
    if when == "after":
        whole(*args, **more)
    os._exit(9)
setattr(files, name, last)
TokenFile(directory, {}).sign_in("relay@contoso.com", "t", cache, 1.0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the child inherits nothing there")
@pytest.mark.parametrize("before", ["signed in", "nobody", "damaged"])
@pytest.mark.parametrize("step", [f"{name} {when}" for name in STEPS for when in ("before", "after")])
def test_killed_at_any_step(file, directory, step, before):
    if before != "nobody":
        file.sign_in(USER, TENANT, cache("old"), 0)
    if before == "damaged":
        DAMAGES["garbage"](directory)
    run = subprocess.run([sys.executable, "-c", KILLED, step, directory, cache("new")], check=False)
    assert run.returncode == 9
    try:
        found = file.load()
    except TokenFileDamaged:
        assert before == "damaged"
    else:
        allowed = {"signed in": ("old", "new"), "nobody": (None, "new"), "damaged": (None, "new")}[before]
        assert (refresh_token(found) if found else None) in allowed
    # Whatever was left, signing in works.
    file.sign_in(USER, TENANT, cache("newer"), 0)
    assert refresh_token(file.load()) == "newer"


def refresh_in_child(directory, key, start):
    file = TokenFile(directory, {})
    base = file.load()
    start.wait()
    for number in range(10):
        file.refreshed(base, cache("shared", 100, **{f"{key}{number}": "x"}))


def test_processes_at_the_same_time(file, directory):
    file.sign_in(USER, TENANT, cache("shared"), 0)
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    children = [context.Process(target=refresh_in_child, args=(directory, key, start)) for key in "abc"]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    found = set(json.loads(file.load().cache)["RefreshToken"])
    assert found == {"r"} | {f"{key}{number}" for key in "abc" for number in range(10)}
    assert names(directory) == ["token.key", "tokens.enc", "tokens.lock"]


def test_import_is_light():
    code = "import sys, m365proxy.entra.tokenfile; print([m for m in ('cryptography', 'msal') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
