"""The messages of a folder in columns."""

from __future__ import annotations

import tracemalloc

from m365proxy.maildrop.item import Snapshot
from m365proxy.maildrop.table import Revision, Table


def table(*rows):
    made = Table()
    made.extend(*zip(*rows))
    return made


BASE = table(("a", 10, 100, 0), ("b", 20, 200, 222), ("c", 30, 300, 0))


def test_a_revision_of_nothing_is_the_table_itself():
    revision = Revision(BASE)
    assert revision.oldest_first() is BASE and revision.in_order_noted() is BASE and len(revision) == 3


def test_what_comes_and_goes():
    revision = Revision(BASE)
    revision.remove("a")
    revision.remove("never there")
    revision.note("d", 25, 400)
    revision.note("d", 25, 401)
    assert len(revision) == 3 and revision.last_received == 25
    assert revision.oldest_first() == table(("b", 20, 200, 222), ("d", 25, 401, 0), ("c", 30, 300, 0))
    assert revision.in_order_noted().ids == ["b", "c", "d"]
    assert BASE.ids == ["a", "b", "c"]  # the session before, or a listing that fails, still has it


def test_what_is_not_said_anew_stays():
    revision = Revision(BASE)
    revision.note("a", 0, 0)
    revision.note("b", 5, 0)
    assert revision.oldest_first() == table(("b", 5, 200, 222), ("a", 10, 100, 0), ("c", 30, 300, 0))


def test_one_that_went_and_came_again():
    revision = Revision(BASE)
    revision.remove("b")
    revision.note("b", 40, 200)
    assert revision.oldest_first() == table(("a", 10, 100, 0), ("c", 30, 300, 0), ("b", 40, 200, 222))


def test_messages_of_the_same_moment_stay_in_their_order():
    revision = Revision(Table())
    for id in "dbca":
        revision.note(id, 7, 1)
    assert revision.oldest_first().ids == ["d", "b", "c", "a"]


def test_exact_sizes_are_carried_over_by_id():
    found = table(("b", 20, 200, 0), ("e", 50, 500, 0))
    assert found.with_exact_of(BASE) == table(("b", 20, 200, 222), ("e", 50, 500, 0))
    assert found.with_exact_of(Table()) is found


def test_a_message_takes_little_memory():
    """An id of Exchange has 72 characters, which are 121 octets in Python; the rest is some columns of numbers."""
    count = 10_000
    tracemalloc.start()
    try:
        revision = Revision(Table())
        for number in range(count):
            revision.note(f"{number:072}", 1_700_000_000 + number, 5000 + number)
        most = tracemalloc.get_traced_memory()[1] / count
        snapshot = Snapshot(revision.oldest_first())
        del revision
        held = tracemalloc.get_traced_memory()[0] / count
        assert len(snapshot) == count
    finally:
        tracemalloc.stop()
    assert held < 200 and most < 400, (held, most)
