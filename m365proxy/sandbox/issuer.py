"""The stand-in for Microsoft Entra: device code, refresh and client credential grants.

Wire forms as in v2-oauth2-device-code and v2-oauth2-client-creds-grant-flow.
Tokens are unsigned: msal does not check, and Graph is in this process.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
import uuid
from collections import Counter
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import parse_qsl

from .mailstore import Actor, Refusal
from .tenant import Tenant
from .webcall import Answer, Call, answer_json

_DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

# Scopes that are about the sign-in itself; offline_access is never echoed.
_SIGN_IN_SCOPES = ("openid", "profile", "email")

# The texts of the AADSTS numbers, shortened (reference-error-codes).
_TEXTS = {
    50173: "The provided grant has expired due to it being revoked, a fresh auth token is needed.",
    65001: "The user or administrator has not consented to use the application.",
    70000: "Provided grant is invalid or malformed.",
    70016: "OAuth 2.0 device flow error. Authorization is pending. Continue polling.",
    70018: "Invalid verification code due to User typing in wrong user code for device code flow.",
    70019: "The verification code expired before the user was authenticated.",
    90002: "Tenant not found. Check to make sure you have the correct tenant ID.",
    90014: "A required field is missing from the credential.",
    700016: "Application was not found in the directory.",
    700024: "Client assertion is not within its valid time range.",
    700025: "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.",
    700027: "The certificate with identifier used to sign the client assertion is not registered on application.",
    700082: "The refresh token has expired due to inactivity.",
    7000215: "Invalid client secret provided.",
    7000218: "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
    7000222: "The provided client secret keys are expired.",
    1002012: "The provided value for scope is not valid: it must end in /.default.",
}


class OAuthError(Exception):
    """An error answer of the token endpoint."""

    def __init__(self, error: str, aadsts: int = 0, text: str = "", status: int = 0, suberror: str = ""):
        super().__init__(error)
        self.error = error
        self.aadsts = aadsts
        self.text = text or _TEXTS.get(aadsts, error)
        self.status = status or (401 if error == "invalid_client" else 400)
        self.suberror = suberror


class _Refusing(NamedTuple):
    grant: str
    error: OAuthError
    html: bool


class _Flow(NamedTuple):
    user_code: str
    scopes: Sequence[str]
    expires: float  # monotonic


class Entra:
    """Sign-in, tokens and their lifetimes.  The attributes are modes; any thread may use it."""

    def __init__(self, tenant: Tenant, base: Callable[[], str]):
        self.approve_after: Optional[int] = 0  # polls answered "pending" first; None: until approve()
        self.interval = 1  # seconds between polls, as sent to the client
        self.code_seconds = 900
        self.token_seconds = 3900  # lifetime of an access token
        self.give_refresh_token = True
        self.public_client_allowed = True  # "Allow public client flows" of the app registration
        self.counts: Counter[str] = Counter()  # token requests by grant, "devicecode", "discovery"
        self._tenant = tenant
        self._base = base
        self._lock = threading.Lock()
        self._refusing: List[_Refusing] = []
        self._flows: Dict[str, _Flow] = {}
        self._polls: Counter[str] = Counter()
        self._refresh: Dict[str, Tuple[str, str]] = {}  # token -> address, tenant id
        self._access: Dict[str, Tuple[Actor, float]] = {}  # token -> who, until when (monotonic)
        self._revoked: Dict[str, int] = {}  # refresh token -> AADSTS code

    # --- what a test may do

    def refuse(
        self,
        grant: str,
        error: str = "server_error",
        aadsts: int = 0,
        *,
        times: int = 1,
        status: int = 0,
        text: str = "",
        suberror: str = "",
        html: bool = False,
    ) -> None:
        """Answer the next `times` requests of a grant ("device_code", "refresh_token", "client_credentials",
        or "devicecode" for the flow's start) with that error; `html`: a page with that status."""
        rule = _Refusing(grant, OAuthError(error, aadsts, text, status, suberror), html)
        with self._lock:
            self._refusing += [rule] * times

    def approve(self, user_code: str = "") -> None:
        """Act as if somebody typed the code: the next poll succeeds.  LookupError if nobody waits for that code."""
        with self._lock:
            waiting = {flow.user_code for flow in self._flows.values() if time.monotonic() < flow.expires}
        if user_code and user_code not in waiting:
            raise LookupError(user_code)
        self.approve_after = 0

    def revoke(self, aadsts: int = 50173) -> None:
        """End every sign-in so far: access tokens become unknown, refresh tokens are refused with that code."""
        with self._lock:
            self._revoked.update(dict.fromkeys(self._refresh, aadsts))
            self._access.clear()

    def revoke_access(self) -> None:
        """Make the access tokens so far unknown; refresh tokens still work."""
        with self._lock:
            self._access.clear()

    def token(self, user: Optional[str] = None, *scopes: str) -> str:
        """An access token without any sign-in; `user` "" is the application, None the tenant's user."""
        granted = self._tenant.granted_roles if user == "" else self._tenant.granted_scopes
        actor = Actor(self._tenant.user if user is None else user.lower(), frozenset(scopes or granted))
        return self._issue(actor, self._tenant.tenant_id)

    # --- for Graph

    def actor(self, headers: Dict[str, str]) -> Actor:
        """Who a request's bearer token speaks for; raises Refusal 401 if the token is not valid."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        with self._lock:
            actor, until = self._access.get(token.strip(), (None, 0.0))
        if scheme.lower() != "bearer" or actor is None or time.monotonic() >= until:
            text = "Lifetime validation failed, the token is expired." if actor else "Access token validation failure."
            challenge = {"WWW-Authenticate": 'Bearer realm="", error="invalid_token"'}
            raise Refusal(401, "InvalidAuthenticationToken", text, **challenge)
        return actor

    # --- the endpoints

    def handle(self, call: Call) -> Answer:
        """Answer one request below /{tenant}/."""
        tenant, *rest = call.segments
        known = {
            ("v2.0", ".well-known", "openid-configuration"): ("GET", self._configuration),
            ("discovery", "instance"): ("GET", self._instance),
            ("oauth2", "v2.0", "devicecode"): ("POST", self._device_code),
            ("oauth2", "v2.0", "token"): ("POST", self._token),
        }
        method, function = known.get(tuple(rest), ("", None))
        if function is None:
            return Answer(404)
        if call.method != method:
            return Answer(405, headers={"Allow": method})
        try:
            return function(tenant, call)
        except OAuthError as error:
            return self._error(error)

    def _error(self, error: OAuthError) -> Answer:
        trace, correlation = str(uuid.uuid4()), str(uuid.uuid4())
        now = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(self._tenant.clock()))
        prefix = f"AADSTS{error.aadsts}: " if error.aadsts else ""
        value: Dict[str, Any] = {
            "error": error.error,
            "error_description": f"{prefix}{error.text} Trace ID: {trace} "
            f"Correlation ID: {correlation} Timestamp: {now}",
            "error_codes": [error.aadsts] if error.aadsts else [],
            "timestamp": now,
            "trace_id": trace,
            "correlation_id": correlation,
        }
        if error.suberror:
            value["suberror"] = error.suberror
        return answer_json(error.status, value)

    def _scripted(self, grant: str) -> Optional[Answer]:
        with self._lock:
            self.counts[grant] += 1
            rule = next((rule for rule in self._refusing if rule.grant == grant), None)
            if rule is None:
                return None
            self._refusing.remove(rule)
        if rule.html:
            page = b"<html><body>We are sorry, something went wrong.</body></html>"
            return Answer(rule.error.status, page, {"Content-Type": "text/html"})
        raise rule.error

    def _check_tenant(self, tenant: str) -> None:
        domain = self._tenant.user.rpartition("@")[2]
        if tenant.lower() not in (self._tenant.tenant_id, "organizations", "common", domain):
            raise OAuthError("invalid_tenant", 90002)

    def _configuration(self, tenant: str, call: Call) -> Answer:
        self.counts["discovery"] += 1
        self._check_tenant(tenant)
        root = f"{self._base()}/{tenant}"
        return answer_json(
            200,
            {
                "issuer": f"{self._base()}/{self._tenant.tenant_id}/v2.0",
                "authorization_endpoint": f"{root}/oauth2/v2.0/authorize",
                "token_endpoint": f"{root}/oauth2/v2.0/token",
                "device_authorization_endpoint": f"{root}/oauth2/v2.0/devicecode",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "response_types_supported": ["code", "id_token"],
                "scopes_supported": ["openid", "profile", "email", "offline_access"],
                "tenant_region_scope": None,
            },
        )

    def _instance(self, tenant: str, call: Call) -> Answer:
        base = self._base()
        host = base.partition("://")[2]
        return answer_json(
            200,
            {
                "tenant_discovery_endpoint": f"{base}/{self._tenant.tenant_id}/v2.0/.well-known/openid-configuration",
                "api-version": "1.1",
                "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
            },
        )

    def _form(self, tenant: str, call: Call) -> Dict[str, str]:
        if call.content_type != "application/x-www-form-urlencoded":
            raise OAuthError("invalid_request", 90014)
        self._check_tenant(tenant)
        form = dict(parse_qsl(call.body.decode("utf-8", "replace")))
        if form.get("client_id") != self._tenant.client_id:
            raise OAuthError("unauthorized_client" if form.get("client_id") else "invalid_request", 700016)
        return form

    def _device_code(self, tenant: str, call: Call) -> Answer:
        form = self._form(tenant, call)
        scripted = self._scripted("devicecode")
        if scripted is not None:
            return scripted
        if not form.get("scope"):
            raise OAuthError("invalid_request", 90014)
        code, user_code = secrets.token_urlsafe(48), secrets.token_hex(5).upper()[:9]
        with self._lock:
            self._flows[code] = _Flow(user_code, form["scope"].split(), time.monotonic() + self.code_seconds)
        page = "https://microsoft.com/devicelogin"
        return answer_json(
            200,
            {
                "user_code": user_code,
                "device_code": code,
                "verification_uri": page,
                "expires_in": self.code_seconds,
                "interval": self.interval,
                "message": f"To sign in, use a web browser to open the page {page} and enter the code {user_code} "
                "to authenticate.",
            },
        )

    def _token(self, tenant: str, call: Call) -> Answer:
        form = self._form(tenant, call)
        grant = {_DEVICE_CODE: "device_code"}.get(form.get("grant_type", ""), form.get("grant_type", ""))
        serve = {
            "device_code": self._by_device_code,
            "refresh_token": self._by_refresh_token,
            "client_credentials": self._by_credentials,
        }.get(grant)
        if serve is None:
            raise OAuthError("unsupported_grant_type", 70000)
        return self._scripted(grant) or serve(form)

    def _by_device_code(self, form: Dict[str, str]) -> Answer:
        self._check_public(form)
        code = form.get("device_code", "")
        with self._lock:
            flow = self._flows.get(code)
            self._polls[code] += 1
            polls = self._polls[code]
        if flow is None:
            raise OAuthError("bad_verification_code", 70018)
        if time.monotonic() >= flow.expires:
            raise OAuthError("expired_token", 70019)
        if self.approve_after is None or polls <= self.approve_after:
            raise OAuthError("authorization_pending", 70016)
        answer = self._signed_in(self._tenant.signs_in_as.lower(), self._tenant.signs_in_tenant, flow.scopes, "")
        with self._lock:
            self._flows.pop(code, None)  # a code works once
        return answer

    def _by_refresh_token(self, form: Dict[str, str]) -> Answer:
        self._check_public(form)
        token = form.get("refresh_token", "")
        with self._lock:
            holder = self._refresh.get(token)
            revoked = self._revoked.get(token)
        if holder is None:
            raise OAuthError("invalid_grant", 70000)
        if revoked:
            raise OAuthError("invalid_grant", revoked, suberror="bad_token")
        return self._signed_in(*holder, form.get("scope", "").split(), token)

    def _check_public(self, form: Dict[str, str]) -> None:
        if "client_secret" in form or "client_assertion" in form:
            raise OAuthError("invalid_client", 700025)
        if not self.public_client_allowed:
            raise OAuthError("invalid_client", 7000218)

    def _signed_in(self, user: str, tid: str, asked: Sequence[str], old: str) -> Answer:
        granted = [scope for scope in asked if scope.rpartition("/")[2] in self._tenant.granted_scopes]
        if any(scope.endswith("/.default") for scope in asked):
            granted = sorted(self._tenant.granted_scopes)
        if not granted:
            raise OAuthError("invalid_grant", 65001, suberror="consent_required")
        actor = Actor(user, frozenset(scope.rpartition("/")[2] for scope in granted))
        value: Dict[str, Any] = {
            "token_type": "Bearer",
            # As requested: msal stores the token under these names.
            "scope": " ".join([*granted, *(s for s in asked if s in _SIGN_IN_SCOPES)]),
            "expires_in": self.token_seconds,
            "ext_expires_in": self.token_seconds,
            "access_token": self._issue(actor, tid),
        }
        if "openid" in asked:
            value["id_token"] = self._id_token(user, tid)
            identity = {"uid": self._tenant.person(user).oid, "utid": tid}
            value["client_info"] = _base64url(json.dumps(identity).encode())
        if "offline_access" in asked and self.give_refresh_token:
            # Rolling: the old one stays valid (refresh-tokens).
            value["refresh_token"] = token = "0.AX" + secrets.token_urlsafe(300)
            with self._lock:
                self._refresh[token] = (user, tid)
        return answer_json(200, value)

    def _id_token(self, user: str, tid: str) -> str:
        now = int(time.time())
        person = self._tenant.person(user)
        return _jwt(
            {
                "aud": self._tenant.client_id,
                "iss": f"{self._base()}/{tid}/v2.0",
                "iat": now,
                "nbf": now,
                "exp": now + 3600,
                "name": person.upn,
                "oid": person.oid,
                "preferred_username": person.upn,
                "sub": secrets.token_urlsafe(32),
                "tid": tid,
                "ver": "2.0",
            }
        )

    def _by_credentials(self, form: Dict[str, str]) -> Answer:
        if form.get("client_assertion_type") == _ASSERTION:
            self._check_assertion(form.get("client_assertion", ""))
        elif "client_secret" not in form:
            raise OAuthError("invalid_client", 7000218)
        elif form["client_secret"] not in self._tenant.client_secrets:
            raise OAuthError("invalid_client", 7000215)
        if not form.get("scope", "").endswith("/.default"):
            raise OAuthError("invalid_scope", 1002012)
        actor = Actor("", frozenset(self._tenant.granted_roles))
        return answer_json(
            200,
            {
                "token_type": "Bearer",
                "expires_in": self.token_seconds,
                "ext_expires_in": self.token_seconds,
                "access_token": self._issue(actor, self._tenant.tenant_id),
            },
        )

    def _check_assertion(self, assertion: str) -> None:
        """A JWT signed with the application's certificate (certificate-credentials)."""
        try:
            head, claims, signature = (_from_base64url(part) for part in assertion.split("."))
            header, stated = json.loads(head), json.loads(claims)
            expires = float(stated["exp"])
        except (ValueError, KeyError, TypeError):
            raise OAuthError("invalid_client", 700027) from None
        if expires < time.time():
            raise OAuthError("invalid_client", 700024)
        if {stated.get("iss"), stated.get("sub")} != {self._tenant.client_id}:
            raise OAuthError("invalid_client", 700027)
        if self._tenant.client_certificate is not None:
            signed = assertion.rpartition(".")[0].encode()
            _verify(self._tenant.client_certificate, header.get("alg"), signature, signed)

    def _issue(self, actor: Actor, tid: str) -> str:
        now = time.time()
        token = _jwt({"aud": "https://graph.microsoft.com", "tid": tid, "iat": int(now), "jti": secrets.token_hex(16)})
        with self._lock:
            self._access[token] = (actor, time.monotonic() + self.token_seconds)
        return token


def _verify(certificate: bytes, algorithm: object, signature: bytes, signed: bytes) -> None:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    key: Any = x509.load_pem_x509_certificate(certificate).public_key()
    sha256 = hashes.SHA256()
    form: Any = padding.PSS(padding.MGF1(sha256), 32) if algorithm == "PS256" else padding.PKCS1v15()
    try:
        key.verify(signature, signed, form, sha256)
    except InvalidSignature:
        raise OAuthError("invalid_client", 700027) from None


def _jwt(claims: Dict[str, Any]) -> str:
    head = _base64url(b'{"alg":"none","typ":"JWT"}')
    return f"{head}.{_base64url(json.dumps(claims).encode())}.{secrets.token_urlsafe(16)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
