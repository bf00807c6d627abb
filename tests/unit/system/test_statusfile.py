"""status.json, as the running program writes it and the commands read it."""

import os
import stat

import pytest

from m365proxy.system import files, statusfile

STATUS = {"pid": 77, "mailboxes": {"alerts@contoso.com": {"last_error": "Größe"}}}


def test_the_last_status_is_read(tmp_path):
    for status in ({"pid": 1}, STATUS):
        statusfile.write(str(tmp_path), status)
    assert statusfile.read(str(tmp_path)) == STATUS
    assert os.listdir(tmp_path) == ["status.json"]
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "status.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [None, b"", b'{"pid": ', b"[]", b"77", b'"{}"', b"null", b"\xff\xfe", b'{"a":' * 200_000],
    ids=lambda content: repr(content and content[:10]),
)
def test_no_file_and_a_damaged_one_are_no_status(tmp_path, content):
    if content is not None:
        (tmp_path / "status.json").write_bytes(content)
    assert statusfile.read(str(tmp_path)) == {}


def test_it_is_not_synced(tmp_path, monkeypatch):
    """Every few seconds it would wear out the flash memory of a small device."""
    synced = []
    monkeypatch.setattr(files, "sync_file", synced.append)
    monkeypatch.setattr(files, "sync_directory", synced.append)
    statusfile.write(str(tmp_path), STATUS)
    assert synced == []
