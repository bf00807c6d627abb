"""What `drain` says, and when it ends; the running program is made up."""

import pytest
from configs import configured
from snapshots import snapshot_of

from m365proxy.admin import drain as module
from m365proxy.errors import NotRunning
from m365proxy.monitoring.monitor import report_on


@pytest.fixture
def drain(monkeypatch, tmp_path):
    """Runs the command against these reports, one for each look; nothing runs any more after the last one."""
    asked = []
    monkeypatch.setattr(module.control, "request", lambda state_dir, word: asked.append(word))

    def run(*reports):
        left = list(reports)
        monkeypatch.setattr(module, "latest_status", lambda state_dir: left.pop(0))
        monkeypatch.setattr(module, "is_running", lambda config: bool(left))
        status = module.drain(configured(tmp_path), sleep=lambda seconds: None)
        assert asked == ["drain"]
        return status

    return run


def report(waiting=0, connections=0, draining=True, **queue):
    taken = snapshot_of(queue={"waiting": waiting, **queue})
    return report_on({**taken, "draining": draining, "connections": connections})


def test_it_waits_until_nothing_is_left(drain, capsys):
    looks = [report(2, draining=False), {}, report(2, 1), report(2, 1), report(1, sending=1), report(), report()]
    assert drain(*looks) is None
    assert capsys.readouterr().out.splitlines() == [
        "No new mail is accepted from now on. Ctrl-C ends the waiting, not the draining.",
        "2 messages are still to be sent, 1 connection is open.",
        "2 messages are still to be sent.",
        "All is sent, and no connection is open. Stop m365proxy now; a start accepts mail again.",
    ]


def test_what_stays_is_said(drain, capsys):
    assert drain(report(held=1, failed=2), report()) is None
    assert "Held and failed messages stay in the queue: 3. See `m365proxy queue list`." in capsys.readouterr().out


def test_nothing_runs(drain):
    with pytest.raises(NotRunning, match="is not running"):
        drain()


def test_the_program_ends_before(drain):
    with pytest.raises(NotRunning, match="before its queue was empty"):
        drain(report(1))
