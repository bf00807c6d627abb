"""The stand-in tenant as a server: framing, faults, going away and coming back."""

import base64
import contextlib
import http.client
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import threading

import pytest
import sandbox_harness
from sandbox_harness import (
    ALERTS,
    RELAY,
    SCANNER,
    Client,
    fill,
    ids,
    inbox,
    item_url,
    mail,
    users,
)
from waiting import wait_until

from m365proxy.sandbox import Sandbox

FOREIGN = ("portal", "stranger", "stranger_after")

sandbox, graph = sandbox_harness.sandbox, sandbox_harness.graph


# --- the shape of every answer


def test_import_does_not_load_cryptography():
    code = "import sys, m365proxy.sandbox; sys.exit('cryptography' in sys.modules or 'requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_answer_carries_its_ids_and_a_date(graph):
    answers = [graph("GET", "/me"), graph("GET", "/nothing"), graph("POST", "/me/sendMail", mail(RELAY))]
    assert len({answer.headers["request-id"] for answer in answers}) == 3
    assert all(answer.headers["date"].endswith("GMT") for answer in answers)
    assert all("client-request-id" not in answer.headers for answer in answers)
    assert answers[1].value["error"]["innerError"]["request-id"] == answers[1].headers["request-id"]


def test_client_request_id_is_echoed_when_asked(graph):
    asked = {"client-request-id": "abc", "return-client-request-id": "true"}
    assert graph("GET", "/me", headers=asked).headers["client-request-id"] == "abc"


def test_date_follows_graphs_clock(sandbox, graph):
    sandbox.tenant.clock = lambda: 1_000_000_000.0
    assert graph("GET", "/me").headers["date"] == "Sun, 09 Sep 2001 01:46:40 GMT"


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "code"),
    [
        ("GET", "/v1.0/me/sendMail", None, {}, 405, "MethodNotAllowed"),
        ("HEAD", "/v1.0/me/messages/x/$value", None, {}, 405, None),
        ("DELETE", "/v1.0/me", None, {}, 405, "MethodNotAllowed"),
        ("GET", "/v1.0/me/calendars", None, {}, 400, "BadRequest"),
        ("GET", "/beta/me", None, {}, 400, "BadRequest"),
        ("GET", "/v1.0/me", None, {"Authorization": "Bearer x"}, 401, "InvalidAuthenticationToken"),
        ("GET", "/v1.0/me", None, {"Authorization": "Basic x"}, 401, "InvalidAuthenticationToken"),
        ("POST", "/v1.0/me/sendMail", b"{", {"Content-Type": "application/json"}, 400, "BadRequest"),
        ("POST", "/v1.0/me/sendMail", b"[]", {"Content-Type": "application/json"}, 400, "RequestBodyRead"),
        ("POST", "/v1.0/me/sendMail", b"x", {"Content-Type": "message/rfc822"}, 415, "RequestBodyRead"),
        ("POST", "/v1.0/me/sendMail", b"eA==", {}, 415, "RequestBodyRead"),
        (
            "POST",
            "/v1.0/me/sendMail",
            b"_-__",
            {"Content-Type": "text/plain"},
            400,
            "ErrorMimeContentInvalidBase64String",
        ),
        ("POST", "/v1.0/me/sendMail", b"x" * 4_000_001, {"Content-Type": "text/plain"}, 413, "RequestEntityTooLarge"),
        ("GET", "/v1.0/me?$select=nothing", None, {}, 400, "BadRequest"),
        ("GET", "/v1.0/users/nobody@contoso.com/messages", None, {}, 404, "ErrorInvalidUser"),
    ],
)
def test_what_graph_refuses(graph, method, path, body, headers, status, code):
    answer = graph.raw(method, path, body, headers)
    assert (answer.status, answer.code) == (status, code)
    assert graph("GET", "/me").status == 200, "the connection goes on, the body was drained"


@pytest.mark.parametrize(
    "head",
    ["POST /v1.0/me/sendMail HTTP/1.1\r\n", "POST /v1.0/me/sendMail HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"],
)
def test_a_length_is_demanded(sandbox, head):
    context = ssl.create_default_context(cafile=sandbox.ca_file)
    plain = socket.create_connection(("127.0.0.1", sandbox.port))
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
        sock.sendall((head + "Host: x\r\n\r\n").encode())
        assert sock.recv(100).startswith(b"HTTP/1.1 411 ")


