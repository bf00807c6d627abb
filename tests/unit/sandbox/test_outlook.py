"""The stand-in tenant: sendMail, drafts and uploads."""

import base64
import email
import email.policy
import os

import pytest
import sandbox_harness
from sandbox_harness import (
    ALERTS,
    MARKER,
    MEGABYTE,
    RELAY,
    SCANNER,
    Client,
    draft,
    item_url,
    mail,
    person,
    segment,
    users,
)

from m365proxy.sandbox import letter

sandbox, graph = sandbox_harness.sandbox, sandbox_harness.graph


# --- sending


def test_mime_is_delivered_to_everybody_in_the_header(sandbox, graph):
    raw = mail(to=f"{SCANNER}, Out <out@example.com>", extra=f"Cc: {RELAY.upper()}\r\nBcc: hidden@example.com\r\n")
    assert graph("POST", users(ALERTS, "/sendMail"), raw).status == 202
    (done,) = sandbox.tenant.delivered
    assert done.sender == done.mailbox == ALERTS
    assert done.recipients == ("hidden@example.com", "out@example.com", RELAY, SCANNER)
    assert (done.raw, done.message_id, done.marker) == (raw, "<1@a>", "")
    assert [address for address, _ in sandbox.tenant.outside] == ["out@example.com", "hidden@example.com"]
    for mailbox in (SCANNER, RELAY):
        (copy,) = sandbox.tenant.items(mailbox)
        assert b"hidden" not in copy.raw and not copy.read
    (sent,) = sandbox.tenant.items(ALERTS, "sentitems")
    assert b"Bcc: hidden@example.com" in sent.raw


def test_a_bcc_of_mime_may_be_seen_and_one_of_a_property_never_is(sandbox, graph):
    sandbox.tenant.strips_bcc = False
    graph("POST", users(ALERTS, "/sendMail"), mail(extra="Bcc: hidden@example.com\r\n"))
    made = graph("POST", users(ALERTS, "/messages"), mail(extra="Bcc: hidden@example.com\r\n"))
    graph("POST", item_url(made.value["id"], rest="/send"))
    made = graph("POST", users(ALERTS, "/messages"), mail())
    graph("PATCH", item_url(made.value["id"]), {"bccRecipients": [person("hidden@example.com")]})
    graph("POST", item_url(made.value["id"], rest="/send"))
    assert [b"Bcc" in raw for _, raw in sandbox.tenant.outside] == [True, True, False]


def test_the_copy_lies_in_the_mailbox_of_the_url(sandbox, graph):
    graph("POST", "/me/sendMail", mail(ALERTS))
    assert len(sandbox.tenant.items(RELAY, "sentitems")) == 1
    assert sandbox.tenant.items(ALERTS, "sentitems") == []
    sandbox.tenant.copy_for_sent_as = True
    graph("POST", "/me/sendMail", mail(ALERTS))
    assert len(sandbox.tenant.items(ALERTS, "sentitems")) == 1


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (mail().replace(b"\r\n", b"\n"), 400, "ErrorMimeContentInvalidBase64String"),
        (mail(body="a\rb"), 400, "ErrorMimeContentInvalidBase64String"),
        (mail(body="a\0b"), 400, "ErrorMimeContentInvalidBase64String"),
        (mail(body="x" * 999), 400, "ErrorMimeContentInvalidBase64String"),
        (mail(body="x" * 998), 202, None),
        (mail(extra="X-Name: \xe9\r\n"), 400, "ErrorMimeContentInvalidBase64String"),
        (mail(body="\xe9"), 202, None),
        (mail(extra="no field\r\n"), 400, "ErrorMimeContentInvalidBase64String"),
        (mail(extra="Subject: two\r\n"), 400, "ErrorMimeContentInvalidBase64String"),
        (b"From: alerts@contoso.com\r\n", 400, "ErrorMimeContentInvalidBase64String"),
        (b"", 400, "ErrorMimeContentInvalidBase64String"),
        (mail(to="undisclosed-recipients:;"), 400, "ErrorInvalidRecipients"),
        (mail(to="undisclosed-recipients:;", extra="Bcc: a@example.com\r\n"), 202, None),
        (mail(to="not an address"), 400, "ErrorInvalidRecipients"),
        (mail(to="a@b@c"), 400, "ErrorInvalidRecipients"),
        (mail(sender="ceo@contoso.com"), 403, "ErrorSendAsDenied"),
        (mail(sender='"a@b.c" <alerts@contoso.com>'), 403, "ErrorSendAsDenied"),
        (mail(sender="=?utf-8?q?a=40b?= <alerts@contoso.com>"), 403, "ErrorSendAsDenied"),
        (mail(extra="Sender: ceo@contoso.com\r\n"), 403, "ErrorSendAsDenied"),
        (mail(sender=f"{ALERTS}, {RELAY}"), 400, "ErrorInvalidRequest"),
    ],
)
def test_mime_judged(sandbox, graph, raw, status, code):
    answer = graph("POST", users(ALERTS, "/sendMail"), raw)
    assert (answer.status, answer.code) == (status, code)
    assert len(sandbox.tenant.delivered) == (status == 202)


