"""The sessions of requests that Outbound makes: they can be interrupted, and take no answer that is cut short.

Only Outbound.session imports this module, because requests takes long to load.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import urllib.parse
from typing import (
    IO,
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Mapping,
    MutableMapping,
    Optional,
    Protocol,
    Tuple,
    Type,
    Union,
    cast,
)

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from requests.utils import get_environ_proxies

if TYPE_CHECKING:
    from urllib3.connection import HTTPConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.poolmanager import PoolManager

# What requests calls verify: the path of certificates, or True for the libraries' own.
Trust = Union[str, bool]


# A URL that needs none of the repairs that requests makes.
_PLAIN_URL = re.compile(r"https://[a-z0-9.-]+(:[0-9]+)?/([A-Za-z0-9/_~$@?=&'()*+,;:-]|%[0-9A-F]{2}|\.(?!\.?/))*")


class Body(Protocol):
    """What is sent: `read` as of a file; an empty one is sent as no octets at all."""

    def __len__(self) -> int: ...

    def read(self, size: int = -1) -> bytes: ...


class Session(requests.Session):
    """Can be interrupted while it waits for an answer, and asks at the last moment whether a request may leave."""

    def __init__(self, context: ssl.SSLContext, trust: Trust):
        super().__init__()
        self._adapter = _Adapter(context, trust)
        self.mount("https://", self._adapter)
        self.mount("http://", self._adapter)
        self.hooks["response"].append(_require_whole_body)

    def exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: Optional[Body], timeout: Tuple[float, float]
    ) -> requests.Response:
        """One request as it is given; the head of its answer.  Raises what `request` raises.

        `request` gets ready for what ours never need: cookies, redirects, other kinds of bodies, settings to merge.
        That takes longer than all the rest of a request.  `timeout`: seconds for connecting, and of silence.
        """
        request = requests.PreparedRequest()
        request.method, request.url = method, url
        request.headers = CaseInsensitiveDict({**cast("Mapping[str, str]", self.headers), **headers})
        if not _PLAIN_URL.fullmatch(url):
            request.prepare_url(url, None)
        if body is not None:
            request.headers["Content-Length"] = str(len(body))
            request.body = cast("Any", body if len(body) else None)
        response = self._adapter.send(
            request, stream=True, timeout=timeout, verify=True, proxies=dict(self.proxies_for(url))
        )
        _require_whole_body(response)
        return response

    def proxies_for(self, url: str) -> Mapping[str, str]:
        """The proxies on the way to a URL, by its scheme."""
        return cast("Mapping[str, str]", self.proxies)

    def before_each(self, check: Callable[[], None]) -> None:
        """Call `check` when a request's connection is ready and none of its octets has left.

        What it raises ends the request, and comes out of it as it is.
        """
        self._adapter.check = check

    def interrupt(self) -> None:
        """From another thread: what is under way fails.  Neither connection nor session is of any use afterwards."""
        self._adapter.interrupted = True  # before the sockets: one may just be on its way to them
        for sock in self._adapter.sockets:
            _shut_down(sock)

    def close(self) -> None:
        super().close()
        self._adapter.sockets = ()


class EnvironmentSession(Session):
    """Asks the environment for proxies, and for nothing else."""

    def __init__(self, context: ssl.SSLContext, trust: Trust):
        super().__init__(context, trust)
        self._found: Dict[str, Dict[str, str]] = {}  # by scheme and host: looking through the environment takes long

    def proxies_for(self, url: str) -> Mapping[str, str]:
        parts = urllib.parse.urlsplit(url)
        place = f"{parts.scheme}://{parts.netloc}"
        if place not in self._found:
            self._found[place] = get_environ_proxies(url)
        return self._found[place]

    def merge_environment_settings(
        self,
        url: Union[str, bytes, None],
        proxies: Optional[MutableMapping[str, str]],
        stream: Optional[bool],
        verify: Any,
        cert: Any,
    ) -> Any:
        proxies = {**get_environ_proxies(url or ""), **(proxies or {})}
        return super().merge_environment_settings(url, proxies, stream, verify, cert)


class _Adapter(HTTPAdapter):
    """Has the shared TLS context.  Remembers its sockets: nothing else leads to that of a request without an answer."""

    sockets: Tuple[socket.socket, ...] = ()  # replaced and never changed: another thread may be reading it
    interrupted = False
    check: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, context: ssl.SSLContext, trust: Trust):
        self._context = context
        self._trust = trust
        super().__init__()

    def cert_verify(self, conn: HTTPSConnectionPool, url: str, verify: Trust, cert: Any) -> None:
        # The context has the certificates; but that of a proxy spoken to by TLS is urllib3's own.
        if conn.proxy is not None and conn.proxy.scheme == "https":
            super().cert_verify(conn, url, self._trust, cert)  # type: ignore[no-untyped-call]  # so in types-requests
        else:
            conn.cert_reqs, conn.ca_certs, conn.ca_cert_dir = "CERT_REQUIRED", None, None

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **more: Any) -> None:
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._context, **more)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **more: Any) -> PoolManager:
        manager: PoolManager = super().proxy_manager_for(proxy, ssl_context=self._context, **more)
        self._watch(manager)
        return manager

    def remember(self, sock: socket.socket) -> None:
        """Remember a socket.  One that TLS was put on has gone into another."""
        self.sockets = (*(one for one in self.sockets if one.fileno() >= 0), sock)
        if self.interrupted:
            _shut_down(sock)

    def _watch(self, manager: PoolManager) -> None:
        pools = cast("Dict[str, Type[HTTPConnectionPool]]", manager.pool_classes_by_scheme)
        if any(hasattr(pool.ConnectionCls, "is_watched") for pool in pools.values()):
            return
        manager.pool_classes_by_scheme = {
            scheme: type("Pool", (pool,), {"ConnectionCls": _connection_type(pool.ConnectionCls, self)})
            for scheme, pool in pools.items()
        }


def _connection_type(base: Any, adapter: _Adapter) -> Type[HTTPConnection]:
    """`base`: a class of connections; proxies that speak SOCKS have one of their own."""

    class Connection(base):  # type: ignore[misc]  # its base is known at run time only
        """Reports its sockets to the adapter, asks it before each request, and takes no answer without a whole head."""

        is_watched = True
        response_class = _WholeHead

        def _new_conn(self) -> socket.socket:
            # Before a proxy is asked: its answer may trickle too.
            sock: socket.socket = super()._new_conn()
            adapter.remember(sock)
            return sock

        def connect(self) -> None:
            super().connect()
            adapter.remember(self.sock)

        def putrequest(self, *args: Any, **more: Any) -> None:
            adapter.check()
            super().putrequest(*args, **more)

    return Connection


class _LastLine:
    """Reads for http.client, and knows the line that was read last."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.line = b""

    def readline(self, limit: int) -> bytes:
        self.line = self._file.readline(limit)
        return self.line

    def close(self) -> None:
        self._file.close()


class _WholeHead(http.client.HTTPResponse):
    """An answer whose head came to its end: http.client takes one that breaks off for a whole one without a body."""

    fp: Any

    def begin(self) -> None:
        file = self.fp
        self.fp = last = _LastLine(file)
        try:
            super().begin()
        finally:
            if self.fp is last:
                self.fp = file
        if last.line not in (b"\r\n", b"\n"):
            raise http.client.IncompleteRead(last.line)


def _shut_down(sock: socket.socket) -> None:
    # TLS within a proxy's TLS is a wrapper.  SSLSocket.shutdown would drop the TLS layer under the reader's feet.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(getattr(sock, "socket", sock), socket.SHUT_RDWR)


def _require_whole_body(response: requests.Response, *_args: object, **_more: object) -> None:
    # urllib3 1.26 takes a body cut short of its Content-Length for a whole one unless told.
    response.raw.enforce_content_length = True
