"""The stand-in Microsoft tenant on 127.0.0.1, over real HTTPS: what `demo` and the tests talk to.

Where Graph's behaviour is not known, it is stricter than Graph.  The state is in
`tenant`, the sign-in in `issuer`, the calls in `outlook`, the mishaps in
`faults`, HTTP in `webserver`; this module puts them together.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import ssl
import tempfile
import threading
import time
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Sequence, Tuple
from urllib.parse import unquote

from ..system.sockets import Socket
from .faults import Faults, found
from .issuer import Entra
from .mailstore import Refusal
from .outlook import Outlook
from .tenant import Tenant
from .uploads import Uploads
from .webcall import Answer, Call, refused
from .webserver import SHARES_PORTS, SORRY_PAGE, Cut, Request, Server, fault_answer, share_port

TENANT_ID = "5f0c8d3a-7f3e-4a52-9a55-0d6a1c6f1b11"
CLIENT_ID = "c1a4e2d0-36b5-4c0e-8b6f-2f6d1e0a7c22"

# How many requests are remembered.
_REMEMBERED = 20_000

# Seconds of silence before a connection is closed.
_IDLE_SECONDS = 120.0


class Sandbox:
    """The server and everything behind it.  The tenant's state outlives stop() and start()."""

    def __init__(
        self,
        mailboxes: Sequence[str] = ("relay@contoso.com", "alerts@contoso.com", "scanner@contoso.com"),
        user: str = "relay@contoso.com",
        tenant_id: str = TENANT_ID,
        client_id: str = CLIENT_ID,
        hosts: Tuple[str, str] = ("127.0.0.1", "127.0.0.1"),
    ):
        """`hosts`: the names of sign-in and Graph in URLs and certificate; they must lead to 127.0.0.1."""
        self.tenant_id = tenant_id
        self.client_id = client_id
        self.tenant = Tenant(mailboxes, user, tenant_id, client_id)
        self.faults = Faults()
        self.entra = Entra(self.tenant, lambda: self.authority_url)
        self.latency = 0.0  # seconds added to every request to Graph and to uploads
        self.idle_seconds = _IDLE_SECONDS  # a silent connection is closed after this time
        self.concurrency_limit: Optional[int] = 4  # more requests at the same time to one mailbox: 429
        self.linger = 0.002  # seconds for which an answered request still counts towards this limit
        self.peak_concurrency: Dict[str, int] = {}  # most requests at the same time, by mailbox
        self.port = 0
        self.ca_file = ""
        self._hosts = hosts
        self._uploads = Uploads(self.tenant, lambda: self.graph_url)
        self._outlook = Outlook(self.tenant, self.entra, self._uploads, lambda: self.graph_url, self._inner_fault)
        self._lock = threading.Lock()
        self._records: Deque[Request] = deque(maxlen=_REMEMBERED)
        self._running: Dict[str, int] = {}
        self._lingering: Dict[str, Deque[float]] = {}  # until when answered requests still count (monotonic)
        self._certificates: Tuple[bytes, bytes] = (b"", b"")
        self._context: Optional[ssl.SSLContext] = None
        self._server: Optional[Server] = None
        self._placeholder: Optional[socket.socket] = None

    # --- life

    def start(self, port: int = 0) -> None:
        """Listen on `port`, else on the port used before, else on a free one."""
        if self._context is None:
            self._prepare_tls()
        self.online(port)

    def stop(self) -> None:
        """Close everything and end every thread.  The state stays for another start()."""
        self._halt()
        self._let_go()
        shutil.rmtree(os.path.dirname(self.ca_file), ignore_errors=True)
        self._context = None

    def __enter__(self) -> "Sandbox":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def offline(self, mode: str = "refuse") -> None:
        """Go away: "refuse" connections, or "reset" them once they are made.  Open ones are closed."""
        if mode not in ("refuse", "reset"):
            raise ValueError(mode)
        self._halt()
        if mode == "reset":
            self._server = Server(self, self.port, resets=True)
        elif self._placeholder is None:
            self._placeholder = _bound(self.port)

    def online(self, port: int = 0) -> None:
        """Come back after offline()."""
        self._halt()
        if port or not SHARES_PORTS:
            self._let_go()
        self._server = Server(self, port or self.port)
        self.port = self._server.server_address[1]
        if SHARES_PORTS and self._placeholder is None:
            # Bound, but never listening: it refuses while we are away, and nobody else gets the port meanwhile.
            self._placeholder = _bound(self.port)

    def _halt(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.halt()

    def _let_go(self) -> None:
        placeholder, self._placeholder = self._placeholder, None
        if placeholder is not None:
            placeholder.close()

    @property
    def graph_url(self) -> str:
        """For the config: without /v1.0."""
        return self._url(self._hosts[1])

    @property
    def authority_url(self) -> str:
        """For the config."""
        return self._url(self._hosts[0])

    def _url(self, host: str) -> str:
        return f"https://{host}" if self.port == 443 else f"https://{host}:{self.port}"

    # --- the requests seen

    @property
    def requests(self) -> List[Request]:
        """The requests so far, oldest first (the last 20,000)."""
        with self._lock:
            return list(self._records)

    def seen(self, path: str = "", method: str = "") -> List[Request]:
        """The requests whose path and query, as sent or decoded, match the regular expression."""
        pattern = re.compile(path)
        return [r for r in self.requests if method in ("", r.method) and found(pattern, r.target)]

    def forget(self) -> None:
        """Forget the requests and the peaks so far."""
        with self._lock:
            self._records.clear()
            self.peak_concurrency.clear()

    @property
    def approve_after(self) -> Optional[int]:
        """Polls of a device code answered "pending" before it is approved; None: until entra.approve()."""
        return self.entra.approve_after

    @approve_after.setter
    def approve_after(self, polls: Optional[int]) -> None:
        self.entra.approve_after = polls

    # --- for the connections

    def begin(self, request: Request) -> bool:
        """Count a request that starts; False if it exceeds the limit of its mailbox."""
        with self._lock:
            self._records.append(request)
            if not request.mailbox:
                return True
            running = self._running[request.mailbox] = self._running.get(request.mailbox, 0) + 1
            self.peak_concurrency[request.mailbox] = max(running, self.peak_concurrency.get(request.mailbox, 0))
            lingering = self._lingering.setdefault(request.mailbox, deque())
            while lingering and lingering[0] <= request.start:
                lingering.popleft()
            return self.concurrency_limit is None or running + len(lingering) <= self.concurrency_limit

    def end(self, request: Request, status: Optional[int]) -> None:
        """Note that a request was answered with `status`, or (None) that it never will be."""
        with self._lock:
            if status is not None and request.end is None:
                request.status, request.end = status, time.monotonic()
            if request.mailbox:
                self._running[request.mailbox] -= 1
                self._lingering[request.mailbox].append(time.monotonic() + self.linger)

    def mailbox_of(self, path: str, headers: Dict[str, str]) -> str:
        """The mailbox a request is about; "" for sign-in and batches."""
        names = [unquote(name) for name in path.split("/")[1:]]
        if names[:1] == ["upload"]:
            return self._uploads.mailbox(path)
        if names[:2] == ["v1.0", "me"]:
            with contextlib.suppress(Refusal):
                return self.entra.actor(headers).user
            return self.tenant.user
        return self.tenant.resolve(names[2]) if names[:2] == ["v1.0", "users"] and len(names) > 2 else ""

    def process(self, call: Call) -> Answer:
        """The tenant's answer to a call."""
        head = (call.segments or [""])[0]
        try:
            if head == "v1.0":
                return self._outlook.handle(call)
            if head == "upload":
                return self._uploads.handle(call)
            if head == "beta" or not head:
                raise Refusal(400, "BadRequest", "Invalid version: only v1.0 is here.")
            return self.entra.handle(call)
        except Refusal as refusal:
            return refused(refusal)

    def too_large(self, call: Call) -> Answer:
        """Answer a request beyond Graph's limit, in one of the ways seen in practice (docs#13979, contrib#682)."""
        mode = self.tenant.over_limit
        if mode == "reset":
            raise Cut
        if mode == "200" and call.content_type == "text/plain":
            return Answer(200)
        if mode == "400":
            return refused(Refusal(400, "BadRequest", "The maximum request length supported is 4MB."))
        if mode == "500":
            return Answer(500, SORRY_PAGE, {"Content-Type": "text/html"})
        return refused(Refusal(413, "RequestEntityTooLarge", "The request is too large."))

    def _inner_fault(self, call: Call) -> Optional[Answer]:
        """The answer of a fault to one request of a batch; no other kind of fault is possible there."""
        fault = self.faults.choose(call.method, call.target, self.mailbox_of(call.path, call.headers))
        return fault_answer(fault) if fault is not None and fault.kind == "answer" else None

    # --- certificates

    def _prepare_tls(self) -> None:
        if not self.ca_file:
            self.ca_file = os.path.join(tempfile.mkdtemp(prefix="m365proxy-sandbox-"), "ca.pem")
            self._certificates = _make_certificates(self._hosts)
        else:
            os.mkdir(os.path.dirname(self.ca_file), 0o700)
        authority, chain = self._certificates
        secret = os.path.join(os.path.dirname(self.ca_file), "server.pem")
        for path, content in ((self.ca_file, authority), (secret, chain)):
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                file.write(content)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sslsocket_class = Socket
        context.load_cert_chain(secret)
        os.unlink(secret)  # the context holds it now
        self._context = context

    def wrapped(self, sock: socket.socket) -> ssl.SSLSocket:
        """A client's socket wrapped in TLS, before the handshake."""
        assert self._context is not None
        return self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    if os.name != "nt":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    share_port(sock)
    sock.bind(("127.0.0.1", port))
    return sock


def _make_certificates(hosts: Sequence[str]) -> Tuple[bytes, bytes]:
    """PEM: a certificate authority, and the server's certificate, for 127.0.0.1 and `hosts`, with its key."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    # A long validity: a board without a clock may think it is 1970, and a test that years have passed.
    first, last = datetime.datetime(1970, 1, 2), datetime.datetime(2049, 12, 31)

    def builder(subject: str, issuer: str, key: Any) -> Any:
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (subject, issuer)]
        return (
            x509.CertificateBuilder()
            .subject_name(names[0])
            .issuer_name(names[1])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(first)
            .not_valid_after(last)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )

    def usage(**allowed: bool) -> Any:
        names = (
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
            *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        )
        return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})

    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root, host = "m365proxy stand-in tenant", "127.0.0.1"
    authority = (
        builder(root, root, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    named = sorted({"localhost", *hosts} - {host})
    names = [*map(x509.DNSName, named), x509.IPAddress(ipaddress.ip_address(host))]
    leaf = (
        builder(host, root, key)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return authority.public_bytes(pem), leaf.public_bytes(pem) + secret
