"""POP3 while Graph throttles, breaks off, forgets, hangs, and while others change the mailbox."""

from __future__ import annotations

import poplib
import re
import threading

import pytest
from pop3_tenant_harness import BOX, fill, harness, mail, subjects
from waiting import PATIENCE

from m365proxy.system.choices import DeleteRule

__all__ = ["harness"]


def octets(client, number):
    return b"".join(line + b"\r\n" for line in client.retr(number)[1])


def kept(harness):
    return len(harness.tenant.items(BOX))


# Throttling.


@pytest.mark.parametrize("after", [0, 1], ids=["first page", "next page"])
def test_429_in_a_listing(harness, after):
    harness.tenant.page_cap = 5
    fill(harness, 12)
    fault = harness.sandbox.faults.add("answer", status=429, retry_after=3, path="messages", after=after)
    with harness.client() as client:
        assert client.stat()[0] == 12
    assert fault.hits == 1 and [round(pause) for pause in harness.slept] == [3]


def test_429_in_a_value(harness):
    harness.with_limits(read_ahead=0)
    fill(harness, 1)
    fault = harness.sandbox.faults.add("answer", status=429, retry_after=4, path="value")
    with harness.client() as client:
        assert octets(client, 1) == mail(0)
    assert fault.hits == 1 and [round(pause) for pause in harness.slept] == [4]


@pytest.mark.parametrize("path", ["/move", "batch"], ids=["inside a batch", "of a batch"])
def test_429_in_a_deletion(harness, path):
    fill(harness, 25)
    fault = harness.sandbox.faults.add("answer", status=429, retry_after=2, path=path, times=3)
    with harness.client() as client:
        for number in range(1, 26):
            client.dele(number)
        assert client.quit() == b"+OK Bye."
    assert fault.hits == 3 and kept(harness) == 0
    assert len(harness.tenant.items(BOX, "deleteditems")) == 25


def test_throttling_without_end_is_no_empty_mailbox(harness):
    fill(harness, 3)
    harness.sandbox.faults.add("answer", status=429, retry_after=30, path="messages", times=None)
    assert "-ERR [SYS/TEMP]" in harness.refused()


# Broken streams.


@pytest.mark.parametrize("kind", ["cut", "cut_after"])
def test_a_stream_cut_before_its_first_octet_is_begun_again(harness, kind):
    harness.with_limits(read_ahead=0)
    fill(harness, 1)
    fault = harness.sandbox.faults.add(kind, path="value")
    with harness.client() as client:
        assert octets(client, 1) == mail(0)
    assert fault.hits == 1


def test_a_stream_cut_in_the_middle_is_a_clean_disconnect(harness):
    """No CRLF.CRLF: a client that got a part must not take it for the whole, nor must anything be deleted."""
    harness.with_limits(read_ahead=0, settle=0.0)
    harness.user.pop3_delete = DeleteRule.parse("permanent")
    raw = mail(1) + b"line of the body\r\n" * 1_200_000
    harness.tenant.add_message(BOX, raw)
    fill(harness, 1)
    fault = harness.sandbox.faults.add("cut_answer", path="value", times=2)
    with harness.client() as client:
        client.dele(1)
        client.rset()
        client.sock.sendall(b"DELE 1\r\nRETR 2\r\nQUIT\r\n")
        got = client.file.read()
    _, answer, rest = got.split(b"\r\n", 2)
    assert answer == b"+OK message follows"
    assert raw.replace(b"\r\n.", b"\r\n..").startswith(rest) and len(rest) < len(raw)
    assert not rest.endswith(b"\r\n.\r\n") and b"Bye" not in rest
    assert fault.hits == 1 and kept(harness) == 2
    harness.sandbox.faults.clear()
    with harness.client() as client:  # and the next session gets it whole
        assert octets(client, 2) == raw


def test_a_silent_graph_is_bridged_and_then_the_message_comes(harness):
    harness.with_limits(read_ahead=0)
    harness.silence = 0.05
    fill(harness, 1)
    fault = harness.sandbox.faults.add("hang", path="value")
    with harness.client() as client:
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


