"""Maildrops over a Graph made of a few lines: listing, copies, deletion."""

from __future__ import annotations

import errno
import hashlib
import os
from types import SimpleNamespace
from urllib.parse import unquote

import pytest

from m365proxy.errors import InUse, Permanent, SignInNeeded, Temporary
from m365proxy.graph.answer import GraphRefused, GraphTrouble, NoAnswer, Throttled
from m365proxy.maildrop import ledger
from m365proxy.maildrop.copies import Copy
from m365proxy.maildrop.failures import Failures
from m365proxy.maildrop.fetch import Fetcher
from m365proxy.maildrop.holds import Holds, Session
from m365proxy.maildrop.ledger import Ledger
from m365proxy.maildrop.maildrop import Maildrops
from m365proxy.system import files

PREFER = {"Prefer": 'IdType="ImmutableId"'}
NEXT = "https://graph.example/next/"
DELTA = "https://graph.example/delta/"
EXPAND = "singleValueExtendedProperties($filter=id eq 'Long 0x0E08')"
SESSION = Session("192.0.2.1", lambda: 0.0, lambda: None)


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

    def held(self, mailbox):
        return self.hold

    def spare(self, mailbox):
        return self.free

    def rest(self, mailbox, seconds):
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
        mailbox=mailbox, folder=folder, pop3_delete=delete, pop3_mark_read=mark, pop3_fold_lines=False, login=mailbox
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
    assert message.ready(10.0)
    return b"".join(message.chunks(lambda: None))


def refused(drop, index, error, match=None):
    with pytest.raises(error, match=match):
        whole(drop, index)


def ids(drop):
    return [int(item.id[3:-2]) for item in drop.messages]


# Listing.


def test_the_listing_asks_for_little_and_oldest_first(rig):
    drop = rig.open(page(1, 2))
    assert rig.graph.calls == [
        (
            "/mailFolders/inbox/messages",
            {
                "$select": "id,receivedDateTime",
                "$orderby": "receivedDateTime asc",
                "$top": "1000",
                "$expand": EXPAND,
            },
        )
    ]
    assert ids(drop) == [1, 2]


def test_uidls_are_hashes_of_the_ids(rig):
    item = rig.open(page(7)).messages[0]
    assert item.uidl == hashlib.sha256(b"id/7+=").hexdigest()[:40]


PAGINGS = {
    "next links": ([page(1, 2, link="a"), page(3, link="b"), page(4)], [1, 2, 3, 4]),
    "an empty page in between": ([page(link="a"), page(1, link="b"), page(link="c"), page(2)], [1, 2]),
    "an empty page at the end": ([page(1, link="a"), page()], [1]),
    "items twice": ([page(1, 2, link="a"), page(2, 3, link="b"), page(1, 4)], [1, 2, 3, 4]),
    "nothing": ([page()], []),
}


@pytest.mark.parametrize("name", PAGINGS)
def test_pages(rig, name):
    pages, wanted = PAGINGS[name]
    assert ids(rig.open(*pages)) == wanted
    assert [path for path, _ in rig.graph.calls[1:]] == [NEXT + letter for letter in "abc"[: len(pages) - 1]]


SIZES = [
    ([{"id": "Long 0xe08", "value": "1000"}], 1370),
    ([{"id": "Integer 0x0E08", "value": "1000"}], 1370),
    ([{"id": "String 0x1000", "value": "x"}, {"id": "LONG 0XE08", "value": "200"}], 274),
    ([{"id": "Long 0xe08", "value": "0"}], 1),
    ([{"id": "Long 0xe08", "value": None}], 4096),
    ([{"id": "Long 0xe08", "value": "many"}], 4096),
    ([{"value": "1"}, "junk", {"id": 5, "value": "1"}], 4096),
    ([], 4096),
    (None, 4096),
]


@pytest.mark.parametrize("properties, size", SIZES)
def test_sizes_are_estimated_from_the_store(rig, properties, size):
    value = {"value": [dict(entry(1), singleValueExtendedProperties=properties)]}
    assert rig.open(Answer(value=value)).messages[0].size == size


def test_a_page_that_fails_is_asked_for_in_smaller_sizes_from_where_the_listing_stands(rig):
    drop = rig.open(page(1, 2, link="a"), refusal(504), page(2, 3, link="b"), refusal(500), page(3, 4))
    assert ids(drop) == [1, 2, 3, 4]
    tops = [(params["$top"], params.get("$filter")) for _, params in rig.graph.calls if params]
    assert tops == [
        ("1000", None),
        ("500", "receivedDateTime ge 2026-01-01T00:00:02Z"),
        ("250", "receivedDateTime ge 2026-01-01T00:00:03Z"),
    ]


@pytest.mark.parametrize(
    "trouble",
    [
        refusal(503),
        refusal(500, "ErrorInternalServerError"),
        NoAnswer("No answer in time.", True),
        Answer(value={}),
        Answer(value={"value": None}),
    ],
)
def test_four_sizes_are_tried_and_the_mailbox_never_looks_empty(rig, trouble):
    with pytest.raises(Temporary):
        rig.open(*[trouble] * 9)
    assert [params["$top"] for _, params in rig.graph.calls] == ["1000", "500", "250", "100"]


@pytest.mark.parametrize("known", [False, True])
def test_a_silent_graph_is_asked_once(rig, known):
    """A minute for each of many sizes of page: no client waits for that, and its next session finds the first one."""
    if known:
        poll(rig, changes(1, link="d1")).close()

    def hang(*_, **__):
        rig.now += 60.0
        asked.append(1)
        raise NoAnswer("No answer in time.", True)

    asked = []
    rig.graph.read = rig.graph.follow = hang
    with pytest.raises(Temporary):
        rig.open()
    assert len(asked) == 1


def test_pages_that_lead_in_a_circle_end(rig):
    with pytest.raises(Temporary):
        rig.open(*[page(1, link="a") for _ in range(100)])
    assert len(rig.graph.calls) < 15


@pytest.mark.parametrize(
    "trouble, kind",
    [
        (NoAnswer("graph.microsoft.com cannot be reached.", False), Temporary),
        (SignInNeeded("Run `m365proxy login`."), SignInNeeded),
        (refusal(400, "BadRequest"), Permanent),
        (Permanent("The link leads to another host."), Permanent),
    ],
)
def test_trouble_that_smaller_pages_do_not_help_ends_it_and_frees_the_mailbox(rig, trouble, kind):
    with pytest.raises(kind):
        rig.open(page(1, link="a"), trouble)
    assert len(rig.graph.calls) == 2
    assert ids(rig.open(page(1))) == [1]


