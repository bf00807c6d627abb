"""Who a command goes on as; tests/e2e/test_owner.py does it."""

import ast
import importlib
import importlib.util
import os
import pathlib
import subprocess
import sys
import types

import pytest

import m365proxy
from m365proxy.admin import owner
from m365proxy.errors import CannotCreate

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


def test_a_root_without_rights_is_told_whom_to_run_as(monkeypatch):
    """In a container without capabilities."""

    def refuse(value):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(owner, "owner_to_become", lambda path: types.SimpleNamespace(st_uid=5525, st_gid=5525))
    monkeypatch.setattr(os, "setgroups", refuse)
    with pytest.raises(CannotCreate, match="belongs to the user 5525.*as that user.*-u 5525"):
        owner.become_owner("state")


PACKAGE = pathlib.Path(m365proxy.__file__).parent


def imports_of_windows(tree):
    """The imports below `if sys.platform == "win32":`."""
    branches = (node for node in ast.walk(tree) if isinstance(node, ast.If))
    windows = (branch for branch in branches if ast.unparse(branch.test) == "sys.platform == 'win32'")
    statements = (statement for branch in windows for statement in branch.body)
    return (
        node
        for statement in statements
        for node in ast.walk(statement)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    )


def imported_in_functions():
    """(module, what it imports when a function is called) for all that runs after the owner was become."""
    for path in sorted(PACKAGE.rglob("*.py")):
        folder = path.relative_to(PACKAGE.parent).parent
        if "sandbox" in folder.parts or path.name == "cli.py":
            continue  # the demo becomes nobody; the command line imports what becomes the owner
        tree = ast.parse(path.read_text("utf-8"))
        functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
        of_windows = set(imports_of_windows(tree))
        for node in (inner for function in functions for inner in ast.walk(function)):
            if node in of_windows:
                continue  # nobody becomes an owner there
            if isinstance(node, ast.Import):
                yield from ((path.name, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), ".".join(folder.parts))
                names = [f"{base}.{alias.name}" for alias in node.names]
                modules = [
                    name for name in names if PACKAGE.parent.joinpath(*name.split(".")).with_suffix(".py").is_file()
                ]
                yield from ((path.name, name) for name in modules or [base])


def test_nothing_is_left_to_import_for_the_owner():
    """Who cannot read the program's folder could not import it any more."""
    script = (
        "import importlib, sys; from m365proxy.admin import owner\n"
        "for name in owner._IMPORTED_LATER: importlib.import_module(name)\n"
        "print(*sys.modules)"
    )
    environ = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    loaded = subprocess.run([sys.executable, "-c", script], env=environ, check=True, capture_output=True, text=True)
    missing = {pair for pair in imported_in_functions() if pair[1] not in loaded.stdout.split()}
    assert missing == set()
