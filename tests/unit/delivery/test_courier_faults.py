"""The courier where the disk, the system or this program fails: nothing stops, and nothing gets lost."""

import threading
import types

import pytest
from courier_harness import (
    LATER,
    SENT,
    FakeDelivery,
    harnesses,
    wait_until,
)

from m365proxy.delivery import reachability
from m365proxy.errors import SignInNeeded
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import Claim, Spool


@pytest.fixture
def harness(tmp_path):
    yield from harnesses(tmp_path)


def test_what_a_receiver_left_behind_is_looked_for_until_the_disk_answers(harness, monkeypatch):
    h, entries, failures = harness(FakeDelivery()), Spool.entries, [OSError(24, "Too many open files")] * 2

    def fail(spool, *places):
        if failures:
            raise failures.pop()
        return entries(spool, *places)

    h.courier.start()
    incoming = h.spool.put(Envelope("a@contoso.com", "", ("x@example.org",)))  # and the courier is not told
    incoming.write(b"one")
    incoming.commit()
    monkeypatch.setattr(Spool, "entries", fail)
    with pytest.raises(OSError):
        h.courier.find_missed()
    h.courier.tick()
    h.courier.tick()
    h.settle()
    assert h.delivery.log == [("a@contoso.com", b"one")]


@pytest.fixture
def no_threads(monkeypatch):
    """`no_threads.count` thread starts fail, as on a machine that has none left."""
    starts = types.SimpleNamespace(count=0, failed=0)
    real = threading.Thread.start

    def start(thread):
        if starts.count:
            starts.count -= 1
            starts.failed += 1
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    return starts


def test_no_thread_for_the_next_probe(harness, no_threads, monkeypatch):
    monkeypatch.setattr(reachability, "FIRST", 0.01)
    signed_in, asked = threading.Event(), threading.Event()

    def probe():
        asked.set()
        if not signed_in.is_set():
            no_threads.count = 1
            raise SignInNeeded("run login")

    h = harness(FakeDelivery(lambda body: SENT if signed_in.is_set() else SignInNeeded("run login")), probe=probe)
    h.courier.start()
    h.put()
    wait_until(lambda: asked.is_set() and no_threads.failed)
    signed_in.set()
    wait_until(lambda: h.courier.tick() or h.places() == [])


def test_no_thread_for_a_delivery_or_its_timer(harness, no_threads):
    def say(body):
        if body == b"new":
            return SENT
        no_threads.count = 1  # the timer for its next try
        return LATER

    h = harness(FakeDelivery(say), monotonic=lambda: 1000.0)
    h.courier.start()
    h.put(b"later", "b@contoso.com")
    wait_until(lambda: no_threads.failed == 1)
    h.settle([("new", "")])
    no_threads.count = 2
    h.put(b"new")  # does not raise: it is durable, and the client must hear 250
    assert no_threads.failed == 3
    wait_until(lambda: h.courier.tick() or len(h.delivery.log) == 2)
    h.settle([("new", "")])
    assert not any(lane["sending"] for lane in h.courier.status()["mailboxes"].values())


def test_a_courier_that_fails_does_not_undo_the_250(harness):
    h = harness(FakeDelivery())

    def fail(id):
        raise RuntimeError("a bug")

    incoming = h.spool.put(Envelope("a@contoso.com", "", ("x@example.org",)), fail)
    assert incoming.commit() and h.places() == [("new", "")]


def test_a_file_that_cannot_be_opened_now_is_not_given_up(harness, monkeypatch, caplog):
    real, refusals = Claim.open, [OSError(24, "Too many open files")]
    monkeypatch.setattr(Claim, "open", lambda claim: (refusals and _raise(refusals.pop())) or real(claim))
    h = harness(FakeDelivery(), interval=0.05)
    h.courier.start()
    h.put()
    h.settle()
    assert len(h.delivery.log) == 1 and "Too many open files" in caplog.text and "Traceback" not in caplog.text


def test_a_damaged_file_goes_to_failed_and_stops_nothing(harness):
    h = harness(FakeDelivery())
    incoming = h.spool.put(Envelope("a@contoso.com", "", ("x@example.org",)))
    id = incoming.commit()
    with open(f"{h.spool.directory}/new/{id}", "wb") as file:
        file.write(b"garbage")
    h.courier.start()
    h.put(b"fine")
    h.settle([("failed", "")])
    assert [body for _, body in h.delivery.log] == [b"fine"]


