"""The devices: what is remembered of each client, over a restart and a kill too."""

import json
import logging
import tracemalloc

import pytest
from cases import each
from snapshots import ALERTS, NOW

from m365proxy.monitoring.devices import Devices
from m365proxy.monitoring.troubles import Trouble
from m365proxy.system import events

PRINTER = "192.0.2.7"


def accepted(**fields):
    usual = {"event": "accepted", "client": PRINTER, "mailbox": ALERTS, "login": "mfp-1", "tls": "TLSv1.2"}
    return {**usual, "auth": "LOGIN", **fields}


def failed(login="mfp-1", reason="wrong password"):
    return {"event": "login failed", "client": PRINTER, "service": "smtp", "login": login, "reason": reason}


NOT_LOGGED_IN = {"event": "refused", "client": PRINTER, "reply": "530 Log in first: set the mailbox's user name"}


def seen(*steps):
    """The one device of these steps, a second apart."""
    found = Devices()
    for number, step in enumerate(steps):
        found.note(NOW + number, step)
    (view,) = found.views()
    return view


def save(devices, directory, end=None):
    devices.save(str(directory), devices.content(end))


@each(
    "steps, does, advice",
    [
        ([accepted()], ["TLSv1.2", "AUTH LOGIN"], ""),
        ([accepted(login=None, auth=None, tls=None)], ["no TLS", "no login"], ""),
        (
            [accepted(tls=None, helo=True)],
            ["no TLS", "AUTH LOGIN", "HELO only"],
            "set STARTTLS on the device if it can",
        ),
        ([accepted(tls="TLSv1")], ["TLSv1", "AUTH LOGIN"], "update its firmware"),
        ([failed()], ["logs in with a wrong password"], "Type the password anew"),
        ([failed(), NOT_LOGGED_IN], ["logs in with a wrong password"], "Type the password anew"),
        ([NOT_LOGGED_IN], ["does not log in"], "relay_networks"),
        ([failed(), accepted()], ["TLSv1.2", "AUTH LOGIN"], ""),
        ([accepted(), NOT_LOGGED_IN], ["TLSv1.2", "AUTH LOGIN", "does not log in"], "relay_networks"),
        ([failed(str(number)) for number in range(4)], ["guesses passwords"], "Do not let it in"),
        (
            [{"event": "first seen", "client": PRINTER, "what": "bare LF", "habit": "bare LF"}],
            ["lines end with LF", "ends its lines with a bare LF"],
            "lf_only_clients",
        ),
    ],
)
def test_what_it_does_and_what_to_set(steps, does, advice):
    view = seen(*steps)
    assert view["does"] == does
    assert advice in " ".join(view["advice"]) and bool(advice) == bool(view["advice"])


def test_what_is_remembered():
    view = seen(accepted(), failed("mfp-2", "no such user name"), accepted(login="mfp-3", auth="PLAIN"))
    assert (view["first_seen"], view["last_seen"], view["last_message"]) == (NOW, NOW + 2, NOW + 2)
    assert (view["messages"], view["refusals"], view["mailbox"], view["auth"]) == (2, 1, ALERTS, "PLAIN")
    assert (view["logins"], view["refused_logins"], view["trouble"]) == (["mfp-1", "mfp-3"], ["mfp-2"], "")
    assert view["refusal"] == "no such user name"


def test_a_login_that_was_refused_and_works_now_is_no_guess():
    steps = [step for number in range(9) for step in (failed(str(number)), accepted(login=str(number)))]
    assert seen(*steps)["does"] == ["TLSv1.2", "AUTH LOGIN"]


def test_user_names_that_were_wrong_once_are_forgotten_a_day_after_it_sent_without_trouble():
    found = Devices()
    for number in range(4):
        found.note(NOW + number, failed(str(number)))
    for hours, guesses in ((1, True), (23, True), (25, False)):
        found.note(NOW + hours * 3600, accepted())
        assert ("guesses passwords" in found.views()[0]["does"]) is guesses


@pytest.mark.parametrize(
    "services, does",
    [(["smtp"], ["connects, and sends nothing"]), (["pop3"], ["POP3"]), (["smtp", "pop3", "smtp"], ["POP3"])],
)
def test_who_only_connects_or_fetches_mail_is_known_too(services, does):
    found = Devices()
    for number, service in enumerate(services):
        found.note_session(NOW + number, service, PRINTER)
    (view,) = found.views()
    assert (view["sessions"], view["last_seen"], view["does"]) == (len(services), NOW + len(services) - 1, does)
    assert set(view["services"]) == set(services)


def test_who_only_connects_pushes_out_no_device():
    found = Devices()
    found.note(NOW, accepted())
    for number in range(1500):
        found.note_session(NOW, "smtp", f"stranger {number}")
    names = [view["client"] for view in found.views()]
    assert (len(names), names[0], names[-1]) == (1000, "stranger 1499", PRINTER)


def test_steps_without_a_client_are_of_no_device():
    found = Devices()
    found.note(NOW, {"event": "delivered", "id": "1"})
    assert found.views() == []


