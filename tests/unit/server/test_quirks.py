import logging

import pytest

from m365proxy.server.quirks import Habit, Quirks


@pytest.fixture
def quirks():
    return Quirks()


@pytest.fixture(autouse=True)
def logged(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_quirk_is_logged_once_and_the_oldest_is_forgotten(quirks, logged):
    """Whoever invents thousands must not silence what others do."""
    for number in (*range(1001), 1000, 1, 0):
        quirks.note("192.0.2.1", f"quirk {number}")
    assert logged() == [f"first seen from 192.0.2.1: quirk {number}" for number in (*range(1001), 0)]


def test_each_address_is_a_device_of_its_own(quirks, logged):
    for peer in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
        quirks.note(peer, "it says HELO twice")
    assert logged() == [f"first seen from 192.0.2.{number}: it says HELO twice" for number in (1, 2)]


def test_what_is_worse_than_a_peculiarity_is_a_warning(quirks, caplog):
    quirks.note("192.0.2.1", "it says HELO twice")
    quirks.note("192.0.2.1", "TLSv1, which is not secure", logging.WARNING)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]


def test_who_watches_sees_each_once_more(quirks, logged):
    for _ in range(2):
        quirks.note("192.0.2.1", "it says HELO twice")
        quirks.watch(60.0)
    assert len(logged()) == 2


def test_what_clients_do_is_told_while_somebody_watches(logged):
    now = [0.0]
    quirks = Quirks(lambda: now[0])
    quirks.tell("192.0.2.1", "connected before")
    quirks.watch(60.0)
    for now[0] in (0.0, 59.0, 60.0):
        quirks.tell("192.0.2.1", f"connected at {now[0]:.0f}")
    assert logged() == ["seen from 192.0.2.1: connected at 0", "seen from 192.0.2.1: connected at 59"]


def test_no_flood_is_told(quirks, logged):
    quirks.watch(60.0)
    for _ in range(2500):
        quirks.tell("192.0.2.1", "connected")
    assert len(logged()) == 2000


def test_its_step_says_in_a_word_what_something_can_be_set_for(quirks, caplog):
    quirks.note("192.0.2.1", "it says HELO twice")
    quirks.note("192.0.2.1", "it ends its lines with LF", habit=Habit.BARE_LF)
    assert [record.event["habit"] for record in caplog.records] == [None, "bare LF"]
