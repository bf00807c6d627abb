"""The house rules a program can check: layers, dependencies, versions, words."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

import m365proxy

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "m365proxy"

# Each module may import only modules that stand before it.
ORDER = """
    errors files log tls
    values options checks config
    wire replies
    words syntax addresses header mime message
    control spool users
    outbound tokenfile oauth outcome graph
    delivery courier folders maildrop
    server smtp pop3 status
    daemon diagnosis commands
    faults letter tenant entra sandbox demo
    cli __main__
""".split()
BESIDE = {"sandbox", "tenant", "entra", "faults", "letter"}
MAY_SEE_THE_SANDBOX = BESIDE | {"demo"}
MAY_READ_THE_CONFIG = {"daemon", "diagnosis", "commands", "demo", "cli"}
DEPENDENCIES = {"msal", "requests", "cryptography", "urllib3"}
# urllib3 comes with requests, whose errors wrap its own.

# The session's thread, the worker thread, the accept thread's last resort, and the program itself.
BROAD = {"smtp", "pop3", "server", "courier", "cli"}


def modules():
    return sorted(path for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def own_imports(path):
    """Names of modules of the package that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.module:
                yield node.module.split(".")[0]
            else:
                yield from (alias.name for alias in node.names if (PACKAGE / f"{alias.name}.py").exists())


def test_every_module_has_its_place():
    assert sorted(path.stem for path in modules()) == sorted(ORDER)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_imports_lead_downward(path):
    place = ORDER.index(path.stem)
    upward = [name for name in own_imports(path) if ORDER.index(name) >= place]
    assert not upward


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_only_the_demo_sees_the_sandbox(path):
    if path.stem not in MAY_SEE_THE_SANDBOX:
        assert not BESIDE & set(own_imports(path))


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_only_the_top_reads_the_config(path):
    if path.stem not in MAY_READ_THE_CONFIG:
        assert "config" not in own_imports(path)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_foreign_imports_are_the_three(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for name in names:
            top = name.split(".")[0]
            assert top != "asyncio"
            assert top in DEPENDENCIES or top in _standard(), f"{path.name} imports {name}"


def _standard():
    names = getattr(sys, "stdlib_module_names", None)
    if names is None:  # Python 3.9 cannot tell; 3.13 runs the same test
        pytest.skip("this Python does not list its standard library; the newer ones check it")
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_broad_excepts_stand_in_the_loops_only(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            kind = getattr(node.type, "id", None) if node.type is not None else "everything"
            reraises = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if kind in ("Exception", "BaseException", "everything") and not reraises:
                assert path.stem in BROAD, f"{path.name}:{node.lineno}"


def test_one_version():
    said = subprocess.run(
        [sys.executable, str(ROOT / "setup.py"), "--version"], capture_output=True, text=True, cwd=ROOT
    ).stdout.split()
    assert said[-1:] == [m365proxy.__version__]
    assert f"## {m365proxy.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_starting_imports_nothing_heavy():
    """The way to listening: msal, requests and cryptography load later."""
    code = "import sys, m365proxy.daemon; print(sorted({'msal', 'requests', 'cryptography'} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert said.stdout.strip() == "[]", said.stderr


def test_readme_is_short_and_names_no_machine():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 100
    assert not re.search(r"/w[o]rk/|index-url", "\n".join(lines))
