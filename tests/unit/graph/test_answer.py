"""Answers: Retry-After, error codes, and what is no answer of Graph's."""

from __future__ import annotations

import random
import urllib.parse

import graph_harness
import pytest
from cases import each
from graph_harness import ALERTS, INBOX, MAIL

from m365proxy.graph import answer as answer_module
from m365proxy.graph.answer import Answer, GraphTrouble, NoAnswer, parse_retry_after
from m365proxy.graph.slots import SLOTS

harness = graph_harness.harness


NOW, LATER = "Sun, 06 Nov 1994 08:49:00 GMT", "Sun, 06 Nov 1994 08:49:37 GMT"


@each(
    "value, date, seconds",
    [
        (None, NOW, 0.0),
        ("3", NOW, 3.0),
        (" 12 ", None, 12.0),
        ("2.128", NOW, 3.0),
        ("0", NOW, 1.0),
        ("-5", NOW, 1.0),
        ("3600", NOW, 3600.0),
        ("100000", NOW, 86400.0),
        (LATER, NOW, 37.0),
        (NOW, LATER, 1.0),
        ("Sun, 06 Nov 1994 09:49:00 GMT", NOW, 3600.0),
        ("Tue, 08 Nov 1994 09:49:00 GMT", NOW, 86400.0),
        ("soon", NOW, 10.0),
        ("", NOW, 10.0),
        ("nan", NOW, 10.0),
        ("inf", NOW, 10.0),
        (LATER, "garbage", 10.0),
        ("Sun, 99 Nov 1994 08:49:37 GMT", NOW, 10.0),
    ],
)
def test_parse_retry_after(value, date, seconds):
    assert parse_retry_after(value, date) == seconds


class Response:
    def __init__(self, status=200, body=b"", headers=None):
        self.status_code = status
        self.headers = headers or {}
        self._body = body

    def iter_content(self, size):
        for i in range(0, len(self._body), size):
            yield self._body[i : i + size]


def answer_of(body, status=200, **headers):
    return Answer(Response(status, body, headers), lambda reusable: None)


@each(
    "body, code",
    [
        (b'{"error": {"code": "Outer"}}', "Outer"),
        (b'{"error": {"code": "Outer", "innerError": {"code": "Inner"}}}', "Inner"),
        (b'{"error": {"code": "Outer", "innererror": {"innererror": {"code": "Deep"}}}}', "Deep"),
        (b'{"error": {"code": "Outer", "innerError": {"request-id": "x"}}}', "Outer"),
        (b'{"error": {"code": 5}}', ""),
        (b'{"error": "invalid_grant"}', ""),
        (b'{"error": null}', ""),
        (b"[]", ""),
        (b"", ""),
        (b"<html>", ""),
        (b"\xff\xfe\x00", ""),
        (b'{"error": ' * 100_000, ""),
    ],
)
def test_code_is_the_innermost(body, code):
    assert answer_of(body, 400).code == code


@each("body", [b"", b"null", b"[1]", b"7", b"{", b"<html>", b"\xff", b"[" * 200_000])
def test_json_is_an_object_or_empty(body):
    assert answer_of(body).json() == {}


def test_json_is_read_once():
    answer = answer_of(b'{"value": []}', **{"request-id": "x"})
    answer.load()
    assert answer.from_graph and answer.json() is answer.json()


@each(
    "status, body, request_id, from_graph",
    [
        (202, b"", "r", True),
        (202, b"<html>", "r", False),
        (202, b'{"value": []}', "r", False),
        (202, b"", "", False),
        (204, b"", "r", True),
        (204, b"", "", False),
        (404, b'{"error": {"code": "ErrorItemNotFound"}}', "r", True),
        (404, b'{"value": []}', "r", False),
        (404, b"", "r", False),
        (410, b"", "r", False),
        (200, b'{"value": []}', "", False),
        (200, b'{"value": []}', "r", True),
        (403, b'{"error": {}}', "r", True),
        (403, b'{"error": {}}', "", False),
        (403, b"", "r", True),
        (403, b"<html>", "r", False),
        (200, b"<html>", "", False),
    ],
)
def test_from_graph(status, body, request_id, from_graph):
    headers = {"request-id": request_id} if request_id else {}
    answer = answer_of(body, status, **headers)
    answer.load()
    assert answer.from_graph is from_graph


def test_an_empty_answer_that_broke_off_is_no_202():
    answer = answer_of(b"", 202, **{"request-id": "r"})
    answer.forget_body()
    assert not answer.from_graph


STRANGERS = {
    "page": {"status": 200},
    "page with a relayed request-id": {"status": 200, "headers": {"request-id": "r"}},
    "accepted": {"status": 202, "headers": {"request-id": "r"}},
    "no content": {"status": 204},
    "listing": {"status": 200, "body": b'{"value": []}', "headers": {"Content-Type": "application/json"}},
    "batch": {"status": 200, "body": b'{"responses": [{"id": "0", "status": 204}]}'},
    "not there": {"status": 404, "headers": {"request-id": "r"}, "body": b""},
    "gone": {"status": 404, "body": b'{"error": {"code": "ErrorItemNotFound"}}'},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", STRANGERS)
def test_what_a_stranger_says_is_no_answer_of_graphs(harness, name, stream):
    """A listing, an empty mailbox, a deletion done, a batch done, an item gone: only Graph can say so."""
    harness.faults.add("stranger", **STRANGERS[name])
    with pytest.raises(GraphTrouble, match="Another system answered"):
        harness.graph.read("GET", ALERTS, INBOX, stream=stream)
    assert harness.graph.read("GET", ALERTS, INBOX).ok


def test_a_strangers_401_is_not_repeated(harness):
    harness.faults.add("stranger_after", status=401)
    answer = harness.send()
    assert answer.status == 401 and not answer.from_graph
    assert len(harness.tenant.delivered) == 1 and harness.tokens.asked == [None]


def test_an_endless_answer_is_not_read(harness, monkeypatch):
    monkeypatch.setattr(answer_module, "_ANSWER_LIMIT", 1000)
    for _ in range(20):
        harness.tenant.add_message(ALERTS, MAIL)
    answer = harness.get()
    assert answer.status == 200 and answer.json() == {}
    assert harness.graph.spare(ALERTS) == SLOTS
    with harness.get(stream=True) as stream, pytest.raises(NoAnswer, match="too large"):
        stream.load()


@pytest.mark.parametrize("coding", ["length", "chunked", "gzip"])
def test_a_stream_that_breaks_off(harness, coding):
    harness.tenant.value_coding = coding
    harness.tenant.add_message(ALERTS, MAIL + bytes(random.Random(2).choices(range(32, 127), k=100_000)))
    path = "/messages/" + urllib.parse.quote(harness.get().json()["value"][0]["id"], safe="") + "/$value"
    with harness.get(path=path, stream=True) as stream:
        assert len(b"".join(stream.chunks())) > 100_000
    harness.faults.add("cut_answer", path="value$")
    with harness.get(path=path, stream=True) as stream, pytest.raises(NoAnswer, match="broke off"):
        b"".join(stream.chunks())
