"""The device card: what to type into a device, for printing and for whoever stands in front of it."""

from __future__ import annotations

import difflib
import os
import sys
import textwrap
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

from ...config.sections import Config, MailboxConfig
from ...errors import UsageError
from ...system import log, machine
from ...system.choices import Permissions, Service, TlsMode
from ...system.networks import Network, within
from ..terminal import Terminal
from . import entrances
from .devicehints import Facts, hints
from .entrances import Entrance

# Columns of a card: fits on A5 and on a narrow terminal.
_WIDEST = 60

# Columns of the labels; below twice as many, values get a line of their own.
_LABEL = 16

_TLS_WORDS = {
    TlsMode.IMPLICIT: "SSL/TLS (not STARTTLS)",
    TlsMode.STARTTLS: "STARTTLS",
    TlsMode.NONE: "none",
}

# User names an unknown one is answered with.
_MOST_NAMES = 10


class _Login(NamedTuple):
    """A user name; "" as `name`: devices in `networks` that send without one."""

    name: str
    mailbox: MailboxConfig
    services: Tuple[Service, ...]
    networks: Tuple[Network, ...]


def show(config: Config, login: str) -> None:
    """Print a card; UsageError if there is no such login."""
    print(text(config, login, Terminal(sys.stdout, os.environ)), end="")


def text(config: Config, login: str, terminal: Terminal, password: str = "") -> str:
    """The card of a login in plain text, lines of at most 60 columns.

    `login`: a user name, or the address of a mailbox that devices may send
    from without one (relay_networks).  `password` is shown if it is given;
    else there is a line to write it on.  UsageError names the nearest login.
    """
    return "".join(line.rstrip() + "\n" for line in _Card(config, _found(config, login), terminal, password).lines())


