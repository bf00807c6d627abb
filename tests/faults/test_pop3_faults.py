"""POP3 while Graph throttles, breaks off, forgets, hangs, and while others change the mailbox."""

from __future__ import annotations

import poplib
import re
import threading

import pytest
from pop3_tenant_house import BOX, fill, house, mail, subjects

from m365proxy.system.choices import DeleteRule

__all__ = ["house"]


def octets(client, number):
    return b"".join(line + b"\r\n" for line in client.retr(number)[1])


def kept(house):
    return len(house.tenant.items(BOX))


# Throttling.


@pytest.mark.parametrize("after", [0, 1], ids=["first page", "next page"])
def test_429_in_a_listing(house, after):
    house.tenant.page_cap = 5
    fill(house, 12)
    fault = house.sandbox.faults.add("answer", status=429, retry_after=3, path="messages", after=after)
    with house.client() as client:
        assert client.stat()[0] == 12
    assert fault.hits == 1 and [round(pause) for pause in house.slept] == [3]


def test_429_in_a_value(house):
    house.with_limits(read_ahead=0)
    fill(house, 1)
    fault = house.sandbox.faults.add("answer", status=429, retry_after=4, path="value")
    with house.client() as client:
        assert octets(client, 1) == mail(0)
    assert fault.hits == 1 and [round(pause) for pause in house.slept] == [4]


@pytest.mark.parametrize("path", ["/move", "batch"], ids=["inside a batch", "of a batch"])
def test_429_in_a_deletion(house, path):
    fill(house, 25)
    fault = house.sandbox.faults.add("answer", status=429, retry_after=2, path=path, times=3)
    with house.client() as client:
        for number in range(1, 26):
            client.dele(number)
        assert client.quit() == b"+OK Bye."
    assert fault.hits == 3 and kept(house) == 0
    assert len(house.tenant.items(BOX, "deleteditems")) == 25


def test_throttling_without_end_is_no_empty_mailbox(house):
    fill(house, 3)
    house.sandbox.faults.add("answer", status=429, retry_after=30, path="messages", times=None)
    assert "-ERR [SYS/TEMP]" in house.refused()


# Broken streams.


@pytest.mark.parametrize("kind", ["cut", "cut_after"])
def test_a_stream_cut_before_its_first_octet_is_begun_again(house, kind):
    house.with_limits(read_ahead=0)
    fill(house, 1)
    fault = house.sandbox.faults.add(kind, path="value")
    with house.client() as client:
        assert octets(client, 1) == mail(0)
    assert fault.hits == 1


def test_a_stream_cut_in_the_middle_is_a_clean_disconnect(house):
    """No CRLF.CRLF: a client that got a part must not take it for the whole, nor must anything be deleted."""
    house.with_limits(read_ahead=0, settle=0.0)
    house.user.pop3_delete = DeleteRule.parse("permanent")
    raw = mail(1) + b"line of the body\r\n" * 1_200_000
    house.tenant.add_message(BOX, raw)
    fill(house, 1)
    fault = house.sandbox.faults.add("cut_answer", path="value", times=2)
    with house.client() as client:
        client.dele(1)
        client.rset()
        client.sock.sendall(b"DELE 1\r\nRETR 2\r\nQUIT\r\n")
        got = client.file.read()
    _, answer, rest = got.split(b"\r\n", 2)
    assert answer == b"+OK message follows"
    assert raw.replace(b"\r\n.", b"\r\n..").startswith(rest) and len(rest) < len(raw)
    assert not rest.endswith(b"\r\n.\r\n") and b"Bye" not in rest
    assert fault.hits == 1 and kept(house) == 2
    house.sandbox.faults.clear()
    with house.client() as client:  # and the next session gets it whole
        assert octets(client, 2) == raw


def test_a_silent_graph_is_bridged_and_then_the_message_comes(house):
    house.with_limits(read_ahead=0)
    house.silence = 0.05
    fill(house, 1)
    fault = house.sandbox.faults.add("hang", path="value")
    with house.client() as client:
        client.sock.sendall(b"RETR 1\r\n")
        begun = client.file.read(len(b"+OK Exchange is slow.."))
        assert begun == b"+OK Exchange is slow.."
        fault.release()
        assert client.file.readline().strip(b".").startswith(b" ")
        body = b""
        while not body.endswith(b"\r\n.\r\n"):
            body += client.file.readline()
        assert body == mail(0).replace(b"\r\n.", b"\r\n..") + b".\r\n"
        assert client.noop().startswith(b"+OK")