def test_pauses_graph_asks_for_are_kept(rig):
    drop = rig.open(refusal(429, seconds=3.0), page(1, link="a"), Throttled("scanner@contoso.com", 2.5), page(2))
    assert ids(drop) == [1, 2]
    assert rig.slept == [3.0, 2.5]
    assert [params["$top"] for _, params in rig.graph.calls if params] == ["1000", "1000"]


def test_patience_ends(rig):
    with pytest.raises(Temporary):
        rig.open(*[refusal(429, seconds=20.0)] * 9)
    assert rig.slept == [20.0, 20.0]


@pytest.mark.parametrize("how", ["listing", "changes", "the rest"])
def test_a_listing_without_end_is_ended_and_frees_the_mailbox(rig, how):
    """Each page is new and comes soon enough, but there is always another."""

    def slow(make):
        def answer(*_, **__):
            rig.now += 100.0
            asked.append(rig.now)
            return make(len(asked))

        return answer

    asked = []
    if how == "the rest":
        poll(rig, changes(1, link="d1")).close()
    if how == "listing":
        make = slow(lambda number: page(number, link=f"p{number}"))
        rig.graph._delta = lambda url, headers: rig.graph._give(refusal(400, "NotHere"))
        rig.graph.pages = SimpleNamespace(pop=make)
        list_it = lambda: rig.drops.open(user(), SESSION)  # noqa: E731
    else:
        rig.graph._delta = slow(lambda number: changes(number, more=f"p{number}"))
        list_it = rig.open
    with pytest.raises(Temporary, match="more than 30 minutes.*pop3.max_messages"):
        list_it()
    assert len(asked) == 18
    del rig.graph._delta
    assert ids(rig.open(page(1))) == [1]


def test_max_messages_shows_the_newest(tmp_path):
    rig = Rig(tmp_path, max_messages=3)
    drop = rig.open(page(9, 8, link="a"), page(8, 7, 6, link="b"))
    assert ids(drop) == [7, 8, 9]
    first = rig.graph.calls[0][1]
    assert (first["$orderby"], first["$top"]) == ("receivedDateTime desc", "3")


# Folders.

LONG_ID = "AAMkAD" + "x" * 80 + "/+=="


@pytest.mark.parametrize(
    "name, path",
    [
        ("inbox", "/mailFolders/inbox/messages"),
        ("SentItems", "/mailFolders/sentitems/messages"),
        (LONG_ID, "/mailFolders/AAMkAD" + "x" * 80 + "%2F%2B%3D%3D/messages"),
        ("Scans", "/mailFolders/s1/messages"),
        ("scans/2026", "/mailFolders/s2/messages"),
        (" Scans / 2026 /", "/mailFolders/s2/messages"),
        ("Inbox/Done", "/mailFolders/d%2F1/messages"),
    ],
)
def test_folders_by_name_path_and_id(rig, name, path):
    rig.graph.folders = {
        "/mailFolders": {"value": [{"id": "x", "displayName": "Other"}, {"id": "s1", "displayName": "Scans"}]},
        "/mailFolders/s1/childFolders": {"value": [{"id": "s2", "displayName": "2026"}]},
        "/mailFolders/inbox/childFolders": {"value": [{"id": "d/1", "displayName": "done"}]},
    }
    rig.open(page(1), folder=name)
    assert rig.graph.calls[-1][0] == path


def test_a_folders_id_is_remembered_for_an_hour(rig):
    rig.graph.folders = {"/mailFolders": {"value": [{"id": "s1", "displayName": "Scans"}]}}
    for _ in range(3):
        rig.open(page(1), folder="Scans").close()
    assert len(rig.graph.calls) == 4
    rig.now += 3601
    rig.open(page(1), folder="Scans").close()
    assert len(rig.graph.calls) == 6


def test_a_folder_that_went_is_looked_up_anew(rig):
    rig.graph.folders = {"/mailFolders": {"value": [{"id": "s1", "displayName": "Scans"}]}}
    with pytest.raises(Permanent):
        rig.open(refusal(404, "ErrorItemNotFound"), folder="Scans")
    rig.graph.folders = {"/mailFolders": {"value": [{"id": "s9", "displayName": "Scans"}]}}
    rig.open(page(1), folder="Scans")
    assert rig.graph.calls[-1][0] == "/mailFolders/s9/messages"


@pytest.mark.parametrize("name", ["Scans", "Inbox/Scans", "/", "Inbox/"])
def test_a_folder_that_does_not_exist(rig, name):
    rig.graph.folders = {"/mailFolders": {"value": []}, "/mailFolders/inbox/childFolders": {"value": []}}
    if name == "Inbox/":
        assert ids(rig.open(page(1), folder=name)) == [1]
        return
    with pytest.raises(Permanent, match="folder"):
        rig.open(folder=name)


@pytest.mark.parametrize(
    "answer, account, words",
    [
        (
            refusal(403, "ErrorAccessDenied"),
            "alerts@contoso.com",
            "Add-MailboxPermission scanner@contoso.com -User alerts@contoso.com -AccessRights FullAccess",
        ),
        (refusal(404, "ErrorItemNotFound"), "alerts@contoso.com", "-AccessRights FullAccess"),
        (refusal(403, "ErrorAccessDenied"), "scanner@contoso.com", "run `m365proxy login` again"),
        (refusal(403, "ErrorAccessDenied"), "", '-App 6f1c -Role "Application Mail.ReadWrite"'),
        (refusal(404, "ErrorInvalidUser"), "alerts@contoso.com", "There is no mailbox scanner@contoso.com"),
        (refusal(404, "MailboxNotEnabledForRESTAPI"), "alerts@contoso.com", "no licence"),
    ],
)
def test_a_missing_right_is_named(rig, answer, account, words):
    rig.graph.user = account
    with pytest.raises(Permanent) as caught:
        rig.open(answer)
    assert words in str(caught.value)


# One session at a time.


