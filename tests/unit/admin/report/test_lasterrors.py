import pytest

from m365proxy.admin.report import lasterrors, pseudonyms
from m365proxy.admin.report.pseudonyms import Pseudonyms
from m365proxy.system.events import EventLog

ID, REQUEST = "20261129T094207-94bb5edb358a-fad91c20", "0eca3216-3251-493e-84b7-aa98d1a9f87d"


@pytest.fixture
def told(tmp_path):
    """Writes events; what a report shows of them, without the times."""

    def tell(*events, pseudonyms=None):
        log = EventLog(str(tmp_path), 1 << 20)
        for event in events:
            log.note(**event)
        log.close()
        lines = list(lasterrors.lines(str(tmp_path), pseudonyms or Pseudonyms()))
        return [line.split(" ", 3)[3] if line.startswith("  ") else line for line in lines]

    return tell


def test_known_fields_with_pseudonyms(told):
    assert told(
        {
            "event": "failed",
            "id": ID,
            "failed_attempts": 3,
            "reason": "The mailbox scans@contoso.com is full",
            "code": "ErrorQuotaExceeded",
            "request_id": REQUEST,
            "subject": "never written, never shown",
        },
    ) == [
        "failed (1):",
        f'id={ID} failed_attempts=3 code=ErrorQuotaExceeded reason="The mailbox address-1@domain-1 is full" '
        f"request_id={REQUEST}",
    ]


def test_the_last_twenty_of_each_kind(told):
    lines = told(*({"event": "deferred", "id": ID, "seconds": number} for number in range(30)))
    assert lines[0] == "deferred (30, the last 20):"
    assert lines[1:] == [f"id={ID} seconds={number}" for number in range(10, 30)]


def test_a_password_typed_as_user_name_is_nowhere(told):
    lines = told(
        {"event": "login failed", "service": "smtp", "client": "192.0.2.7", "login": "hunter2", "reason": "no hunter2"},
    )
    assert lines[1] == 'service=smtp client=device-1 login=login-1 reason="no login-1"'


@pytest.mark.parametrize(
    "command,shown",
    [
        ("MAIL FROM:<x@contoso.com> SIZE=5", "MAIL:<address-1@domain-1>"),
        ("rcpt to: Max Mustermann", "RCPT:<text>"),
        ("XSECRET hunter2", "<text>:<text>"),
    ],
)
def test_of_a_command_only_its_address_is_shown(told, command, shown):
    assert told({"event": "refused", "command": command})[1] == f"command={shown}"


def test_fields_of_a_fixed_form_show_nothing_else(told):
    wrong = {"id": "hunter 2", "code": "hunter 2", "request_id": "hunter 2", "service": "hunter 2"}
    assert told({"event": "held", **wrong})[1] == "id=<text> service=<text> code=<text> request_id=<text>"


def test_what_succeeded_is_no_error(told):
    assert told({"event": "delivered", "id": ID}) == []


def test_a_damaged_line_is_left_out(tmp_path):
    (tmp_path / "00000001.jsonl").write_bytes(b'{"time": "2026-11-29T09:42:07.311Z", "event": "held", "rea\n')
    assert list(lasterrors.lines(str(tmp_path), Pseudonyms())) == ["held (1):"]


def test_as_many_patterns_are_made_for_many_names_as_for_few(told, monkeypatch):
    made = []
    compiled = pseudonyms.forms.compiled
    monkeypatch.setattr(pseudonyms.forms, "compiled", lambda *names: made.append(names) or compiled(*names))
    lines = told(
        *(
            {
                "event": "failed",
                "client": f"192.0.2.{number}",
                "login": f"scanner{number}",
                "recipients": [f"x@other{number}.example"],
                "reason": f"No host named nas.site{number}.example for other{number}.",
            }
            for number in range(15)
        )
    )
    assert lines[15].endswith('reason="No host named host-15 for domain-15."')
    assert len(made) == 1
