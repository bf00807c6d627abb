"""The lines that are shown while somebody watches, and what is kept of each client."""

import pytest

from m365proxy.admin.devices.observation import Observation
from m365proxy.admin.terminal import Mark
from m365proxy.monitoring.troubles import Trouble
from m365proxy.server.sessions import NOT_ALLOWED

PRINTER = "192.168.10.21"
TIME = {"time": "2026-11-29T09:42:07.311Z"}


def accepted(**fields):
    return {**TIME, "event": "accepted", "client": PRINTER, "id": "X1", "size": 5, "login": "mfp-1", **fields}


def failed(login):
    return {**TIME, "event": "login failed", "client": PRINTER, "login": login, "reason": "no such user name"}


@pytest.fixture
def observation():
    """Its clock is `observation.now[0]`."""
    now = [0.0]
    made = Observation(lambda: now[0])
    made.now = now
    return made


def shown(observation, *events):
    return [(mark, text[9:]) for event in events for mark, text in observation.take(event)]


def test_a_message_from_its_acceptance_to_its_end(observation):
    events = [accepted(), {**TIME, "event": "delivered", "id": "X1"}, {**TIME, "event": "delivered", "id": "X2"}]
    assert shown(observation, *events) == [
        (Mark.OK, f"{PRINTER}: its mail was accepted from {PRINTER}, 5 octets, login mfp-1, without TLS"),
        (Mark.OK, f"{PRINTER}: its mail: handed over to Exchange"),
    ]
    assert observation.clients[PRINTER].messages == 1


def test_a_refusal_in_plain_words_and_in_its_own(observation):
    assert shown(observation, failed("mfp-9")) == [
        (
            Mark.WRONG,
            f"{PRINTER} logs in with an unknown user name: login failed (, mfp-9): no such user name",
        )
    ]
    assert list(observation.clients[PRINTER].troubles) == [Trouble.UNKNOWN_LOGIN]


def test_what_is_neither(observation):
    assert shown(observation, {**TIME, "event": "seen", "client": PRINTER, "what": "connected to port 25"}) == [
        (Mark.INFO, f"{PRINTER}: connected to port 25")
    ]
    assert shown(observation, {}, {**TIME, "event": "throttled"}) == []


def test_a_browser_that_may_not_see_the_status_page_gets_no_network_of_its_own(observation):
    event = {**TIME, "event": "refused", "client": PRINTER, "service": "status", "reason": NOT_ALLOWED}
    assert shown(observation, event) == []
    assert observation.clients == {}


def test_who_tries_every_second_is_shown_now_and_then(observation):
    lines = []
    for observation.now[0] in range(25):
        lines += shown(observation, failed("mfp-9"))
    assert len(lines) == 3


def test_mail_that_is_accepted_ends_the_troubles(observation):
    shown(observation, failed("mfp-9"), accepted())
    assert observation.clients[PRINTER].troubles == {}


@pytest.mark.parametrize(
    "logins, is_guessing",
    [(["a", "b", "c"], False), (["a", "b", "c", "d"], True), (["a"] * 9, False), (map(str, range(500)), True)],
)
def test_who_guesses(observation, logins, is_guessing):
    shown(observation, *map(failed, logins))
    assert observation.clients[PRINTER].is_guessing is is_guessing


def test_what_comes_from_outside_cannot_play_with_the_terminal(observation):
    lines = shown(observation, {**failed("\x1b[31m\n"), "client": "x\x1b[0m"})
    assert not any(character in text for _, text in lines for character in "\x1b\n")
