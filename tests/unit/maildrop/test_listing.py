"""Listing a folder: pages in full, and changes since the session before."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from maildrop_harness import (
    DELTA,
    EXPAND,
    NEXT,
    SESSION,
    Answer,
    Rig,
    changes,
    entry,
    ids,
    page,
    poll,
    refusal,
    rig,
    user,
)

from m365proxy.errors import Permanent, SignInNeeded, Temporary
from m365proxy.graph.answer import NoAnswer

__all__ = ["rig"]


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


def test_the_first_login_follows_the_pages_and_the_next_asks_for_changes(rig):
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
    assert (drop.messages[0].size, drop.messages[0].received) == (1370, 1767225601)


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


def test_with_max_messages_the_newest_are_listed_every_time(tmp_path):
    rig = Rig(tmp_path, max_messages=2)
    for _ in range(2):
        drop = rig.open(page(3, 2))
        assert ids(drop) == [2, 3]
        drop.close()
    assert rig.graph.asked == []
