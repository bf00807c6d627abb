"""The program starts itself: from a directory and from a single file, wherever the current directory is."""

import json
import os
import subprocess
import sys
import zipfile

import pytest

import m365proxy
from m365proxy.system import ownprocess

# Prints how it was started, whatever the command.
CLI = "import sys, json\ndef main():\n    print(json.dumps(sys.argv[1:]))\n    return 5\n"


def started(directory, command):
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)


def test_it_is_this_program(tmp_path):
    done = started(tmp_path, ownprocess.command("--version"))
    assert done.stdout == f"m365proxy {m365proxy.__version__}\n", done.stderr


def test_modules_are_found_where_this_process_finds_them_and_not_in_the_current_directory(tmp_path, monkeypatch):
    package = tmp_path / "ä b" / "m365proxy"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "cli.py").write_text(CLI)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "json.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.setattr(sys, "path", [str(package.parent), *sys.path])
    done = started(elsewhere, ownprocess.command("word"))
    assert (json.loads(done.stdout), done.returncode) == (["word"], 5), done.stderr


def test_a_single_file_starts_itself(tmp_path, monkeypatch):
    path = tmp_path / "m365proxy.py"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", CLI + "sys.exit(main())")
    monkeypatch.setattr(ownprocess, "_ROOT", str(path))
    assert ownprocess.is_possible()
    done = started(tmp_path, ownprocess.command("word"))
    assert (json.loads(done.stdout), done.returncode) == (["word"], 5), done.stderr


@pytest.mark.parametrize("what", ["executable", "package", "no name"])
def test_what_cannot_be_read_cannot_be_started(tmp_path, monkeypatch, what):
    assert ownprocess.is_possible()
    if what == "package":
        monkeypatch.setattr(ownprocess, "_ROOT", str(tmp_path / "none"))
    else:
        monkeypatch.setattr(sys, "executable", "" if what == "no name" else str(tmp_path / "none"))
    assert not ownprocess.is_possible()


@pytest.mark.skipif(not hasattr(os, "getsid"), reason="Windows has no sessions")
def test_it_gets_no_signal_of_the_terminal():
    code = "import os, sys; sys.exit(os.getsid(0) != os.getpid())"
    assert subprocess.run([sys.executable, "-c", code], **ownprocess.APART).returncode == 0
