"""The way out: sessions for everything that goes to Microsoft, sign-in, Graph and uploads alike.

requests takes long to load, so it is imported with the first session.
"""

from __future__ import annotations

import errno
import http.client
import os
import re
import socket
import ssl
import threading
import urllib.parse
from typing import TYPE_CHECKING, Iterator, Mapping, NamedTuple, Optional

from .. import __version__
from ..errors import ConfigError, ProxyError, Temporary
from . import sockets

if TYPE_CHECKING:
    from .httpsession import Session, Trust

# Debian, Alpine and OpenWrt; Fedora; BSD and older OpenWrt
_SYSTEM_STORES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")

_UNREADABLE = "The file with the certificates to trust cannot be read. Check ca_file or REQUESTS_CA_BUNDLE."

_UNUSABLE_PROXY = "The proxy's URL cannot be used: check https_proxy, or HTTPS_PROXY in the environment."

_CLOSED = (ConnectionError, http.client.RemoteDisconnected, http.client.IncompleteRead, ssl.SSLEOFError)


class Settings(NamedTuple):
    """What an Outbound is made of, to make the same in another process.  The proxy's URL may hold a password."""

    proxy: Optional[str]
    ca_file: Optional[str]
    user_agent: str
    direct: bool


class Outbound:
    """Makes sessions.  Any thread may call `session`; a session belongs to one thread at a time."""

    def __init__(
        self,
        proxy: Optional[str] = None,
        ca_file: Optional[str] = None,
        user_agent: str = "m365proxy/" + __version__,
        *,
        direct: bool = False,
        environ: Mapping[str, str] = os.environ,
    ):
        """`proxy`: a URL, credentials inside; None: HTTPS_PROXY and NO_PROXY decide for each URL.

        `direct`: no proxy whatever the environment says.  ConfigError if the
        file with the certificates to trust cannot be used.
        """
        self.settings = Settings(proxy, ca_file, user_agent, direct)
        self._environment = proxy is None and not direct
        self._proxies = {"http": proxy, "https": proxy} if proxy and not direct else {}
        self._verify = _trust(ca_file, environ)
        self._user_agent = user_agent
        self._lock = threading.Lock()
        self._context: Optional[ssl.SSLContext] = None

    def session(self) -> Session:
        """A new session: no retries, no ~/.netrc.  Callers pass timeout= and allow_redirects=False.

        Temporary if the file with the certificates to trust is gone meanwhile.
        """
        from .httpsession import EnvironmentSession, Session

        kind = EnvironmentSession if self._environment else Session
        session = kind(self._shared_context(), self._verify)
        # With trust_env, ~/.netrc replaces our Authorization and REQUESTS_CA_BUNDLE our ca_file.
        session.trust_env = False
        session.proxies = dict(self._proxies)
        session.verify = True
        session.headers["User-Agent"] = self._user_agent
        return session

    def proxy_for(self, url: str) -> Optional[str]:
        """The URL of the proxy on the way to `url`, credentials inside; None if there is none.

        Temporary if there is one, and its URL cannot be used.
        """
        from requests.utils import get_environ_proxies, prepend_scheme_if_needed, select_proxy

        proxy = select_proxy(url, get_environ_proxies(url) if self._environment else self._proxies)
        if not proxy:
            return None
        try:
            found: str = prepend_scheme_if_needed(proxy, "http")  # type: ignore[no-untyped-call]
            parts = urllib.parse.urlsplit(found)
            is_usable = bool(parts.hostname) and parts.port != 0
        except ValueError:  # urllib3's own errors are ValueErrors
            is_usable = False
        if not is_usable:
            raise Temporary(_UNUSABLE_PROXY)
        return found

    def make_context(self) -> ssl.SSLContext:
        """A TLS context that trusts what sessions trust; it compares no names unless it is told to.

        Temporary if the file with the certificates to trust is gone meanwhile.
        """
        from requests.certs import where  # type: ignore[attr-defined]  # types-requests has it elsewhere
        from urllib3.util.ssl_ import create_urllib3_context

        path = self._verify if isinstance(self._verify, str) else where()
        context = create_urllib3_context()
        context.sslsocket_class = sockets.Socket
        try:
            context.load_verify_locations(**{"capath" if os.path.isdir(path) else "cafile": path})
        except OSError:
            raise Temporary(_UNREADABLE) from None
        return context

    def _shared_context(self) -> ssl.SSLContext:
        """One for all connections: the certificates take a megabyte and tens of milliseconds each time."""
        with self._lock:
            if self._context is None:
                self._context = self.make_context()
            return self._context

    @staticmethod
    def plain(error: BaseException, host: str = "") -> str:
        """`plain`, for those who are handed an Outbound."""
        return plain(error, host)


