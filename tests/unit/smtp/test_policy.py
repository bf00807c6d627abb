import logging

from m365proxy.server.quirks import Quirks


def test_a_quirk_is_told_once_and_the_oldest_is_forgotten(caplog):
    """Whoever invents thousands must not silence what others do."""
    caplog.set_level(logging.INFO)
    quirks = Quirks()
    for number in (*range(1001), 1000, 1, 0):
        quirks.note("192.0.2.1", f"quirk {number}")
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"first seen from 192.0.2.1: quirk {number}" for number in (*range(1001), 0)]
