"""A message too large for Graph's MIME form without its largest files, so that the rest of it fits (GF 2.4).

The rest has the whole header, every text and every small file, in their form and order.
"""

from __future__ import annotations

from typing import BinaryIO, FrozenSet, Iterable, List, NamedTuple, Optional, Set

from . import prepare
from .parts import Part
from .prepare import Prepared

# How often the rest is generated to see whether it fits, before everything is taken out that may be.
_MOST_TRIES = 4

# What is certainly no file of its own in Exchange, but one text.
_ONE_TEXT = (["text/plain"], ["text/html"], ["text/plain", "text/html"])


class Skeleton(NamedTuple):
    """`message`: what is left; `taken`: the leaves that are not in it; `has_files`: whether others may be files."""

    message: Prepared
    taken: FrozenSet[Part]
    has_files: bool


def skeleton(prepared: Prepared, file: BinaryIO, files: Iterable[Part]) -> Optional[Skeleton]:
    """The message without as few of the leaves `files` as possible, the largest first.

    A text that is shown, and an invitation, always stays.  `file` is the one it was prepared from.  None if it is
    too large even so.
    """
    leaves = list(prepared.root.leaves())
    waiting = sorted((part for part in files if part in leaves and _may_be_taken(part)), key=_octets)
    taken: Set[Part] = set()
    rest = prepared
    for tries_left in reversed(range(_MOST_TRIES)):
        excess = _excess(rest)
        while waiting and (excess > 0 or not tries_left):
            largest = waiting.pop()
            taken.add(largest)
            excess -= _octets(largest)
        rest = prepare.without(prepared, file, taken)
        if not rest.is_large:
            left = [part for part in leaves if part not in taken]
            return Skeleton(rest, frozenset(taken), not _is_one_text(left))
        if not waiting:
            break
    return None


def _may_be_taken(part: Part) -> bool:
    if part.disposition == "attachment":
        return True
    if part.content_type == "text/calendar" or part.content_type.startswith("multipart/"):
        return False
    return bool(part.filename) or not part.is_text


def _octets(part: Part) -> int:
    return part.body_end - part.body_start


def _excess(message: Prepared) -> int:
    """Octets by which it is too large."""
    return message.size - message.top.envelope_size - prepare.LARGE_MIME_CEILING


def _is_one_text(leaves: List[Part]) -> bool:
    unnamed = not any(part.filename or part.disposition == "attachment" for part in leaves)
    return unnamed and (not leaves or [part.content_type for part in leaves] in _ONE_TEXT)
