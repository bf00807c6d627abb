"""What concerns several options: contradictions, and settings that are allowed but doubtful."""

from __future__ import annotations

import datetime
import functools
import ipaddress
import itertools
from types import SimpleNamespace
from typing import Callable, Dict, Iterator, List, Union

from ..logins.passwords import is_hash
from ..mime.addresses import address_matches
from ..system.choices import Cloud, DeletePolicy, Permissions, Service, TlsMode
from .options import OPTIONS
from .sections import Config, LoginConfig, MailboxConfig

Sound = Callable[[str], bool]

# Days before its end at which a client secret is warned about.
_SECRET_DAYS = 30

_OLD_TLS = ("TLSv1", "TLSv1.1")


def contradictions(read: SimpleNamespace, is_sound: Sound) -> List[str]:
    """Sentences on what does not fit together.

    `read` is the configuration as read so far, perhaps with mistakes: a value
    that could not be read is its default, or None.  `is_sound(path)`: no
    mistake was found there.  What has got a sentence already gets no second
    one here.
    """
    return [
        *_account(read, is_sound),
        *_together(read, is_sound),
        *_proxy(read, is_sound),
        *_mailboxes(read, is_sound),
        *_logins(read),
        *_send_only(read),
        *_relay(read, is_sound),
        *_certificate(read, is_sound),
        *_ports(read),
    ]


def _together(read: SimpleNamespace, is_sound: Sound) -> Iterator[str]:
    """What the columns `excludes` and `needs` of the option table say."""
    for option in OPTIONS:
        if not option.excludes and not option.needs:
            continue
        for section in _sections(read, option.section):
            if getattr(section, option.name) is not None:
                place = section.key and section.key + "."
                if option.excludes and getattr(section, option.excludes) is not None:
                    yield f"{place}{option.name} and {place}{option.excludes} are both set; keep one."
                needs = [place + name for name in option.needs]
                if all(getattr(section, name) is None for name in option.needs) and all(map(is_sound, needs)):
                    yield from _alone(place + option.name, needs)


def _alone(path: str, needs: List[str]) -> Iterator[str]:
    """The option at `path` is set, but none of those it needs."""
    if len(needs) == 1:
        yield f"{path} is set, but {needs[0]} is not; set both or none."
    elif needs:
        yield f"{path} is set, but neither {' nor '.join(needs)} is; remove it."


def _sections(read: SimpleNamespace, path: str) -> List[SimpleNamespace]:
    """The sections of a path as far as they are there: one, or each of a list."""
    found = [read]
    for name in path.split(".") if path else ():
        values = [getattr(section, name.replace("[]", "")) for section in found]
        inner = itertools.chain.from_iterable(values) if name.endswith("[]") else values
        found = [section for section in inner if isinstance(section, SimpleNamespace)]
    return found


def _account(read: SimpleNamespace, is_sound: Sound) -> Iterator[str]:
    signs_in_itself = read.client_secret or read.client_certificate
    if not read.user and not signs_in_itself and all(map(is_sound, ("user", "client_secret", "client_certificate"))):
        yield "user is missing: the account that signs in (or set client_secret or client_certificate)."


def _proxy(read: SimpleNamespace, is_sound: Sound) -> Iterator[str]:
    proxy = read.https_proxy
    if isinstance(proxy, SimpleNamespace) and is_sound("https_proxy") and proxy.user is not None and "@" in proxy.url:
        yield "https_proxy holds a user name in its url and in user; keep one."


def _mailboxes(read: SimpleNamespace, is_sound: Sound) -> Iterator[str]:
    relayed = {address for _, address in read.relay_networks}
    for mailbox in read.mailboxes:
        key = mailbox.key
        if (
            not mailbox.password
            and not mailbox.login
            and not mailbox.logins
            and mailbox.username not in relayed
            and is_sound(key)
            and is_sound("relay_networks")
        ):
            yield (
                f"{key} has neither password nor logins, and no relay_networks leads to it, so nobody can use it; "
                "set its password."
            )
        own = (mailbox.username or "", *mailbox.send_as)
        if mailbox.default_from and is_sound(key) and not address_matches(mailbox.default_from, own):
            yield f"{key}.default_from is {mailbox.default_from}, which is neither its username nor in its send_as."
        for login in mailbox.logins:
            for service in login.services or ():
                if service not in mailbox.services:
                    yield f"{login.key}.services has {service}, but {key}.services does not."


