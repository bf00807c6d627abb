"""The command line: what is said, and with which exit status it ends, whatever is wrong."""

import errno
import io
import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest
from configs import configured

from m365proxy import cli

ROOT = pathlib.Path(__file__).resolve().parents[2]


def child(code, *words, stdin=b"", **environ):
    """The program in a Python of its own, after `code`."""
    program = textwrap.dedent(code) + "\nfrom m365proxy import cli\nsys.exit(cli.main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", "import sys\n" + program, *words],
        input=stdin,
        capture_output=True,
        timeout=60,
        env=dict(os.environ, PYTHONPATH=str(ROOT), **environ),
    )


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--config", "/x"],
        ["run", "--config=/x"],
        ["check", "--json", "--config", "/x"],
        ["queue", "--config", "/x", "list"],
        ["queue", "list", "--config", "/x"],
    ],
)
def test_a_config_behind_the_command_is_refused_with_its_place(words, capsys):
    assert cli.main(words) == 64
    assert f"--config goes before the command: `m365proxy --config PATH {words[0]}`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "missing,advice",
    [
        ("_ssl", "choose Repair" if sys.platform == "win32" else "apt install python3"),
        ("msal", "pip install msal" if sys.platform == "win32" else "python3-msal"),
        ("cryptography", "pip install"),
    ],
)
def test_a_missing_module_is_one_sentence(missing, advice, tmp_path):
    done = child(f"sys.modules[{missing!r}] = None", "demo", HOME=str(tmp_path))
    assert done.returncode == 69
    assert missing in done.stderr.decode() and advice in done.stderr.decode() and b"Traceback" not in done.stderr


def test_a_broken_library_is_one_sentence(tmp_path):
    (tmp_path / "cryptography.py").write_text("raise ImportError('libffi.so.7: cannot open', name='_cffi_backend')")
    done = child(f"sys.path.insert(0, {str(tmp_path)!r})", "demo", HOME=str(tmp_path))
    assert done.returncode == 69 and b"Traceback" not in done.stderr
    assert "_cffi_backend cannot be loaded (libffi.so.7: cannot open)" in done.stderr.decode()


@pytest.mark.parametrize("environ", [{"PYTHONUTF8": "1"}, {"PYTHONIOENCODING": "utf-8:surrogateescape"}])
def test_a_password_that_is_no_text(environ):
    done = child("", "hash-password", stdin=b"gr\xfcn\n", **environ)
    assert done.returncode == 64 and "UTF-8" in done.stderr.decode()


def test_a_password_where_nothing_can_be_read():
    done = child("sys.stdin = None", "hash-password")
    assert done.returncode == 64 and "empty password" in done.stderr.decode()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("words, status", [(["cheque"], 64), (["--config", "/nowhere", "check"], 78)])
def test_an_error_that_cannot_be_written_has_the_exit_status_all_the_same(words, status):
    done = child("import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 2)", *words)
    assert done.returncode == status


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_for_the_output_is_one_sentence():
    code = "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)"
    done = child(code, "hash-password", stdin=b"a password", PYTHONUNBUFFERED="")
    assert done.returncode == 74
    assert done.stderr.splitlines() == [b"m365proxy: Standard output: No space left on device."]


def test_a_service_with_a_config_nested_too_deep_ends_once(tmp_path):
    (tmp_path / "config.json").write_text("[" * 100000)
    done = child("", "--config", str(tmp_path / "config.json"), "run", "--wait")
    assert done.returncode == 78 and "nested too deep" in done.stderr.decode()


@pytest.mark.parametrize("environ", [{}, {"M365PROXY_KEY": "no key"}])
def test_the_demo_looks_at_no_key_of_its_user(environ, tmp_path):
    done = child("", "demo", HOME=str(tmp_path), **environ)
    assert done.returncode == 0, done.stderr.decode()


