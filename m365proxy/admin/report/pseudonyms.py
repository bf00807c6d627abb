"""Pseudonyms: every name, address and secret out of a text, and the same word for the same thing everywhere.

It works twice.  What is known of an installation (its config, its machine) is
looked for, however it is spelled; and what has the form of an address, a host,
a path, a key or a token is replaced even if nobody knows it.
"""

from __future__ import annotations

import ipaddress
import json
import re
import unicodedata
import urllib.parse
from collections import Counter
from typing import Any, Dict, Iterator, List, Match, Optional, Pattern, Set

from ...system.choices import Word
from ...system.networks import Network
from . import forms, vocabulary

SECRET = "<secret>"

# What stands before an address in log lines.
_LABELS = ("mailbox", "sender", "recipients", "user", "client", "login")

# Shorter ones would be found in words of ours.  A secret of this length or more is also found inside of words.
_SHORTEST, _ANYWHERE = 4, 6


class Kind(Word):
    """What a pseudonym stands for; the word is the first part of it."""

    MAILBOX = "mailbox"
    ADDRESS = "address"
    DOMAIN = "domain"
    LOGIN = "login"
    USER = "user"
    HOST = "host"
    DEVICE = "device"
    NETWORK = "network"
    TENANT = "tenant"
    APP = "app"
    ID = "id"
    NAME = "name"