@pytest.mark.parametrize("phase,after", [("claimed", []), ("posting", [("cur", "held")])])
def test_a_fault_in_delivery_stops_nothing_and_loses_nothing(harness, phase, after):
    class Broken(FakeDelivery):
        faults = 1

        def deliver(self, claim, envelope, file):
            if self.faults:
                self.faults -= 1
                if phase == "posting":
                    claim.mark_posting()
                raise ZeroDivisionError("bug")
            return super().deliver(claim, envelope, file)

    h = harness(Broken(), interval=0.05)
    h.courier.start()
    h.put(b"one")
    wait_until(lambda: not h.delivery.faults)
    h.put(b"two")
    h.settle(after)
    assert (b"two" in [body for _, body in h.delivery.log]) and len(h.delivery.log) == (2 if not after else 1)


def test_what_cannot_be_read_of_one_message_stops_no_start(harness, monkeypatch):
    h = harness(FakeDelivery())
    incoming = h.spool.put(Envelope("a@contoso.com", "", ("x@example.org",)))
    id = incoming.commit()
    h.spool.claim(id).mark_posting()
    whole = h.spool.state

    def state(asked):
        if asked == id:
            raise OSError(5, "Input/output error")
        return whole(asked)

    monkeypatch.setattr(h.spool, "state", state)
    h.courier.recover()
    h.courier.start()
    h.put()
    h.settle([("cur", "posting")])
    assert not h.delivery.looked


def test_a_rename_that_fails_stops_no_start(harness, monkeypatch):
    h = harness(FakeDelivery())
    incoming = h.spool.put(Envelope("a@contoso.com", "", ("x@example.org",)))
    h.spool.claim(incoming.commit())

    def replace(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("m365proxy.system.files.os.replace", replace)
    h.courier.recover()
    h.courier.start()
    assert h.places() == [("cur", "claimed")]


def _in_use(*_):
    raise OSError(16, "Device or resource busy")


def test_a_file_that_another_program_holds_is_tried_again_within_seconds(harness, monkeypatch, caplog):
    """However long the interval is: a scanner holds a file for a moment."""
    h = harness(FakeDelivery(), interval=300.0)
    monkeypatch.setattr("m365proxy.delivery.diskretries._WAITS", (0.01, 0.02))
    real, held = h.spool.claim, [_in_use, _in_use]
    monkeypatch.setattr(h.spool, "claim", lambda id: held.pop()() if held else real(id))
    h.courier.start()
    h.put()
    h.settle()
    assert "virus scanner" in caplog.text


@pytest.mark.parametrize("phase", ["claimed", "posting"])
def test_what_cannot_be_put_back_is_put_back_later(harness, monkeypatch, phase):
    """Not at the next start only."""

    class Broken(FakeDelivery):
        faults = 1

        def deliver(self, claim, envelope, file):
            if self.faults:
                self.faults -= 1
                if phase == "posting":
                    claim.mark_posting()
                _in_use()
            return super().deliver(claim, envelope, file)

    delivery = Broken()
    delivery.found = [SENT]
    h = harness(delivery, interval=300.0)
    monkeypatch.setattr("m365proxy.delivery.diskretries._WAITS", (0.01, 0.02, 0.03))
    real, held = h.spool.resume, [_in_use, _in_use]
    monkeypatch.setattr(h.spool, "resume", lambda entry: held.pop()() if held else real(entry))
    h.courier.start()
    h.put()
    h.settle()
    assert (
        held == [] and bool(h.delivery.looked) == (phase == "posting") and len(h.delivery.log) == (phase == "claimed")
    )


def test_what_a_start_cannot_put_back_is_put_back_later(harness, monkeypatch):
    h = harness(FakeDelivery(), interval=300.0)
    monkeypatch.setattr("m365proxy.delivery.diskretries._WAITS", (0.01,))
    incoming = h.spool.put(Envelope("a@contoso.com", "", ("x@example.org",)))
    h.spool.claim(incoming.commit())
    with monkeypatch.context() as patched:
        patched.setattr("m365proxy.system.files.os.replace", _in_use)
        h.courier.recover()
    h.courier.start()
    h.settle()
    assert len(h.delivery.log) == 1


def _raise(error):
    raise error
