"""The way to Microsoft, step by step: names, connections, a proxy, TLS, Graph, and its clock."""

from __future__ import annotations

import base64
import contextlib
import http.client
import ipaddress
import socket
import ssl
import time
from typing import Dict, Iterator, List, Tuple
from urllib.parse import unquote, urlsplit

from ...account import Account
from ...errors import ConfigError, ProxyError, Unavailable
from ...system import log
from ...system.outbound import plain
from ..terminal import Mark
from .machine import set_clock
from .result import Result, of_error, of_text
from .subject import Subject, Way

# Seconds to connect, and for a handshake.
_SECONDS = 10.0

# How many addresses of a host are tried, in that time together.
_ADDRESSES = 4

# Seconds by which our clock and Microsoft's may differ: from then on it is mentioned, and tokens are refused.
_SKEW_SEEN, _SKEW_MOST = 60.0, 300.0

_TROUBLE = (OSError, http.client.HTTPException, ValueError)


def dns(subject: Subject) -> Iterator[Result]:
    """Whether the names of the first hosts on the way can be resolved."""
    names = list(dict.fromkeys(way.next_host for way in subject.ways() if not _is_address(way.next_host)))
    failed: Dict[str, List[str]] = {}
    for name in names:
        failed.setdefault(_unresolved(name), []).append(name)
    known = failed.pop("", [])
    for why, some in failed.items():
        yield _unreachable(
            "dns",
            f"{_listed('The name', some)} cannot be resolved: {why}.",
            "Check this machine's network and its name servers (on Linux in /etc/resolv.conf).",
        )
    if not failed:
        yield Result(Mark.OK, "dns", f"knows {' and '.join(known)}" if known else "there is no name to ask for")


