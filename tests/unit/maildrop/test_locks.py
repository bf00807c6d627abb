"""A client that comes back while its own earlier session is ending; the rest is in test_maildrop.py."""

from __future__ import annotations

import threading

import pytest
from cases import each

from m365proxy.errors import InUse
from m365proxy.maildrop.locks import FolderLocks, SessionHandle

BOX, LOGIN = "scanner@contoso.com", "scanner"


class Rig:
    def __init__(self, patience):
        self.now = 100.0
        self.locks = FolderLocks(clock=lambda: self.now, patience=patience)
        self.first = self.take()

    def take(self, login=LOGIN, peer="192.0.2.1"):
        return self.locks.acquire(BOX, "inbox", login, SessionHandle(peer, lambda: 0.0, lambda: None))

    def refused(self, **more):
        with pytest.raises(InUse) as caught:
            self.take(**more)
        return str(caught.value)


@each(
    "told, sentence",
    [
        ([(0, 1000)], "1000 messages; try again later."),
        ([(0, 1000), (2, 980)], "980 messages; try again in about 98 seconds."),
        ([(0, 60), (4, 40), (8, 20)], "20 messages; try again in about 4 seconds."),
        ([(0, 60), (0, 59)], "59 messages; try again in about 1 seconds."),
    ],
)
def test_it_is_told_how_long_that_takes(told, sentence):
    rig = Rig(patience=0.0)
    for seconds, left in told:
        rig.now = 100.0 + seconds
        rig.first.report_left(left)
    sentence = "Your earlier session is still deleting " + sentence
    assert rig.refused() == sentence
    assert rig.refused(peer="192.0.2.99") == sentence  # of another address too: who it is was checked


def test_it_gets_the_mailbox_as_soon_as_that_is_over():
    rig = Rig(patience=10.0)
    rig.first.report_left(20)
    came = []
    waiting = threading.Event()
    changed = rig.locks._changed
    wait_for = changed.wait_for
    changed.wait_for = lambda *words: (waiting.set(), wait_for(*words))[1]
    thread = threading.Thread(target=lambda: came.append(rig.take()))
    thread.start()
    assert waiting.wait(10)
    assert came == []
    rig.first.release()
    thread.join(5)  # half of its patience
    assert len(came) == 1
    assert "is reading" in rig.refused()  # the new session is not ending
    came[0].release()
    rig.take()


def test_others_and_those_who_only_read_are_not_waited_for():
    rig = Rig(patience=600.0)
    assert rig.refused() == f"Another session, from 192.0.2.1, is reading {BOX}."
    rig.first.report_left(20)
    assert rig.refused(login="somebody") == f"Another session, from 192.0.2.1, is reading {BOX}."