def _logins(read: SimpleNamespace) -> Iterator[str]:
    """User names are compared in any case, as at a login."""
    seen: Dict[str, str] = {}
    for mailbox in read.mailboxes:
        named = [(f"{mailbox.key}.username", mailbox.username), (f"{mailbox.key}.login", mailbox.login)]
        named += [(f"{login.key}.login", login.login) for login in mailbox.logins]
        for key, name in named:
            if name is None:
                continue
            first = seen.setdefault(name.casefold(), key)
            if first != key:
                yield f"{key} is the same user name as {first}; every user name must be unique."


def _send_only(read: SimpleNamespace) -> Iterator[str]:
    if read.permissions != Permissions.SEND:
        return
    for key in dict.fromkeys(socket.key for socket in read.sockets if socket.protocol == Service.POP3):
        yield f'{key} is for POP3, but permissions is "send", which cannot read mail; remove it or set "full".'
    for mailbox in read.mailboxes:
        if mailbox.sent_items is not None:
            yield (
                f'{mailbox.key}.sent_items deletes mail, but permissions is "send", which cannot; remove it or '
                'set "full".'
            )


def _relay(read: SimpleNamespace, is_sound: Sound) -> Iterator[str]:
    mailboxes = {mailbox.username: mailbox for mailbox in read.mailboxes}
    for network, address in read.relay_networks:
        key = f'relay_networks["{network}"]'
        if address not in mailboxes:
            if is_sound("mailboxes"):
                yield f"{key} names {address}, which is the username of no mailbox."
        elif Service.SMTP not in mailboxes[address].services:
            yield f'{key} names {address}, whose services do not have "smtp".'


def _certificate(read: SimpleNamespace, is_sound: Sound) -> Iterator[str]:
    cert, key = read.tls.tls_cert, read.tls.tls_key
    if not is_sound("tls.tls_cert") or not is_sound("tls.tls_key"):
        return
    if cert == "auto" and key:
        yield 'tls.tls_key is set, but tls.tls_cert is "auto", which makes a key of its own; remove one.'
    elif cert and cert != "auto" and not key:
        yield "tls.tls_cert is set, but tls.tls_key is not; set both or none."
    wanting = []
    if not cert and not key:
        if read.tls.required:
            wanting.append("tls.required is true")
        if read.tls_first:
            wanting.append("tls_first is set")
        if read.status_password and read.status_port is not None:
            wanting.append("status_password is set")
        wanting += [f"{socket.key} wants TLS" for socket in read.sockets if socket.tls != TlsMode.NONE]
    for want in dict.fromkeys(wanting):
        yield f'{want}, but there is no certificate; set tls.tls_cert ("auto" makes a self-signed one).'
    for key in dict.fromkeys(
        socket.key
        for socket in read.sockets
        if socket.required and socket.tls == TlsMode.NONE and socket.key.startswith("listeners")
    ):
        yield f'{key}.required is true, but it has no TLS; set its tls to "starttls" or "implicit".'


def _ports(read: SimpleNamespace) -> Iterator[str]:
    for one, other in itertools.combinations(read.sockets, 2):
        if one.port == other.port != 0 and _overlap(one.address, other.address):
            yield (
                f"{one.key} and {other.key} both want port {one.port} on {_shared(one.address, other.address)}; "
                "change one."
            )
    for key in dict.fromkeys(socket.key for socket in read.sockets if socket.port == read.status_port != 0):
        yield f"status_port and {key} both want port {read.status_port}; change one."


def _overlap(one: str, other: str) -> bool:
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    return first.version == second.version and (first == second or first.is_unspecified or second.is_unspecified)


