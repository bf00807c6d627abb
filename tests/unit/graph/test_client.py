"""The client of Graph against the stand-in tenant: slots, throttling, tokens, links, uploads, Graph's clock."""

from __future__ import annotations

import contextlib
import email.utils
import random
import socket
import threading
import urllib.parse

import graph_harness
import pytest
from graph_harness import ALERTS, INBOX, MAIL, RELAY, SCANNER, all_on_their_way, together

from m365proxy.errors import Permanent, SignInNeeded
from m365proxy.graph import client
from m365proxy.graph.answer import Cancellation, Cancelled, GraphRefused, GraphTrouble, NoAnswer, Throttled
from m365proxy.graph.slots import BROKEN_OFF, GAP, SLOTS, UNANSWERED

harness = graph_harness.harness
clock = graph_harness.clock


# Slots


def test_what_is_kept_of_a_mailbox_is_made_once(harness, monkeypatch):
    assert harness.graph.throttled_for(ALERTS) == 0
    monkeypatch.setattr(client, "_Mailbox", None)
    assert harness.graph.throttled_for(ALERTS.upper()) == 0 and harness.graph.spare(ALERTS) == SLOTS


def test_four_at_a_time_whoever_calls(harness):
    harness.sandbox.latency = 0.02
    link = f"{harness.sandbox.graph_url}/v1.0/users/{ALERTS}{INBOX}?$top=5"
    kinds = [
        lambda: harness.get().status,
        lambda: harness.send().status,
        lambda: harness.graph.follow(ALERTS, link).status,
        lambda: harness.graph.read("GET", ALERTS.upper(), INBOX).status,
        lambda: read_stream(harness),
    ]
    done = together(*[lambda kind=kind: [kind() for _ in range(3)] for kind in kinds * 3])
    assert all(isinstance(statuses, list) and set(statuses) <= {200, 202} for statuses in done), done
    assert harness.sandbox.peak_concurrency[ALERTS] == SLOTS
    assert harness.graph.spare(ALERTS) == SLOTS


def read_stream(harness):
    with harness.get(stream=True) as answer:
        b"".join(answer.chunks())
        return answer.status


def test_an_open_stream_keeps_its_slot_until_it_is_closed(harness, wait_until):
    streams = [harness.get(stream=True) for _ in range(SLOTS)]
    assert harness.graph.spare(ALERTS) == 0
    fifth = threading.Thread(target=lambda: harness.get().close())
    fifth.start()
    assert harness.get(SCANNER).status == 200  # another mailbox has slots of its own
    assert len(harness.sandbox.seen(ALERTS)) == SLOTS
    streams[0].close()
    fifth.join(10)
    assert not fifth.is_alive() and len(harness.sandbox.seen(ALERTS)) == SLOTS + 1
    for stream in streams:
        stream.close()
        stream.close()  # once more does no harm
    assert harness.graph.spare(ALERTS) == SLOTS


def test_no_slot_in_time_is_surely_not_sent(harness, monkeypatch):
    harness.connect(slot_seconds=0.01)
    streams = [harness.get(stream=True) for _ in range(SLOTS)]
    with pytest.raises(Throttled) as caught:
        harness.send()
    assert "in use" in str(caught.value)
    for stream in streams:
        stream.load()
    assert harness.send().status == 202


@pytest.mark.parametrize("fault", ["cut", "cut_after", "cut_answer", "portal", "answer"])
def test_a_slot_comes_back_whatever_happens(harness, fault):
    harness.faults.add(fault, times=SLOTS + 1)
    for _ in range(SLOTS + 1):
        with contextlib.suppress(NoAnswer):
            harness.get().close()
    assert harness.graph.spare(ALERTS) == SLOTS


