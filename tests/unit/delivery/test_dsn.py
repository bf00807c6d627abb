"""The text of delivery reports: what they say, and that other programs can read them."""

import dataclasses
import email
import email.policy
import io

import pytest
from cases import each

from m365proxy.delivery.dsn import Failure, build, read_original
from m365proxy.mime import header, prepare
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.state import State

A = "alerts@contoso.com"
NOW = 1_800_000_000.0
ENVELOPE = Envelope(A, A, ("x@example.org", "y@example.org"), "192.0.2.7", "ups", accepted=NOW - 3600)
REFUSED = State(
    attempts=2,
    last_attempt=NOW - 60,
    error="Exchange refused the recipients. Check the addresses.",
    status="5.1.3",
    code="ErrorInvalidRecipients",
    request_id="11111111-2222",
)
ORIGINAL = b"From: x\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\nX-Raw: caf\xe9\r\n\r\nsecret body\r\n"


def failure(envelope=ENVELOPE, state=REFUSED, content=ORIGINAL, id="20270115T080000-aabbccddeeff-00000000", **more):
    return Failure(id, envelope, state, header.read(io.BytesIO(content)).fields, **more)


def built(*failures, **more):
    settings = {"mailbox": A, "author": A, "to": [A], "host": "gw.contoso.com", "now": NOW, **more}
    return build(failures, **settings)


def parsed(content):
    found = email.message_from_bytes(content, policy=email.policy.default)
    assert not any(part.defects for part in found.walk())
    assert content.isascii() and all(len(line) < 999 and b"\n" not in line for line in content.split(b"\r\n"))
    return found


def groups(report):
    """The groups of the delivery-status part as dicts."""
    return [dict(part.items()) for part in list(report.iter_parts())[1].get_payload()]


def test_a_report_on_one_message():
    found = parsed(built(failure()))
    assert found.get_content_type() == "multipart/report" and found.get_param("report-type") == "delivery-status"
    assert (found["From"].addresses[0].addr_spec, found["To"], found["Auto-Submitted"]) == (A, A, "auto-replied")
    assert found["Subject"] == f"Not delivered: 1 message from {A}"
    text, status, original = found.iter_parts()
    said = " ".join(text.get_content().split())
    for wanted in (
        "Grüße",
        "x@example.org, y@example.org",
        "192.0.2.7 ups",
        REFUSED.error,
        REFUSED.code,
        REFUSED.request_id,
        "queue retry",
        "2027-01-15 07:00:00 UTC",
        "gw.contoso.com",
    ):
        assert wanted in said, wanted
    assert status.get_content_type() == "message/delivery-status"
    first, *recipients = groups(found)
    assert first == {"Reporting-MTA": "dns; gw.contoso.com", "Arrival-Date": "Fri, 15 Jan 2027 07:00:00 +0000"}
    assert [group["Final-Recipient"] for group in recipients] == ["rfc822; x@example.org", "rfc822; y@example.org"]
    for group in recipients:
        assert (group["Action"], group["Status"]) == ("failed", "5.1.3")
        said = group["Diagnostic-Code"]
        assert said.startswith("X-Microsoft-Graph; ErrorInvalidRecipients; request-id 11111111-2222;")
        assert group["Last-Attempt-Date"] == "Fri, 15 Jan 2027 07:59:00 +0000"
    assert original.get_content_type() == "text/rfc822-headers"
    back = email.message_from_string(original.get_content(), policy=email.policy.default)
    assert (back["Subject"], back["X-Raw"]) == ("Grüße", "café")
    assert b"secret body" not in built(failure())


def test_envid_and_orcpt_come_back_decoded():
    envelope = ENVELOPE._replace(envid="QQ+3D1", orcpt=("X@example.org rfc822;first+2Blast@example.com",))
    first, one, other = groups(parsed(built(failure(envelope))))
    assert first["Original-Envelope-Id"] == "QQ=1"
    assert one["Original-Recipient"] == "rfc822; first+last@example.com" and "Original-Recipient" not in other