def test_a_second_session_is_refused_until_the_first_closes(rig):
    first = rig.open(page(1))
    with pytest.raises(InUse, match="192.0.2.1"):
        rig.open(page(1))
    for name in ("INBOX", "inbox/", " Inbox "):
        with pytest.raises(InUse):
            rig.open(page(1), folder=name)
    rig.open(page(1), folder="sentitems").close()
    rig.open(page(1), mailbox="other@contoso.com").close()
    first.close()
    second = rig.open(page(1))
    first.close()  # once more: it must not let a third one in
    with pytest.raises(InUse):
        rig.open(page(1))
    second.close()


def test_a_session_that_cannot_write_its_ledger_lets_the_next_one_in(rig, monkeypatch):
    def no_memory(*_):
        raise MemoryError

    drop = rig.open(page(1))
    monkeypatch.setattr(Ledger, "save", no_memory)
    with pytest.raises(MemoryError):
        drop.close()
    assert ids(rig.open(page(1))) == [1]


def abandoned(seconds, ended, peer="192.0.2.1"):
    return Session(peer, lambda: seconds, lambda: ended.append(seconds))


def test_an_abandoned_session_gives_way_to_the_same_client(rig):
    ended = []
    first = rig.open(page(1), session=abandoned(60.5, ended))
    second = rig.open(page(1, 2), session=abandoned(0.0, ended))
    assert ended == [60.5] and ids(second) == [1, 2]
    first.close()  # which it does now, late: the second still has the mailbox
    with pytest.raises(InUse):
        rig.open(page(1))
    second.close()
    rig.open(page(1)).close()


@pytest.mark.parametrize(
    "seconds, peer, login", [(60.0, "192.0.2.1", ""), (900.0, "192.0.2.2", ""), (900.0, "192.0.2.1", "other")]
)
def test_no_other_session_gives_way(rig, seconds, peer, login):
    ended = []
    rig.open(page(1), session=abandoned(seconds, ended, peer))
    second = user()
    second.login = login or second.login
    with pytest.raises(InUse):
        rig.drops.open(second, SESSION)
    assert ended == []


# Changes.


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


def test_the_first_sign_in_follows_the_pages_and_the_next_asks_for_changes(rig):
    drop = poll(rig, changes(3, 1, more="p2"), changes(2, 3, link="d1"))
    assert ids(drop) == [1, 2, 3]  # oldest first, none twice
    assert [item.size for item in drop.messages] == [1370] * 3
    assert rig.graph.asked == [("/mailFolders/inbox/messages/delta", 1000), (DELTA + "p2", 1000)]
    drop.close()
    rig.restart()
    drop = poll(rig, changes(link="d2"))
    assert ids(drop) == [1, 2, 3] and [item.size for item in drop.messages] == [1370] * 3
    assert rig.graph.asked == [(DELTA + "d1", 1000)] and rig.graph.calls == []


def test_what_came_and_went_since(rig):
    poll(rig, changes(1, 2, 4, link="d1")).close()
    drop = poll(rig, changes(3, more="p2"), changes(-2, -9, link="d2"))
    assert ids(drop) == [1, 3, 4]
    drop.close()
    drop = poll(rig, changes(link="d3"))
    assert rig.graph.asked == [(DELTA + "d2", 1000)] and ids(drop) == [1, 3, 4]


def test_a_change_may_tell_no_more_than_the_id(rig):
    poll(rig, changes(1, 2, link="d1")).close()
    drop = poll(rig, Answer(value={"value": [{"id": "id/1+="}], "@odata.deltaLink": DELTA + "d2"}))
    assert ids(drop) == [1, 2]
    assert (drop.messages[0].size, drop.messages[0].received) == (1370, "2026-01-01T00:00:01Z")


@pytest.mark.parametrize(
    "trouble",
    [refusal(410, "syncStateNotFound"), refusal(400, "BadRequest"), refusal(500), Answer(value={}), Permanent("host")],
)
def test_a_link_that_is_of_no_use_costs_a_full_listing(rig, trouble):
    poll(rig, changes(1, 2, link="d1")).close()
    drop = poll(rig, trouble, changes(2, 5, link="d2"))
    assert ids(drop) == [2, 5]
    assert [size for _, size in rig.graph.asked] == [1000, 1000]
    drop.close()
    poll(rig, changes(link="d3"))
    assert rig.graph.asked == [(DELTA + "d2", 1000)]


def test_a_new_link_is_kept_though_no_message_changed(rig):
    """Otherwise each poll lists in full until something comes in."""
    poll(rig, changes(1, 2, link="d1")).close()
    poll(rig, refusal(410, "syncStateNotFound"), changes(1, 2, link="d2")).close()
    poll(rig, changes(link="d3"))
    assert rig.graph.asked == [(DELTA + "d2", 1000)]


def test_a_first_link_is_kept_though_no_message_changed(rig):
    rig.open(page(1)).close()
    rig.now += 3601
    poll(rig, Answer(value={"value": [entry(1)], "@odata.deltaLink": DELTA + "d1"})).close()
    poll(rig, changes(link="d2"))
    assert rig.graph.asked == [(DELTA + "d1", 1000)]


def test_an_unchanged_ledger_is_not_written_again(rig, monkeypatch):
    """Flash memory wears out."""
    written = []
    replace = files.replace
    monkeypatch.setattr(files, "replace", lambda *all, **more: written.append(1) or replace(*all, **more))
    poll(rig, changes(1, 2, link="d1")).close()
    poll(rig, changes(link="d2")).close()
    assert len(written) == 1


def test_a_folder_too_large_for_its_ledger_is_not_written_at_each_poll(rig, monkeypatch):
    monkeypatch.setattr(ledger, "_MOST", 3)
    written = []
    replace = files.replace
    monkeypatch.setattr(files, "replace", lambda *all, **more: written.append(1) or replace(*all, **more))
    for number in range(3):
        drop = poll(rig, changes(1, 2, 3, 4, 5, link=f"d{number}"))
        assert ids(drop) == [1, 2, 3, 4, 5]
        assert [path for path, _ in rig.graph.asked] == ["/mailFolders/inbox/messages/delta"]
        drop.close()
    assert len(written) == 1


def test_a_page_of_changes_that_fails_is_asked_for_in_smaller_sizes(rig):
    drop = poll(rig, changes(1, more="p2"), refusal(504), Answer(value={}), changes(2, link="d1"))
    assert ids(drop) == [1, 2]
    assert rig.graph.asked[1:] == [(DELTA + "p2", size) for size in (1000, 500, 250)]