def _shared(one: str, other: str) -> str:
    return other if ipaddress.ip_address(one).is_unspecified else one


def doubts(config: Config) -> List[str]:
    """Warnings on a configuration without contradictions."""
    return [
        *_plain_passwords(config),
        *_old_tls(config),
        *_without_tls(config),
        *_wide_relays(config),
        *_cloud(config),
        *_secret_ends(config),
        *_not_yet(config),
    ]


def _secret_ends(config: Config) -> Iterator[str]:
    """A warning while the app registration's secret or certificate is about to end."""
    end = config.client_secret_expires
    if end and (end - datetime.date.today()).days < _SECRET_DAYS:
        yield (
            f"client_secret_expires: the client secret or certificate ends on {end}. Make a new one in Entra and "
            "put it into the config before that day."
        )


def _not_yet(config: Config) -> Iterator[str]:
    """Options without effect in this version: to say nothing would be a promise."""
    for option in OPTIONS:
        if option.unused and functools.reduce(getattr, option.path.split("."), config):
            yield f"{option.path} is set, but has no effect in this version."


def plain_passwords(config: Config) -> List[str]:
    """The keys of the passwords that are not hashed."""
    entries: List[Union[MailboxConfig, LoginConfig]] = []
    for mailbox in config.mailboxes:
        entries += [mailbox, *mailbox.logins]
    found = [f"{entry.key}.password" for entry in entries if entry.password and not is_hash(entry.password)]
    if config.status_password and not is_hash(config.status_password):
        found.append("status_password")
    return found


def _plain_passwords(config: Config) -> Iterator[str]:
    plain = plain_passwords(config)
    if plain:
        others = f" (and {len(plain) - 1} more)" if len(plain) > 1 else ""
        yield f"{plain[0]}{others} is plain text; `m365proxy hash-password` prints what to put there instead."


def _old_tls(config: Config) -> Iterator[str]:
    keys = [] if config.tls.min_version not in _OLD_TLS else ["tls"]
    keys += [
        socket.key
        for socket in config.sockets
        if socket.min_version in _OLD_TLS and socket.min_version != config.tls.min_version
    ]
    for key in dict.fromkeys(keys):
        yield (
            f"{key}.min_version is below TLSv1.2: such connections can be read and changed on the way; keep it to "
            "a listener of its own for the devices that need it."
        )


def _without_tls(config: Config) -> Iterator[str]:
    """Listeners for devices on which a password can be read on the way, or on which no login is possible at all."""
    outside = [network for network in config.plaintext_networks if not network.is_loopback]
    seen = set()
    for socket in config.sockets:
        if socket.tls != TlsMode.NONE or socket.key in seen or ipaddress.ip_address(socket.address).is_loopback:
            continue
        seen.add(socket.key)
        if outside:
            yield (
                f"{socket.key} has no TLS, so passwords from {outside[0]} can be read on the way; set "
                'tls.tls_cert ("auto" makes a self-signed one).'
            )
        elif socket.protocol == Service.POP3 or not config.relay_networks:
            yield (
                f"{socket.key} has no TLS, and plaintext_networks has only this machine, so no device can log in "
                'there; set tls.tls_cert ("auto" makes a self-signed one), or add the devices to '
                "plaintext_networks."
            )


def _wide_relays(config: Config) -> Iterator[str]:
    for network, address in config.relay_networks:
        if network.prefixlen < (8 if network.version == 4 else 32):
            yield (
                f'relay_networks["{network}"] is very wide: every client in it can send as {address} without a '
                "password; name the devices' own networks."
            )


def _cloud(config: Config) -> Iterator[str]:
    for mailbox in config.mailboxes:
        if mailbox.pop3_delete.policy is DeletePolicy.PERMANENT and config.cloud != Cloud.GLOBAL:
            yield (
                f'{mailbox.key}.pop3_delete is "permanent", which this cloud does not offer; mail goes to the '
                "trash there."
            )
