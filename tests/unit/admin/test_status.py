"""What `status` shows to people."""

import pytest

from m365proxy.account import spool_of
from m365proxy.admin import status
from m365proxy.spool.envelope import Envelope

EMPTY = {"waiting": 0, "sending": 0, "held": 0, "failed": 0, "oldest_seconds": 0}


@pytest.mark.parametrize(
    "seconds, text", [(-3, "0 s"), (45.9, "45 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172800, "2 days")]
)
def test_spans_of_time(seconds, text):
    assert status.ago(seconds) == text


@pytest.mark.parametrize("id, seconds", [("20260102T030405Z-x", 1767323045.0), ("junk", 0.0)])
def test_when_a_message_was_accepted(id, seconds):
    assert status.accepted_time(id) == seconds


def test_a_queue_that_may_not_be_seen_is_not_empty(config, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(status.os, "stat", refuse)
    with pytest.raises(PermissionError):
        status.has_queue(config)


def test_depth_and_age_of_the_queue(config):
    assert not status.has_queue(config)
    spool = spool_of(config)
    spool.make()
    assert status.has_queue(config)
    ids = []
    for _ in range(3):
        incoming = spool.put(Envelope("a@contoso.com", "a@contoso.com", ("b@contoso.com",), "192.0.2.7", "ups"))
        incoming.write(b"x")
        ids.append(incoming.commit())
    spool.claim(ids[1])
    spool.claim(ids[2]).fail()
    now = status.accepted_time(ids[0]) + 90.0
    assert status.queue(spool, now) == {**EMPTY, "waiting": 1, "sending": 1, "failed": 1, "oldest_seconds": 90}


def lines(**known):
    return status.render({"queue": EMPTY, **known}, 1000.0).splitlines()


def test_nothing_runs_and_nobody_is_signed_in():
    assert lines(running=False, listeners=["smtp 127.0.0.1:2525"]) == [
        "running        no",
        "sign-in        none; run `m365proxy login`",
        "queue          0 waiting, 0 sending, 0 held, 0 failed",
    ]


def test_all_there_is_to_see():
    assert lines(
        running=True,
        pid=7,
        sign_in={"user": "relay@contoso.com", "signed_in_at": 940.0},
        paused="no answer",
        listeners=["smtp 127.0.0.1:2525"],
        queue={**EMPTY, "held": 1, "oldest_seconds": 300},
        mailboxes={
            "b@contoso.com": {},
            "a@contoso.com": {"last_delivery": 700.0, "last_error": "refused", "last_error_time": 400.0},
        },
    ) == [
        "running        yes, pid 7",
        "sign-in        relay@contoso.com, since 60 s ago",
        "sending        paused: no answer",
        "listening      smtp 127.0.0.1:2525",
        "queue          0 waiting, 0 sending, 1 held, 0 failed, oldest 5 min",
        "               held messages may have been sent: see `m365proxy queue list`",
        "mailbox        a@contoso.com: last delivery 5 min ago; last error 10 min ago: refused",
        "mailbox        b@contoso.com: no delivery yet",
    ]