@pytest.mark.parametrize(("mode", "status"), [("413", 413), ("400", 400), ("500", 500), ("200", 200), ("reset", None)])
def test_over_the_request_limit(sandbox, graph, mode, status):
    sandbox.tenant.over_limit = mode
    body = mail(RELAY, body="x" * 3_000_000)
    if status is None:
        with pytest.raises(OSError):
            graph("POST", "/me/sendMail", body)
    else:
        assert graph("POST", "/me/sendMail", body).status == status
    assert sandbox.tenant.delivered == []


def test_metadata_needs_no_token(sandbox):
    client = Client(sandbox, token="")
    answer = client.raw("GET", "/v1.0/$metadata?ping")
    assert answer.status == 200 and answer.headers["request-id"]
    client.close()


def test_it_takes_microsofts_names():
    """With them in /etc/hosts, and its certificate authority among the system's, no config names the stand-in."""
    names = ("login.microsoftonline.com", "graph.microsoft.com")
    with Sandbox(hosts=names) as sandbox:
        context = ssl.create_default_context(cafile=sandbox.ca_file)
        for name in names:
            with socket.create_connection(("127.0.0.1", sandbox.port)) as plain:
                context.wrap_socket(plain, server_hostname=name).close()
        addresses = {sandbox.authority_url: names[0], sandbox.graph_url: names[1]}
        assert addresses == {f"https://{name}:{sandbox.port}": name for name in names}
        client = Client(sandbox)
        found = client.raw("GET", "/contoso.com/v2.0/.well-known/openid-configuration").value
        assert found["token_endpoint"] == f"{sandbox.authority_url}/contoso.com/oauth2/v2.0/token"
        client.close()


# --- faults


SEND = users(ALERTS, "/sendMail")


@pytest.mark.parametrize(
    ("kind", "delivered", "answered"),
    [
        ("answer", 0, 503),
        ("answer_after", 1, 504),
        ("cut", 0, None),
        ("cut_after", 1, None),
        ("cut_body", 0, None),
        ("cut_answer", 1, None),
        ("slow", 1, 202),
        ("portal", 0, 200),
        ("stranger", 0, 202),
        ("stranger_after", 1, 202),
    ],
)
def test_faults(sandbox, graph, kind, delivered, answered):
    fault = sandbox.faults.add(kind, path="sendMail", method="post", mailbox=ALERTS)
    if answered is None:
        with pytest.raises((OSError, http.client.HTTPException)):
            graph("POST", SEND, mail())
        graph.close()
    else:
        answer = graph("POST", SEND, mail())
        assert answer.status == answered
        assert ("request-id" in answer.headers) is (kind not in FOREIGN)
    assert (len(sandbox.tenant.delivered), fault.hits) == (delivered, 1)
    assert graph("POST", SEND, mail()).status == 202, "it happens once"
    first, second = sandbox.seen("sendMail")
    assert (first.fault, first.status, second.fault, second.status) == (kind, answered, "", 202)


@pytest.mark.parametrize(("kind", "before"), [("hang", 0), ("hang_after", 1)])
def test_hang_until_released(sandbox, graph, kind, before):
    fault = sandbox.faults.add(kind, path="sendMail")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(graph("POST", SEND, mail())))
    thread.start()
    wait_until(lambda: fault.hits and len(sandbox.tenant.delivered) == before)
    assert answers == []
    fault.release()
    thread.join(10)
    assert [answer.status for answer in answers] == [202]
    assert len(sandbox.tenant.delivered) == 1


def test_hang_ends_when_the_client_leaves(sandbox):
    fault = sandbox.faults.add("hang")
    client = Client(sandbox)
    client.connection.request("POST", "/v1.0" + SEND, mail(), {"Authorization": "Bearer " + client.token})
    wait_until(lambda: fault.hits == 1)
    client.close()
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "sandbox-connection"])
    assert (fault.hits, sandbox.tenant.delivered) == (1, [])


def test_hang_and_latency_end_with_the_server(sandbox):
    sandbox.faults.add("hang", path="/me$", times=None)
    sandbox.latency = 0.0
    clients = [Client(sandbox) for _ in range(3)]
    failed = []

    def ask(client):
        try:
            client("GET", "/me")
        except (OSError, http.client.HTTPException):
            failed.append(client)

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(sandbox.seen("/me$")) == 3)
    sandbox.stop()
    for thread, client in zip(threads, clients):
        thread.join(10)
        client.close()
    assert len(failed) == 3


@pytest.mark.parametrize("retry_after", [None, 3, "2.128", "Sun, 09 Sep 2001 01:46:40 GMT"])
def test_throttling(sandbox, graph, retry_after):
    sandbox.faults.add("answer", status=429, retry_after=retry_after)
    answer = graph("GET", "/me")
    assert (answer.status, answer.code) == (429, "ApplicationThrottled")
    assert answer.headers.get("retry-after") == (None if retry_after is None else str(retry_after))


