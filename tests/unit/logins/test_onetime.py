"""One-time passwords: for one login, one service, one use, and a minute."""

import pytest

from m365proxy.logins import onetime
from m365proxy.logins.onetime import OneTimePasswords, digest

LOGIN = "Scanner@contoso.com"


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def passwords(clock):
    return OneTimePasswords(clock)


def test_it_is_good_once(passwords):
    passwords.admit(digest(LOGIN, "smtp", "a"))
    assert passwords.use(LOGIN, "smtp", "a")
    assert not passwords.use(LOGIN, "smtp", "a")


@pytest.mark.parametrize(
    "login, service, password, good",
    [
        (LOGIN.upper(), "smtp", "a", True),  # user names have no case
        (LOGIN, "smtp", "A", False),
        (LOGIN, "pop3", "a", False),
        ("other@contoso.com", "smtp", "a", False),
        (LOGIN + "\0smtp", "a", "", False),
        ("\ud800", "smtp", "\udfff", False),  # what a client may send
        (LOGIN, "smtp", digest(LOGIN, "smtp", "a"), False),  # what the file is named after opens nothing
    ],
)
def test_it_is_for_one_login_and_service(passwords, login, service, password, good):
    passwords.admit(digest(LOGIN, "smtp", "a"))
    assert passwords.use(login, service, password) is good


def test_it_lasts_for_a_minute(passwords, clock):
    for password in "ab":
        passwords.admit(digest(LOGIN, "smtp", password))
    clock.now += 59.0
    assert passwords.use(LOGIN, "smtp", "a")
    clock.now += 1.0
    assert not passwords.use(LOGIN, "smtp", "b")


@pytest.mark.parametrize("made_up", ["", "x", "0" * 63, "0" * 65, "Z" * 64, "../" + "0" * 61])
def test_what_is_no_digest_admits_nothing(passwords, made_up):
    passwords.admit(made_up)
    assert passwords._ends == {}


def test_only_the_latest_are_kept(passwords):
    for number in range(100):
        passwords.admit(digest(LOGIN, "smtp", str(number)))
    assert [passwords.use(LOGIN, "smtp", str(number)) for number in (79, 80, 99)] == [False, True, True]


def test_no_two_are_the_same_and_nobody_guesses_one():
    made = {onetime.make() for _ in range(20)}
    assert len(made) == 20 and all(len(password) >= 43 for password in made)
