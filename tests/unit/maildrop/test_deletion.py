"""Deletion at QUIT."""

from __future__ import annotations

import pytest
from maildrop_harness import (
    BRIEF,
    Answer,
    changes,
    ids,
    page,
    poll,
    refusal,
    refused,
    requested,
    rig,
    whole,
)

from m365proxy.errors import SignInNeeded, Temporary
from m365proxy.graph.answer import NoAnswer

__all__ = ["rig"]


def test_what_was_deleted_does_not_come_again_before_graph_tells(rig):
    drop = poll(rig, changes(1, 2, 3, link="d1"))
    rig.graph.inner = lambda request: {"status": 403 if "id%2F3" in request["url"] else 201}
    assert drop.delete([0, 2]) == 1
    drop.close()
    assert ids(poll(rig, changes(link="d2"))) == [2, 3]


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
    assert len(set(requested(rig.graph))) == 45


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
    assert requested(rig.graph) == [("PATCH", "id/0+=")] + [("POST", f"id/0+=/{verb}") for verb in then]
    assert rig.graph.batches[0][0]["body"] == {"isRead": True}


def test_permanent_deletes_for_good(rig):
    drop = rig.holding([b"x"] * 2, delete="permanent")
    for index in range(2):
        whole(drop, index)
    assert drop.delete([0, 1]) == 0
    assert requested(rig.graph) == [("POST", "id/0+=/permanentDelete"), ("POST", "id/1+=/permanentDelete")]
    assert "body" not in rig.graph.batches[0][0]


@pytest.mark.parametrize("status", [400, 404, 405])
def test_permanent_falls_back_to_trash(rig, status):
    rig.graph.inner = lambda request: {"status": status if request["url"].endswith("permanentDelete") else 201}
    drop = rig.holding([b"x"], delete="permanent")
    whole(drop, 0)
    assert drop.delete([0]) == 0
    assert requested(rig.graph) == [("POST", "id/0+=/permanentDelete"), ("POST", "id/0+=/move")]
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
    assert sorted(requested(rig.graph)) == [
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
    assert requested(rig.graph) == [("POST", "id/0+=/move")]


def test_a_substitute_seen_by_top_never_destroys_the_item(rig):
    drop = rig.holding([b"whole\r\n"], delete="permanent")
    whole(drop, 0)
    drop.close()
    drop = rig.holding([[refusal(500, "ErrorCorruptData")]], delete="permanent")
    message = drop.top(0, 5)
    assert message.wait_ready(10.0) and b"".join(message.chunks(lambda: None))
    assert drop.delete([0]) == 0
    assert requested(rig.graph) == [("POST", "id/0+=/move")]


def test_what_an_earlier_session_had_whole_is_deleted_for_good(rig):
    drop = rig.holding([b"whole\r\n"], delete="permanent")
    whole(drop, 0)
    drop.close()
    drop = rig.open(page(0), delete="permanent")
    assert drop.delete([0]) == 0
    assert requested(rig.graph) == [("POST", "id/0+=/permanentDelete")]


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
    assert [what for _, what in requested(rig.graph)][4:] == ["id/1+=/move", "id/2+=/move"]
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
    assert {verb for verb, _ in requested(rig.graph)} == ({"PATCH"} if mark else set())
    assert "would go to the folder it is in" in caplog.text
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
