"""The listeners' certificate: whether it can be used, how long, and whether it has a name devices use."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Iterator, List, Set

from ...errors import ConfigError
from ...server import autocert, tls
from ...server.tls import CERTIFICATE_DAYS, certificate_days, expiry_sentence
from ...system.networks import is_loopback
from ..terminal import Mark
from .result import Result, of_text
from .subject import Subject


def certificate(subject: Subject) -> Iterator[Result]:
    """ConfigError if it cannot be used."""
    config = subject.config
    if not config.tls.tls_cert:
        yield _without(subject)
        return
    cert, key = config.tls.tls_cert, config.tls.tls_key
    if cert == "auto":
        cert = key = autocert.path_in(config.state_dir)
        if not os.path.exists(cert):
            yield Result(Mark.OK, "certificate", "a self-signed one is made at the first start")
            return
    tls.server_context(cert, key or cert, "TLSv1.2")
    try:
        yield from _end(cert, certificate_days(cert))
        yield from _names(subject, cert)
    except ValueError:  # OpenSSL takes more than the library that reads it here
        yield Result(Mark.ATTENTION, "certificate", f"{cert} can be used, but it cannot be read how long and for whom.")


def _end(cert: str, days: int) -> Iterator[Result]:
    if days < 0:
        raise ConfigError(expiry_sentence(cert, days))
    if days < CERTIFICATE_DAYS:
        yield of_text(Mark.ATTENTION, "certificate", expiry_sentence(cert, days))
    else:
        yield Result(Mark.OK, "certificate", f"{cert}, valid for another {days} days")


def _without(subject: Subject) -> Result:
    if any(not network.is_loopback for network in subject.config.plaintext_networks):
        return Result(
            Mark.ATTENTION,
            "certificate",
            "None is set: devices send their passwords unencrypted.",
            'Have one made: put "tls": {"tls_cert": "auto"} into the config.',
        )
    return Result(Mark.OK, "certificate", "none is set; passwords are accepted only from this machine")


def _names(subject: Subject, cert: str) -> Iterator[Result]:
    """A line if no name in the certificate is one that this machine is known by."""
    binds = [wanted.address for wanted in subject.config.sockets]
    if all(map(is_loopback, binds)) or subject.config.proxy_protocol_from:
        return  # devices speak to something else, which has names of its own
    holds = tls.names_in(cert)
    names = [*holds.names, *holds.addresses]
    own = autocert.own_names([bind for bind in binds if not is_loopback(bind)])
    known = {name.lower() for name in [*own.needed, *own.found()]} - {"localhost", "127.0.0.1", "::1"}
    try:
        if any(_is_named(name, known) for name in names) or any(_leads_to(name, known) for name in names):
            return
    except socket.gaierror:  # no name server answers, which the line of dns is about
        return
    yield Result(
        Mark.ATTENTION,
        "certificate",
        f"It is for {', '.join(names) or 'no name'}, which is not this machine as far as it knows itself "
        f"({', '.join(sorted(known)) or 'no name'}): devices that check certificates may refuse it.",
        "Type a name of the certificate as server into devices, and let DNS lead it here; or get a certificate with "
        "a name of this machine.",
    )


def _is_named(name: str, known: Set[str]) -> bool:
    """Whether a name of a certificate is one of this machine's."""
    name = name.lower()
    if name.startswith("*."):
        return any("." in one and one.partition(".")[2] == name[2:] for one in known)
    return name in known


def _leads_to(name: str, known: Set[str]) -> bool:
    """Whether a name of a certificate leads to an address of this machine; gaierror if no name server answers."""
    # /etc/hosts may give a name of this machine a loopback address.
    return name.lower() != "localhost" and any(one in known or is_loopback(one) for one in _addresses(name))


def _addresses(name: str) -> List[str]:
    """What a name leads to; an address and a pattern lead nowhere.  gaierror if no name server answers."""
    if name.startswith("*."):
        return []
    try:
        ipaddress.ip_address(name)
        return []
    except ValueError:
        pass
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise
    except (OSError, UnicodeError):
        pass
    return []
