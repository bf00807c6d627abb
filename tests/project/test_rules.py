"""The rules of the project a program can check: layers, dependencies, versions, words."""

import ast
import functools
import re
import subprocess
import sys

import pytest
import sources
from cases import each
from sources import PACKAGE, ROOT

import m365proxy

# What each folder, or module of the top, may import beside itself.  It stands above all of these.
MAY_IMPORT = {
    "errors": "",
    "system": "errors",
    "server": "system errors",
    "mime": "system errors",
    "spool": "system errors",
    "entra": "system errors",
    "graph": "system errors",
    "logins": "mime system errors",
    "delivery": "graph mime spool system errors",
    "maildrop": "graph mime system errors",
    "config": "logins mime system errors",
    "smtp": "logins mime server spool system errors",
    "pop3": "logins maildrop server system errors",
    "monitoring": "server spool system errors",
    "web": "monitoring logins server spool system errors",
    "account": "config monitoring spool entra graph system",
    "daily": "account config delivery server spool system errors",
    "listening": "config smtp pop3 web server system",
    "submission": "config smtp logins mime server spool system",
    "receivers": "account listening submission config server spool system errors",
    "admission": "receivers server smtp system",
    "daemon": "account admission daily receivers listening submission config smtp pop3 web monitoring logins delivery "
    "maildrop server mime spool entra graph system errors",
    "sandbox": "server system",
    "admin": "account daemon sandbox monitoring config logins delivery server mime spool entra graph system errors",
    "cli": "admin daemon config entra server system errors",
    "__main__": "cli",
}
MAY_SEE_THE_SANDBOX = {"admin.demo", "sandbox"}
MAY_READ_THE_CONFIG = {
    *(
        "account",
        "daemon",
        "submission",
        "receivers.receiver",
        "cli",
        "admin.check.mailboxes",
        "admin.commands",
        "admin.init.configfile",
        "admin.demo",
    ),
    *("admin.init.conversation", "admin.invocation", "admin.init.tenantscript", "admin.report.report"),
}
# urllib3 comes with requests, whose errors wrap its own.
DEPENDENCIES = {"msal", "requests", "cryptography", "urllib3"}

# Where every exception is caught, and why.
BROAD = {
    "admin.report.report: _safely": "a report is wanted where something is wrong; one section must not cost the others",
    "cli: main": "the end of the program says what happened, and no more",
    "delivery.composer: prepare": "a message may hold anything; what cannot be repaired is sent as it is",
    "delivery.composer: keep_form": "a message may hold anything; what cannot keep its form is sent as JSON",
    "delivery.composer: take_apart": "a message may hold anything; what cannot be taken apart is sent as one file",
    "delivery.courier: _do_safely": "a worker that ends would leave its mailbox without one",
    "delivery.courier: _attempt": "one message stops no other",
    "delivery.reachability: _ask": "without the next probe nothing would ever be sent again",
    "entra.renewalprocess: answer": "whatever goes wrong in the process, the program that started it gets an answer",
    "mime.prepare: _can_be_written": "a message may hold anything; the one field is left out",
    "server.listener: _accept": "trouble with one client must not shut out all others",
    "server.sessions: _serve": "a session must not take the process along",
    "server.sessions: note_fault": "a log that fails must not keep the connection open",
    "smtp.acceptance: check": "a message may hold anything; a fault in looking at it is no reason to refuse it",
    "smtp.reception: finish": "after the message is on the disk, the client must get its 250",
    "spool.spool: _note": "after the message is on the disk, the client must get its 250",
    "system.events: write": "a fault in noting a step must not pass for one in sending the mail that it is about",
    "system.events: _take": "... and a fault in counting it must not, either",
    "system.log: emit": "what cannot be logged must not stop what was to be logged",
    "system.threads: survive": "a timer that ends would leave its work undone for ever",
}


@functools.lru_cache(None)
def modules():
    """(dotted name below the package, path) of each module; the stand-in tenant counts as one, of several files."""
    found = []
    for path in sources.paths():
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] == "sandbox" or parts[-1] != "__init__":
            found.append(("sandbox" if parts[0] == "sandbox" else ".".join(parts), path))
    return found


@functools.lru_cache(None)
def own_imports(path):
    """Dotted names of modules of the package that a module imports, anywhere in it."""
    return frozenset(_own_imports(path))


def _own_imports(path):
    package = path.relative_to(PACKAGE).parts[:-1]
    for node in sources.parsed(path).imports:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            for alias in node.names:
                name = [part for part in [*base, alias.name] if part]
                if name[0] == "sandbox":
                    if package != ("sandbox",):
                        yield "sandbox"
                    continue
                while name and not PACKAGE.joinpath(*name).with_suffix(".py").exists():
                    name.pop()
                if name:
                    yield ".".join(name)


