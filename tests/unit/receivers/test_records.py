import logging
import threading

from m365proxy.receivers import records
from m365proxy.system import events, log


class Wire:
    """A channel that hands each message on at once, as the main process would."""

    def __init__(self):
        self.sent = []

    def send(self, *message):
        self.sent.append(message)


def through(*arguments, level=logging.WARNING, **more):
    """The record that the main process logs for one that a receiver logs."""
    wire = Wire()
    logger = logging.Logger("m365proxy.smtp")
    logger.addHandler(records.Sender(wire))
    logger.log(level, *arguments, **more)
    ((word, *values),) = wire.sent
    assert word == records.RECORD
    return values


def test_a_record_is_logged_as_if_it_were_our_own(caplog):
    caplog.set_level(logging.INFO, "m365proxy")
    values = through(
        "accepted %s from %s", "ID", "192.0.2.1", level=logging.INFO, extra=events.step("accepted", id="ID", size=3)
    )
    records.write(*values)
    (record,) = caplog.records
    assert record.getMessage() == "accepted ID from 192.0.2.1"
    assert record.name == "m365proxy.smtp" and record.levelno == logging.INFO
    assert record.event == {"event": "accepted", "id": "ID", "size": 3}
    assert record.created == values[0]


def test_lines_of_a_kind_are_still_of_a_kind(caplog):
    for peer in ("192.0.2.1", "192.0.2.2"):
        records.write(*through("it fails for %s", peer))
    assert {record.msg for record in caplog.records} == {"it fails for %s"}


def test_an_exception_is_in_the_text(caplog):
    try:
        raise KeyError("what")
    except KeyError:
        records.write(*through("broken", exc_info=True))
    (record,) = caplog.records
    assert record.getMessage().startswith("broken: KeyError: 'what' at test_records.py:")
    assert record.exc_info is None
    assert log.clean(record.getMessage()) == record.getMessage()


def test_the_handler_waits_for_no_lock():
    wire = Wire()
    sender = records.Sender(wire)
    record = logging.LogRecord("m365proxy.smtp", logging.INFO, "", 0, "said", None, None)
    sender.acquire()
    try:
        thread = threading.Thread(target=sender.handle, args=(record,), daemon=True)
        thread.start()
        thread.join(60)
        assert len(wire.sent) == 1
    finally:
        sender.release()
