import sys

import pytest

from m365proxy.system import machine


@pytest.mark.parametrize(
    "files, environ, found",
    [([], {}, False), (["/.dockerenv"], {}, True), ([], {"KUBERNETES_SERVICE_HOST": "192.0.2.1"}, True)],
)
def test_signs_of_a_container(monkeypatch, files, environ, found):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(machine.os.path, "exists", files.__contains__)
    assert machine.is_container() == found


@pytest.mark.parametrize("files, found", [([], False), (["/etc/openwrt_release"], True)])
def test_a_router(monkeypatch, files, found):
    monkeypatch.setattr(machine.os.path, "exists", files.__contains__)
    assert machine.is_openwrt() == found


@pytest.mark.skipif(sys.platform == "win32", reason="there is no root")
@pytest.mark.parametrize("user", [0, 5525])
def test_root(monkeypatch, user):
    monkeypatch.setattr(machine.os, "geteuid", lambda: user)
    assert machine.is_root() == machine.is_administrator() == (user == 0)