def test_a_silent_graph_that_goes_away_is_a_clean_cut(house):
    house.with_limits(read_ahead=0)
    house.silence = 0.05
    fill(house, 1)
    fault = house.sandbox.faults.add("hang", path="value", times=2)
    with house.client() as client:
        client.sock.sendall(b"DELE 1\r\nRSET\r\nRETR 1\r\n")
        assert client.file.readline().startswith(b"+OK") and client.file.readline().startswith(b"+OK")
        assert client.file.read(20) == b"+OK Exchange is slow"
        house.sandbox.offline()
        assert set(client.file.read()) <= {ord(".")}
    assert fault.hits >= 1
    house.sandbox.online()
    assert kept(house) == 1


def test_the_slots_come_back_when_the_client_has_gone(house, wait_until):
    """Graph may be silent for minutes before a message: nobody waits for it any more."""
    house.silence = 0.05
    house.with_limits(settle=0.0)
    fill(house, 10)
    fault = house.sandbox.faults.add("hang", path="value", times=None)
    with house.client() as client:
        client.sock.sendall(b"RETR 1\r\n")
        wait_until(lambda: house.graph.spare(BOX) == 0)
        wait_until(lambda: fault.hits == 4)
    wait_until(lambda: house.graph.spare(BOX) == 4)
    wait_until(lambda: not [one for one in threading.enumerate() if one.name == "pop3 fetch"])
    assert fault.hits == 4
    house.sandbox.faults.clear()
    with house.client() as client:
        assert octets(client, 1) == mail(0)


def test_a_message_that_always_breaks_off_does_not_keep_back_the_others(house):
    house.with_limits(settle=0.0)
    raw = mail(1) + b"line of the body\r\n" * 1_200_000
    house.tenant.add_message(BOX, raw, received=1_600_000_000)
    fill(house, 2)
    house.sandbox.faults.add("cut_answer", path=_value_of(house, 0), times=None)
    with house.client() as client, pytest.raises(poplib.error_proto, match="EOF"):
        octets(client, 1)
    with house.client() as client:  # from now on it is given out whole or not at all
        with pytest.raises(poplib.error_proto, match="SYS/TEMP"):
            client.retr(1)
        assert [octets(client, 2), octets(client, 3)] == [mail(0), mail(1)]
    with house.client() as client:  # and left out, for clients that stop where it stands
        assert [octets(client, 1), octets(client, 2)] == [mail(0), mail(1)]
    house.sandbox.faults.clear()
    with house.client() as client:
        assert octets(client, 1) == raw


@pytest.mark.parametrize("exact_sizes", [False, True])
def test_nor_does_one_that_is_fetched_ahead_and_broken_off_late(house, exact_sizes):
    """So late that each RETR's +OK is begun, and only a cut can end it."""
    house.silence = 0.1
    house.sandbox.latency = 0.3
    house.with_limits(exact_sizes=exact_sizes)
    fill(house, 2)
    house.tenant.add_message(BOX, mail(2, 3000), received=1_700_000_100)
    house.tenant.add_message(BOX, mail(3), received=1_700_000_200)
    house.sandbox.faults.add("cut_answer", path=_value_of(house, 2), times=None)
    for _ in range(2):
        with house.client() as client:
            assert [octets(client, 1), octets(client, 2)] == [mail(0), mail(1)]
            with pytest.raises(poplib.error_proto):
                client.retr(3)
    with house.client() as client:
        assert [octets(client, 1), octets(client, 2), octets(client, 3)] == [mail(0), mail(1), mail(3)]


def _value_of(house, index):
    return re.escape(house.tenant.items(BOX)[index].immutable) + "/.value"


# The mailbox changes meanwhile.


