"""POP3 by poplib, through sessions, maildrops and the Graph client, to the stand-in tenant over HTTPS."""

from __future__ import annotations

import collections
import poplib
import threading

import pytest
from pop3_tenant_harness import BOX, fill, harness, mail, subjects
from waiting import PATIENCE

from m365proxy.maildrop.fetch import Fetcher
from m365proxy.system.choices import DeleteRule

__all__ = ["harness"]


@pytest.mark.parametrize("quirk", ["", "page_short", "page_empty", "page_duplicate"])
def test_a_listing_of_several_pages(harness, quirk):
    harness.tenant.page_cap = 4
    if quirk:
        setattr(harness.tenant, quirk, True)
    fill(harness, 10)
    with harness.client() as client:
        assert subjects(client) == list(range(10))
        uidls = client.uidl()[1]
    assert len(set(uidls)) == 10
    with harness.client() as client:
        assert client.uidl()[1] == uidls


def test_the_listing_of_ten_thousand_takes_ten_requests(harness):
    raw = mail(1)
    for number in range(10_000):
        harness.tenant.add_message(BOX, raw, received=1_700_000_000 + number)
    harness.sandbox.forget()
    with harness.client() as client:
        assert client.stat()[0] == 10_000
    assert len(harness.sandbox.requests) == 10


def test_what_a_session_asks_graph_for(harness):
    """What a login, a RETR and a QUIT cost; whether a message was fetched ahead makes no difference."""

    def asked():
        seen = [(request.method, request.path.rpartition("/")[2]) for request in harness.sandbox.requests]
        harness.sandbox.forget()
        return sorted(collections.Counter(seen).items())

    fill(harness, 25)
    with harness.client() as client:
        assert asked() == [(("GET", "delta"), 1)]
        for number in range(1, 26):
            client.retr(number)
            client.retr(number)
        assert asked() == [(("GET", "$value"), 25)]
        for number in range(1, 22):
            client.dele(number)
        client.quit()
        assert asked() == [(("POST", "$batch"), 2)]
    for left in (4, 4):
        with harness.client() as client:
            assert client.stat()[0] == left and len(client.uidl()[1]) == left
            client.quit()
        assert asked() == [(("GET", "delta"), 1)]


def test_a_fetch_has_a_thread_that_ends_with_it(harness, monkeypatch):
    """However often the client asks for the message, and none stays behind."""
    fill(harness, 30)
    threads = []
    fetch = Fetcher.fetch

    def noted(self, item, copy):
        threads.append(threading.current_thread())
        fetch(self, item, copy)

    monkeypatch.setattr(Fetcher, "fetch", noted)
    with harness.client() as client:
        for number in (*range(1, 31), *range(1, 31)):
            client.retr(number)
    for thread in threads:
        thread.join(PATIENCE)
    assert len(set(threads)) == 30 and not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("kind", [{"kind": "answer", "status": 504}, {"kind": "cut"}, {"kind": "cut_answer"}])
def test_a_page_that_fails_in_the_middle(harness, kind):
    fill(harness, 2500)
    harness.sandbox.faults.add(kind.pop("kind"), path="messages", after=1, **kind)
    with harness.client() as client:
        assert client.stat()[0] == 2500
        assert len({line.split()[1] for line in client.uidl()[1]}) == 2500
    asked = [request.headers["prefer"].rpartition("=")[2] for request in harness.sandbox.seen("messages/delta")]
    assert asked == ["1000", "1000", "500", "500", "500"]


@pytest.mark.parametrize("coding", ["length", "chunked", "gzip"])
@pytest.mark.parametrize("ends", ["crlf", "lf"])
@pytest.mark.parametrize("bom", [False, True])
def test_octets_are_exact_however_graph_sends_them(harness, coding, ends, bom):
    harness.tenant.value_coding, harness.tenant.value_line_ends = coding, ends
    harness.tenant.add_message(BOX, mail(1, 30_000))
    with harness.client() as client:
        uidl = client.uidl(1)
    harness.tenant.value_bom = bom
    with harness.client() as client:
        assert client.uidl(1) == uidl
        assert client.top(1, 0)[1] == mail(1).partition(b"\r\n\r\n")[0].split(b"\r\n") + [b""]
        status, lines, _ = client.retr(1)
        assert b"".join(line + b"\r\n" for line in lines) == mail(1, 30_000)
        assert status in (b"+OK %d octets" % len(mail(1, 30_000)), b"+OK message follows")
        assert client.list(1) == b"+OK 1 %d" % len(mail(1, 30_000))


