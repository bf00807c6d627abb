"""Who a command goes on as; tests/e2e/test_owner.py does it."""

import importlib
import os
import sys
import types

import pytest

from m365proxy.admin import owner

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no root")


@pytest.mark.parametrize(
    "user, belongs_to, expected",
    [(0, 1000, 1000), (0, 0, None), (1000, 1000, None), (1000, 0, None)],
)
def test_only_root_becomes_the_owner_of_somebody_elses_directory(monkeypatch, user, belongs_to, expected):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "stat", lambda path: types.SimpleNamespace(st_uid=belongs_to))
    found = owner.owner_to_become("state")
    assert (found and found.st_uid) == expected


def test_a_directory_that_is_not_there_has_no_owner(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert owner.owner_to_become(str(tmp_path / "none")) is None
    (tmp_path / "file").write_text("")
    assert owner.owner_to_become(str(tmp_path / "file" / "none")) is None


def test_everything_is_imported_before_roots_rights_are_given_up(monkeypatch):
    done = []
    monkeypatch.setattr(owner, "owner_to_become", lambda path: types.SimpleNamespace(st_uid=7, st_gid=8))
    monkeypatch.setattr(importlib, "import_module", lambda name: done.append(("import", name)))
    for name in ("setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda value, name=name: done.append((name, value)))
    assert owner.become_owner("state")
    assert [step for step, _ in done[:-3]] == ["import"] * len(owner._IMPORTED_LATER)
    assert done[-3:] == [("setgroups", [8]), ("setgid", 8), ("setuid", 7)]
