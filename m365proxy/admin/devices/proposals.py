"""What to change so that a device that failed gets through: on the device first, else in the config, for it alone."""

from __future__ import annotations

import ipaddress
import re
import shlex
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ...config.sections import Config
from ...mime.addresses import domain_of, is_internet_address
from ...monitoring.troubles import LOGIN_TROUBLES, WORDS, Trouble
from ...server.tls import OLD_VERSIONS
from ...system.choices import Service, TlsMode
from ...system.events import Value
from ...system.networks import within
from ..init import freeports, spelling
from . import changes
from .changes import Change

Step = Mapping[str, Value]

# Where a listener of its own is put: the first of these ports that is free.
_PORTS = {Service.SMTP: range(2526, 2576), Service.POP3: range(1111, 1161)}

_MAY_NOT_SEND = re.compile(r"550 \S+ may not send as (.+?): set the device")
_NO_SUCH_DOMAIN = re.compile(r"550 Mail to (\S+) is not allowed here")


class Proposal(NamedTuple):
    """`change`: what to write into the config; None if there is nothing to write, or nothing that may be proposed.

    `after`: what is to be done on the device once it is written.
    """

    sentence: str
    change: Optional[Change] = None
    after: str = ""


class Surroundings(NamedTuple):
    """What is known beside the config.

    `gateways`: addresses that may hide other clients (NAT).  `mailbox_for`:
    which mailbox an address is to send from without a login; "" if nobody can
    say.  `call`: how a command of this program is typed here.  `ports`: those
    that were proposed for listeners, by what the listener is.
    """

    config: Config
    gateways: Sequence[str]
    mailbox_for: Callable[[str], str]
    call: Callable[[str], str]
    ports: Dict[str, int]


def proposals(client: str, troubles: Mapping[Trouble, Step], around: Surroundings) -> List[Proposal]:
    """One for each trouble of a client; `troubles` has the last step of each."""
    failed_to_log_in = any(trouble in LOGIN_TROUBLES for trouble in troubles)
    found = []
    for trouble, step in troubles.items():
        if trouble is Trouble.NO_LOGIN and failed_to_log_in:
            continue  # it has a login, and goes on after it was refused
        make = _MAKERS.get(trouble)
        proposal = make(client, step, around) if make else None
        found.append(_safe(proposal or Proposal(WORDS[trouble].advice), trouble, client, around))
    return found


def _safe(proposal: Proposal, trouble: Trouble, client: str, around: Surroundings) -> Proposal:
    """The proposal; without its change if that would let in more than one device of the administrator's."""
    if proposal.change is None or trouble not in (*_OPENING, *_WEAKENING):
        return proposal
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        why = "The proxy did not say its address, so nothing is proposed."
    else:
        if not (address.is_private or address.is_loopback or address.is_link_local):
            why = "It comes from the internet, so no change is proposed. If it is yours, change the config by hand."
        elif client in around.gateways and trouble in _OPENING:
            why = "It is a gateway of this machine, which may hide other clients (NAT), so no change is proposed."
        else:
            return proposal
    return Proposal(f"{proposal.sentence} {why}")


# Those whose change lets an address in.
_OPENING = (Trouble.NOT_ALLOWED, Trouble.NO_LOGIN, Trouble.LOGIN_WITHOUT_TLS, Trouble.LOGIN_ELSEWHERE)

# Those whose change is for all who may connect, or for later, and which any scanner on the internet brings about.
_WEAKENING = (Trouble.OLD_TLS, Trouble.BARE_LF, Trouble.TLS_AT_ONCE)


def _unknown_login(client: str, step: Step, around: Surroundings) -> Proposal:
    login = str(step.get("login", ""))
    known = [one.login for mailbox in around.config.mailboxes for one in mailbox.logins]
    known += [name for mailbox in around.config.mailboxes for name in (mailbox.username, mailbox.login) if name]
    command = f"`{around.call('init --add-login')} {shlex.quote(login)}`"
    return Proposal(
        f"There is no user name {_quoted(login)}.{spelling.nearest(login, known)} Correct it on the device, or add it "
        f"with a password of its own: {command}"
    )


def _wrong_password(client: str, step: Step, around: Surroundings) -> Proposal:
    return Proposal(
        f"Type the password of {_quoted(str(step.get('login', '')))} anew on the device. If nobody knows it: "
        f"`{around.call('hash-password')}` makes what to put into the config for a new one."
    )


def _login_elsewhere(client: str, step: Step, around: Surroundings) -> Proposal:
    login = str(step.get("login", ""))
    sentence = f"{_quoted(login)} may log in from its networks only. If the device has moved, add its address."
    return Proposal(sentence, changes.admitting(login, client))


def _no_login(client: str, step: Step, around: Surroundings) -> Proposal:
    sentence = "Set user name and password on the device. If it cannot log in, let it send without a login:"
    mailbox = around.mailbox_for(client)
    if mailbox:
        return Proposal(sentence, changes.relayed(client, mailbox))
    sending = [one.username for one in around.config.mailboxes if Service.SMTP in one.services]
    example = changes.relayed(client, sending[0])({}) if sending else ""
    return Proposal(f"{sentence} {example} (or another mailbox)")


