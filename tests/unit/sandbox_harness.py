"""What the tests of the stand-in tenant share: a running one, a client of it, messages."""

import base64
import http.client
import json
import ssl
import threading
from types import SimpleNamespace
from urllib.parse import quote, urlencode

import pytest
from waiting import wait_until

from m365proxy.sandbox import Sandbox

RELAY, ALERTS, SCANNER = "relay@contoso.com", "alerts@contoso.com", "scanner@contoso.com"
IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}
MARKER = "String {5f0c8d3a-7f3e-4a52-9a55-0d6a1c6f1b11} Name QueueId"
MEGABYTE = 1024 * 1024


class Client:
    """One connection, one request after another; no cleverness of a library in between."""

    def __init__(self, sandbox, token=None, seconds=10.0):
        context = ssl.create_default_context(cafile=sandbox.ca_file)
        self.connection = http.client.HTTPSConnection("127.0.0.1", sandbox.port, context=context, timeout=seconds)
        self.token = sandbox.entra.token() if token is None else token

    def raw(self, method, path, body=None, headers=None):
        sent = {"Authorization": "Bearer " + self.token} if self.token else {}
        sent.update(headers or {})
        self.connection.request(method, path, body, sent)
        answer = self.connection.getresponse()
        content = answer.read()
        names = {name.lower(): value for name, value in answer.getheaders()}
        is_json = bool(content) and names.get("content-type", "").startswith("application/json")
        value = json.loads(content) if is_json else None
        code = (value.get("error") or {}) if is_json else {}
        return SimpleNamespace(
            status=answer.status,
            headers=names,
            content=content,
            value=value,
            code=code.get("code") if isinstance(code, dict) else code,
        )

    def __call__(self, method, path, value=None, headers=None, **query):
        """A call of Graph with immutable ids; `value` goes as JSON, bytes as MIME."""
        sent = dict(IMMUTABLE, **(headers or {}))
        body = None
        if isinstance(value, bytes):
            body = base64.b64encode(value)
            sent.setdefault("Content-Type", "text/plain")
        elif value is not None:
            body = json.dumps(value).encode()
            sent.setdefault("Content-Type", "application/json")
        elif method in ("POST", "PUT", "PATCH"):
            body = b""
        options = "?" + urlencode({"$" + k: v for k, v in query.items()}, quote_via=quote) if query else ""
        return self.raw(method, "/v1.0" + path + options, body, sent)

    def close(self):
        self.connection.close()


@pytest.fixture
def sandbox():
    with Sandbox() as running:
        running.concurrency_limit = None  # these tests ask as fast and as often as they like
        yield running
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("sandbox")])


@pytest.fixture
def graph(sandbox):
    client = Client(sandbox)
    yield client
    client.close()


def mail(sender=ALERTS, to=SCANNER, extra="", body="hello"):
    return f"From: {sender}\r\nTo: {to}\r\nSubject: s\r\nMessage-ID: <1@a>\r\n{extra}\r\n{body}\r\n".encode()


def person(address):
    return {"emailAddress": {"address": address}}


def users(mailbox, path=""):
    return f"/users/{mailbox}{path}"


def segment(item_id):
    return quote(item_id, safe="")


def inbox(graph, mailbox=SCANNER, **query):
    return graph("GET", users(mailbox, "/mailFolders/inbox/messages"), **query)


def draft(graph, mailbox=ALERTS, **more):
    value = {"subject": "s", "toRecipients": [person(SCANNER)], **more}
    answer = graph("POST", users(mailbox, "/messages"), value)
    assert answer.status == 201, answer.code
    return answer.value


def item_url(item_id, mailbox=ALERTS, rest=""):
    return users(mailbox, f"/messages/{segment(item_id)}{rest}")


def fill(sandbox, count, mailbox=SCANNER):
    return [
        sandbox.tenant.add_message(mailbox, mail(extra=f"X-Number: {n}\r\n"), received=1_700_000_000.0 + n)
        for n in range(count)
    ]


def ids(answer):
    return [item["id"] for item in answer.value["value"]]