def _listed(noun: str, some: List[str]) -> str:
    return f"{noun}{'s' if len(some) > 1 else ''} {' and '.join(some)}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _unresolved(name: str) -> str:
    """Why a name cannot be resolved; "" if it can."""
    try:
        addresses = [str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        is_silent = getattr(error, "errno", None) == getattr(socket, "EAI_AGAIN", 0)
        return "no name server answers" if is_silent else "unknown to the name server"
    if all(ipaddress.ip_address(address.partition("%")[0]).is_unspecified for address in addresses):
        return f"the name server says {addresses[0]}, as a filter does"
    return ""


def tcp(subject: Subject) -> Iterator[Result]:
    """Whether the first hosts on the way take a connection."""
    for way in {(way.next_host, way.next_port): way for way in subject.ways()}.values():
        place = f"{'the proxy ' if way.proxy else ''}{way.next_host} port {way.next_port}"
        try:
            silent, address, spent = _answering(way.next_host, way.next_port)
        except (OSError, OverflowError) as error:
            reason = "no answer in time" if isinstance(error, socket.timeout) else _reason(error)
            advice = (
                "Check https_proxy, and whether the proxy runs."
                if way.proxy
                else f"Let this machine out to TCP {way.next_port} in the firewall, or set https_proxy."
            )
            yield _unreachable("tcp", f"No connection to {place}: {reason}.", advice)
            return
        if silent:
            yield Result(
                Mark.ATTENTION,
                "tcp",
                f"{place} answers at {address}, but not at {', '.join(silent)}, which is tried first.",
                "Every new connection waits for that. Mend IPv6 in this network, or switch it off.",
            )
        else:
            yield Result(Mark.OK, "tcp", f"{place} answers in {int(spent * 1000)} ms")


def _answering(host: str, port: int) -> Tuple[List[str], str, float]:
    """The addresses of a host that did not answer, the first that did, and after how many seconds; OSError if none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))[:_ADDRESSES]
    silent: List[str] = []
    for address in addresses:
        began = time.monotonic()
        try:
            with socket.create_connection((address, port), _SECONDS / len(addresses)):
                return silent, address, time.monotonic() - began
        except OSError as error:
            silent.append(address)
            trouble = error
    raise trouble


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or type(error).__name__).lower()


def proxy(subject: Subject) -> Iterator[Result]:
    """Whether a proxy leads to Microsoft; no line where there is none."""
    for way in subject.ways():
        if not way.proxy:
            continue
        if not _is_spoken(way):
            kind = urlsplit(way.proxy).scheme
            yield Result(
                Mark.INFO, "proxy", f"{way.next_host} is spoken to by {kind}; the line of graph says if it works"
            )
            continue
        try:
            _connected(way).close()
        except _TROUBLE as error:
            has_refused = "Tunnel connection failed" in str(error)
            sentence = plain(error, way.host if has_refused else f"the proxy {way.next_host}")
            if not isinstance(error, OSError):
                sentence = f"What {way.next_host} port {way.next_port} answers is not HTTP: it is no proxy."
            line = of_text(Mark.WRONG, "proxy", sentence, Unavailable.exit_status)
            yield line if line.remedy else line._replace(remedy="Check https_proxy.")
            return
        yield Result(Mark.OK, "proxy", f"{way.next_host} leads to {way.host}")


def _is_spoken(way: Way) -> bool:
    """Whether the steps of a way can be taken here: a real request can do more."""
    return not way.proxy or way.proxy.lower().startswith("http:")


def _connected(way: Way) -> socket.socket:
    """A connection to a service of Microsoft's, through the proxy if there is one; OSError or HTTPException."""
    if not way.proxy:
        return socket.create_connection((way.host, way.port), _SECONDS)
    parts = urlsplit(way.proxy)
    connection = http.client.HTTPConnection(way.next_host, way.next_port, timeout=_SECONDS)
    headers = {}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = "Basic " + base64.b64encode(pair.encode("utf-8")).decode("ascii")
    connection.set_tunnel(way.host, way.port, headers)
    try:
        connection.connect()
    except BaseException:
        connection.close()
        raise
    return connection.sock


def tls(subject: Subject) -> Iterator[Result]:
    """Whether it is Microsoft that answers: who has made the certificate, and whether that is trusted."""
    for way in subject.ways():
        if not _is_spoken(way):
            yield Result(Mark.SKIPPED, "tls", "not looked at through such a proxy; the line of graph says if it works")
            return
        context = subject.account.outbound.make_context()
        context.check_hostname = True
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            with _connected(way) as raw, context.wrap_socket(raw, server_hostname=way.host) as sock:
                version, issuer = sock.version(), _issuer(sock)
        except ssl.SSLCertVerificationError as error:
            yield _untrusted(way, error)
            return
        except _TROUBLE as error:
            yield of_error("tls", Unavailable(plain(error, way.host)), "Is a proxy or firewall in between?")
            return
        yield Result(Mark.OK, "tls", f"{way.host} is who it says: {version}, certificate by {issuer}")


def _untrusted(way: Way, error: ssl.SSLCertVerificationError) -> Result:
    """The line of a certificate that is refused; it names who made it, as a firewall that looks into TLS does."""
    issuer, dates = _unverified(way)
    reason = log.clean(error.verify_message or "no reason given")
    if "not yet valid" in reason or "expired" in reason:
        now = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
        return _unreachable(
            "tls",
            f"The certificate of {way.host} {reason.partition('certificate ')[2] or reason}: it is good {dates}, and "
            f"this machine's clock says {now} UTC.",
            set_clock(),
        )
    if "mismatch" in reason.lower():
        return _unreachable(
            "tls",
            f"What answers as {way.host} has a certificate for another name, by {issuer}.",
            "A proxy, firewall or captive portal answers in Microsoft's place: let this machine out to "
            f"{way.host} without it.",
        )
    return _unreachable(
        "tls",
        f"The certificate of {way.host} is by {issuer}, which this machine does not trust ({reason}).",
        "If that is a firewall which looks into TLS, save its CA certificate as a PEM file and set ca_file to it, or "
        f"have it let {way.host} through as it is.",
    )


def _unverified(way: Way) -> Tuple[str, str]:
    """Who made the certificate of a host, and from when to when it is good; nothing is sent to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        contextlib.suppress(*_TROUBLE),
        _connected(way) as raw,
        context.wrap_socket(raw, server_hostname=way.host) as sock,
    ):
        return _issuer(sock), _validity(sock)
    return "somebody", "at another time"


def _issuer(sock: ssl.SSLSocket) -> str:
    """The name in a peer's certificate of who made it: the organisation and the common name."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        certificate = x509.load_der_x509_certificate(sock.getpeercert(True) or b"")
    except ValueError:  # OpenSSL takes more than the library that reads it here
        return "somebody"
    found: List[str] = []
    for kind in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME):
        found += [str(attribute.value) for attribute in certificate.issuer.get_attributes_for_oid(kind)]
    return log.quote(", ".join(dict.fromkeys(found)) or certificate.issuer.rfc4514_string() or "nobody", 120)


def _validity(sock: ssl.SSLSocket) -> str:
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(sock.getpeercert(True) or b"")
    if hasattr(certificate, "not_valid_after_utc"):  # cryptography 42
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    else:
        begin, end = certificate.not_valid_before, certificate.not_valid_after
    return f"from {begin:%Y-%m-%d} to {end:%Y-%m-%d}"


def graph(subject: Subject) -> Iterator[Result]:
    """Whether Graph itself answers, by one request without a token."""
    found = subject.account.graph
    try:
        found.check_reachable()
    except ProxyError as error:
        yield of_error("graph", error, let_out(subject.account))
        return
    yield Result(Mark.OK, "graph", f"{found.host} answers")


def let_out(account: Account) -> str:
    """What to do if something else answers in Graph's place."""
    return f"Let this machine out to https://{account.graph.host} without filter and sign-on page."


def clock(subject: Subject) -> Iterator[Result]:
    """This machine's clock, by the Date of Graph's answer."""
    skew = subject.account.graph.skew
    sentence = f"The clock of this machine is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} Microsoft's."
    if abs(skew) > _SKEW_MOST:
        yield Result(Mark.WRONG, "clock", sentence, set_clock(), ConfigError.exit_status)
    elif abs(skew) > _SKEW_SEEN:
        yield Result(Mark.ATTENTION, "clock", sentence, set_clock())
    else:
        yield Result(Mark.OK, "clock", "agrees with Microsoft's")


def _unreachable(name: str, sentence: str, remedy: str) -> Result:
    return Result(Mark.WRONG, name, sentence, remedy, Unavailable.exit_status)
