"""What `status` shows to people."""

import pytest

from m365proxy.account import spool_of
from m365proxy.admin import status

EMPTY = {"waiting": 0, "sending": 0, "held": 0, "failed": 0, "oldest": 0.0}


def test_a_queue_that_may_not_be_seen_is_not_empty(config, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(status.os, "stat", refuse)
    with pytest.raises(PermissionError):
        status.has_queue(config)


def test_there_is_no_queue_before_the_first_start(config):
    assert not status.has_queue(config)
    spool_of(config).make()
    assert status.has_queue(config)


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
        queue={**EMPTY, "held": 1, "oldest": 700.0},
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
