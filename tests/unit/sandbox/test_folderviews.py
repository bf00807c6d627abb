"""The stand-in tenant: listing, reading, deleting, batches; and how it reads letters."""

import email
import json

import pytest
import sandbox_harness
from cases import each
from sandbox_harness import (
    ALERTS,
    IMMUTABLE,
    SCANNER,
    fill,
    ids,
    inbox,
    item_url,
    mail,
    segment,
    users,
)

from m365proxy.sandbox import letter

sandbox, graph = sandbox_harness.sandbox, sandbox_harness.graph


# --- reading


def follow(graph, answer):
    """Every id over all pages, with duplicates, and the number of pages."""
    found, pages = ids(answer), 1
    while "@odata.nextLink" in answer.value:
        link = answer.value["@odata.nextLink"]
        answer = graph.raw("GET", link[link.index("/v1.0") :], headers=IMMUTABLE)
        assert answer.status == 200
        found += ids(answer)
        pages += 1
    return found, pages, answer


def test_listing_pages(sandbox, graph):
    made = fill(sandbox, 25)
    first = inbox(graph, select="receivedDateTime", orderby="receivedDateTime asc")
    assert set(first.value["value"][0]) == {"@odata.etag", "id", "receivedDateTime"}
    assert len(ids(first)) == 10 and first.value["@odata.nextLink"].startswith(sandbox.graph_url + "/v1.0/")
    assert follow(graph, first)[:2] == (made, 3)
    assert ids(inbox(graph, top=1000, select="id")) == made[::-1], "newest first unless asked otherwise"
    by_preference = graph(
        "GET",
        users(SCANNER, "/mailFolders/inbox/messages"),
        headers={"Prefer": 'odata.maxpagesize=7, IdType="ImmutableId"'},
        select="id",
    )
    assert len(ids(by_preference)) == 7


@pytest.mark.parametrize(
    ("modes", "expected_pages", "duplicates"),
    [
        ({"page_cap": 4}, 3, 0),
        ({"page_short": True}, 3, 0),
        ({"page_empty": True}, 5, 0),
        ({"page_duplicate": True}, 3, 2),
    ],
)
def test_pages_that_a_client_must_cope_with(sandbox, graph, modes, expected_pages, duplicates):
    made = fill(sandbox, 12)
    for name, value in modes.items():
        setattr(sandbox.tenant, name, value)
    top = 6 if "page_short" in modes else 4
    found, pages, _ = follow(graph, inbox(graph, select="id", top=top, orderby="receivedDateTime asc"))
    assert sorted(set(found)) == sorted(made)
    assert (pages, len(found) - len(made)) == (expected_pages, duplicates)


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ({"filter": "receivedDateTime ge 2023-11-14T22:13:21Z"}, [2, 1]),
        ({"filter": "receivedDateTime gt 2023-11-14T22:13:21Z"}, [2]),
        (
            {
                "filter": "receivedDateTime ge 1900-01-01T00:00:00Z and isRead eq false",
                "orderby": "receivedDateTime asc",
            },
            [0, 2],
        ),
        ({"filter": "isRead eq true"}, [1]),
        ({"filter": "internetMessageId eq '<1@a>'", "top": "1"}, [2]),
        ({"filter": "internetMessageId eq '<it''s@a>'"}, []),
        ({"filter": "subject eq 'S' and isDraft eq false"}, [2, 1, 0]),
    ],
)
def test_filters(sandbox, graph, query, numbers):
    made = fill(sandbox, 3)
    graph("PATCH", item_url(made[1], SCANNER), {"isRead": True})
    answer = inbox(graph, select="id", **query)
    assert [made.index(item) for item in ids(answer)] == numbers


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"filter": "isRead eq false", "orderby": "receivedDateTime asc"}, "InefficientFilter"),
        (
            {"filter": "isRead eq false and receivedDateTime ge 2000-01-01", "orderby": "receivedDateTime"},
            "InefficientFilter",
        ),
        ({"filter": "id eq 'x'"}, "ErrorInvalidProperty"),
        ({"filter": "isRead eq 'false'"}, "BadRequest"),
        ({"filter": "receivedDateTime ge yesterday"}, "BadRequest"),
        ({"filter": "isRead eq false or isRead eq true"}, "BadRequest"),
        ({"orderby": "subject"}, "BadRequest"),
        ({"top": "1001"}, "BadRequest"),
        ({"top": "0"}, "BadRequest"),
        ({"select": "size"}, "BadRequest"),
        ({"expand": "attachments"}, "BadRequest"),
        ({"search": "x"}, "BadRequest"),
    ],
)
def test_queries_refused(graph, query, code):
    answer = inbox(graph, **query)
    assert (answer.status, answer.code) == (400, code)


