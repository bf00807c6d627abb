"""Large mail by way of the real Graph client to the stand-in tenant: a JSON draft, its attachments, its faults."""

from __future__ import annotations

import base64
import copy
import dataclasses
import email
import email.policy
import io
import os
import pathlib
import subprocess
import sys
from email.mime.application import MIMEApplication
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from urllib.parse import quote

import pytest

from m365proxy.delivery import budget, jsonmail
from m365proxy.delivery import uploads as largedrafts
from m365proxy.delivery.uploads import DraftSpoiled, LargeDrafts, UploadDenied
from m365proxy.errors import Permanent
from m365proxy.graph.answer import GraphRefused, GraphTrouble, NoAnswer, Throttled
from m365proxy.graph.client import SLOTS, Graph
from m365proxy.mime import prepare
from m365proxy.sandbox import Sandbox, uploads
from m365proxy.sandbox.modes import Modes
from m365proxy.system.outbound import Outbound

RELAY, SCANNER, ALERTS = "relay@contoso.com", "scanner@contoso.com", "alerts@contoso.com"
MARKER = "String {5f0c8d3a-7f3e-4a52-9a55-0d6a1c6f1b11} Name QueueId"
MIB = 1024 * 1024

# Most tests work with small chunks: whatever has more than 900 octets is uploaded, 1,000 at a time.
CHUNK = 1000
HTML = '<p>hello <img src="cid:logo@contoso"></p>\r\n'

PUT, BEGIN, ATTACH, CREATE = "^/upload/", "createUploadSession$", "/attachments$", "/messages$"


class Tokens:
    def __init__(self, sandbox):
        self._token = sandbox.entra.token()

    def access_token(self, refused=None):
        return self._token


class Harness:
    """The stand-in tenant, the client, and a clock that goes on only when somebody sleeps."""

    def __init__(self, sandbox):
        self.sandbox, self.tenant, self.faults = sandbox, sandbox.tenant, sandbox.faults
        self.slept = []
        self.now = 1000.0
        outbound = Outbound(None, sandbox.ca_file, direct=True)
        self.graph = Graph(Tokens(sandbox), outbound, sandbox.graph_url, RELAY, monotonic=lambda: self.now)
        self.drafts = LargeDrafts(self.graph, monotonic=lambda: self.now, sleep=self._sleep)
        self.created = []

    def _sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def make(self, raw, mailbox=SCANNER):
        """Make the draft; its item in the tenant."""
        self.drafts.create(mailbox, compose(raw), {MARKER: "harness ID1"}, self.created.append)
        return self.item(mailbox)

    def item(self, mailbox=SCANNER):
        (item,) = [i for i in self.tenant.items(mailbox, "drafts") if i.immutable == self.created[-1]["id"]]
        return item

    def send(self, raw, mailbox=SCANNER):
        """Make it, send it, and the MIME that arrives."""
        id = self.make(raw, mailbox).immutable
        path = f"/messages/{quote(id, safe='')}/send"
        headers = {"Prefer": 'IdType="ImmutableId"'}
        with self.graph.read("POST", mailbox, path, headers=headers):
            return self.tenant.delivered[-1]

    def seen(self, path, method=""):
        return [request.status for request in self.sandbox.seen(path, method)]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(largedrafts, "CHUNK", CHUNK)
    monkeypatch.setattr(largedrafts, "_SMALLEST_UPLOAD", 900)
    monkeypatch.setattr(uploads, "SMALLEST", 900)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as running:
        yield running


@pytest.fixture
def harness(sandbox):
    names = [field.name for field in dataclasses.fields(Modes)]
    modes = {name: copy.copy(getattr(sandbox.tenant, name)) for name in names}
    made = Harness(sandbox)
    yield made
    made.graph.close()
    sandbox.faults.clear()
    sandbox.forget()
    for name, value in modes.items():
        setattr(sandbox.tenant, name, value)


def compose(raw):
    file = io.BytesIO(raw)
    prepared = prepare.prepare(file, recipients=[ALERTS], sender=SCANNER, message_id="<made@contoso.com>")
    return jsonmail.compose(prepared, file)


