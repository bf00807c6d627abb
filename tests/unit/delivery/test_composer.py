"""Any message is made ready: with the Message-ID it had at first, and as it is where it cannot be repaired."""

import email
import email.policy
import importlib

import pytest
from attempt_harness import ALERTS, MAIL, SCANS, harnesses, large_mail, lower_limits, settle, with_message_id

from m365proxy.delivery import jsonmail
from m365proxy.graph.answer import Throttled


@pytest.fixture
def harness(tmp_path):
    yield from harnesses(tmp_path)


def test_a_message_that_could_not_be_tried_at_first_keeps_its_message_id(harness, wait_until, monkeypatch):
    harness.open()
    real, first = harness.graph.check_ready, [1, 1]

    def check_ready(mailbox):
        if first:
            first.pop()
            raise Throttled(mailbox, 0.05)
        real(mailbox)

    monkeypatch.setattr(harness.graph, "check_ready", check_ready)
    harness.put(with_message_id(MAIL, b"<mine@device>"))
    settle(harness, wait_until)
    assert b"<mine@device>" in harness.tenant.delivered[0].raw and not first


@pytest.mark.parametrize(
    "where, only_odd",
    [
        ("mime.parts.scan", False),
        ("mime.prepare.survey_of", False),
        ("mime.encodings.to_base64", False),
        ("mime.words.decode", True),
        ("mime.parameters.parse", True),
        ("mime.addresses.parse", True),
    ],
)
@pytest.mark.parametrize(
    "field", [b"Subject: \xe9", b"Content-Type: text/plain; name=\xe9", b"Cc: \xe9 <a@contoso.com>"]
)
def test_what_this_program_cannot_repair_goes_as_it_is(harness, monkeypatch, wait_until, where, only_odd, field):
    """Every octet of a message may be anything: what is unexpected about it costs one field at most."""
    module, _, name = where.rpartition(".")
    module = importlib.import_module("m365proxy." + module)
    real = getattr(module, name)

    def broken(*given):
        if only_odd and "xe9" not in ascii(given):
            return real(*given)
        raise UnicodeDecodeError("ascii", b"\xe9", 0, 1, "a fault")

    monkeypatch.setattr(module, name, broken)
    mail = b"From: alerts@contoso.com\r\nTo: scans@contoso.com, evil@example.net\r\n"
    harness.open().put(mail + field + b"\r\n\r\nbody \xe9\r\n")
    settle(harness, wait_until)
    assert harness.places() == []
    assert [record.recipients for record in harness.tenant.delivered] == [(SCANS,)]
    (copy,) = harness.tenant.items(ALERTS, "sentitems")
    made = email.message_from_bytes(copy.raw)
    assert made["From"] == ALERTS
    assert "evil" not in str(made["To"]) + str(made["Cc"])
    assert b"body" in made.get_payload(decode=True)


@pytest.mark.parametrize(
    "where", ["mime.parts.scan", "delivery.jsonmail._decoded", "delivery.jsonmail._Content._attachment"]
)
def test_large_mail_that_cannot_be_taken_apart_goes_as_one_file(harness, monkeypatch, wait_until, where):
    path, _, name = ("m365proxy." + where).rpartition(".")
    owner = jsonmail._Content if path.endswith("_Content") else importlib.import_module(path)
    real, calls = getattr(owner, name), []

    def broken(*given):
        calls.append(1)
        if len(calls) == 1:
            raise UnicodeDecodeError("ascii", b"\xe9", 0, 1, "a fault")
        return real(*given)

    monkeypatch.setattr(owner, name, broken)
    lower_limits(monkeypatch)
    harness.open().put(large_mail(5_000))
    settle(harness, wait_until)
    assert harness.places() == [] and calls
    assert [record.recipients for record in harness.tenant.delivered] == [(SCANS,)]
    assert b"Content-Type: application/pdf" in base64_parts(harness.tenant.delivered[0].raw)


def base64_parts(raw):
    """What stands in the files of a message."""
    return b"".join(part.get_payload(decode=True) or b"" for part in email.message_from_bytes(raw).walk())
