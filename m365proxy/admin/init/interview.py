"""The questions of `init`, in the order somebody thinks of them."""

from __future__ import annotations

import os
import shlex
from typing import Container, List, Optional, Sequence, Tuple

from ...errors import ConfigError, UsageError
from ...server import tls
from ...system.choices import Service
from ...system.networks import Network
from .. import packaged
from . import freeports, spelling
from .answers import Answers, proposed_networks
from .questions import Doubt, Question, Questions
from .spelling import Certificate, Door
from .tenantlookup import NoTenant, Tenants

# What there may be in a file of answers, and what it answers; the manual page has it too.
KEYS = {
    "tenant": "A domain of the tenant, or its directory (tenant) ID. Required, unless the config names it.",
    "sign_in": 'Who signs in to Microsoft: "account" (the default) or "application".',
    "account": "The account that signs in. Default: relay@ the tenant's domain.",
    "mailboxes": "Addresses. Default: scanner@ the domain of the account.",
    "new_mailboxes": 'Those of them that the tenant\'s script is to make: addresses, "all" (the default) or "none".',
    "devices": 'Networks of the devices; all others are refused. "here" is this machine only, "any" is everywhere. '
    "Default: this machine's own network.",
    "tls": '"auto" (the default) for a self-signed certificate, "none", or the path of a certificate (PEM).',
    "tls_key": "The path of its private key (PEM). Default: the one beside it that belongs to it.",
    "plaintext": "Networks from which devices may log in without TLS. Default: none; if tls is none, those of devices.",
    "relay": "Networks from which devices may send without a login: a list, or an object with the mailbox of each. "
    "Default: none.",
    "smtp_ports": 'Ports, such as [25, 587, 465]; "8465/tls" is TLS from the first octet. Default: free ones of these.',
    "pop3_ports": "Ports, such as [110, 995]. Default: none.",
    "mailbox": "With --add-login: the mailbox of the login. Default: the first.",
    "ids": "The last line that the tenant's script prints, if it has run already.",
}

_ACCOUNT, _APPLICATION = "account", "application"

# Where the key of a certificate usually lies, beside it.
_KEY_NAMES = ("privkey.pem", "key.pem")