def test_where_graph_does_not_tell_changes_it_is_not_asked_again_for_an_hour(rig):
    rig.open(page(1)).close()
    assert len(rig.graph.asked) == 1
    rig.open(page(1)).close()
    assert len(rig.graph.asked) == 1
    rig.now += 3601
    rig.open(page(1)).close()
    assert len(rig.graph.asked) == 2


@pytest.mark.parametrize("status", [403, 404])
def test_a_missing_right_shows_in_the_delta_query_too(rig, status):
    with pytest.raises(Permanent, match="Add-MailboxPermission"):
        poll(rig, refusal(status, "ErrorAccessDenied"))


def test_graph_away_is_told_at_once(rig):
    poll(rig, changes(1, link="d1")).close()
    with pytest.raises(Temporary):
        poll(rig, NoAnswer("no way there", False))
    assert len(rig.graph.asked) == 1


def test_what_was_deleted_does_not_come_again_before_graph_tells(rig):
    drop = poll(rig, changes(1, 2, 3, link="d1"))
    rig.graph.inner = lambda request: {"status": 403 if "id%2F3" in request["url"] else 201}
    assert drop.delete([0, 2]) == 1
    drop.close()
    assert ids(poll(rig, changes(link="d2"))) == [2, 3]


def test_with_max_messages_the_newest_are_listed_every_time(tmp_path):
    rig = Rig(tmp_path, max_messages=2)
    for _ in range(2):
        drop = rig.open(page(3, 2))
        assert ids(drop) == [2, 3]
        drop.close()
    assert rig.graph.asked == []


@pytest.mark.parametrize("content", [b"", b"junk", b"[]", b"{}", b'{"format":1,"messages":[[1]]}', b'{"format":9}'])
def test_a_ledger_that_cannot_be_read_is_as_none(rig, content):
    poll(rig, changes(1, link="d1")).close()
    (path,) = rig.path.glob("*.json")
    path.write_bytes(content)
    assert ids(poll(rig, changes(1, 2, link="d2"))) == [1, 2]
    assert rig.graph.asked == [("/mailFolders/inbox/messages/delta", 1000)]


def test_ledgers_of_mailboxes_folders_and_accounts_are_apart(rig):
    poll(rig, changes(1, link="d1")).close()
    for more in ({"mailbox": "other@contoso.com"}, {"folder": "sentitems"}):
        poll(rig, changes(2, link="d2"), **more).close()
        assert rig.graph.asked[0][0].startswith("/mailFolders/")
    rig.graph.user = "other@contoso.com"  # whose /me is another mailbox
    poll(rig, changes(3, link="d3")).close()
    assert rig.graph.asked[0][0].startswith("/mailFolders/")


# Sizes.


def test_sizes_are_remembered_over_sessions_and_full_listings(rig, wait_until):
    drop = poll(rig, changes(0, 1, link="d1"))
    rig.graph.values["id/0+="] = [Answer(chunks=[b"x" * 500])]
    assert len(whole(drop, 0)) == 502
    drop.close()
    rig.restart()
    assert [item.size for item in poll(rig, changes(link="d2")).messages] == [502, 1370]
    rig.restart()
    drop = poll(rig, refusal(410), changes(0, 1, 2, link="d3"))
    assert [item.size for item in drop.messages] == [502, 1370, 1370]


def test_the_size_of_a_text_in_a_messages_place_is_remembered_by_this_run_only(rig):
    drop = poll(rig, changes(0, link="d1"))
    rig.graph.values["id/0+="] = [refusal(500, "ErrorCorruptData")]
    text = whole(drop, 0)
    assert drop.messages[0].size == len(text)
    drop.close()
    drop = poll(rig, changes(link="d2"))
    assert [item.size for item in drop.messages] == [len(text)]
    drop.close()
    rig.restart()
    assert [item.size for item in poll(rig, changes(link="d3")).messages] == [1370]


def test_exact_sizes_are_fetched_once(tmp_path):
    rig = Rig(tmp_path, exact_sizes=True)
    rig.graph.free = 4
    rig.graph.values = {f"id/{number}+=": [Answer(chunks=[b"x" * (number + 8)])] for number in range(5)}
    drop = poll(rig, changes(*range(5), link="d1"))
    assert drop.measured(10.0)
    assert [item.size for item in drop.messages] == [10, 11, 12, 13, 14]
    assert [len(whole(drop, index)) for index in range(5)] == [10, 11, 12, 13, 14]
    assert len(rig.graph.calls) == 5
    drop.close()
    drop = poll(rig, changes(link="d2"))
    assert drop.measured(10.0) and [item.size for item in drop.messages] == [10, 11, 12, 13, 14]
    assert rig.graph.calls == []


def test_without_exact_sizes_nothing_is_fetched_at_sign_in(rig):
    rig.graph.free = 4
    assert rig.open(page(1, 2)).measured(0.0)
    assert len(rig.graph.calls) == 1


# Copies.


def test_a_message_is_fetched_once_and_its_size_is_then_exact(rig):
    drop = rig.holding([b"Subject: x\n\nbody", b"other\r\n"])
    assert drop.messages[0].size == 4096
    for _ in range(3):
        assert whole(drop, 0) == b"Subject: x\r\n\r\nbody\r\n"
    assert drop.messages[0].size == 20
    assert drop.messages[1].size == 4096
    assert [path for path, _ in rig.graph.calls[1:]] == ["/messages/id%2F0%2B%3D/$value"]
    drop.close()
    assert rig.on_disk() == []


def test_a_broken_fetch_is_made_whole_again(rig):
    broken = Answer(chunks=[b"half", NoAnswer("broke off", True)])
    drop = rig.holding([[broken, Answer(chunks=[b"who", b"le\r\n"])]])
    assert whole(drop, 0) == b"whole\r\n"
    assert broken.closed
    assert not drop.messages[0].doubtful
    assert len(rig.on_disk()) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Answer(chunks=[b"half", NoAnswer("broke off", True)]),
        lambda: refusal(503),
        lambda: NoAnswer("no answer", True),
    ],
)
def test_a_fetch_that_breaks_twice_is_given_up(rig, make, wait_until):
    drop = rig.holding([[make(), make(), make()], b"next\r\n"])
    refused(drop, 0, Temporary)
    assert len(rig.graph.values["id/0+="]) == 1
    wait_until(lambda: rig.on_disk() == [])
    assert drop.messages[0].doubtful
    assert whole(drop, 1) == b"next\r\n"


