"""What signals ask for.  Nothing is sent: the handlers are called by hand."""

import signal

import pytest

from m365proxy.system import signals

# What Windows lacks has a number nevertheless, so that the table is the same everywhere.
WORDS = {"SIGTERM": "stop", "SIGINT": "stop", "SIGHUP": "reload", "SIGUSR1": "flush"}


@pytest.fixture
def handlers(monkeypatch):
    """Signal number -> handler, in place of this process's own."""
    found = {}
    monkeypatch.setattr(signal, "signal", found.__setitem__)
    for number, name in enumerate(WORDS):
        monkeypatch.setattr(signal, name, number, raising=False)
    return found


def test_each_signal_asks_for_its_word(handlers):
    asked = signals.listen()
    assert asked.empty()
    for number in range(len(WORDS)):
        handlers[number](number, None)
    assert [asked.get_nowait() for _ in WORDS] == list(WORDS.values())


def test_two_signals_are_two_words(handlers):
    asked = signals.listen()
    for _ in range(2):
        handlers[signal.SIGHUP](signal.SIGHUP, None)
    assert asked.qsize() == 2


def test_windows_has_neither_hup_nor_usr1(handlers, monkeypatch):
    monkeypatch.delattr(signal, "SIGHUP")
    monkeypatch.delattr(signal, "SIGUSR1")
    signals.listen()
    assert sorted(handlers) == [signal.SIGTERM, signal.SIGINT]
