"""How this program was started, for commands that can be copied."""

import sys

import pytest

from m365proxy.admin import invocation


@pytest.fixture
def at(tmp_path, monkeypatch):
    """Start it as the file of that name; on_path: where the shell looks for programs."""

    def started(name, on_path=False, config="other.json"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path) if on_path else "/nowhere")
        monkeypatch.setattr(sys, "argv", [str(tmp_path / name)])
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
        (tmp_path / "python3").write_text("")
        (tmp_path / "python3").chmod(0o755)
        environ = {"M365PROXY_CONFIG": str(tmp_path / "config.json")}
        return invocation.program(str(tmp_path / config), environ).replace(str(tmp_path), "DIR")

    return started


posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows quotes otherwise, and runs no file without ending")


@posix
@pytest.mark.parametrize(
    "name, on_path, words",
    [
        ("m365proxy", True, "m365proxy"),
        ("m365proxy", False, "DIR/m365proxy"),
        ("m365proxy.py", True, "python3 DIR/m365proxy.py"),
        ("m365proxy.py", False, "DIR/python3 DIR/m365proxy.py"),
        ("a b.py", True, "python3 'DIR/a b.py'"),
        ("__main__.py", True, "python3 -m m365proxy"),
    ],
)
def test_the_program(at, name, on_path, words):
    assert at(name, on_path, "config.json") == words


@posix
def test_the_config_is_named_unless_it_is_found_anyway(at):
    assert at("m365proxy", True, "other.json") == "m365proxy --config DIR/other.json"
    assert at("m365proxy", True, "two words.json") == "m365proxy --config 'DIR/two words.json'"


def test_windows_quotes_only_what_has_blanks_and_by_double_quotes(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["-c"])
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(invocation.configuration.machine, "is_administrator", lambda: True)
    assert invocation.program(r"C:\m365\c.json", {}) == r"m365proxy --config C:\m365\c.json"
    assert invocation.program(r"C:\two words\c.json", {}) == r'm365proxy --config "C:\two words\c.json"'


@pytest.mark.parametrize("on_path, words", [(True, "m365proxy.exe"), (False, "DIR/m365proxy.exe")])
def test_a_program_of_windows_is_started_without_its_ending(at, monkeypatch, tmp_path, on_path, words):
    at("m365proxy.exe", on_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "m365proxy")])
    environ = {"M365PROXY_CONFIG": str(tmp_path / "config.json")}
    said = invocation.program(str(tmp_path / "config.json"), environ).replace(str(tmp_path), "DIR")
    assert said.replace("\\", "/") == words


def test_without_a_file_it_has_its_own_name(at, monkeypatch, tmp_path):
    at("m365proxy")
    monkeypatch.setattr(sys, "argv", ["-c"])
    environ = {"M365PROXY_CONFIG": str(tmp_path / "config.json")}
    assert invocation.program(str(tmp_path / "config.json"), environ) == "m365proxy"
    assert invocation.program("/c.json", {}) == "m365proxy --config /c.json"


def test_a_config_that_is_still_to_be_made_is_named_unless_it_is_made_where_it_is_found(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["-c"])
    monkeypatch.setattr(invocation.configuration.os.path, "exists", lambda path: False)
    new = invocation.configuration.place(None, {})
    assert invocation.program(new, {}) == "m365proxy"