class _Card:
    """One card.  A word, such as an address, is never broken, even if it is wider than the card."""

    def __init__(self, config: Config, login: _Login, terminal: Terminal, password: str):
        self._config = config
        self._login = login
        self._width = min(_WIDEST, terminal.width)
        self._password = password
        self._networks = entrances.device_networks(config, login.networks)
        self._smtp = self._ways(Service.SMTP)
        self._pop3 = self._ways(Service.POP3) if login.name and config.permissions != Permissions.SEND else []
        self._certificate = entrances.certificate(config)
        self._servers: Dict[Tuple[object, ...], List[str]] = {}
        where = entrances.plain_networks(config, self._networks) if login.name else ()
        self._plain_from = f" (only from {', '.join(map(_shown, where))})" if where else ""

    def lines(self) -> Iterator[str]:
        title = "m365proxy: what to set in the device"
        yield from [*self._wrapped(title), "=" * min(len(title), self._width)]
        yield from self._row("Mailbox", self._login.mailbox.username)
        if self._smtp:
            yield from ["", "SENDING (SMTP)", *self._sending(self._smtp)]
        if self._pop3:
            yield from ["", "FETCHING (POP3)", *self._fetching(self._pop3)]
        if self._smtp:
            yield from ["", "IF IT DOES NOT WORK", *self._hints(self._smtp)]
        remarks = list(self._remarks())
        if remarks:
            yield from ["", "FOR THE ADMINISTRATOR"]
            for remark in remarks:
                yield from self._wrapped(remark, "- ")

    def _ways(self, service: Service) -> List[Entrance]:
        if service not in self._login.services:
            return []
        return entrances.entrances(self._config, service, self._networks, logs_in=bool(self._login.name))

    def _sending(self, ways: List[Entrance]) -> Iterator[str]:
        yield from self._server(ways[0])
        if self._login.name:
            relays = _relays(self._config, self._login.mailbox)
            unless = f" (not needed from {', '.join(map(_shown, relays))})" if relays else ""
            yield from self._row("Log in", f"yes: SMTP authentication by LOGIN, PLAIN or automatic{unless}")
            yield from self._credentials()
        else:
            yield from self._row("Log in", "no: no user name and no password")
        yield from self._row("From, Reply-To", self._senders())
        yield from self._row("Untick", ", ".join(self._untick(ways[0])))
        yield from self._row("Or instead", self._alternatives(ways))
        yield from self._row("Largest mail", f"{self._config.attachment_limit_mb:g} MB of attachments")
        if "*" not in self._config.allowed_domains:
            yield from self._row("Recipients", "only in " + ", ".join(self._config.allowed_domains))
        yield from self._row("Works from", ", ".join(map(_shown, self._networks)))

    def _fetching(self, ways: List[Entrance]) -> Iterator[str]:
        yield from self._server(ways[0])
        if self._smtp:
            yield from self._row("User name", self._login.name)
            yield from self._row("Password", "the same as for sending")
        else:
            yield from self._credentials()
        yield from self._row("Untick", ", ".join([*self._certificate_check(ways[0]), "APOP"]))
        yield from self._row("Or instead", self._alternatives(ways))
        if not self._smtp:
            yield from self._row("Works from", ", ".join(map(_shown, self._networks)))

    def _server(self, way: Entrance) -> Iterator[str]:
        key = way.addresses, way.tls != TlsMode.NONE
        if key not in self._servers:
            self._servers[key] = entrances.servers(way, self._networks, self._certificate)
        names = self._servers[key]
        yield from self._row("Server", names[0] if names else "the address of the machine m365proxy runs on")
        for name in names[1:]:
            yield from self._row("", "or " + name)
        yield from self._row("Port", str(way.port))
        where = self._plain_from if way.tls == TlsMode.NONE else ""
        yield from self._row("Encryption", _TLS_WORDS[way.tls] + where)

    def _credentials(self) -> Iterator[str]:
        yield from self._row("User name", self._login.name)
        blank = "_" * max(1, min(24, self._width - _LABEL))
        yield from self._row("Password", log.clean(self._password) or blank, verbatim=True)

    def _senders(self) -> str:
        mailbox = self._login.mailbox
        own = mailbox.default_from or mailbox.username
        if mailbox.rewrite_from:
            return f"{own} (any other is replaced by it)"
        others = [one.replace("*@", "any in ") for one in (mailbox.username, *mailbox.send_as) if one != own]
        return f"{own} (or {', '.join(others)})" if others else own

    def _untick(self, way: Entrance) -> List[str]:
        return [*self._certificate_check(way), "POP before SMTP", "CRAM-MD5", "NTLM", "Kerberos", "OAuth"]

    def _certificate_check(self, way: Entrance) -> List[str]:
        trusted = self._certificate is not None and not self._certificate.is_self_signed
        return [] if way.tls == TlsMode.NONE or trusted else ["check of the server's certificate"]

    def _alternatives(self, ways: List[Entrance]) -> str:
        """The other ports on which the same works, and whether it works without TLS; "" if there are none."""
        found = []
        for way in ways:
            if way.is_special or (way.is_local and not ways[0].is_local) or (self._login.name and not way.is_usable):
                continue
            if way is not ways[0] and way.tls != TlsMode.NONE:
                found.append(f"port {way.port} with {_TLS_WORDS[way.tls].partition(' (')[0]}")
            if way.without_tls and (way is not ways[0] or way.tls == TlsMode.STARTTLS):
                found.append(f"port {way.port} without encryption{self._plain_from}")
        return "; ".join(found)

    def _hints(self, ways: List[Entrance]) -> Iterator[str]:
        found = hints(
            Facts(
                login=self._login.name,
                sending=ways[0],
                old_tls=next((way for way in ways if way.is_special and not way.lf_only), None),
                bare_lf=next((way for way in ways if way.lf_only), None),
                starts_with_tls=bool(self._networks)
                and all(within(str(network[0]), self._config.tls_first) for network in self._networks),
                rewrites_from=self._login.mailbox.rewrite_from,
                is_self_signed=self._certificate is not None and self._certificate.is_self_signed,
            )
        )
        kinds = dict.fromkeys(kind for kind, _, _ in found)
        for kind in kinds:
            yield from self._wrapped(kind + ":")
            for one, symptom, advice in found:
                if one == kind:
                    yield from self._wrapped(f"{symptom}: {advice}", "- ")

    def _remarks(self) -> Iterator[str]:
        """What keeps the card from being true, or the device from reaching the server."""
        for best in (ways[0] for ways in (self._smtp, self._pop3) if ways):
            if best.is_local:
                yield (
                    f"Port {best.port} is for programs on this machine only. For devices, set `bind` to an address of "
                    'this machine, or to "0.0.0.0".'
                )
            elif self._login.name and not best.is_usable:
                yield (
                    f"Nobody can log in on port {best.port}: it has no TLS. Set `tls.tls_cert`, or add the device's "
                    "network to `plaintext_networks`."
                )
        if not self._smtp and not self._pop3:
            yield "No port is set that this login may use: set `smtp_port` or `pop3_port`."
        if self._config.proxy_protocol_from:
            yield "If devices connect through the load balancer of `proxy_protocol_from`, enter its address and port."
        if machine.is_container():
            yield (
                "This runs in a container: unless it uses the host's network, enter the host's address, and the ports "
                "that the host forwards."
            )

    def _row(self, label: str, value: str, verbatim: bool = False) -> Iterator[str]:
        """A label and its value, on lines of their own if the card is narrow; nothing if there is no value."""
        if not value:
            return
        narrow = self._width < 2 * _LABEL + 8
        indent = "  " if narrow else " " * _LABEL
        if narrow and label:
            yield label
        lines = [indent + value] if verbatim else self._wrapped(value, indent)
        for number, line in enumerate(lines):
            yield line if narrow or number or not label else f"{label:<{_LABEL}}{line[_LABEL:]}"

    def _wrapped(self, sentence: str, first: str = "") -> List[str]:
        return textwrap.wrap(
            sentence,
            max(self._width, len(first) + 1),
            initial_indent=first,
            subsequent_indent=" " * len(first),
            break_long_words=False,
            break_on_hyphens=False,
        )


