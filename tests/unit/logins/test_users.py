"""Logging in: who, from where, for what; what it costs; what the answer gives away."""

import functools
import hashlib
import ipaddress
import threading
from types import SimpleNamespace

import pytest
from cases import each

from m365proxy.errors import Permanent, Temporary
from m365proxy.logins import passwords
from m365proxy.logins.guard import Guard
from m365proxy.logins.passwords import hash_password, spellings
from m365proxy.logins.users import LoginRefused, User, Users
from m365proxy.logins.verifier import Verifier
from m365proxy.system.choices import DeleteRule

PEER = "192.168.1.9"
HASH = "scrypt$16384$8$1$zM5XIPAKNOIvYMzgW3+Nmg==$O//FsePlVdkLgv4wBzfqDTlD3ifJ40LBU59N26RPpHs="  # of "right"


def networks(*names):
    return tuple(map(ipaddress.ip_network, names))


def mailbox(username="scanner@contoso.com", password=HASH, **more):
    usual = {
        "login": None,
        "logins": (),
        "send_as": (),
        "default_from": None,
        "rewrite_from": False,
        "folder": "inbox",
        "services": ("smtp", "pop3"),
        "pop3_delete": DeleteRule.parse("trash"),
        "pop3_mark_read": False,
        "pop3_fold_lines": False,
        "sent_items": None,
    }
    return SimpleNamespace(username=username, password=password, **{**usual, **more})


def login(name, password="right", allowed=("0.0.0.0/0", "::/0"), services=None):
    return SimpleNamespace(login=name, password=password, networks=networks(*allowed), services=services)


class Runs:
    """Counts scrypt runs, how many ran at once, and can hold them up."""

    def __init__(self):
        self.count = self.now = self.most = 0
        self._lock = threading.Lock()
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, password, salt):
        with self._lock:
            self.count += 1
            self.now += 1
            self.most = max(self.most, self.now)
        self.begun.release()
        assert self.go_on.wait(20)
        with self._lock:
            self.now -= 1
        # a stand-in as one-way as the test needs, and as long as the real one
        return (password + salt).ljust(32, b"\0")[:32]


_REAL = functools.lru_cache(None)(passwords.scrypt)


class QuickUsers(Users):
    """For tests that are not about what a check costs: scrypt runs for HASH alone, once for each password."""

    def __init__(self, mailboxes):
        super().__init__(mailboxes, scrypt=self._quick)

    @staticmethod
    def _quick(password, salt):
        if salt == passwords.scrypt_parts(HASH)[0]:
            return _REAL(password, salt)
        return hashlib.sha256(password + salt).digest()


@pytest.fixture
def runs():
    return Runs()


