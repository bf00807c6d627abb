"""Who may log in, from where, to which service, and as whom they may send."""

from __future__ import annotations

import copy
import hmac
import os
from typing import Callable, Dict, FrozenSet, Iterable, Optional, Protocol, Sequence, Tuple

from ..errors import Permanent
from ..mime.addresses import address_matches
from ..system.networks import Network, within
from . import passwords
from .mailboxes import MailboxSettings
from .passwords import octets
from .verifier import Verifier

# Under this key, which lives as long as the program, a User remembers which password is configured.
_MARK_KEY = os.urandom(32)


class LoginRefused(Permanent):
    """User name and password were not accepted.

    str() is for the client and does not say which of them was wrong; `reason`
    is for the log.
    """

    def __init__(self, reason: str):
        super().__init__("The user name or the password was not accepted; check both on the device.")
        self.reason = reason


class User:
    """Who has logged in, or is trusted by address: a mailbox and what may be done with it.  Immutable."""

    def __init__(self, mailbox: MailboxSettings, login: str, services: Iterable[str], stored: str = ""):
        """`login` is the user name, "" for a network that may send without a login.

        `stored` is the password as configured, plain or hashed.
        """
        self.login = login
        self._password_mark = hmac.digest(_MARK_KEY, octets(stored), "sha256")
        self.mailbox: str = mailbox.username.lower()
        self.services: FrozenSet[str] = frozenset(services)
        self.folder: str = mailbox.folder
        self.pop3_delete = mailbox.pop3_delete
        self.pop3_mark_read: bool = mailbox.pop3_mark_read
        self.pop3_fold_lines: bool = mailbox.pop3_fold_lines
        self.rewrite_from: bool = mailbox.rewrite_from
        self.default_from: str = mailbox.default_from or self.mailbox
        self.send_as = tuple(mailbox.send_as)
        self.from_anywhere = False  # whatever networks its user name is for

    def may_send_as(self, address: str) -> bool:
        """Whether From may be `address`: the mailbox's own, or one in its send_as ("*@domain" is all of a domain)."""
        return address_matches(address, (self.mailbox, *self.send_as))

    def is_same_login(self, other: User) -> bool:
        """Whether both are one login of one mailbox, with the same configured password."""
        mine, theirs = (self.mailbox, self.login), (other.mailbox, other.login)
        return mine == theirs and hmac.compare_digest(self._password_mark, other._password_mark)

    def reading(self, folder: str) -> User:
        """The same user, for another folder of the same mailbox."""
        other = copy.copy(self)
        other.folder = folder
        return other

    def trusted(self) -> User:
        """The same user, wherever it is."""
        other = copy.copy(self)
        other.from_anywhere = True
        return other

    def __repr__(self) -> str:
        return f"User({self.login!r}, {self.mailbox!r})"


class Logins(Protocol):
    """Whom a session asks about a login: Users, or the Guard in front of them."""

    def check(self, login: str, password: str, service: str, peer: str) -> User:
        """As Users.check."""

    def current(self, user: User, service: str, peer: str) -> Optional[User]:
        """As Users.current."""


class _Login:
    """A user name with its stored password and the networks it may come from (None: all)."""

    def __init__(self, user: User, stored: str, networks: Optional[Sequence[Network]] = None):
        self.user = user
        self.networks = networks
        self.stored = stored