def test_fault_counts(sandbox, graph):
    fault = sandbox.faults.add("answer", path=r"\$select=mail", after=1, times=2, status=500, html=True)
    statuses = [graph("GET", "/me", select="mail").status for _ in range(5)]
    assert (statuses, fault.hits) == ([200, 500, 500, 200, 200], 2)
    assert graph("GET", "/me").status == 200
    sandbox.faults.add("answer", times=None)
    assert [graph("GET", "/me").status for _ in range(3)] == [503] * 3
    sandbox.faults.clear()
    assert graph("GET", "/me").status == 200


def test_accepted_although_told_to_wait(sandbox, graph):
    sandbox.faults.add("answer_after", status=202, retry_after=5)
    answer = graph("POST", SEND, mail())
    assert (answer.status, answer.headers["retry-after"], answer.content) == (202, "5", b"")


def test_half_a_body_is_what_cut_answer_gives(sandbox, graph):
    sandbox.faults.add("cut_answer", path="value")
    made = sandbox.tenant.add_message(SCANNER, mail(body="x\r\n" * 1000))
    with pytest.raises(http.client.IncompleteRead) as caught:
        graph("GET", item_url(made, SCANNER, "/$value"))
    assert 1000 < len(caught.value.partial) < 2000


def test_torture_is_the_same_for_a_seed(sandbox):
    def run():
        sandbox.faults.random(7, {"answer": 0.3, "cut": 0.2}, path="/me")
        seen = []
        for _ in range(40):
            client = Client(sandbox)
            try:
                seen.append(client("GET", "/me").status)
            except (OSError, http.client.HTTPException):
                seen.append(0)
            client.close()
        return seen

    first = run()
    assert first == run()
    assert {0, 200} < set(first)
    sandbox.faults.clear()


@pytest.mark.parametrize("kind", ["stranger", "stranger_after"])
@pytest.mark.parametrize(
    ("rule", "content"),
    [
        ({"status": 204}, b""),
        ({"status": 200, "body": b'{"value": []}', "headers": {"Content-Type": "application/json"}}, b'{"value": []}'),
        ({"status": 202, "headers": {"request-id": "relayed"}, "body": b"page"}, b"page"),
    ],
)
def test_what_strangers_say(sandbox, graph, kind, rule, content):
    sandbox.faults.add(kind, path="sendMail", **rule)
    answer = graph("POST", SEND, mail())
    assert (answer.status, answer.content) == (rule["status"], content)
    assert answer.headers.get("request-id") == rule.get("headers", {}).get("request-id")
    assert graph("POST", SEND, mail()).status == 202, "the connection is still good"
    assert len(sandbox.tenant.delivered) == (2 if kind == "stranger_after" else 1)


@pytest.mark.parametrize(("kind", "delivered"), [("drip", 0), ("drip_after", 1), ("drip_head", 0)])
def test_an_answer_drips_until_it_is_released(sandbox, kind, delivered):
    fault = sandbox.faults.add(kind, path="sendMail", seconds=0.01)
    client = Client(sandbox)
    threading.Timer(0.2, fault.release).start()
    with contextlib.suppress(OSError, http.client.HTTPException):  # half a head passes for a whole one
        client("POST", SEND, mail())
    client.close()
    assert (fault.hits, len(sandbox.tenant.delivered)) == (1, delivered)
    assert fault.released.is_set() and sandbox.seen("sendMail")[0].status is None


def test_unknown_faults_are_refused(sandbox):
    with pytest.raises(ValueError):
        sandbox.faults.add("explode")
    with pytest.raises(ValueError):
        sandbox.faults.random(1, {"explode": 1.0})


# --- the server


def test_concurrency_is_seen_and_limited(sandbox):
    fault = sandbox.faults.add("hang", path="hang=", times=None)
    answers = []

    def ask(number):
        client = Client(sandbox)
        answers.append(client.raw("GET", f"/v1.0/users/{SCANNER}/mailFolders?hang={number}").status)
        client.close()

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    wait_until(lambda: fault.hits == 5)
    sandbox.concurrency_limit = 5
    client = Client(sandbox)
    assert client("GET", users(SCANNER, "/mailFolders")).code == "ApplicationThrottled"
    assert client("GET", users(ALERTS, "/mailFolders")).status == 200
    client.close()
    fault.release()
    for thread in threads:
        thread.join(10)
    assert sandbox.peak_concurrency == {SCANNER: 6, ALERTS: 1}
    assert answers == [400] * 5
    sandbox.forget()
    assert (sandbox.peak_concurrency, sandbox.requests) == ({}, [])


