"""Maildrops over a Graph made of a few lines."""

from __future__ import annotations

import os
from types import SimpleNamespace
from urllib.parse import unquote

import pytest

from m365proxy.graph.answer import GraphRefused, GraphTrouble
from m365proxy.maildrop.locks import SessionHandle
from m365proxy.maildrop.maildrop import Maildrops
from m365proxy.system.choices import DeleteRule

PREFER = {"Prefer": 'IdType="ImmutableId"'}


NEXT = "https://graph.example/next/"


DELTA = "https://graph.example/delta/"


EXPAND = "singleValueExtendedProperties($filter=id eq 'Long 0x0E08')"


SESSION = SessionHandle("192.0.2.1", lambda: 0.0, lambda: None)


class Answer:
    """An answer with a status, a JSON value, and chunks of a body; an exception among them is raised."""

    def __init__(self, status=200, value=None, chunks=(), code="", request_id="r"):
        self.from_graph = bool(request_id)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.from_graph = bool(request_id)
        self.closed = False
        self._value = value or {}
        self._chunks = chunks

    @property
    def ok(self):
        return 200 <= self.status < 300

    def json(self):
        return self._value

    def forget_body(self):
        self._chunks = ()

    def chunks(self, size=65536):
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True


def refusal(status, code="", seconds=0.0):
    """What Graph.read raises for an answer that is not 2xx."""
    kind = GraphTrouble if status >= 500 or status == 429 else GraphRefused
    error = kind(f"Graph answered HTTP {status} {code}.", Answer(status, code=code))
    error.hold = seconds
    return error


class Graph:
    """Answers from lists: `pages` for listings, `deltas` for changes (none: Graph does not tell them), `values` by id.

    Nothing is fetched ahead: there are no slots to `spare`.
    """

    user = "alerts@contoso.com"
    app = "6f1c"
    url = "https://graph.example"

    def __init__(self):
        self.pages = []
        self.deltas = []
        self.asked = []  # delta requests: (URL or path, page size)
        self.free = 0
        self.values = {}
        self.folders = {}
        self.inner = lambda request: {"status": 204}
        self.calls = []
        self.batches = []
        self.outer = []
        self.hold = 0.0
        self.rests = []

    def throttled_for(self, mailbox):
        return self.hold

    def spare(self, mailbox):
        return self.free

    def throttle(self, mailbox, seconds):
        self.rests.append((mailbox, seconds))

    def root(self, mailbox):
        return f"/users/{mailbox}"

    def _give(self, answer):
        if isinstance(answer, Exception):
            self.hold = getattr(answer, "hold", 0.0)
            raise answer
        return answer

    def read(self, method, mailbox, path, *, params=None, headers=None, stream=False, seconds=60.0, cancellation=None):
        if path.endswith("/messages/delta"):
            assert params == {"$select": "id,receivedDateTime", "$expand": EXPAND}
            return self._delta(path, headers)
        assert headers == PREFER
        self.calls.append((path, params))
        if path.endswith("/$value"):
            assert stream and seconds >= 300
            return self._give(self.values[unquote(path.split("/")[2])].pop(0))
        if path.endswith("/messages"):
            return self._give(self.pages.pop(0))
        return self._give(Answer(value=self.folders[path]) if path in self.folders else refusal(404))

    def _delta(self, url, headers):
        immutable, _, size = headers["Prefer"].partition(", odata.maxpagesize=")
        assert {"Prefer": immutable} == PREFER
        self.asked.append((url, int(size)))
        return self._give(self.deltas.pop(0) if self.deltas else refusal(400, "NotHere"))

    def follow(self, mailbox, url, headers=None):
        if url.startswith(DELTA):
            return self._delta(url, headers)
        assert headers == PREFER
        self.calls.append((url, None))
        return self._give(self.pages.pop(0))

    def batch(self, mailbox, requests):
        self.batches.append(requests)
        if self.outer:
            self._give(self.outer.pop(0))
        answers = [dict(self.inner(request), id=request["id"]) for request in requests]
        return Answer(value={"responses": answers[::-1]})


def user(folder="inbox", delete="trash", mark=False, mailbox="scanner@contoso.com"):
    return SimpleNamespace(
        mailbox=mailbox,
        folder=folder,
        pop3_delete=DeleteRule.parse(delete),
        pop3_mark_read=mark,
        pop3_fold_lines=False,
        login=mailbox,
    )


def entry(number, size=None):
    found = {"id": f"id/{number}+=", "receivedDateTime": f"2026-01-01T00:00:{number % 60:02}Z"}
    if size is not None:
        found["singleValueExtendedProperties"] = [{"id": "Long 0xe08", "value": size}]
    return found


def page(*numbers, link=None):
    value = {"value": [entry(number) for number in numbers]}
    if link:
        value["@odata.nextLink"] = NEXT + link
    return Answer(value=value)


class Rig:
    def __init__(self, path, **more):
        self.graph = Graph()
        self.path = path / "maildrop"
        self.slept = []
        self.now = 1000.0
        self.more = dict(sleep=self._sleep, clock=lambda: self.now, settle=10.0, **more)
        self.restart()

    def restart(self):
        self.drops = Maildrops(self.graph, str(self.path), **self.more)

    def _sleep(self, seconds):
        self.slept.append(seconds)
        self.graph.hold = 0.0

    def open(self, *pages, session=SESSION, **more):
        self.graph.pages = list(pages)
        return self.drops.open(user(**more), session)

    def holding(self, raws, **more):
        """A maildrop of such messages."""
        drop = self.open(page(*range(len(raws))), **more)
        for number, raw in enumerate(raws):
            chunks = raw if isinstance(raw, list) else [Answer(chunks=[raw])]
            self.graph.values[f"id/{number}+="] = chunks
        return drop

    def on_disk(self):
        return sorted(name for name in os.listdir(self.path) if not name.endswith(".json"))


@pytest.fixture
def rig(tmp_path):
    return Rig(tmp_path)


def whole(drop, index):
    """The message, as RETR takes it."""
    message = drop.retrieve(index)
    assert message.wait_ready(10.0)
    return b"".join(message.chunks(lambda: None))


def refused(drop, index, error, match=None):
    with pytest.raises(error, match=match):
        whole(drop, index)


def ids(drop):
    return [int(item.id[3:-2]) for item in drop.messages]


def changes(*entries, link="1", more=None):
    """A page of a delta query: numbers are messages, negative ones are gone."""
    value = []
    for one in entries:
        value.append(dict(entry(-one), **{"@removed": {"reason": "deleted"}}) if one < 0 else entry(one, "1000"))
    name = "@odata.nextLink" if more else "@odata.deltaLink"
    return Answer(value={"value": value, name: DELTA + (more or link)})


def poll(rig, *deltas, **more):
    rig.graph.deltas, rig.graph.asked, rig.graph.calls = list(deltas), [], []
    return rig.open(page(), **more)


BRIEF = "?$select=id"


def requested(graph):
    """Every inner request as (method, what is done to which message)."""
    return [
        (request["method"], unquote(request["url"]).partition("/messages/")[2].replace(BRIEF, ""))
        for batch in graph.batches
        for request in batch
    ]
