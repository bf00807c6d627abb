"""What is known of the packaged service: which config is whose, and what it may read."""

import os
import sys

import pytest

from m365proxy.admin import packaged


@pytest.mark.parametrize(
    "path, group, unit",
    [
        ("/etc/m365proxy.json", 77, "m365proxy"),
        ("/etc/m365proxy/contoso.json", 77, "m365proxy@contoso"),
        ("/etc/m365proxy/contoso", 77, ""),
        ("/srv/m365proxy.json", 77, ""),
        ("/etc/m365proxy.json", None, ""),
    ],
)
def test_the_service_of_a_config(monkeypatch, path, group, unit):
    monkeypatch.setattr(packaged, "group", lambda: group)
    assert packaged.unit_of(path) == unit


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such users")
@pytest.mark.parametrize("user, is_service", [(None, False), (0, True), (1, False)])
def test_whether_this_is_the_service(monkeypatch, user, is_service):
    monkeypatch.setattr(packaged, "_user", lambda: None if user is None else os.geteuid() + user)
    assert packaged.is_service() is is_service


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such users")
@pytest.mark.parametrize(
    "directory, file, is_user, is_group, closed",
    [
        (0o755, 0o644, False, False, []),
        (0o700, 0o644, False, False, ["keys"]),
        (0o700, 0o600, False, False, ["keys", "key.pem"]),
        (0o750, 0o640, False, True, []),
        (0o740, 0o604, False, True, ["keys", "key.pem"]),
        (0o711, 0o640, False, False, ["key.pem"]),
        (0o700, 0o400, True, False, []),
        (0o700, 0o077, True, True, ["key.pem"]),
    ],
)
def test_what_the_service_cannot_read(tmp_path, monkeypatch, directory, file, is_user, is_group, closed):
    path = tmp_path / "keys" / "key.pem"
    path.parent.mkdir()
    path.write_text("")
    path.chmod(file)
    path.parent.chmod(directory)
    (tmp_path / "link.pem").symlink_to(path)
    monkeypatch.setattr(packaged, "group", lambda: os.getgid() if is_group else 7777)
    monkeypatch.setattr(packaged, "_user", lambda: os.getuid() if is_user else 7777)
    monkeypatch.setattr(packaged, "_directories", lambda path: [os.path.dirname(path)])  # pytest closes those above
    try:
        found = packaged.obstacles(str(tmp_path / "link.pem"), str(path))
    finally:
        path.parent.chmod(0o755)
    assert [os.path.basename(place) for place in found] == closed


def test_all_directories_of_a_path_are_looked_at():
    assert list(packaged._directories(os.path.join(os.sep, "a", "b", "c"))) == [
        *(os.sep, os.path.join(os.sep, "a"), os.path.join(os.sep, "a", "b"))
    ]


def test_without_the_service_nothing_is_known(monkeypatch):
    monkeypatch.setattr(packaged, "group", lambda: None)
    assert packaged.obstacles("/nowhere") == []
    monkeypatch.setattr(packaged, "group", lambda: 7777)
    monkeypatch.setattr(packaged, "_user", lambda: 7777)
    nowhere = os.path.abspath(os.path.join(os.sep, "nowhere"))
    assert packaged.obstacles(nowhere) == [nowhere]
