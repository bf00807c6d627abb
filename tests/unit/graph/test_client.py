"""The client of Graph against the stand-in tenant: places, holds, tokens, connections, bodies."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import random
import re
import socket
import threading
import types
import urllib.parse

import pytest
from tunnel import Tunnel

from m365proxy.errors import Permanent, SignInNeeded
from m365proxy.graph import answer as answer_module
from m365proxy.graph import client as graph_module
from m365proxy.graph.answer import (
    Answer,
    Cancellation,
    Cancelled,
    GraphRefused,
    GraphTrouble,
    NoAnswer,
    Throttled,
    parse_retry_after,
)
from m365proxy.graph.body import Body, base64_body
from m365proxy.graph.client import SLOTS, Graph
from m365proxy.sandbox import Sandbox, webserver
from m365proxy.system.outbound import Outbound

RELAY, ALERTS, SCANNER = "relay@contoso.com", "alerts@contoso.com", "scanner@contoso.com"
INBOX = "/mailFolders/inbox/messages"
MAIL = f"From: {ALERTS}\r\nTo: {SCANNER}\r\nSubject: s\r\nMessage-ID: <1@a>\r\n\r\nhello\r\n".encode()


class FakeTokens:
    """Hands out the stand-in's tokens, and counts."""

    def __init__(self, entra):
        self._entra = entra
        self.asked = []
        self.given = []
        self.trouble = None

    def access_token(self, refused=None):
        self.asked.append(refused)
        if self.trouble is not None:
            raise self.trouble
        if refused or not self.given:
            self.given.append(self._entra.token())
        return self.given[-1]


class Counting(Sandbox):
    """Also counts connections."""

    connections = 0

    def connecting(self):
        """Called before each TLS handshake."""

    def wrapped(self, sock):
        self.connections += 1
        self.connecting()
        return super().wrapped(sock)


class House:
    def __init__(self):
        self.sandbox = Counting(mailboxes=(RELAY, ALERTS, SCANNER), user=RELAY)
        self.sandbox.start()
        self.tenant = self.sandbox.tenant
        self.faults = self.sandbox.faults
        self.tokens = FakeTokens(self.sandbox.entra)
        self.outbound = Outbound(None, self.sandbox.ca_file, direct=True)
        self.graph = Graph(self.tokens, self.outbound, self.sandbox.graph_url, RELAY)

    def get(self, mailbox=ALERTS, path=INBOX, **more):
        return self.graph.call("GET", mailbox, path, **more)

    def send(self, raw=MAIL, mailbox=ALERTS, **more):
        return self.graph.call(
            "POST",
            mailbox,
            "/sendMail",
            headers={"Content-Type": "text/plain"},
            body=lambda: base64_body(len(raw), [raw]),
            **more,
        )

    def close(self):
        self.graph.close()
        self.sandbox.stop()


@pytest.fixture
def house():
    made = House()
    yield made
    made.close()


@pytest.fixture
def clock(monkeypatch):
    """The client's monotonic clock, in our hands."""
    real = graph_module.time
    fake = types.SimpleNamespace(now=1000.0, time=real.time, gmtime=real.gmtime, strftime=real.strftime)
    fake.monotonic = lambda: fake.now
    monkeypatch.setattr(graph_module, "time", fake)
    return fake


def together(*actions):
    """Run them at the same time, each in a thread; what they returned or raised."""
    results = [None] * len(actions)

    def run(index, action):
        try:
            results[index] = action()
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=job) for job in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


# Places


def test_four_at_a_time_whoever_calls(house):
    house.sandbox.latency = 0.02
    link = f"{house.sandbox.graph_url}/v1.0/users/{ALERTS}{INBOX}?$top=5"
    kinds = [
        lambda: house.get().status,
        lambda: house.send().status,
        lambda: house.graph.follow(ALERTS, link).status,
        lambda: house.graph.read("GET", ALERTS.upper(), INBOX).status,
        lambda: read_stream(house),
    ]
    done = together(*[lambda kind=kind: [kind() for _ in range(3)] for kind in kinds * 3])
    assert all(isinstance(statuses, list) and set(statuses) <= {200, 202} for statuses in done), done
    assert house.sandbox.peak_concurrency[ALERTS] == SLOTS
    assert house.graph.spare(ALERTS) == SLOTS