def test_size_property(sandbox, graph):
    sandbox.tenant.add_message(SCANNER, mail())
    expand = "singleValueExtendedProperties($filter=id eq 'Long 0x0E08')"
    (item,) = inbox(graph, select="id", expand=expand).value["value"]
    (size,) = item["singleValueExtendedProperties"]
    assert size["id"] == "Long 0xe08" and isinstance(size["value"], str)
    assert int(size["value"]) != len(mail())
    sandbox.tenant.store_size = lambda octets: None
    (item,) = inbox(graph, select="id", expand=expand).value["value"]
    assert "singleValueExtendedProperties" not in item


def test_ids_of_both_kinds(sandbox, graph):
    immutable = sandbox.tenant.add_message(SCANNER, mail())
    (shown,) = graph("GET", users(SCANNER, "/messages"), headers={"Prefer": "x"}, select="id").value["value"]
    classic = shown["id"]
    assert (len(immutable), len(classic)) == (72, 152)
    plain = {"Prefer": ""}
    assert graph("GET", item_url(classic, SCANNER), headers=plain).status == 200
    assert graph("GET", item_url(immutable, SCANNER), headers=plain).code == "ErrorInvalidIdMalformed"
    moved = graph("POST", item_url(classic, SCANNER, "/move"), {"destinationId": "deleteditems"})
    assert (moved.status, moved.value["id"]) == (201, immutable)
    assert graph("GET", item_url(classic, SCANNER), headers=plain).code == "ErrorItemNotFound"
    assert graph("GET", item_url(immutable, SCANNER)).status == 200
    assert graph("GET", item_url(immutable, ALERTS)).code == "ErrorInvalidMailboxItemId"
    assert graph("GET", item_url("short", SCANNER)).code == "ErrorInvalidIdMalformed"


def test_ids_have_to_be_escaped(sandbox):
    found = "".join(fill(sandbox, 30))
    assert "/" in found and "+" in found


MULTIPART = mail(
    extra='MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="abcdef123"\r\n',
    body=("--abcdef123\r\nContent-Type: text/plain\r\n\r\nhi\r\n--abcdef123--"),
)


def test_value_is_made_anew_at_each_call(sandbox, graph):
    made = sandbox.tenant.add_message(SCANNER, MULTIPART)
    one, two = (graph("GET", item_url(made, SCANNER, "/$value")) for _ in range(2))
    assert one.headers["content-type"] == "text/plain" and one.content != two.content
    parts = [email.message_from_bytes(answer.content).get_payload()[0].get_payload() for answer in (one, two)]
    assert parts == ["hi", "hi"]
    sandbox.tenant.regenerate = False
    assert graph("GET", item_url(made, SCANNER, "/$value")).content == MULTIPART


def test_a_signed_message_stays_as_it_is(sandbox, graph):
    signed = MULTIPART.replace(b"mixed", b"signed")
    made = sandbox.tenant.add_message(SCANNER, signed)
    assert graph("GET", item_url(made, SCANNER, "/$value")).content == signed


