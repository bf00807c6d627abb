"""HTTP on the wire: what is answered to clients of every kind."""

import pytest
from waiting import wait_until

from m365proxy.web.visitors import Visitors


def test_a_connection_serves_several_requests(talk):
    client = talk()
    for _ in range(3):
        status, header, body = client.ask("/livez")
        assert (status, body) == (200, "ok\n")
        assert "Connection" not in header


def test_head_has_the_header_of_get_and_no_body(talk):
    client = talk()
    _, header, body = client.ask("/livez")
    assert client.ask("/livez", method="HEAD") == (200, header, "")
    assert client.ask("/livez")[2] == body


def test_requests_sent_ahead_are_answered_in_their_order(talk):
    client = talk()
    client.send(
        b"".join(b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path for path in (b"livez", b"none", b"livez"))
    )
    assert [client.response()[0] for _ in range(3)] == [200, 404, 200]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /livez HTTP/1.0\r\n\r\n",
        b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_the_connection_ends_where_the_next_request_could_not_be_found(talk, head):
    client = talk()
    client.send(head)
    status, header, _ = client.response()
    assert (status, header["Connection"]) == (200, "close")
    assert client.ended()


@pytest.mark.parametrize(
    "head,status",
    [
        (b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: %s\r\n" % (n, b"y" * 1000) for n in range(20)) + b"\r\n", 431),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET\r\n", 400),
        (b"\r\n", 400),
        (b"GET /livez\r\n", 400),
        (b"GET / ftp\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 \r\n", 400),
        (b"EHLO printer.contoso.com\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"G\xfcT / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /livez/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /%6Civez HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET http://localhost/livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /livez?x=<script> HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
    ],
)
def test_requests_of_every_kind(talk, head, status):
    client = talk()
    client.send(head)
    found, header, body = client.response()
    assert found == status
    assert header["Content-Type"] == "text/plain; charset=utf-8"
    assert len(body) < 100 and "<" not in body


def test_after_many_requests_a_connection_ends(talk, monkeypatch):
    monkeypatch.setattr("m365proxy.web.session._MOST_REQUESTS", 2)
    client = talk()
    assert "Connection" not in client.ask("/livez")[1]
    assert client.ask("/livez")[1]["Connection"] == "close"
    assert client.ended()


@pytest.mark.parametrize("sent", [b"", b"GET /li", b"GET /livez HTTP/1.1\r\nHost: loc"])
def test_who_sends_no_whole_request_in_time_is_cut(talk, monkeypatch, sent):
    monkeypatch.setattr("m365proxy.web.session._HEAD_SECONDS", 0.05)
    client = talk()
    client.send(sent)
    assert client.ended()


def test_who_takes_no_response_in_time_is_cut(talk, monkeypatch):
    monkeypatch.setattr("m365proxy.web.session._RESPONSE_SECONDS", -1)
    client = talk()
    client.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert client.file.read().endswith(b"\r\n\r\n")


def test_a_probe_has_achieved_something_and_is_not_slowed_down_when_it_comes_again(make_port, talk, monkeypatch):
    left = []
    leave = Visitors.leave
    monkeypatch.setattr(Visitors, "leave", lambda self, one: left.append(one.made_progress) or leave(self, one))
    client = talk()
    client.ask("/livez")
    client.close()
    assert wait_until(lambda: left) == [True]


def test_who_has_to_take_a_response_may_be_cut_for_it(talk, monkeypatch):
    turns = []
    for name in ("wait_for", "attend_to"):
        monkeypatch.setattr(Visitors, name, lambda self, one, name=name: turns.append(name))
    talk().ask("/livez")
    assert turns == ["wait_for", "attend_to", "wait_for"]