class Pseudonyms:
    """Gives pseudonyms, in the order in which it is asked for them, and replaces what it knows in texts."""

    def __init__(self) -> None:
        self._names: Dict[str, str] = {}  # by the name in lower case
        self._counts: "Counter[Kind]" = Counter()
        self._secrets: Set[str] = set()
        self._paths: Set[str] = set()
        self._networks: Dict[str, Network] = {}  # by the pseudonym, with its length
        self._devices: Dict[str, "ipaddress.IPv4Address | ipaddress.IPv6Address"] = {}
        self._hidden: Optional[Pattern[str]] = None  # finds the secrets; made anew when there are more of them
        self._forms: Optional[Pattern[str]] = None

    # -- what is known ----------------------------------------------------

    def hide(self, secret: str) -> None:
        """Leave this out wherever it is.  Words of the program's own are not looked for: nobody recognises them."""
        secret = secret.strip()
        if len(secret) >= _SHORTEST and not vocabulary.is_known(secret):
            self._secrets.add(secret)
            self._hidden = None

    def name(self, kind: Kind, value: str) -> str:
        """The pseudonym of a name: the one it has already, or a new one of this kind."""
        key = value.strip().lower()
        if key not in self._names:
            self._counts[kind] += 1
            self._add(key, f"{kind}-{self._counts[kind]}")
            for part in key.split():  # of a name with blanks each word is one
                self._names.setdefault(part, self._names[key])
        return self._names[key]

    def mailbox(self, address: str) -> str:
        """That of an address in the config; the name before the @ alone stands for it too."""
        local, at, domain = address.lower().rpartition("@")
        if not at or local == "*" or address.lower() in self._names:
            return self.address(address)
        first = self.name(Kind.MAILBOX, address)
        self._add(address.lower(), f"{first}@{self.domain(domain)}")
        self._names.setdefault(local, first)
        return self._names[address.lower()]

    def address(self, address: str) -> str:
        """That of any address; "*@domain" is a whole domain."""
        key = address.strip().lower()
        local, at, domain = key.rpartition("@")
        if not at:
            return self.name(Kind.ADDRESS, key)
        if local == "*":
            return f"*@{self.domain(domain)}"
        if key not in self._names:
            self._add(key, f"{self.name(Kind.ADDRESS, key)}@{self.domain(domain)}")
        return self._names[key]

    def domain(self, domain: str) -> str:
        """That of a domain, for which each longer part of it stands, too: contoso of contoso.example."""
        domain = domain.strip(".").lower()
        if domain in ("*", "localhost", "") or forms.OWN.fullmatch(domain):
            return domain
        if domain.startswith("["):
            return self.addresses_in(domain)
        pseudonym = self.name(Kind.DOMAIN, domain)
        for label in domain.split(".")[:-1]:
            self._names.setdefault(label, pseudonym)
        return pseudonym

    def host(self, host: str) -> str:
        """That of a host, or a file's name; hosts and files of everybody's stay."""
        key = host.strip(".").lower()
        first, ending = key.partition(".")[0], key.rpartition(".")[2]
        if key in self._names:
            return self._names[key]
        if forms.is_ip(key):
            return self.ip(key)
        if (
            forms.is_harmless(key)
            or key in vocabulary.HOSTS
            or key in vocabulary.PATHS
            or key in vocabulary.OPTION_PATHS
        ):
            return host
        if first in vocabulary.MODULES:
            return host
        if ending in vocabulary.ENDINGS:
            return f"{self.name(Kind.NAME, key[: -len(ending) - 1])}.{ending}"
        return self.name(Kind.HOST, key)

    def path(self, path: str) -> str:
        """A path with pseudonyms for those parts that others do not have."""
        if re.search(r"\s", path) and path not in self._paths:  # others are found by their form
            self._paths.add(path)
            self._forms = None
        return "".join(part if re.fullmatch(r"[\\/]*|[A-Za-z]:", part) else self._part(part) for part in _split(path))

    def ip(self, text: str) -> str:
        """That of an IP address; loopback and "all addresses" stay."""
        address = ipaddress.ip_address(text.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        address = mapped or address
        if address.is_loopback or address.is_unspecified:
            return text
        pseudonym = self.name(Kind.DEVICE, str(address))
        self._devices[pseudonym] = address
        return pseudonym

    def network(self, network: Network) -> str:
        """That of a network, with its length; loopback and "all addresses" stay."""
        if network.num_addresses == 1:
            return self.ip(str(network.network_address))
        if network.is_loopback or network.prefixlen == 0:
            return str(network)
        key = str(network)
        if key not in self._names:
            self._add(key, f"{self.name(Kind.NETWORK, key)}/{network.prefixlen}")
            self._networks[self._names[key]] = network
        return self._names[key]

    def legend(self) -> List[str]:
        """What may be said of devices: which kind of address, and in which of the networks of the config."""
        lines = []
        for pseudonym, address in self._devices.items():
            inside = [name for name, network in self._networks.items() if address in network]
            kind = "private" if address.is_private else "public"
            lines.append(f"{pseudonym}: {kind} IPv{address.version}" + "".join(f", in {name}" for name in inside))
        return lines

    # -- texts ------------------------------------------------------------

    def scrub(self, text: str) -> str:
        """The text without secrets and names."""
        if self._hidden is None:
            self._hidden = re.compile(forms.any_of(self._spelled_secrets()), re.IGNORECASE)
        text = self._hidden.sub(SECRET, text)
        if self._forms is None:
            names = (name for name in self._names if len(name) >= _SHORTEST and not vocabulary.is_known(name))
            self._forms = forms.compiled(map(forms.spelled, names), map(forms.spelled, self._paths))
        found = self._forms
        text = found.sub(self._replaced, text)
        self._forms = found  # what was found by its form is found again: a new pattern takes a moment to make
        return text

    def scrub_whole(self, text: str) -> str:
        """`scrub` at the end: without the names that became known on the way, too."""
        self._forms = None
        return self.scrub(text)

    def scrub_foreign(self, text: str) -> str:
        """`scrub` for a text that came from outside, or holds such: what it quotes may be anything, and goes too."""
        return forms.QUOTED.sub(self._quoted, self.scrub(text))

    def scrub_all(self, value: Any) -> Any:
        """`scrub_foreign` for all texts in a value of JSON, the keys too."""
        if isinstance(value, str):
            return self.scrub_foreign(value)
        if isinstance(value, dict):
            return {self.scrub_foreign(key): self.scrub_all(item) for key, item in value.items()}
        return [self.scrub_all(item) for item in value] if isinstance(value, list) else value

    def addresses_in(self, text: str) -> str:
        """`[192.0.2.1]` with a pseudonym in it."""
        inner = text.strip("[]")
        inner = inner[5:] if inner.startswith("ipv6:") else inner
        return f"[{self.ip(inner)}]" if forms.is_ip(inner) else f"[{self.name(Kind.HOST, inner)}]"

    # -- how --------------------------------------------------------------

    def _add(self, key: str, pseudonym: str) -> None:
        self._names[key] = pseudonym
        self._forms = None

    def _spelled_secrets(self) -> Iterator[str]:
        for secret in sorted(self._secrets):
            spelled = forms.spelled(secret, encoded=True)
            yield spelled if len(secret) >= _ANYWHERE else forms.word(spelled)

    def _part(self, part: str) -> str:
        key = part.lower()
        if key in vocabulary.PATHS or forms.is_harmless(part):
            return part
        stem, dot, ending = part.rpartition(".")
        if key in self._names or not dot or ending.lower() not in vocabulary.ENDINGS:
            return self.name(Kind.NAME, part)
        return f"{self.name(Kind.NAME, stem)}.{ending}"

    def _replaced(self, match: Match[str]) -> str:
        text, kind = match.group(), str(match.lastgroup)
        if kind == "own":
            return text
        if kind in forms.MARKS:
            return forms.MARKS[kind]
        return str(getattr(self, f"_{kind}")(text))

    def _kept(self, text: str) -> str:
        """A request-id, unless an id of the config stands there."""
        guid = text.rpartition(" ")[2].rpartition("=")[2]
        found = self._names.get(guid.lower(), "")
        return text.replace(guid, found) if found.startswith((Kind.TENANT, Kind.APP)) else text

    def _url(self, text: str) -> str:
        text, tail = _without_tail(text)
        scheme, _, rest = text.partition("://")
        place, slash, path = rest.partition("/")
        place = place.rpartition("@")[2]
        host, colon, port = place.rpartition(":")
        if not port.isdigit():
            host, colon, port = place, "", ""
        host = self.addresses_in(host) if host.startswith("[") else self.host(urllib.parse.unquote(host))
        return f"{scheme}://{host}{colon}{port}{slash}{'...' if path else ''}{tail}"

    def _address(self, text: str) -> str:
        local, domain = forms.AT.split(text, maxsplit=1)
        before, equals, last = local.rpartition("=")
        address = f"{last}@{domain}"
        if equals and (before in _LABELS or forms.OWN.fullmatch(address)):
            return f"{self.scrub(before)}={self.scrub(address)}"
        return self.address(f"{urllib.parse.unquote(local)}@{domain}")

    def _path(self, text: str) -> str:
        text, tail = _without_tail(text)
        return self.path(text) + tail

    def _names_of(self, text: str) -> str:
        for meant in (text, urllib.parse.unquote(text), urllib.parse.unquote_plus(text), _unescaped(text)):
            found = self._names.get(" ".join(unicodedata.normalize("NFC", meant).lower().split()))
            if found:
                return found
        return self.name(Kind.NAME, text)

    def _guid(self, text: str) -> str:
        return self.name(Kind.ID, text)

    def _ip(self, text: str) -> str:
        place, slash, bits = text.partition("/")
        if re.fullmatch(r"(?:\d{1,3}-){3}\d{1,3}", place):
            place = place.replace("-", ".")
        if forms.MAC.fullmatch(place):
            return self.name(Kind.DEVICE, place.replace("-", ":")) + slash + bits
        if not forms.is_ip(place.partition("%")[0]):
            if ":" in place:
                return text  # a time of day
            place = ".".join(str(int(part)) for part in place.split("."))  # 192.168.010.007
            if not forms.is_ip(place):
                return self.name(Kind.NAME, place)
            text = place + slash + bits
        if slash:
            try:
                return self.network(ipaddress.ip_network(text, strict=False))
            except ValueError:
                return self.ip(place) + slash + bits
        return self.ip(place)

    def _host(self, text: str) -> str:
        return self.host(text)

    def _quoted(self, match: Match[str]) -> str:
        inner = match.group(1) if match.group(1) is not None else match.group(2)
        mark = match.group()[0]
        return match.group() if all(map(_is_ours, forms.words(inner))) else f"{mark}<text>{mark}"


def _is_ours(word: str) -> bool:
    """Whether there is nothing of anybody's in a word that was scrubbed; it may be a path."""
    parts = re.split(r"[\\/]", word)
    return all(
        forms.is_harmless(part) or vocabulary.is_known(part) or part.lower() in vocabulary.PATHS for part in parts
    )


def _split(path: str) -> List[str]:
    return re.split(r"([\\/]+|(?<![^\\/])[A-Za-z]:)", path)


def _without_tail(text: str) -> "tuple[str, str]":
    """A word, and the punctuation of the sentence behind it."""
    word = text.rstrip(".,;:!?)]}")
    return word, text[len(word) :]


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text