def test_every_folder_has_its_line():
    assert {name.partition(".")[0] for name, _ in modules()} == set(MAY_IMPORT)


def test_the_lines_lead_downward():
    below = set()
    for folder, others in MAY_IMPORT.items():
        assert set(others.split()) <= below, folder
        below.add(folder)


def test_imports_lead_downward():
    wrong = []
    for name, path in modules():
        folder = name.partition(".")[0]
        imported = {other.partition(".")[0] for other in own_imports(path)} - {folder}
        wrong += [f"{name} imports {other}" for other in sorted(imported - set(MAY_IMPORT[folder].split()))]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    imports = {name: set(own_imports(path)) - {name} for name, path in modules() if name != "sandbox"}
    while imports:
        free = {name for name, others in imports.items() if not others & set(imports)}
        assert free, sorted(imports)
        imports = {name: others for name, others in imports.items() if name not in free}


def test_only_the_demo_sees_the_sandbox():
    seeing = {name for name, path in modules() if "sandbox" in own_imports(path)}
    assert seeing <= MAY_SEE_THE_SANDBOX


def test_only_the_top_reads_the_config():
    reading = {name for name, path in modules() if "config.load" in own_imports(path)}
    assert reading <= MAY_READ_THE_CONFIG


def test_foreign_imports_are_the_three():
    allowed = DEPENDENCIES | _standard() - {"asyncio"}
    wrong = []
    for name, path in modules():
        for node in sources.parsed(path).imports:
            imported = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported = [node.module]
            wrong += [f"{name} imports {one}" for one in imported if one.split(".")[0] not in allowed]
    assert wrong == []


def _standard():
    names = getattr(sys, "stdlib_module_names", None)
    if names is None:  # Python 3.9 cannot tell; 3.13 runs the same test
        pytest.skip("this Python does not list its standard library; the newer ones check it")
    return set(names)


def test_broad_excepts_are_listed_with_their_reason():
    found = {
        f"{name}: {function.name}"
        for name, path in modules()
        for line in sources.parsed(path).catching_all
        for function in sources.parsed(path).functions
        if function.first <= line <= function.last
    }
    assert found == set(BROAD)


def test_one_version():
    said = subprocess.run(
        [sys.executable, str(ROOT / "setup.py"), "--version"], capture_output=True, text=True, cwd=ROOT
    ).stdout.split()
    assert said[-1:] == [m365proxy.__version__]
    assert f"## {m365proxy.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_starting_imports_nothing_heavy():
    """The way to listening: the libraries load later, and HTTP's server only where there is a status port."""
    code = "import sys, m365proxy.daemon; print(sorted(set(sys.argv[1:]) & set(sys.modules)))"
    heavy = ["msal", "requests", "cryptography", "http.server"]
    said = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, cwd=ROOT)
    assert said.stdout.strip() == "[]", said.stderr


def test_readme_is_short_and_names_no_machine():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert len(lines) <= 100
    assert not re.search(r"/w[o]rk/|index-url", "\n".join(lines))


# docs/internals.md names folders, modules, tables and threads as the code has them.

INTERNALS = (ROOT / "docs" / "internals.md").read_text("utf-8")


def rows(title):
    """The cells of each row of the table below a heading of docs/internals.md."""
    section = INTERNALS.partition(f"\n{title}\n")[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def path_of(name):
    return ROOT / name if name.startswith(("tests/", "docs/")) else PACKAGE / name


def test_the_map_says_what_each_folder_may_import():
    said = {folder.strip("`"): set(others.split()) for folder, _, others in rows("## The map")}
    assert said == {folder: set(others.split()) for folder, others in MAY_IMPORT.items()}


@each("name", sorted(set(re.findall(r"`([\w/]+\.(?:py|md))`", INTERNALS))))
def test_files_that_internals_names_exist(name):
    assert path_of(name).is_file(), f"docs/internals.md names {name}"


def test_the_tables_to_add_to_exist():
    for _, where, _ in rows("### Where to add"):
        text = "".join(path_of(name).read_text("utf-8") for name in re.findall(r"`([\w/]+\.py)`", where))
        for name in re.findall(r"`(\w+)`", where):
            assert re.search(rf"\b{name}\b", text), f"docs/internals.md names {name}"


def test_threads_have_the_names_that_internals_lists():
    code = "".join(map(sources.text, sources.paths()))
    names = [name for cell, *_ in rows("## Threads") for name in re.findall(r"`([^`A-Z]+)`", cell)]
    assert len(names) > 5
    for name in names:
        assert f'"{name}"' in code, f"docs/internals.md names a thread {name}"
