"""What is read of a certificate, as the library cryptography reads it; and that nothing else than ValueError comes."""

import datetime
import ipaddress
import random

import pytest
from cryptography import x509 as library
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from m365proxy.server import x509

KEY = ec.generate_private_key(ec.SECP256R1())


def made(end="2031-02-03", subject="relay", issuer="relay", names=(), more=()):
    """A certificate in DER, with what others put into theirs as well."""

    def name(common):
        return library.Name([library.NameAttribute(library.NameOID.COMMON_NAME, common)])

    builder = (
        library.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(KEY.public_key())
        .serial_number(2**150 + 1)
        .not_valid_before(datetime.datetime(1999, 12, 31))
        .not_valid_after(datetime.datetime.fromisoformat(end))
        .add_extension(library.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(library.SubjectAlternativeName(names), critical=False)
    for extension in more:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


NAMES = [
    library.RFC822Name("admin@contoso.com"),
    library.DNSName("relay.contoso.com"),
    library.UniformResourceIdentifier("https://contoso.com"),
    library.DNSName("*.contoso.com"),
    library.IPAddress(ipaddress.ip_address("192.0.2.10")),
    library.IPAddress(ipaddress.ip_address("fd00::10")),
    library.DirectoryName(library.Name([library.NameAttribute(library.NameOID.COMMON_NAME, "relay")])),
]
USE = library.ExtendedKeyUsage([library.ExtendedKeyUsageOID.SERVER_AUTH])
MANY = [library.DNSName(f"host{number}.contoso.com") for number in range(3000)]  # lengths of one, two and three octets


def expected(der):
    """What the library says of it."""
    certificate = library.load_der_x509_certificate(der)
    end = getattr(certificate, "not_valid_after_utc", None)  # cryptography 42
    end = end or certificate.not_valid_after.replace(tzinfo=datetime.timezone.utc)
    names = addresses = ()
    for extension in certificate.extensions:
        if isinstance(extension.value, library.SubjectAlternativeName):
            names = tuple(extension.value.get_values_for_type(library.DNSName))
            addresses = tuple(map(str, extension.value.get_values_for_type(library.IPAddress)))
    return (end, (names, addresses, certificate.issuer == certificate.subject))


@pytest.mark.parametrize(
    "der",
    [
        made(),
        made(issuer="authority"),
        made(names=NAMES, more=[USE]),
        made(names=NAMES[:1]),
        made(names=MANY),
        made("2049-12-31T23:59:59"),
        made("2050-01-01"),
        made("9999-12-31T23:59:59"),
        made("1999-12-31T23:59:59"),
    ],
)
def test_it_is_read_as_the_library_reads_it(der):
    assert x509.read(der) == expected(der)


def test_its_end_and_whom_it_is_for():
    read = x509.read(made(names=NAMES, issuer="authority"))
    assert read.end == datetime.datetime(2031, 2, 3, tzinfo=datetime.timezone.utc)
    assert read.holder == (("relay.contoso.com", "*.contoso.com"), ("192.0.2.10", "fd00::10"), False)


def test_one_of_the_first_version_has_neither_version_nor_extensions():
    der = made()
    fields = x509._parts(x509._one(x509._one(der, 0x30), 0x30))
    first = b"".join(bytes([tag, len(value)]) + value for tag, value in fields[1:-1])
    assert len(first) > 0x7F
    body = b"\x30\x82" + len(first).to_bytes(2, "big") + first
    read = x509.read(b"\x30\x82" + len(body).to_bytes(2, "big") + body)
    assert read == x509.read(der)


def test_what_breaks_off_is_refused_wherever_it_does():
    der = made(names=NAMES)
    for size in range(len(der)):
        with pytest.raises(ValueError):
            x509.read(der[:size])


def test_damage_anywhere_raises_nothing_but_value_errors():
    der, draw = made(names=NAMES, more=[USE]), random.Random(1)
    refused = 0
    for at in range(len(der)):
        damaged = bytearray(der)
        damaged[at] = draw.randrange(256)
        try:
            x509.read(bytes(damaged))
        except ValueError:
            refused += 1
    assert 20 < refused < len(der)


@pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x00", b"\x30\x80\x00\x00", b"\x30\x02\x30\x00", b"PEM" * 9])
def test_something_else_is_refused(der):
    with pytest.raises(ValueError):
        x509.read(der)


@pytest.mark.parametrize("time", [b"310203000000+0100", b"3102030000Z", b"319903000000Z", b"20310203000000Z"])
def test_a_time_that_rfc_5280_does_not_know_is_refused(time):
    with pytest.raises(ValueError):
        x509._time(0x17, time)
