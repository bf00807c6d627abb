"""What an administrator has to do, found in a snapshot.  `status`, page, health, metrics and warnings show the same."""

from __future__ import annotations

from typing import Iterator, List, Sequence, Tuple, TypedDict

from .snapshot import Snapshot


class Finding(TypedDict):
    """One thing to do.

    `key` stays the same as long as it is the same thing, so that a warning is sent once: "held",
    "quota scanner@contoso.com".  `kind` is its first word.  `commands` can be copied; they may be none.
    """

    key: str
    sentence: str
    commands: List[str]


def find(snapshot: Snapshot) -> List[Finding]:
    """The most urgent first.  Looks at nothing but the snapshot, so that two who have the same find the same."""
    return [Finding(key=key, sentence=sentence, commands=list(commands)) for key, sentence, commands in _all(snapshot)]


def kind_of(finding: Finding) -> str:
    """The first word of its key: for labels in metrics."""
    return finding["key"].partition(" ")[0]


def verdict(running: bool, found: Sequence[Finding]) -> str:
    """What `status` and the page say first, in the same words."""
    if not running:
        return "Not running"
    if not found:
        return "All is well"
    return f"Attention: {len(found)} {'thing' if len(found) == 1 else 'things'} to do"


_Found = Tuple[str, str, Tuple[str, ...]]


def _all(snapshot: Snapshot) -> Iterator[_Found]:
    yield from _sign_in(snapshot)
    yield from _undecided(snapshot)


def _sign_in(snapshot: Snapshot) -> Iterator[_Found]:
    if snapshot["sign_in"]["error"]:
        yield "sign-in", snapshot["sign_in"]["error"], ("m365proxy login",)


def _undecided(snapshot: Snapshot) -> Iterator[_Found]:
    held, failed = snapshot["queue"]["held"], snapshot["queue"]["failed"]
    if held:
        yield "held", f"{held} messages are held: nobody can decide whether they were sent.", ("m365proxy queue list",)
    if failed:
        yield "failed", f"{failed} messages could not be sent, and are kept in failed/.", ("m365proxy queue list",)