def test_a_silent_graph_that_goes_away_is_a_clean_cut(harness):
    harness.with_limits(read_ahead=0)
    harness.silence = 0.05
    fill(harness, 1)
    fault = harness.sandbox.faults.add("hang", path="value", times=2)
    with harness.client() as client:
        client.sock.sendall(b"DELE 1\r\nRSET\r\nRETR 1\r\n")
        assert client.file.readline().startswith(b"+OK") and client.file.readline().startswith(b"+OK")
        assert client.file.read(20) == b"+OK Exchange is slow"
        harness.sandbox.offline()
        assert set(client.file.read()) <= {ord(".")}
    assert fault.hits >= 1
    harness.sandbox.online()
    assert kept(harness) == 1


def test_the_slots_come_back_when_the_client_has_gone(harness, wait_until):
    """Graph may be silent for minutes before a message: nobody waits for it any more."""
    harness.silence = 0.05
    harness.with_limits(settle=0.0)
    fill(harness, 10)
    fault = harness.sandbox.faults.add("hang", path="value", times=None)
    with harness.client() as client:
        client.sock.sendall(b"RETR 1\r\n")
        wait_until(lambda: harness.graph.spare(BOX) == 0)
        wait_until(lambda: fault.hits == 4)
    wait_until(lambda: harness.graph.spare(BOX) == 4)
    wait_until(lambda: not [one for one in threading.enumerate() if one.name == "pop3 fetch"])
    assert fault.hits == 4
    harness.sandbox.faults.clear()
    with harness.client() as client:
        assert octets(client, 1) == mail(0)


def test_a_message_that_always_breaks_off_does_not_keep_back_the_others(harness):
    harness.with_limits(settle=0.0)
    raw = mail(1) + b"line of the body\r\n" * 1_200_000
    harness.tenant.add_message(BOX, raw, received=1_600_000_000)
    fill(harness, 2)
    harness.sandbox.faults.add("cut_answer", path=_value_of(harness, 0), times=None)
    with harness.client() as client, pytest.raises(poplib.error_proto, match="EOF"):
        octets(client, 1)
    with harness.client() as client:  # from now on it is given out whole or not at all
        with pytest.raises(poplib.error_proto, match="SYS/TEMP"):
            client.retr(1)
        assert [octets(client, 2), octets(client, 3)] == [mail(0), mail(1)]
    with harness.client() as client:  # and left out, for clients that stop where it stands
        assert [octets(client, 1), octets(client, 2)] == [mail(0), mail(1)]
    harness.sandbox.faults.clear()
    with harness.client() as client:
        assert octets(client, 1) == raw


@pytest.mark.parametrize("exact_sizes", [False, True])
def test_nor_does_one_that_is_fetched_ahead_and_broken_off_late(harness, exact_sizes):
    """So late that each RETR's +OK is begun, and only a cut can end it."""
    harness.silence = 0.1
    harness.sandbox.latency = 0.3
    harness.with_limits(exact_sizes=exact_sizes)
    fill(harness, 2)
    harness.tenant.add_message(BOX, mail(2, 3000), received=1_700_000_100)
    harness.tenant.add_message(BOX, mail(3), received=1_700_000_200)
    harness.sandbox.faults.add("cut_answer", path=_value_of(harness, 2), times=None)
    for _ in range(2):
        with harness.client() as client:
            assert [octets(client, 1), octets(client, 2)] == [mail(0), mail(1)]
            with pytest.raises(poplib.error_proto):
                client.retr(3)
    with harness.client() as client:
        assert [octets(client, 1), octets(client, 2), octets(client, 3)] == [mail(0), mail(1), mail(3)]


def _value_of(harness, index):
    return re.escape(harness.tenant.items(BOX)[index].immutable) + "/.value"


# The mailbox changes meanwhile.


def test_a_message_deleted_meanwhile(harness):
    harness.with_limits(read_ahead=0)
    fill(harness, 3)
    with harness.client() as client:
        harness.tenant.purge(harness.tenant.items(BOX)[1])
        with pytest.raises(poplib.error_proto, match="gone"):
            client.retr(2)
        assert octets(client, 3) == mail(2)
        client.dele(1)
        client.dele(2)
        assert client.quit() == b"+OK Bye."
    assert kept(harness) == 1


