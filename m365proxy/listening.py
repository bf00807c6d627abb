"""How the ports of a config are listened on: certificates, and who may read the status port."""

from __future__ import annotations

import ipaddress
import ssl
from typing import Dict

from .config.sections import Config, Socket
from .config.sockets import is_status_encrypted, status_addresses, status_tls_version
from .pop3 import session as pop3
from .server import autocert, tls
from .server.client import ListenerSettings
from .server.clienthello import ClientHellos
from .smtp import session as smtp
from .system.choices import Service, TlsMode
from .web.statusport import Access

_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def listener_settings(wanted: Socket, hellos: ClientHellos) -> ListenerSettings:
    """How the clients of a port are treated."""
    return ListenerSettings(
        smtp.PROTOCOL if wanted.protocol is Service.SMTP else pop3.PROTOCOL,
        tls_mode=wanted.tls,
        tls_required=wanted.required,
        client_hellos=hellos,
        lf_only_clients=wanted.lf_only_clients,
    )


def tls_contexts(built: Config, config: Config, state_dir: str) -> Dict[str, ssl.SSLContext]:
    """A TLS context with the certificate of `config` for each min_version of the ports of `built`.

    `built` is the config of the start, `config` perhaps one that is reloaded.  {} without a certificate.
    ConfigError, CannotCreate.
    """
    cert, key = config.tls.tls_cert, config.tls.tls_key
    if not cert:
        return {}
    addresses = [socket.address for socket in built.sockets]
    versions = {socket.min_version for socket in built.sockets if socket.tls is not TlsMode.NONE}
    if is_status_encrypted(built):
        versions.add(status_tls_version(built))
        addresses += status_addresses(built)
    if cert == "auto" and versions:
        cert = key = autocert.ensure(state_dir, autocert.own_names(addresses))
    # the config is checked: a certificate in a file has its key
    return {version: tls.server_context(cert, key or cert, version) for version in versions}


def status_access(built: Config, config: Config, contexts: Dict[str, ssl.SSLContext], state_dir: str) -> Access:
    """As `tls_contexts`, whose result is `contexts`.  What a reload takes away is empty: the port keeps what it had."""
    if not is_status_encrypted(built):
        return Access()
    certificate = config.tls.tls_cert or ""
    return Access(
        tls=contexts[status_tls_version(built)],
        certificate=autocert.path_in(state_dir) if certificate == "auto" else certificate,
        password=config.status_password,
        networks=(*config.allowed_networks, *_LOOPBACK),
    )
