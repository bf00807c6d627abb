"""Watching: what is shown, how it ends, and what keeps it from beginning."""

import io
import os

import pytest
from configs import configured

from m365proxy.admin.devices import learn as module
from m365proxy.admin.devices.learn import Lesson, learn
from m365proxy.admin.terminal import Terminal
from m365proxy.errors import NotRunning, UsageError
from m365proxy.system import control, events, files, statusfile


class Conclusion:
    """Keeps the clients it is given."""

    def draw(self, clients):
        self.clients = clients


@pytest.fixture
def hold(tmp_path, monkeypatch):
    """hold(*events, lives): (exit status, what was shown, the clients); the events come once watching is asked for."""

    def make(*steps, lives=True, seconds=0.0):
        config = configured(tmp_path)
        files.make_directory(config.state_dir)
        statusfile.write(config.state_dir, {"listeners": ["smtp 192.168.10.1:25"]})
        log = events.EventLog(os.path.join(config.state_dir, "events"), 80_000)
        log.note("seen", client="192.168.10.99", what="came before")
        asked = []

        def request(state_dir, word, id=""):
            asked.append((word, id))
            if len(asked) == 1:
                for step in steps:
                    log.note(**step)

        monkeypatch.setattr(control, "request", request)
        monkeypatch.setattr(module, "is_running", lambda config: lives)
        monkeypatch.setattr(module, "_LIVES", 0.0)
        shown, conclusion = io.StringIO(), Conclusion()
        status = Lesson(config, seconds, Terminal(shown, {"COLUMNS": "1000"}), conclusion).hold()
        log.close()
        assert asked == [("watch", str(int(seconds))), ("watch", "0")]
        return status, shown.getvalue(), conclusion.clients

    return make


def test_what_comes_meanwhile_is_shown(hold):
    step = {"event": "refused", "client": "192.168.10.21", "reply": "504 Use AUTH PLAIN or AUTH LOGIN"}
    status, shown, clients = hold(step)
    assert status is None and list(clients) == ["192.168.10.21"]
    assert "listens on smtp 192.168.10.1:25" in shown and "came before" not in shown
    assert "192.168.10.21 wants a login that is not offered (CRAM-MD5, NTLM): refused: 504 " in shown


def test_ctrl_c_ends_it_and_what_came_counts(hold, monkeypatch):
    def pressed(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", pressed)
    status, _, clients = hold({"event": "seen", "client": "192.168.10.21", "what": "connected"}, seconds=3600.0)
    assert status is None and list(clients) == ["192.168.10.21"]


def test_a_program_that_stops_ends_it(hold):
    status, shown, clients = hold(lives=False, seconds=3600.0)
    assert status == 3 and "The program has stopped" in shown and clients == {}


def test_a_program_that_hangs_is_said_once(hold, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + 10.0))
    _, shown, _ = hold(seconds=300.0)
    assert shown.count("status.json is not written any more") == 1


def test_a_program_that_does_not_obey_is_said_once(hold, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + 1.0))
    monkeypatch.setattr(control, "is_waiting", lambda *_: True)
    _, shown, _ = hold(seconds=20.0)
    assert shown.count("does not obey") == 1


@pytest.mark.parametrize(
    "span, settings, error, words",
    [
        ("soon", {}, UsageError, "--learn takes a time such as 30m"),
        ("0s", {}, UsageError, "up to 24h"),
        ("25h", {}, UsageError, "up to 24h"),
        ("30m", {"logging": {"events_mb": 0}}, UsageError, "logging.events_mb"),
        ("30m", {}, NotRunning, "is not running"),
    ],
)
def test_what_keeps_it_from_beginning(span, settings, error, words, tmp_path):
    with pytest.raises(error, match=words):
        learn(configured(tmp_path, **settings), span, False)