def test_a_message_moved_meanwhile_is_still_the_same(harness):
    harness.with_limits(read_ahead=0)
    fill(harness, 2)
    with harness.client() as client:
        harness.tenant.move(harness.tenant.items(BOX)[0], "archive")
        assert octets(client, 1) == mail(0)
    with harness.client() as client:
        assert subjects(client) == [1]


def test_mail_that_comes_meanwhile_is_the_next_sessions(harness):
    fill(harness, 2)
    with harness.client() as client:
        harness.tenant.add_message(BOX, mail(9), received=1_700_000_500)
        assert client.stat()[0] == 2
        client.dele(1)
        client.quit()
    with harness.client() as client:
        assert subjects(client) == [1, 9]


# Changes since the last session.


def test_an_unchanged_mailbox_costs_one_request(harness):
    fill(harness, 2500)
    with harness.client() as client:
        uidls = client.uidl()[1]
    harness.sandbox.forget()
    with harness.client() as client:
        assert client.uidl()[1] == uidls
        assert len(harness.sandbox.requests) == 1


def test_a_forgotten_deltalink_is_a_full_listing(harness):
    fill(harness, 5)
    with harness.client() as client:
        assert client.stat()[0] == 5
    harness.tenant.purge(harness.tenant.items(BOX)[0])
    harness.tenant.delta_lost = True
    with harness.client() as client:
        assert subjects(client) == [1, 2, 3, 4]
    assert not harness.tenant.delta_lost


def test_what_a_client_deleted_and_others_brought_back(harness):
    fill(harness, 3)
    with harness.client() as client:
        client.dele(2)
        client.quit()
    with harness.client() as client:
        assert subjects(client) == [0, 2]
    harness.tenant.move(harness.tenant.items(BOX, "deleteditems")[0], "inbox")
    with harness.client() as client:
        assert sorted(subjects(client)) == [0, 1, 2]


def test_a_token_that_ends_between_listing_and_deletion(harness):
    fill(harness, 2)
    with harness.client() as client:
        harness.sandbox.entra.revoke_access()
        client.dele(1)
        assert client.quit() == b"+OK Bye."
    assert harness.tokens.renewed == 1 and kept(harness) == 1


# The slots.


def test_read_ahead_leaves_a_slot_to_others(harness):
    """A delivery that begins while everything is being read gets the next slot that comes free."""
    fill(harness, 60)
    harness.sandbox.latency = 0.02
    entered = []
    slots = harness.graph._mailbox(BOX).slots
    enter = slots.enter

    def noted(seconds):
        with slots._changed:  # wish and entrance are noted in their true order
            before = len(entered)
            assert enter(seconds)
            entered.append((threading.current_thread().name, before))
        return True

    slots.enter = noted
    with harness.client() as client:
        harness.sandbox.forget()
        for number in range(1, 61):
            if number == 20:
                thread = threading.Thread(target=_one_call, args=(harness,), name="delivery", daemon=True)
                thread.start()
            octets(client, number)
        thread.join(PATIENCE)
    assert harness.sandbox.peak_concurrency[BOX] <= 4
    ((place, before),) = [(place, before) for place, (name, before) in enumerate(entered) if name == "delivery"]
    assert place - before <= 4, "others that entered between its wish and its entrance"


def _one_call(harness):
    with harness.graph.read("GET", BOX, "/mailFolders/inbox", params={"$select": "id"}):
        pass


# Everything at once.


@pytest.mark.parametrize("seed", range(4))
def test_torture(harness, seed):
    """Whatever happens on the way, what a client got is whole, and what it got and deleted is gone at last."""
    fill(harness, 25)
    wanted = {mail(number) for number in range(25)}
    harness.sandbox.faults.random(
        seed, {"answer": 0.08, "cut": 0.04, "cut_after": 0.03, "cut_answer": 0.05}, path="messages|batch"
    )
    got = []
    for _ in range(60):
        try:
            with harness.client() as client:
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
        if kept(harness) == 0:
            break
    assert kept(harness) == 0
    assert set(got) == wanted
    assert len(harness.tenant.items(BOX, "deleteditems")) == 25
    harness.sandbox.faults.clear()