@pytest.mark.parametrize("claimed, asked", [(False, 0), (True, 1)])
def test_one_that_failed_is_left_to_the_client(rig, claimed, asked):
    """Fetched ahead it would fail again, and the client's own call be the first that counts."""
    rig.graph.values["bad"] = [Answer(chunks=[b"x\r\n"])]
    failures = Failures()
    failures.note("scanner@contoso.com", "uidl", NoAnswer("broke off", True))
    copy = Copy(str(rig.path / "1.copy"), None, lambda copy, octets: True)
    copy.claimed = claimed
    item = SimpleNamespace(id="bad", uidl="uidl", size=3)
    Fetcher(rig.graph, "scanner@contoso.com", rig._sleep, failures).fetch(item, copy)
    assert len(rig.graph.calls) == asked
    assert copy.over and copy.whole == copy.claim(None) == claimed


def test_one_that_broke_off_is_not_measured(tmp_path, wait_until):
    rig = Rig(tmp_path, exact_sizes=True)
    rig.graph.free = 4
    for number in (0, 2):
        rig.graph.values[f"id/{number}+="] = [Answer(chunks=[b"x" * 8])]
    broken = [Answer(chunks=[b"half", NoAnswer("broke off", True)]) for _ in range(2)]
    rig.graph.values["id/1+="] = broken + [Answer(chunks=[b"late\r\n"])]
    drop = rig.open(page(0, 1, 2))
    assert drop.measured(10.0)
    drop.close()
    drop = rig.open(page(0, 1, 2))
    assert drop.measured(10.0)
    assert len(rig.graph.values["id/1+="]) == 1
    assert [item.exact for item in drop.messages] == [True, False, True]
    assert whole(drop, 1) == b"late\r\n"


def test_a_pause_is_kept_before_a_message_comes(rig):
    drop = rig.holding([[refusal(429, seconds=4.0), Answer(chunks=[b"x\r\n"])]])
    assert whole(drop, 0) == b"x\r\n"
    assert rig.slept == [4.0]


def test_a_message_that_is_gone(rig):
    drop = rig.holding([[refusal(404, "ErrorItemNotFound")], b"next\r\n"])
    refused(drop, 0, Permanent, "gone")
    assert whole(drop, 1) == b"next\r\n"


def test_a_404_of_something_between_does_not_mean_gone(rig):
    portal = GraphTrouble("HTTP 404", Answer(404, request_id=""))
    refused(rig.holding([[portal, portal]]), 0, Temporary)


def test_an_empty_answer_is_no_message(rig):
    drop = rig.holding([[Answer(chunks=[]), Answer(chunks=[])]], delete="permanent")
    refused(drop, 0, Temporary, "empty")
    assert drop.delete([0]) == 0
    assert told(rig.graph) == [("POST", "id/0+=/move")]


def test_a_page_of_something_between_is_no_message(rig, wait_until):
    drop = rig.holding([[Answer(chunks=[b"<html>Please sign on"], request_id="")]])
    refused(drop, 0, Temporary, "between")
    wait_until(lambda: rig.on_disk() == [])


def test_a_damaged_item_becomes_a_text(rig):
    drop = rig.holding([[refusal(500, "ErrorCorruptData")]])
    raw = whole(drop, 0)
    header, _, body = raw.partition(b"\r\n\r\n")
    assert b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\n" in header + b"\r\n"
    assert b"To: scanner@contoso.com" in header
    assert b"ErrorCorruptData" in body
    assert raw.count(b"\n") == raw.count(b"\r\n")
    assert drop.messages[0].size == len(raw)
    assert whole(drop, 0) == raw
    assert len(rig.graph.calls) == 2


# One message that Graph does not give out, and a client that stops at the first -ERR.


def poll_until_trouble(rig, drop, bad):
    """What a client gets that fetches in order and stops at trouble; `bad` makes the answers of message 1."""
    got = {}
    for item in drop.messages:
        rig.graph.values[item.id] = [Answer(chunks=[b"good\r\n"])]
    rig.graph.values["id/1+="] = bad()
    for index, item in enumerate(drop.messages):
        try:
            got[item.id] = whole(drop, index)
        except (Permanent, Temporary):
            break
    drop.close()
    return got


@pytest.mark.parametrize(
    "bad, words",
    [
        (lambda: [refusal(500, "ErrorInternalServerError")] * 2, b"HTTP 500 ErrorInternalServerError"),
        (lambda: [refusal(504, "UnknownError")] * 2, b"HTTP 504 UnknownError"),
        (lambda: [refusal(403, "ErrorAccessDenied")], b"HTTP 403 ErrorAccessDenied"),
        (lambda: [refusal(400, "ErrorInvalidRequest")], b"HTTP 400 ErrorInvalidRequest"),
        (lambda: [refusal(405)], b"HTTP 405 without a reason"),
        (lambda: [Answer(chunks=[]), Answer(chunks=[])], b"HTTP 200 without a reason"),
    ],
    ids=["500", "504", "403", "400", "405", "empty"],
)
def test_a_client_that_stops_at_trouble_gets_past_an_unreadable_message(rig, bad, words):
    rounds = []
    for _ in range(4):
        rounds.append(poll_until_trouble(rig, rig.open(page(0, 1, 2), delete="permanent"), bad))
        rig.now += 100
    good, after, text = "id/0+=", "id/2+=", "id/1+="
    # It fails twice, is left out once, and then a text stands there.
    assert [set(got) for got in rounds] == [{good}, {good}, {good, after}, {good, text, after}]
    assert words in rounds[3][text] and b"request-id r" in rounds[3][text]
    drop = rig.open(page(0, 1, 2), delete="permanent")
    assert drop.messages[1].size == len(rounds[3][text])
    assert drop.delete([1]) == 0
    assert told(rig.graph) == [("POST", "id/1+=/move")]


