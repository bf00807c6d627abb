from datetime import datetime, timezone

import pytest
from cases import each

from m365proxy.graph import items
from m365proxy.graph.answer import GraphTrouble


class Reply:
    def __init__(self, value):
        self.status = 200
        self.value = value

    def json(self):
        return self.value


def test_every_request_about_items_asks_for_immutable_ids():
    assert items.IMMUTABLE == {"Prefer": 'IdType="ImmutableId"'}


def test_a_page_size_does_not_take_the_place_of_immutable_ids():
    assert items.immutable_pages(500) == {"Prefer": 'IdType="ImmutableId", odata.maxpagesize=500'}


def test_an_id_is_one_segment_of_a_path():
    assert items.message_path("AAMk/+b==") == "/messages/AAMk%2F%2Bb%3D%3D"
    assert items.folder_path("AAMk/+b==") == "/mailFolders/AAMk%2F%2Bb%3D%3D"
    assert items.folder_path("inbox") == "/mailFolders/inbox"


def test_an_item_has_an_id():
    assert items.item_of(Reply({"id": "A", "subject": "x"})) == {"id": "A", "subject": "x"}


@each("value", [{}, {"id": ""}, {"id": 5}, {"subject": "x"}])
def test_an_answer_without_an_id_is_no_item(value):
    with pytest.raises(GraphTrouble, match="HTTP 200.*no item"):
        items.item_of(Reply(value))


@pytest.mark.parametrize("text", ["2026-01-31T09:00:00Z", "2026-01-31T09:00:00.1234567Z", "2026-01-31T09:00:00"])
def test_a_date_of_graph(text):
    assert items.date_of(text) == datetime(2026, 1, 31, 9, tzinfo=timezone.utc)
    assert items.seconds_of(text) == 1769850000.0


@each("text", ["", None, 5, "2026-01-31", "31.1.2026 09:00:00", {}])
def test_what_is_no_date(text):
    assert items.date_of(text) is None
    assert items.seconds_of(text) == 0.0