class Users:
    """All user names of the configuration.  May be used from any thread.

    What a check costs (`Verifier`) does not depend on the user name.
    """

    def __init__(
        self,
        mailboxes: Iterable[MailboxSettings],
        *,
        scrypt_wait_seconds: float = 10.0,
        scrypt: Callable[[bytes, bytes], bytes] = passwords.scrypt,
    ):
        """`scrypt_wait_seconds` is how long a check may wait for its turn; `scrypt` takes password and salt."""
        self._verifier = Verifier(scrypt_wait_seconds, scrypt)
        self._logins: Dict[str, _Login] = {}
        self._mailboxes: Dict[str, User] = {}
        for mailbox in mailboxes:
            self._add(mailbox)

    def check(self, login: str, password: str, service: str, peer: str) -> User:
        """The user, if the password is right and `peer` (a normalised address) may use `service` ("smtp", "pop3").

        For POP3, "login+Folder" is the same user reading another folder of
        its mailbox.  A password that is wrong and ends in CR, LF or NUL is tried without
        them, too.  Raises LoginRefused, or Temporary if too many checks are waiting.
        """
        login, folder = self._split(login) if service == "pop3" else (login, "")
        name = login.casefold()
        found = self._logins.get(name)
        refusal = self._refusal(found, service, peer)
        if found is None or refusal:
            # It costs as much as a wrong password, and what is remembered is not asked: nobody can tell them apart.
            self._verifier.refuse(password)
            raise LoginRefused(refusal)
        if not self._verifier.is_right(name, password, found.stored):
            raise LoginRefused("wrong password")
        return found.user.reading(folder) if folder else found.user

    def current(self, user: User, service: str, peer: str) -> Optional[User]:
        """The user of an open session as it is configured now; None if it has lost its right.

        It costs no scrypt run: the password is not checked again, but it must be configured as it was.
        """
        found = self._logins.get(user.login.casefold())
        if found is None or not user.is_same_login(found.user):
            return None
        if self._refusal(found, service, None if user.from_anywhere else peer):
            return None
        fresh = found.user.reading(user.folder)
        return fresh.trusted() if user.from_anywhere else fresh

    def trusted(self, login: str, service: str) -> User:
        """The user of a user name who need not give its password, nor be where it is for; LoginRefused."""
        found = self._logins.get(login.casefold())
        refusal = self._refusal(found, service, None)
        if found is None or refusal:
            raise LoginRefused(refusal)
        return found.user.trusted()

    def name(self, login: str, service: str) -> str:
        """The user name that `check` goes by, in one spelling."""
        return (self._split(login)[0] if service == "pop3" else login).casefold()

    def user_of_mailbox(self, address: str) -> User:
        """The user of a network that may send from this mailbox without a login; its user name is ""."""
        return self._mailboxes[address.lower()]

    def may_send_as(self, mailbox: str, address: str) -> bool:
        """Whether a mailbox may send as an address; False if there is no such mailbox: a reload may have removed it."""
        user = self._mailboxes.get(mailbox.lower())
        return user is not None and user.may_send_as(address)

    def _split(self, login: str) -> Tuple[str, str]:
        """User name and folder of "login+Folder".

        There is no folder if the whole is a user name, or if no part before a "+" is one.
        """
        end = len(login)
        while end > 0 and login[:end].casefold() not in self._logins:
            end = login.rfind("+", 0, end)
        return (login[:end], login[end + 1 :]) if end > 0 else (login, "")

    def _add(self, mailbox: MailboxSettings) -> None:
        self._mailboxes[mailbox.username.lower()] = User(mailbox, "", mailbox.services)
        if mailbox.password:
            for name in filter(None, (mailbox.username, mailbox.login)):
                self._logins[name.casefold()] = _Login(
                    User(mailbox, name, mailbox.services, mailbox.password), mailbox.password
                )
        for entry in mailbox.logins:
            services = entry.services or mailbox.services
            self._logins[entry.login.casefold()] = _Login(
                User(mailbox, entry.login, services, entry.password), entry.password, entry.networks
            )

    @staticmethod
    def _refusal(found: Optional[_Login], service: str, peer: Optional[str]) -> str:
        """Why this user name may not log in here (None: wherever that is), whatever the password; "" if it may."""
        if found is None:
            return "no such user name"
        if service not in found.user.services:
            return f"the user name is not for {service}"
        if found.networks is not None and peer is not None and not within(peer, found.networks):
            return "the user name is not for this network"
        return ""