@pytest.mark.parametrize("coding", ["length", "chunked", "gzip"])
def test_value_codings(sandbox, graph, coding):
    raw = mail(body="line\r\n" * 10_000)
    made = sandbox.tenant.add_message(SCANNER, raw)
    sandbox.tenant.value_coding = coding
    answer = graph("GET", item_url(made, SCANNER, "/$value"), headers={"Accept-Encoding": "gzip"})
    assert ("content-length" in answer.headers) is (coding == "length")
    content = answer.content
    if coding == "gzip":
        import gzip

        content = gzip.decompress(content)
    assert content == raw
    sandbox.tenant.value_line_ends = "lf"
    sandbox.tenant.value_coding = "length"
    assert graph("GET", item_url(made, SCANNER, "/$value")).content == raw.replace(b"\r\n", b"\n")


def test_corrupt_item(sandbox, graph):
    made = sandbox.tenant.add_message(SCANNER, mail(), corrupt=True)
    answer = graph("GET", item_url(made, SCANNER, "/$value"))
    assert (answer.status, answer.code) == (500, "ErrorCorruptData")


def test_deleting(sandbox, graph):
    made = sandbox.tenant.add_message(SCANNER, mail())
    url = item_url(made, SCANNER)
    where = []
    for _ in range(2):
        assert graph("DELETE", url).status == 204
        where.append(sandbox.tenant.find(sandbox.tenant.mailbox(SCANNER), made).folder.known)
    assert where == ["deleteditems", "recoverableitemsdeletions"]
    assert graph("DELETE", url).code == "ErrorCannotDeleteObject"
    other = sandbox.tenant.add_message(SCANNER, mail())
    sandbox.tenant.permanent_delete = False
    assert graph("POST", item_url(other, SCANNER, "/permanentDelete")).status == 405
    sandbox.tenant.permanent_delete = True
    assert graph("POST", item_url(other, SCANNER, "/permanentDelete")).status == 204
    assert graph("GET", item_url(other, SCANNER)).code == "ErrorItemNotFound"


def test_folders(sandbox, graph):
    made = sandbox.tenant.add_folder(SCANNER, "Scans", "inbox")
    sandbox.tenant.add_message(SCANNER, mail(), folder=made)
    fill(sandbox, 2)
    shown = graph("GET", users(SCANNER, "/mailFolders/inbox")).value
    assert (shown["displayName"], shown["totalItemCount"], shown["childFolderCount"]) == ("Inbox", 2, 1)
    assert ids(graph("GET", users(SCANNER, f"/mailFolders/{segment(shown['id'])}/childFolders"))) == [made]
    named = graph("GET", users(SCANNER, "/mailFolders/inbox/childFolders"), filter="displayName eq 'scans'")
    assert ids(named) == [made]
    assert len(ids(graph("GET", users(SCANNER, f"/mailFolders/{segment(made)}/messages")))) == 1
    top = graph("GET", users(SCANNER, "/mailFolders"), top=100, select="displayName").value["value"]
    assert "Inbox" in [folder["displayName"] for folder in top]
    assert all(set(folder) == {"id", "displayName"} for folder in top)
    assert graph("GET", users(SCANNER, "/mailFolders/clutter")).code == "ErrorItemNotFound"


def test_delta(sandbox, graph):
    made = fill(sandbox, 5)
    url = users(SCANNER, "/mailFolders/inbox/messages/delta")
    preferring = {"Prefer": 'odata.maxpagesize=2, IdType="ImmutableId"'}
    found, pages, last = [], 0, graph("GET", url, headers=preferring, select="isRead")
    while True:
        found, pages = found + ids(last), pages + 1
        link = last.value.get("@odata.nextLink")
        if link is None:
            break
        last = graph.raw("GET", link[link.index("/v1.0") :], headers=preferring)
    assert (found, pages) == (made, 3)
    link = last.value["@odata.deltaLink"]

    def changes():
        answer = graph.raw("GET", link[link.index("/v1.0") :], headers=IMMUTABLE)
        return answer, [] if answer.code else [(item["id"], "@removed" in item) for item in answer.value["value"]]

    assert changes()[1] == []
    new = sandbox.tenant.add_message(SCANNER, mail(), received=1_700_000_100.0)
    graph("POST", item_url(made[0], SCANNER, "/move"), {"destinationId": "archive"})
    graph("PATCH", item_url(made[1], SCANNER), {"isRead": True})
    assert changes()[1] == [(made[1], False), (new, False), (made[0], True)]
    sandbox.tenant.delta_lost = True
    answer, _ = changes()
    assert (answer.status, answer.code) == (410, "syncStateNotFound")


