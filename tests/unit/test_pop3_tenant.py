"""POP3 by poplib, through sessions, maildrops and the Graph client, to the stand-in tenant over HTTPS."""

from __future__ import annotations

import poplib

import pytest
from pop3_tenant_house import BOX, fill, house, mail, subjects

from m365proxy.system.choices import DeleteRule

__all__ = ["house"]


@pytest.mark.parametrize("quirk", ["", "page_short", "page_empty", "page_duplicate"])
def test_a_listing_of_several_pages(house, quirk):
    house.tenant.page_cap = 4
    if quirk:
        setattr(house.tenant, quirk, True)
    fill(house, 10)
    with house.client() as client:
        assert subjects(client) == list(range(10))
        uidls = client.uidl()[1]
    assert len(set(uidls)) == 10
    with house.client() as client:
        assert client.uidl()[1] == uidls


def test_the_listing_of_ten_thousand_takes_ten_requests(house):
    raw = mail(1)
    for number in range(10_000):
        house.tenant.add_message(BOX, raw, received=1_700_000_000 + number)
    house.sandbox.forget()
    with house.client() as client:
        assert client.stat()[0] == 10_000
    assert len(house.sandbox.requests) == 10


@pytest.mark.parametrize("kind", [{"kind": "answer", "status": 504}, {"kind": "cut"}, {"kind": "cut_answer"}])
def test_a_page_that_fails_in_the_middle(house, kind):
    fill(house, 2500)
    house.sandbox.faults.add(kind.pop("kind"), path="messages", after=1, **kind)
    with house.client() as client:
        assert client.stat()[0] == 2500
        assert len({line.split()[1] for line in client.uidl()[1]}) == 2500
    asked = [request.headers["prefer"].rpartition("=")[2] for request in house.sandbox.seen("messages/delta")]
    assert asked == ["1000", "1000", "500", "500", "500"]


@pytest.mark.parametrize("coding", ["length", "chunked", "gzip"])
@pytest.mark.parametrize("ends", ["crlf", "lf"])
def test_octets_are_exact_however_graph_sends_them(house, coding, ends):
    house.tenant.value_coding, house.tenant.value_line_ends = coding, ends
    house.tenant.add_message(BOX, mail(1, 30_000))
    with house.client() as client:
        status, lines, _ = client.retr(1)
        assert b"".join(line + b"\r\n" for line in lines) == mail(1, 30_000)
        assert status in (b"+OK %d octets" % len(mail(1, 30_000)), b"+OK message follows")
        assert client.list(1) == b"+OK 1 %d" % len(mail(1, 30_000))


@pytest.mark.parametrize("coding", ["length", "chunked", "gzip"])
def test_a_message_cut_off_before_the_client_had_any_of_it_is_fetched_again(house, coding):
    house.tenant.value_coding = coding
    house.with_limits(settle=10.0)
    house.tenant.add_message(BOX, mail(1, 30_000))
    fault = house.sandbox.faults.add("cut_answer", path="value")
    with house.client() as client:
        assert len(client.retr(1)[1]) == 30_003
        assert len(client.retr(1)[1]) == 30_003
        client.quit()
    assert fault.hits == 1
    assert len(house.sandbox.seen("value")) == 2
    assert list(house.directory.glob("*.copy")) == []


def test_one_message_out_of_reach_ends_nothing(house):
    house.with_limits(read_ahead=0)
    fill(house, 3)
    house.sandbox.faults.add("cut_answer", path="value", times=2)
    with house.client() as client:
        with pytest.raises(poplib.error_proto, match="SYS/TEMP"):
            client.retr(1)
        assert client.retr(2)[1][0] == b"Subject: 1"
        house.tenant.purge(house.tenant.items(BOX)[2])
        with pytest.raises(poplib.error_proto, match="gone"):
            client.retr(3)
        assert client.retr(1)[1][0] == b"Subject: 0"


def test_a_damaged_item_is_served_as_a_text_and_never_destroyed(house):
    house.user.pop3_delete = DeleteRule.parse("permanent")
    house.tenant.add_message(BOX, mail(1), corrupt=True)
    house.tenant.add_message(BOX, mail(2))
    with house.client() as client:
        assert b"Subject: Exchange does not give out this message" in client.retr(1)[1]
        client.retr(2)
        client.dele(1)
        client.dele(2)
        client.quit()
    assert house.tenant.items(BOX) == []
    assert [item.corrupt for item in house.tenant.items(BOX, "deleteditems")] == [True]


@pytest.mark.parametrize(
    "policy, inbox, trash, done",
    [
        ("trash", 2, 25, 0),
        ("permanent", 2, 0, 0),
        ("keep", 27, 0, 0),
        ("move:Inbox/Done", 2, 0, 25),
    ],
)
def test_deletion_by_policy(house, policy, inbox, trash, done):
    folder = house.tenant.add_folder(BOX, "Done", "inbox")
    house.user.pop3_delete = DeleteRule.parse(policy)
    house.user.pop3_mark_read = True
    fill(house, 27)
    with house.client() as client:
        for number in range(1, 26):
            client.retr(number)
            client.dele(number)
        assert len(house.tenant.items(BOX)) == 27
        assert client.quit() == b"+OK Bye."
    assert len(house.tenant.items(BOX)) == inbox
    assert len(house.tenant.items(BOX, "deleteditems")) == trash
    assert len(house.tenant.items(BOX, folder)) == done
    moved = house.tenant.items(BOX, "deleteditems") + house.tenant.items(BOX, folder)
    assert all(item.read for item in moved)
    with house.client() as client:
        assert client.stat()[0] == inbox


