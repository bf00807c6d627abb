"""The config for a report: what was set, with pseudonyms, and without what might be a secret.

Only values whose option is known, and which fit it, are shown.  All others
may be anything, as a password in the wrong place: they are left out, here and
in what `check` says of them.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterator, Optional
from urllib.parse import parse_qsl, unquote, urlsplit

from ...config.option import Option
from ...config.options import keys_of
from ...config.types import (
    ADDRESS,
    ADDRESS_PATTERN,
    DOMAIN,
    BindAddress,
    Boolean,
    Choice,
    Date,
    Delete,
    Guid,
    ListOf,
    Mistake,
    NetworkRange,
    NoticeUrl,
    Number,
    Object,
    Objects,
    Password,
    Path,
    ProxyUrl,
    RelayNetworks,
    SecretText,
    SentItems,
    Tenant,
    Type,
    Url,
    kind,
)
from ...logins.passwords import is_hash
from ...system import jsontext
from . import vocabulary
from .pseudonyms import SECRET, Kind, Pseudonyms

# Texts in a file that is no JSON.
_LITERAL = re.compile(r"\"((?:[^\"\\\n]|\\.)*)\"|'([^'\n]*)'")

# Octets of a config that are looked at.
_LONGEST_FILE = 4 * 1024 * 1024

# Characters of a long value that a sentence about it shows at least.
_SHOWN = 16

# Names of options whose value is a name, and what the name is of.
_NAMES = {"login": Kind.LOGIN, "user": Kind.LOGIN}


def parsed(content: bytes) -> Optional[Dict[str, Any]]:
    """The object that a config file holds; None if it holds none."""
    try:
        document = jsontext.parse(content.decode(json.detect_encoding(content)))
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def hide_all(content: bytes, pseudonyms: Pseudonyms) -> None:
    """Learn all texts of a file that is no JSON, whatever they are."""
    for match in _LITERAL.finditer(content[:_LONGEST_FILE].decode("utf-8", "replace")):
        pseudonyms.hide(match.group(1) or match.group(2) or "")


def text(document: Dict[str, Any], pseudonyms: Pseudonyms) -> str:
    """The config as JSON; the pseudonyms learn all names and secrets that are in it."""
    return json.dumps(_Config(pseudonyms).section(document, ""), indent=2)


class _Config:
    def __init__(self, pseudonyms: Pseudonyms):
        self._pseudonyms = pseudonyms

    def section(self, document: Dict[str, Any], section: str) -> Dict[str, Any]:
        """What may be shown of a section (its path in the option table).  Comments are left out."""
        options = {option.name: option for option in keys_of(section)}
        shown: Dict[str, Any] = {}
        for name, value in document.items():
            option = options.get(name)
            if option is not None:
                shown[name] = self._value(option, value)
            else:
                self._hide(value)
                if not name.startswith("#"):
                    shown[self._unknown_key(name)] = f"<{kind(value)}>"
        return shown

    def _unknown_key(self, name: str) -> str:
        if vocabulary.is_nearly_known(name):
            return name
        self._pseudonyms.hide(name)
        return "<unknown key>"

    def _value(self, option: Option, value: Any) -> Any:
        if value is None:
            return None
        try:
            option.type(value)
        except Mistake:
            self._hide(value)
            return f"<wrong: {kind(value)}>"
        if isinstance(value, dict) and isinstance(option.type, Object):
            return self.section(value, option.path)
        if isinstance(option.type, Objects):
            return [self._item(option, item) for item in value]
        return self._shown(option.type.short if isinstance(option.type, Object) else option.type, option.name, value)

    def _item(self, option: Option, item: Any) -> Any:
        if isinstance(item, dict):
            return self.section(item, option.path + "[]")
        self._hide(item)
        return f"<wrong: {kind(item)}>"

    def _shown(self, type: Optional[Type], name: str, value: Any) -> Any:
        """A value that fits its option, as far as it may be shown."""
        if isinstance(type, ListOf):
            items = value if isinstance(value, list) else [value]
            return [self._shown(type.item, name, item) for item in items]
        if isinstance(type, (Boolean, Number, Choice, Date, SentItems)):
            return value
        if name == "notify_command" and value.startswith(("/", "\\")):
            return self._pseudonyms.path(value)
        if isinstance(type, NoticeUrl):
            return self._notice_url(value)
        if isinstance(type, (SecretText, ProxyUrl)):
            return self._secret(type, value)
        if isinstance(type, (NetworkRange, BindAddress)):
            return self._pseudonyms.network(NetworkRange()(value))
        if isinstance(type, RelayNetworks):
            return self._relay(value)
        if isinstance(type, Delete):
            return self._delete(value)
        if isinstance(type, Path):
            return value if value in type.special else self._pseudonyms.path(value)
        return self._named(type, name, value)

    def _named(self, type: Optional[Type], name: str, value: str) -> str:
        if type in (ADDRESS, ADDRESS_PATTERN):
            return self._pseudonyms.mailbox(value)
        if type is DOMAIN:
            return self._pseudonyms.domain(value)
        if isinstance(type, Tenant):
            return self._tenant(value)
        if isinstance(type, Guid):
            return self._pseudonyms.name(Kind.APP, value)
        if isinstance(type, Url):
            return self._pseudonyms.scrub(value)
        if name == "folder":
            return self._folder(value)
        if name in _NAMES:
            return self._pseudonyms.name(_NAMES[name], value)
        self._hide(value)
        return "<set>"

    def _tenant(self, value: str) -> str:
        """An ID, or one of the tenant's domains: which of the two decides whether a sign-in works."""
        return self._pseudonyms.domain(value) if "." in value else self._pseudonyms.name(Kind.TENANT, value)

    def _secret(self, type: Type, value: str) -> str:
        if isinstance(type, ProxyUrl):
            parts = urlsplit(value)
            for secret in (parts.password, parts.username):
                self._pseudonyms.hide(unquote(secret or ""))
            return self._pseudonyms.scrub(value)
        self._pseudonyms.hide(value)
        if isinstance(type, Password):
            return "<hashed password>" if is_hash(value) else "<plain password>"
        return SECRET

    def _notice_url(self, value: str) -> str:
        """Whoever knows the URL can use it, so all behind the host is a secret."""
        parts = urlsplit(value)
        words = [parts.username or "", parts.password or "", *parts.path.split("/")]
        words += [word for _, word in parse_qsl(parts.query)]
        for word in (value, *words):
            self._pseudonyms.hide(unquote(word))
        return f"{parts.scheme}://{self._pseudonyms.host(parts.hostname or '')}/{SECRET}"

    def _relay(self, value: Dict[str, str]) -> Dict[str, str]:
        pseudonyms = self._pseudonyms
        return {
            pseudonyms.network(NetworkRange()(network)): pseudonyms.mailbox(mailbox)
            for network, mailbox in value.items()
            if not network.startswith("#")
        }

    def _delete(self, value: str) -> str:
        rule, colon, folder = value.partition(":")
        return f"{rule}:{self._folder(folder)}" if colon else rule

    def _folder(self, value: str) -> str:
        return value if vocabulary.is_known(value) else self._pseudonyms.name(Kind.NAME, value)

    def _hide(self, value: Any) -> None:
        """Keep all of a value out of the whole report, also as the sentence of a mistake would show it."""
        for leaf in _leaves(value):
            self._pseudonyms.hide(leaf)
            if len(leaf) > _SHOWN:
                self._pseudonyms.hide(leaf[:_SHOWN])


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield name
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield str(value)
