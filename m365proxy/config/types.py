"""The types of the option table.

A type turns one JSON value into what the program uses, or raises Mistake with
the words that complete an error sentence.  They never contain a secret.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import re
import typing
import urllib.parse
from typing import Dict, List, Optional, Tuple

from ..logins.passwords import HASH_HINT, is_hash, scrypt_parts
from ..mime.addresses import INTERNET_DOMAIN, INTERNET_LOCAL
from ..system.choices import DeleteRule, Word
from ..system.networks import Network

_OTHER_HASHES = (
    (re.compile(r"\$2[abxy]?\$\d\d\$"), "a bcrypt hash"),
    (re.compile(r"\$argon2(id|i|d)\$"), "an argon2 hash"),
    (re.compile(r"\$(1|5|6|y|gy|7)\$[^$]*\$"), "a crypt hash"),
    (re.compile(r"\{(SSHA|SHA|CRYPT|BLF-CRYPT|SHA512-CRYPT)\}"), "a hash of another program"),
)

# Characters of the status page's password at least.
_STATUS_PASSWORD = 8

_GUID = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"


class Mistake(ValueError):
    """A value does not fit its option.

    `found` are pairs (suffix, predicate).  The option's path, the suffix
    ("[2]" in a list, else "") and the predicate make a sentence.
    """

    def __init__(self, *found: Tuple[str, str]):
        super().__init__("; ".join(predicate for _, predicate in found))
        self.found = found


class Secret(str):
    """A text that must not be shown.  Only its repr hides it: never format one into a message."""

    def __repr__(self) -> str:
        return "<secret>"


def shown(value: object) -> str:
    """A JSON value as an error sentence may quote it: short, printable, on one line."""
    if isinstance(value, (dict, list)):
        return kind(value)
    text = json.dumps(value, ensure_ascii=not str(value).isprintable())
    return text if len(text) <= 60 else text[:56] + "..."


def kind(value: object) -> str:
    """The kind of a JSON value, for values that must not be quoted."""
    for types, name in ((dict, "an object"), (list, "a list"), (str, "text"), (bool, "true or false")):
        if isinstance(value, types):
            return name
    return "null" if value is None else "a number"


class Type:
    """Reads one JSON value.  `words` completes "must be ..."; `hidden` values are never quoted."""

    words = ""
    hidden = False

    def __call__(self, value: object) -> object:
        raise NotImplementedError

    def mistake(self, value: object) -> Mistake:
        found = kind(value) if self.hidden else shown(value)
        # "must be a password, not text" would not help
        tail = "" if self.hidden and isinstance(value, str) else f", not {found}"
        return Mistake(("", f"must be {self.words}{tail}"))


class Text(Type):
    """One line of printable text of 1 to 1,000 characters, or what `pattern` allows; optionally lower-cased."""

    def __init__(
        self, words: str = "text on one line, without spaces around it", pattern: str = "", lower: bool = False
    ):
        self.words = words
        self._pattern = re.compile(pattern or ".*")
        self._lower = lower

    def __call__(self, value: object) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= 1000 or not value.isprintable():
            raise self.mistake(value)
        if value != value.strip() or not self._pattern.fullmatch(value):
            raise self.mistake(value)
        return value.lower() if self._lower else value


class SecretText(Type):
    """A secret of 1 to 1,000 characters."""

    words = "text of 1 to 1000 characters without control characters"
    hidden = True

    def __call__(self, value: object) -> Secret:
        if not isinstance(value, str) or not 0 < len(value) <= 1000 or not value.isprintable():
            raise self.mistake(value)
        return Secret(value)


class Password(SecretText):
    """A plain password, or the scrypt hash `m365proxy hash-password` prints."""

    def __call__(self, value: object) -> Secret:
        secret = super().__call__(value)
        if "hash-password" in secret:
            raise Mistake(("", f"is still the sample's; {HASH_HINT}"))
        if is_hash(secret):
            try:
                scrypt_parts(secret)
            except ValueError as error:
                raise Mistake(("", str(error))) from None
        for pattern, name in _OTHER_HASHES:
            if pattern.match(secret):
                raise Mistake(("", f"is {name}, which cannot be checked here; {HASH_HINT}"))
        return secret


class StatusPassword(Password):
    """One that is asked for over the network, where every address may try some."""

    def __call__(self, value: object) -> Secret:
        secret = super().__call__(value)
        if len(secret) < _STATUS_PASSWORD:
            raise Mistake(("", f"is shorter than {_STATUS_PASSWORD} characters; choose one that is harder to guess"))
        return secret


class Tenant(Text):
    """A directory (tenant) ID or one of the tenant's domains."""

    def __init__(self) -> None:
        super().__init__("a tenant ID (GUID) or a domain of the tenant", f"{_GUID}|{INTERNET_DOMAIN}", lower=True)

    def __call__(self, value: object) -> str:
        if isinstance(value, str) and value.lower() in ("common", "organizations", "consumers"):
            raise Mistake(
                (
                    "",
                    f"must name your own tenant by its ID or a domain; {shown(value)} would let "
                    "an account of any other tenant sign in",
                )
            )
        return _filled_in(super().__call__(value))


