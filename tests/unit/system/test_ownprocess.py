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


ANSWERS = "import sys; print(sys.stdin.read()[::-1])"


@pytest.fixture
def standing_in(monkeypatch):
    """The process runs this code instead; at the end none is left."""
    begun = []

    class Seen(subprocess.Popen):
        def __init__(self, *words, **more):
            super().__init__(*words, **more)
            begun.append(self)

    monkeypatch.setattr(subprocess, "Popen", Seen)
    yield lambda code: monkeypatch.setattr(ownprocess, "command", lambda word: [sys.executable, "-c", code])
    assert begun and all(process.returncode is not None for process in begun)


def test_it_answers_a_question(standing_in):
    standing_in(ANSWERS)
    assert ownprocess.ask("word", b"abc", 60.0).strip() == b"cba"


def test_it_does_not_know_the_key_of_the_sign_in(standing_in, monkeypatch):
    monkeypatch.setenv("M365PROXY_KEY", "secret")
    standing_in("import os; print(sorted(os.environ))")
    assert b"M365PROXY_KEY" not in ownprocess.ask("word", b"", 60.0)


@pytest.mark.parametrize("code", ["import sys; sys.exit(1)", "import os; os.kill(os.getpid(), 9)"])
def test_it_fails(standing_in, code):
    standing_in(code)
    with pytest.raises(OSError, match="the process for word has failed"):
        ownprocess.ask("word", b"", 60.0)


def test_it_is_killed_if_it_hangs(standing_in):
    standing_in("import time; time.sleep(600)")
    with pytest.raises(OSError, match="timed out"):
        ownprocess.ask("word", b"", 0.1)


def test_it_cannot_be_started(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    command = ownprocess.command("word")
    with pytest.raises(FileNotFoundError):
        subprocess.run(command)
    with pytest.raises(FileNotFoundError):
        ownprocess.ask("word", b"", 60.0)
