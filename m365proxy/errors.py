"""The one exception tree.

str(error) is always a sentence an administrator can act on; it never holds a
secret.  `exit_status` is what the command line ends with when the error
reaches it (the sysexits.h numbers of the README's table).
"""

from __future__ import annotations


class ProxyError(Exception):
    """Base of every error this program raises on purpose."""

    exit_status = 70


class UsageError(ProxyError):
    """The command line asks for something that does not exist."""

    exit_status = 64


class NotRunning(ProxyError):
    """The command is for the running program, and none runs."""

    exit_status = 3


class Unavailable(ProxyError):
    """Microsoft cannot be reached, or a library is missing."""

    exit_status = 69


class CannotCreate(ProxyError):
    """A port, directory or file could not be made."""

    exit_status = 73


class InUse(ProxyError):
    """Something that only one may hold is held: the state directory, a port, a maildrop."""

    exit_status = 75


class SignInNeeded(ProxyError):
    """Nothing can be asked of Graph until somebody runs `m365proxy login`."""

    exit_status = 77


class ConfigError(ProxyError):
    """The configuration, a certificate or a key is wrong; `problems` lists every mistake found.

    `shown` is the place in the file for a terminal: the line and a caret below it.
    """

    exit_status = 78

    def __init__(self, *problems: str, shown: "tuple[str, ...]" = ()):
        super().__init__("\n".join(problems))
        self.problems = problems
        self.shown = shown


class OtherMachine(ProxyError):
    """The state directory belongs to another machine, or was given up: this program must not run on it."""

    exit_status = 78


class Temporary(ProxyError):
    """Trouble that may pass: the same thing may be tried again later.

    `seconds`: how long Microsoft asked to wait before that; 0 if it did not.
    """

    exit_status = 69
    seconds = 0.0


class TokenRefused(Temporary):
    """Graph refuses for one mailbox a token that is good otherwise."""


class Permanent(ProxyError):
    """A refusal that will be the same the next time."""
