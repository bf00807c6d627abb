"""Messages and folders in Graph's URLs, headers and JSON."""

from __future__ import annotations

import urllib.parse
from datetime import datetime, timezone
from typing import Any, Dict, Mapping, Optional

from .answer import Answer, GraphTrouble

_IMMUTABLE_IDS = 'IdType="ImmutableId"'

# Sent with every request about items, so that an id outlives a move to another folder (outlook-immutable-id.md).
IMMUTABLE: Mapping[str, str] = {"Prefer": _IMMUTABLE_IDS}


def immutable_pages(size: int) -> Dict[str, str]:
    """IMMUTABLE for a listing by delta query, with at most `size` messages a page (message-delta.md)."""
    return {"Prefer": f"{_IMMUTABLE_IDS}, odata.maxpagesize={size}"}


def message_path(id: str) -> str:
    """A message's path below its mailbox.  An id may hold / + and =, and is one segment."""
    return "/messages/" + urllib.parse.quote(id, safe="")


def folder_path(folder: str) -> str:
    """A folder's path below its mailbox; `folder` is an id or a well-known name."""
    return "/mailFolders/" + urllib.parse.quote(folder, safe="")


def item_of(answer: Answer) -> Dict[str, Any]:
    """The JSON of an item; GraphTrouble if it has no id, as when something else than Graph answered."""
    value = answer.json()
    if not isinstance(value.get("id"), str) or not value["id"]:
        raise GraphTrouble(f"Graph's answer (HTTP {answer.status}) has no item in it.", answer)
    return value


def date_of(text: object) -> Optional[datetime]:
    """An ISO date as Graph writes it ("2026-01-31T09:00:00Z"); None if `text` is none."""
    head = str(text)[:19]
    try:
        # Forty times as fast as strptime, and a listing has thousands of them; but it takes a day alone, too.
        return datetime.fromisoformat(head + "+00:00") if len(head) == 19 else None
    except ValueError:
        return None


def iso_of(seconds: float) -> str:
    """A time (seconds since 1970) as Graph compares dates with, in whole seconds."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_of(text: object) -> float:
    """An ISO date as Graph writes it, in seconds since 1970; 0 if `text` is none."""
    date = date_of(text)
    return date.timestamp() if date else 0.0