def mail(*contents, html=False):
    """A message with a text and files of these contents."""
    made = MIMEMultipart("mixed")
    made["From"], made["To"], made["Subject"] = SCANNER, ALERTS, "=?utf-8?q?Gr=C3=BC=C3=9Fe?="
    made["In-Reply-To"], made["References"] = "<0@x>", "<-1@x> <0@x>"
    if html:
        alternative, related = MIMEMultipart("alternative"), MIMEMultipart("related")
        alternative.attach(MIMEText("hello", "plain"))
        related.attach(MIMEText(HTML, "html"))
        logo = MIMEImage(b"\x89PNG" * 10, "png", name="logo.png")
        logo.add_header("Content-ID", "<logo@contoso>")
        related.attach(logo)
        alternative.attach(related)
        made.attach(alternative)
    else:
        made.attach(MIMEText("hello\r\n", "plain"))
    for number, content in enumerate(contents):
        part = MIMEApplication(content, "pdf")
        part.add_header("Content-Disposition", "attachment", filename=f"scan{number}.pdf")
        made.attach(part)
    return made.as_bytes(policy=email.policy.SMTP)


def leaves(raw):
    found = []
    for part in email.message_from_bytes(raw).walk():
        if not part.is_multipart():
            content = part.get_payload(decode=True)
            found.append((part.get_content_type(), part.get_filename(), part["Content-ID"], content))
    return found


def contents(item):
    return [attachment.content for attachment in item.attachments]


def test_what_arrives_is_what_was_sent(harness):
    raw = mail(os.urandom(7 * MIB + 11), os.urandom(MIB), b"", os.urandom(largedrafts.CHUNK), html=True)
    delivery = harness.send(raw)
    expected = [leaf for leaf in leaves(raw) if leaf[0] != "text/plain"]
    assert leaves(delivery.raw) == expected
    top = email.message_from_bytes(delivery.raw, policy=email.policy.default)
    assert top["In-Reply-To"] == "<0@x>" and top["References"].split() == ["<-1@x>", "<0@x>"]
    assert (top["Subject"], top["From"], top["To"]) == ("Gr\u00fc\u00dfe", SCANNER, ALERTS)
    assert (delivery.message_id, delivery.marker) == ("<made@contoso.com>", "harness ID1")
    assert harness.slept == []
    # Only what has 3 MB goes by session, and a chunk is never larger than it may be.
    assert harness.seen(BEGIN) == [201, 201]
    assert [(r.size, r.status) for r in harness.sandbox.seen(PUT, "PUT")] == [
        (largedrafts.CHUNK, 200),
        (largedrafts.CHUNK, 200),
        (7 * MIB + 11 - 2 * largedrafts.CHUNK, 201),
        (largedrafts.CHUNK, 201),
    ]
    assert not [r for r in harness.sandbox.seen(PUT) if "authorization" in r.headers]
    assert len(harness.seen("/attachments$", "POST")) == 3  # the logo and two files


def test_what_has_a_property_arrives(harness):
    """Receipts, threads, importance and the types of attached texts, as Exchange writes them from the properties."""
    made = MIMEMultipart("mixed")
    made["From"], made["To"], made["Importance"], made["X-Mailer"] = SCANNER, ALERTS, "high", "Scan"
    made["Disposition-Notification-To"] = made["Return-Receipt-To"] = SCANNER
    made.attach(MIMEText("hello", "plain"))
    made.attach(MIMEText("BEGIN:VCALENDAR", "calendar", "utf-8"))
    made.get_payload(1).set_param("method", "REQUEST")
    top = email.message_from_bytes(harness.send(made.as_bytes(policy=email.policy.SMTP)).raw)
    names = ("Importance", "X-Mailer", "Disposition-Notification-To", "Return-Receipt-To")
    assert [top[name] for name in names] == ["high", "Scan", SCANNER, SCANNER]
    invitation = top.get_payload(1)
    assert (invitation.get_content_type(), invitation.get_filename()) == ("text/calendar", "invite.ics")
    assert (invitation.get_param("method"), invitation.get_content_charset()) == ("REQUEST", "utf-8")