def read_stream(house):
    with house.get(stream=True) as answer:
        b"".join(answer.chunks())
        return answer.status


def test_an_open_stream_keeps_its_place_until_it_is_closed(house, wait_until):
    streams = [house.get(stream=True) for _ in range(SLOTS)]
    assert house.graph.spare(ALERTS) == 0
    fifth = threading.Thread(target=lambda: house.get().close())
    fifth.start()
    assert house.get(SCANNER).status == 200  # another mailbox has places of its own
    assert len(house.sandbox.seen(ALERTS)) == SLOTS
    streams[0].close()
    fifth.join(10)
    assert not fifth.is_alive() and len(house.sandbox.seen(ALERTS)) == SLOTS + 1
    for stream in streams:
        stream.close()
        stream.close()  # once more does no harm
    assert house.graph.spare(ALERTS) == SLOTS


def test_no_place_in_time_is_surely_not_sent(house, monkeypatch):
    monkeypatch.setattr(graph_module, "_SLOT_SECONDS", 0.01)
    streams = [house.get(stream=True) for _ in range(SLOTS)]
    with pytest.raises(Throttled) as caught:
        house.send()
    assert "place" in str(caught.value)
    for stream in streams:
        stream.close()
    assert house.send().status == 202


@pytest.mark.parametrize("fault", ["cut", "cut_after", "cut_answer", "portal", "answer"])
def test_a_place_comes_back_whatever_happens(house, fault):
    house.faults.add(fault, times=SLOTS + 1)
    for _ in range(SLOTS + 1):
        with contextlib.suppress(NoAnswer):
            house.get().close()
    assert house.graph.spare(ALERTS) == SLOTS