def test_check_of_a_broken_config_is_one_object_of_json(tmp_path, capsys):
    path = tmp_path / "config.json"
    path.write_text('{"tenant_id": 1}')
    assert cli.main(["--config", str(path), "check", "--json"]) == 78
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False and told["exit_status"] == 78
    assert {"group", "mark", "name", "sentence", "remedy", "exit_status"} == set(told["checks"][0])
    assert any("client_id" in check["sentence"] for check in told["checks"])


def test_the_demo_needs_no_name_to_be_resolved(tmp_path):
    done = child(
        """
        import socket
        real = socket.getaddrinfo
        def numbers_only(host, *rest, **more):
            if host == "localhost":
                raise socket.gaierror(-3, "Temporary failure in name resolution")
            return real(host, *rest, **more)
        socket.getaddrinfo = numbers_only
    """,
        "demo",
        HOME=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("command", ["reload", "status"])
def test_where_nothing_runs_the_exit_status_is_3(tmp_path, capsys, command):
    config = {
        "user": "a@contoso.com",
        "tenant_id": "contoso.com",
        "client_id": "11111111-2222-3333-4444-555555555555",
        "mailboxes": [{"username": "a@contoso.com", "password": "x y z"}],
        "state_dir": str(tmp_path / "state"),
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert cli.main(["--config", str(tmp_path / "config.json"), command]) == 3
    said = capsys.readouterr()
    assert "not running" in said.err + said.out


@pytest.mark.parametrize("number, status", [("ENOSPC", 74), ("EIO", 74), ("EROFS", 74), ("EACCES", 73), ("ENOENT", 73)])
def test_what_the_disk_refuses_is_one_sentence_and_its_status(monkeypatch, capsys, number, status):
    def refuse(arguments):
        raise OSError(getattr(errno, number), "what the system says", "/var/lib/m365proxy/x")

    monkeypatch.setattr(cli, "_commands", lambda: {"reload": refuse})
    assert cli.main(["reload"]) == status
    advice = " Run the command as root or as the user the service runs as." if number == "EACCES" else ""
    assert capsys.readouterr().err == f"m365proxy: /var/lib/m365proxy/x: what the system says.{advice}\n"


class _Stdin(io.StringIO):
    def __init__(self, text, terminal):
        super().__init__(text)
        self.isatty = lambda: terminal


@pytest.mark.parametrize(
    "stdin, password",
    [
        (_Stdin("größe \r\nmore\n", False), "größe "),
        (_Stdin("", False), ""),
        (None, ""),  # started with it closed
        (_Stdin("not read", True), "typed for mfp"),
    ],
)
def test_a_devices_password_is_typed_unseen_or_piped(monkeypatch, stdin, password):
    monkeypatch.setattr(cli.sys, "stdin", stdin)
    prompts = {"Password of mfp: ": "typed for mfp"}
    monkeypatch.setattr(cli.getpass, "getpass", prompts.__getitem__)
    assert cli._ask_password_of("mfp") == password


@pytest.mark.parametrize("words", [["hash-password"], ["test", "--ask-password"]])
def test_the_end_of_the_input_at_a_password_is_no_password(monkeypatch, capsys, tmp_path, words):
    """Ctrl-D at the prompt."""

    def end(prompt):
        raise EOFError

    monkeypatch.setattr(cli.sys, "stdin", _Stdin("", True))
    monkeypatch.setattr(cli.getpass, "getpass", end)
    monkeypatch.setattr("m365proxy.admin.testmail.trial.is_running", lambda config: True)
    monkeypatch.setattr(cli, "_config", lambda *_, **__: configured(tmp_path))
    assert cli.main(words) == 64
    assert "An empty password cannot be used." in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--from", "--to", "--login"])
def test_an_option_without_a_word_is_not_taken_for_none(capsys, option):
    """As `--to "$ADDRESS"` of a script is, if the variable is not set."""
    assert cli.main(["test", option, ""]) == 64
    assert f"Argument {option}: it is empty." in capsys.readouterr().err
