import logging
import weakref

import pytest

from m365proxy.system import events
from m365proxy.system.restraint import Restraint


class Seen(logging.Handler):
    def __init__(self, allows):
        super().__init__()
        self.addFilter(allows)
        self.lines = []

    def emit(self, record):
        self.lines.append(f"{record.levelname} {record.getMessage()}")


class Setting:
    """A logger with a log for people and an event log, and a clock that is set."""

    def __init__(self):
        self.now = 0.0
        self.logger = logging.Logger("m365proxy.smtp", logging.INFO)
        restraint = Restraint(self.logger, lambda: self.now)
        self.log, self.events, self.followers = (
            Seen(allows) for allows in (restraint.allows_line, restraint.allows_event, lambda record: True)
        )
        self.logger.handlers = [self.log, self.events, self.followers]

    def guess(self, client, login="x"):
        extra = events.step("login failed", client=client, login=login)
        self.logger.warning("login failed from %s user %s", client, login, extra=extra)


@pytest.fixture
def setting():
    return Setting()


def test_a_client_that_guesses_has_thirty_lines_and_all_is_counted(setting):
    for number in range(1000):
        setting.guess("192.0.2.7", str(number))
    assert len(setting.log.lines) == len(setting.events.lines) == 30
    assert len(setting.followers.lines) == 1000


def test_another_client_has_its_own(setting):
    for client in ("192.0.2.7", "192.0.2.8", "2001:db8::1", "2001:db8::2"):
        for _ in range(40):
            setting.guess(client)
    assert len(setting.log.lines) == 3 * 30  # an IPv6 client has all of its /64


def test_how_many_were_left_out_comes_with_the_next_line_of_any_kind(setting):
    for number in range(32):
        setting.guess("192.0.2.7", str(number))
    setting.now = 599.0
    setting.logger.info("something else")
    assert setting.log.lines[30:] == ["INFO something else"]
    setting.now = 600.0
    setting.logger.info("another")
    setting.logger.info("one more")
    assert setting.log.lines[31:] == [
        "WARNING 2 more lines like this one were left out: login failed from 192.0.2.7 user 31",
        "INFO another",
        "INFO one more",
    ]
    setting.guess("192.0.2.7")
    assert setting.log.lines[-1] == "WARNING login failed from 192.0.2.7 user x"


def test_fail2ban_sees_enough_however_slowly_it_began(setting):
    """20 lines within 10 minutes ban a client: a slow guesser may not have used up its lines before."""
    for minute in range(60):
        setting.now = minute * 60.0
        setting.guess("192.0.2.7")
    for second in range(1200):
        setting.now = 3600.0 + second
        setting.guess("192.0.2.7")
    assert sum("user x" in line and "more" not in line for line in setting.log.lines[60:]) >= 60


def test_a_fault_that_stays_is_restrained_too(setting):
    for _ in range(100):
        setting.logger.warning("status.json cannot be written: %s", "the disk is full")
    assert len(setting.log.lines) == 30


def test_messages_of_one_mailbox_are_restrained_in_the_log_and_never_among_the_events(setting):
    for number in range(100):
        extra = events.step("deferred", id=str(number), mailbox="alerts@contoso.com")
        setting.logger.warning("%s deferred", number, extra=extra)
    assert len(setting.log.lines) == 30 and len(setting.events.lines) == 100


@pytest.mark.parametrize("event", ["failed", "held"])
def test_what_somebody_must_decide_about_has_a_line_each(setting, event):
    for number in range(100):
        setting.logger.error("%s", number, extra=events.step(event, id=str(number), mailbox="alerts@contoso.com"))
    assert len(setting.log.lines) == 100


def test_mail_that_goes_well_has_all_its_lines(setting):
    for number in range(100):
        setting.logger.info("accepted", extra=events.step("accepted", id=str(number), client="192.0.2.7"))
        setting.logger.info("sending goes on")
    assert len(setting.log.lines) == 200


def test_what_a_client_is_refused_is_restrained_whatever_its_level(setting):
    for _ in range(100):
        setting.logger.info("refused", extra=events.step("refused", client="192.0.2.7"))
    assert len(setting.log.lines) == len(setting.events.lines) == 30


def test_sentences_made_elsewhere_are_kinds_of_their_own(setting):
    for number in range(100):
        setting.logger.warning("%s", f"mistake {number} in the config")
    assert len(setting.log.lines) == 100


def test_of_a_line_that_was_left_out_its_text_is_kept_and_nothing_else(setting):
    class Login(str):
        pass

    for number in range(32):
        login = Login(f"{number} {'x' * 5000}")
        setting.logger.warning("login failed: %s", login, extra=events.step("x", client="192.0.2.7", login=login))
    is_kept = weakref.ref(login)
    del login
    assert is_kept() is None
    setting.now = 601.0
    setting.logger.info("something else")
    assert setting.log.lines[30].startswith("WARNING 2 more lines like this one were left out: login failed: 31 xxx")
    assert len(setting.log.lines[30]) < 600


def test_many_clients_do_not_fill_the_memory(setting, monkeypatch):
    monkeypatch.setattr("m365proxy.system.restraint._MOST", 3)
    for _ in range(31):
        setting.guess("192.0.2.0")
    for number in range(1, 10):
        setting.guess(f"192.0.2.{number}")
    assert sum("1 more lines like this one" in line for line in setting.log.lines) == 1