@pytest.mark.parametrize(
    "bad",
    [
        lambda: [NoAnswer("no answer", True)] * 2,
        lambda: [Answer(chunks=[b"half", NoAnswer("broke off", True)]) for _ in range(2)],
        lambda: [refusal(503), refusal(503)],
    ],
    ids=["silent", "broken off", "busy"],
)
def test_what_only_breaks_off_is_left_out_of_some_sessions_and_never_replaced(rig, bad):
    rounds = []
    for _ in range(9):
        rounds.append(len(poll_until_trouble(rig, rig.open(page(0, 1, 2)), bad)))
        rig.now += 100
    assert rounds == [1, 1, 2, 1, 2, 2, 1, 2, 2]
    rig.restart()
    assert len(poll_until_trouble(rig, rig.open(page(0, 1, 2)), lambda: [Answer(chunks=[b"whole\r\n"])])) == 3


def test_a_message_listed_and_gone_twice_leaves_the_listing(rig):
    gone = refusal(404, "ErrorItemNotFound")
    rounds = []
    for _ in range(6):
        rounds.append(len(poll_until_trouble(rig, rig.open(page(0, 1, 2)), lambda: [gone])))
        rig.now += 100
    assert rounds == [1, 1, 2, 2, 2, 2]


def test_a_message_that_can_be_had_again_takes_the_texts_place(rig):
    drop = rig.holding([b"x\r\n", [refusal(500, "ErrorCorruptData")]])
    text = whole(drop, 1)
    drop.close()
    drop = rig.holding([b"x\r\n", b"mended\r\n"], delete="permanent")
    assert drop.messages[1].size == len(text)
    assert whole(drop, 1) == b"mended\r\n"
    assert drop.messages[1].size == 8


def test_a_full_disk_is_temporary_and_leaves_nothing(rig, monkeypatch, wait_until):
    class Full:
        def __init__(self, file):
            self.file = file

        def close(self):
            self.file.close()

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    create = files.create
    monkeypatch.setattr(files, "create", lambda path: Full(create(path)))
    drop = rig.holding([b"x\r\n"])
    refused(drop, 0, Temporary, "No space left")
    wait_until(lambda: rig.on_disk() == [])
    assert len(rig.graph.calls) == 2


def test_what_is_kept_on_disk_is_bounded(tmp_path, wait_until):
    rig = Rig(tmp_path, read_ahead=1_000_000)
    first, second, huge, small = (
        letter * octets + b"\r\n" for letter, octets in zip((b"a", b"b", b"c", b"d"), (400_000, 400_000, 5_000_000, 3))
    )
    drop = rig.holding([first, [Answer(chunks=[second])] * 2, [Answer(chunks=[huge])] * 2, small])
    assert whole(drop, 0) == first and whole(drop, 1) == second
    assert len(rig.on_disk()) == 2
    assert whole(drop, 2) == huge  # alone over the limit, and kept all the same
    wait_until(lambda: len(rig.on_disk()) == 1)
    assert whole(drop, 2) == huge and len(rig.graph.calls) == 4
    assert whole(drop, 3) == small
    wait_until(lambda: len(rig.on_disk()) == 1)
    assert whole(drop, 1) == second  # fetched anew
    assert len(rig.on_disk()) == 2
    assert [item.size for item in drop.messages] == [400_002, 400_002, 5_000_002, 5]
    drop.close()
    assert rig.on_disk() == []


def test_what_an_earlier_run_left_is_removed(tmp_path):
    directory = tmp_path / "maildrop"
    directory.mkdir()
    (directory / "0011-1.copy").write_bytes(b"old")
    (directory / "note.txt").write_bytes(b"somebody's")
    assert Rig(tmp_path).on_disk() == ["note.txt"]


def test_a_top_is_not_fetched_to_the_end_and_the_retrieval_is(rig):
    body = b"line\r\n" * 100_000
    answer = Answer(chunks=[b"A: b\r\n\r\n", *[body[:6000]] * 100])
    drop = rig.holding([[answer, Answer(chunks=[b"A: b\r\n\r\n", body])]])
    message = drop.top(0, 2)
    assert message.ready(10.0)
    assert b"".join(message.chunks(lambda: None)).startswith(b"A: b\r\n\r\nline\r\nline\r\n")
    assert answer.closed and not drop.messages[0].exact
    assert whole(drop, 0) == b"A: b\r\n\r\n" + body
    assert len(rig.graph.calls) == 3


def test_a_top_that_reached_the_end_is_the_sessions_copy(rig):
    drop = rig.holding([b"A: b\r\n\r\nbody\r\n"])
    message = drop.top(0, 0)
    assert message.ready(10.0) and b"".join(message.chunks(lambda: None)) == whole(drop, 0)
    assert len(rig.graph.calls) == 2


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("code", ["ErrorCorruptData", "ErrorMimeContentConversionFailed"])
def test_every_way_an_item_cannot_be_made_mime_of(rig, status, code):
    drop = rig.holding([[refusal(status, code)]])
    assert code.encode() in whole(drop, 0)
    assert drop.messages[0].doubtful


def test_a_message_is_doubtful_until_it_was_given_out_whole(rig):
    drop = rig.holding([b"whole\r\n"])
    message = drop.retrieve(0)
    assert message.ready(10.0) and drop.messages[0].doubtful
    assert b"".join(message.chunks(lambda: None)) == b"whole\r\n" and not drop.messages[0].doubtful


# Deletion.


BRIEF = "?$select=id"


def told(graph):
    """Every inner request as (method, what is done to which message)."""
    return [
        (request["method"], unquote(request["url"]).partition("/messages/")[2].replace(BRIEF, ""))
        for batch in graph.batches
        for request in batch
    ]


def test_trash_moves_to_deleted_items_in_batches(rig):
    drop = rig.holding([b"x"] * 45)
    assert drop.delete(list(range(45))) == 0
    assert [len(batch) for batch in rig.graph.batches] == [20, 20, 5]
    assert rig.graph.batches[0][3] == {
        "id": "3",
        "method": "POST",
        "url": "/users/scanner@contoso.com/messages/id%2F3%2B%3D/move?$select=id",
        "headers": {"Prefer": 'IdType="ImmutableId"', "Content-Type": "application/json"},
        "body": {"destinationId": "deleteditems"},
    }
    assert len(set(told(rig.graph))) == 45


def test_answers_are_kept_short_unless_graph_minds(rig):
    rig.graph.inner = lambda request: {"status": 400 if BRIEF in request["url"] else 201}
    drop = rig.holding([b"x"] * 2, mark=True)
    assert drop.delete([0, 1]) == 0
    suffixes = [batch[0]["url"].partition("%3D")[2] for batch in rig.graph.batches]
    assert suffixes == [BRIEF, "", "/move" + BRIEF, "/move"]