class Guid(Text):
    """An application ID."""

    def __init__(self) -> None:
        super().__init__("an application ID (GUID)", _GUID, lower=True)

    def __call__(self, value: object) -> str:
        return _filled_in(super().__call__(value))


def _filled_in(identifier: str) -> str:
    """The identifier; Mistake if it is the sample's, which is all zeros."""
    if not identifier.strip("0-"):
        advice = (
            "run `m365proxy init --ids LINE` with the last line of the tenant's script, or put the ID there by hand"
        )
        raise Mistake(("", f"is still the sample's; {advice}"))
    return identifier


class Number(Type):
    """A number from `low` to `high`, of `unit`; `note` explains the upper limit."""

    _word = "number"

    def __init__(self, low: float, high: float, unit: str = "", note: str = ""):
        self._low, self._high = low, high
        of = f" of {unit}" if unit else ""
        self.words = f"a {self._word}{of} from {low} to {high}" + (f" ({note})" if note else "")

    def __call__(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.mistake(value)
        # a NaN is in no range
        if not self._low <= value <= self._high:
            raise self.mistake(value)
        return value


class Integer(Number):
    """A whole number from `low` to `high`; 5.0 and 1e3 are not whole numbers in JSON's spelling."""

    _word = "whole number"

    def __call__(self, value: object) -> int:
        if not isinstance(value, int):
            raise self.mistake(value)
        super().__call__(value)
        return value


class Port(Integer):
    """A TCP port; 0 takes any free one."""

    def __init__(self) -> None:
        super().__init__(0, 65535)
        self.words = "a port number from 1 to 65535 (or 0 for any free port)"


class Boolean(Type):
    words = "true or false"

    def __call__(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise self.mistake(value)
        return value


class Choice(Type):
    """One of a few words, in any case."""

    def __init__(self, *names: str):
        self.names = names
        *most, last = map(json.dumps, names)
        self.words = f"{', '.join(most)} or {last}"

    def __call__(self, value: object) -> str:
        for name in self.names:
            if isinstance(value, str) and value.lower() == name.lower():
                return name
        raise self.mistake(value)


class WordOf(Choice):
    """One of the words of an enumeration, in any case."""

    def __init__(self, enumeration: typing.Type[Word]):
        super().__init__(*(word.value for word in enumeration))
        self.enumeration = enumeration

    def __call__(self, value: object) -> Word:
        return self.enumeration(super().__call__(value))


class Path(Type):
    """A path of the file system, which the loader makes absolute.  The words in `special` are no paths."""

    hidden = True  # some people paste a private key here

    def __init__(self, *special: str):
        self.special = special
        self.words = " or ".join(["the path of a file or directory", *map(json.dumps, special)])

    def __call__(self, value: object) -> str:
        if isinstance(value, str) and value.startswith("-----BEGIN"):
            raise Mistake(("", "must be the path of a file, not what is in it"))
        if not isinstance(value, str) or not 0 < len(value) <= 1000 or not value.isprintable():
            raise self.mistake(value)
        return value


class NetworkRange(Type):
    """One network, as ipaddress.IPv4Network or IPv6Network; a bare address is a network of one."""

    words = 'a network such as "192.168.10.0/24" or an IP address'

    def __call__(self, value: object) -> Network:
        if not isinstance(value, str) or "%" in value:
            raise self.mistake(value)
        try:
            network = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise self.mistake(value) from None
        address = value.partition("/")[0]
        if ipaddress.ip_address(address) != network.network_address:
            raise Mistake(
                (
                    "",
                    f"is {shown(value)}, an address inside a network: write "
                    f"{network} for the network or {address} for the one device",
                )
            )
        # A client's address is always in its IPv4 form: no other spelling would match.
        if network.version == 6 and network.prefixlen >= 96 and network.network_address.ipv4_mapped:
            return ipaddress.ip_network((network.network_address.ipv4_mapped, network.prefixlen - 96))
        return network


class BindAddress(Type):
    """An IP address to listen on, in its normal spelling."""

    words = 'an IP address of this machine ("0.0.0.0" for all of IPv4, "::" for all of IPv6)'

    def __call__(self, value: object) -> str:
        try:
            return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
        except ValueError:
            raise self.mistake(value) from None


class Url(Type):
    """A URL without user, query or fragment; a slash at its end is removed."""

    def __init__(self, *schemes: str):
        self._schemes = schemes
        self.words = f"a URL beginning with {' or '.join(scheme + '://' for scheme in schemes)}"

    def __call__(self, value: object) -> str:
        if not isinstance(value, str) or self._host(value) is None or "@" in value:
            raise self.mistake(value)
        return value.rstrip("/")

    def _host(self, value: str) -> Optional[str]:
        """The host of the URL; None if it is no URL that fits."""
        if not value.isascii() or not value.isprintable() or " " in value:
            return None
        try:
            parts = urllib.parse.urlsplit(value)
            parts.port  # noqa: B018 - raises ValueError for "host:x"
        except ValueError:
            return None
        if parts.scheme not in self._schemes or parts.query or parts.fragment:
            return None
        return parts.hostname


class NoticeUrl(Url):
    """A URL to POST to, with what else is in it, as user, password and query; {status} and {title} stand for values."""

    hidden = True

    def __init__(self) -> None:
        super().__init__("http", "https")

    def __call__(self, value: object) -> Secret:
        if not isinstance(value, str) or len(value) > 1000 or self._host(value.partition("?")[0]) is None:
            raise self.mistake(value)
        if not value.isascii() or not value.isprintable() or set(value) & set(" #"):
            raise self.mistake(value)
        return Secret(value)


class ProxyUrl(Url):
    """The URL of an HTTP proxy; it may contain user and password."""

    hidden = True

    def __init__(self) -> None:
        super().__init__("http", "https")

    def __call__(self, value: object) -> Secret:
        if not isinstance(value, str) or self._host(value) is None:
            raise self.mistake(value)
        return Secret(value.rstrip("/"))


class Date(Type):
    words = 'a date such as "2027-03-31"'

    def __call__(self, value: object) -> datetime.date:
        try:
            return datetime.datetime.strptime(value if isinstance(value, str) else "", "%Y-%m-%d").date()
        except ValueError:
            raise self.mistake(value) from None


class SentItems(Type):
    """None for "keep", else the number of days after which our own copies are deleted: 0 for "none"."""

    words = '"keep", "none" or "delete_after_days:N" with N from 1 to 3650'

    def __call__(self, value: object) -> Optional[int]:
        match = re.fullmatch(r"keep|none|delete_after_days:([0-9]{1,4})", value) if isinstance(value, str) else None
        if not match:
            raise self.mistake(value)
        if match.group(1) is None:
            return 0 if value == "none" else None
        days = int(match.group(1))
        if not 1 <= days <= 3650:
            raise self.mistake(value)
        return days


class Delete(Type):
    """What happens to mail that a POP3 client deletes."""

    words = '"trash", "permanent", "keep" or "move:FOLDER"'
    _text = Text(words, r"trash|permanent|keep|move:\S.*")

    def __call__(self, value: object) -> DeleteRule:
        return DeleteRule.parse(self._text(value))


class ListOf(Type):
    """A tuple of at least `least` items.  A single item needs no brackets."""

    def __init__(self, item: Type, least: int = 0):
        self.item, self._least = item, least
        self.words = f"{item.words}, or a list of such"

    def __call__(self, value: object) -> Tuple[object, ...]:
        is_list = isinstance(value, list)
        items: List[object] = value if isinstance(value, list) else [value]
        result: List[object] = []
        found: List[Tuple[str, str]] = []
        for index, item in enumerate(items):
            try:
                result.append(self.item(item))
            except Mistake as mistake:
                place = f"[{index}]" if is_list else ""
                found += [(place + suffix, words) for suffix, words in mistake.found]
        if found:
            raise Mistake(*found)
        if len(result) < self._least:
            raise Mistake(("", "must not be an empty list"))
        return tuple(result)


class RelayNetworks(Type):
    """{network: mailbox} as pairs (network, address), the smallest network first: the first that matches decides."""

    words = 'an object such as {"192.168.10.0/24": "scanner@contoso.com"}'

    def __call__(self, value: object) -> Tuple[Tuple[Network, str], ...]:
        if not isinstance(value, dict):
            raise self.mistake(value)
        result: Dict[Network, str] = {}
        found: List[Tuple[str, str]] = []
        for name, mailbox in value.items():
            if name.startswith("#"):
                continue
            suffix = f"[{shown(name)}]"
            try:
                network = NETWORK(name)
                if network in result:
                    raise Mistake(("", f"is a second spelling of {network}; keep one"))
                result[network] = ADDRESS(mailbox)
            except Mistake as mistake:
                found += [(suffix, words) for _, words in mistake.found]
        if found:
            raise Mistake(*found)
        return tuple(sorted(result.items(), key=lambda pair: (-pair[0].prefixlen, str(pair[0]))))


class Object(Type):
    """A section, whose keys the loader reads.  `short` is the type of a plain value in its place."""

    words = "an object in braces { }"
    hidden = True

    def __init__(self, short: Optional[Type] = None):
        self.short = short

    def __call__(self, value: object) -> object:
        if isinstance(value, dict):
            return value
        if self.short:
            return self.short(value)
        raise Mistake(("", f"must be {self.words}, not {kind(value)}"))


class Objects(Type):
    """A list of at least `least` sections."""

    words = "a list in brackets [ ] of objects in braces { }"

    def __init__(self, least: int = 0):
        self._least = least

    def __call__(self, value: object) -> List[object]:
        if not isinstance(value, list):
            raise Mistake(("", f"must be {self.words}, not {kind(value)}"))
        if len(value) < self._least:
            raise Mistake(("", "must not be an empty list"))
        return value


ADDRESS = Text("a mail address", f"{INTERNET_LOCAL}@{INTERNET_DOMAIN}", lower=True)
ADDRESS_PATTERN = Text('a mail address or "*@domain"', f"(?:{INTERNET_LOCAL}|\\*)@{INTERNET_DOMAIN}", lower=True)
DOMAIN = Text('a domain or "*" for all', f"{INTERNET_DOMAIN}|\\*", lower=True)
NETWORK = NetworkRange()
THUMBPRINT = Text("a SHA-1 thumbprint (40 hex digits without colons)", "[0-9A-Fa-f]{40}")
