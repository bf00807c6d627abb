"""The app registration in Entra: its cloud, tenant, permissions and secret, and msal apps made of them."""

from __future__ import annotations

import contextlib
import re
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ..errors import ConfigError, Temporary
from ..system.choices import Cloud, Permissions
from ..system.outbound import Outbound, Settings
from .http import HttpClient, Misconfigured, refusal

# Login and Graph hosts of the national clouds (deployments.md).
CLOUDS = {
    Cloud.GLOBAL: ("https://login.microsoftonline.com", "https://graph.microsoft.com"),
    Cloud.USGOV_HIGH: ("https://login.microsoftonline.us", "https://graph.microsoft.us"),
    Cloud.USGOV_DOD: ("https://login.microsoftonline.us", "https://dod-graph.microsoft.us"),
    Cloud.CHINA: ("https://login.partner.microsoftonline.cn", "https://microsoftgraph.chinacloudapi.cn"),
}

# The permissions requested, by the config's `permissions` (permissions-reference.md).
PERMISSIONS = {
    Permissions.FULL: ("Mail.Send", "Mail.ReadWrite", "Mail.Send.Shared", "Mail.ReadWrite.Shared", "User.Read"),
    Permissions.SEND: ("Mail.Send", "Mail.Send.Shared", "User.Read"),
}

_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

# How many octets of a key file are read.
_KEY_LIMIT = 64 * 1024


def endpoints(
    cloud: Cloud, graph_url: Optional[str] = None, authority_url: Optional[str] = None
) -> Tuple[str, str, str]:
    """(authority, graph, resource): where to sign in, where Graph is, and Graph's name in scopes.

    Scopes name the cloud's own Graph even if it is reached over another host,
    unless the sign-in is elsewhere too: then it is a cloud of its own.
    """
    authority, graph = CLOUDS[cloud]
    resource = graph_url if graph_url and authority_url else graph
    return (authority_url or authority).rstrip("/"), (graph_url or graph).rstrip("/"), resource.rstrip("/")


class AppCertificate(NamedTuple):
    """What an app signs with: the path of a key in PEM, and its certificate's SHA-1 in hex."""

    private_key: str
    thumbprint: str