def test_a_message_deleted_meanwhile(house):
    house.with_limits(read_ahead=0)
    fill(house, 3)
    with house.client() as client:
        house.tenant.purge(house.tenant.items(BOX)[1])
        with pytest.raises(poplib.error_proto, match="gone"):
            client.retr(2)
        assert octets(client, 3) == mail(2)
        client.dele(1)
        client.dele(2)
        assert client.quit() == b"+OK Bye."
    assert kept(house) == 1


def test_a_message_moved_meanwhile_is_still_the_same(house):
    house.with_limits(read_ahead=0)
    fill(house, 2)
    with house.client() as client:
        house.tenant.move(house.tenant.items(BOX)[0], "archive")
        assert octets(client, 1) == mail(0)
    with house.client() as client:
        assert subjects(client) == [1]


def test_mail_that_comes_meanwhile_is_the_next_sessions(house):
    fill(house, 2)
    with house.client() as client:
        house.tenant.add_message(BOX, mail(9), received=1_700_000_500)
        assert client.stat()[0] == 2
        client.dele(1)
        client.quit()
    with house.client() as client:
        assert subjects(client) == [1, 9]


# Changes since the last session.


def test_an_unchanged_mailbox_costs_one_request(house):
    fill(house, 2500)
    with house.client() as client:
        uidls = client.uidl()[1]
    house.sandbox.forget()
    with house.client() as client:
        assert client.uidl()[1] == uidls
        assert len(house.sandbox.requests) == 1


def test_a_forgotten_deltalink_is_a_full_listing(house):
    fill(house, 5)
    with house.client() as client:
        assert client.stat()[0] == 5
    house.tenant.purge(house.tenant.items(BOX)[0])
    house.tenant.delta_lost = True
    with house.client() as client:
        assert subjects(client) == [1, 2, 3, 4]
    assert not house.tenant.delta_lost


def test_what_a_client_deleted_and_others_brought_back(house):
    fill(house, 3)
    with house.client() as client:
        client.dele(2)
        client.quit()
    with house.client() as client:
        assert subjects(client) == [0, 2]
    house.tenant.move(house.tenant.items(BOX, "deleteditems")[0], "inbox")
    with house.client() as client:
        assert sorted(subjects(client)) == [0, 1, 2]


def test_a_token_that_ends_between_listing_and_deletion(house):
    fill(house, 2)
    with house.client() as client:
        house.sandbox.entra.revoke_access()
        client.dele(1)
        assert client.quit() == b"+OK Bye."
    assert house.tokens.renewed == 1 and kept(house) == 1


# The slots.


def test_read_ahead_leaves_a_slot_to_others(house):
    """A delivery that begins while everything is being read gets the next slot that comes free."""
    fill(house, 60)
    house.sandbox.latency = 0.02
    waits = []
    with house.client() as client:
        house.sandbox.forget()
        for number in range(1, 61):
            if number == 20:
                thread = threading.Thread(target=_one_call, args=(house, waits), daemon=True)
                thread.start()
            octets(client, number)
        thread.join(10)
    assert house.sandbox.peak_concurrency[BOX] <= 4
    assert waits and waits[0] <= 8  # other requests that began between its wish and its answer


def _one_call(house, waits):
    before = len(house.sandbox.seen("value"))
    with house.graph.read("GET", BOX, "/mailFolders/inbox", params={"$select": "id"}):
        waits.append(len(house.sandbox.seen("value")) - before)


# Everything at once.


@pytest.mark.parametrize("seed", range(4))
def test_torture(house, seed):
    """Whatever happens on the way, what a client got is whole, and what it got and deleted is gone at last."""
    fill(house, 25)
    wanted = {mail(number) for number in range(25)}
    house.sandbox.faults.random(
        seed, {"answer": 0.08, "cut": 0.04, "cut_after": 0.03, "cut_answer": 0.05}, path="messages|batch"
    )
    got = []
    for _ in range(60):
        try:
            with house.client() as client:
                for number in range(1, client.stat()[0] + 1):
                    try:
                        got.append(octets(client, number))
                        client.dele(number)
                    except poplib.error_proto as error:
                        if "EOF" in str(error):
                            raise
                client.quit()
        except (poplib.error_proto, OSError):
            continue
        if kept(house) == 0:
            break
    assert kept(house) == 0
    assert set(got) == wanted
    assert len(house.tenant.items(BOX, "deleteditems")) == 25
    house.sandbox.faults.clear()
