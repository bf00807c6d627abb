import collections
import ipaddress
import threading
import time

import pytest

from m365proxy.errors import Temporary
from m365proxy.logins import guard as guard_module
from m365proxy.logins import onetime
from m365proxy.logins.guard import Guard
from m365proxy.logins.users import LoginRefused


class Users:
    """The password of everybody is "right"."""

    def __init__(self):
        self.asked = 0

    def name(self, login, service):
        return (login.partition("+")[0] if service == "pop3" else login).casefold()

    def check(self, login, password, service, peer):
        self.asked += 1
        if password == "busy":
            raise Temporary("Too many are signing in.")
        if password != "right":
            raise LoginRefused("wrong password")
        return login

    def trusted(self, login, service):
        return f"trusted {login} for {service}"


class Harness:
    """A guard with a clock that a test sets."""

    def __init__(self, **more):
        self.now = 1000.0
        self.slept = []
        self.users = Users()
        self.guard = Guard(self.users, **{"failures": 3, **more}, clock=lambda: self.now, sleep=self.slept.append)

    def ask(self, password, peer="192.0.2.1", login="a@contoso.com", service="smtp"):
        """Whether the sign-in was good, wrong, blocked or put off."""
        before = self.users.asked
        try:
            assert self.guard.check(login, password, service, peer) == login
        except LoginRefused:
            return "wrong" if self.users.asked > before else "blocked"
        except Temporary:
            return "put off"
        return "good"


def test_a_login_is_blocked_from_one_address():
    harness = Harness()
    assert [harness.ask("wrong") for _ in range(5)] == ["wrong"] * 3 + ["blocked"] * 2
    assert harness.ask("right") == "blocked"
    assert harness.ask("right", login="A@Contoso.com") == "blocked"
    assert harness.ask("right", login="b@contoso.com") == "good"
    assert harness.ask("right", peer="192.0.2.2") == "good"


def test_a_block_ends():
    harness = Harness(block_seconds=600)
    for _ in range(3):
        harness.ask("wrong")
    harness.now += 599
    assert harness.ask("right") == "blocked"
    harness.now += 1
    assert harness.ask("right") == "good"


def test_trying_on_does_not_make_the_block_longer():
    harness = Harness(block_seconds=600)
    for _ in range(3):
        harness.ask("wrong")
    for _ in range(10):
        harness.now += 60
        answer = harness.ask("right")
    assert answer == "good"


def test_no_block_at_zero_minutes():
    harness = Harness(block_seconds=0)
    assert [harness.ask("wrong") for _ in range(50)] == ["wrong"] * 50


def test_who_tries_many_names_is_blocked_for_all():
    harness = Harness()
    assert [harness.ask("wrong", login=f"{number}@contoso.com") for number in range(15)] == ["wrong"] * 15
    assert harness.ask("right", login="new@contoso.com") == "blocked"
    assert harness.ask("right", login="new@contoso.com", peer="192.0.2.2") == "good"


def test_a_folder_behind_the_login_is_no_other_login():
    harness = Harness()
    logins = [f"a@contoso.com+{number}" for number in range(4)]
    assert [harness.ask("wrong", login=login, service="pop3") for login in logins] == ["wrong"] * 3 + ["blocked"]
    assert harness.ask("right") == "blocked"
    assert harness.ask("right", login=logins[0]) == "good"  # for SMTP it is one


def test_a_login_that_succeeded_within_a_day_is_never_blocked_there():
    harness = Harness()
    assert harness.ask("right") == "good"
    for number in range(30):
        harness.ask("wrong", login=f"{number}@contoso.com")
        harness.ask("wrong")
    assert harness.ask("right", login="other@contoso.com") == "blocked"
    assert harness.ask("right") == "good"


def test_a_success_is_forgotten_after_a_day():
    harness = Harness()
    harness.ask("right")
    harness.now += 24 * 3600
    for _ in range(3):
        harness.ask("wrong")
    assert harness.ask("right") == "blocked"


def test_a_success_clears_the_failures():
    harness = Harness()
    for _ in range(10):
        assert [harness.ask(word) for word in ("wrong", "wrong", "right")] == ["wrong", "wrong", "good"]


def test_an_ipv6_network_is_one_address():
    harness = Harness()
    for number in range(3):
        harness.ask("wrong", peer=f"2001:db8:1:2::{number}")
    assert harness.ask("right", peer="2001:db8:1:2:3:4:5:6") == "blocked"
    assert harness.ask("right", peer="2001:db8:1:3::1") == "good"


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "198.51.100.7"])
def test_loopback_and_proxies_are_not_counted(peer):
    harness = Harness(exempt=(ipaddress.ip_network("198.51.100.0/24"),))
    assert [harness.ask("wrong", peer=peer) for _ in range(50)] == ["wrong"] * 50
    assert not harness.slept


def test_a_busy_check_is_no_failure():
    harness = Harness()
    assert [harness.ask("busy") for _ in range(10)] == ["put off"] * 10
    assert harness.ask("right") == "good"
    assert not harness.slept


