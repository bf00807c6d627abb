"""The stand-in tenant: signing in, tokens and what they may do."""

from urllib.parse import urlencode

import pytest
import sandbox_harness
from sandbox_harness import (
    ALERTS,
    RELAY,
    Client,
    inbox,
    mail,
    users,
)

sandbox, graph = sandbox_harness.sandbox, sandbox_harness.graph


# --- signing in


@pytest.fixture
def microsoft(sandbox, monkeypatch):
    """Makes msal applications; requests would otherwise trust the environment's bundle instead of ours."""
    msal = pytest.importorskip("msal")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = []

    def make(kind, **more):
        app = getattr(msal, kind)(
            sandbox.client_id,
            authority=f"{sandbox.authority_url}/{sandbox.tenant_id}",
            instance_discovery=False,
            verify=sandbox.ca_file,
            timeout=10,
            **more,
        )
        made.append(app)
        return app

    yield make
    for app in made:
        app.http_client.close() if hasattr(app.http_client, "close") else None


SCOPES = ["Mail.Send", "Mail.ReadWrite"]


def test_device_flow_and_refresh_with_msal(sandbox, microsoft):
    sandbox.approve_after, sandbox.entra.interval = 1, 0.01
    app = microsoft("PublicClientApplication")
    result = app.acquire_token_by_device_flow(app.initiate_device_flow(SCOPES))
    claims = result["id_token_claims"]
    assert (claims["preferred_username"], claims["tid"], claims["aud"]) == (RELAY, sandbox.tenant_id, sandbox.client_id)
    assert set(result["scope"].split()) >= set(SCOPES)
    assert sandbox.entra.counts["device_code"] == 2
    account = app.get_accounts()[0]
    assert account["username"] == RELAY
    assert app.acquire_token_silent(SCOPES, account)["access_token"] == result["access_token"]
    assert sandbox.entra.counts["refresh_token"] == 0
    renewed = app.acquire_token_silent(SCOPES, account, force_refresh=True)
    assert renewed["access_token"] != result["access_token"]
    assert sandbox.entra.counts["refresh_token"] == 1
    client = Client(sandbox, renewed["access_token"])
    assert client("GET", "/me").value["userPrincipalName"] == RELAY
    client.close()


def test_another_person_of_another_tenant(sandbox, microsoft):
    sandbox.tenant.signs_in_as, sandbox.tenant.signs_in_tenant = "other@fabrikam.com", "not-ours"
    app = microsoft("PublicClientApplication")
    result = app.acquire_token_by_device_flow(app.initiate_device_flow(SCOPES))
    assert result["id_token_claims"]["tid"] == "not-ours"
    client = Client(sandbox, result["access_token"])
    assert client("GET", "/me").value["mail"] == "other@fabrikam.com"
    assert client("GET", "/me/messages").code == "MailboxNotEnabledForRESTAPI"
    client.close()


def test_reduced_consent(sandbox, microsoft):
    sandbox.tenant.granted_scopes = {"Mail.Send"}
    app = microsoft("PublicClientApplication")
    result = app.acquire_token_by_device_flow(app.initiate_device_flow(SCOPES))
    assert "Mail.ReadWrite" not in result["scope"]
    client = Client(sandbox, result["access_token"])
    assert client("GET", "/me/messages").code == "ErrorAccessDenied"
    client.close()


@pytest.mark.parametrize("error", ["authorization_declined", "expired_token", "bad_verification_code"])
def test_device_flow_errors(sandbox, microsoft, error):
    sandbox.entra.refuse("device_code", error)
    app = microsoft("PublicClientApplication")
    assert app.acquire_token_by_device_flow(app.initiate_device_flow(SCOPES))["error"] == error


def test_revoked_sign_in(sandbox, microsoft):
    app = microsoft("PublicClientApplication")
    app.acquire_token_by_device_flow(app.initiate_device_flow(SCOPES))
    sandbox.entra.revoke(50173)
    result = app.acquire_token_silent_with_error(SCOPES, app.get_accounts()[0], force_refresh=True)
    assert result["error"] == "invalid_grant" and 50173 in result["error_codes"]


def token_request(sandbox, **form):
    client = Client(sandbox, token="")
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode({"client_id": sandbox.client_id, **form})
    answer = client.raw("POST", f"/{sandbox.tenant_id}/oauth2/v2.0/token", body, headers)
    client.close()
    return answer


def device_flow(sandbox, scope="openid offline_access Mail.Send"):
    client = Client(sandbox, token="")
    answer = client.raw(
        "POST",
        f"/{sandbox.tenant_id}/oauth2/v2.0/devicecode",
        urlencode({"client_id": sandbox.client_id, "scope": scope}),
        {"Content-Type": "application/x-www-form-urlencoded"},
    )
    client.close()
    return answer.value


def device_code(sandbox, scope="openid offline_access Mail.Send"):
    return device_flow(sandbox, scope)["device_code"]


DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


def test_refresh_tokens_roll_and_old_ones_stay(sandbox):
    first = token_request(sandbox, grant_type=DEVICE, device_code=device_code(sandbox)).value["refresh_token"]
    for _ in range(2):
        answer = token_request(
            sandbox, grant_type="refresh_token", refresh_token=first, scope="offline_access Mail.Send"
        )
        assert answer.value["refresh_token"] != first


def test_a_device_code_waits_for_approval_and_works_once(sandbox):
    sandbox.approve_after = None
    code = device_code(sandbox)
    assert token_request(sandbox, grant_type=DEVICE, device_code=code).code == "authorization_pending"
    sandbox.entra.approve()
    assert token_request(sandbox, grant_type=DEVICE, device_code=code).status == 200
    assert token_request(sandbox, grant_type=DEVICE, device_code=code).code == "bad_verification_code"


