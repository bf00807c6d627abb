"""Putting answers into a config: only what changed, so that all else stays as somebody wrote it."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence

from ...errors import UsageError
from ...system.choices import Service, TlsMode
from ...system.networks import Network
from . import spelling
from .answers import Answers
from .spelling import Door

Document = Dict[str, object]

ZEROS = "00000000-0000-0000-0000-000000000000"

_LOOPBACK = ("127.0.0.0/8", "::1/128")

# Which keys hold the first plain port and the first with TLS from the first octet.
_PORT_KEYS = {
    Service.SMTP: ("smtp_port", "smtps_port"),
    Service.POP3: ("pop3_port", "pop3s_port"),
}


# As the sample has them.
_SAMPLE_USER, _SAMPLE_MAILBOX = "relay@contoso.com", "scanner@contoso.com"


def drop_sample(document: Document) -> None:
    """Empty the places of the sample's account and mailbox; what somebody has typed stays."""
    mailboxes = document.get("mailboxes")
    if isinstance(mailboxes, list):
        mailboxes[:] = [one for one in mailboxes if not _is_sample(one)]
        if mailboxes:
            return
        document["mailboxes"] = None
    if document.get("user") == _SAMPLE_USER:
        document["user"] = None


def _is_sample(mailbox: object) -> bool:
    if not isinstance(mailbox, dict):
        return False
    password = mailbox.get("password")
    if password is None:
        return mailbox.get("username") == _SAMPLE_MAILBOX and not mailbox.get("logins")
    return "hash-password" in str(password)


def amend(document: Document, present: Optional[Answers], answers: Answers, hashes: Mapping[str, str]) -> None:
    """Make the document say what was answered.  `hashes`: the passwords of the mailboxes that are added."""
    if not present or (present.app_only, present.account) != (answers.app_only, answers.account):
        _set_account(document, answers)
    add_mailboxes(document, [one for one in answers.mailboxes if one in hashes], hashes)
    if not present or present.devices != answers.devices:
        _place(document, present, answers)
    if not present or present.certificate != answers.certificate:
        _set_certificate(document, answers)
    if not present or present.plaintext != answers.plaintext:
        _set_networks(document, "plaintext_networks", answers.plaintext)
    if not present or present.relays != answers.relays:
        relays: Document = {spelling.spell_network(network): mailbox for network, mailbox in answers.relays}
        _set(document, "relay_networks", relays or None)
    set_ports(document, present, answers)


def _set_account(document: Document, answers: Answers) -> None:
    """Who signs in; what makes the application sign in is put in elsewhere."""
    if answers.account:
        _set(document, "user", answers.account)
        for key in ("client_secret", "client_secret_expires", "client_certificate"):
            document.pop(key, None)
    elif answers.app_only:
        _set(document, "user", None)


def _set(document: Document, key: str, value: object) -> None:
    """In its place; None removes the key."""
    if value is None:
        document.pop(key, None)
    else:
        document[key] = value


def _place(document: Document, present: Optional[Answers], answers: Answers) -> None:
    """Where to listen, and who may connect."""
    if not present or bool(present.devices) != bool(answers.devices):
        binds = answers.binds
        _set(document, "bind", binds[0] if len(binds) == 1 else binds)
    if not answers.devices or answers.devices == spelling.EVERYWHERE:
        _set(document, "allowed_networks", None)
    else:
        _set_networks(document, "allowed_networks", answers.devices)


def _set_networks(document: Document, key: str, networks: Sequence[Network]) -> None:
    """Networks beside this machine; none is the default."""
    spelled = [*_LOOPBACK, *map(spelling.spell_network, networks)]
    _set(document, key, spelled if networks else None)


def _set_certificate(document: Document, answers: Answers) -> None:
    section = document.get("tls")
    section = section if isinstance(section, dict) else {}
    _set(section, "tls_cert", answers.certificate.cert or None)
    _set(section, "tls_key", answers.certificate.key or None)
    if not answers.certificate.cert:
        _set(section, "required", None)
        _set(document, "tls_first", None)
    _set(document, "tls", section or None)


def add_mailboxes(document: Document, addresses: Sequence[str], hashes: Mapping[str, str]) -> None:
    """Append mailboxes, each with its password."""
    mailboxes = _list(document, "mailboxes")
    mailboxes += [{"username": address, "password": hashes[address]} for address in addresses]


def add_login(document: Document, mailbox: str, login: str, hashed: str) -> None:
    """Append a user name to a mailbox, which is there."""
    for one in _list(document, "mailboxes"):
        if isinstance(one, dict) and str(one.get("username")).lower() == mailbox:
            _list(one, "logins").append({"login": login, "password": hashed})
            return
    raise UsageError(f"{mailbox} is no mailbox of the config.")


def _list(document: Document, key: str) -> List[object]:
    """The list of a key; an empty one is put there if there is none."""
    found = document.get(key)
    if not isinstance(found, list):
        found = []
        document[key] = found
    return found


def set_ports(document: Document, present: Optional[Answers], answers: Answers) -> None:
    """The ports of both services, as far as they changed; listeners that stay keep what else is set for them."""
    for service in Service:
        doors = answers.smtp if service is Service.SMTP else answers.pop3
        before = (present.smtp if service is Service.SMTP else present.pop3) if present else None
        if before is None or set(doors) != set(before):
            _set_doors(document, service, doors)


def _set_doors(document: Document, service: Service, doors: Sequence[Door]) -> None:
    listeners = [one for one in _list(document, "listeners") if isinstance(one, dict)]
    wanted = [door.number for door in doors]
    kept = [one for one in listeners if _protocol(one) != service or one.get("port") in wanted]
    for door in doors:
        for one in kept:
            if _protocol(one) == service and one.get("port") == door.number:
                _set_implicit(one, door.implicit)
    open_already = [one.get("port") for one in kept if _protocol(one) == service]
    rest = [door for door in doors if door.number not in open_already]
    for key, implicit in zip(_PORT_KEYS[service], (False, True)):
        first = next((door for door in rest if door.implicit is implicit), None)
        _set(document, key, first.number if first else None)
        rest = [door for door in rest if door is not first]
    more: List[object] = [_listener(service, door) for door in rest]
    if service is Service.SMTP and "smtp_port" not in document and not kept and not more:
        # Without listeners, smtp_port would be opened by its default.
        document.pop("smtps_port")
        more = [_listener(service, door) for door in doors]
    _set(document, "listeners", [*kept, *more] or None)


def _set_implicit(listener: Document, implicit: bool) -> None:
    if (str(listener.get("tls")).lower() == TlsMode.IMPLICIT) is not implicit:
        _set(listener, "tls", str(TlsMode.IMPLICIT) if implicit else None)


def _protocol(listener: Document) -> str:
    return str(listener.get("protocol")).lower()


def _listener(service: Service, door: Door) -> Document:
    return {"protocol": str(service), "port": door.number, **({"tls": "implicit"} if door.implicit else {})}


def set_ids(document: Document, tenant_id: str, client_id: str) -> None:
    """The ids of the app registration."""
    document["tenant_id"] = tenant_id
    document["client_id"] = client_id
