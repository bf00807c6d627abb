"""What no single option shows: contradictions between options, and settings that are allowed but doubtful."""

from __future__ import annotations

import datetime
import ipaddress
import itertools
from types import SimpleNamespace
from typing import Callable, Iterator

from ..logins.passwords import is_hash
from ..mime.addresses import address_matches

Sound = Callable[[str], bool]

# Days before its end at which a client secret is warned about.
_SECRET_DAYS = 30

_OLD_TLS = ("TLSv1", "TLSv1.1")


def contradictions(config: SimpleNamespace, is_sound: Sound) -> list[str]:
    """Sentences on what does not fit together.

    `is_sound(path)` tells whether the values at a path could be read: what
    was complained about already gets no second complaint here.
    """
    return [
        *_account(config, is_sound),
        *_mailboxes(config, is_sound),
        *_logins(config),
        *_send_only(config),
        *_relay(config, is_sound),
        *_certificate(config, is_sound),
        *_ports(config, is_sound),
    ]


def _account(config: SimpleNamespace, is_sound: Sound) -> Iterator[str]:
    if config.client_secret and config.client_certificate:
        yield "client_secret and client_certificate are both set; keep one."
    by_itself = config.client_secret or config.client_certificate
    sound = all(map(is_sound, ("user", "client_secret", "client_certificate")))
    if not config.user and not by_itself and sound:
        yield "user is missing: the account that signs in (or set client_secret or client_certificate)."
    if config.client_secret_expires and not by_itself and sound:
        yield "client_secret_expires is set, but neither client_secret nor client_certificate is; remove it."