def test_a_cloud_without_permanent_delete(house):
    house.tenant.permanent_delete = False
    house.user.pop3_delete = DeleteRule.parse("permanent")
    fill(house, 3)
    with house.client() as client:
        client.dele(2)
        client.quit()
    assert len(house.tenant.items(BOX, "deleteditems")) == 1


def test_uidls_outlive_a_move(house):
    fill(house, 1)
    with house.client() as client:
        before = client.uidl(1)
    house.tenant.move(house.tenant.items(BOX)[0], "archive")
    house.user.folder = "archive"
    with house.client() as client:
        assert client.uidl(1) == before


def test_throttling_inside_a_batch(house):
    fill(house, 30)
    fault = house.sandbox.faults.add("answer", status=429, retry_after=2, path="/move", times=7)
    with house.client() as client:
        for number in range(1, 31):
            client.dele(number)
        assert client.quit() == b"+OK Bye."
    assert fault.hits == 7
    assert house.slept == [2.0]
    assert house.tenant.items(BOX) == []


def test_throttling_of_the_listing_and_of_a_message(house):
    fill(house, 2)
    house.sandbox.faults.add("answer", status=429, retry_after=3, path="mailFolders")
    house.sandbox.faults.add("answer", status=429, retry_after=4, path="value")
    with house.client() as client:
        assert client.retr(1)[1][0] == b"Subject: 0"
    assert [round(pause) for pause in house.slept] == [3, 4]


def test_a_token_that_ends_in_the_middle(house):
    house.with_limits(read_ahead=0)
    fill(house, 2)
    with house.client() as client:
        client.retr(1)
        house.sandbox.entra.revoke_access()
        assert client.retr(2)[1][0] == b"Subject: 1"
    assert house.tokens.renewed == 1


def test_graph_away_is_never_an_empty_mailbox(house):
    fill(house, 2)
    house.sandbox.offline()
    assert "-ERR [SYS/TEMP]" in house.refused()
    house.sandbox.online()
    with house.client() as client:
        assert client.stat()[0] == 2
        client.dele(1)
        house.sandbox.offline()
        with pytest.raises(poplib.error_proto, match=r"\[SYS/TEMP\] 1 of 1 messages were not deleted"):
            client.quit()
    house.sandbox.online()
    assert len(house.tenant.items(BOX)) == 2


@pytest.mark.parametrize("how", [(403, "ErrorAccessDenied"), (404, "ErrorItemNotFound")])
def test_a_mailbox_without_full_access(house, how):
    house.tenant.no_access = how
    house.tenant.full_access.discard(BOX)
    said = house.refused()
    assert "-ERR [SYS/PERM]" in said
    assert f"Add-MailboxPermission {BOX} -User {house.tenant.user} -AccessRights FullAccess" in said


def test_a_page_of_a_portal_is_temporary(house):
    house.sandbox.faults.add("portal", times=None)
    assert "-ERR [SYS/TEMP]" in house.refused()


def test_folders_in_a_folder(house):
    scans = house.tenant.add_folder(BOX, "Scans")
    house.tenant.add_folder(BOX, "2026", scans)
    house.tenant.add_message(BOX, mail(5), folder=scans)
    house.user.folder = "scans"
    with house.client() as client:
        assert subjects(client) == [5]
    house.user.folder = "Scans/2026"
    with house.client() as client:
        assert client.stat()[0] == 0
    house.user.folder = "Scans/2027"
    assert "-ERR [SYS/PERM]" in house.refused()
    house.user.folder = scans
    with house.client() as client:
        assert subjects(client) == [5]


def test_only_the_newest(house):
    house.with_limits(max_messages=5)
    house.tenant.page_cap = 2
    fill(house, 12)
    with house.client() as client:
        assert sorted(subjects(client)) == [7, 8, 9, 10, 11]


def test_two_sessions_and_then_one(house):
    fill(house, 1)
    with house.client() as first:
        assert "-ERR [IN-USE]" in house.refused()
        first.quit()
        with house.client() as second:
            assert second.stat()[0] == 1


def test_immutable_ids_are_asked_for_everywhere(house):
    house.user.pop3_delete = DeleteRule.parse("permanent")
    house.user.pop3_mark_read = True
    house.tenant.page_cap = 1
    fill(house, 2)
    with house.client() as client:
        client.retr(1)
        client.dele(1)
        client.quit()
    assert len(house.sandbox.requests) >= 5
    assert house.tenant.strict_ids
    assert len(house.tenant.items(BOX)) == 1


def test_lines_too_long_for_poplib_are_folded_where_the_mailbox_wants_it(house):
    raw = b"Subject: " + b"word " * 1000 + b"\r\n\r\n." + b"x" * 3000 + b"\r\n"
    house.tenant.add_message(BOX, raw)
    with house.client() as client, pytest.raises(poplib.error_proto, match="line too long"):
        client.retr(1)
    house.user.pop3_fold_lines = True
    for _ in range(2):  # as it comes, and with the size that was learnt then
        with house.client() as client:
            told = client.list(1)
            lines = client.retr(1)[1]
            assert b"".join(lines) == raw.replace(b"\r\n", b"")
            assert max(map(len, lines)) <= 998
    assert told == b"+OK 1 %d" % sum(len(line) + 2 for line in lines)