def together(function, count):
    """Run function(0) ... function(count - 1) at the same time; their answers or errors."""
    answers = [None] * count
    barrier = threading.Barrier(count)

    def run(number):
        barrier.wait(20)
        try:
            answers[number] = function(number)
        except (LoginRefused, Temporary) as error:
            answers[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return answers


@pytest.mark.parametrize("password", ["right", "pässword", " with spaces ", "x" * 5000, "\udce4"])
def test_real_hashes_check(password):
    harness = Users([mailbox(password=hash_password(password))])
    assert harness.check("scanner@contoso.com", password, "smtp", PEER).mailbox == "scanner@contoso.com"
    for wrong in (password + "x", ""):
        with pytest.raises(LoginRefused):
            harness.check("scanner@contoso.com", wrong, "smtp", PEER)


# Who may.

HARNESS = (
    mailbox("Scanner@contoso.com", password="plain", login="UPS"),
    mailbox(
        "alerts@contoso.com",
        logins=(
            login("printer"),
            login("camera", allowed=("192.168.1.0/24", "fe80::/10")),
            login("nas", services=("smtp",)),
        ),
        services=("smtp", "pop3"),
    ),
    mailbox("reports@contoso.com", services=("pop3",)),
    mailbox("relay@contoso.com", password=None, logins=(login("only"),)),
)

CHECKS = [
    ("scanner@contoso.com", "plain", "smtp", PEER, "scanner@contoso.com"),
    ("SCANNER@CONTOSO.COM", "plain", "pop3", PEER, "scanner@contoso.com"),
    ("ups", "plain", "smtp", PEER, "scanner@contoso.com"),
    ("ups", "Plain", "smtp", PEER, "wrong password"),
    ("ups", "plain ", "smtp", PEER, "wrong password"),
    ("ups", "", "smtp", PEER, "wrong password"),
    ("alerts@contoso.com", "right", "pop3", PEER, "alerts@contoso.com"),
    ("alerts@contoso.com", "plain", "pop3", PEER, "wrong password"),
    ("alerts@contoso.com", HASH, "pop3", PEER, "wrong password"),
    ("Printer", "right", "pop3", "2001:db8::1", "alerts@contoso.com"),
    ("camera", "right", "smtp", PEER, "alerts@contoso.com"),
    ("camera", "right", "smtp", "fe80::1", "alerts@contoso.com"),
    ("camera", "right", "smtp", "192.168.2.9", "the user name is not for this network"),
    ("camera", "right", "smtp", "unknown", "the user name is not for this network"),
    ("nas", "right", "smtp", PEER, "alerts@contoso.com"),
    ("nas", "right", "pop3", PEER, "the user name is not for pop3"),
    ("reports@contoso.com", "right", "pop3", PEER, "reports@contoso.com"),
    ("reports@contoso.com", "right", "smtp", PEER, "the user name is not for smtp"),
    ("only", "right", "smtp", PEER, "relay@contoso.com"),
    ("relay@contoso.com", "", "smtp", PEER, "no such user name"),
    ("relay@contoso.com", "None", "smtp", PEER, "no such user name"),
    ("contoso.com", "plain", "smtp", PEER, "no such user name"),
    ("", "", "smtp", PEER, "no such user name"),
    ("\udce4\0", "\ud800", "smtp", PEER, "no such user name"),
    (" ups", "plain", "smtp", PEER, "no such user name"),
]


@each("name, password, service, peer, outcome", CHECKS)
def test_check(name, password, service, peer, outcome):
    harness = QuickUsers(HARNESS)
    if "@" in outcome:
        user = harness.check(name, password, service, peer)
        assert (user.mailbox, user.login.casefold()) == (outcome, name.casefold())
        assert service in user.services
        assert harness.check(name, password, service, peer).mailbox == outcome
        return
    with pytest.raises(LoginRefused) as caught:
        harness.check(name, password, service, peer)
    assert caught.value.reason == outcome


def test_a_refusal_does_not_tell_what_was_wrong():
    said = set()
    for name, password, service, peer, outcome in CHECKS:
        if "@" not in outcome:
            with pytest.raises(LoginRefused) as caught:
                Users(HARNESS, scrypt=Runs()).check(name, password, service, peer)
            said.add(str(caught.value))
            assert isinstance(caught.value, Permanent)
    assert said == {"The user name or the password was not accepted; check both on the device."}


def test_a_login_has_its_own_services_and_the_mailboxes_settings():
    box = mailbox(
        "Alerts@contoso.com",
        logins=(login("nas", services=("smtp",)),),
        folder="Scans",
        pop3_delete=DeleteRule.parse("keep"),
        pop3_mark_read=True,
        rewrite_from=True,
        default_from="office@contoso.com",
        send_as=("office@contoso.com",),
    )
    user = QuickUsers([box]).check("NAS", "right", "smtp", PEER)
    assert user.services == frozenset({"smtp"})
    assert (user.login, user.mailbox, user.folder) == ("nas", "alerts@contoso.com", "Scans")
    assert (user.pop3_delete, user.pop3_mark_read, user.rewrite_from) == (DeleteRule.parse("keep"), True, True)
    assert user.default_from == "office@contoso.com"


def test_the_user_of_a_relaying_network():
    user = QuickUsers(HARNESS).user_of_mailbox("SCANNER@contoso.com")
    assert (user.login, user.mailbox, user.default_from) == ("", "scanner@contoso.com", "scanner@contoso.com")
    assert user.may_send_as("scanner@contoso.com")
    with pytest.raises(KeyError):
        QuickUsers(HARNESS).user_of_mailbox("nobody@contoso.com")


@each(
    "address, expected",
    [
        ("scanner@contoso.com", True),
        ("Scanner@CONTOSO.com", True),
        ("office@contoso.com", True),
        ("anybody@sales.contoso.com", True),
        ("anybody@contoso.com", False),
        ("scanner@contoso.com.example.org", False),
        ("scanner", False),
        ("", False),
    ],
)
def test_may_send_as(address, expected):
    user = User(mailbox(send_as=("Office@contoso.com", "*@Sales.contoso.com")), "", ("smtp",))
    assert user.may_send_as(address) is expected


def test_a_mailbox_that_a_reload_removed_may_send_as_nobody():
    address = HARNESS[0].username
    users = Users(HARNESS)
    assert users.may_send_as(address.upper(), address)
    assert not users.may_send_as(address, "anybody@fabrikam.com")
    assert not users.may_send_as("gone@contoso.com", "gone@contoso.com")


# What it costs.


@pytest.mark.parametrize("name, password, service, peer, outcome", CHECKS)
def test_every_first_check_costs_one_run(runs, name, password, service, peer, outcome):
    harness = Users(HARNESS, scrypt=runs)
    assert runs.count == 0
    for expected in (1, 2):
        try:
            harness.check(name, password, service, peer)
            assert runs.count == 1
        except LoginRefused:
            assert runs.count == expected  # a refusal is not remembered


# The password in the config, the one sent, whether it is right, and the runs of a first and of a second check.
STRAY = [
    ("right", "right\r", True, 2, 0),
    ("right", "right\n", True, 2, 0),
    ("right", "right\0", True, 2, 0),
    ("right", "right\r\n\0", True, 2, 0),
    ("right\r", "right\r", True, 1, 0),  # a hash may be of such a one: then it is right as it is
    ("right\r", "right\r\n", False, 2, 2),
    ("right\r", "right", False, 1, 1),
    ("right", "\rright", False, 1, 1),
    ("right", "ri\0ght", False, 1, 1),
    ("right", "right \r", False, 2, 2),
    ("right", "\r\n", False, 1, 1),  # nothing would be left of it
    ("right", "wrong\r", False, 2, 2),
]


@pytest.mark.parametrize("name", ["ups", "nobody"])
@pytest.mark.parametrize("configured, sent, is_right, first, second", STRAY)
def test_a_password_is_tried_once_more_without_what_strays_at_its_end(
    runs, name, configured, sent, is_right, first, second
):
    harness = Users([mailbox(password=configured, login="ups")], scrypt=runs)
    for expected in (first, second):
        before = runs.count
        if is_right and name == "ups":
            assert harness.check(name, sent, "smtp", PEER).login == "ups"
            assert runs.count - before == expected
        else:
            with pytest.raises(LoginRefused):
                harness.check(name, sent, "smtp", PEER)
            # The number of runs does not tell whether there is such a user name.
            assert runs.count - before == len(spellings(sent))


def test_both_spellings_are_one_try_for_the_guard(runs):
    guard = Guard(Users([mailbox(password="plain", login="ups")], scrypt=runs), failures=3, sleep=lambda seconds: None)
    reasons = []
    for sent in ("wrong\r", "wrong\0", "wrong\r\n", "plain\r"):
        with pytest.raises(LoginRefused) as caught:
            guard.check("ups", sent, "smtp", PEER)
        reasons.append(caught.value.reason)
    assert reasons == ["wrong password"] * 3 + ["blocked for a while after too many failures from there"]


def test_two_spellings_of_a_password_share_one_memory(runs):
    harness = Users([mailbox(password="plain", login="ups")], scrypt=runs)
    for sent in ("plain\r", "plain", "plain\0", "plain\r"):
        harness.check("ups", sent, "smtp", PEER)
    assert runs.count == 2


def test_a_right_password_is_remembered_and_a_wrong_one_does_not_displace_it(runs):
    harness = Users([mailbox(password="plain", login="ups")], scrypt=runs)
    harness.check("ups", "plain", "smtp", PEER)
    assert runs.count == 1
    with pytest.raises(LoginRefused):
        harness.check("ups", "wrong", "smtp", PEER)
    assert runs.count == 2
    for _ in range(5):
        harness.check("UPS", "plain", "pop3", "10.0.0.1")
    assert runs.count == 2
    harness.check("scanner@contoso.com", "plain", "smtp", PEER)  # each user name by itself
    assert runs.count == 3


def test_memory_is_no_way_round_network_and_service(runs):
    """Neither opens the door, nor is quicker with the right password."""
    harness = Users(
        [mailbox(password=None, logins=(login("camera", "plain", ("192.168.1.0/24",), ("smtp",)),))], scrypt=runs
    )
    harness.check("camera", "plain", "smtp", PEER)
    before = runs.count
    for service, peer in (("smtp", "10.0.0.1"), ("pop3", PEER)):
        with pytest.raises(LoginRefused):
            harness.check("camera", "plain", service, peer)
        before += 1
        assert runs.count == before


def test_memory_holds_no_password_and_one_entry_for_each_user_name(runs):
    harness = Users([mailbox(password="plain", login="ups")], scrypt=runs)
    for number in range(20):
        try:
            harness.check("ups", f"wrong{number}", "smtp", PEER)
        except LoginRefused:
            harness.check("Ups" if number % 2 else "UPS", "plain", "smtp", PEER)
    remembered = harness._verifier._remembered
    assert list(remembered) == ["ups"]
    (token,) = remembered.values()
    assert len(token) == 32 and b"plain" not in token
    other = Users([mailbox(password="plain", login="ups")], scrypt=runs)
    other.check("ups", "plain", "smtp", PEER)
    assert other._verifier._remembered["ups"] != token  # the key is made anew


class Watched(Verifier):
    """Tells when a check has found nothing in memory and asks for its turn."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.arrived = threading.Semaphore(0)

    def _turn(self):
        self.arrived.release()
        return super()._turn()


def test_two_hundred_clients_with_one_password_cost_two_runs(runs):
    harness = Users([mailbox(password="plain")])
    harness._verifier = watched = Watched(20, runs)
    runs.go_on.clear()
    releaser = threading.Thread(target=lambda: ([watched.arrived.acquire() for _ in range(200)], runs.go_on.set()))
    releaser.start()
    answers = together(lambda _: harness.check("scanner@contoso.com", "plain", "smtp", PEER), 200)
    releaser.join(20)
    assert all(isinstance(answer, User) for answer in answers)
    assert runs.count == 2


def test_at_most_two_runs_at_once(runs):
    harness = Users([mailbox(password="plain")], scrypt=runs, scrypt_wait_seconds=20)
    runs.go_on.clear()
    releaser = threading.Thread(target=lambda: (runs.begun.acquire(), runs.begun.acquire(), runs.go_on.set()))
    releaser.start()
    answers = together(lambda number: harness.check(f"nobody{number}", "x", "smtp", PEER), 12)
    releaser.join(20)
    assert all(isinstance(answer, LoginRefused) for answer in answers)
    assert runs.count == 12
    assert runs.most == 2


def test_too_long_a_wait_is_temporary_and_those_remembered_do_not_wait(runs):
    harness = Users([mailbox(password="plain", login="ups")], scrypt=runs, scrypt_wait_seconds=0.02)
    harness.check("ups", "plain", "smtp", PEER)
    assert runs.begun.acquire(timeout=20)
    runs.go_on.clear()
    busy = [threading.Thread(target=_refused, args=(harness, name)) for name in ("ups", "nobody")]
    for thread in busy:
        thread.start()
        assert runs.begun.acquire(timeout=20)
    for name in ("ups", "nobody", "scanner@contoso.com"):
        with pytest.raises(Temporary) as caught:
            harness.check(name, "another", "smtp", PEER)
        assert not isinstance(caught.value, LoginRefused)
    assert harness.check("ups", "plain", "smtp", PEER).login == "ups"
    assert runs.count == 3
    runs.go_on.set()
    for thread in busy:
        thread.join(20)
    harness.check("scanner@contoso.com", "plain", "smtp", PEER)  # the turns were given back


def _refused(harness, name):
    with pytest.raises(LoginRefused):
        harness.check(name, "wrong", "smtp", PEER)


def test_a_failing_scrypt_gives_its_turn_back():
    def fail(password, salt):
        raise MemoryError

    harness = Users([mailbox(password="plain")], scrypt=fail, scrypt_wait_seconds=0.01)
    for _ in range(5):
        with pytest.raises(MemoryError):
            harness.check("scanner@contoso.com", "plain", "smtp", PEER)


FOLDERS = [
    ("ups", "inbox"),
    ("ups+Scans", "Scans"),
    ("UPS+Scans/2026", "Scans/2026"),
    ("ups+a+b", "a+b"),
    ("scanner@contoso.com+SentItems", "SentItems"),
    ("ups+door", "inbox"),  # a login of its own
    ("ups+door+Scans", "Scans"),
    ("ups+", "inbox"),
]


@each("login, folder", FOLDERS)
def test_a_folder_after_the_login(login, folder):
    more = SimpleNamespace(login="ups+door", password="plain", networks=None, services=None)
    harness = QuickUsers([mailbox(password="plain", login="ups", logins=[more])])
    user = harness.check(login, "plain", "pop3", PEER)
    assert (user.mailbox, user.folder) == ("scanner@contoso.com", folder)
    assert harness.check("ups", "plain", "pop3", PEER).folder == "inbox"


@each(
    "login, password, service",
    [
        ("ups+Scans", "wrong", "pop3"),
        ("ups+Scans", "plain", "smtp"),
        ("nobody+ups", "plain", "pop3"),
        ("+ups", "plain", "pop3"),
        ("up+s", "plain", "pop3"),
        ("", "plain", "pop3"),
    ],
)
def test_a_folder_opens_nothing_else(login, password, service):
    harness = QuickUsers([mailbox(password="plain", login="ups")])
    with pytest.raises(LoginRefused):
        harness.check(login, password, service, PEER)


@each(
    "login, service, name",
    [
        ("UPS", "smtp", "ups"),
        ("UPS+Scans", "pop3", "ups"),
        ("UPS+Scans", "smtp", "ups+scans"),
        ("ups+door+Scans", "pop3", "ups+door"),
        ("nobody+1", "pop3", "nobody+1"),
    ],
)
def test_the_user_name_in_a_login(login, service, name):
    more = SimpleNamespace(login="ups+door", password="plain", networks=None, services=None)
    assert QuickUsers([mailbox(password="plain", login="ups", logins=[more])]).name(login, service) == name


def test_nothing_shows_a_password():
    harness = QuickUsers([mailbox(password="plain-secret")])
    user = harness.check("scanner@contoso.com", "plain-secret", "smtp", PEER)
    assert "plain-secret" not in repr(user) + repr(vars(user)) + repr(harness)


# What a reload makes of "ups", who is logged in from PEER with the password "right" to read and send.
RELOADS = {
    "nothing": (mailbox(logins=(login("ups"),)), True),
    "rights": (mailbox(logins=(login("ups"),), send_as=("other@contoso.com",)), True),
    "password": (mailbox(logins=(login("ups", "changed"),)), False),
    "login": (mailbox(logins=(login("usv"),)), False),
    "mailbox": (mailbox("other@contoso.com", logins=(login("ups"),)), False),
    "networks": (mailbox(logins=(login("ups", allowed=("10.0.0.0/8",)),)), False),
    "services": (mailbox(logins=(login("ups", services=("pop3",)),)), False),
}


@pytest.mark.parametrize("after, keeps", RELOADS.values(), ids=RELOADS)
def test_an_open_session_goes_by_the_configuration_of_now(runs, after, keeps):
    user = Users([mailbox(logins=(login("ups"),))], scrypt=runs).check("ups", "right", "smtp", PEER)
    before = runs.count
    now = Users([after], scrypt=runs).current(user, "smtp", PEER)
    assert (now is not None) is keeps
    assert runs.count == before
    if now is not None:
        assert now.may_send_as("other@contoso.com") == ("other@contoso.com" in after.send_as)


def test_an_open_session_keeps_its_folder():
    user = QuickUsers([mailbox()]).check("scanner@contoso.com+Bills", "right", "pop3", PEER)
    assert QuickUsers([mailbox()]).current(user, "pop3", PEER).folder == "Bills"


# Who logs in with a one-time password: `m365proxy test` plays the device on another machine.

ELSEWHERE = mailbox(logins=(login("mfp", allowed=("10.0.0.0/8",), services=("smtp",)),))


def test_who_is_trusted_may_be_anywhere_and_stays():
    users = QuickUsers([ELSEWHERE])
    user = users.trusted("MFP", "smtp")
    assert (user.login, user.mailbox) == ("mfp", "scanner@contoso.com")
    again = users.current(user, "smtp", PEER)
    assert again is not None and users.current(again, "smtp", PEER) is not None
    assert users.current(users.check("mfp", "right", "smtp", "10.1.1.1"), "smtp", PEER) is None


@pytest.mark.parametrize("name, service", [("mfp", "pop3"), ("nobody", "smtp"), ("", "smtp")])
def test_trust_gives_no_service_and_no_user_name(name, service):
    with pytest.raises(LoginRefused):
        QuickUsers([ELSEWHERE]).trusted(name, service)


def test_trust_ends_with_the_right():
    user = QuickUsers([ELSEWHERE]).trusted("mfp", "smtp")
    for changed in ([], [mailbox(logins=(login("mfp", "another"),))], [mailbox(logins=(login("mfp"),), services=())]):
        assert Users(changed).current(user, "smtp", PEER) is None