# --- batch


def batch(graph, *parts):
    requests = [{"id": str(n), **part} for n, part in enumerate(parts)]
    answer = graph.raw(
        "POST", "/v1.0/$batch", json.dumps({"requests": requests}).encode(), {"Content-Type": "application/json"}
    )
    return answer, {part["id"]: part for part in (answer.value or {}).get("responses", [])}


def test_batch(sandbox, graph):
    made = fill(sandbox, 3)
    sandbox.faults.add("answer", path=segment(made[1]), status=429, retry_after=2)
    move = [
        {
            "method": "POST",
            "url": item_url(item, SCANNER, "/move"),
            "headers": {**IMMUTABLE, "Content-Type": "application/json"},
            "body": {"destinationId": "deleteditems"},
        }
        for item in made
    ]
    answer, parts = batch(graph, *move, {"method": "GET", "url": "/me", "dependsOn": ["1"]})
    assert answer.status == 200
    assert [parts[str(n)]["status"] for n in range(4)] == [201, 429, 201, 424]
    assert parts["1"]["headers"]["Retry-After"] == "2"
    assert sandbox.tenant.items(SCANNER)[0].immutable == made[1]


def test_batch_needs_prefer_within(sandbox, graph):
    made = sandbox.tenant.add_message(SCANNER, mail())
    url = item_url(made, SCANNER)
    _, parts = batch(graph, {"method": "GET", "url": url}, {"method": "GET", "url": url, "headers": IMMUTABLE})
    assert [parts["0"]["status"], parts["1"]["status"]] == [400, 200]


def test_batch_refused(graph):
    assert batch(graph, *[{"method": "GET", "url": "/me"}] * 21)[0].status == 400
    assert batch(graph)[0].status == 400
    _, parts = batch(graph, {"method": "GET", "url": "/v1.0/me"}, {"method": "POST", "url": "/me/sendMail", "body": {}})
    assert [parts["0"]["status"], parts["1"]["status"]] == [400, 415]


# --- letters


@each(
    "value, expected",
    [
        ("a@b.c", [("", "a@b.c")]),
        ('"Last, First" <a@b.c>, d@e', [("Last, First", "a@b.c"), ("", "d@e")]),
        ("=?utf-8?q?J=C3=B6?= <a@b.c>", [("Jö", "a@b.c")]),
        ("group: a@b.c, d@e;", [("", "a@b.c"), ("", "d@e")]),
        ("undisclosed-recipients:;", []),
        ('"odd local"@b.c', [("", '"odd local"@b.c')]),
    ],
)
def test_addresses(value, expected):
    assert letter.addresses(f"To: {value}\r\n\r\n".encode(), "to") == expected


@each("value", ["a", "a b@c", "<>", "a@b@c", "a@", "@b"])
def test_no_addresses(value):
    with pytest.raises(letter.BadAddress):
        letter.addresses(f"To: {value}\r\n\r\n".encode(), "to")


def test_fields_are_replaced_and_the_rest_is_untouched():
    raw = b"A: 1\r\nTo: x\r\n\tfolded\r\nB: 2\r\n\r\nbody\r\n\r\n"
    assert letter.join(*letter.split(raw)) == raw
    assert letter.with_field(raw, "To", "") == b"A: 1\r\nB: 2\r\n\r\nbody\r\n\r\n"
    assert letter.with_field(raw, "Subject", "new") == raw.replace(b"B: 2\r\n", b"B: 2\r\nSubject: new\r\n")