def test_the_draft_is_told_before_anything_is_added(harness, small):
    def created(value):
        seen.append((value["id"], value["internetMessageId"], len(harness.sandbox.seen(ATTACH))))
        raise OSError("disk full")

    seen = []
    with pytest.raises(OSError):
        harness.drafts.create(SCANNER, compose(mail(b"x")), {}, created)
    (item,) = [i for i in harness.tenant.items(SCANNER, "drafts") if i.immutable == seen[0][0]]
    assert seen == [(item.immutable, "<made@contoso.com>", 0)] and not item.attachments


# Faults of one PUT in the middle (the second of three chunks) or of the last one.
MISHAPS = [
    "answer",
    "answer_after",
    "cut",
    "cut_body",
    "cut_after",
    "cut_answer",
    "portal",
    "stranger",
    "stranger_after",
]


@pytest.mark.parametrize("fault", MISHAPS)
def test_create_is_never_repeated(harness, small, fault):
    harness.faults.add(fault, path=CREATE, method="POST", status=503 if "answer" in fault else 0)
    with pytest.raises((NoAnswer, GraphTrouble)):
        harness.make(mail(b"x"))
    assert harness.created == [] and len(harness.sandbox.seen(CREATE, "POST")) == 1


@pytest.mark.parametrize("readable", [False, True])
@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("fault", MISHAPS)
def test_an_upload_goes_on_after_a_fault(harness, small, fault, after, readable):
    content = os.urandom(2 * CHUNK + 1)
    harness.tenant.upload_status_readable = readable
    met = harness.faults.add(fault, path=PUT, method="PUT", after=after, status=503 if "answer" in fault else 0)
    item = harness.make(mail(content, b"next"))
    assert met.hits == 1
    assert contents(item) == [content, b"next"]
    # Where nothing was lost but an answer, no octet goes twice unless Graph asks for it.
    assert len(harness.sandbox.seen(BEGIN)) == 1
    assert len(harness.sandbox.seen(PUT, "PUT")) <= 4


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_session_that_expires_is_begun_anew(harness, small, after):
    content = os.urandom(2 * CHUNK + 1)
    harness.faults.add("answer", path=PUT, method="PUT", after=after, status=410, code="ErrorUploadSessionExpired")
    item = harness.make(mail(content))
    assert contents(item) == [content]
    assert harness.seen(BEGIN) == [201, 201]


def test_sessions_that_always_expire_end(harness, small):
    harness.tenant.upload_seconds = -1.0
    with pytest.raises(DraftSpoiled):
        harness.make(mail(os.urandom(CHUNK)))
    assert harness.seen(BEGIN) == [201] * 3 and not harness.item().attachments


def test_416_without_a_known_range_begins_a_new_session(harness, small):
    content = os.urandom(2 * CHUNK + 1)
    harness.faults.add("answer", path=PUT, method="PUT", after=1, status=416, code="invalidRange")
    item = harness.make(mail(content))
    assert contents(item) == [content]
    assert harness.seen(BEGIN) == [201, 201]
    assert harness.seen(PUT, "DELETE") == [204], "the old one is cancelled"


def test_416_with_a_readable_range_goes_on(harness, small):
    content = os.urandom(2 * CHUNK + 1)
    harness.tenant.upload_status_readable = True
    harness.faults.add("answer", path=PUT, method="PUT", after=1, status=416, code="invalidRange")
    item = harness.make(mail(content))
    assert contents(item) == [content]
    assert harness.seen(BEGIN) == [201] and harness.seen(PUT, "GET") == [200]


def test_an_upload_that_answers_without_progress_ends(harness, small):
    """Graph's word that it still expects the first octet, for ever."""
    harness.faults.add(
        "stranger", path=PUT, method="PUT", times=None, status=200, body=b'{"nextExpectedRanges": ["0-"]}'
    )
    with pytest.raises(DraftSpoiled):
        harness.make(mail(os.urandom(2 * CHUNK)))
    assert not harness.item().attachments
    assert harness.seen(BEGIN) == [201] * 3 and len(harness.seen(PUT, "PUT")) == 3 * 6


