"""The sign-in: whose it is, whether Microsoft renews it now, and what it permits."""

from __future__ import annotations

import os
import time
from typing import Iterator, Optional

from ...entra import registration
from ...errors import SignInNeeded
from ...system import clock
from ..terminal import Mark
from .result import Result, of_text
from .subject import Subject

# A sign-in ends after 90 days without a renewal (graph-facts: refresh tokens); the running program renews it each day.
_OLD_DAYS = 60


def stored(subject: Subject) -> Iterator[Result]:
    """What is stored, by the files alone.  ConfigError for a key of the app that cannot be used."""
    config = subject.config
    state = subject.account.tokens.state()
    if config.client_certificate:
        registration.private_key(config.client_certificate.private_key)
    if subject.is_app:
        yield Result(Mark.OK, "sign-in", "none is needed: the application signs in as itself")
    elif state.get("error"):
        yield of_text(Mark.WRONG, "sign-in", state["error"], SignInNeeded.exit_status)
    elif not state.get("user"):
        yield of_text(Mark.WRONG, "sign-in", "Nobody is signed in. Run `m365proxy login`.", SignInNeeded.exit_status)
    else:
        yield _of(subject, state["user"], state.get("signed_in_at") or 0.0)


def _of(subject: Subject, user: str, signed_in_at: float) -> Result:
    now = time.time()
    renewed = _renewed_at(subject)
    sentence = f"{user}, since {clock.ago(now - signed_in_at)} ago"
    if renewed is None:
        return Result(Mark.OK, "sign-in", sentence)
    sentence += f", last renewed {clock.ago(now - renewed)} ago"
    if now - renewed > _OLD_DAYS * 86400:
        remedy = "It ends after 90 days without renewal. Let the program run: it renews it every day."
        return Result(Mark.ATTENTION, "sign-in", sentence + ".", remedy)
    return Result(Mark.OK, "sign-in", sentence)


def _renewed_at(subject: Subject) -> Optional[float]:
    """When the stored sign-in was last written: each renewal brings a new one (seconds since 1970)."""
    try:
        return os.stat(subject.account.token_file.path).st_mtime
    except OSError:
        return None


def renewed(subject: Subject) -> Iterator[Result]:
    """A renewal, whatever is stored: that says nothing of a sign-in that was revoked later."""
    account = subject.account
    account.tokens.renew()
    yield Result(Mark.OK, "token", f"Microsoft has just renewed the sign-in of {account.graph.user or 'the app'}")


def permissions(subject: Subject) -> Iterator[Result]:
    """What the renewal granted, against what is needed.  An app's rights are given in Exchange; its token has none."""
    if subject.is_app:
        yield Result(Mark.INFO, "permissions", "an app has its rights in Exchange: see the mailboxes")
        return
    granted, missing = subject.account.tokens.permissions()
    if missing:
        yield Result(
            Mark.WRONG,
            "permissions",
            f"Microsoft grants {', '.join(granted) or 'nothing'}, but not {', '.join(missing)}.",
            f"Grant the app registration {', '.join(missing)} (Microsoft Graph, delegated), then sign in anew: "
            "`m365proxy login`",
            SignInNeeded.exit_status,
        )
    else:
        yield Result(Mark.OK, "permissions", f"granted: {', '.join(granted)}")
