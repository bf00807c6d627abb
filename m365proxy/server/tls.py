"""Certificates: the TLS contexts of listeners, and self-signed certificates."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import re
import shlex
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple, Sequence, Tuple

from ..errors import ConfigError
from ..system import sockets

if TYPE_CHECKING:
    from cryptography import x509

# Days a self-signed certificate is valid: longer than any device lives.
_SELF_SIGNED_DAYS = 3650

# A board without a clock believes it is 1970; its certificate must be valid nevertheless.
_NOT_BEFORE_THIS = datetime.datetime(2025, 1, 1)


VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}

# Those that OpenSSL allows only at its security level 0, by the names both config and OpenSSL use.
OLD_VERSIONS = ("TLSv1", "TLSv1.1")


def server_context(cert: str, key: str, min_version: str = "TLSv1.2") -> ssl.SSLContext:
    """A context for listeners; ConfigError says what is wrong with the certificate or its key.

    Below TLS 1.2 OpenSSL's security level 0 is set, without which it refuses
    the old versions whatever is allowed.
    """
    _require("tls.tls_cert", cert, _CERTIFICATE, key)
    _require("tls.tls_key", key, _KEY, cert)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = sockets.Socket
    try:
        # The empty password keeps OpenSSL from asking on the terminal.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        raise ConfigError(_complaint(error, cert, key)) from None
    if min_version in OLD_VERSIONS:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = VERSIONS[min_version]
    return context


_CERTIFICATE, _KEY, _LOCKED_KEY = "a certificate", "a private key", "a private key under a passphrase"
_PKCS12 = "a PKCS#12 (PFX) file"

# Octets of a file that are examined: chains of certificates are shorter.
_LOOKED_AT = 1024 * 1024


def _contents(data: bytes) -> "tuple[str, ...]":
    """What a file holds, in PEM or (the name says so) in DER; () if it cannot be recognised."""
    found = []
    if b"-----BEGIN CERTIFICATE" in data or b"-----BEGIN TRUSTED CERTIFICATE" in data:
        found.append(_CERTIFICATE)
    if b"PRIVATE KEY-----" in data:
        locked = b"BEGIN ENCRYPTED PRIVATE KEY" in data or b"Proc-Type: 4,ENCRYPTED" in data
        found.append(_LOCKED_KEY if locked else _KEY)
    if not found and data[:1] == b"\x30":
        inside = data[2 + (data[1] & 0x7F if data[1:2] >= b"\x80" else 0) :]
        if inside[:3] == b"\x02\x01\x03":
            found.append(_PKCS12)
        elif inside[:2] in (b"\x02\x01",):
            found.append(_KEY + " in DER")
        elif inside[:1] == b"\x30":
            found.append(_CERTIFICATE + " in DER")
    return tuple(found)


def _require(option: str, path: str, wanted: str, other: str) -> None:
    """ConfigError with the next step if the file surely holds something other than `wanted` in PEM."""
    found = _contents(_readable(option, path))
    if not found or wanted in found:
        return
    path_, kind = shlex.quote(path), found[0]
    if kind == _PKCS12:
        advice = (
            f"Make two PEM files of it: `openssl pkcs12 -in {path_} -nokeys -out cert.pem` for tls_cert and "
            f"`openssl pkcs12 -in {path_} -nocerts -nodes -out key.pem` for tls_key "
            "(add -legacy if OpenSSL 3 refuses it)."
        )
    elif kind == _CERTIFICATE + " in DER":
        advice = f"Make PEM of it: `openssl x509 -inform DER -in {path_} -out cert.pem`."
    elif kind == _KEY + " in DER":
        advice = f"Make PEM of it: `openssl pkey -inform DER -in {path_} -out key.pem`."
    elif kind == _LOCKED_KEY and wanted == _KEY:
        advice = f"Remove the passphrase: `openssl pkey -in {path_} -out new.key`, and name new.key."
    elif path == other:
        advice = "The same file is named as certificate and as key; name the right one here."
    else:
        advice = "Name the right file; perhaps tls_cert and tls_key are swapped."
    raise ConfigError(f"{option}: {path} holds {' and '.join(found)}, not {wanted} in PEM. {advice}")


def _readable(option: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LOOKED_AT)
    except OSError as error:
        raise ConfigError(
            f"{option}: {path} cannot be read: {error.strerror}. "
            "Check the path, and that the user the program runs as may read it."
        ) from None


def _complaint(error: ssl.SSLError, cert: str, key: str) -> str:
    reason = (error.reason or "").upper()
    if "MISMATCH" in reason:
        return f"tls: the key {key} does not belong to the certificate {cert}. Use a pair that belongs together."
    if "PASSWORD" in reason or "BAD_DECRYPT" in reason:
        return f"tls.tls_key: {key} is protected by a passphrase. Remove it: openssl pkey -in {key} -out new.key"
    if "KEY_TOO_SMALL" in reason or "MD_TOO_WEAK" in reason:
        return f"tls.tls_cert: {cert} is too weak for this OpenSSL. Make a new one with a 2048-bit key and SHA-256."
    return f"tls: {cert} and {key} are not a PEM certificate and its PEM key ({reason.lower() or 'unreadable'})."


_FIRST = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.+?)-----END", re.DOTALL)


def first_der(pem: bytes) -> bytes:
    """The first certificate in `pem`, as OpenSSL finds it, in DER; ValueError if there is none.

    `openssl x509 -trustout` puts behind it what OpenSSL is to trust it for, which is left out.
    """
    found = _FIRST.search(pem)
    der = base64.b64decode(found.group(1)) if found else b""
    if len(der) < 2:
        raise ValueError("no certificate in PEM")
    size = der[1] & 0x7F  # X.690, 8.1.3: of the length, which is longer than an octet
    return der[: 2 + size + int.from_bytes(der[2 : 2 + size], "big")]


def _first(pem: bytes) -> x509.Certificate:
    """As first_der."""
    from cryptography import x509

    return x509.load_der_x509_certificate(first_der(pem))


def expiry(cert: str) -> datetime.datetime:
    """When the first certificate of a PEM file ends (UTC)."""
    with open(cert, "rb") as file:
        return end_of(file.read())


def end_of(pem: bytes) -> datetime.datetime:
    """When the first certificate in `pem` ends (UTC)."""
    certificate = _first(pem)
    if hasattr(certificate, "not_valid_after_utc"):  # cryptography 42
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=datetime.timezone.utc)


class CertificateNames(NamedTuple):
    """Whom a certificate is for, as clients compare it; `is_self_signed`: clients trust it only if they are told to."""

    names: Tuple[str, ...]
    addresses: Tuple[str, ...]
    is_self_signed: bool


def names_in(cert: str) -> CertificateNames:
    """The names and IP addresses in the first certificate of a PEM file; OSError or ValueError if it cannot be read."""
    with open(cert, "rb") as file:
        return names_of(file.read())


def names_of(pem: bytes) -> CertificateNames:
    """The names and IP addresses in the first certificate in `pem`."""
    from cryptography import x509

    certificate = _first(pem)
    names: Sequence[str] = ()
    addresses: Sequence[object] = ()
    with contextlib.suppress(x509.ExtensionNotFound):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names, addresses = found.get_values_for_type(x509.DNSName), found.get_values_for_type(x509.IPAddress)
    return CertificateNames(tuple(names), tuple(map(str, addresses)), certificate.issuer == certificate.subject)


def self_signed(names: Sequence[str], key_pem: bytes = b"", days: int = _SELF_SIGNED_DAYS) -> Tuple[bytes, bytes]:
    """(certificate, key) in PEM for host names and IP addresses; the first is the common name.

    `key_pem` is a key to be used again.  A new one is RSA: old devices, for
    which min_version is set, know no other kind.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    if key_pem:
        key: Any = serialization.load_pem_private_key(key_pem, None)
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    now = max(datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None), _NOT_BEFORE_THIS)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Two days back: the clients' clocks are wrong too.
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([_general_name(item) for item in names]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _general_name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def certificate_days(cert: str) -> int:
    """Days a certificate is still valid; less than 0 once it has expired."""
    return (expiry(cert) - datetime.datetime.now(datetime.timezone.utc)).days


def expiry_sentence(cert: str, days: int) -> str:
    when = "expires in 1 day" if days == 1 else "has expired" if days < 0 else f"expires in {days} days"
    return f"tls.tls_cert: {cert} {when}. Renew it, then run `m365proxy reload`."


# The listeners' certificate is warned about from this many days before its end.
CERTIFICATE_DAYS = 21
