"""The sockets to open: those of the keys *_port, then those of `listeners`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Iterator, Sequence

from ..system.choices import Service, TlsMode
from .sections import Config, Socket

# Key, protocol, and whether TLS begins with the first octet.
_PORTS = (
    ("smtp_port", Service.SMTP, False),
    ("smtps_port", Service.SMTP, True),
    ("pop3_port", Service.POP3, False),
    ("pop3s_port", Service.POP3, True),
)


def sockets_of(read: SimpleNamespace, *, has_smtp_port: bool) -> Iterator[Socket]:
    """`read` is the configuration as read so far, perhaps with mistakes.

    `has_smtp_port`: smtp_port is in the file.  If it is not and there are
    `listeners`, its default does not count.
    """
    usual = TlsMode.STARTTLS if read.tls.tls_cert else TlsMode.NONE
    for key, protocol, is_implicit in _PORTS:
        port = getattr(read, key)
        if port is None or (key == "smtp_port" and read.listeners and not has_smtp_port):
            continue
        for address in read.bind:
            yield Socket(
                key=key,
                protocol=protocol,
                address=address,
                port=port,
                tls=TlsMode.IMPLICIT if is_implicit else usual,
                min_version=read.tls.min_version,
                required=read.tls.required,
                lf_only_clients=False,
            )
    for listener in read.listeners:
        if listener.protocol is not None and listener.port is not None:
            yield from _of_listener(read, listener, usual)


def _of_listener(read: SimpleNamespace, listener: SimpleNamespace, usual: TlsMode) -> Iterator[Socket]:
    required = listener.required
    if required is None:
        # a listener whose own "tls" is "none" is an exception to tls.required
        required = read.tls.required and listener.tls != TlsMode.NONE
    for address in listener.bind or read.bind:
        yield Socket(
            key=listener.key,
            protocol=listener.protocol,
            address=address,
            port=listener.port,
            tls=listener.tls or usual,
            min_version=listener.min_version or read.tls.min_version,
            required=required,
            lf_only_clients=listener.lf_only_clients,
        )


def status_addresses(config: Config) -> Sequence[str]:
    """Where status_port listens: where nobody can read on the way."""
    return config.bind if is_status_encrypted(config) else ("127.0.0.1", "::1")


def is_status_encrypted(config: Config) -> bool:
    """Whether status_port is for other machines, too: over TLS, and with a password."""
    return config.status_port is not None and bool(config.tls.tls_cert and config.status_password)


def status_tls_version(config: Config) -> str:
    """The minimum for status_port; a lower tls.min_version is for old devices, and no browser needs it."""
    return max(config.tls.min_version, "TLSv1.2")