@pytest.mark.parametrize("coding", ["length", "chunked", "gzip"])
def test_a_message_cut_off_before_the_client_had_any_of_it_is_fetched_again(harness, coding):
    harness.tenant.value_coding = coding
    harness.with_limits(settle=10.0)
    harness.tenant.add_message(BOX, mail(1, 30_000))
    fault = harness.sandbox.faults.add("cut_answer", path="value")
    with harness.client() as client:
        assert len(client.retr(1)[1]) == 30_003
        assert len(client.retr(1)[1]) == 30_003
        client.quit()
    assert fault.hits == 1
    assert len(harness.sandbox.seen("value")) == 2
    assert list(harness.directory.glob("*.copy")) == []


def test_one_message_out_of_reach_ends_nothing(harness):
    harness.with_limits(read_ahead=0)
    fill(harness, 3)
    harness.sandbox.faults.add("cut_answer", path="value", times=2)
    with harness.client() as client:
        with pytest.raises(poplib.error_proto, match="SYS/TEMP"):
            client.retr(1)
        assert client.retr(2)[1][0] == b"Subject: 1"
        harness.tenant.purge(harness.tenant.items(BOX)[2])
        with pytest.raises(poplib.error_proto, match="gone"):
            client.retr(3)
        assert client.retr(1)[1][0] == b"Subject: 0"


def test_a_damaged_item_is_served_as_a_text_and_never_destroyed(harness):
    harness.user.pop3_delete = DeleteRule.parse("permanent")
    harness.tenant.add_message(BOX, mail(1), corrupt=True)
    harness.tenant.add_message(BOX, mail(2))
    with harness.client() as client:
        assert b"Subject: Exchange does not give out this message" in client.retr(1)[1]
        client.retr(2)
        client.dele(1)
        client.dele(2)
        client.quit()
    assert harness.tenant.items(BOX) == []
    assert [item.corrupt for item in harness.tenant.items(BOX, "deleteditems")] == [True]


@pytest.mark.parametrize(
    "policy, inbox, trash, done",
    [
        ("trash", 2, 25, 0),
        ("permanent", 2, 0, 0),
        ("keep", 27, 0, 0),
        ("move:Inbox/Done", 2, 0, 25),
    ],
)
def test_deletion_by_policy(harness, policy, inbox, trash, done):
    folder = harness.tenant.add_folder(BOX, "Done", "inbox")
    harness.user.pop3_delete = DeleteRule.parse(policy)
    harness.user.pop3_mark_read = True
    fill(harness, 27)
    with harness.client() as client:
        for number in range(1, 26):
            client.retr(number)
            client.dele(number)
        assert len(harness.tenant.items(BOX)) == 27
        assert client.quit() == b"+OK Bye."
    assert len(harness.tenant.items(BOX)) == inbox
    assert len(harness.tenant.items(BOX, "deleteditems")) == trash
    assert len(harness.tenant.items(BOX, folder)) == done
    moved = harness.tenant.items(BOX, "deleteditems") + harness.tenant.items(BOX, folder)
    assert all(item.read for item in moved)
    with harness.client() as client:
        assert client.stat()[0] == inbox


def test_a_cloud_without_permanent_delete(harness):
    harness.tenant.permanent_delete = False
    harness.user.pop3_delete = DeleteRule.parse("permanent")
    fill(harness, 3)
    with harness.client() as client:
        client.dele(2)
        client.quit()
    assert len(harness.tenant.items(BOX, "deleteditems")) == 1


def test_uidls_outlive_a_move(harness):
    fill(harness, 1)
    with harness.client() as client:
        before = client.uidl(1)
    harness.tenant.move(harness.tenant.items(BOX)[0], "archive")
    harness.user.folder = "archive"
    with harness.client() as client:
        assert client.uidl(1) == before


def test_throttling_inside_a_batch(harness):
    fill(harness, 30)
    fault = harness.sandbox.faults.add("answer", status=429, retry_after=2, path="/move", times=7)
    with harness.client() as client:
        for number in range(1, 31):
            client.dele(number)
        assert client.quit() == b"+OK Bye."
    assert fault.hits == 7
    assert harness.slept == [2.0]
    assert harness.tenant.items(BOX) == []