def _login_without_tls(client: str, step: Step, around: Surroundings) -> Proposal:
    config = around.config
    doors = [socket for socket in config.sockets if socket.tls is not TlsMode.IMPLICIT]
    if within(client, config.plaintext_networks) or all(socket.required for socket in doors):
        return Proposal(WORDS[Trouble.TLS_REQUIRED].advice)
    secure = any(socket.tls is TlsMode.STARTTLS for socket in doors)
    first = "Set TLS (STARTTLS) on the device. If it has none, let" if secure else "Without a certificate, let"
    return Proposal(
        f"{first} this address log in without TLS; its password can then be read on the way:",
        changes.extended("plaintext_networks", [*map(spelling.spell_network, config.plaintext_networks)], client),
    )


def _tls_at_once(client: str, step: Step, around: Surroundings) -> Proposal:
    return Proposal(
        "Try once more: the address is remembered, and now it works. To have it in the config, too:",
        changes.extended("tls_first", [*map(spelling.spell_network, around.config.tls_first)], client),
    )


def _not_allowed(client: str, step: Step, around: Surroundings) -> Proposal:
    return Proposal(
        "If it is one of yours, let it connect:",
        changes.extended("allowed_networks", [*map(spelling.spell_network, around.config.allowed_networks)], client),
    )


def _old_tls(client: str, step: Step, around: Surroundings) -> Proposal:
    service = Service.POP3 if step.get("service") == Service.POP3.value else Service.SMTP
    tls = TlsMode.IMPLICIT if step.get("at_once") else TlsMode.STARTTLS
    for socket in around.config.sockets:
        if (socket.protocol, socket.tls) == (service, tls) and socket.min_version in OLD_VERSIONS:
            return Proposal(f"It supports only old TLS: set port {socket.port} on the device.")
    implicit: Dict[str, object] = {"tls": str(tls)} if tls is TlsMode.IMPLICIT else {}
    listener = {"protocol": str(service), **implicit, "min_version": "TLSv1"}
    return _port_of_its_own(
        around,
        service,
        listener,
        "Update its firmware. If it still supports only TLS 1.0 or 1.1, which is not secure, give it a port of its "
        "own. Everybody who may connect can use old TLS on that port, so keep it for such devices:",
    )


def _bare_lf(client: str, step: Step, around: Surroundings) -> Proposal:
    for socket in around.config.sockets:
        if socket.lf_only_clients:
            return Proposal(f"It ends its lines with a bare LF: set port {socket.port} on the device.")
    listener = {"protocol": str(Service.SMTP), "lf_only_clients": True}
    return _port_of_its_own(
        around, Service.SMTP, listener, "It ends its lines with a bare LF, so it needs a port of its own:"
    )


def _port_of_its_own(around: Surroundings, service: Service, listener: Mapping[str, object], sentence: str) -> Proposal:
    config = around.config
    taken = [*(socket.port for socket in config.sockets), *around.ports.values()]
    free = (port for port in _PORTS[service] if port not in taken and not freeports.trouble(config.bind, port))
    port = around.ports.get(str(listener)) or next(free, 0)
    if not port:
        return Proposal(f"{sentence} but no port from {_PORTS[service][0]} on is free.")
    around.ports[str(listener)] = port
    first, *rest = listener.items()
    whole = dict([first, ("port", port), *rest])
    return Proposal(sentence, changes.listening(whole, config.smtp_port), f"Set port {port} on the device.")


def _sender(client: str, step: Step, around: Surroundings) -> Optional[Proposal]:
    mailbox = str(step.get("mailbox", ""))
    found = _MAY_NOT_SEND.match(str(step.get("reply", "")))
    if not mailbox or found is None:
        return None
    address = found.group(1)
    begin = f"Set From on the device to {mailbox}"
    if is_internet_address(address) and not address.startswith("*@") and domain_of(address) == domain_of(mailbox):
        return Proposal(
            f"{begin}, or let the mailbox send as {address}, if Exchange lets it (Send As):",
            changes.sending_as(mailbox, address.lower()),
        )
    return Proposal(
        f"{begin}, or have From replaced; the original goes to Reply-To:",
        changes.rewriting(mailbox),
    )


def _domain(client: str, step: Step, around: Surroundings) -> Optional[Proposal]:
    found = _NO_SUCH_DOMAIN.match(str(step.get("reply", "")))
    if found is None:
        return None
    domain = found.group(1)
    return Proposal(
        f"If devices may send to {domain}:",
        changes.extended("allowed_domains", around.config.allowed_domains, domain),
    )


def _quoted(name: str) -> str:
    return f'"{name}"'


_Maker = Callable[[str, Step, Surroundings], Optional[Proposal]]

_MAKERS: Dict[Trouble, _Maker] = {
    Trouble.UNKNOWN_LOGIN: _unknown_login,
    Trouble.WRONG_PASSWORD: _wrong_password,
    Trouble.LOGIN_ELSEWHERE: _login_elsewhere,
    Trouble.NO_LOGIN: _no_login,
    Trouble.LOGIN_WITHOUT_TLS: _login_without_tls,
    Trouble.TLS_AT_ONCE: _tls_at_once,
    Trouble.NOT_ALLOWED: _not_allowed,
    Trouble.OLD_TLS: _old_tls,
    Trouble.BARE_LF: _bare_lf,
    Trouble.SENDER: _sender,
    Trouble.DOMAIN: _domain,
}