def test_only_a_code_that_was_shown_can_be_approved(sandbox):
    sandbox.approve_after = None
    shown = device_flow(sandbox)
    with pytest.raises(LookupError):
        sandbox.entra.approve("A" * 9)
    assert token_request(sandbox, grant_type=DEVICE, device_code=shown["device_code"]).code == "authorization_pending"
    sandbox.entra.approve(shown["user_code"])
    assert token_request(sandbox, grant_type=DEVICE, device_code=shown["device_code"]).status == 200


def test_no_refresh_token_when_told(sandbox):
    sandbox.entra.give_refresh_token = False
    assert "refresh_token" not in token_request(sandbox, grant_type=DEVICE, device_code=device_code(sandbox)).value


@pytest.mark.parametrize(
    ("form", "code", "aadsts"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type", 70000),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, "invalid_grant", 70000),
        ({"grant_type": "refresh_token", "client_secret": "x"}, "invalid_client", 700025),
        ({"grant_type": "refresh_token", "client_id": "x"}, "unauthorized_client", 700016),
        ({"grant_type": "client_credentials"}, "invalid_client", 7000218),
        ({"grant_type": "client_credentials", "client_secret": "x"}, "invalid_client", 7000215),
        (
            {"grant_type": "client_credentials", "client_secret": "sandbox-secret", "scope": "Mail.Send"},
            "invalid_scope",
            1002012,
        ),
    ],
)
def test_what_entra_refuses(sandbox, form, code, aadsts):
    answer = token_request(sandbox, **form)
    assert (answer.code, answer.value["error_codes"]) == (code, [aadsts])
    assert f"AADSTS{aadsts}" in answer.value["error_description"]


def test_unknown_tenant(sandbox):
    client = Client(sandbox, token="")
    answer = client.raw("GET", "/unknown.example/v2.0/.well-known/openid-configuration")
    assert (answer.status, answer.code) == (400, "invalid_tenant")
    client.close()


def test_scripted_page_instead_of_a_token(sandbox):
    sandbox.entra.refuse("refresh_token", status=500, html=True)
    answer = token_request(sandbox, grant_type="refresh_token", refresh_token="x")
    assert answer.status == 500 and answer.headers["content-type"] == "text/html"
    assert token_request(sandbox, grant_type="refresh_token", refresh_token="x").code == "invalid_grant"


def test_app_only_with_msal(sandbox, microsoft):
    app = microsoft("ConfidentialClientApplication", client_credential="sandbox-secret")
    result = app.acquire_token_for_client(["https://graph.microsoft.com/.default"])
    client = Client(sandbox, result["access_token"])
    assert client("GET", "/me").status == 400
    assert inbox(client).status == 200
    sandbox.tenant.app_mailboxes = frozenset({ALERTS})
    assert inbox(client).code == "ErrorAccessDenied"
    client.close()


def test_certificate_with_msal(sandbox, microsoft):
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    good, bad = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    sandbox.tenant.client_certificate = _self_signed(x509, serialization, good)
    scope = ["https://graph.microsoft.com/.default"]
    for key, expected in ((good, None), (bad, "invalid_client")):
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        credential = {"private_key": pem.decode(), "thumbprint": "0" * 40}
        app = microsoft("ConfidentialClientApplication", client_credential=credential)
        assert app.acquire_token_for_client(scope).get("error") == expected


def _self_signed(x509, serialization, key):
    import datetime

    from cryptography.hazmat.primitives import hashes

    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "app")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(datetime.datetime(2020, 1, 1))
    return (
        builder.not_valid_after(datetime.datetime(2049, 1, 1))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def test_tokens_expire_and_are_revoked(sandbox, graph):
    sandbox.entra.token_seconds = 0
    expired = Client(sandbox)
    assert expired("GET", "/me").code == "InvalidAuthenticationToken"
    assert "invalid_token" in expired("GET", "/me").headers["www-authenticate"]
    expired.close()
    assert graph("GET", "/me").status == 200
    sandbox.entra.revoke_access()
    assert graph("GET", "/me").status == 401


@pytest.mark.parametrize(
    ("scopes", "method", "path", "allowed"),
    [
        ({"User.Read"}, "GET", "/me", True),
        ({"Mail.Send"}, "POST", "/me/sendMail", True),
        ({"Mail.ReadWrite"}, "POST", "/me/sendMail", False),
        ({"Mail.Send"}, "GET", "/me/messages", False),
        ({"Mail.Send"}, "POST", "/me/messages", False),
        ({"Mail.Read"}, "GET", "/me/messages", True),
        ({"Mail.ReadWrite"}, "GET", users(ALERTS, "/messages"), False),
        ({"Mail.ReadWrite.Shared"}, "GET", users(ALERTS, "/messages"), True),
        ({"Mail.Send"}, "POST", users(ALERTS, "/sendMail"), False),
        ({"Mail.Send.Shared"}, "POST", users(ALERTS, "/sendMail"), True),
        ({"Mail.Send"}, "POST", users(RELAY, "/sendMail"), True),
    ],
)
def test_scopes(sandbox, scopes, method, path, allowed):
    client = Client(sandbox, sandbox.entra.token(None, *scopes))
    sender = ALERTS if ALERTS in path else RELAY
    answer = client(method, path, mail(sender) if method == "POST" else None)
    assert (answer.status < 300) is allowed
    if not allowed:
        assert (answer.status, answer.code) == (403, "ErrorAccessDenied")
    client.close()


def test_sending_as_another_from_ones_own_mailbox_needs_the_shared_scope(sandbox):
    client = Client(sandbox, sandbox.entra.token(None, "Mail.Send"))
    assert client("POST", "/me/sendMail", mail(ALERTS)).code == "ErrorAccessDenied"
    client.close()
