"""Sizes of modules and functions, a test file for each module, and what is at the top level."""

import re
import subprocess

import mutations
import pytest
import sources
from cases import each
from sources import PACKAGE, ROOT

UNIT = ROOT / "tests" / "unit"

LONGEST_MODULE, LONGEST_FUNCTION = 500, 60

# logins/mailboxes, maildrop/user, receivers/words and smtp/policy only list what others need; admin/commands is tested
# with the whole program (e2e/test_commands.py), and system/httpsession through the only module that uses it
# (system/test_outbound.py).
WITHOUT_A_FILE = {
    "admin": "commands",
    "logins": "mailboxes",
    "maildrop": "user",
    "receivers": "words",
    "smtp": "policy",
    "system": "httpsession",
}

# Of no single module.
ACROSS_MODULES = {"delivery/test_backlog.py", "system/test_windows.py"}

TOP_LEVEL = {
    *(".ci", ".editorconfig", ".gitattributes", ".gitignore", ".pre-commit-config.yaml"),
    *("CHANGELOG.md", "LICENSE", "Makefile", "README.md", "m365proxy.py", "mkdocs.yml", "pyproject.toml", "setup.py"),
    *("debian", "docs", "etc", "m365proxy", "tests"),
}


def modules():
    """(path below the package, path) of each module."""
    return [(path.relative_to(PACKAGE).as_posix(), path) for path in sources.paths()]


def test_modules_are_short():
    long = {name for name, path in modules() if len(sources.text(path).splitlines()) > LONGEST_MODULE}
    assert long == set()


def test_functions_are_short():
    long = {
        f"{name}: {function.name}"
        for name, path in modules()
        for function in sources.parsed(path).functions
        if function.last - function.first >= LONGEST_FUNCTION
    }
    assert long == set()


def test_every_module_has_a_file_of_tests():
    """test_NAME.py in the same folder of tests/unit.  The stand-in tenant counts as one module."""
    names = {name[:-3] for name, _ in modules() if not name.startswith("sandbox/") and "__" not in name}
    without = {name for name in names if not _test_of(name).is_file()}
    assert without <= {
        f"{folder}/{name}".lstrip("/") for folder, some in WITHOUT_A_FILE.items() for name in some.split()
    }


def _test_of(name):
    path = UNIT / name
    return path.with_name(f"test_{path.name}.py")


def test_every_file_of_tests_in_a_folder_is_of_a_module():
    """test_NAME.py, or test_NAME_WHAT.py."""
    strays = set()
    for path in UNIT.glob("*/test_*.py"):
        folder, name = PACKAGE / path.parent.name, path.stem[len("test_") :]
        if not any(name == one.stem or name.startswith(one.stem + "_") for one in folder.glob("*.py")):
            strays.add(f"{path.parent.name}/{path.name}")
    assert strays <= ACROSS_MODULES


def test_nothing_new_at_the_top_level():
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no checkout of git")
    assert {name.partition("/")[0] for name in listed.splitlines()} <= TOP_LEVEL


def test_tests_that_the_readme_names_exist():
    table = (ROOT / "tests" / "README.md").read_text("utf-8").partition("| SMTP | test |")[2]
    names = [name for row in table.splitlines() for name in re.findall(r"`([\w./*]+)`", row.rpartition(" | ")[2])]
    assert len(names) > 40
    for name in names:
        pattern = name if "/" in name else f"dialogs/smtp_{name}.txt"
        assert list((ROOT / "tests").glob(pattern)), f"tests/README.md names {name}"


@each("mutation", mutations.MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutations_follow_the_code(mutation):
    assert sources.text(PACKAGE / mutation.file).count(mutation.old) == 1
    assert all((ROOT / path).exists() for path in mutation.tests.split())
