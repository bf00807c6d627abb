"""Large mail's draft, whatever Exchange makes of a draft of MIME that files are added to."""

import email
import email.policy
import json
import logging
from email.mime.application import MIMEApplication
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest
from attempt_harness import ALERTS, HIDDEN, RELAY, SCANS, harnesses, settle
from courier_harness import workers

from m365proxy.delivery import routes, uploads
from m365proxy.mime import prepare
from m365proxy.sandbox import uploads as sandbox_uploads
from m365proxy.sandbox.mailstore import Refusal
from m365proxy.spool.state import DraftPhase, DraftState, Place, State

KEEP, FORGET = "keep", "forget_mime"
OTHERS = [FORGET, "ignore_files", "hide_files", "refuse_files"]

CREATE, ATTACH, BEGIN, PUT = "/messages$", "/attachments$", "createUploadSession$", "^/upload/"
LOOK, VALUE, SEND = "/messages/[^/]+\\?.*expand=attachments", r"/\$value$", "/send$"
MARK = "/messages/[^/]+$"

PDF, SMALL_PDF, PICTURE = b"%PDF" * 1000, b"%PDF" * 100, b"\x89PNG" * 20
HTML = '<p>hello <img src="cid:logo@contoso">\r\n'
FIELDS = {
    "In-Reply-To": "<0@x>",
    "References": "<-1@x> <0@x>",
    "Disposition-Notification-To": "desk@contoso.com",
    "Return-Receipt-To": "desk@contoso.com",
    "Auto-Submitted": "auto-generated",
    "User-Agent": "Scanner/1.0",
    **{f"X-Field-{number}": str(number) for number in range(7)},
}