def test_a_request_counts_a_little_longer_than_its_answer(sandbox):
    sandbox.concurrency_limit, sandbox.linger = 4, 60.0
    client = Client(sandbox)
    statuses = [client("GET", users(SCANNER, "/mailFolders")).status for _ in range(5)]
    client.close()
    assert statuses == [200, 200, 200, 200, 429]
    assert sandbox.peak_concurrency == {SCANNER: 1}


def test_one_after_another_is_no_concurrency(sandbox):
    """The next request may come before the server's thread has cleaned up after the last one."""
    clients = [Client(sandbox) for _ in range(4)]
    for _ in range(25):
        for client in clients:
            assert client("GET", users(SCANNER, "/mailFolders")).status == 200
    for client in clients:
        client.close()
    assert sandbox.peak_concurrency == {SCANNER: 1}


def test_many_at_the_same_time(sandbox):
    fault = sandbox.faults.add("hang", times=None)
    statuses = []

    def ask():
        client = Client(sandbox, seconds=30)
        statuses.append(client("POST", SEND, mail()).status)
        client.close()

    threads = [threading.Thread(target=ask) for _ in range(120)]
    for thread in threads:
        thread.start()
    wait_until(lambda: fault.hits == 120)
    fault.release()
    for thread in threads:
        thread.join(30)
    assert statuses == [202] * 120
    assert len(sandbox.tenant.delivered) == 120


def test_records(sandbox, graph):
    sandbox.latency = 0.02
    graph("POST", SEND, mail())
    (seen,) = sandbox.requests
    assert (seen.method, seen.path, seen.query, seen.mailbox, seen.status) == ("POST", "/v1.0" + SEND, "", ALERTS, 202)
    assert seen.headers["content-type"] == "text/plain" and seen.size == len(base64.b64encode(mail()))
    assert seen.end - seen.start >= 0.02


@pytest.mark.parametrize("mode", ["refuse", "reset", "stop"])
def test_going_away_and_coming_back(sandbox, graph, mode):
    fill(sandbox, 1)
    assert len(ids(inbox(graph))) == 1
    port, ca_file = sandbox.port, sandbox.ca_file
    if mode == "stop":
        sandbox.stop()
        assert not os.path.exists(ca_file)
    else:
        sandbox.offline(mode)
    expected = ConnectionResetError if mode == "reset" else ConnectionRefusedError
    with pytest.raises(expected), socket.create_connection(("127.0.0.1", port), 5) as plain:
        plain.recv(1)
    graph.close()
    sandbox.start() if mode == "stop" else sandbox.online()
    assert (sandbox.port, sandbox.ca_file) == (port, ca_file)
    assert len(ids(inbox(graph))) == 1, "the state and the tokens are still there"


def test_an_open_connection_does_not_survive(sandbox, graph):
    graph("GET", "/me")
    graph.connection.auto_open = 0
    sandbox.offline("refuse")
    with pytest.raises((OSError, http.client.HTTPException)):
        graph("GET", "/me")


@pytest.mark.skipif(os.name == "nt", reason="file modes are POSIX")
def test_no_private_key_is_left_on_disk(sandbox):
    directory = os.path.dirname(sandbox.ca_file)
    assert os.listdir(directory) == ["ca.pem"]
    assert os.stat(directory).st_mode & 0o777 == 0o700
    assert b"PRIVATE" not in pathlib.Path(sandbox.ca_file).read_bytes()


def test_a_silent_connection_is_closed(sandbox):
    sandbox.idle_seconds = 0.05
    client = Client(sandbox)
    client.connection.connect()
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "sandbox-connection"])
    with pytest.raises((OSError, http.client.HTTPException)):
        client("GET", "/me")
    client.close()


def test_a_client_that_stays_keeps_no_thread(sandbox, graph):
    assert graph("GET", "/me").status == 200
    sandbox.stop()
    assert [thread for thread in threading.enumerate() if thread.name == "sandbox-connection"] == []


def test_garbage_is_survived_in_silence(sandbox, graph, capfd):
    for junk in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(200)):
        with socket.create_connection(("127.0.0.1", sandbox.port)) as sock:
            sock.sendall(junk)
    context = ssl.create_default_context(cafile=sandbox.ca_file)
    for junk in (b"\r\n\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n", b"OPTIONS * HTTP/1.1\r\n\r\n", b"GET / HTTP/9\r\n\r\n"):
        plain = socket.create_connection(("127.0.0.1", sandbox.port))
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
            sock.sendall(junk)
    assert graph("GET", "/me").status == 200
    sandbox.stop()
    assert capfd.readouterr() == ("", "")