@pytest.mark.parametrize("kind", ["stranger", "stranger_after"])
@pytest.mark.parametrize("body", [b"", b'{"id": "x"}', None])
@pytest.mark.parametrize("after", [0, 1])
def test_who_said_that_an_upload_is_complete_is_not_trusted_without_a_request_id(harness, small, kind, body, after):
    """Its host need not put one: then the draft's files are counted.  A page of something between is no word at all."""
    content = os.urandom(2 * CHUNK)
    harness.faults.add(kind, path=PUT, method="PUT", after=after, status=201, body=body)
    if kind == "stranger" and after == 1 and body is not None:
        with pytest.raises(largedrafts.DraftSpoiled):
            harness.make(mail(content))
    else:
        assert contents(harness.make(mail(content))) == [content]


def test_a_file_that_a_stranger_took_is_not_in_the_draft(harness, small):
    relayed = {"request-id": "r"}
    harness.faults.add("stranger", path="attachments$", method="POST", status=200, body=b"{}", headers=relayed)
    assert contents(harness.make(mail(b"x"))) == [b"x"]


def test_upload_trouble_without_end_is_given_up_and_cancelled(harness, small):
    harness.faults.add("answer", path=PUT, method="PUT", after=1, times=None, status=503)
    with pytest.raises(GraphTrouble) as caught:
        harness.make(mail(os.urandom(2 * CHUNK)))
    assert caught.value.answer.status == 503
    assert harness.seen(PUT, "DELETE") == [204]
    assert len(harness.seen(PUT, "PUT")) == 7
    assert len(harness.slept) == 5 and sum(harness.slept) >= 31


def test_a_refused_chunk_is_given_up_at_once(harness, small):
    harness.faults.add("answer", path=PUT, method="PUT", status=400, code="ErrorMessageSizeExceeded")
    with pytest.raises(GraphRefused) as caught:
        harness.make(mail(os.urandom(CHUNK)))
    assert caught.value.answer.code == "ErrorMessageSizeExceeded"
    assert harness.seen(PUT, "DELETE") == [204] and harness.slept == []


@pytest.mark.parametrize("times, made", [(1, True), (3, True), (4, False)])
@pytest.mark.parametrize("path, size", [(BEGIN, CHUNK), (ATTACH, 10)])
def test_a_new_draft_may_be_unknown_for_a_moment(harness, small, path, size, times, made):
    harness.faults.add("answer", path=path, method="POST", times=times, status=404)
    if made:
        assert len(contents(harness.make(mail(os.urandom(size))))) == 1
    else:
        with pytest.raises(GraphRefused):
            harness.make(mail(os.urandom(size)))
    assert harness.slept == [1.0, 2.0, 4.0][:times]


@pytest.mark.parametrize("path, method, size", [(BEGIN, "POST", CHUNK), (ATTACH, "POST", 10), (PUT, "PUT", CHUNK)])
def test_throttling_is_obeyed(harness, small, path, method, size):
    harness.faults.add("answer", path=path, method=method, times=2, status=429, retry_after=7)
    content = os.urandom(size)
    assert contents(harness.make(mail(content))) == [content]
    assert harness.slept == [7.0, 7.0]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("seconds, waited", [(60, True), (61, False), (7200, False)])
@pytest.mark.parametrize("path, method, size", [(BEGIN, "POST", CHUNK), (ATTACH, "POST", 10), (PUT, "PUT", CHUNK)])
def test_a_long_pause_is_not_waited_for_in_the_upload(harness, small, path, method, size, seconds, waited, status):
    """Whoever called may do something else meanwhile, and knows how many files the draft has."""
    harness.faults.add("answer", path=path, method=method, after=1, status=status, retry_after=seconds)
    content, attached = os.urandom(size), []
    large = compose(mail(content, content, content))
    if waited:
        harness.drafts.create(SCANNER, large, {}, harness.created.append, attached.append)
        assert harness.slept == [seconds] and attached == [1, 2, 3]
        return
    with pytest.raises(Throttled) as caught:
        harness.drafts.create(SCANNER, large, {}, harness.created.append, attached.append)
    assert caught.value.seconds == seconds and caught.value.request_id
    assert harness.slept == [] and attached == [1] and contents(harness.item()) == [content]
    assert harness.graph._mailbox(SCANNER).slots.spare == SLOTS


