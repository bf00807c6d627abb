"""Which path is red for what."""

from cases import each
from web_harness import StandInMonitor

from m365proxy.system.readiness import Readiness
from m365proxy.web.health import healthy, live, ready
from m365proxy.web.source import Source

LOST = {"sign_in": {"error": "The sign-in is gone.", "needs_sign_in": True}}


@each(
    "changes, statuses",
    [
        ({}, (200, 200, 200)),
        (LOST, (200, 200, 503)),
        ({"refusing": "10 messages wait already."}, (200, 503, 503)),
        ({"unwritable": "No space left on device"}, (200, 503, 503)),
        ({"unreadable": "Input/output error"}, (200, 503, 503)),
        ({"deaf": ["smtp 127.0.0.1:2525"]}, (503, 503, 503)),
        ({"disk_free_mb": 1, "refusing": "Less than queue.min_free_mb is free."}, (200, 503, 503)),
        ({"queue": {"held": 1}}, (200, 200, 503)),
    ],
)
def test_which_is_red(changes, statuses):
    source = Source(StandInMonitor(**changes))
    assert tuple(make(source).status for make in (live, ready, healthy)) == statuses


def test_healthz_gives_each_reason_on_a_line_with_what_to_run():
    source = Source(StandInMonitor(paused="x\r\ny", queue={"held": 1}), "sudo m365proxy --config a.json")
    first, second = healthy(source).body.decode().splitlines()
    assert first.endswith(" x\\x0d\\x0ay Run: `sudo m365proxy --config a.json check`")
    sentence = source.report()["findings"][1]["sentence"]
    assert second == f"{sentence} Run: `sudo m365proxy --config a.json queue list`"


def test_healthz_says_nothing_to_run_where_there_is_nothing():
    source = Source(StandInMonitor(deaf=["smtp 127.0.0.1:2525"]))
    assert healthy(source).body.decode() == source.report()["findings"][0]["sentence"] + "\n"


def test_what_is_open_gives_no_reason():
    source = Source(StandInMonitor(refusing="10 messages wait already.", deaf=["smtp 127.0.0.1:2525"]))
    assert live(source).body == ready(source).body == b"not ok\n"


def test_a_queue_that_cannot_be_listed_is_not_ready():
    monitor = StandInMonitor()
    monitor.error = OSError(5, "Input/output error")
    assert (live(Source(monitor)).status, ready(Source(monitor)).status) == (200, 503)


@each("readiness, text", [(Readiness.NOT_READY, b"not ok\n"), (Readiness.DRAINING, b"draining\n")])
def test_a_program_that_lets_nobody_in_is_not_ready(readiness, text):
    source = Source(StandInMonitor(), readiness=lambda: readiness)
    assert (live(source).status, ready(source).status, healthy(source).status) == (200, 503, 200)
    assert ready(source).body == text