def test_lenient_about_form_when_told(sandbox, graph):
    sandbox.tenant.strict_mime = False
    assert graph("POST", users(ALERTS, "/sendMail"), mail().replace(b"\r\n", b"\n")).status == 202


def test_line_breaks_in_the_base64_are_tolerated(sandbox, graph):
    body = base64.encodebytes(mail()).replace(b"\n", b"\r\n")
    answer = graph.raw("POST", "/v1.0" + users(ALERTS, "/sendMail"), body, {"Content-Type": "text/plain"})
    assert answer.status == 202 and sandbox.tenant.delivered[0].raw == mail()


def turn(attribute, value):
    return lambda tenant: setattr(tenant, attribute, value)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda tenant: tenant.full_access.discard(ALERTS), 403, "ErrorAccessDenied"),
        (lambda tenant: tenant.send_as.discard((ALERTS, ALERTS)), 403, "ErrorSendAsDenied"),
        (lambda tenant: tenant.full.add(ALERTS), 403, "ErrorQuotaExceeded"),
        (lambda tenant: tenant.unlicensed.add(ALERTS), 404, "MailboxNotEnabledForRESTAPI"),
        (turn("max_send_size", 50), 400, "ErrorMessageSizeExceeded"),
    ],
)
def test_rights_and_room(sandbox, graph, change, status, code):
    change(sandbox.tenant)
    answer = graph("POST", users(ALERTS, "/sendMail"), mail())
    assert (answer.status, answer.code) == (status, code)
    assert sandbox.tenant.delivered == []


def test_an_alias_is_rewritten(sandbox, graph):
    sandbox.tenant.aliases["warnings@contoso.com"] = ALERTS
    graph("POST", users(ALERTS, "/sendMail"), mail(sender="W <warnings@contoso.com>", to="warnings@contoso.com"))
    assert sandbox.tenant.delivered[0].sender == ALERTS
    assert letter.addresses(sandbox.tenant.items(ALERTS)[0].raw, "from") == [("", ALERTS)]


def test_stored_copies_lose_what_exchange_drops_unless_primed(sandbox, graph):
    extra = "X-Known: 1\r\nX-Other: 2\r\nAuto-Submitted: auto-generated\r\nList-Id: x\r\nReferences: <a@b>\r\n"
    value = {"subject": "", "internetMessageHeaders": [{"name": "X-Known", "value": "1"}]}
    assert graph("POST", users(ALERTS, "/messages"), value).status == 201
    graph("POST", users(ALERTS, "/sendMail"), mail(extra=extra))
    names = [letter.name_of(field) for field in letter.split(sandbox.tenant.items(SCANNER)[0].raw)[0]]
    assert names == ["from", "to", "subject", "message-id", "x-known", "references"]
    sandbox.tenant.drops_headers = False
    graph("POST", users(ALERTS, "/sendMail"), mail(extra=extra))
    assert sandbox.tenant.items(SCANNER)[1].raw == mail(extra=extra)


@pytest.mark.parametrize(("mode", "kept"), [("keep", True), ("replace_at_create", False), ("replace_at_send", False)])
def test_message_id_in_one_step(sandbox, graph, mode, kept):
    sandbox.tenant.message_id = mode
    graph("POST", users(ALERTS, "/sendMail"), mail())
    (done,) = sandbox.tenant.delivered
    assert (done.message_id == "<1@a>") is kept
    assert letter.values(sandbox.tenant.items(SCANNER)[0].raw, "message-id") == [done.message_id]
    assert sandbox.tenant.items(ALERTS, "sentitems")[0].message_id == done.message_id