def test_a_slot_comes_back_where_no_session_can_be_made(harness, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(harness.outbound, "session", lambda: [].pop())
        for _ in range(SLOTS + 1):
            with pytest.raises(IndexError):
                harness.get()
    assert harness.graph.spare(ALERTS) == SLOTS and harness.send().status == 202


def test_hanging_calls_of_one_mailbox_delay_no_other(harness, wait_until):
    fault = harness.faults.add("hang", mailbox=ALERTS, times=None)
    threads = [threading.Thread(target=lambda: harness.get().close()) for _ in range(SLOTS * 2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: fault.hits == SLOTS)
    assert harness.get(SCANNER).status == 200
    assert harness.send(MAIL.replace(b"alerts", b"relay"), RELAY).status == 202
    assert fault.hits == SLOTS
    harness.faults.clear()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


# Throttling


def graphs_date(harness, seconds):
    return email.utils.formatdate(harness.tenant.clock() + seconds, usegmt=True)


@pytest.mark.parametrize(
    "retry_after, least, most",
    [(3, 3, 3), ("2.5", 3, 3), (None, 10, 10), ("garbage", 10, 10), ("date", 118, 121), (9999, 9999, 9999)],
)
def test_429_throttles_its_mailbox_only(harness, clock, retry_after, least, most):
    harness.tenant.clock = lambda: 2_000_000_000.0  # Graph's clock, not ours, measures a date
    value = graphs_date(harness, 120) if retry_after == "date" else retry_after
    harness.faults.add("answer", status=429, mailbox=ALERTS, retry_after=value)
    assert harness.get().status == 429
    before = len(harness.sandbox.requests)
    for attempt in (
        harness.get,
        harness.send,
        lambda: harness.graph.check_ready(ALERTS),
        lambda: harness.get(ALERTS.title()),
    ):
        with pytest.raises(Throttled) as caught:
            attempt()
        assert least <= caught.value.seconds <= most
        assert ALERTS in str(caught.value).lower()
    assert least <= harness.graph.throttled_for(ALERTS) <= most and harness.graph.spare(ALERTS) == 0
    assert len(harness.sandbox.requests) == before
    assert harness.graph.throttled_for(SCANNER) == 0 and harness.get(SCANNER).status == 200
    harness.graph.check_ready(SCANNER)
    clock.now += most + 0.01
    assert harness.get().status == 200 and harness.graph.throttled_for(ALERTS) == 0


@pytest.mark.parametrize("status, retry_after, seconds", [(503, 7, 7), (503, None, 0), (504, 7, 0), (200, 7, 0)])
def test_which_answers_throttle(harness, clock, status, retry_after, seconds):
    harness.faults.add("answer", status=status, retry_after=retry_after)
    harness.get()
    assert harness.graph.throttled_for(ALERTS) == seconds


def test_only_graphs_own_word_counts_for_long(harness):
    for request_id, seconds in ((True, 7200.0), (False, 600.0)):
        harness.faults.add("answer" if request_id else "stranger", status=503, retry_after=7200)
        assert harness.get(SCANNER if request_id else ALERTS).retry_after == seconds
    assert harness.graph.throttled_for(SCANNER) > 7000 and harness.graph.throttled_for(ALERTS) == 0


def test_a_long_throttling_is_logged_once_with_its_end(harness, caplog):
    harness.wall = lambda: 1_800_000_000.0
    harness.faults.add("answer", status=429, retry_after=7200, times=SLOTS)
    assert [answer.status for answer in all_on_their_way(harness, *[harness.get] * SLOTS)] == [429] * SLOTS
    harness.faults.add("answer", status=429, retry_after=5)
    assert harness.get(SCANNER).status == 429
    lines = [record.getMessage() for record in caplog.records if "until" in record.getMessage()]
    assert lines == [f"{ALERTS}: throttled by Graph for 7200 s; nothing is sent or read until 2027-01-15T10:00:00Z"]


def test_a_shorter_throttling_does_not_end_a_longer_one(harness, clock):
    for seconds in (30, 5):
        harness.faults.add("answer", status=429, retry_after=seconds)
    assert [answer.status for answer in all_on_their_way(harness, harness.get, harness.get)] == [429, 429]
    assert harness.graph.throttled_for(ALERTS) == 30


def test_throttling_is_counted_once_however_many_are_told_of_it(harness, clock):
    counted = []
    harness.connect(note_throttling=counted.append)
    harness.graph.throttle(ALERTS, 30)
    harness.graph.throttle(ALERTS, 20)
    clock.now += 20
    harness.graph.throttle(ALERTS, 30)
    harness.graph.throttle(SCANNER, 0)
    assert counted == [30, 20]


def test_each_request_is_counted_by_its_status(harness):
    statuses = []
    harness.connect(note_answer=statuses.append)
    harness.get()
    harness.faults.add("answer", status=503)
    harness.get()
    harness.faults.add("cut")
    with pytest.raises(NoAnswer):
        harness.get()
    harness.faults.add("answer", status=401)
    harness.get()
    harness.graph.throttle(ALERTS, 30)
    with pytest.raises(Throttled):
        harness.get()
    assert statuses == [200, 503, 0, 401, 200]


def test_a_call_that_waits_for_a_slot_is_throttled_too(harness, wait_until):
    fault = harness.faults.add("hang", times=SLOTS)
    harness.faults.add("answer", status=429, retry_after=3000, after=0)
    results = []

    def call():
        try:
            results.append(harness.get().status)
        except (NoAnswer, Throttled) as error:
            results.append(type(error))

    threads = [threading.Thread(target=call) for _ in range(SLOTS + 5)]
    for thread in threads:
        thread.start()
    wait_until(lambda: fault.hits == SLOTS and harness.slots().wanted == SLOTS + 5)
    fault.release()
    for thread in threads:
        thread.join(10)
    # The released four are answered, the next ones meet the 429, and what still waited then asks nothing.
    assert results.count(200) + results.count(429) + results.count(Throttled) == SLOTS + 5
    assert 429 in results and harness.graph.throttled_for(ALERTS) > 0
    with pytest.raises(Throttled):
        harness.get()


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
def test_no_request_leaves_for_a_mailbox_that_is_throttled_while_its_connection_is_made(
    harness, monkeypatch, kind, sent
):
    harness.connect(idle_seconds=-1.0)  # a connection for each request
    requests = {
        "read": lambda: harness.graph.read("GET", ALERTS, INBOX),
        "follow": lambda: harness.graph.follow(ALERTS, harness.sandbox.graph_url + NEXT_PAGE),
        "batch": lambda: harness.graph.batch(ALERTS, [{"id": "1", "method": "GET", "url": f"/users/{ALERTS}{INBOX}"}]),
        "send": harness.send,
        "stream": lambda: harness.get(stream=True),
        "upload": lambda: harness.graph.upload("PUT", ALERTS, harness.sandbox.graph_url + "/upload/1", {}, b"octets"),
        "after a 401": harness.send,
    }
    if kind == "after a 401":
        harness.faults.add("answer", status=401)

    def connecting():
        if harness.sandbox.connections == sent + 1:
            harness.graph.throttle(ALERTS, 3000)  # another call of this mailbox gets its 429 now

    harness.sandbox.connecting = connecting
    with pytest.raises(Throttled) as caught:
        requests[kind]()
    assert 0 < caught.value.seconds <= 3000
    assert harness.sandbox.connections == sent + 1 and len(harness.sandbox.requests) == sent
    assert harness.slots().spare == SLOTS and harness.tenant.delivered == []
    assert harness.get(SCANNER).status == 200


# Tokens


def test_a_refused_token_is_renewed_once(harness):
    harness.faults.add("answer", status=401)
    assert harness.send().status == 202
    first, second = harness.sandbox.seen("sendMail")
    assert harness.tokens.asked == [None, harness.tokens.given[0]]
    assert [r.headers["authorization"] for r in (first, second)] == ["Bearer " + t for t in harness.tokens.given]
    assert first.size == second.size > 0  # the body is made anew
    assert len(harness.tenant.delivered) == 1


def test_a_second_401_is_the_answer(harness):
    harness.faults.add("answer", status=401, times=None)
    answer = harness.send()
    assert answer.status == 401 and answer.code == "InvalidAuthenticationToken" and answer.from_graph
    assert len(harness.sandbox.seen("sendMail")) == 2 and len(harness.tokens.asked) == 2
    assert harness.graph.spare(ALERTS) == SLOTS


def test_without_a_token_nothing_is_asked(harness):
    harness.tokens.trouble = SignInNeeded("Run `m365proxy login`.")
    for attempt in (harness.get, harness.send, lambda: harness.graph.check_ready(ALERTS)):
        with pytest.raises(SignInNeeded):
            attempt()
    assert harness.sandbox.requests == [] and harness.graph.spare(ALERTS) == SLOTS


def test_no_new_token_after_a_401(harness):
    harness.faults.add("answer", status=401)
    real = harness.tokens.access_token

    def once(refused=None):
        harness.tokens.trouble = SignInNeeded("Run `m365proxy login`.") if refused else None
        return real(refused)

    harness.tokens.access_token = once
    with pytest.raises(SignInNeeded):
        harness.send()
    assert harness.tenant.delivered == [] and harness.graph.spare(ALERTS) == SLOTS


# Cancelling


def noted_gaps(harness):
    """For how long the places of a mailbox's requests stay empty, as they end."""
    slots, gaps = harness.slots(), []
    leave = slots.leave
    slots.leave = lambda gap=GAP: gaps.append(gap) or leave(gap)
    return gaps


def test_the_place_of_an_answer_that_is_not_read_to_its_end_stays_empty_a_little(harness):
    gaps = noted_gaps(harness)
    harness.get(stream=True).close()
    assert gaps == [BROKEN_OFF]


@pytest.mark.parametrize("kind", ["hang", "hang_after"])
@pytest.mark.parametrize("reused", [False, True])
def test_a_call_that_waits_ends_when_it_is_cancelled(harness, wait_until, kind, reused):
    gaps = noted_gaps(harness)
    if reused:
        harness.graph.read("GET", ALERTS, INBOX)
    fault = harness.faults.add(kind, mailbox=ALERTS)
    cancellation = Cancellation()
    ended = []

    def call():
        with pytest.raises(NoAnswer):
            harness.graph.read("GET", ALERTS, INBOX, cancellation=cancellation)
        ended.append(1)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    wait_until(lambda: fault.hits == 1)
    cancellation.cancel()
    thread.join(10)
    assert ended
    with pytest.raises(Cancelled):
        harness.graph.read("GET", ALERTS, INBOX, cancellation=cancellation)
    assert fault.hits == 1
    assert harness.graph.read("GET", ALERTS, INBOX).ok
    # Graph may still be at work on what was broken off: another request at once could be one too many.
    assert gaps == [GAP, UNANSWERED, BROKEN_OFF, GAP][not reused :]


def test_a_late_cancellation_harms_no_other_call(harness):
    """The connection may be another call's by then."""
    cancellation = Cancellation()
    harness.graph.read("GET", ALERTS, INBOX, cancellation=cancellation)
    cancellation.cancel()
    assert harness.graph.read("GET", ALERTS, INBOX).ok
    assert harness.sandbox.connections == 1


# Links


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_answers(harness, status):
    target = harness.sandbox.graph_url + "/v1.0/me/elsewhere"
    harness.faults.add("answer", status=status, headers={"Location": target})
    assert harness.send().status == status
    harness.faults.add("answer", status=status, headers={"Location": target})
    with pytest.raises((GraphTrouble, GraphRefused)):
        harness.graph.read("GET", ALERTS, INBOX)
    assert harness.sandbox.seen("elsewhere") == []


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
def test_links_to_elsewhere_are_not_followed(harness, trap, link):
    with pytest.raises(Permanent, match="another host"):
        harness.graph.follow(ALERTS, link.format(trap=trap, port=harness.sandbox.port))
    assert harness.tokens.asked == [] and harness.sandbox.requests == []


def test_pages_are_followed(harness):
    for _ in range(3):
        harness.tenant.add_message(ALERTS, MAIL)
    found = []
    page = harness.graph.read("GET", ALERTS, INBOX, params={"$top": "2", "$select": "id"}).json()
    found += page["value"]
    while "@odata.nextLink" in page:
        page = harness.graph.follow(ALERTS, page["@odata.nextLink"]).json()
        found += page["value"]
    assert len({item["id"] for item in found}) == 3


# Uploads


def test_an_upload_carries_no_token(harness):
    made = harness.graph.call("POST", ALERTS, "/messages", json={"subject": "s"}).json()
    path = "/messages/" + urllib.parse.quote(made["id"], safe="")
    content = random.Random(1).randbytes(4_000_000)
    item = {"AttachmentItem": {"attachmentType": "file", "name": "a", "size": len(content)}}
    session = harness.graph.call("POST", ALERTS, path + "/attachments/createUploadSession", json=item)
    assert session.status == 201, session.code
    url = session.json()["uploadUrl"]
    asked = len(harness.tokens.asked)
    size = len(content)
    headers = {"Content-Type": "application/octet-stream", "Content-Range": f"bytes 0-{size - 1}/{size}"}
    answer = harness.graph.upload("PUT", ALERTS, url, headers, content)
    assert answer.status == 201
    seen = harness.sandbox.seen("^/upload/")
    assert [("authorization" in r.headers, r.size) for r in seen] == [(False, len(content))]
    assert len(harness.tokens.asked) == asked
    with pytest.raises(Permanent, match="not HTTPS"):
        harness.graph.upload("PUT", ALERTS, url.replace("https", "http"), {}, b"x")


# What raises, and URLs


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
def test_read_raises_for_all_but_success(harness, fault, error):
    harness.faults.add(**fault)
    with pytest.raises(error) as caught:
        harness.graph.read("GET", ALERTS, INBOX)
    assert str(caught.value).endswith(".")
    assert harness.slots().wanted == 0


def test_urls(harness):
    harness.graph.call("GET", RELAY.upper(), INBOX, params={"$filter": "a eq 'b c'"})
    harness.graph.call("GET", "o'brien+x@contoso.com", INBOX)
    mine, other = harness.sandbox.requests
    assert mine.path == "/v1.0/me" + INBOX and mine.query == "%24filter=a%20eq%20%27b%20c%27"
    assert other.path == "/v1.0/users/o%27brien%2Bx@contoso.com" + INBOX


# Graph's clock, and whether Graph can be reached


def test_skew_is_learnt_from_the_date(harness, clock):
    harness.wall = lambda: 2_000_000_000.0
    for offset in (5000.0, -86400.0, 0.0):
        harness.tenant.clock = lambda offset=offset: 2_000_000_000.0 + offset
        harness.get()
        assert abs(harness.graph.skew - offset) < 3
        assert abs(harness.graph.now() - harness.tenant.clock()) < 3


def test_a_clock_that_was_set_has_no_skew_left_before_graph_is_asked_again(harness, clock):
    wall = [2_000_000_000.0]
    harness.wall = lambda: wall[0]
    assert harness.graph.skew_left() == 0
    harness.tenant.clock = lambda: 2_000_000_600.0
    harness.get()
    assert abs(harness.graph.skew_left() - 600) < 3
    clock.now += 60.0
    wall[0] += 660.0
    assert abs(harness.graph.skew_left()) < 3
    # A machine that slept, whose monotonic clock stood still, is not taken for one whose clock is wrong.
    harness.tenant.clock = lambda: wall[0]
    harness.get()
    wall[0] += 7200.0
    assert abs(harness.graph.skew_left()) < 3


def test_nobody_but_graph_sets_the_clock(harness):
    harness.tenant.clock = lambda: 1000.0
    harness.faults.add("portal")
    harness.get()
    assert harness.graph.skew == 0 and harness.graph.last_contact == 0
    harness.faults.add("answer", status=500, headers={"Date": "nonsense"})
    harness.get()
    assert harness.graph.last_contact > 0


def test_check_reachable(harness):
    harness.graph.check_reachable()
    assert harness.tokens.asked == [] and "authorization" not in harness.sandbox.requests[0].headers
    harness.faults.add("portal")
    with pytest.raises(NoAnswer, match="Another system answers"):
        harness.graph.check_reachable()
    harness.sandbox.offline()
    with pytest.raises(NoAnswer, match="Connection refused"):
        harness.graph.check_reachable()
    harness.sandbox.online()
    harness.graph.check_reachable()


def test_graphs_time_does_not_jump_with_ours(harness):
    with harness.graph.read("GET", ALERTS, "/mailFolders/drafts"):
        pass
    before = harness.graph.now()
    harness.wall = lambda: before + 36000.0
    assert abs(harness.graph.now() - before) < 30