def test_throttling_of_the_listing_and_of_a_message(harness):
    fill(harness, 2)
    harness.sandbox.faults.add("answer", status=429, retry_after=3, path="mailFolders")
    harness.sandbox.faults.add("answer", status=429, retry_after=4, path="value")
    with harness.client() as client:
        assert client.retr(1)[1][0] == b"Subject: 0"
    assert [round(pause) for pause in harness.slept] == [3, 4]


def test_a_token_that_ends_in_the_middle(harness):
    harness.with_limits(read_ahead=0)
    fill(harness, 2)
    with harness.client() as client:
        client.retr(1)
        harness.sandbox.entra.revoke_access()
        assert client.retr(2)[1][0] == b"Subject: 1"
    assert harness.tokens.renewed == 1


def test_graph_away_is_never_an_empty_mailbox(harness):
    fill(harness, 2)
    harness.sandbox.offline()
    assert "-ERR [SYS/TEMP]" in harness.refused()
    harness.sandbox.online()
    with harness.client() as client:
        assert client.stat()[0] == 2
        client.dele(1)
        harness.sandbox.offline()
        with pytest.raises(poplib.error_proto, match=r"\[SYS/TEMP\] 1 of 1 messages were not deleted"):
            client.quit()
    harness.sandbox.online()
    assert len(harness.tenant.items(BOX)) == 2


@pytest.mark.parametrize("how", [(403, "ErrorAccessDenied"), (404, "ErrorItemNotFound")])
def test_a_mailbox_without_full_access(harness, how):
    harness.tenant.no_access = how
    harness.tenant.full_access.discard(BOX)
    said = harness.refused()
    assert "-ERR [SYS/PERM]" in said
    assert f"Add-MailboxPermission {BOX} -User {harness.tenant.user} -AccessRights FullAccess" in said


def test_a_page_of_a_portal_is_temporary(harness):
    harness.sandbox.faults.add("portal", times=None)
    assert "-ERR [SYS/TEMP]" in harness.refused()


def test_folders_in_a_folder(harness):
    scans = harness.tenant.add_folder(BOX, "Scans")
    harness.tenant.add_folder(BOX, "2026", scans)
    harness.tenant.add_message(BOX, mail(5), folder=scans)
    harness.user.folder = "scans"
    with harness.client() as client:
        assert subjects(client) == [5]
    harness.user.folder = "Scans/2026"
    with harness.client() as client:
        assert client.stat()[0] == 0
    harness.user.folder = "Scans/2027"
    assert "-ERR [SYS/PERM]" in harness.refused()
    harness.user.folder = scans
    with harness.client() as client:
        assert subjects(client) == [5]


def test_only_the_newest(harness):
    harness.with_limits(max_messages=5)
    harness.tenant.page_cap = 2
    fill(harness, 12)
    with harness.client() as client:
        assert sorted(subjects(client)) == [7, 8, 9, 10, 11]


def test_two_sessions_and_then_one(harness):
    fill(harness, 1)
    with harness.client() as first:
        assert "-ERR [IN-USE]" in harness.refused()
        first.quit()
        with harness.client() as second:
            assert second.stat()[0] == 1


def test_immutable_ids_are_asked_for_everywhere(harness):
    harness.user.pop3_delete = DeleteRule.parse("permanent")
    harness.user.pop3_mark_read = True
    harness.tenant.page_cap = 1
    fill(harness, 2)
    with harness.client() as client:
        client.retr(1)
        client.dele(1)
        client.quit()
    assert len(harness.sandbox.requests) >= 5
    assert harness.tenant.strict_ids
    assert len(harness.tenant.items(BOX)) == 1


def test_lines_too_long_for_poplib_are_folded_where_the_mailbox_wants_it(harness):
    raw = b"Subject: " + b"word " * 1000 + b"\r\n\r\n." + b"x" * 3000 + b"\r\n"
    harness.tenant.add_message(BOX, raw)
    with harness.client() as client, pytest.raises(poplib.error_proto, match="line too long"):
        client.retr(1)
    harness.user.pop3_fold_lines = True
    for _ in range(2):  # as it comes, and with the size that was learnt then
        with harness.client() as client:
            told = client.list(1)
            lines = client.retr(1)[1]
            assert b"".join(lines) == raw.replace(b"\r\n", b"")
            assert max(map(len, lines)) <= 998
    assert told == b"+OK 1 %d" % sum(len(line) + 2 for line in lines)
