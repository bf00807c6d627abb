"""docs/internals.md names folders, modules, tables and threads as the code has them."""

import pathlib
import re

import pytest
from test_house import MAY_IMPORT, PACKAGE, ROOT

TEXT = (ROOT / "docs" / "internals.md").read_text("utf-8")


def section(title):
    return TEXT.partition(f"\n{title}\n")[2].partition("\n#")[0]


def rows(title):
    """The cells of each row of a section's table, below its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def path_of(name):
    return ROOT / name if name.startswith(("tests/", "docs/")) else PACKAGE / name


def test_the_map_says_what_each_folder_may_import():
    said = {folder.strip("`"): set(others.split()) for folder, _, others in rows("## The map")}
    assert said == {folder: set(others.split()) for folder, others in MAY_IMPORT.items()}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w/]+\.(?:py|md))`", TEXT))))
def test_files_exist(name):
    assert path_of(name).is_file()


def test_the_tables_to_add_to_exist():
    for _, where, _ in rows("### Where to add"):
        text = "".join(path_of(name).read_text("utf-8") for name in re.findall(r"`([\w/]+\.py)`", where))
        for name in re.findall(r"`(\w+)`", where):
            assert re.search(rf"\b{name}\b", text), name


def test_threads_have_the_names_of_the_table():
    code = "".join(path.read_text("utf-8") for path in pathlib.Path(PACKAGE).rglob("*.py"))
    names = [name for cell, *_ in rows("## Threads") for name in re.findall(r"`([^`A-Z]+)`", cell)]
    assert len(names) > 5
    for name in names:
        assert f'"{name}"' in code, name