class Interview:
    """Asks for what is not known.  Nothing is written before all is answered."""

    def __init__(
        self,
        questions: Questions,
        tenants: Tenants,
        present: Optional[Answers],
        our_ports: Container[int] = (),
        reads: bool = True,
    ):
        """`present`: the answers of the config that is there; they are the defaults.

        `our_ports`: those of the running program.  `reads`: whether the
        permissions are enough for POP3.
        """
        self._questions = questions
        self._tenants = tenants
        self._present = present
        self._our_ports = our_ports
        self._reads = reads

    def whole(self) -> Answers:
        """All of them."""
        ask = self._questions
        ask.heading("Microsoft 365")
        tenant = self.tenant()
        app_only = self._app_only()
        account = "" if app_only else self._account(tenant)
        mailboxes, new = self._mailboxes(tenant, account)
        ask.heading("Devices")
        devices = self._devices()
        certificate = self.certificate()
        plaintext = self.plaintext(devices, certificate)
        relays = self._relays(mailboxes)
        answers = Answers(
            tenant, app_only, account, mailboxes, new, devices, certificate, plaintext, relays, smtp=(), pop3=()
        )
        return self.ports(answers)

    def tenant(self) -> str:
        present = self._present
        default = (present.tenant or present.account.rpartition("@")[2] or None) if present else None
        text = "Your tenant: a domain of it, such as contoso.com, or its directory (tenant) ID."
        answer = self._questions.ask(Question("tenant", text, self._read_tenant, default))
        if self._tenants.unreachable:
            self._questions.note(f"Whether {answer} exists could not be checked: {self._tenants.unreachable}")
        return answer

    def _read_tenant(self, typed: str) -> str:
        name = spelling.tenant(typed)
        try:
            self._tenants.id_of(name)
        except NoTenant:
            raise UsageError(
                f"Microsoft knows no tenant {name}. Use the domain of your mail addresses, or NAME.onmicrosoft.com."
            ) from None
        return name

    def _app_only(self) -> bool:
        text = (
            "Who signs in to Microsoft: one `account`, once, with a code and a browser; or the `application` itself, "
            "with a certificate that is made here? Take account unless your policies forbid device codes."
        )
        default = _APPLICATION if self._present and self._present.app_only else _ACCOUNT
        question = Question("sign_in", text, lambda typed: spelling.word(typed, (_ACCOUNT, _APPLICATION)), default)
        return self._questions.ask(question) == _APPLICATION

    def _account(self, tenant: str) -> str:
        text = "The account that signs in: one licensed user, best one only for this. No shared mailbox can sign in."
        default = self._present.account if self._present else ""
        if not default and "." in tenant:
            default = f"relay@{tenant}"
        return self._questions.ask(
            Question(
                "account", text, lambda typed: self._own(spelling.address(typed, _domains(tenant)), tenant), default
            )
        )

    def _own(self, address: str, tenant: str, *others: str) -> str:
        doubt = self._tenants.doubt(address, tenant, [one for one in others if one])
        if doubt:
            raise Doubt(doubt, address)
        return address

    def _mailboxes(self, tenant: str, account: str) -> Tuple[Tuple[str, ...], "frozenset[str]"]:
        there = self._present.mailboxes if self._present else ()
        domain = account.rpartition("@")[2] or (tenant if "." in tenant else "")
        default = " ".join(there) or (f"scanner@{domain}" if domain else None)
        text = "The mailboxes that devices send from, and that old clients fetch: one address or more."

        def read(typed: str) -> Tuple[str, ...]:
            found = spelling.addresses(typed, [domain] if domain else [])
            doubts = [
                self._tenants.doubt(one, tenant, [account] if account else []) for one in found if one not in there
            ]
            if any(doubts):
                raise Doubt(" ".join(filter(None, doubts)), found)
            return found

        answered = self._questions.ask(Question("mailboxes", text, read, default))
        gone = [one for one in there if one not in answered]
        if gone:
            self._questions.note(f"To remove {', '.join(gone)}, edit the config; nothing is taken out here.")
        mailboxes = (*there, *(one for one in answered if one not in there))
        return mailboxes, self.new(tuple(one for one in mailboxes if one not in there), account)

    def new(self, added: Sequence[str], account: str) -> "frozenset[str]":
        """Which mailboxes the script is to make, those it was to make before included."""
        before = self._present.new if self._present else frozenset()
        candidates = [one for one in added if one != account]
        if not candidates:
            return before
        text = (
            f"Which of {', '.join(candidates)} do not exist yet? The script for your tenant makes them as shared "
            "mailboxes, which need no licence. `none` if all exist."
        )
        default = "all"
        if len(candidates) == 1:
            text = (
                f"Is {candidates[0]} to be made? The script for your tenant makes it as a shared mailbox, which needs "
                "no licence. `no` if it exists."
            )
            default = "yes"
        chosen = self._questions.ask(
            Question("new_mailboxes", text, lambda typed: spelling.chosen(typed, candidates), default)
        )
        return before | frozenset(chosen)

    def _devices(self) -> Tuple[Network, ...]:
        text = (
            "Where are the devices? Their networks, such as 192.168.1.0/24; all others are refused. `here` is this "
            "machine only, `any` is everywhere."
        )
        default = spelling.spell_devices(self._present.devices if self._present else proposed_networks())
        return self._questions.ask(Question("devices", text, spelling.devices, default))

    def certificate(self) -> Certificate:
        text = (
            "Encryption between devices and this machine: `auto` makes a certificate here, which devices cannot "
            "verify but can use; or type the path of your own (PEM); or `none`."
        )
        default = (self._present.certificate.cert or spelling.NONE) if self._present else spelling.AUTO
        typed = self._questions.ask(Question("tls", text, self._read_certificate, default))
        if not typed or typed == spelling.AUTO:
            return Certificate(typed)
        if self._present and typed == self._present.certificate.cert:
            likely: Optional[str] = self._present.certificate.key
        else:
            likely = _likely_key(typed)

        def read(key: str) -> str:
            key = os.path.abspath(os.path.expanduser(key))
            try:
                tls.server_context(typed, key)
            except ConfigError as error:
                raise UsageError(str(error)) from None
            return key

        key = self._questions.ask(Question("tls_key", "The private key of that certificate (PEM).", read, likely))
        closed = " ".join(map(shlex.quote, packaged.obstacles(typed, key)))
        if closed:
            self._questions.note(
                f"The service, which runs as {packaged.NAME}, cannot read them. Let it: "
                f"`chgrp {packaged.NAME} {closed}` and `chmod g+rX {closed}`"
            )
        return Certificate(typed, key)

    @staticmethod
    def _read_certificate(typed: str) -> str:
        if typed.lower() in (spelling.AUTO, spelling.NONE):
            return typed.lower().replace(spelling.NONE, "")
        path = os.path.abspath(os.path.expanduser(typed))
        try:
            tls.expiry(path)
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}. Type its path, `auto` or `none`.") from None
        except ValueError:
            raise UsageError(f"{path} is no certificate in PEM form. Type the path of one, `auto` or `none`.") from None
        return path

    def plaintext(self, devices: Tuple[Network, ...], certificate: Certificate) -> Tuple[Network, ...]:
        """Asked only where it makes a difference: outside this machine passwords can be read on the way."""
        if not devices:
            return self._present.plaintext if self._present else ()
        if not certificate.cert:
            self._questions.note("Without encryption, passwords and mail can be read on the way by others.")
        text = "From which of these networks may devices log in without encryption, because they know none?"
        present = self._present
        proposed = present.plaintext if present else ()
        is_as_before = present is not None and (present.devices, present.certificate) == (devices, certificate)
        if not proposed and not certificate.cert and not is_as_before:
            proposed = spelling.PRIVATE if set(devices) & set(spelling.EVERYWHERE) else devices
        default = spelling.spell_networks(proposed)
        return self._questions.ask(Question("plaintext", text, spelling.networks, default))

    def _relays(self, mailboxes: Sequence[str]) -> Tuple[Tuple[Network, str], ...]:
        text = "Devices that cannot log in at all: their addresses, which may then send without a password" + (
            f" (as {mailboxes[0]}, or 192.168.1.7={mailboxes[1]})." if len(mailboxes) > 1 else "."
        )
        default = spelling.spell_relays(self._present.relays if self._present else ())
        return self._questions.ask(Question("relay", text, lambda typed: spelling.relays(typed, mailboxes), default))

    def ports(self, answers: Answers) -> Answers:
        """The answers, with ports."""
        self._questions.heading("Ports")
        answers = answers._replace(smtp=(), pop3=())
        has_tls = bool(answers.certificate.cert)
        text = "Ports for sending mail (SMTP)." + (" 465 is TLS from the first octet." if has_tls else "")
        answers = answers._replace(smtp=self._doors(Service.SMTP, "smtp_ports", text, answers))
        if not self._reads:
            return answers
        usual, _ = freeports.proposal(Service.POP3, answers.binds, has_tls, self._our_ports)
        text = f"Ports for old clients that fetch mail (POP3), such as {spelling.spell_doors(usual)}, or `none`."
        return answers._replace(pop3=self._doors(Service.POP3, "pop3_ports", text, answers))

    def _doors(self, service: Service, key: str, text: str, answers: Answers) -> Tuple[Door, ...]:
        has_tls = bool(answers.certificate.cert)
        if self._present:
            before = self._present.smtp if service is Service.SMTP else self._present.pop3
            proposed: Tuple[Door, ...] = tuple(door for door in before if has_tls or not door.implicit)
        else:
            proposed = ()
        is_off = self._present is not None and not self._present.smtp  # there are gateways only for POP3
        if not proposed and service is Service.SMTP and not is_off:
            proposed, notes = freeports.proposal(service, answers.binds, has_tls, self._our_ports)
            for note in notes:
                self._questions.note(note)

        def read(typed: str) -> Tuple[Door, ...]:
            found = spelling.doors(typed, has_tls)
            if service is Service.SMTP and not found and not is_off:
                raise UsageError("At least one port is needed: devices send mail by it.")
            self._check_ports(found, service, answers)
            return found

        return self._questions.ask(Question(key, text, read, spelling.spell_doors(proposed)))

    def _check_ports(self, found: Sequence[Door], service: Service, answers: Answers) -> None:
        """UsageError if one cannot be opened; those that are in the config already are left to `check`."""
        before = (*self._present.smtp, *self._present.pop3) if self._present else ()
        taken: List[int] = [door.number for door in answers.smtp] if service is Service.POP3 else []
        for door in found:
            if door.number and door.number in taken:
                raise UsageError(f"Port {door.number} is for SMTP already.")
            why = "" if door in before else freeports.trouble(answers.binds, door.number, self._our_ports)
            if why:
                has_tls = bool(answers.certificate.cert)
                free, _ = freeports.proposal(service, answers.binds, has_tls, self._our_ports)
                raise UsageError(f"Port {door.number} {why}. Free: {spelling.spell_doors(free)}.")

    def mailbox(self, address: str, tenant: str, account: str) -> str:
        """An address for a new mailbox, from the command line, where nobody can be asked again."""
        return self._own(spelling.address(address, _domains(tenant)), tenant, account)

    def which_mailbox(self, mailboxes: Sequence[str], login: str) -> str:
        """The mailbox of a new login."""
        if len(mailboxes) == 1:
            return mailboxes[0]

        def read(typed: str) -> str:
            found = spelling.address(typed)
            if found not in mailboxes:
                raise UsageError(f"{found} is none of the mailboxes.{spelling.nearest(found, mailboxes)}")
            return found

        text = f"Which mailbox does {login} send as: {', '.join(mailboxes)}?"
        return self._questions.ask(Question("mailbox", text, read, mailboxes[0]))


def _domains(tenant: str) -> Sequence[str]:
    return [tenant] if "." in tenant else []


def _likely_key(cert: str) -> Optional[str]:
    """The path of the key that belongs to a certificate, if there is one where it usually is."""
    stem = os.path.splitext(cert)[0]
    names = [
        stem + ".key",
        stem + ".key.pem",
        *(os.path.join(os.path.dirname(cert), name) for name in _KEY_NAMES),
        cert,
    ]
    for name in names:
        if os.path.isfile(name):
            try:
                tls.server_context(cert, name)
            except ConfigError:
                continue
            return name
    return None