def test_a_long_hold_that_others_caused_is_not_waited_for(harness, small):
    def created(value):
        harness.graph.throttle(SCANNER, 90)

    with pytest.raises(Throttled):
        harness.drafts.create(SCANNER, compose(mail(b"x")), {}, created)
    assert harness.slept == []


@pytest.mark.parametrize("kind, status", [("stranger", 503), ("answer", 500)])
def test_a_long_pause_that_is_not_graphs_word_on_the_mailbox_throttles_nobody_else(harness, small, kind, status):
    more = dict(retry_after=120) if kind == "answer" else dict(headers={"Retry-After": "120"})
    harness.faults.add(kind, path=ATTACH, method="POST", status=status, **more)
    with pytest.raises(GraphTrouble) as caught:
        harness.make(mail(b"x"))
    assert caught.value.answer.retry_after == 120 and harness.slept == []


def test_a_429_that_says_no_time_is_waited_for_once(harness, small):
    harness.faults.add("answer", path=ATTACH, method="POST", status=429)
    harness.make(mail(b"x"))
    assert harness.slept == [10.0]


@pytest.mark.parametrize("had, hidden", [(0, 0), (1, 0), (3, 0), (2, 1)])
def test_a_draft_is_gone_on_with(harness, small, had, hidden):
    """The files that it has are not added again; what appears in it later, though, is noticed."""
    files = [os.urandom(CHUNK), b"two", os.urandom(2 * CHUNK)]
    large = compose(mail(*files))
    harness.drafts.create(SCANNER, large._replace(attachments=large.attachments[:had]), {}, harness.created.append)
    id, attached = harness.created[-1]["id"], []
    assert [harness.drafts.holds(SCANNER, id, count) for count in range(5)] == [count == had for count in range(5)]
    if hidden:
        harness.item().attachments.append(copy.copy(harness.item().attachments[0]))
        with pytest.raises(DraftSpoiled):
            harness.drafts.go_on(SCANNER, id, large.attachments, had, attached.append)
    else:
        harness.drafts.go_on(SCANNER, id, large.attachments, had, attached.append)
        assert contents(harness.item()) == files
    assert attached == list(range(had + 1, 4))


def test_a_draft_that_is_gone_has_nothing(harness, small):
    item = harness.make(mail(b"x"))
    harness.tenant.purge(item)
    assert not harness.drafts.holds(SCANNER, item.immutable, 1) and harness.slept == [1.0, 2.0, 4.0]


def test_a_hold_that_others_caused_is_obeyed(harness, small):
    def created(value):
        harness.created.append(value)
        harness.faults.add("answer", path="/mailFolders", status=429, retry_after=30)
        harness.graph.call("GET", SCANNER, "/mailFolders")

    harness.drafts.create(SCANNER, compose(mail(b"x")), {}, created)
    assert contents(harness.item()) == [b"x"]
    assert len(harness.slept) == 1 and 29 < harness.slept[0] <= 30


@pytest.mark.parametrize("fault", MISHAPS)
def test_a_posted_file_is_there_once(harness, small, fault):
    harness.faults.add(fault, path=ATTACH, method="POST", after=1, status=500 if "answer" in fault else 0)
    assert contents(harness.make(mail(b"one", b"two", b"three"))) == [b"one", b"two", b"three"]


def test_a_conflict_is_tried_again(harness, small):
    harness.faults.add("answer", path=ATTACH, method="POST", status=412, code="ErrorIrresolvableConflict")
    assert contents(harness.make(mail(b"one"))) == [b"one"]


