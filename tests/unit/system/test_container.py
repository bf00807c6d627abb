import sys

import pytest

from m365proxy.system import container


@pytest.mark.parametrize(
    "files, environ, found",
    [([], {}, False), (["/.dockerenv"], {}, True), ([], {"KUBERNETES_SERVICE_HOST": "192.0.2.1"}, True)],
)
def test_signs_of_a_container(monkeypatch, files, environ, found):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(container.os.path, "exists", files.__contains__)
    assert container.is_container() == found


@pytest.mark.skipif(sys.platform == "win32", reason="there is no root")
@pytest.mark.parametrize("user", [0, 5525])
def test_root(monkeypatch, user):
    monkeypatch.setattr(container.os, "geteuid", lambda: user)
    assert container.is_root() == (user == 0)