def test_json_mail(sandbox, graph):
    message = {
        "subject": "Größe",
        "body": {"contentType": "html", "content": "<p>grün</p>"},
        "toRecipients": [person(SCANNER)],
        "bccRecipients": [person("b@example.com")],
        "attachments": [
            {
                "@odata.type": "#microsoft.graph.fileAttachment",
                "name": "ä.txt",
                "contentBytes": base64.b64encode(b"data").decode(),
            }
        ],
        "singleValueExtendedProperties": [
            {"id": "String 0x1042", "value": "<before@a>"},
            {"id": MARKER, "value": "q1"},
        ],
    }
    assert graph("POST", users(ALERTS, "/sendMail"), {"message": message, "saveToSentItems": False}).status == 202
    (done,) = sandbox.tenant.delivered
    assert (done.marker, done.recipients) == ("q1", ("b@example.com", SCANNER))
    made = email.message_from_bytes(done.raw, policy=email.policy.default)
    assert made["Subject"] == "Größe" and made["In-Reply-To"] == "<before@a>" and made["From"] == ALERTS
    assert made.get_body(("html",)).get_content() == "<p>grün</p>"
    (attached,) = made.iter_attachments()
    assert (attached.get_filename(), attached.get_payload(decode=True)) == ("ä.txt", b"data")
    assert letter.problem(done.raw) == ""
    assert sandbox.tenant.items(ALERTS, "sentitems") == []


@pytest.mark.parametrize("kept", [False, True])
def test_the_date_of_a_json_draft_may_be_its_submit_time(sandbox, graph, kept):
    sandbox.tenant.keeps_submit_time = kept
    submitted = [{"id": "SystemTime 0x0039", "value": "2024-02-29T23:30:00Z"}]
    draft = {"toRecipients": [person(SCANNER)], "singleValueExtendedProperties": submitted}
    made = graph("POST", users(ALERTS, "/messages"), draft)
    assert graph("POST", item_url(made.value["id"], rest="/send")).status == 202
    (done,) = sandbox.tenant.delivered
    assert (letter.values(done.raw, "Date") == ["Thu, 29 Feb 2024 23:30:00 -0000"]) is kept


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({}, "RequestBodyRead"),
        ({"message": {}, "more": 1}, "RequestBodyRead"),
        ({"message": {}, "saveToSentItems": "no"}, "RequestBodyRead"),
        ({"message": {"Subject": "x"}}, "RequestBodyRead"),
        ({"message": {"subject": 5}}, "RequestBodyRead"),
        ({"message": {"toRecipients": person(SCANNER)}}, "RequestBodyRead"),
        ({"message": {"toRecipients": [{"emailAddress": {"adress": "x"}}]}}, "RequestBodyRead"),
        ({"message": {"body": {"contentType": "rtf", "content": ""}}}, "RequestBodyRead"),
        ({"message": {"attachments": [{"name": "no type"}]}}, "RequestBodyRead"),
        (
            {"message": {"internetMessageHeaders": [{"name": "References", "value": "x"}]}},
            "InvalidInternetMessageHeader",
        ),
        (
            {"message": {"internetMessageHeaders": [{"name": f"X-{n}", "value": "x"} for n in range(6)]}},
            "InvalidInternetMessageHeaderCollection",
        ),
        (
            {"message": {"singleValueExtendedProperties": [{"id": "nonsense", "value": "x"}]}},
            "ErrorInvalidPropertyRequest",
        ),
        ({"message": {"toRecipients": [{"emailAddress": {"name": "x"}}]}}, "ErrorInvalidRecipients"),
        ({"message": {"subject": "nobody"}}, "ErrorInvalidRecipients"),
    ],
)
def test_json_judged(graph, value, code):
    answer = graph("POST", "/me/sendMail", value)
    assert (answer.status, answer.code) == (400, code)


# --- drafts


def test_draft_patched_and_sent(sandbox, graph):
    made = draft(graph, internetMessageId="<own@a>", singleValueExtendedProperties=[{"id": MARKER, "value": "q1"}])
    assert made["isDraft"] and made["internetMessageId"] == "<own@a>"
    url = item_url(made["id"])
    changed = graph("PATCH", url, {"bccRecipients": [person("b@example.com")], "subject": "other"})
    assert (changed.status, changed.value["subject"]) == (200, "other")
    assert sandbox.tenant.delivered == []
    assert graph("POST", url + "/send").status == 202
    (done,) = sandbox.tenant.delivered
    assert (done.recipients, done.message_id, done.marker) == (("b@example.com", SCANNER), "<own@a>", "q1")
    assert sandbox.tenant.items(ALERTS, "drafts") == []
    found = graph("GET", users(ALERTS, "/mailFolders/sentitems/messages"), filter="internetMessageId eq '<own@a>'")
    assert [item["id"] for item in found.value["value"]] == [made["id"]]
    by_marker = graph(
        "GET",
        users(ALERTS, "/mailFolders/sentitems/messages"),
        filter=f"singleValueExtendedProperties/Any(ep: ep/id eq '{MARKER}' and ep/value eq 'q1')",
    )
    assert len(by_marker.value["value"]) == 1
    shown = graph("GET", url).value
    assert not shown["isDraft"]
    assert graph("PATCH", url, {"subject": "late"}).code == "ErrorInvalidPropertySet"
    assert graph("PATCH", url, {"isRead": False}).value["isRead"] is False
    assert graph("POST", url + "/send").status == 400