@pytest.fixture
def harness(tmp_path, monkeypatch, caplog):
    """Mail of more than 2,500 octets is large, a file of more than 1,500 is uploaded, 1,000 octets at a time."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(prepare, "LARGE_MIME_CEILING", 2500)
    monkeypatch.setattr(uploads, "_SMALLEST_UPLOAD", 1500)
    monkeypatch.setattr(uploads, "CHUNK", 1000)
    monkeypatch.setattr(sandbox_uploads, "SMALLEST", 1500)
    yield from harnesses(tmp_path)


def multi(subtype, *parts):
    made = MIMEMultipart(subtype)
    for part in parts:
        made.attach(part)
    return made


def file_of(content, name):
    part = MIMEApplication(content, "pdf")
    part.add_header("Content-Disposition", "attachment", filename=name)
    return part


def zoo(*files):
    """Alternatives, an invitation, a picture in the text, fields that JSON does not have, and files."""
    picture = MIMEImage(PICTURE, "png", name="logo.png")
    picture.add_header("Content-ID", "<logo@contoso>")
    invitation = MIMEText("BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\n", "calendar")
    invitation.set_param("method", "REQUEST")
    texts = multi("alternative", MIMEText("hello\r\n"), multi("related", MIMEText(HTML, "html"), picture), invitation)
    return with_header(multi("mixed", texts, *files), **FIELDS)


def with_header(made, **fields):
    made["From"], made["To"], made["Subject"], made["Date"] = ALERTS, SCANS, "large", "Thu, 05 Nov 2026 09:00:00 +0000"
    for name, value in fields.items():
        made[name] = value
    return made.as_bytes(policy=email.policy.SMTP)


def one_file():
    return zoo(file_of(PDF, "scan.pdf"))


def leaves(raw):
    parts = email.message_from_bytes(raw).walk()
    return [
        (part.get_content_type(), part.get_filename(), part["Content-ID"], part.get_payload(decode=True))
        for part in parts
        if not part.is_multipart()
    ]


def names(raw):
    return [leaf[1] for leaf in leaves(raw) if leaf[1]]


def files(raw):
    return [leaf[3] for leaf in leaves(raw) if leaf[0] == "application/pdf"]


def fields(raw):
    message = email.message_from_bytes(raw, policy=email.policy.default)
    return {name: str(message[name]) for name in FIELDS if name in message}


def done(harness, wait_until):
    """What was delivered, once nothing moves any more and nothing is left."""
    settle(harness, wait_until)
    assert harness.places() == []
    assert harness.tenant.items(ALERTS, "drafts") == harness.tenant.items(RELAY, "drafts") == []
    return [record.raw for record in harness.tenant.delivered]


@pytest.mark.parametrize("mode", [KEEP, *OTHERS])
def test_the_form_is_kept_where_exchange_keeps_it(harness, wait_until, mode, caplog):
    harness.tenant.mime_drafts_take_files = mode
    mail = zoo(file_of(SMALL_PDF, "small.pdf"), file_of(PDF, "scan.pdf"), file_of(PDF, "again.pdf"))
    harness.open().put(mail, (SCANS, HIDDEN))
    (arrived,) = done(harness, wait_until)
    assert harness.tenant.delivered[0].recipients == (HIDDEN, SCANS)
    assert {"small.pdf", "scan.pdf", "again.pdf", "logo.png"} <= set(names(arrived))
    assert files(arrived) == [SMALL_PDF, PDF, PDF]
    warned = [record.message for record in caplog.records if "does not keep the form" in record.message]
    if mode == KEEP:
        assert leaves(arrived) == leaves(mail) and fields(arrived) == FIELDS
        assert email.message_from_bytes(arrived)["Date"] == "Thu, 05 Nov 2026 09:00:00 +0000"
        assert harness.routes.keeps_form(ALERTS) is True and warned == []
    else:
        assert [leaf[0] for leaf in leaves(arrived)].count("text/html") == 1 and fields(arrived) != FIELDS
        assert harness.routes.keeps_form(ALERTS) is False and len(warned) == 1


@pytest.mark.parametrize("mode", [KEEP, *OTHERS])
def test_what_a_mailbox_does_is_remembered_for_a_week(harness, wait_until, mode):
    harness.tenant.mime_drafts_take_files = mode
    harness.open().put(one_file())
    done(harness, wait_until)
    first = harness.tenant.created_drafts
    harness.close()
    harness.open().put(one_file())
    done(harness, wait_until)
    assert (first, harness.tenant.created_drafts - first) == ((1, 1) if mode == KEEP else (2, 1))
    known = json.loads((harness.path / "routes.json").read_bytes())["large mail"]
    assert known[ALERTS]["kept"] is (mode == KEEP)
    harness.routes._clock = lambda: known[ALERTS]["learned"] + routes._HABIT_LEARNED_AGAIN
    assert harness.routes.keeps_form(ALERTS) is None
    harness.tenant.mime_drafts_take_files = KEEP
    harness.put(one_file())
    assert fields(done(harness, wait_until)[-1]) == FIELDS


def two_texts():
    texts = multi("alternative", MIMEText("hello"), MIMEText(HTML, "html"))
    return with_header(multi("mixed", texts, file_of(PDF, "scan.pdf")))


def test_how_many_requests_it_takes(harness, wait_until):
    """A file of four chunks: one request more than of JSON, and two more once a week."""
    harness.open().put(two_texts())
    done(harness, wait_until)
    put = 4 * ["PUT"]
    first = [request.method for request in harness.sandbox.requests]
    assert first == ["POST", "PATCH", "GET", "POST", *put, "GET", "GET", "POST"]
    assert len(harness.sandbox.seen(VALUE, "GET")) == 2
    harness.sandbox.forget()
    harness.put(two_texts())
    done(harness, wait_until)
    assert [request.method for request in harness.sandbox.requests] == ["POST", "PATCH", "POST", *put, "GET", "POST"]
    harness.routes.learn_form(ALERTS, False)
    harness.sandbox.forget()
    harness.put(two_texts())
    done(harness, wait_until)
    assert [request.method for request in harness.sandbox.requests] == ["POST", "POST", *put, "GET", "POST"]


PLACES = {
    "create": (CREATE, "POST", 0),
    "mark": (MARK, "PATCH", 0),
    "count": (ATTACH[:-1] + r"\?", "GET", 0),
    "look before": (VALUE, "GET", 0),
    "begin": (BEGIN, "POST", 0),
    "first chunk": (PUT, "PUT", 0),
    "last chunk": (PUT, "PUT", 3),
    "look": (LOOK, "GET", 0),
    "look after": (VALUE, "GET", 1),
    "delete": ("/messages/", "DELETE", 0),
    "create of JSON": (CREATE, "POST", 1),
    "send": (SEND, "POST", 0),
}


@pytest.mark.parametrize("after", [0, 2, 3])
@pytest.mark.parametrize("mode", [KEEP, FORGET])
def test_an_upload_session_that_expires_is_begun_anew(harness, wait_until, mode, after):
    harness.tenant.mime_drafts_take_files = mode
    harness.sandbox.faults.add("answer", path=PUT, method="PUT", after=after, status=410)
    harness.open().put(one_file())
    (arrived,) = done(harness, wait_until)
    assert files(arrived) == [PDF] and len(harness.sandbox.seen(BEGIN)) == 2 + (mode == FORGET)


@pytest.mark.parametrize("mode", [KEEP, FORGET])
def test_files_too_small_for_an_upload_are_posted(harness, wait_until, mode):
    harness.tenant.mime_drafts_take_files = mode
    mail = zoo(*(file_of(bytes([number]) * 1200, f"{number}.pdf") for number in range(4)))
    harness.open().put(mail)
    (arrived,) = done(harness, wait_until)
    assert sorted(files(arrived)) == sorted(files(mail)) and harness.sandbox.seen(BEGIN) == []
    assert len(harness.sandbox.seen(ATTACH, "POST")) == 4 + (2 + 4 if mode == FORGET else 0)


@pytest.mark.parametrize(
    "made", [lambda: multi("mixed", MIMEText("hello"), file_of(PDF, "scan.pdf")), lambda: MIMEText("x\r\n" * 2000)]
)
def test_what_loses_nothing_and_what_cannot_be_made_smaller_goes_as_json(harness, wait_until, made):
    fields = {} if made().is_multipart() else FIELDS
    harness.open().put(with_header(made(), **fields))
    assert len(done(harness, wait_until)) == 1
    assert harness.sandbox.seen(MARK, "PATCH") == harness.sandbox.seen(VALUE) == []
    assert harness.routes.keeps_form(ALERTS) is None and harness.tenant.created_drafts == 1


# What happens only if the form was lost.
OF_THE_OTHER_FORM = ("delete", "create of JSON")


@pytest.mark.parametrize("kind", ["answer", "cut", "cut_after"])
@pytest.mark.parametrize(
    "mode, place",
    [(mode, place) for mode in (KEEP, FORGET) for place in PLACES if mode == FORGET or place not in OF_THE_OTHER_FORM],
)
def test_whatever_fails_it_is_sent_once_and_leaves_no_draft(harness, wait_until, monkeypatch, mode, place, kind):
    monkeypatch.setattr(uploads, "_WAITS", (0.0,) * 5)
    harness.tenant.mime_drafts_take_files = mode
    path, method, after = PLACES[place]
    harness.sandbox.faults.add(kind, path=path, method=method, after=after, status=503, code="ErrorServerBusy")
    harness.open().put(one_file(), (SCANS, HIDDEN))
    (arrived,) = done(harness, wait_until)
    assert files(arrived) == [PDF] and harness.tenant.delivered[0].recipients == (HIDDEN, SCANS)
    if mode == KEEP and not (place.startswith("look ") and kind == "answer"):
        assert fields(arrived) == FIELDS


@pytest.mark.parametrize(
    "kind, status", [("answer", 400), ("answer", 403), ("answer", 500), ("cut", 0), ("cut_answer", 0), ("portal", 0)]
)
@pytest.mark.parametrize("place", [LOOK, VALUE])
def test_a_draft_that_never_can_be_looked_at_is_made_of_json(harness, wait_until, monkeypatch, place, kind, status):
    monkeypatch.setattr(uploads, "_WAITS", (0.0,) * 5)
    harness.sandbox.faults.add(kind, path=place, method="GET", status=status, code="ErrorInternal", times=None)
    harness.open().put(one_file(), (SCANS, HIDDEN))
    (arrived,) = done(harness, wait_until)
    assert files(arrived) == [PDF] and harness.tenant.delivered[0].recipients == (HIDDEN, SCANS)
    assert harness.tenant.created_drafts == 2 and harness.routes.keeps_form(ALERTS) is None


@pytest.mark.parametrize("code", ["ErrorInternalServerError", "ErrorItemNotFound"])
def test_what_fails_again_and_again_in_its_form_goes_as_json(harness, wait_until, monkeypatch, code):
    """Not by a refusal of the form: Exchange stumbles over each draft of MIME that gets a file."""
    monkeypatch.setattr(uploads, "_WAITS", (0.0,) * 5)

    def stumble(item):
        if item.raw is not None:
            raise Refusal(404 if code == "ErrorItemNotFound" else 500, code, "It stumbles.")

    monkeypatch.setattr(harness.tenant, "check_takes_files", stumble)
    harness.open().put(one_file(), (SCANS, HIDDEN))
    (arrived,) = done(harness, wait_until)
    assert files(arrived) == [PDF] and harness.tenant.delivered[0].recipients == (HIDDEN, SCANS)
    assert harness.tenant.created_drafts == 4 and harness.routes.keeps_form(ALERTS) is None


def test_an_outage_costs_no_form(harness, wait_until):
    harness.sandbox.faults.add("answer", path=CREATE, method="POST", status=503, times=5)
    harness.open().put(one_file())
    (arrived,) = done(harness, wait_until)
    assert fields(arrived) == FIELDS and harness.tenant.created_drafts == 1


def paused(harness):
    return harness.places() == [("new", "")] and harness.graph.throttled_for(ALERTS) and not workers()


def end_pause(harness):
    """As if the time that Graph asked for were over."""
    harness.graph._mailbox(ALERTS).throttled_until = 0.0
    harness.ahead += 2 * 3600.0
    harness.courier.flush()


@pytest.mark.parametrize("place", [place for place in PLACES if place not in OF_THE_OTHER_FORM])
@pytest.mark.parametrize("mode", [KEEP, FORGET])
def test_it_goes_on_after_a_pause(harness, wait_until, mode, place):
    harness.tenant.mime_drafts_take_files = mode
    path, method, after = PLACES[place]
    harness.sandbox.faults.add("answer", path=path, method=method, after=after, status=429, retry_after=3600)
    id = harness.open().put(one_file())
    wait_until(lambda: paused(harness))
    assert harness.spool.state(id).attempts == 0
    end_pause(harness)
    (arrived,) = done(harness, wait_until)
    assert files(arrived) == [PDF]
    again = place in ("mark", "count", "look before")  # what is not known to be marked and counted is made anew
    assert harness.tenant.created_drafts == 1 + (mode == FORGET) + again


@pytest.mark.parametrize("mode", [KEEP, FORGET])
def test_after_a_restart_it_is_made_anew(harness, wait_until, mode):
    harness.tenant.mime_drafts_take_files = mode
    harness.sandbox.faults.add("answer", path=PUT, method="PUT", after=2, status=429, retry_after=3600)
    id = harness.open().put(one_file())
    wait_until(lambda: paused(harness))
    assert harness.spool.state(id).draft.phase is DraftPhase.FILLING
    harness.close()
    harness.open()
    (arrived,) = done(harness, wait_until)
    assert files(arrived) == [PDF] and harness.tenant.created_drafts == 2 + (mode == FORGET)


def test_a_draft_is_filling_on_disk_before_anything_is_known_of_it(harness, wait_until):
    stuck = harness.sandbox.faults.add("hang", path=MARK, method="PATCH")
    harness.open().put(one_file())
    wait_until(lambda: stuck.hits)
    state = harness.spool.state(next(harness.spool.entries(Place.CUR)).id)
    assert state.draft.phase is DraftPhase.FILLING and state.draft.id
    harness.sandbox.faults.release()
    assert len(done(harness, wait_until)) == 1


@pytest.mark.parametrize("lost", ["create", "mark"])
def test_an_interrupted_draft_of_mime_is_removed_though_mail_goes_as_json_now(harness, wait_until, lost):
    """Another message has found out meanwhile what the mailbox does."""
    path, method, _ = PLACES[lost]
    fault = harness.sandbox.faults.add("cut_after", path=path, method=method)
    harness.tenant.mime_drafts_take_files = FORGET
    harness.open()
    real = harness.routes.keeps_form
    harness.routes.keeps_form = lambda mailbox: False if fault.hits else real(mailbox)
    harness.put(one_file())
    (arrived,) = done(harness, wait_until)
    assert files(arrived) == [PDF]


@pytest.mark.parametrize("mode", [KEEP, FORGET])
def test_where_uploads_are_denied_it_goes_through_the_own_mailbox(harness, wait_until, mode):
    harness.tenant.mime_drafts_take_files = mode
    harness.tenant.uploads_denied.add(ALERTS)
    harness.open().put(one_file())
    (arrived,) = done(harness, wait_until)
    assert files(arrived) == [PDF] and harness.tenant.delivered[0].mailbox == RELAY
    assert harness.routes.keeps_form(RELAY) is (mode == KEEP) and harness.routes.keeps_form(ALERTS) is None


def test_mime_that_exchange_refuses_goes_as_json(harness, wait_until):
    refused = dict(status=400, code="ErrorMimeContentInvalid")
    harness.sandbox.faults.add("answer", path=CREATE, method="POST", **refused)
    harness.open().put(one_file())
    (arrived,) = done(harness, wait_until)
    assert files(arrived) == [PDF] and harness.tenant.created_drafts == 1
    assert harness.routes.keeps_form(ALERTS) is None, "that was this message's fault"


@pytest.mark.parametrize("path", [BEGIN, PUT])
def test_a_file_that_is_refused_in_any_form_says_nothing_of_the_mailbox(harness, wait_until, path):
    harness.sandbox.faults.add("answer", path=path, status=400, code="ErrorInvalidRequest", times=None)
    id = harness.open().put(one_file())
    wait_until(lambda: (harness.spool.state(id) or State()).error)
    wait_until(lambda: harness.places() == [("new", "")])
    assert harness.tenant.created_drafts == 2 and harness.tenant.items(ALERTS, "drafts") == []
    assert harness.routes.keeps_form(ALERTS) is None and harness.tenant.delivered == []


def test_what_is_too_large_in_any_form_is_given_up_at_once(harness, wait_until):
    harness.sandbox.faults.add("answer", path=PUT, method="PUT", status=400, code="ErrorMessageSizeExceeded")
    harness.open().put(one_file())
    settle(harness, wait_until)
    assert harness.places() == [("failed", "")] and harness.tenant.created_drafts == 1
    assert harness.tenant.items(ALERTS, "drafts") == []


@pytest.mark.parametrize("change", ["subject", "file", "less"])
def test_a_draft_that_is_not_what_was_meant_is_not_sent(harness, wait_until, change):
    """As if Exchange, or a person, had changed it while it was filled."""
    harness.open()
    real = harness.drafts.get_with_files

    def changed(mailbox, id):
        value = real(mailbox, id)
        if change == "subject":
            return {**value, "subject": "another"}
        if change == "file":
            return {**value, "attachments": value["attachments"] * 2}
        return {**value, "attachments": [{**file, "size": file["size"] // 2} for file in value["attachments"]]}

    harness.drafts.get_with_files = changed
    harness.put(one_file())
    (arrived,) = done(harness, wait_until)
    assert files(arrived) == [PDF] and fields(arrived) != FIELDS and harness.routes.keeps_form(ALERTS) is False


def test_a_draft_of_an_older_version_is_made_anew(harness, wait_until):
    harness.open()
    harness.courier.stop(5)
    id = harness.put(one_file())
    item = harness.tenant.create_draft(harness.tenant.mailbox(ALERTS), raw=b"From: a@b\r\n\r\nx\r\n")
    harness.spool.save_state(id, State(draft=DraftState(DraftPhase.FILLING, ALERTS, item.immutable)))
    harness.open()
    (arrived,) = done(harness, wait_until)
    assert fields(arrived) == FIELDS
