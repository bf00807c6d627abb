"""Certificates and keys: what is said of files that are something else."""

import datetime
import os
import re
import shlex
import shutil
import socket
import struct
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from m365proxy.errors import ConfigError
from m365proxy.server import tls

CERT, KEY = tls.self_signed(["localhost"])


def _forms():
    """What people have instead: name -> octets."""
    key, cert = serialization.load_pem_private_key(KEY, None), x509.load_pem_x509_certificate(CERT)
    raw, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    locked = serialization.BestAvailableEncryption(b"word")
    der, pem = serialization.Encoding.DER, serialization.Encoding.PEM
    return {
        "cert": CERT,
        "key": KEY,
        "both": CERT + KEY,
        "other": tls.self_signed(["x"])[1],
        "none": b"hello",
        "pfx": pkcs12.serialize_key_and_certificates(b"x", key, cert, None, locked),
        "cert.der": cert.public_bytes(der),
        "key.der": key.private_bytes(der, raw, plain),
        "locked": key.private_bytes(pem, raw, locked),
    }


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    made = tmp_path_factory.mktemp("tls")
    for name, content in _forms().items():
        (made / name).write_bytes(content)
    return made


@pytest.mark.parametrize(
    "cert, key, words",
    [
        ("cert", "cert", ["tls.tls_key", "cert holds a certificate, not a private key", "as certificate and as key"]),
        ("key", "key", ["tls.tls_cert", "key holds a private key, not a certificate", "as certificate and as key"]),
        ("key", "cert", ["tls.tls_cert", "are swapped"]),
        (
            "pfx",
            "pfx",
            ["tls.tls_cert", "PKCS#12", "openssl pkcs12 -in", "-nokeys -out cert.pem", "-nocerts -nodes -out"],
        ),
        ("cert", "pfx", ["tls.tls_key", "openssl pkcs12 -in"]),
        ("cert.der", "key", ["openssl x509 -inform DER -in"]),
        ("cert", "key.der", ["openssl pkey -inform DER -in"]),
        ("cert", "locked", ["under a passphrase", "openssl pkey -in"]),
        ("cert", "other", ["does not belong to the certificate"]),
        ("none", "key", ["are not a PEM certificate and its PEM key"]),
    ],
)
def test_each_wrong_file_gets_its_next_step(directory, cert, key, words):
    with pytest.raises(ConfigError) as caught:
        tls.server_context(str(directory / cert), str(directory / key))
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    "cert, key, cert_then, key_then",
    [
        ("pfx", "pfx", "cert.pem", "key.pem"),
        ("cert", "pfx", "cert", "key.pem"),
        ("cert.der", "key", "cert.pem", "key"),
        ("cert", "key.der", "cert", "key.pem"),
        ("cert", "locked", "cert", "new.key"),
    ],
)
def test_the_commands_that_are_advised_make_what_is_wanted(directory, tmp_path, cert, key, cert_then, key_then):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    with pytest.raises(ConfigError) as caught:
        tls.server_context(str(directory / cert), str(directory / key))
    for command in re.findall("`(openssl [^`]+)`", str(caught.value)):
        # Asked for a word, it gets this one.
        words = [openssl, *shlex.split(command)[1:], "-passin", "pass:word"]
        subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    new = [tmp_path / name if (tmp_path / name).exists() else directory / name for name in (cert_then, key_then)]
    assert tls.server_context(*map(str, new))


@pytest.mark.parametrize("cert, key", [("cert", "key"), ("both", "both"), ("both", "key")])
def test_the_right_ones_are_taken(directory, cert, key):
    assert tls.server_context(str(directory / cert), str(directory / key))


@pytest.mark.skipif(os.name == "nt", reason="a socket of Windows knows its peer until something fails")
def test_a_client_that_has_gone_before_tls_leaves_no_descriptor(certificate):
    context = tls.server_context(*certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # with a reset
        handle = accepted.fileno()
        with pytest.raises(ConnectionResetError) as caught:
            context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        with pytest.raises(OSError):
            os.fstat(handle)
        del caught


def test_whom_a_certificate_is_for(tmp_path):
    path = tmp_path / "cert.pem"
    path.write_bytes(tls.self_signed(["relay.contoso.com", "192.0.2.10", "fd00::10"])[0])
    assert tls.names_in(str(path)) == (("relay.contoso.com",), ("192.0.2.10", "fd00::10"), True)


def test_a_certificate_of_a_ca_without_names(tmp_path):
    key = serialization.load_pem_private_key(KEY, None)
    own = x509.load_pem_x509_certificate(CERT)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(own.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2026, 1, 1))
        .not_valid_after(datetime.datetime(2027, 1, 1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "cert.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    assert tls.names_in(str(path)) == ((), (), False)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl writes the file")
def test_a_certificate_with_openssls_own_trust_in_it_is_read(directory, tmp_path):
    """`openssl x509 -trustout`, which listeners take as well."""
    plain, trusted = tmp_path / "plain.pem", tmp_path / "trusted.pem"
    plain.write_bytes(CERT)
    subprocess.run(["openssl", "x509", "-in", plain, "-trustout", "-out", trusted], check=True)
    assert b"BEGIN TRUSTED CERTIFICATE" in trusted.read_bytes()
    assert tls.expiry(str(trusted)) == tls.expiry(str(plain))
    assert tls.names_in(str(trusted)) == tls.names_in(str(plain))
    trusted.write_bytes(CERT + trusted.read_bytes())
    assert tls.names_in(str(trusted)) == tls.names_in(str(plain))
