"""The completion of bash, made from the parser and tried in a bash."""

import argparse
import pathlib
import shutil
import subprocess
import sys

import pytest

from m365proxy import cli

ROOT = pathlib.Path(__file__).resolve().parents[2]
BASH = shutil.which("bash")

if BASH is None:
    pytest.skip("bash is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    directory = tmp_path_factory.mktemp("completion")
    subprocess.run(
        [sys.executable, str(ROOT / "debian" / "completion.py"), str(directory)],
        env={"PYTHONPATH": str(ROOT)},
        check=True,
    )
    return directory / "m365proxy"


ASK = """
source "$1" && shift
COMP_WORDS=(m365proxy "$@") COMP_CWORD=$#
complete -p m365proxy >/dev/null && _m365proxy
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(script, *words, cwd=None):
    """What bash offers for the last of the words."""
    done = subprocess.run(
        [BASH, "--norc", "-uc", ASK, "bash", str(script), *words], capture_output=True, text=True, cwd=cwd
    )
    assert done.stderr == ""
    return done.stdout.split()


def parsers(parser=None, names=()):
    """(names, parser) of everything that is followed by something."""
    parser = parser or cli.parser()
    yield names, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield from parsers(sub, (*names, name))


def test_every_command_is_offered(script):
    assert sorted(completed(script, "")) == sorted(cli.COMMANDS)


@pytest.mark.parametrize("names", [names for names, _ in parsers()], ids=" ".join)
def test_every_option_is_offered(script, names):
    parser = dict(parsers())[names]
    options = {word for action in parser._actions for word in action.option_strings if word.startswith("--")}
    assert set(completed(script, *names, "--")) == options


@pytest.mark.parametrize(
    "words, offered",
    [
        (["st"], ["status"]),
        (["--conf"], ["--config"]),
        (["--config", "/etc/m365proxy.json", "sta"], ["status"]),
        (["--config", "=", "/etc/m365proxy.json", "sta"], ["status"]),
        (["queue", ""], ["list", "show", "retry", "drop"]),
        (["queue", "retry", ""], ["all"]),
        (["queue", "show", ""], []),
        (["status", ""], []),
        (["status", "--j"], ["--json"]),
        (["no-command", ""], list(cli.COMMANDS)),
    ],
)
def test_what_is_offered(script, words, offered):
    assert sorted(completed(script, *words)) == sorted(offered)


@pytest.mark.parametrize("words", [["--config"], ["--config", "="]])
def test_files_are_offered_where_a_file_is_meant(script, tmp_path, words):
    for name in ("one.json", "other.json"):
        (tmp_path / name).touch()
    assert sorted(completed(script, *words, "o", cwd=tmp_path)) == ["one.json", "other.json"]
    if words[-1] == "=":
        assert completed(script, *words, cwd=tmp_path) != []


def test_values_of_options_and_files_as_operands(tmp_path):
    """Of a parser that has what ours may get."""
    sys.path.insert(0, str(ROOT / "debian"))
    try:
        import completion
    finally:
        sys.path.remove(str(ROOT / "debian"))
    parser = argparse.ArgumentParser(prog="m365proxy")
    init = parser.add_subparsers().add_parser("init", aliases=["configure"])
    init.add_argument("--answers", metavar="FILE")
    init.add_argument("--tls", choices=["auto", "own"])
    init.add_argument("--mailbox", metavar="ADDRESS")
    init.add_argument("--hidden", help=argparse.SUPPRESS)
    init.add_argument("target", metavar="PATH", nargs="?")
    made = tmp_path / "m365proxy"
    made.write_text(completion.script(parser))
    assert sorted(completed(made, "")) == ["configure", "init"]
    assert completed(made, "configure", "--tls", "a") == ["auto"]
    assert completed(made, "init", "--mailbox", "") == []
    assert completed(made, "init", "--answers", "m3", cwd=tmp_path) == ["m365proxy"]
    assert completed(made, "init", "--mailbox", "x", "m3", cwd=tmp_path) == ["m365proxy"]
    assert completed(made, "init", "--mailbox", "--t") == ["--tls"]
    assert completed(made, "init", "--hid") == []