def test_keep_does_nothing(rig):
    drop = rig.holding([b"x"] * 3, delete="keep")
    assert drop.delete([0, 1, 2]) == 0
    assert rig.graph.batches == []


@pytest.mark.parametrize("policy, then", [("keep", []), ("trash", ["move"]), ("permanent", ["permanentDelete"])])
def test_marking_as_read_comes_first_and_stops_nothing(rig, policy, then):
    rig.graph.inner = lambda request: {"status": 500 if request["method"] == "PATCH" else 204}
    drop = rig.holding([b"x"], delete=policy, mark=True)
    whole(drop, 0)
    assert drop.delete([0]) == 0
    assert told(rig.graph) == [("PATCH", "id/0+=")] + [("POST", f"id/0+=/{verb}") for verb in then]
    assert rig.graph.batches[0][0]["body"] == {"isRead": True}


def test_permanent_deletes_for_good(rig):
    drop = rig.holding([b"x"] * 2, delete="permanent")
    for index in range(2):
        whole(drop, index)
    assert drop.delete([0, 1]) == 0
    assert told(rig.graph) == [("POST", "id/0+=/permanentDelete"), ("POST", "id/1+=/permanentDelete")]
    assert "body" not in rig.graph.batches[0][0]


@pytest.mark.parametrize("status", [400, 404, 405])
def test_permanent_falls_back_to_trash(rig, status):
    rig.graph.inner = lambda request: {"status": status if request["url"].endswith("permanentDelete") else 201}
    drop = rig.holding([b"x"], delete="permanent")
    whole(drop, 0)
    assert drop.delete([0]) == 0
    assert told(rig.graph) == [("POST", "id/0+=/permanentDelete"), ("POST", "id/0+=/move")]
    assert rig.graph.batches[1][0]["body"] == {"destinationId": "deleteditems"}


def test_what_was_not_seen_whole_is_never_deleted_for_good(rig):
    drop = rig.holding(
        [
            [refusal(500, "ErrorCorruptData")],
            [refusal(503), refusal(503)],
            b"whole\r\n",
            [refusal(503), refusal(503), Answer(chunks=[b"late\r\n"])],
            b"never asked for",
        ],
        delete="permanent",
    )
    whole(drop, 0)
    for number in (1, 3):
        refused(drop, number, Temporary)
    whole(drop, 2)
    whole(drop, 3)
    assert drop.delete([0, 1, 2, 3, 4]) == 0
    assert sorted(told(rig.graph)) == [
        ("POST", "id/0+=/move"),
        ("POST", "id/1+=/move"),
        ("POST", "id/2+=/permanentDelete"),
        ("POST", "id/3+=/permanentDelete"),
        ("POST", "id/4+=/move"),
    ]


def test_a_substitute_of_an_earlier_session_never_destroys_the_item(rig):
    drop = rig.holding([[refusal(500, "ErrorCorruptData")]], delete="permanent")
    whole(drop, 0)
    drop.close()
    drop = rig.open(page(0), delete="permanent")
    assert drop.delete([0]) == 0
    assert told(rig.graph) == [("POST", "id/0+=/move")]


def test_a_substitute_seen_by_top_never_destroys_the_item(rig):
    drop = rig.holding([b"whole\r\n"], delete="permanent")
    whole(drop, 0)
    drop.close()
    drop = rig.holding([[refusal(500, "ErrorCorruptData")]], delete="permanent")
    message = drop.top(0, 5)
    assert message.ready(10.0) and b"".join(message.chunks(lambda: None))
    assert drop.delete([0]) == 0
    assert told(rig.graph) == [("POST", "id/0+=/move")]


def test_what_an_earlier_session_had_whole_is_deleted_for_good(rig):
    drop = rig.holding([b"whole\r\n"], delete="permanent")
    whole(drop, 0)
    drop.close()
    drop = rig.open(page(0), delete="permanent")
    assert drop.delete([0]) == 0
    assert told(rig.graph) == [("POST", "id/0+=/permanentDelete")]


def test_moving_to_a_folder(rig):
    rig.graph.folders = {
        "/mailFolders": {"value": [{"id": "done/1", "displayName": "Done"}]},
        "/mailFolders/done%2F1": {"id": "done/1"},
    }
    drop = rig.holding([b"x"], delete="move:Done")
    assert drop.delete([0]) == 0
    assert rig.graph.batches[0][0]["body"] == {"destinationId": "done/1"}


@pytest.mark.parametrize("target", ["Done", "archive"])
def test_a_missing_target_folder_is_not_taken_for_missing_messages(rig, target):
    rig.graph.folders = {"/mailFolders": {"value": []}}
    rig.graph.inner = lambda request: {"status": 404}
    drop = rig.holding([b"x"] * 2, delete=f"move:{target}")
    assert drop.delete([0, 1]) == 2
    assert rig.graph.batches == []


TRASH = {"/mailFolders/deleteditems": {"id": "trash"}}


def gone(code="ErrorItemNotFound"):
    return {"status": 404, "body": {"error": {"code": code}}}


def test_what_is_gone_already_is_done(rig):
    rig.graph.folders = TRASH
    rig.graph.inner = lambda request: gone()
    drop = rig.holding([b"x"] * 45)
    assert drop.delete(list(range(45))) == 0
    assert [path for path, _ in rig.graph.calls].count("/mailFolders/deleteditems") == 1


@pytest.mark.parametrize(
    "folders, inner", [({}, gone()), (TRASH, gone("ErrorFolderNotFound")), (TRASH, {"status": 404})]
)
def test_a_404_that_does_not_mean_the_message_is_no_deletion(rig, folders, inner):
    """Deleted Items may be closed to the account: then the messages are there again in the next session."""
    rig.graph.folders = folders
    rig.graph.inner = lambda request: inner
    drop = poll(rig, changes(0, 1, link="d1"))
    assert drop.delete([0, 1]) == 2
    drop.close()
    assert ids(poll(rig, changes(link="d2"))) == [0, 1]


def test_what_was_moved_beside_a_404_is_done(rig):
    rig.graph.inner = lambda request: gone() if request["id"] == "0" else {"status": 201}
    drop = poll(rig, changes(0, 1, link="d1"))
    assert drop.delete([0, 1]) == 1
    drop.close()
    assert ids(poll(rig, changes(link="d2"))) == [0]


