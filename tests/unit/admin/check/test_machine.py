"""This machine: files and who may read them, the disk, the log, the clock."""

import dataclasses
import errno
import json
import os
import shlex
import subprocess
import sys

import pytest
from cases import each

from m365proxy.admin.check import accesslists, machine
from m365proxy.admin.check.subject import Subject
from m365proxy.admin.terminal import Mark
from m365proxy.config import load
from m365proxy.errors import CannotCreate, ConfigError
from m365proxy.system import files

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes of files")


def lines(test, config, **about):
    return list(test(Subject(config, **about)))


@pytest.fixture
def private(config, tmp_path):
    """An installation as it should be; a config, its directory and what is in it."""
    (tmp_path / "config.json").chmod(0o640)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    for name in ("tokens.enc", "token.key"):
        (state / name).write_text("secret")
        (state / name).chmod(0o600)
    return config


def test_the_config_and_what_is_doubtful_in_it(config, tmp_path):
    line = lines(machine.config, config)[0]
    assert (line.mark, line.sentence) == (Mark.OK, str(tmp_path / "config.json"))
    doubtful = dataclasses.replace(config, warnings=("It is odd. Change it.",))
    assert [(one.mark, one.remedy) for one in lines(machine.config, doubtful)][1:] == [(Mark.ATTENTION, "Change it.")]


def test_a_file_of_certificates_that_cannot_be_read_is_the_configs_fault(config):
    with pytest.raises(ConfigError, match="ca_file"):
        lines(machine.config, dataclasses.replace(config, ca_file="/nowhere.pem"))


@posix
def test_rights_as_they_should_be(private):
    (line,) = lines(machine.rights, private)
    assert line.mark is Mark.OK


@posix
@pytest.mark.parametrize(
    "name, mode, command",
    [
        ("state", 0o755, "chmod go-rwx"),
        ("state/tokens.enc", 0o640, "chmod go-rwx"),
        ("state/token.key", 0o604, "chmod go-rwx"),
        ("config.json", 0o646, "chmod o-w"),
        ("key with blanks.pem", 0o644, "chmod o-rwx"),
    ],
)
def test_what_others_may_read_or_change_and_the_command_that_ends_it(private, tmp_path, name, mode, command):
    (tmp_path / "key with blanks.pem").write_text("key")
    (tmp_path / "key with blanks.pem").chmod(0o600)
    tls = dataclasses.replace(private.tls, tls_key=str(tmp_path / "key with blanks.pem"))
    config = dataclasses.replace(private, tls=tls)
    (tmp_path / name).chmod(mode)
    (line,) = lines(machine.rights, config)
    assert line.mark is Mark.ATTENTION and str(tmp_path / name) in line.sentence
    assert line.remedy == f"Run `{command} {shlex.quote(str(tmp_path / name))}`."
    subprocess.run(line.remedy[len("Run `") : -len("`.")], shell=True, check=True)
    assert [one.mark for one in lines(machine.rights, config)] == [Mark.OK]


@posix
def test_a_file_of_somebody_else_among_the_programs(private, tmp_path, monkeypatch):
    real = os.scandir

    class Entry:
        def __init__(self, entry):
            self.name, self.path, self._entry = entry.name, entry.path, entry

        def stat(self, follow_symlinks):
            found = list(self._entry.stat(follow_symlinks=follow_symlinks))
            found[4] += self.name in ("token.key", "lost+found")  # st_uid
            return os.stat_result(found)

    (tmp_path / "state" / "lost+found").mkdir()
    monkeypatch.setattr(machine.os, "scandir", lambda path: map(Entry, real(path)))
    (line,) = lines(machine.rights, private)
    assert (line.mark, line.exit_status) == (Mark.WRONG, 73)
    assert str(tmp_path / "state" / "token.key") in line.sentence
    assert "`chown -R " in line.remedy and line.remedy.endswith(f"{tmp_path / 'state'}`")
    (tmp_path / "state" / "token.key").unlink()
    assert [one.mark for one in lines(machine.rights, private)] == [Mark.OK]


