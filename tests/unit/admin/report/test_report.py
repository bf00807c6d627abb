"""What needs no sockets; with a config that can be used it is in tests/e2e/test_report.py."""

import errno
import io
import os
import sys

import pytest

from m365proxy.admin.report import report
from m365proxy.errors import CannotCreate


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "config.json"
    path.write_text('{"user": "relay@contoso.com", "smtp_prot": "hunter2"}')
    return path


def test_a_broken_config_says_what_is_wrong_without_its_values(config):
    text = report.compose(str(config), {})
    assert '"smtp_prot": "<text>"' in text and "smtp_prot is not a known option; did you mean smtp_port?" in text
    assert "hunter2" not in text and "contoso" not in text and str(config.parent) not in text


def test_an_error_in_one_section_costs_that_section(config, monkeypatch):
    monkeypatch.setattr(report.machine, "versions", lambda pseudonyms: 1 / 0)
    text = report.compose(str(config), {})
    assert "An error in this program (ZeroDivisionError) kept the rest from being shown." in text
    assert "== Last errors ==\n\nThere are none in the event log." in text


def test_a_file_is_written_at_the_end_and_never_over_another(config, capsys):
    path = config.parent / "out.txt"
    report.report(str(config), str(path), {})
    shown = capsys.readouterr()
    assert path.read_text() == shown.out and shown.err == f"Written to {path}.\n"
    with pytest.raises(CannotCreate, match="is there already"):
        report.report(str(config), str(path), {})
    assert path.read_text() == shown.out


def test_a_file_that_cannot_be_made(config):
    with pytest.raises(CannotCreate, match="--output"):
        report.report(str(config), str(config.parent / "nowhere" / "out.txt"), {})


def test_a_full_disk_leaves_no_file(config, monkeypatch):
    class Full(io.BytesIO):
        def write(self, octets):
            raise OSError(errno.ENOSPC, "No space left on device")

    path = config.parent / "out.txt"
    monkeypatch.setattr(report.files, "create", lambda name: path.touch() or Full())
    with pytest.raises(
        CannotCreate, match="out.txt cannot be written: No space left on device. Name another"
    ) as failure:
        report.report(str(config), str(path), {})
    assert failure.value.exit_status == 74 and not path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no modes there")
def test_the_file_is_private(config, capsys):
    report.report(str(config), str(config.parent / "out.txt"), {})
    assert os.stat(config.parent / "out.txt").st_mode & 0o777 == 0o600


def test_what_fails_leaves_no_file(config, monkeypatch):
    def fail(explicit, environ):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "compose", fail)
    with pytest.raises(KeyboardInterrupt):
        report.report(str(config), str(config.parent / "out.txt"), {})
    assert not (config.parent / "out.txt").exists()
