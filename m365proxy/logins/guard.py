"""Guessing passwords is made slow: the answer to a failure is delayed, and too many failures are blocked."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from typing import Callable, Dict, Hashable, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar

from ..errors import Temporary
from ..system import log
from ..system.networks import Network, client_network, is_loopback, within
from .onetime import OneTimePasswords
from .users import LoginRefused, User, Users

logger = log.get("logins")

# Before the answer to the first failure (seconds); doubled with each further one up to the longest.
_FIRST_DELAY = 0.25
_LONGEST_DELAY = 4.0

# An address is blocked for all user names at this many times the failures that block one user name from there:
# one device with a wrong password must not shut out the others behind the same router.
_ADDRESS_FACTOR = 5

# How long an attempt waits for those under way (seconds); clients wait for some thirty.
_PATIENCE = 20.0

# How long a success vouches for a user name from an address (seconds).
_TRUSTED = 24 * 3600.0

# Entries kept of each kind; the oldest go first.
_LIMIT = 10000

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")
_Result = TypeVar("_Result")


class Guard:
    """Stands in front of Users for all sessions.  May be used from any thread.

    A block refuses logins only, and ends by itself.  A user name that logged in
    from the same address within 24 hours is never blocked.
    """

    def __init__(
        self,
        users: Users,
        failures: int = 10,
        block_seconds: float = 600.0,
        exempt: Sequence[Network] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        """`failures` of one user name from one address block it for `block_seconds` (0: never).

        Loopback and the `exempt` networks (proxies) stand for many clients and are not counted.
        """
        self.users = users  # may be exchanged while running
        self._failures = failures
        self._block_seconds = block_seconds
        self.exempt = exempt  # this too
        self._clock = clock
        self._sleep = sleep
        self._one_time = OneTimePasswords(clock)
        self._changed = threading.Condition()
        self._failed: Dict[Hashable, List[float]] = {}  # key -> count, time of the last
        self._succeeded: Dict[Tuple[str, str], float] = {}
        self._under_way: collections.Counter[Hashable] = collections.Counter()

    def check(self, login: str, password: str, service: str, peer: str) -> User:
        """As Users.check, but failures take time.  Raises LoginRefused, Temporary."""
        if self._one_time.use(login, service, password):
            logger.info("%s logs in from %s with a one-time password of `m365proxy test`", log.quote(login, 100), peer)
            return self.users.trusted(login, service)
        # By the user name alone: with a folder behind it each guess would be the first one of a pair.
        name = self.users.name(login, service)
        return self.attempt(name, peer, lambda: self.users.check(login, password, service, peer))

    def attempt(self, name: str, peer: str, check: Callable[[], _Result]) -> _Result:
        """What `check` returns, which tries one password for a user name; its LoginRefused takes time.

        Raises LoginRefused, too, without a check, while too many failures block it; and Temporary.
        """
        where = _where(peer)
        pair = (where, name)
        if where == "loopback" or within(peer, self.exempt):
            return check()
        with self._attempt(where, pair):
            try:
                found = check()
            except LoginRefused as error:
                refusal, delay = error, self._note_failure(where, pair)
            else:
                self._note_success(pair)
                return found
        self._sleep(delay)
        raise refusal

    def admit_once(self, digest: str) -> None:
        """Let the one-time password of this digest be used."""
        self._one_time.admit(digest)

    def current(self, user: User, service: str, peer: str) -> Optional[User]:
        """As Users.current: no password is tried."""
        return self.users.current(user, service, peer)

    @contextlib.contextmanager
    def _attempt(self, where: str, pair: Tuple[str, str]) -> Iterator[None]:
        """A with block in which one password may be tried.

        Attempts under way count as failures until they have ended; otherwise
        many at once would all be tried.  A later one waits for their end, because
        they may be right.  Raises LoginRefused if blocked, and Temporary.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_decided(where, pair), _PATIENCE):
                raise Temporary("Too many are logging in at once from there; try again in a minute.")
            if self._blocked(where, pair, {}):
                raise LoginRefused("blocked for a while after too many failures from there")
            for key in (pair, where):
                self._under_way[key] += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= collections.Counter((pair, where))
                self._changed.notify_all()

    def _is_decided(self, where: str, pair: Tuple[str, str]) -> bool:
        """Whether the attempts under way make no difference to this one."""
        return self._blocked(where, pair, {}) or not self._blocked(where, pair, self._under_way)

    def _blocked(self, where: str, pair: Tuple[str, str], more: Mapping[Hashable, int]) -> bool:
        """Whether there were too many failures; `more` is how many to add for a key."""
        now = self._clock()
        if not self._block_seconds or now - self._succeeded.get(pair, float("-inf")) < _TRUSTED:
            return False
        return (
            self._count(pair, now) + more.get(pair, 0) >= self._failures
            or self._count(where, now) + more.get(where, 0) >= self._failures * _ADDRESS_FACTOR
        )

    def _note_success(self, pair: Tuple[str, str]) -> None:
        with self._changed:
            self._failed.pop(pair, None)
            _keep(self._succeeded, pair, self._clock())

    def _note_failure(self, where: str, pair: Tuple[str, str]) -> float:
        """Count it; returns the seconds to wait before it is answered."""
        now = self._clock()
        with self._changed:
            for key in (pair, where):
                _keep(self._failed, key, [self._count(key, now) + 1, now])
            exponent = min(self._failed[pair][0] - 1, 10)
        return min(_FIRST_DELAY * 2**exponent, _LONGEST_DELAY)

    def _count(self, key: Hashable, now: float) -> float:
        """Failures that still count: they are forgotten after the length of a block without another one."""
        count, last = self._failed.get(key, (0, 0.0))
        return count if now - last < self._block_seconds else 0


def _keep(entries: Dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Set an entry; the oldest goes if there are too many."""
    entries.pop(key, None)  # so that the order is by age
    entries[key] = value
    if len(entries) > _LIMIT:
        del entries[next(iter(entries))]


def _where(peer: str) -> str:
    """What is counted as one address."""
    return "loopback" if is_loopback(peer) else client_network(peer)
