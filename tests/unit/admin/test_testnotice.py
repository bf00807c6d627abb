"""`test --notify`: what it says of each way, and its exit status."""

import io

import pytest
from configs import configured

from m365proxy.admin import testnotice
from m365proxy.admin.terminal import Terminal
from m365proxy.errors import Temporary, UsageError
from m365proxy.monitoring import command, webhook

WAYS = {
    "notify": "admin@contoso.com",
    "notify_url": "https://u:s3cret@ntfy.contoso.com/t0ken",
    "notify_command": ["page-admin", "s3cret"],
}


def run(path, **settings):
    """The exit status, and what is printed."""
    out = io.StringIO()
    return testnotice.run(configured(path, **settings), Terminal(out, {"COLUMNS": "500"})), out.getvalue()


def test_it_says_what_to_set_where_nothing_is(tmp_path):
    with pytest.raises(UsageError, match="set notify, notify_url or notify_command"):
        run(tmp_path)


def test_each_way_has_its_line(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise Temporary("ntfy.contoso.com answered 403.")

    monkeypatch.setattr(webhook, "post", refuse)
    monkeypatch.setattr(command, "run", lambda *_arguments: "taken by page-admin")
    status, said = run(tmp_path, **WAYS)
    assert "notify: m365proxy is not running" in said and status == 3
    assert "notify_url: ntfy.contoso.com answered 403." in said and "notify_command: taken by page-admin" in said
    assert "s3cret" not in said and "t0ken" not in said


def test_a_disk_that_fails_keeps_no_other_way_from_being_tried(tmp_path, monkeypatch):
    def fail(*_arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(testnotice, "is_running", lambda config: True)
    monkeypatch.setattr(testnotice, "latest_status", fail)
    monkeypatch.setattr(command, "run", lambda *_arguments: "taken by page-admin")
    status, said = run(tmp_path, **{**WAYS, "notify_url": None})
    assert "notify: Input/output error" in said and "notify_command: taken by page-admin" in said and status == 69


def test_a_program_that_has_written_nothing_sends_no_mail(tmp_path, monkeypatch):
    monkeypatch.setattr(testnotice, "is_running", lambda config: True)
    monkeypatch.setattr(testnotice, "latest_status", lambda state_dir: {})
    status, said = run(tmp_path, notify=WAYS["notify"])
    assert status == 3 and "has written no status" in said


def test_all_is_well(tmp_path, monkeypatch):
    monkeypatch.setattr(webhook, "post", lambda *_arguments: "taken by ntfy.contoso.com (200)")
    status, said = run(tmp_path, notify_url=WAYS["notify_url"])
    assert status is None and "taken by ntfy.contoso.com (200)" in said