def test_mime_draft_keeps_its_mime(sandbox, graph):
    raw = mail(extra="References: <a@b>\r\n")
    made = graph("POST", users(ALERTS, "/messages"), raw)
    assert (made.status, made.value["subject"], made.value["toRecipients"][0]["emailAddress"]["address"]) == (
        201,
        "s",
        SCANNER,
    )
    graph("PATCH", item_url(made.value["id"]), {"bccRecipients": [person("b@example.com")]})
    graph("POST", item_url(made.value["id"], rest="/send"))
    (done,) = sandbox.tenant.delivered
    assert done.recipients == ("b@example.com", SCANNER)
    assert letter.without(done.raw, lambda name: name == "bcc") == raw


def test_mime_draft_with_a_file_added(sandbox, graph):
    made = graph("POST", users(ALERTS, "/messages"), mail(extra="References: <a@b>\r\n"))
    value = {"@odata.type": "#microsoft.graph.fileAttachment", "name": "a.bin", "contentBytes": "AAEC"}
    assert graph("POST", item_url(made.value["id"], rest="/attachments"), value).status == 201
    graph("POST", item_url(made.value["id"], rest="/send"))
    sent = email.message_from_bytes(sandbox.tenant.delivered[0].raw, policy=email.policy.default)
    assert sent["References"] == "<a@b>"
    assert [part.get_payload(decode=True) for part in sent.iter_attachments()] == [b"\0\1\2"]
    assert sent.get_body().get_content().strip() == "hello"


UPLOAD = {"AttachmentItem": {"attachmentType": "file", "name": "big.bin", "size": 3 * MEGABYTE}}
FILE = {"@odata.type": "#microsoft.graph.fileAttachment", "name": "a.bin", "contentBytes": "AAEC"}
LIST = "attachments($select=name,size,isInline)"
ZOO = (
    'MIME-Version: 1.0\r\nReferences: <a@b>\r\nContent-Type: multipart/mixed; boundary="outer"\r\n',
    '--outer\r\nContent-Type: multipart/alternative; boundary="inner"\r\n\r\n--inner\r\n\r\nplain\r\n--inner\r\n'
    "Content-Type: text/html\r\n\r\n<p>html\r\n--inner--\r\n--outer\r\nContent-Type: image/png; name=a.png\r\n"
    "Content-ID: <a@b>\r\n\r\npicture\r\n--outer--\r\n",
)


@pytest.mark.parametrize(
    ("mode", "listed", "parts", "references"),
    [
        ("keep", 2, ["text/plain", "text/html", "image/png", "application/octet-stream"], "<a@b>"),
        ("forget_mime", 2, ["text/html", "image/png", "application/octet-stream"], None),
        ("ignore_files", 2, ["text/plain", "text/html", "image/png"], "<a@b>"),
        ("hide_files", 1, ["text/plain", "text/html", "image/png"], "<a@b>"),
        ("refuse_files", 1, ["text/plain", "text/html", "image/png"], "<a@b>"),
    ],
)
def test_what_a_mime_draft_becomes_when_a_file_is_added(sandbox, graph, mode, listed, parts, references):
    sandbox.tenant.mime_drafts_take_files = mode
    made = graph("POST", users(ALERTS, "/messages"), mail(extra=ZOO[0], body=ZOO[1]))
    url = item_url(made.value["id"])
    added = graph("POST", url + "/attachments", FILE).status
    assert added == (400 if mode == "refuse_files" else 201)
    begun = graph("POST", url + "/attachments/createUploadSession", UPLOAD).status
    assert begun == added
    files = graph("GET", url, expand=LIST).value["attachments"]
    assert [file["name"] for file in files] == ["a.png", "a.bin"][:listed] and files[0]["isInline"]
    assert graph("GET", url, expand=LIST.replace("isInline", "contentId")).code == "RequestBroker--ParseUri"
    value = graph("GET", url + "/$value").content
    graph("POST", url + "/send")
    (done,) = sandbox.tenant.delivered
    for raw in (done.raw, value):
        sent = email.message_from_bytes(raw, policy=email.policy.default)
        assert [part.get_content_type() for part in sent.walk() if not part.is_multipart()] == parts
        assert sent["References"] == references and sent["Subject"] == "s"


