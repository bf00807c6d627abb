"""What signals ask for.  Nothing is sent: the handlers are called by hand."""

import os
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


def test_a_terminal_that_goes_is_outlived(monkeypatch):
    installed, gone = ["the handler before"], []

    def install(number, handler):
        installed.append(handler)
        return installed[-2]

    monkeypatch.setattr(signal, "SIGHUP", 1, raising=False)
    monkeypatch.setattr(signal, "signal", install)
    with signals.outliving_terminal(lambda: gone.append(1)):
        installed[-1](signal.SIGHUP, None)
        assert gone == [1]
    assert installed[-1] == "the handler before"


def test_windows_has_no_terminal_to_outlive(handlers, monkeypatch):
    monkeypatch.delattr(signal, "SIGHUP")
    with signals.outliving_terminal(lambda: None):
        assert handlers == {}


def test_what_is_printed_goes_nowhere(capfd):
    kept = os.dup(1), os.dup(2)
    try:
        os.write(1, b"before")
        signals.lose_output(1)
        os.write(1, b"after")
        os.write(2, b"errors")
        signals.lose_output(1, 2)
        os.write(2, b"after")
    finally:
        for number, descriptor in enumerate(kept, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)
    assert capfd.readouterr() == ("before", "errors")