class Registration:
    """What never changes while the program runs.  Any thread may use it."""

    def __init__(
        self,
        *,
        client_id: str,
        tenant_id: str,
        permissions: Permissions,
        outbound: Any,
        authority_url: str,
        resource: str,
        client_secret: Optional[str] = None,
        client_certificate: Any = None,
    ):
        """The URLs are those of `endpoints`; for the other values see oauth.Tokens."""
        self._settings: Dict[str, Optional[str]] = {
            "client_id": client_id,
            "tenant_id": tenant_id,
            "permissions": permissions,
            "authority_url": authority_url,
            "resource": resource,
            "client_secret": client_secret,
        }
        self.client_id = client_id
        self.permissions = PERMISSIONS[permissions]
        self.scopes: List[str] = [f"{resource}/{name}" for name in self.permissions]
        self.app_scopes: List[str] = [resource + "/.default"]
        self.app_only = bool(client_secret or client_certificate)
        self._tenant_id = tenant_id.lower()
        self._authority = f"{authority_url}/{tenant_id}"
        self._outbound = outbound
        self._secret = client_secret
        self._certificate = client_certificate

    def settings(self) -> Dict[str, Any]:
        """What `of` makes the same from in another process, as JSON; it holds the secret and the proxy's password."""
        pair = self._certificate and [self._certificate.private_key, self._certificate.thumbprint]
        return {**self._settings, "outbound": self._outbound.settings, "client_certificate": pair}

    @classmethod
    def of(cls, settings: Dict[str, Any]) -> Registration:
        """The registration of these `settings`."""
        pair = settings["client_certificate"]
        outbound = Outbound(**Settings(*settings["outbound"])._asdict())
        return cls(**{**settings, "outbound": outbound, "client_certificate": pair and AppCertificate(*pair)})

    def http(self) -> HttpClient:
        """A client for one thread and one task; close it."""
        return HttpClient(self._outbound)

    def compare(self, scope: Optional[str]) -> Tuple[List[str], List[str]]:
        """The permissions requested that a `scope` of Entra holds, and those it lacks.

        No scope means: as requested (RFC 6749, 5.1).
        """
        granted = (" ".join(self.scopes) if scope is None else scope).lower().split()
        names = {one.rpartition("/")[2] for one in granted}
        return (
            [name for name in self.permissions if name.lower() in names],
            [name for name in self.permissions if name.lower() not in names],
        )

    @property
    def known_tenant(self) -> Optional[str]:
        """The tenant's ID in lower case; None if the config names it by a domain."""
        return self._tenant_id if _GUID.fullmatch(self._tenant_id) else None

    def tenant(self) -> str:
        """The tenant's ID; for a domain, from its discovery document.  Raises Temporary or Misconfigured."""
        if self.known_tenant:
            return self.known_tenant
        with self.http() as client:
            status, _, document = client.exchange("GET", self._authority + "/v2.0/.well-known/openid-configuration")
        if status != 200:
            raise refusal(document)
        found = _GUID.search(str(document.get("issuer", "")))
        if found is None:
            raise Misconfigured("Microsoft does not return the tenant's ID. Put the ID itself into tenant_id.")
        return found.group().lower()

    @contextlib.contextmanager
    def public(self, cache: Any) -> Iterator[Any]:
        """msal's PublicClientApplication over a token cache, for the duration of a with block."""
        with self._app("PublicClientApplication", token_cache=cache) as app:
            yield app

    @contextlib.contextmanager
    def confidential(self) -> Iterator[Any]:
        """msal's ConfidentialClientApplication with an empty cache.  Raises Misconfigured if the key is unusable."""
        if self._secret:
            credential: Any = str(self._secret)
        else:
            try:
                key = private_key(self._certificate.private_key)
            except ConfigError as error:
                raise Misconfigured(str(error)) from None
            credential = {"private_key": key, "thumbprint": self._certificate.thumbprint}
        with self._app("ConfidentialClientApplication", client_credential=credential) as app:
            yield app

    @contextlib.contextmanager
    def _app(self, kind: str, **more: Any) -> Iterator[Any]:
        """An msal app; raises Temporary for what goes wrong inside msal.

        Our hosts need no validation by another host of Microsoft's: instance
        discovery would only add one more host that a firewall must let through.
        """
        library = msal()
        trouble = (ValueError, RuntimeError, LookupError, TypeError, AttributeError, AssertionError)
        with self.http() as client:
            try:
                yield getattr(library, kind)(
                    self.client_id, authority=self._authority, http_client=client, instance_discovery=False, **more
                )
            except trouble + (library.exceptions.MsalError,) as error:
                raise Temporary(
                    f"msal cannot use Microsoft's answer ({type(error).__name__}). Is this machine's clock right?"
                ) from None


def msal() -> Any:
    """The library, imported when it is first needed; Temporary if it is missing."""
    try:
        import msal as library  # type: ignore[import-untyped]  # msal has no type hints
    except ImportError:
        raise Temporary("The Python library msal is missing. Install python3-msal, or `pip install msal`.") from None
    return library


def private_key(path: str) -> str:
    """The PEM text of the RSA key of client_certificate; ConfigError if msal could not sign with it."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        with open(path, "rb") as file:
            content = file.read(_KEY_LIMIT)
        key: Any = load_pem_private_key(content, None)
    except OSError as error:
        raise ConfigError(f"client_certificate.private_key: {path} cannot be read: {error.strerror}.") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise ConfigError(f"client_certificate.private_key: {path} is not an RSA key in PEM form without password.")
    return content.decode("utf-8", "replace")