def test_mime_only_at_messages(graph):
    answer = graph("POST", users(ALERTS, "/mailFolders/drafts/messages"), mail())
    assert answer.code == "UnableToDeserializePostBody"


def test_drafts_may_be_denied(sandbox, graph):
    sandbox.tenant.drafts_denied.add(ALERTS)
    assert graph("POST", users(ALERTS, "/messages"), mail()).code == "ErrorAccessDenied"
    assert graph("POST", users(ALERTS, "/sendMail"), mail()).status == 202


def test_send_has_no_body(graph):
    made = draft(graph)
    assert graph("POST", item_url(made["id"], rest="/send"), {}).status == 400


@pytest.mark.parametrize(
    ("mode", "at_create", "at_send"),
    [("keep", True, True), ("replace_at_create", False, False), ("replace_at_send", True, False)],
)
def test_message_id_of_a_draft(sandbox, graph, mode, at_create, at_send):
    sandbox.tenant.message_id = mode
    made = draft(graph, internetMessageId="<own@a>")
    assert (made["internetMessageId"] == "<own@a>") is at_create
    graph("POST", item_url(made["id"], rest="/send"))
    (done,) = sandbox.tenant.delivered
    assert (done.message_id == "<own@a>") is at_send
    if mode == "replace_at_create":
        assert done.message_id == made["internetMessageId"], "the draft tells the final one"


def test_draft_id_may_die(sandbox, graph):
    sandbox.tenant.draft_id_survives = False
    made = draft(graph)
    graph("POST", item_url(made["id"], rest="/send"))
    assert graph("GET", item_url(made["id"])).code == "ErrorItemNotFound"
    assert len(sandbox.tenant.items(ALERTS, "sentitems")) == 1


@pytest.mark.parametrize(
    ("where", "seen"), [("gone", None), ("drafts", (True, "drafts")), ("outbox", (True, "outbox"))]
)
def test_the_copy_takes_its_time(sandbox, graph, where, seen):
    now = [1_700_000_000.0]
    sandbox.tenant.clock = lambda: now[0]
    sandbox.tenant.sent_copy_delay, sandbox.tenant.while_sending = 10.0, where
    made = draft(graph)
    graph("POST", item_url(made["id"], rest="/send"))
    assert len(sandbox.tenant.delivered) == 1
    folders = {name: box.id for name, box in sandbox.tenant.mailboxes[ALERTS].known.items()}
    shown = graph("GET", item_url(made["id"]))
    if seen is None:
        assert shown.code == "ErrorItemNotFound"
    else:
        assert (shown.value["isDraft"], shown.value["parentFolderId"]) == (seen[0], folders[seen[1]])
    assert sandbox.tenant.items(ALERTS, "sentitems") == []
    now[0] += 10.0
    shown = graph("GET", item_url(made["id"])).value
    assert (shown["isDraft"], shown["parentFolderId"]) == (False, folders["sentitems"])
    assert sandbox.tenant.items(ALERTS, where if seen else "drafts") == []


def test_a_lingering_draft_can_be_sent_twice(sandbox, graph):
    sandbox.tenant.sent_copy_delay, sandbox.tenant.while_sending = 60.0, "drafts"
    made = draft(graph)
    assert [graph("POST", item_url(made["id"], rest="/send")).status for _ in range(2)] == [202, 202]
    assert len(sandbox.tenant.delivered) == 2, "tests for exactly-once need to see the mistake"


def test_no_sent_items_when_told(sandbox, graph):
    sandbox.tenant.save_sent_items = False
    graph("POST", users(ALERTS, "/sendMail"), mail())
    assert sandbox.tenant.items(ALERTS, "sentitems") == [] and len(sandbox.tenant.delivered) == 1