def test_a_message_said_to_be_gone_is_hidden_only_when_graph_tells(rig):
    rig.graph.folders = TRASH
    rig.graph.inner = lambda request: gone()
    drop = poll(rig, changes(0, 1, link="d1"))
    assert drop.delete([0]) == 0
    drop.close()
    assert ids(poll(rig, changes(link="d2"))) == [0, 1]


def test_what_fails_is_counted_and_told_with_its_cause(rig, caplog):
    rig.graph.inner = lambda request: (
        {"status": 403, "body": {"error": {"code": "ErrorAccessDenied"}}} if request["id"] == "1" else {"status": 201}
    )
    assert rig.holding([b"x"] * 3).delete([0, 1, 2]) == 1
    assert "scanner@contoso.com: 1 messages were not deleted: HTTP 403 ErrorAccessDenied" in caplog.text
    assert len(rig.graph.batches) == 1


def test_only_what_was_put_off_is_asked_again_after_the_longest_pause(rig):
    def inner(request):
        if len(rig.graph.batches) == 1 and request["id"] in ("1", "2"):
            return {"status": 429, "headers": {"retry-after": "2" if request["id"] == "1" else "7"}}
        return {"status": 201}

    rig.graph.inner = inner
    assert rig.holding([b"x"] * 4).delete([0, 1, 2, 3]) == 0
    assert [len(batch) for batch in rig.graph.batches] == [4, 2]
    assert [what for _, what in told(rig.graph)][4:] == ["id/1+=/move", "id/2+=/move"]
    assert rig.slept == [7.0]
    assert rig.graph.rests == [("scanner@contoso.com", 7.0)]  # nobody else asks meanwhile


@pytest.mark.parametrize(
    "inner", [{"status": 429}, {"status": 503}, {"status": "junk"}, {"status": 412}, {"status": 429, "headers": "junk"}]
)
def test_what_is_put_off_again_and_again_is_given_up(rig, inner):
    rig.graph.inner = lambda request: inner
    assert rig.holding([b"x"]).delete([0]) == 1
    assert len(rig.graph.batches) == 4


@pytest.mark.parametrize("pause, batches", [("400", 1), ("2", 4)])
def test_a_pause_that_is_not_waited_for_ends_the_deletion(rig, pause, batches):
    """Graph counts what is sent in the pause as well, and makes it longer."""
    rig.graph.inner = lambda request: {"status": 429, "headers": {"retry-after": pause}}
    assert rig.holding([b"x"] * 45).delete(list(range(45))) == 45
    assert len(rig.graph.batches) == batches
    assert rig.graph.rests == [("scanner@contoso.com", float(pause))] * batches


@pytest.mark.parametrize("read, delete", [("deleteditems", "trash"), ("Bin", "trash"), ("Bin", "move:bin/")])
@pytest.mark.parametrize("mark", [False, True])
def test_nothing_is_moved_to_the_folder_it_is_read_from(rig, read, delete, mark, caplog):
    rig.graph.folders = {
        "/mailFolders": {"value": [{"id": "b1", "displayName": "Bin"}]},
        "/mailFolders/b1": {"id": "b1"},
        "/mailFolders/deleteditems": {"id": "b1"},
    }
    drop = poll(rig, changes(0, link="d1"), folder=read, delete=delete, mark=mark)
    assert drop.delete([0]) == 1
    assert {verb for verb, _ in told(rig.graph)} == ({"PATCH"} if mark else set())
    assert "would go to the folder it is read from" in caplog.text
    drop.close()
    assert ids(poll(rig, changes(link="d2"), folder=read)) == [0]


def test_answers_that_are_missing_count_as_put_off(rig):
    batch = rig.graph.batch
    rig.graph.batch = lambda mailbox, requests: batch(mailbox, requests) and Answer(value={"responses": [None]})
    assert rig.holding([b"x"]).delete([0]) == 1
    assert len(rig.graph.batches) == 4


def test_a_batch_without_an_answer_is_sent_once_more(rig):
    rig.graph.outer = [NoAnswer("broke off", True)]
    assert rig.holding([b"x"]).delete([0]) == 0
    assert len(rig.graph.batches) == 2


@pytest.mark.parametrize(
    "trouble", [NoAnswer("away", False), SignInNeeded("sign in"), refusal(403, "ErrorAccessDenied")]
)
def test_when_graph_is_away_the_rest_is_counted(rig, trouble, caplog):
    drop = rig.holding([b"x"] * 60)
    rig.graph.outer = [None, trouble, trouble, trouble]
    rig.graph._give = lambda answer: (_ for _ in ()).throw(answer) if answer else None
    assert drop.delete(list(range(60))) == 40
    assert "deletion stopped, 40 messages remain" in caplog.text
    assert len(rig.graph.batches) <= 3


@pytest.mark.parametrize("seconds, told", [(9.0, False), (10.0, True)])
def test_a_long_quit_is_told_of(rig, seconds, told, caplog):
    caplog.set_level("INFO")
    drop = rig.holding([b"x"] * 40)
    batch = rig.graph.batch

    def slowly(mailbox, requests):
        rig.now += seconds
        return batch(mailbox, requests)

    rig.graph.batch = slowly
    rig.graph.inner = lambda request: {"status": 403 if "/id%2F39" in request["url"] else 204}
    assert drop.delete(list(range(40))) == 1
    line = "scanner@contoso.com: QUIT took 20 seconds: 39 messages deleted, 1 remain"
    assert [record.getMessage() for record in caplog.records].count(line) == told


def test_a_client_that_comes_back_while_its_messages_are_deleted_is_told_how_long_that_takes(rig):
    rig.drops._holds = Holds(lambda: rig.now, 0.0)
    drop = rig.holding([b"x"] * 100)
    batch = rig.graph.batch
    said = []

    def slowly(mailbox, requests):
        with pytest.raises(InUse) as caught:
            rig.drops.open(user(), SESSION)
        said.append(str(caught.value).partition(" deleting ")[2])
        rig.now += 2.0
        return batch(mailbox, requests)

    rig.graph.batch = slowly
    assert drop.delete(list(range(100))) == 0
    assert said == [
        "100 messages; try again later.",
        "80 messages; try again in about 8 seconds.",
        "60 messages; try again in about 6 seconds.",
        "40 messages; try again in about 4 seconds.",
        "20 messages; try again in about 2 seconds.",
    ]