def test_a_file_that_came_twice_spoils_the_draft(harness, small):
    harness.faults.add("answer_after", path=ATTACH, method="POST", status=504)
    count, lagging = harness.drafts._count, [0]
    harness.drafts._count = lambda draft: lagging.pop() if lagging else count(draft)
    with pytest.raises(DraftSpoiled):
        harness.make(mail(b"one"))
    assert contents(harness.item()) == [b"one", b"one"]


def test_a_list_of_attachments_may_have_pages():
    class Page:
        request_id = "1"

        def __init__(self, **value):
            self._value = value

        def json(self):
            return self._value

    class Pages:
        def read(self, method, mailbox, path, **more):
            return Page(value=[{}] * 10, **{"@odata.nextLink": "next"})

        def follow(self, mailbox, url, headers):
            assert (mailbox, url) == (SCANNER, "next")
            return Page(value=[{}] * 3)

    assert LargeDrafts(Pages())._count(largedrafts._Draft(SCANNER, "id")) == 13


@pytest.mark.parametrize("status, code", [(403, "ErrorAccessDenied"), (400, "ErrorMessageSizeExceeded")])
def test_a_refused_file_is_given_up_at_once(harness, small, status, code):
    harness.faults.add("answer", path=ATTACH, method="POST", status=status, code=code)
    with pytest.raises(GraphRefused) as caught:
        harness.make(mail(b"one"))
    assert (caught.value.answer.code, harness.slept) == (code, [])


def test_uploads_to_a_shared_mailbox_may_be_denied(harness, small):
    harness.tenant.uploads_denied.add(SCANNER)
    raw = mail(os.urandom(CHUNK))
    with pytest.raises(UploadDenied) as caught:
        harness.make(raw)
    assert caught.value.answer.code == "ErrorAccessDenied" and SCANNER in str(caught.value)
    # The way round: one's own mailbox, the same From.
    harness.tenant.send_as.add((RELAY, SCANNER))
    delivery = harness.send(raw, RELAY)
    assert (delivery.sender, delivery.mailbox) == (SCANNER, RELAY)
    assert leaves(delivery.raw)[1:] == leaves(raw)[1:]


@pytest.mark.parametrize("mailbox, code", [(RELAY, "ErrorAccessDenied"), (SCANNER, "ErrorQuotaExceeded")])
def test_other_403_are_no_denied_upload(harness, small, mailbox, code):
    harness.faults.add("answer", path=BEGIN, status=403, code=code)
    with pytest.raises(GraphRefused) as caught:
        harness.make(mail(os.urandom(CHUNK)), mailbox)
    assert not isinstance(caught.value, UploadDenied)


def test_between_post_and_session(harness):
    """3 MB of 1,000,000 are too large for a request of 4,000,000, and too small for a session of 3 MiB."""
    harness.tenant.request_limit = 4 * MIB + 4096
    content = os.urandom(3_100_000)
    assert contents(harness.make(mail(content))) == [content]
    assert harness.seen(BEGIN) == [400]


@pytest.mark.parametrize("size", [3 * MIB - 1, 3 * MIB])
def test_sizes_at_the_edges(harness, size):
    harness.tenant.request_limit = 4 * MIB + 4096
    content = os.urandom(size)
    assert contents(harness.make(mail(content))) == [content]


@pytest.mark.parametrize("size", [0, 1, 899, 900, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1])
def test_sizes_at_the_chunks_edges(harness, small, size):
    content = os.urandom(size)
    assert contents(harness.make(mail(content))) == [content]


def test_a_file_cut_short_on_disk_is_noticed(harness, small):
    raw = mail(os.urandom(2 * CHUNK))
    large = compose(raw)
    (attachment,) = large.attachments
    assert attachment.size == 2 * CHUNK
    attachment._file.truncate(len(raw) - CHUNK)
    with pytest.raises(Permanent, match="shorter"):
        harness.drafts.create(SCANNER, large, {}, harness.created.append)
    assert harness.seen(PUT, "DELETE") == [204]