def test_who_looks_at_the_status_page_is_no_device():
    devices = Devices()
    devices.note(NOW, {**failed(), "service": "status"})
    assert devices.views() == []


def test_the_one_away_longest_is_forgotten():
    found = Devices()
    for number in (*range(1000), 0, 1000):
        found.note(NOW, accepted(client=f"client {number}"))
    names = [view["client"] for view in found.views()]
    assert (len(names), names[:3], names[-1]) == (1000, ["client 1000", "client 0", "client 999"], "client 2")


def test_a_thousand_take_less_than_a_megabyte():
    found = Devices()
    tracemalloc.start()
    for number in range(1000):
        step = {"event": "refused", "client": f"192.0.2.{number}", "reply": f"550 {number} " + "x" * 500}
        found.note(NOW, json.loads(json.dumps(accepted(client=f"192.0.2.{number}", login=f"mfp-{number}"))))
        found.note(NOW, step)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 1024 * 1024


def test_of_a_long_user_name_the_beginning_is_remembered():
    view = seen(accepted(login="mfp" * 1000), *(failed("x" * 9000) for _ in range(5)), failed("mfp" * 1000))
    assert [len(name) for name in view["logins"] + view["refused_logins"]] == [200, 200, 200]
    assert seen(failed("x" * 9000), accepted(login="x" * 9000))["refused_logins"] == []


def test_a_refusal_that_is_cut_short_says_so():
    assert seen({**NOT_LOGGED_IN, "reply": "550 " + "x" * 300})["refusal"] == "550 " + "x" * 195 + "…"


@pytest.mark.parametrize("when", [1e300, float("inf"), float("nan"), 10**400])
def test_a_moment_that_is_none_damages_the_file(when, tmp_path):
    found = Devices()
    found.note(NOW, accepted())
    content = found.content(None)
    for number in range(4):
        content["devices"][PRINTER][number] = when
        (tmp_path / "devices.json").write_text(json.dumps(content))
        after = Devices()
        after.load(str(tmp_path))
        assert after.views() == []


def test_they_are_kept_over_a_restart(tmp_path):
    before, after = Devices(), Devices()
    before.note_session(NOW, "smtp", PRINTER)
    for step in (accepted(helo=True), failed("mfp-2")):
        before.note(NOW, step)
    save(before, tmp_path)
    after.load(str(tmp_path))
    assert after.views() == before.views()
    after.note(NOW + 1, accepted())
    assert after.views()[0]["messages"] == 2


@pytest.mark.parametrize("keeps", [True, False], ids=["saved before", "nothing saved"])
def test_what_was_not_saved_before_a_kill_is_in_the_event_log(keeps, tmp_path):
    log = events.EventLog(str(tmp_path / "events"), 80_000)
    killed, after = Devices(), Devices()
    for number in range(3):
        when = NOW + number
        log.handle(logging.makeLogRecord({"created": when, **events.step(**accepted())}))
        killed.note(when, accepted())
        if keeps and number == 1:
            save(killed, tmp_path, log.end())
    log.close()
    after.load(str(tmp_path))
    assert after.views() == killed.views()


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{", '{"devices": {"x": 5}}', '{"devices": []}', '{"upto": "x"}'),
        *('{"events": [0, -5]}', '{"events": [Infinity, 0]}', '{"events": [0, 1e999]}'),
    ],
)
def test_a_damaged_file_is_none(content, tmp_path):
    (tmp_path / "devices.json").write_text(content)
    found = Devices()
    found.load(str(tmp_path))
    assert found.views() == []


def test_it_is_written_only_if_something_happened(tmp_path):
    found, path = Devices(), tmp_path / "devices.json"
    for happens in (True, False, True):
        path.unlink(missing_ok=True)
        if happens:
            found.note(NOW, accepted())
        save(found, tmp_path, (1, 100))
        assert path.exists() == happens


@pytest.mark.parametrize("end", [None, (7, 0)], ids=["nobody knew where it ended", "its files were taken away"])
def test_without_the_event_log_it_goes_on_from_what_was_saved(end, tmp_path):
    log = events.EventLog(str(tmp_path / "events"), 80_000)
    log.note(**accepted())
    log.close()
    before, after = Devices(), Devices()
    before.note(NOW, accepted(messages=5))
    save(before, tmp_path, end)
    after.load(str(tmp_path))
    assert after.views() == before.views()


def test_a_disk_that_took_nothing_is_tried_again(tmp_path):
    found = Devices()
    found.note(NOW, accepted())
    with pytest.raises(OSError):
        save(found, tmp_path / "missing")
    save(found, tmp_path)
    assert (tmp_path / "devices.json").exists()


def test_a_trouble_of_a_later_version_is_shown_as_it_is(tmp_path):
    found, again = Devices(), Devices()
    found.note(NOW, failed())
    save(found, tmp_path)
    path = tmp_path / "devices.json"
    path.write_text(path.read_text().replace(Trouble.WRONG_PASSWORD.value, "bad breath"))
    again.load(str(tmp_path))
    assert again.views()[0]["does"] == ["bad breath"]
