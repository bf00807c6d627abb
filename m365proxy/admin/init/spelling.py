"""How an answer is typed: each kind read from text, and spelled as text for a default.

What is read raises UsageError with a sentence that says what would be right.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from typing import Iterable, List, NamedTuple, Sequence, Tuple

from ...config.types import ADDRESS, NETWORK, Mistake, Port, Tenant, Text, Type, shown
from ...errors import UsageError
from ...system.networks import Network

# Nothing at all, as people type it.
_NONE = ("", "none", "no", "n", "-")

HERE, ANY, NONE, AUTO = "here", "any", "none", "auto"

EVERYWHERE: Tuple[Network, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))

# Networks that are nobody's on the internet (RFC 1918, RFC 4193).
PRIVATE: Tuple[Network, ...] = tuple(
    ipaddress.ip_network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)

# Ports on which TLS begins with the first octet, by the registry of IANA.
_IMPLICIT = (465, 995)

_PORT, _TENANT, _LOGIN = Port(), Tenant(), Text()


class Door(NamedTuple):
    """A port to open; `implicit`: TLS begins with the first octet."""

    number: int
    implicit: bool = False


class Certificate(NamedTuple):
    """What devices get to see: paths of PEM files, or ("auto", ""); ("", "") is no TLS."""

    cert: str = ""
    key: str = ""


def _fit(kind: Type, typed: str) -> object:
    try:
        return kind(typed)
    except Mistake as mistake:
        raise UsageError(f"It {mistake}.") from None


def _words(typed: str) -> List[str]:
    words = [word for word in re.split(r"[\s,;]+", typed) if word]
    return [] if len(words) < 2 and "".join(words).lower() in _NONE else words


def tenant(typed: str) -> str:
    """A domain of the tenant or its ID, in lower case."""
    if "@" in typed:
        raise UsageError(f"{shown(typed)} is a mail address. Did you mean {shown(typed.rpartition('@')[2])}?")
    host = re.match(r"https?://([^/]+)", typed)
    if host:
        raise UsageError(f"{shown(typed)} is a web address. Did you mean {shown(host.group(1))}?")
    _refuse_umlauts("", typed)
    return str(_fit(_TENANT, typed))


def address(typed: str, domains: Sequence[str] = ()) -> str:
    """A mail address in lower case; `domains` are those to propose for one that has none."""
    if typed and "@" not in typed and domains and re.fullmatch(r"[\w.-]+", typed):
        raise UsageError(f"The domain is missing. Did you mean {typed.lower()}@{domains[0]}?")
    local, at, domain = typed.rpartition("@")
    _refuse_umlauts(local + at, domain)
    return str(_fit(ADDRESS, typed))


def _refuse_umlauts(before: str, domain: str) -> None:
    """UsageError with the other spelling of a domain that is not ASCII (RFC 3490), which is the one the tenant has."""
    if domain.isascii() or not domain.isprintable():
        return
    try:
        other = domain.encode("idna").decode()
    except UnicodeError:
        return
    raise UsageError(f"The tenant spells {domain} in another way. Did you mean {before}{other}?")


def addresses(typed: str, domains: Sequence[str] = ()) -> Tuple[str, ...]:
    """At least one mail address."""
    found = tuple(dict.fromkeys(address(word, domains) for word in _words(typed)))
    if not found:
        raise UsageError("At least one is needed: nothing can be sent without a mailbox.")
    return found


def chosen(typed: str, among: Sequence[str]) -> Tuple[str, ...]:
    """Some of the addresses `among`, or all or none of them."""
    if typed.strip().lower() in ("all", "yes", "y"):
        return tuple(among)
    found = tuple(dict.fromkeys(word.lower() for word in _words(typed)))
    for one in found:
        if one not in among:
            right = "`yes` or `no`" if len(among) == 1 else "addresses, `all` or `none`"
            raise UsageError(f"{shown(one)} is none of these mailboxes.{nearest(one, among)} Type {right}.")
    return found


def login(typed: str) -> str:
    """A user name for a device."""
    return str(_fit(_LOGIN, typed))


def word(typed: str, words: Sequence[str]) -> str:
    """One of a few words, its beginning is enough."""
    found = [one for one in words if typed and one.startswith(typed.lower())]
    if len(found) != 1:
        raise UsageError(f"Type {' or '.join(words)}.{nearest(typed.lower(), words)}")
    return found[0]


def networks(typed: str) -> Tuple[Network, ...]:
    """Networks and addresses; () for none."""
    return tuple(dict.fromkeys(_network(one) for one in _words(typed)))


def _network(typed: str) -> Network:
    found = _fit(NETWORK, typed)
    assert isinstance(found, (ipaddress.IPv4Network, ipaddress.IPv6Network))
    return found


def devices(typed: str) -> Tuple[Network, ...]:
    """Where the devices are: () is this machine."""
    if typed.lower() == HERE:
        return ()
    if typed.lower() == ANY:
        return EVERYWHERE
    found = networks(typed)
    if not found:
        raise UsageError(f"Type networks such as 192.168.1.0/24, `{ANY}`, or `{HERE}` for this machine only.")
    return () if all(network.is_loopback for network in found) else found


def doors(typed: str, has_tls: bool) -> Tuple[Door, ...]:
    """Ports: 25, 465 (TLS from the first octet), or 8465/tls for that on another port; 465/starttls if not there."""
    found = []
    for one in _words(typed):
        number, _, tls = one.lower().partition("/")
        if not number.isdecimal() or tls not in ("", "tls", "starttls"):
            raise UsageError(f"{shown(one)} is no port. Type numbers such as 25 or 587, or 8465/tls.")
        port = _fit(_PORT, int(number[:6]))  # type: ignore[arg-type]  # it takes what JSON has
        assert isinstance(port, int)
        implicit = tls == "tls" or (not tls and port in _IMPLICIT)
        if implicit and not has_tls:
            raise UsageError(f"Port {port} is for TLS from the first octet, but there is no certificate; leave it out.")
        found.append(Door(port, implicit))
    if len({door.number for door in found if door.number}) < len([door for door in found if door.number]):
        raise UsageError("A port is there twice; type each once.")
    return tuple(found)


def relays(typed: str, mailboxes: Sequence[str]) -> Tuple[Tuple[Network, str], ...]:
    """Networks, each with the mailbox its devices send as; without one, as the first of them."""
    found = {}
    for one in _words(typed):
        network, _, mailbox = one.partition("=")
        mailbox = address(mailbox) if mailbox else mailboxes[0]
        if mailbox not in mailboxes:
            raise UsageError(f"{mailbox} is none of the mailboxes.{nearest(mailbox, mailboxes)}")
        found[_network(network)] = mailbox
    return tuple(found.items())


def nearest(typed: str, among: Iterable[str]) -> str:
    """ " Did you mean ...?" or ""."""
    near = difflib.get_close_matches(typed, list(among), 1)
    return f" Did you mean {near[0]}?" if near else ""


def spell_networks(some: Iterable[Network], nothing: str = NONE) -> str:
    """As `networks` reads them; a single address without its /32."""
    return " ".join(spell_network(network) for network in some) or nothing


def spell_network(network: Network) -> str:
    """As the config has it."""
    return str(network.network_address) if network.num_addresses == 1 else str(network)


def spell_devices(some: Tuple[Network, ...]) -> str:
    return ANY if some == EVERYWHERE else spell_networks(some, HERE)


def spell_doors(some: Iterable[Door]) -> str:
    words = []
    for number, implicit in some:
        kind = "" if implicit == (number in _IMPLICIT) else "/tls" if implicit else "/starttls"
        words.append(f"{number}{kind}")
    return " ".join(words) or NONE


def spell_relays(some: Iterable[Tuple[Network, str]]) -> str:
    return " ".join(f"{spell_network(network)}={mailbox}" for network, mailbox in some) or NONE