def _found(config: Config, login: str) -> _Login:
    logins = list(_logins(config))
    wanted = login.strip().casefold()
    for one in logins:
        if wanted in ([one.name.casefold()] if one.name else [one.mailbox.username.casefold()]):
            return one
    names = [one.name or one.mailbox.username for one in logins]
    near = _nearest(wanted, names)
    advice = f" Did you mean {near}?" if near else ""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    listed = ", ".join(names[:_MOST_NAMES])
    raise UsageError(f"There is no login {log.quote(login, 60)} in {config.path}.{advice} Logins: {listed}{more}.")


def _nearest(wanted: str, names: Sequence[str]) -> str:
    """The name that begins with, or else is most like, what was typed in lower case; "" if none is."""
    spelled = {name.casefold(): name for name in names}
    begun = [name for name in spelled if wanted and name.startswith(wanted)]
    return next((spelled[name] for name in begun or difflib.get_close_matches(wanted, spelled, 1)), "")


def _logins(config: Config) -> Iterator[_Login]:
    """Every user name of the config, then the mailboxes that some devices send from without one."""
    for mailbox in config.mailboxes:
        if mailbox.password:
            for name in filter(None, (mailbox.username, mailbox.login)):
                yield _Login(name, mailbox, mailbox.services, ())
        for entry in mailbox.logins:
            yield _Login(entry.login, mailbox, entry.services or mailbox.services, entry.networks)
    for mailbox in config.mailboxes:
        networks = _relays(config, mailbox)
        if networks:
            yield _Login("", mailbox, mailbox.services, networks)


def _relays(config: Config, mailbox: MailboxConfig) -> Tuple[Network, ...]:
    return tuple(network for network, address in config.relay_networks if address == mailbox.username)


def _shown(network: Network) -> str:
    return str(network[0]) if network.num_addresses == 1 else str(network)
