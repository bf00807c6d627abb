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
LAYERS = """
    errors files log signals interfaces memory notify tls autocert
    values options jsonmistakes checks config
    wire replies junk
    job signsoflife
    words syntax addresses parameters transfer header mime message
    control envelope spool users guard policy
    outbound tokenfile entra registration devicecode oauth refusals outcome body answer slots deadlines graph
    budget routes seen drafts largemail largedrafts delivery report reachability diskretries courier
    housekeeping leftovers
    folders ledger copies item readahead deletion failures substitute fetch holds maildrop
    intake clienthello proxyprotocol arrivals server signin reception smtp pop3 status
    chores daemon diagnosis commands
    sandbox demo
    cli __main__
"""
ORDER = LAYERS.split()
MAY_SEE_THE_SANDBOX = {"demo", "sandbox"}
MAY_READ_THE_CONFIG = {"daemon", "diagnosis", "commands", "demo", "cli"}
# urllib3 comes with requests, whose errors wrap its own.
DEPENDENCIES = {"msal", "requests", "cryptography", "urllib3"}

# The session's thread, the worker thread, the accept thread's last resort, timers and control, and the program itself;
# a look at a message, which may hold anything: a fault there must not keep it from being taken and sent.
BROAD = {
    *("smtp", "pop3", "server", "spool", "reachability", "courier", "chores", "cli"),
    *("intake", "delivery", "message"),
}


def modules():
    """(name, path) of each module; the stand-in tenant counts as one, of several files."""
    flat = [(path.stem, path) for path in PACKAGE.glob("*.py") if path.stem != "__init__"]
    return sorted(flat + [("sandbox", path) for path in (PACKAGE / "sandbox").glob("*.py")])


def own_imports(path):
    """Names of modules of the package that a module imports, anywhere in it."""
    outward = 2 if path.parent != PACKAGE else 1
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == outward:
            if node.module:
                yield node.module.split(".")[0]
            else:
                yield from (alias.name for alias in node.names if (PACKAGE / f"{alias.name}.py").exists())


every_module = pytest.mark.parametrize("name,path", modules(), ids=lambda value: getattr(value, "stem", "in"))


def test_every_module_has_its_place():
    assert sorted({name for name, _ in modules()}) == sorted(ORDER)


@every_module
def test_imports_lead_downward(name, path):
    place = ORDER.index(name)
    upward = [other for other in own_imports(path) if ORDER.index(other) >= place]
    assert not upward


@every_module
def test_only_the_demo_sees_the_sandbox(name, path):
    if name not in MAY_SEE_THE_SANDBOX:
        assert "sandbox" not in own_imports(path)


@every_module
def test_only_the_top_reads_the_config(name, path):
    if name not in MAY_READ_THE_CONFIG:
        assert "config" not in own_imports(path)


@every_module
def test_foreign_imports_are_the_three(name, path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        imported = []
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported = [node.module]
        for one in imported:
            top = one.split(".")[0]
            assert top != "asyncio"
            assert top in DEPENDENCIES or top in _standard(), f"{path.name} imports {one}"


def _standard():
    names = getattr(sys, "stdlib_module_names", None)
    if names is None:  # Python 3.9 cannot tell; 3.13 runs the same test
        pytest.skip("this Python does not list its standard library; the newer ones check it")
    return names


@every_module
def test_broad_excepts_stand_in_the_loops_only(name, path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            kind = getattr(node.type, "id", None) if node.type is not None else "everything"
            reraises = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if kind in ("Exception", "BaseException", "everything") and not reraises:
                assert name in BROAD, f"{path.name}:{node.lineno}"


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