def test_recipients_with_notify_never_are_left_out():
    envelope = ENVELOPE._replace(silent=("X@example.org",))
    _, *listed = groups(parsed(built(failure(envelope))))
    assert [group["Final-Recipient"] for group in listed] == ["rfc822; y@example.org"]
    assert b"x@example.org" not in built(failure(envelope))


@each("status", ["", "nonsense", "5.1", "5.1.3\r\nX: y"])
def test_a_missing_status_is_a_permanent_one(status):
    assert groups(parsed(built(failure(state=dataclasses.replace(REFUSED, status=status)))))[1]["Status"] == "5.0.0"


@pytest.mark.parametrize("accepted", [0.0, 1000.0])
def test_no_date_is_made_up_where_the_clock_was_wrong(accepted):
    envelope = ENVELOPE._replace(accepted=accepted)
    content = built(failure(envelope, dataclasses.replace(REFUSED, last_attempt=accepted)))
    assert b"Arrival-Date" not in content and b"Last-Attempt-Date" not in content and b"1970" not in content


def test_hostile_text_stays_in_its_place():
    nasty = "a\r\nBcc: evil@example.org\r\n\r\n--x \u202e\ud800 é"
    state = dataclasses.replace(REFUSED, error=nasty, code="C\r\nX-Evil: 1", request_id="r\n\n--")
    content = built(failure(state=state, content=b"Subject: a\r\r\nBcc: z\r\n\r\n"), host="h\r\nX-Evil: 1")
    found = parsed(content)
    assert found["Bcc"] is None and b"\r\nX-Evil" not in content
    assert len(list(found.iter_parts())) == 3 and len(groups(found)) == 3


def test_a_long_header_is_cut_between_fields():
    content = b"".join(b"X-%d: %s\r\n" % (n, b"y" * 500) for n in range(100)) + b"\r\n"
    part = list(parsed(built(failure(content=content))).iter_parts())[2]
    back = email.message_from_string(part.get_content())
    assert 20 < len(back.items()) < 33 and all(value == "y" * 500 for value in back.values())


def test_raw_text_is_read_in_the_charset_of_the_message():
    content = b"Subject: %s\r\nContent-Type: text/plain; charset=gb2312\r\n\r\nx\r\n" % "移动".encode("gb2312")
    text, _, original = parsed(built(read_original(failure(), io.BytesIO(content)))).iter_parts()
    assert "Subject: 移动\r\n" in text.get_content()
    assert email.message_from_string(original.get_content(), policy=email.policy.default)["Subject"] == "移动"


def test_the_whole_message_comes_back_where_it_was_asked_for():
    whole = b"Subject: x\r\n\r\nthe body\r\n"
    part = list(parsed(built(failure(full=whole))).iter_parts())[2]
    assert part.get_content_type() == "message/rfc822" and part.get_content().get_content().strip() == "the body"


def test_several_messages_in_one_report():
    many = [failure(id=f"id{number}") for number in range(30)]
    found = parsed(built(*many))
    assert found["Subject"] == f"Not delivered: 30 messages from {A}"
    text, status, originals = found.iter_parts()
    said = text.get_content()
    assert said.count("Queue ID: ") == 20 and all(f"id{number}" in said for number in range(30))
    assert len(groups(found)) == 1 + 20 * 2 and "Arrival-Date" not in groups(found)[0]
    assert originals.get_content_type() == "multipart/mixed" and len(list(originals.iter_parts())) == 20


def test_a_message_that_cannot_be_read_is_reported_too():
    content = built(Failure("id1", None, State(error="The spooled file has no readable envelope.")))
    assert groups(parsed(content))[1]["Final-Recipient"] == "rfc822; unknown"
    assert b"no readable envelope" in content


def test_a_report_passes_our_own_repairs():
    prepared = prepare.prepare(
        io.BytesIO(built(failure())), recipients=[A], sender=A, message_id="<1@contoso.com>", date=NOW
    )
    found = parsed(b"".join(prepared.chunks()))
    assert found.get_content_type() == "multipart/report" and len(groups(found)) == 3
    assert found["Message-ID"] == "<1@contoso.com>" and found["Auto-Submitted"] == "auto-replied"