def test_failures_are_answered_later_and_later():
    harness = Harness(failures=100)
    for _ in range(20):
        harness.ask("wrong")
    assert harness.slept[:5] == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert set(harness.slept[5:]) == {4.0}
    harness.ask("right")
    assert len(harness.slept) == 20
    harness.ask("wrong")
    assert harness.slept[20] == 0.25


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(guard_module, "_LIMIT", 1000)
    harness = Harness()
    for number in range(1200):
        harness.ask("wrong", peer=f"10.0.{number // 250}.{number % 250}", login=f"{number}@contoso.com")
        harness.ask("right", peer=f"10.1.{number // 250}.{number % 250}", login=f"{number}@contoso.com")
    assert len(harness.guard._failed) <= 1000
    assert len(harness.guard._succeeded) <= 1000


def test_who_was_there_lately_is_remembered_longest(monkeypatch):
    monkeypatch.setattr(guard_module, "_LIMIT", 1000)
    harness = Harness()
    harness.ask("right")
    for number in range(999):
        harness.ask("right", login=f"{number}@contoso.com")
    harness.ask("right")
    for number in range(999, 1998):
        harness.ask("right", login=f"{number}@contoso.com")
    for _ in range(3):
        harness.ask("wrong")
    assert harness.ask("right") == "good"


def test_it_waits_by_the_real_clock_unless_told_otherwise():
    guard = Guard(Users())
    assert (guard._sleep, guard._clock) == (time.sleep, time.monotonic)


# -- many at once ----------------------------------------------------------


class SlowUsers(Users):
    """Answers nobody before `answer` is set."""

    def __init__(self):
        super().__init__()
        self.entered = 0
        self.answer = threading.Event()
        self._lock = threading.Lock()

    def check(self, *arguments):
        with self._lock:
            self.entered += 1
        assert self.answer.wait(20)
        with self._lock:
            return super().check(*arguments)


class Crowd:
    """Sign-ins at the same time, a thread each; `told` is what became of them."""

    def __init__(self, guard, passwords, peer="192.0.2.1"):
        self.told = []
        self._threads = [threading.Thread(target=self._ask, args=(guard, one, peer)) for one in passwords]
        for thread in self._threads:
            thread.start()

    def _ask(self, guard, password, peer):
        try:
            guard.check("a@contoso.com", password, "smtp", peer)
            self.told.append("good")
        except LoginRefused as error:
            self.told.append(error.reason)
        except Temporary:
            self.told.append("put off")

    def join(self):
        for thread in self._threads:
            thread.join(20)
        return collections.Counter(self.told)


def slow_guard(**more):
    users = SlowUsers()
    return users, Guard(users, **{"failures": 10, **more}, sleep=lambda seconds: None)


def test_of_many_guesses_at_once_no_more_are_tried_than_one_after_another(wait_until):
    users, guard = slow_guard()
    crowd = Crowd(guard, ["wrong"] * 100)
    wait_until(lambda: users.entered >= 10)
    users.answer.set()
    told = crowd.join()
    assert told == {"wrong password": 10, "blocked for a while after too many failures from there": 90}
    assert users.entered == 10
    assert not guard._under_way


def test_many_good_sign_ins_at_once_are_all_good(wait_until):
    """A site's devices after a power cut: nobody is known yet, and nobody is refused."""
    users, guard = slow_guard()
    crowd = Crowd(guard, ["right"] * 50)
    wait_until(lambda: users.entered == 10)
    users.answer.set()
    assert crowd.join() == {"good": 50}


def test_a_known_good_user_does_not_even_wait(wait_until):
    users, guard = slow_guard()
    users.answer.set()
    guard.check("a@contoso.com", "right", "smtp", "192.0.2.1")
    users.answer.clear()
    crowd = Crowd(guard, ["right"] * 50)
    wait_until(lambda: users.entered == 51)
    users.answer.set()
    assert crowd.join() == {"good": 50}


def test_what_was_put_off_is_no_failure(wait_until):
    users, guard = slow_guard()
    crowd = Crowd(guard, ["busy"] * 50)
    wait_until(lambda: users.entered == 10)
    users.answer.set()
    assert crowd.join() == {"put off": 50}
    guard.check("a@contoso.com", "right", "smtp", "192.0.2.1")


def test_nobody_waits_for_ever(wait_until, monkeypatch):
    monkeypatch.setattr(guard_module, "_PATIENCE", 0.05)
    users, guard = slow_guard()
    crowd = Crowd(guard, ["right"] * 11)
    wait_until(lambda: crowd.told)
    assert crowd.told == ["put off"]
    users.answer.set()
    assert crowd.join() == {"good": 10, "put off": 1}


def test_where_nothing_is_blocked_nobody_waits(wait_until):
    users, guard = slow_guard(block_seconds=0)
    crowd = Crowd(guard, ["wrong"] * 50)
    wait_until(lambda: users.entered == 50)
    users.answer.set()
    assert crowd.join() == {"wrong password": 50}


def test_a_one_time_password_logs_in_once_whatever_is_blocked():
    harness = Harness()
    assert [harness.ask("wrong") for _ in range(4)][-1] == "blocked"
    harness.guard.admit_once(onetime.digest("a@contoso.com", "smtp", "made"))
    asked = harness.users.asked
    assert harness.guard.check("A@contoso.com", "made", "smtp", "192.0.2.1") == "trusted A@contoso.com for smtp"
    assert harness.users.asked == asked
    assert harness.ask("made", peer="192.0.2.2") == "wrong"