def test_attachments_are_listed_and_taken_away(graph):
    made = draft(graph)
    value = {"@odata.type": "#microsoft.graph.fileAttachment", "name": "a.bin", "contentBytes": "AAEC"}
    added = graph("POST", item_url(made["id"], rest="/attachments"), value).value
    listed = graph("GET", item_url(made["id"], rest="/attachments")).value["value"]
    assert [(a["id"], a["name"], a["size"]) for a in listed] == [(added["id"], "a.bin", 3)]
    url = item_url(made["id"], rest="/attachments/" + segment(added["id"]))
    assert [graph("DELETE", url).status for _ in range(2)] == [204, 404]


# --- uploads


def begin_upload(graph, made, size, name="big.bin"):
    value = {"AttachmentItem": {"attachmentType": "file", "name": name, "size": size}}
    return graph("POST", item_url(made["id"], rest="/attachments/createUploadSession"), value)


def put(sandbox, url, data, first, total, **headers):
    client = Client(sandbox, token="")
    sent = {
        "Content-Type": "application/octet-stream",
        "Content-Range": f"bytes {first}-{first + len(data) - 1}/{total}",
        **headers,
    }
    answer = client.raw("PUT", url[len(sandbox.graph_url) :], data, sent)
    client.close()
    return answer


def test_upload_in_chunks(sandbox, graph):
    content = os.urandom(1024) * 7 * 1024
    made = draft(graph)
    begun = begin_upload(graph, made, len(content))
    assert begun.status == 201 and begun.value["nextExpectedRanges"] == ["0-"]
    url, chunk = begun.value["uploadUrl"], 3 * MEGABYTE
    spellings = []
    for first in range(0, len(content), chunk):
        answer = put(sandbox, url, content[first : first + chunk], first, len(content))
        if answer.status == 200:
            key = next(key for key in answer.value if key.lower() == "nextexpectedranges")
            spellings.append(key)
            assert answer.value[key][0].rstrip("-") == str(first + chunk)
    assert answer.status == 201 and "Attachments('" in answer.headers["location"] and answer.content == b""
    assert len(set(spellings)) == 2, "the keys' case varies"
    assert put(sandbox, url, b"x", 0, len(content)).status == 404
    graph("POST", item_url(made["id"], rest="/send"))
    sent = email.message_from_bytes(sandbox.tenant.delivered[0].raw, policy=email.policy.default)
    assert [part.get_payload(decode=True) for part in sent.iter_attachments()] == [content]
    assert [r.mailbox for r in sandbox.seen("^/upload/", "PUT")][:3] == [ALERTS] * 3


def test_what_an_upload_refuses(sandbox, graph):
    made = draft(graph)
    too_small = begin_upload(graph, made, 3 * MEGABYTE - 1)
    assert too_small.code == "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize"
    assert begin_upload(graph, made, 151 * MEGABYTE).status == 400
    size = 5 * MEGABYTE
    url = begin_upload(graph, made, size).value["uploadUrl"]
    assert put(sandbox, url, b"x" * 10, 0, size, Authorization="Bearer x").status == 401
    assert put(sandbox, url, b"x" * 10, 10, size).code == "invalidRange"
    assert put(sandbox, url, b"x" * 10, 0, size + 1).status == 400
    assert put(sandbox, url, b"x" * (4 * MEGABYTE + 1), 0, size).status == 413
    assert put(sandbox, url, b"x" * 10, 0, size, **{"Content-Range": "bytes 0-8/5242880"}).status == 400
    assert put(sandbox, url, b"x" * 10, 0, size).status == 200
    assert put(sandbox, url, b"x" * 10, 0, size).code == "invalidRange", "a repeated chunk is out of order"


def test_upload_cancelled_expired_and_denied(sandbox, graph):
    now = [1_700_000_000.0]
    sandbox.tenant.clock = lambda: now[0]
    made = draft(graph)
    client = Client(sandbox, token="")
    url = begin_upload(graph, made, 3 * MEGABYTE).value["uploadUrl"]
    path = url[len(sandbox.graph_url) :]
    assert client.raw("GET", path).status == 405
    sandbox.tenant.upload_status_readable = True
    assert client.raw("GET", path).status == 200
    assert [client.raw("DELETE", path).status for _ in range(2)] == [204, 404]
    url = begin_upload(graph, made, 3 * MEGABYTE).value["uploadUrl"]
    now[0] += 3600
    assert [put(sandbox, url, b"x", 0, 3 * MEGABYTE).status for _ in range(2)] == [410, 404]
    sandbox.tenant.uploads_denied.add(ALERTS)
    assert begin_upload(graph, made, 3 * MEGABYTE).code == "ErrorAccessDenied"
    client.close()