def _trust(ca_file: Optional[str], environ: Mapping[str, str]) -> Trust:
    """The certificates to trust.

    The system's are preferred to the libraries' own: an administrator's own CA is among them, and they are kept up
    to date.
    """
    candidates = [("ca_file", ca_file)]
    candidates += [(name, environ.get(name)) for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")]
    for origin, path in candidates:
        if path:
            _check_certificates(origin, path)
            return path
    return system_store() or True


def system_store() -> Optional[str]:
    """The file of certificates that the system trusts; None where there is none."""
    return next(filter(os.path.exists, _SYSTEM_STORES), None)


def _check_certificates(origin: str, path: str) -> None:
    if os.path.isdir(path):
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise ConfigError(f"{origin}: {path} holds no certificate in PEM form.") from None
    except OSError as error:
        raise ConfigError(f"{origin}: {path} cannot be read: {error.strerror}.") from None


def plain(error: BaseException, host: str = "") -> str:
    """One sentence for an error of requests, by how far the request got.

    It names the host at most (`host`, if the error does not know it): no URL, no credentials, none of the library's
    text.
    """
    causes = list(_causes(error))
    host = _host(causes) or host or "the server"
    for cause in causes:
        tunnel = re.search(r"Tunnel connection failed: (\d{3})", str(cause))
        if tunnel:
            return _of_tunnel(tunnel.group(1), host)
    names = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    if names & {"InvalidProxyURL", "InvalidSchema", "InvalidURL", "LocationParseError"}:
        return _UNUSABLE_PROXY
    if "ConnectTimeout" in names:
        return f"No connection to {host} in time. Does a firewall let TCP 443 out?"
    if "ProxyError" in names:
        host = f"the proxy (on the way to {host})"
    sentence = next(filter(None, (_of_cause(cause, host) for cause in reversed(causes))), None)
    return sentence or f"No answer from {host} ({type(error).__name__})."


def _of_tunnel(status: str, host: str) -> str:
    if status == "407":
        return (
            f"The proxy refuses connections to {host}: user or password is missing or wrong (407). Check https_proxy."
        )
    return f"The proxy refuses connections to {host} (status {status}). It must allow HTTPS to Microsoft."


def _of_cause(cause: BaseException, host: str) -> Optional[str]:
    """What one link of the chain says; None if it says nothing definite."""
    if isinstance(cause, socket.gaierror):
        return f"The name of {host} cannot be resolved. Check DNS and the network."
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _of_certificate(cause.verify_message or "", host)
    if type(cause).__name__ == "CertificateError":  # urllib3 1.26 compares the names itself
        return _of_certificate("it is for another name", host)
    if isinstance(cause, _CLOSED) and not isinstance(cause, ConnectionRefusedError):
        return f"The connection to {host} was closed before the answer was complete."
    if isinstance(cause, ssl.SSLError):
        reason = (cause.reason or "unknown reason").replace("_", " ").lower()
        return f"TLS with {host} failed ({reason}). Is a proxy or firewall in between?"
    if isinstance(cause, socket.timeout):
        return f"No answer from {host} in time."
    if isinstance(cause, http.client.HTTPException):
        return f"What {host} answered is not HTTP. Is a proxy or firewall in between?"
    if isinstance(cause, OSError) and "CA certificate" in str(cause):
        return _UNREADABLE
    if isinstance(cause, OSError) and cause.errno in errno.errorcode and cause.strerror:
        return f"No connection to {host}: {cause.strerror}."
    return None


def _of_certificate(reason: str, host: str) -> str:
    said = f"The certificate of {host} is not trusted ({reason or 'no reason given'})."
    if "not yet valid" in reason or "expired" in reason:
        return said + " Is this machine's clock right?"
    return said + " If a firewall inspects TLS, set ca_file to its CA certificate."


def _causes(error: object) -> Iterator[BaseException]:
    """The error and everything it wraps, outermost first, each once; errors of ours belong to an earlier call."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or isinstance(one, ProxyError) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [getattr(one, "reason", None), one.__cause__, *one.args]
        if not one.__suppress_context__:
            waiting.append(one.__context__)


def _host(causes: list[BaseException]) -> str:
    for cause in causes:
        request = getattr(cause, "request", None)
        if request is not None and request.url:
            return urllib.parse.urlsplit(request.url).hostname or ""
    return ""
