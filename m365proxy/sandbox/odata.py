"""OData query options as Outlook accepts them: only a few, under strict conditions (user-list-messages)."""

from __future__ import annotations

import calendar
import re
import time
import urllib.parse
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from . import resource
from .mailstore import Item, Refusal

_KNOWN = frozenset(
    {
        "$select",
        "$top",
        "$skip",
        "$filter",
        "$orderby",
        "$expand",
        "$count",
        "$skiptoken",
        "$deltatoken",
        "changetype",
    }
)

_OPERATORS: Dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "le": lambda a, b: a <= b,
    "lt": lambda a, b: a < b,
}

_TEXT = r"'((?:[^']|'')*)'"
_PROPERTY_TERM = re.compile(
    r"singleValueExtendedProperties/[Aa]ny\(\s*(\w+)\s*:\s*\1/id\s+eq\s+"
    + _TEXT
    + r"\s+and\s+\1/value\s+eq\s+"
    + _TEXT
    + r"\s*\)"
)
_TERM = re.compile(r"(\w+)\s+(eq|ne|ge|gt|le|lt)\s+(?:" + _TEXT + r"|([^\s')]+))")
_EXPANDED = re.compile(r"singleValueExtendedProperties\(\$filter=(id eq '[^']+'(?: or id eq '[^']+')*)\)")

# Of an attachment in a message (attachment resource); contentId is a fileAttachment's, and refused there.
_OF_ATTACHMENTS = re.compile(r"attachments\(\$select=(\w+(?:,\w+)*)\)")
_ATTACHMENT_PROPERTIES = frozenset({"id", "name", "contentType", "size", "isInline", "lastModifiedDateTime"})

_TIMES = {"receivedDateTime": "received", "sentDateTime": "sent", "createdDateTime": "created"}
_FLAGS = {"isRead": "read", "isDraft": "draft"}
_TEXTS = ("internetMessageId", "subject")


class Condition(NamedTuple):
    """One term of a filter."""

    property: str
    holds: Callable[[Item], bool]


class Query:
    """The options of one request; a name Graph does not know is 400."""

    def __init__(self, raw: str):
        self.options: Dict[str, str] = {}
        for name, value in urllib.parse.parse_qsl(raw, keep_blank_values=True):
            key = name.lower()
            if key not in _KNOWN or key in self.options:
                raise Refusal(400, "BadRequest", f"Query option '{name}' is not recognized or was given twice.")
            self.options[key] = value

    def select(self, known: Sequence[str]) -> Optional[List[str]]:
        """The wanted properties, or None for all; an unknown name is 400."""
        if "$select" not in self.options:
            return None
        names = [name.strip() for name in self.options["$select"].split(",")]
        for name in names:
            if name not in known:
                raise Refusal(400, "BadRequest", f"Could not find a property named '{name}'.")
        return names

    def number(self, name: str, least: int, most: int) -> Optional[int]:
        """$top or $skip."""
        value = self.options.get(name)
        if value is None:
            return None
        if not re.fullmatch(r"[0-9]{1,9}", value) or not least <= int(value) <= most:
            raise Refusal(400, "BadRequest", f"The value of {name} must be {least} to {most}.")
        return int(value)

    def expand(self) -> List[str]:
        """The ids of the extended properties wanted."""
        value = self.options.get("$expand")
        if value is None:
            return []
        match = _EXPANDED.fullmatch(value.strip())
        if not match:
            raise Refusal(400, "BadRequest", "Only singleValueExtendedProperties($filter=id eq '...') is known.")
        return re.findall(r"'([^']+)'", match.group(1))

    def of_attachments(self) -> Optional[List[str]]:
        """The properties of a message's attachments that are wanted with it; None if they are not."""
        match = _OF_ATTACHMENTS.fullmatch(self.options.get("$expand", "").strip())
        names = match.group(1).split(",") if match else None
        for name in names or ():
            if name not in _ATTACHMENT_PROPERTIES:
                raise Refusal(400, "RequestBroker--ParseUri", f"Could not find a property named '{name}'.")
        return names

    def conditions(self) -> List[Condition]:
        """The terms of $filter, all of which must hold."""
        rest = self.options.get("$filter", "").strip()
        found: List[Condition] = []
        while rest:
            match = _PROPERTY_TERM.match(rest)
            if match:
                found.append(_extended(_unquoted(match.group(2)), _unquoted(match.group(3))))
            else:
                match = _TERM.match(rest)
                if not match:
                    raise Refusal(400, "BadRequest", f"Invalid filter clause at '{rest[:40]}'.")
                found.append(_comparison(*match.groups()))
            rest = rest[match.end() :]
            joined = re.match(r"\s+and\s+(?=\S)", rest)
            if rest and not joined:
                raise Refusal(400, "BadRequest", f"Invalid filter clause at '{rest[:40]}'.")
            rest = rest[joined.end() :] if joined else ""
        return found

    def order(self, conditions: Sequence[Condition]) -> Tuple[str, bool]:
        """(property, descending); the property must come first in the filter, or else 400 InefficientFilter."""
        value = self.options.get("$orderby")
        if value is None:
            return "receivedDateTime", True
        match = re.fullmatch(r"(\w+)(?:\s+(asc|desc))?", value.strip())
        if not match or match.group(1) != "receivedDateTime":
            raise Refusal(400, "BadRequest", f"Cannot order by '{value}'.")
        if conditions and conditions[0].property != match.group(1):
            raise Refusal(400, "InefficientFilter", "The restriction or sort order is too complex for this operation.")
        return match.group(1), match.group(2) == "desc"


def _unquoted(text: str) -> str:
    return text.replace("''", "'")


def _extended(name: str, value: str) -> Condition:
    wanted = resource.tag(name)
    return Condition("singleValueExtendedProperties", lambda item: item.extended.get(wanted) == value)


def _comparison(name: str, operator: str, text: Optional[str], bare: Optional[str]) -> Condition:
    test = _OPERATORS[operator]
    if name in _TIMES and bare is not None:
        # Graph compares what it shows: whole seconds.
        then, attribute = _time(bare), _TIMES[name]
        return Condition(name, lambda item: test(int(getattr(item, attribute)), then))
    if name in _FLAGS and bare in ("true", "false") and operator in ("eq", "ne"):
        flag, attribute = bare == "true", _FLAGS[name]
        return Condition(name, lambda item: test(getattr(item, attribute), flag))
    if name in _TEXTS and text is not None and operator == "eq":
        wanted = _unquoted(text)
        if name == "internetMessageId":
            return Condition(name, lambda item: item.message_id == wanted)
        return Condition(name, lambda item: resource.value_of(item, name).lower() == wanted.lower())
    if name == "id":
        raise Refusal(400, "ErrorInvalidProperty", "The property 'id' does not support filtering.")
    raise Refusal(400, "BadRequest", f"Cannot filter by '{name} {operator}'.")


def _time(text: str) -> int:
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d:\d\d)(?:\.\d+)?Z)?", text)
    try:
        if match is None:
            raise ValueError
        return calendar.timegm(time.strptime(f"{match.group(1)} {match.group(2) or '00:00:00'}", "%Y-%m-%d %H:%M:%S"))
    except ValueError:
        raise Refusal(400, "BadRequest", f"'{text}' is no dateTimeOffset.") from None