@posix
def test_a_state_directory_that_is_closed_to_this_user(private, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(machine.os, "scandir", refuse)
    (line,) = lines(machine.rights, private)
    assert (line.mark, line.exit_status) == (Mark.WRONG, 73)
    assert line.sentence.startswith(f"{tmp_path / 'state'} cannot be read by ")
    assert line.remedy == f"Run `chmod 700 {tmp_path / 'state'}`."
    monkeypatch.setattr(machine.os, "geteuid", lambda: os.stat(tmp_path).st_uid + 1)
    (line,) = lines(machine.rights, private)
    assert line.remedy == "Run the command as root or as the user the service runs as."


@posix
def test_a_file_that_the_running_program_replaces_meanwhile(private, tmp_path, monkeypatch):
    (tmp_path / "state" / "status.json.1.a.tmp").write_text("{}")
    real = os.scandir

    def scan(path):
        with real(path) as entries:
            found = list(entries)
        (tmp_path / "state" / "status.json.1.a.tmp").rename(tmp_path / "state" / "status.json")
        return iter(found)

    monkeypatch.setattr(machine.os, "scandir", scan)
    assert [line.mark for line in lines(machine.rights, private)] == [Mark.OK]


@posix
def test_a_config_that_only_root_can_read(private, tmp_path, monkeypatch):
    path = str(tmp_path / "config.json")
    monkeypatch.setattr(machine.os, "access", lambda name, mode: name != path)
    (line,) = lines(machine.rights, private)
    assert line.mark is Mark.ATTENTION and "can neither start nor reload" in line.sentence
    assert "`chgrp " in line.remedy and f"`chmod 640 {path}`" in line.remedy


def test_on_windows_access_lists_are_looked_at(private, tmp_path, monkeypatch):
    monkeypatch.setattr(machine.sys, "platform", "win32")
    monkeypatch.setattr(accesslists.accesslist, "text_of", {str(tmp_path / "state"): "D:(A;;FA;;;WD)"}.get)
    monkeypatch.setattr(accesslists, "_places", lambda subject: [subject.config.state_dir])
    (line,) = lines(machine.rights, private)
    assert line.mark is Mark.ATTENTION and "Everyone" in line.sentence


def test_room_on_the_disk(private, tmp_path, monkeypatch):
    (line,) = lines(machine.disk, private)
    assert line.mark is Mark.OK and "is writable" in line.sentence
    assert sorted(os.listdir(tmp_path / "state")) == ["token.key", "tokens.enc"]  # the probe is gone
    monkeypatch.setattr(files, "free_bytes", lambda path: 63 * 1024 * 1024)
    (line,) = lines(machine.disk, private)
    assert (line.mark, line.exit_status) == (Mark.WRONG, 74) and "Only 63 MB" in line.sentence
    monkeypatch.setattr(files, "free_bytes", lambda path: 64 * 1024 * 1024)
    monkeypatch.setattr(files, "free_inodes", lambda path: 7)
    (line,) = lines(machine.disk, private)
    assert (line.mark, line.exit_status) == (Mark.WRONG, 74) and "Only 7 more files" in line.sentence


@pytest.mark.parametrize(
    "number, words, remedy",
    [
        (errno.ENOSPC, "no space left on device", "`du -xh -d1 "),
        (errno.EIO, "input/output error", "`dmesg`"),
        (errno.EROFS, "read-only file system", "`dmesg`"),
    ],
)
def test_a_disk_that_takes_no_file(private, monkeypatch, number, words, remedy):
    def refuse(path, content):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "replace", refuse)
    (line,) = lines(machine.disk, private)
    assert (line.mark, line.exit_status) == (Mark.WRONG, 74)
    assert line.sentence == f"No file can be written in {private.state_dir}: {words}." and remedy in line.remedy


