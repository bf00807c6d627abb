"""Where to sign in, and the app that signs in by itself, with a secret or a certificate."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import entra_harness
import pytest
from cases import each
from entra_harness import sentence_of

from m365proxy.entra.http import Misconfigured
from m365proxy.entra.registration import Registration
from m365proxy.entra.tokens import endpoints
from m365proxy.errors import Temporary
from m365proxy.system.choices import Permissions

harness = entra_harness.harness

# msal warns when it is asked to poll sooner than the interval; the tests' clock does not really wait.
pytestmark = pytest.mark.filterwarnings("ignore:Attempted too soon")


@each(
    "arguments, expected",
    [
        (
            ("global",),
            ("https://login.microsoftonline.com", "https://graph.microsoft.com", "https://graph.microsoft.com"),
        ),
        (
            ("usgov-high",),
            ("https://login.microsoftonline.us", "https://graph.microsoft.us", "https://graph.microsoft.us"),
        ),
        (
            ("usgov-dod", None, None),
            ("https://login.microsoftonline.us", "https://dod-graph.microsoft.us", "https://dod-graph.microsoft.us"),
        ),
        (
            ("china",),
            (
                "https://login.partner.microsoftonline.cn",
                "https://microsoftgraph.chinacloudapi.cn",
                "https://microsoftgraph.chinacloudapi.cn",
            ),
        ),
        (  # another way to the cloud's own Graph
            ("global", "https://front.contoso.com/"),
            ("https://login.microsoftonline.com", "https://front.contoso.com", "https://graph.microsoft.com"),
        ),
        (  # a cloud of its own
            ("global", "https://graph.example/", "https://login.example/"),
            ("https://login.example", "https://graph.example", "https://graph.example"),
        ),
        (
            ("global", None, "https://login.example"),
            ("https://login.example", "https://graph.microsoft.com", "https://graph.microsoft.com"),
        ),
    ],
)
def test_endpoints(arguments, expected):
    assert endpoints(*arguments) == expected


# The app by itself


@pytest.fixture
def certificate(tmp_path):
    """An RSA key with its certificate: config's client_certificate, and the PEM text of the certificate."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1))
        .not_valid_after(datetime.datetime(2090, 1, 1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "app.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    thumbprint = made.fingerprint(hashes.SHA1()).hex().upper()
    return SimpleNamespace(private_key=str(path), thumbprint=thumbprint), made.public_bytes(serialization.Encoding.PEM)


def test_app_with_a_secret(harness):
    tokens = harness.tokens(client_secret="sandbox-secret", user=None)
    token = tokens.access_token()
    assert harness.accepts(token) == "" and tokens.access_token() == token
    assert harness.sandbox.entra.counts["client_credentials"] == 1
    harness.sandbox.entra.revoke_access()
    harness.time.now += 61
    assert harness.accepts(tokens.access_token(refused=token)) == ""
    assert harness.sandbox.entra.counts["client_credentials"] == 2
    assert os.listdir(harness.directory) == [] and harness.sandbox.seen("/me") == []


def test_app_with_a_certificate(harness, certificate):
    harness.sandbox.tenant.client_certificate = certificate[1]
    tokens = harness.tokens(client_certificate=certificate[0], user=None)
    assert harness.accepts(tokens.access_token()) == ""


def test_app_token_is_renewed_in_time(harness):
    tokens = harness.tokens(client_secret="sandbox-secret")
    token = tokens.access_token()
    harness.time.now += 3900 - 301
    assert tokens.access_token() == token
    harness.time.now += 1
    assert tokens.access_token() != token
    assert harness.sandbox.entra.counts["client_credentials"] == 2


def test_app_with_the_wrong_secret(harness):
    tokens = harness.tokens(client_secret="S3cret")
    with pytest.raises(Misconfigured, match="secret's value") as error:
        tokens.access_token()
    assert error.value.exit_status == 78 and "S3cret" not in sentence_of(error)
    with pytest.raises(Misconfigured):
        tokens.access_token()
    assert harness.sandbox.entra.counts["client_credentials"] == 1
    # The secret is put right in Entra: found out by asking anew, not from msal's memory of the refusal.
    harness.sandbox.tenant.client_secrets.add("S3cret")
    harness.time.now += 30
    assert harness.accepts(tokens.access_token()) == ""


def spoil(certificate, how):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    path = certificate.private_key
    form = serialization.PrivateFormat.PKCS8
    if how == "missing":
        os.unlink(path)
        return
    key = ec.generate_private_key(ec.SECP256R1()) if how == "elliptic" else rsa.generate_private_key(65537, 2048)
    lock = serialization.BestAvailableEncryption(b"S3cret") if how == "locked" else serialization.NoEncryption()
    content = b"S3cret" if how == "garbage" else key.private_bytes(serialization.Encoding.PEM, form, lock)
    with open(path, "wb") as file:
        file.write(content)


@pytest.mark.parametrize(
    "how, words",
    [
        ("missing", "cannot be read: No such file"),
        ("garbage", "is not an RSA key"),
        ("elliptic", "is not an RSA key"),
        ("locked", "without password"),
        ("another", "not one of the app registration's"),
    ],
)
def test_app_with_an_unusable_key(harness, certificate, how, words):
    harness.sandbox.tenant.client_certificate = certificate[1]
    spoil(certificate[0], how)
    tokens = harness.tokens(client_certificate=certificate[0])
    with pytest.raises(Misconfigured) as error:
        tokens.access_token()
    assert words in sentence_of(error) and "S3cret" not in str(error.value)


def test_app_needs_no_sign_in(harness):
    tokens = harness.tokens(client_secret="sandbox-secret")
    assert tokens.login(harness.shown.append) == ""
    assert harness.shown == []
    tokens.refresh_daily()
    assert harness.sandbox.requests == []
    assert tokens.state()["user"].startswith("application ") and not tokens.state()["needs_sign_in"]


# Libraries


def test_import_is_light():
    heavy = "('msal', 'requests', 'cryptography', 'jwt')"
    code = f"import sys, m365proxy.entra.tokens; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_missing_library(harness, monkeypatch):
    tokens = harness.signed_in()
    monkeypatch.setitem(sys.modules, "msal", None)
    with pytest.raises(Temporary, match="msal is missing") as error:
        tokens.access_token()
    assert error.value.exit_status == 69


GRAPH = "https://graph.microsoft.com"


@each(
    "scope, granted, missing",
    [
        (None, ["Mail.Send", "Mail.Send.Shared", "User.Read"], []),
        (
            f"{GRAPH}/Mail.Send {GRAPH}/Mail.Send.Shared {GRAPH}/User.Read openid",
            "Mail.Send Mail.Send.Shared User.Read",
            [],
        ),
        ("mail.send user.read", "Mail.Send User.Read", ["Mail.Send.Shared"]),
        ("", [], ["Mail.Send", "Mail.Send.Shared", "User.Read"]),
    ],
)
def test_what_is_granted_of_what_is_requested(scope, granted, missing):
    registration = Registration(
        client_id="x", tenant_id="y", permissions=Permissions.SEND, outbound=None, authority_url="", resource=GRAPH
    )
    assert registration.compare(scope) == (granted if isinstance(granted, list) else granted.split(), missing)