def _mailboxes(config: SimpleNamespace, is_sound: Sound) -> Iterator[str]:
    relayed = {address for _, address in config.relay_networks}
    for mailbox in config.mailboxes:
        key = mailbox.key
        if mailbox.login and not mailbox.password and is_sound(key + ".password"):
            yield f"{key}.login is set, but {key}.password is not; set both or none."
        elif (
            not mailbox.password
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
                    yield f"{login.key}.services has {service}, but {key}.services has not."


def _logins(config: SimpleNamespace) -> Iterator[str]:
    """User names are compared as users.py does: in any case."""
    seen: dict[str, str] = {}
    for mailbox in config.mailboxes:
        named = [(f"{mailbox.key}.username", mailbox.username), (f"{mailbox.key}.login", mailbox.login)]
        named += [(f"{login.key}.login", login.login) for login in mailbox.logins]
        for key, name in named:
            if name is None:
                continue
            first = seen.setdefault(name.casefold(), key)
            if first != key:
                yield f"{key} is the same user name as {first}; every user name may stand there once."


def _send_only(config: SimpleNamespace) -> Iterator[str]:
    if config.permissions != "send":
        return
    for key in dict.fromkeys(listener.key for listener in config.listeners if listener.protocol == "pop3"):
        yield f'{key} is for POP3, but permissions is "send", which cannot read mail; remove it or set "full".'
    for mailbox in config.mailboxes:
        if mailbox.sent_items is not None:
            yield (
                f'{mailbox.key}.sent_items deletes mail, but permissions is "send", which cannot; remove it or '
                'set "full".'
            )


def _relay(config: SimpleNamespace, is_sound: Sound) -> Iterator[str]:
    mailboxes = {mailbox.username: mailbox for mailbox in config.mailboxes}
    for network, address in config.relay_networks:
        key = f'relay_networks["{network}"]'
        if address not in mailboxes:
            if is_sound("mailboxes"):
                yield f"{key} names {address}, which is the username of no mailbox."
        elif "smtp" not in mailboxes[address].services:
            yield f'{key} names {address}, whose services do not have "smtp".'


def _certificate(config: SimpleNamespace, is_sound: Sound) -> Iterator[str]:
    cert, key = config.tls.tls_cert, config.tls.tls_key
    if not is_sound("tls.tls_cert") or not is_sound("tls.tls_key"):
        return
    if cert == "auto" and key:
        yield 'tls.tls_key is set, but tls.tls_cert is "auto", which makes a key of its own; remove one.'
    elif key and not cert:
        yield "tls.tls_key is set, but tls.tls_cert is not; set both or none."
    elif cert and cert != "auto" and not key:
        yield "tls.tls_cert is set, but tls.tls_key is not; set both or none."
    wanting = []
    if not cert and not key:
        if config.tls.required:
            wanting.append("tls.required is true")
        if config.tls_first:
            wanting.append("tls_first is set")
        wanting += [f"{listener.key} wants TLS" for listener in config.listeners if listener.tls != "none"]
    for want in dict.fromkeys(wanting):
        yield f'{want}, but there is no certificate; set tls.tls_cert ("auto" makes a self-signed one).'
    for listener_key in dict.fromkeys(
        listener.key
        for listener in config.listeners
        if listener.required and listener.tls == "none" and listener.key.startswith("listeners")
    ):
        yield f'{listener_key}.required is true, but it has no TLS; set its tls to "starttls" or "implicit".'


def _ports(config: SimpleNamespace, is_sound: Sound) -> Iterator[str]:
    for one, other in itertools.combinations(config.listeners, 2):
        if one.port == other.port != 0 and _overlap(one.address, other.address):
            yield (
                f"{one.key} and {other.key} both want port {one.port} on {_shared(one.address, other.address)}; "
                "change one."
            )
    for listener in config.listeners:
        if config.status_port and listener.port == config.status_port:
            yield f"status_port and {listener.key} both want port {listener.port}; change one."
    if config.status_password and config.status_port is None and is_sound("status_port"):
        yield "status_password is set, but status_port is not; set both or none."


def _overlap(one: str, other: str) -> bool:
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    return first.version == second.version and (first == second or first.is_unspecified or second.is_unspecified)


def _shared(one: str, other: str) -> str:
    return other if ipaddress.ip_address(one).is_unspecified else one


def doubts(config: SimpleNamespace) -> list[str]:
    """Warnings on a configuration without contradictions."""
    return [
        *_plain_passwords(config),
        *_old_tls(config),
        *_without_tls(config),
        *_wide_relays(config),
        *_cloud(config),
        *secret_ends(config),
        *_not_yet(config),
    ]


def secret_ends(config: SimpleNamespace) -> Iterator[str]:
    """A warning while the app registration's secret or certificate is about to end."""
    end = config.client_secret_expires
    if end and (end - datetime.date.today()).days < _SECRET_DAYS:
        yield (
            f"client_secret_expires: the client secret or certificate ends on {end}. Make a new one in Entra and "
            "put it into the config before that day."
        )


def _not_yet(config: SimpleNamespace) -> Iterator[str]:
    """Options of the contract that nothing uses in this version; saying nothing would be a promise."""
    set_ones = {
        "status_port": config.status_port,
        "logging.events": config.logging.events,
        "queue.dedupe_minutes": config.queue.dedupe_minutes,
    }
    for path, value in set_ones.items():
        if value:
            yield f"{path} is set, but has no effect in this version."


def plain_passwords(config: SimpleNamespace) -> list[str]:
    """The keys of the passwords that are not hashed."""
    entries = [entry for mailbox in config.mailboxes for entry in (mailbox, *mailbox.logins)]
    return [f"{entry.key}.password" for entry in entries if entry.password and not is_hash(entry.password)]


def _plain_passwords(config: SimpleNamespace) -> Iterator[str]:
    plain = plain_passwords(config)
    if plain:
        others = f" (and {len(plain) - 1} more)" if len(plain) > 1 else ""
        yield f"{plain[0]}{others} is plain text; `m365proxy hash-password` prints what to put there instead."


def _old_tls(config: SimpleNamespace) -> Iterator[str]:
    keys = [] if config.tls.min_version not in _OLD_TLS else ["tls"]
    keys += [
        listener.key
        for listener in config.listeners
        if listener.min_version in _OLD_TLS and listener.min_version != config.tls.min_version
    ]
    for key in dict.fromkeys(keys):
        yield (
            f"{key}.min_version is below TLSv1.2: such connections can be read and changed on the way; keep it to "
            "a listener of its own for the devices that need it."
        )


def _without_tls(config: SimpleNamespace) -> Iterator[str]:
    """Listeners devices reach, on which a sign-in can be read on the way, or none is possible at all."""
    outside = [network for network in config.plaintext_networks if not network.is_loopback]
    seen = set()
    for listener in config.listeners:
        if listener.tls != "none" or listener.key in seen or ipaddress.ip_address(listener.address).is_loopback:
            continue
        seen.add(listener.key)
        if outside:
            yield (
                f"{listener.key} has no TLS, so passwords from {outside[0]} can be read on the way; set "
                'tls.tls_cert ("auto" makes a self-signed one).'
            )
        elif listener.protocol == "pop3" or not config.relay_networks:
            yield (
                f"{listener.key} has no TLS, and plaintext_networks has only this machine, so no device can sign in "
                'there; set tls.tls_cert ("auto" makes a self-signed one), or add the devices to '
                "plaintext_networks."
            )


def _wide_relays(config: SimpleNamespace) -> Iterator[str]:
    for network, address in config.relay_networks:
        if network.prefixlen < (8 if network.version == 4 else 32):
            yield (
                f'relay_networks["{network}"] is very wide: everybody in it can send as {address} without a '
                "password; name the devices' own networks."
            )


def _cloud(config: SimpleNamespace) -> Iterator[str]:
    for mailbox in config.mailboxes:
        if mailbox.pop3_delete == "permanent" and config.cloud != "global":
            yield (
                f'{mailbox.key}.pop3_delete is "permanent", which this cloud does not offer; mail goes to the '
                "trash there."
            )
