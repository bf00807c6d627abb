"""What the configuration says about a mailbox, as far as logins need it."""

from __future__ import annotations

from typing import Optional, Protocol, Sequence

from ..system.choices import DeleteRule
from ..system.networks import Network


class LoginSettings(Protocol):
    """A further user name of a mailbox, as the config has it."""

    @property
    def login(self) -> str: ...

    @property
    def password(self) -> str: ...

    @property
    def networks(self) -> Optional[Sequence[Network]]: ...

    @property
    def services(self) -> Optional[Sequence[str]]: ...


class MailboxSettings(Protocol):
    """A mailbox, as the config has it."""

    @property
    def username(self) -> str: ...

    @property
    def password(self) -> Optional[str]: ...

    @property
    def login(self) -> Optional[str]: ...

    @property
    def logins(self) -> Sequence[LoginSettings]: ...

    @property
    def send_as(self) -> Sequence[str]: ...

    @property
    def default_from(self) -> Optional[str]: ...

    @property
    def rewrite_from(self) -> bool: ...

    @property
    def services(self) -> Sequence[str]: ...

    @property
    def folder(self) -> str: ...

    @property
    def pop3_delete(self) -> DeleteRule: ...

    @property
    def pop3_mark_read(self) -> bool: ...

    @property
    def pop3_fold_lines(self) -> bool: ...