def test_a_broken_off_wait_cancels_the_upload(harness, small):
    class Stopping(Exception):
        pass

    def stop(seconds):
        raise Stopping

    harness.drafts = LargeDrafts(harness.graph, sleep=stop)
    harness.faults.add("answer", path=PUT, method="PUT", status=503)
    with pytest.raises(Stopping):
        harness.make(mail(os.urandom(CHUNK)))
    assert harness.seen(PUT, "DELETE") == [204]


def test_random_faults_leave_each_file_once(harness, small):
    """Whatever happens, a draft that is said to be ready has every file once, in order."""
    ready = 0
    for seed in range(30):
        rest = [os.urandom(10), os.urandom(3 * CHUNK + 5), os.urandom(800), os.urandom(4 * CHUNK)]
        harness.faults.random(seed, dict.fromkeys(MISHAPS, 0.025), path="attachments|^/upload/")
        try:
            item = harness.make(mail(*rest))
        except (NoAnswer, GraphTrouble, GraphRefused):
            continue
        finally:
            harness.faults.clear()
        assert contents(item) == rest
        ready += 1
    assert ready >= 10


def test_the_budget_is_kept(harness, small):
    total, window = budget.MOST, budget.WINDOW
    harness.drafts.budget.spend(SCANNER.upper(), total - CHUNK)
    content = os.urandom(2 * CHUNK)
    harness.now += 10
    assert contents(harness.make(mail(content))) == [content]
    assert harness.slept == [window - 10]


def test_uploads_are_counted_with_their_base64(harness, small):
    spent = []
    harness.drafts.budget.spend = lambda mailbox, octets: spent.append((mailbox, octets))
    harness.make(mail(os.urandom(800), os.urandom(CHUNK)))
    sizes = [r.size for r in harness.sandbox.requests if r.method in ("POST", "PUT") and "Session" not in r.path]
    assert [octets for _, octets in spent] == sizes and sizes[1] > 1066
    assert {mailbox for mailbox, _ in spent} == {SCANNER}


CHILD = """
import sys
from m365proxy.delivery import jsonmail as largemail
from m365proxy.mime import prepare as message
from m365proxy.graph.client import Graph
from m365proxy.delivery.uploads import LargeDrafts
from m365proxy.system.outbound import Outbound

path, ca_file, url, token = sys.argv[1:]

class Tokens:
    def access_token(self, refused=None):
        return token

def peak():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1])

def send(file):
    box = "scanner@contoso.com"
    prepared = message.prepare(file, recipients=[box], sender=box, message_id="<1@a>")
    mail = largemail.compose(prepared, file)
    drafts.create("scanner@contoso.com", mail, {}, lambda value: None)
    return sum(attachment.size for attachment in mail.attachments)

drafts = LargeDrafts(Graph(Tokens(), Outbound(None, ca_file, direct=True), url, "relay@contoso.com"))
import io
send(io.BytesIO(b"From: scanner@contoso.com\\r\\n\\r\\nhello\\r\\n"))
before = peak()
with open(path, "rb") as file:
    octets = send(file)
print(before, peak(), octets)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="VmHWM is Linux's")
def test_memory_of_an_80_mb_attachment(harness, tmp_path):
    path = tmp_path / "mail"
    block = base64.encodebytes(os.urandom(57 * 18_400)).replace(b"\n", b"\r\n")  # 1 MiB, nearly
    with open(path, "wb") as file:
        file.write(
            b"From: scanner@contoso.com\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nhello\r\n--b\r\n"
            b"Content-Type: application/pdf; name=scan.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        )
        for _ in range(80):
            file.write(block)
        file.write(b"--b--\r\n")
    root = pathlib.Path(largedrafts.__file__).parents[2]
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            CHILD,
            str(path),
            harness.sandbox.ca_file,
            harness.sandbox.graph_url,
            harness.sandbox.entra.token(),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert child.returncode == 0, child.stderr
    before, after, octets = map(int, child.stdout.split())
    print(f"VmHWM {before} kB before, {after} kB after an attachment of {octets} octets")
    assert octets == 80 * 57 * 18_400
    assert after - before < 32 * 1024
    drafts = harness.tenant.items(SCANNER, "drafts")
    assert [len(content) for content in contents(drafts[-1])] == [octets]