def test_a_state_directory_of_somebody_else(private, monkeypatch):
    def refuse(path, content):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(files, "replace", refuse)
    with pytest.raises(PermissionError):
        lines(machine.disk, private)
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    with pytest.raises(CannotCreate, match="who must own it"):
        lines(machine.disk, private)


def test_a_state_directory_that_is_not_there_yet_is_not_made(config, tmp_path):
    (line,) = lines(machine.disk, dataclasses.replace(config, state_dir=str(tmp_path / "a" / "b")))
    assert line.mark is Mark.OK and "is made at the first start" in line.sentence
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    for name in ("file", "file/b"):
        with pytest.raises(CannotCreate, match=r"file is a file\. Move it away"):
            lines(machine.disk, dataclasses.replace(config, state_dir=str(tmp_path / name)))


def test_a_state_directory_that_cannot_be_made_by_this_user(config, tmp_path, monkeypatch):
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    with pytest.raises(CannotCreate, match="cannot create it. Run the command as root or as the user the service"):
        lines(machine.disk, dataclasses.replace(config, state_dir=str(tmp_path / "a")))


def test_the_log(config, tmp_path):
    (line,) = lines(machine.log_file, config)
    assert line.sentence == "goes to standard error"
    logging = dataclasses.replace(config.logging, file=str(tmp_path / "log"))
    (line,) = lines(machine.log_file, dataclasses.replace(config, logging=logging))
    assert line.sentence == f"{tmp_path / 'log'} is writable"


def test_a_clock_that_nobody_set(config, monkeypatch):
    assert lines(machine.clock, config) == []
    monkeypatch.setattr(machine.time, "time", lambda: 86400.0)
    monkeypatch.setattr(machine.time, "gmtime", lambda: (1970, 1, 2, 0, 0, 0, 4, 2, 0))
    (line,) = lines(machine.clock, config)
    assert line.mark is Mark.ATTENTION and "1970-01-02" in line.sentence


@each(
    "tools, remedy",
    [
        (["chronyc", "timedatectl"], "Let it be set by NTP: `timedatectl set-ntp true`"),
        (["ntpd"], "Let it be set by NTP: `ntpd -n -q -p pool.ntp.org`"),
        (["w32tm"], "Let it be set by NTP: `w32tm /resync`"),
        ([], "Set it, or use NTP."),
    ],
)
def test_the_clock_is_set_by_what_this_machine_has(tools, remedy):
    assert machine.set_clock(tools) == remedy


def test_a_config_with_secrets_that_all_may_read_is_a_line(tmp_path):
    if sys.platform == "win32":
        pytest.skip("Windows has no modes of files")
    path = tmp_path / "config.json"
    ids = {"tenant_id": "5f0c8d3a-7f3e-4a52-9a55-0d6a1c6f1b11", "client_id": "5f0c8d3a-7f3e-4a52-9a55-0d6a1c6f1b12"}
    mailboxes = [{"username": "alerts@contoso.com", "password": "plain text of it"}]
    path.write_text(json.dumps({"user": "relay@contoso.com", **ids, "mailboxes": mailboxes, "state_dir": "state"}))
    path.chmod(0o644)
    found = lines(machine.config, load.load(str(path), {}))
    assert f"Run `chmod o-rwx {path}`." in [line.remedy for line in found]


@pytest.mark.parametrize("command", [None, (sys.executable, "-c", "s3cret")])
def test_a_program_for_warnings_that_can_be_run(config, command):
    found = lines(machine.notify, dataclasses.replace(config, notify_command=command))
    assert [line.mark for line in found] == ([Mark.OK] if command else [])
    assert "s3cret" not in str(found)


@pytest.mark.parametrize("command", ["/nowhere/page", os.path.dirname(__file__), __file__, "no-such-program"])
def test_a_program_for_warnings_that_cannot_be_run(config, command):
    (line,) = lines(machine.notify, dataclasses.replace(config, notify_command=(command, "s3cret")))
    assert (line.mark, line.exit_status) == (Mark.WRONG, 78) and "s3cret" not in str(line)
