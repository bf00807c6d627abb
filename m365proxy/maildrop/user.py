"""Whose mailbox is read, and how."""

from __future__ import annotations

from typing import Protocol

from ..system.choices import DeleteRule


class User(Protocol):
    """What a maildrop needs to know of a user; logins.users.User has it."""

    @property
    def login(self) -> str: ...

    @property
    def mailbox(self) -> str: ...

    @property
    def folder(self) -> str: ...

    @property
    def pop3_delete(self) -> DeleteRule: ...

    @property
    def pop3_mark_read(self) -> bool: ...

    @property
    def pop3_fold_lines(self) -> bool: ...