def test_a_place_comes_back_where_no_session_can_be_made(house, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(house.graph._outbound, "session", lambda: [].pop())
        for _ in range(SLOTS + 1):
            with pytest.raises(IndexError):
                house.get()
    assert house.graph.spare(ALERTS) == SLOTS and house.send().status == 202


def test_hanging_calls_of_one_mailbox_delay_no_other(house, wait_until):
    fault = house.faults.add("hang", mailbox=ALERTS, times=None)
    threads = [threading.Thread(target=lambda: house.get().close()) for _ in range(SLOTS * 2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: fault.hits == SLOTS)
    assert house.get(SCANNER).status == 200
    assert house.send(MAIL.replace(b"alerts", b"relay"), RELAY).status == 202
    assert fault.hits == SLOTS
    house.faults.clear()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


# Holds

NOW, LATER = "Sun, 06 Nov 1994 08:49:00 GMT", "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
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


def graphs_date(house, seconds):
    return email.utils.formatdate(house.tenant.clock() + seconds, usegmt=True)


@pytest.mark.parametrize(
    "retry_after, least, most",
    [(3, 3, 3), ("2.5", 3, 3), (None, 10, 10), ("garbage", 10, 10), ("date", 118, 121), (9999, 9999, 9999)],
)
def test_429_holds_its_mailbox_only(house, clock, retry_after, least, most):
    house.tenant.clock = lambda: 2_000_000_000.0  # Graph's clock, not ours, measures a date
    value = graphs_date(house, 120) if retry_after == "date" else retry_after
    house.faults.add("answer", status=429, mailbox=ALERTS, retry_after=value)
    assert house.get().status == 429
    before = len(house.sandbox.requests)
    for attempt in (house.get, house.send, lambda: house.graph.ready(ALERTS), lambda: house.get(ALERTS.title())):
        with pytest.raises(Throttled) as caught:
            attempt()
        assert least <= caught.value.seconds <= most
        assert ALERTS in str(caught.value).lower()
    assert least <= house.graph.held(ALERTS) <= most and house.graph.spare(ALERTS) == 0
    assert len(house.sandbox.requests) == before
    assert house.graph.held(SCANNER) == 0 and house.get(SCANNER).status == 200
    house.graph.ready(SCANNER)
    clock.now += most + 0.01
    assert house.get().status == 200 and house.graph.held(ALERTS) == 0


@pytest.mark.parametrize("status, retry_after, held", [(503, 7, 7), (503, None, 0), (504, 7, 0), (200, 7, 0)])
def test_which_answers_hold(house, clock, status, retry_after, held):
    house.faults.add("answer", status=status, retry_after=retry_after)
    house.get()
    assert house.graph.held(ALERTS) == held


def test_only_graphs_own_word_counts_for_long(house):
    for request_id, seconds in ((True, 7200.0), (False, 600.0)):
        house.faults.add("answer" if request_id else "stranger", status=503, retry_after=7200)
        assert house.get(SCANNER if request_id else ALERTS).retry_after == seconds
    assert house.graph.held(SCANNER) > 7000 and house.graph.held(ALERTS) == 0


def test_a_long_hold_is_told_once_with_its_end(house, caplog):
    house.graph._clock = lambda: 1_800_000_000.0
    house.sandbox.latency = 0.1  # all are on their way before one is answered
    house.faults.add("answer", status=429, retry_after=7200, times=SLOTS)
    assert [answer.status for answer in together(*[house.get] * SLOTS)] == [429] * SLOTS
    house.faults.add("answer", status=429, retry_after=5)
    assert house.get(SCANNER).status == 429
    told = [record.getMessage() for record in caplog.records if "until" in record.getMessage()]
    assert told == [f"{ALERTS}: Graph wants no request for 7200 s; nothing is sent or read until 2027-01-15T10:00:00Z"]


def test_a_shorter_hold_does_not_end_a_longer_one(house, clock):
    house.sandbox.latency = 0.1  # both are on their way before one is answered
    for seconds in (30, 5):
        house.faults.add("answer", status=429, retry_after=seconds)
    assert [answer.status for answer in together(house.get, house.get)] == [429, 429]
    assert house.graph.held(ALERTS) == 30


def test_who_waits_for_a_place_learns_of_the_hold(house, wait_until):
    fault = house.faults.add("hang", times=SLOTS)
    house.faults.add("answer", status=429, retry_after=30, after=0)
    results = []

    def call():
        try:
            results.append(house.get().status)
        except (NoAnswer, Throttled) as error:
            results.append(type(error))

    threads = [threading.Thread(target=call) for _ in range(SLOTS + 5)]
    for thread in threads:
        thread.start()
    wait_until(lambda: fault.hits == SLOTS and house.graph._lane(ALERTS).slots.wanted == SLOTS + 5)
    fault.release()
    for thread in threads:
        thread.join(10)
    # The released four are answered, the next ones meet the 429, and what still waited then asks nothing.
    assert results.count(200) + results.count(429) + results.count(Throttled) == SLOTS + 5
    assert 429 in results and house.graph.held(ALERTS) > 0
    with pytest.raises(Throttled):
        house.get()


NEXT_PAGE = f"/v1.0/users/{ALERTS}{INBOX}?$top=5"


@pytest.mark.parametrize(
    "kind, sent",
    [
        ("read", 0),
        ("follow", 0),
        ("batch", 0),
        ("send", 0),
        ("stream", 0),
        ("upload", 0),
        ("after a 401", 1),
    ],
)
def test_no_request_leaves_for_a_mailbox_that_is_held_while_its_connection_is_made(house, monkeypatch, kind, sent):
    monkeypatch.setattr(graph_module, "_IDLE_SECONDS", -1.0)  # a connection for each request
    requests = {
        "read": lambda: house.graph.read("GET", ALERTS, INBOX),
        "follow": lambda: house.graph.follow(ALERTS, house.sandbox.graph_url + NEXT_PAGE),
        "batch": lambda: house.graph.batch(ALERTS, [{"id": "1", "method": "GET", "url": f"/users/{ALERTS}{INBOX}"}]),
        "send": house.send,
        "stream": lambda: house.get(stream=True),
        "upload": lambda: house.graph.upload("PUT", ALERTS, house.sandbox.graph_url + "/upload/1", {}, b"octets"),
        "after a 401": house.send,
    }
    if kind == "after a 401":
        house.faults.add("answer", status=401)

    def connecting():
        if house.sandbox.connections == sent + 1:
            house.graph.rest(ALERTS, 30)  # another call of this mailbox gets its 429 now

    house.sandbox.connecting = connecting
    with pytest.raises(Throttled) as caught:
        requests[kind]()
    assert 0 < caught.value.seconds <= 30
    assert house.sandbox.connections == sent + 1 and len(house.sandbox.requests) == sent
    assert house.graph._lane(ALERTS).slots.spare == SLOTS and house.tenant.delivered == []
    assert house.get(SCANNER).status == 200


# Tokens


def test_a_refused_token_is_renewed_once(house):
    house.faults.add("answer", status=401)
    assert house.send().status == 202
    first, second = house.sandbox.seen("sendMail")
    assert house.tokens.asked == [None, house.tokens.given[0]]
    assert [r.headers["authorization"] for r in (first, second)] == ["Bearer " + t for t in house.tokens.given]
    assert first.size == second.size > 0  # the body is made anew
    assert len(house.tenant.delivered) == 1


def test_a_second_401_is_the_answer(house):
    house.faults.add("answer", status=401, times=None)
    answer = house.send()
    assert answer.status == 401 and answer.code == "InvalidAuthenticationToken" and answer.from_graph
    assert len(house.sandbox.seen("sendMail")) == 2 and len(house.tokens.asked) == 2
    assert house.graph.spare(ALERTS) == SLOTS


def test_without_a_token_nothing_is_asked(house):
    house.tokens.trouble = SignInNeeded("Run `m365proxy login`.")
    for attempt in (house.get, house.send, lambda: house.graph.ready(ALERTS)):
        with pytest.raises(SignInNeeded):
            attempt()
    assert house.sandbox.requests == [] and house.graph.spare(ALERTS) == SLOTS


def test_no_new_token_after_a_401(house):
    house.faults.add("answer", status=401)
    real = house.tokens.access_token

    def once(refused=None):
        house.tokens.trouble = SignInNeeded("Run `m365proxy login`.") if refused else None
        return real(refused)

    house.tokens.access_token = once
    with pytest.raises(SignInNeeded):
        house.send()
    assert house.tenant.delivered == [] and house.graph.spare(ALERTS) == SLOTS


# Connections


@pytest.mark.parametrize("kind", ["hang", "hang_after"])
@pytest.mark.parametrize("reused", [False, True])
def test_a_call_that_waits_ends_when_its_leash_is_pulled(house, wait_until, kind, reused):
    if reused:
        house.graph.read("GET", ALERTS, INBOX)
    fault = house.faults.add(kind, mailbox=ALERTS)
    cancellation = Cancellation()
    ended = []

    def call():
        with pytest.raises(NoAnswer):
            house.graph.read("GET", ALERTS, INBOX, cancellation=cancellation)
        ended.append(1)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    wait_until(lambda: fault.hits == 1)
    cancellation.cancel()
    thread.join(10)
    assert ended and house.graph.spare(ALERTS) == SLOTS
    with pytest.raises(Cancelled):
        house.graph.read("GET", ALERTS, INBOX, cancellation=cancellation)
    assert fault.hits == 1 and house.graph.spare(ALERTS) == SLOTS
    assert house.graph.read("GET", ALERTS, INBOX).ok


def test_a_leash_pulled_late_harms_nobody(house):
    """The connection may be another call's by then."""
    cancellation = Cancellation()
    house.graph.read("GET", ALERTS, INBOX, cancellation=cancellation)
    cancellation.cancel()
    assert house.graph.read("GET", ALERTS, INBOX).ok
    assert house.sandbox.connections == 1


def test_a_connection_is_used_again(house):
    for _ in range(5):
        assert house.get().status == 200
        assert house.send().status == 202
    assert house.sandbox.connections == 1


def test_after_503_a_new_connection(house):
    house.get()
    house.faults.add("answer", status=503)
    assert house.get().status == 503
    assert house.sandbox.connections == 1
    house.get()
    house.get()
    assert house.sandbox.connections == 2


def test_an_idle_connection_is_not_trusted(house, clock):
    house.get()
    clock.now += graph_module._IDLE_SECONDS * 0.9
    house.get()
    assert house.sandbox.connections == 1
    clock.now += graph_module._IDLE_SECONDS * 1.1
    house.get()
    assert house.sandbox.connections == 2


def test_idle_connections_are_closed_by_the_next_call(house, clock, wait_until):
    house.sandbox.latency = 0.1
    together(house.get, house.get, house.get)
    assert house.sandbox.connections == 3
    clock.now += graph_module._IDLE_SECONDS * 0.9
    house.get()  # with the newest of the three
    clock.now += graph_module._IDLE_SECONDS * 0.2
    house.get()
    assert house.sandbox.connections == 3
    wait_until(lambda: len(house.sandbox._server._workers) == 1, 30)


def test_a_connection_that_comes_back_after_the_end_is_closed(house, monkeypatch):
    """A call may outlast close(): nobody would ever take its connection out of the pool again."""
    made = []
    session = house.graph._outbound.session

    def watched():
        one = session()
        one.closed = 0
        close = one.close

        def count():
            one.closed += 1
            close()

        one.close = count
        made.append(one)
        return one

    monkeypatch.setattr(house.graph._outbound, "session", watched)
    answer = house.graph.call("GET", ALERTS, INBOX, stream=True)
    house.graph.close()
    answer.load()
    assert [one.closed for one in made] == [1]


def test_nor_an_old_one(house, clock):
    end = clock.now + graph_module._AGE_SECONDS
    while clock.now < end:
        house.get()  # never idle for long
        clock.now += 15
    assert house.sandbox.connections == 1
    clock.now += 1
    house.get()
    assert house.sandbox.connections == 2


@pytest.mark.parametrize("fault", ["cut_answer", "cut_after"])
def test_a_broken_connection_is_not_used_again(house, fault):
    house.faults.add(fault)
    with contextlib.suppress(NoAnswer):
        house.get()
    assert house.get().status == 200 and house.sandbox.connections == 2


def test_a_stream_left_in_the_middle_is_not_used_again(house):
    house.tenant.add_message(ALERTS, MAIL + b"x" * 300_000)
    item = house.get().json()["value"][0]["id"]
    with house.get(path=f"/messages/{graph_module.urllib.parse.quote(item, safe='')}/$value", stream=True) as answer:
        next(answer.chunks(1000))
    assert house.get().status == 200 and house.sandbox.connections == 2


def test_close_closes_idle_connections(house, wait_until):
    house.get()
    house.graph.close()
    wait_until(lambda: not house.sandbox._server._workers)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_answers(house, status):
    target = house.sandbox.graph_url + "/v1.0/me/elsewhere"
    house.faults.add("answer", status=status, headers={"Location": target})
    assert house.send().status == status
    house.faults.add("answer", status=status, headers={"Location": target})
    with pytest.raises((GraphTrouble, GraphRefused)):
        house.graph.read("GET", ALERTS, INBOX)
    assert house.sandbox.seen("elsewhere") == []


@pytest.fixture
def trap():
    """A port where nobody may come."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)
    yield listener.getsockname()[1]
    with pytest.raises(socket.timeout), listener:
        listener.accept()


@pytest.mark.parametrize(
    "link",
    [
        "https://localhost:{trap}/v1.0/me/messages?$skip=10",
        "http://127.0.0.1:{port}/v1.0/me/messages",
        "https://127.0.0.1:{port}@localhost:{trap}/v1.0/me",
        "https://graph@127.0.0.1:{port}/v1.0/me",
        "https://127.0.0.1:{trap}/v1.0/me",
        "//localhost:{trap}/v1.0",
        "/v1.0/me/messages",
        "",
    ],
)
def test_links_to_elsewhere_are_not_followed(house, trap, link):
    with pytest.raises(Permanent, match="another host"):
        house.graph.follow(ALERTS, link.format(trap=trap, port=house.sandbox.port))
    assert house.tokens.asked == [] and house.sandbox.requests == []


def test_pages_are_followed(house):
    for _ in range(3):
        house.tenant.add_message(ALERTS, MAIL)
    found = []
    page = house.graph.read("GET", ALERTS, INBOX, params={"$top": "2", "$select": "id"}).json()
    found += page["value"]
    while "@odata.nextLink" in page:
        page = house.graph.follow(ALERTS, page["@odata.nextLink"]).json()
        found += page["value"]
    assert len({item["id"] for item in found}) == 3


# Uploads


def test_an_upload_carries_no_token(house):
    made = house.graph.call("POST", ALERTS, "/messages", json={"subject": "s"}).json()
    path = "/messages/" + graph_module.urllib.parse.quote(made["id"], safe="")
    content = random.Random(1).randbytes(4_000_000)
    item = {"AttachmentItem": {"attachmentType": "file", "name": "a", "size": len(content)}}
    session = house.graph.call("POST", ALERTS, path + "/attachments/createUploadSession", json=item)
    assert session.status == 201, session.code
    url = session.json()["uploadUrl"]
    asked = len(house.tokens.asked)
    size = len(content)
    headers = {"Content-Type": "application/octet-stream", "Content-Range": f"bytes 0-{size - 1}/{size}"}
    answer = house.graph.upload("PUT", ALERTS, url, headers, content)
    assert answer.status == 201
    seen = house.sandbox.seen("^/upload/")
    assert [("authorization" in r.headers, r.size) for r in seen] == [(False, len(content))]
    assert len(house.tokens.asked) == asked
    with pytest.raises(Permanent, match="not HTTPS"):
        house.graph.upload("PUT", ALERTS, url.replace("https", "http"), {}, b"x")


# Bodies


def test_a_body_is_read_in_small_pieces(house):
    sizes, made, lead = [], [0], []
    total = 3_000_000

    class Watched(Body):
        def read(self, size=-1):
            data = super().read(size)
            sizes.append(size)
            made[0] -= len(data)
            lead.append(made[0])
            return data

    def pieces():
        lines = b"x" * 70 + b"\r\n"
        raw = base64.b64encode((MAIL + lines * total)[: total * 3 // 4])
        for i in range(0, total, 60_000):
            made[0] += len(raw[i : i + 60_000])
            yield raw[i : i + 60_000]

    answer = house.graph.call(
        "POST", ALERTS, "/sendMail", headers={"Content-Type": "text/plain"}, body=lambda: Watched(total, pieces())
    )
    assert answer.status == 202 and house.sandbox.seen("sendMail")[0].size == total
    assert min(sizes) > 0 and max(sizes) <= 64 * 1024, "somebody reads it whole"
    assert max(lead) <= 120_000


@pytest.mark.parametrize("size", [0, 1, 2, 3, 57, 1000])
@pytest.mark.parametrize("cut", [1, 2, 3, 7, 1000])
def test_base64_body(size, cut):
    raw = bytes(range(256)) * 4
    raw = raw[:size]
    body = base64_body(size, [raw[i : i + cut] for i in range(0, size, cut)])
    expected = base64.b64encode(raw)
    assert len(body) == len(expected) and b"".join(body) == expected and body.exhausted


def test_exhausted_tells_the_last_octet():
    body = Body(10, iter([b"abc", b"defg", b"hij"]))
    assert not body.exhausted
    assert body.read(4) == b"abcd" and body.read(5) == b"efghi" and not body.exhausted
    assert body.read(100) == b"j" and body.exhausted and body.read(5) == b""
    whole = Body(3, [b"abc"])
    assert whole.read() == b"abc" and whole.exhausted
    assert list(Body(40_000, [b"x" * 40_000])) == [b"x" * 16384, b"x" * 16384, b"x" * 7232]


def test_a_call_without_a_body_says_so(house):
    answer = house.graph.call("POST", ALERTS, "/messages/x/send")
    assert house.sandbox.requests[0].headers["content-length"] == "0"
    assert answer.code == "ErrorInvalidIdMalformed"  # and not 411


# Answers


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


@pytest.mark.parametrize(
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


@pytest.mark.parametrize("body", [b"", b"null", b"[1]", b"7", b"{", b"<html>", b"\xff", b"[" * 200_000])
def test_json_is_an_object_or_empty(body):
    assert answer_of(body).json() == {}


@pytest.mark.parametrize(
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
def test_what_a_stranger_says_is_no_answer_of_graphs(house, name, stream):
    """A listing, an empty mailbox, a deletion done, a batch done, an item gone: only Graph can say so."""
    house.faults.add("stranger", **STRANGERS[name])
    with pytest.raises(GraphTrouble, match="between"):
        house.graph.read("GET", ALERTS, INBOX, stream=stream)
    assert house.graph.read("GET", ALERTS, INBOX).ok


def test_a_strangers_401_is_not_repeated(house):
    house.faults.add("stranger_after", status=401)
    answer = house.send()
    assert answer.status == 401 and not answer.from_graph
    assert len(house.tenant.delivered) == 1 and house.tokens.asked == [None]


def test_an_endless_answer_is_not_read(house, monkeypatch):
    monkeypatch.setattr(answer_module, "_ANSWER_LIMIT", 1000)
    for _ in range(20):
        house.tenant.add_message(ALERTS, MAIL)
    answer = house.get()
    assert answer.status == 200 and answer.json() == {}
    assert house.graph.spare(ALERTS) == SLOTS
    with house.get(stream=True) as stream, pytest.raises(NoAnswer, match="larger"):
        stream.load()


@pytest.mark.parametrize("coding", ["length", "chunked", "gzip"])
def test_a_stream_that_breaks_off(house, coding):
    house.tenant.value_coding = coding
    house.tenant.add_message(ALERTS, MAIL + bytes(random.Random(2).choices(range(32, 127), k=100_000)))
    path = "/messages/" + graph_module.urllib.parse.quote(house.get().json()["value"][0]["id"], safe="") + "/$value"
    with house.get(path=path, stream=True) as stream:
        assert len(b"".join(stream.chunks())) > 100_000
    house.faults.add("cut_answer", path="value$")
    with house.get(path=path, stream=True) as stream, pytest.raises(NoAnswer, match="broke off"):
        b"".join(stream.chunks())


@pytest.mark.parametrize(
    "fault, error",
    [
        (dict(kind="answer", status=404), GraphRefused),
        (dict(kind="answer", status=403), GraphRefused),
        (dict(kind="answer", status=403, html=True), GraphTrouble),
        (dict(kind="answer", status=400), GraphRefused),
        (dict(kind="answer", status=408), GraphTrouble),
        (dict(kind="answer", status=423), GraphTrouble),
        (dict(kind="answer", status=429), GraphTrouble),
        (dict(kind="answer", status=500), GraphTrouble),
        (dict(kind="answer", status=503), GraphTrouble),
        (dict(kind="portal", status=403), GraphTrouble),
        (dict(kind="cut"), NoAnswer),
    ],
)
def test_read_raises_for_all_but_success(house, fault, error):
    house.faults.add(**fault)
    with pytest.raises(error) as caught:
        house.graph.read("GET", ALERTS, INBOX)
    assert str(caught.value).endswith(".")
    assert house.graph._lane(ALERTS).slots.wanted == 0


def test_urls(house):
    house.graph.call("GET", RELAY.upper(), INBOX, params={"$filter": "a eq 'b c'"})
    house.graph.call("GET", "o'brien+x@contoso.com", INBOX)
    mine, other = house.sandbox.requests
    assert mine.path == "/v1.0/me" + INBOX and mine.query == "%24filter=a%20eq%20%27b%20c%27"
    assert other.path == "/v1.0/users/o%27brien%2Bx@contoso.com" + INBOX


# Graph's clock, and whether it is there at all


def test_skew_is_learnt_from_the_date(house):
    for offset in (5000.0, -86400.0, 0.0):
        house.tenant.clock = lambda offset=offset: graph_module.time.time() + offset
        house.get()
        assert abs(house.graph.skew - offset) < 3
        assert abs(house.graph.now() - house.tenant.clock()) < 3


def test_nobody_but_graph_sets_the_clock(house):
    house.tenant.clock = lambda: 1000.0
    house.faults.add("portal")
    house.get()
    assert house.graph.skew == 0 and house.graph.last_contact == 0
    house.faults.add("answer", status=500, headers={"Date": "nonsense"})
    house.get()
    assert house.graph.last_contact > 0


def test_check_reachable(house):
    house.graph.check_reachable()
    assert house.tokens.asked == [] and "authorization" not in house.sandbox.requests[0].headers
    house.faults.add("portal")
    with pytest.raises(NoAnswer, match="something else"):
        house.graph.check_reachable()
    house.sandbox.offline()
    with pytest.raises(NoAnswer, match="Connection refused"):
        house.graph.check_reachable()
    house.sandbox.online()
    house.graph.check_reachable()


# Deadlines


@pytest.mark.parametrize("kind", ["drip", "drip_after", "drip_head"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_drips_ends_and_is_named_once(house, monkeypatch, caplog, kind, stream):
    monkeypatch.setattr(graph_module, "_total_seconds", lambda silence, body: 0.3)
    fault = house.faults.add(kind, path="sendMail", seconds=0.01)

    def send():
        with house.send(stream=stream, seconds=0.3) as answer:
            answer.load()
            return answer

    if kind == "drip_head" or stream:
        with pytest.raises(NoAnswer) as caught:
            send()
        assert caught.value.maybe_processed
    else:
        assert not send().from_graph or send().json() == {}
    assert fault.hits == 1 and house.graph._lane(ALERTS).slots.spare == SLOTS
    named = [record.getMessage() for record in caplog.records if "broken off" in record.getMessage()]
    late = rf"{ALERTS}: POST sendMail: no whole answer in time; the call was broken off after \d+ s"
    assert len(named) == 1 and re.fullmatch(late, named[0])
    assert house.send().status == 202


def test_a_proxy_whose_answer_drips_is_given_up_too(house, monkeypatch):
    monkeypatch.setattr(graph_module, "_total_seconds", lambda silence, body: 0.3)
    with Tunnel() as tunnel:
        tunnel.mode = "drip"
        house.graph._outbound = Outbound(tunnel.url, house.sandbox.ca_file)
        with pytest.raises(NoAnswer) as caught:
            house.send()
        assert tunnel.connects and not caught.value.maybe_processed and house.tenant.delivered == []


HEAD_LINES = ("status", "request-id", "Content-Type", "Transfer-Encoding")


@pytest.mark.parametrize("octets", [0, 5], ids=["at the end of a line", "within the next"])
@pytest.mark.parametrize("lines", range(1, len(HEAD_LINES) + 1), ids=HEAD_LINES)
def test_a_head_that_breaks_off_does_not_say_sent(house, monkeypatch, lines, octets):
    """Headers that end early pass for whole ones, and what follows for an empty body."""

    def broken_off(head):
        rest = b"".join(head.splitlines(keepends=True)[lines:])
        yield from head[: len(head) - len(rest) + octets]
        raise webserver.Cut

    monkeypatch.setattr(webserver, "_endless", broken_off)
    house.faults.add("drip_head", path="sendMail", status=202, seconds=0.001)
    with pytest.raises(NoAnswer) as caught:
        house.send()
    assert caught.value.maybe_processed and house.tenant.delivered == []


def test_whoever_takes_his_time_with_a_stream_is_not_late(house):
    house.tenant.add_message(ALERTS, MAIL.replace(b"hello", b"x\r\n" * 100_000))
    (item,) = house.tenant.items(ALERTS)
    with house.get(
        path=f"/messages/{urllib.parse.quote(item.immutable, safe='')}/$value",
        stream=True,
        seconds=0.3,
        headers={"Prefer": 'IdType="ImmutableId"'},
    ) as answer:
        pieces = iter(answer.chunks())
        assert next(pieces)
        threading.Event().wait(0.5)
        assert b"".join(pieces)


def test_calls_are_broken_off_when_the_program_stops(house, wait_until):
    fault = house.faults.add("drip", seconds=0.01, times=None)

    def call():
        with contextlib.suppress(NoAnswer):  # raised unless the head was read already
            house.get()

    threads = [threading.Thread(target=call) for _ in range(SLOTS)]
    for thread in threads:
        thread.start()
    wait_until(lambda: fault.hits == SLOTS and len(house.graph._deadlines._armed) == SLOTS)
    house.graph.break_off()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    with pytest.raises(NoAnswer) as caught:
        house.get()
    assert not caught.value.maybe_processed and fault.hits == SLOTS


def test_no_thread_watches_when_no_call_is_under_way(house, wait_until):
    assert house.get().ok
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "graph-deadlines"])
    assert house.get().ok


def test_graphs_time_does_not_jump_with_ours(house):
    with house.graph.read("GET", ALERTS, "/mailFolders/drafts"):
        pass
    before = house.graph.now()
    house.graph._clock = lambda: before + 36000.0
    assert abs(house.graph.now() - before) < 30
