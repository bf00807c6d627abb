"""The stand-in tenant's HTTPS server: connections, framing, and the faults that happen to a request.

The answers come from the tenant, which is passed in as the Sandbox.
"""

from __future__ import annotations

import contextlib
import email.utils
import gzip
import http
import http.server
import itertools
import os
import selectors
import socket
import struct
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Set, Tuple

from .faults import BEFORE, FOREIGN, Fault
from .mailstore import Refusal
from .webcall import Answer, Call, refused

if TYPE_CHECKING:
    from . import Sandbox

# Seconds for a TLS handshake.
_HANDSHAKE_SECONDS = 10.0

# Seconds that stop() waits for the threads.
_STOP_SECONDS = 10.0

# A request body larger than this is not read at all (octets).
_HOPELESS = 256 * 1024 * 1024

_PORTAL_PAGE = b"<html><head><title>Sign in to the network</title></head><body>Please accept the terms.</body></html>"
SORRY_PAGE = b"<html><body><h2>Our services aren't available right now</h2></body></html>"


@dataclass(eq=False)
class Request:
    """A request as it was seen; `status` and `end` (monotonic) are None until it is answered, and stay so
    if it never is.  `fault`: the kind of fault that met it, or ""."""

    method: str
    path: str
    query: str
    mailbox: str
    headers: Dict[str, str]
    size: int
    start: float
    status: Optional[int] = None
    end: Optional[float] = None
    fault: str = ""

    @property
    def target(self) -> str:
        return self.path + ("?" + self.query if self.query else "")


# Whether several sockets of one user may share a port (Linux, BSD).
SHARES_PORTS = sys.platform != "win32" and hasattr(socket, "SO_REUSEPORT")


def share_port(sock: socket.socket) -> None:
    """Let other sockets of ours be bound to the same port."""
    if sys.platform != "win32" and SHARES_PORTS:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


class Cut(Exception):
    """The connection is to be closed without a further octet."""


class Server(http.server.ThreadingHTTPServer):
    """One period of listening, and the threads of its connections."""

    request_queue_size = 256
    allow_reuse_address = os.name != "nt"  # on Windows this would share the port
    daemon_threads = True

    def __init__(self, sandbox: Sandbox, port: int, resets: bool = False):
        """`sandbox`: gives the answers; `resets`: connections are accepted and then reset.  Port 0: any free port."""
        self.sandbox = sandbox
        self.stopping = threading.Event()
        self._resets = resets
        self._threads_lock = threading.Lock()
        self._workers: Set[threading.Thread] = set()
        self._sockets: Set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)
        self._accepting = threading.Thread(target=self.serve_forever, args=(0.05,), name="sandbox", daemon=True)
        self._accepting.start()

    def server_bind(self) -> None:
        # HTTPServer.server_bind would ask the resolver for our name.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(self.allow_reuse_address))
        share_port(self.socket)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.socket.getsockname()[:2]

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._resets:
            linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            request.close()
            return
        worker = threading.Thread(
            target=self._work, args=(request, client_address), name="sandbox-connection", daemon=True
        )
        with self._threads_lock:
            self._workers.add(worker)
        worker.start()

    def _work(self, raw: socket.socket, address: Any) -> None:
        sock = raw
        try:
            sock = self.sandbox.wrapped(raw)
            with self._threads_lock:
                self._sockets.add(sock)
            if not self.stopping.is_set():
                sock.settimeout(_HANDSHAKE_SECONDS)
                sock.do_handshake()
                _Handler(sock, address, self)
        except (OSError, ValueError):
            pass  # the client is gone, or never spoke TLS
        finally:
            with self._threads_lock:
                self._sockets.discard(sock)
                self._workers.discard(threading.current_thread())
            with contextlib.suppress(OSError):
                sock.close()

    def halt(self) -> None:
        """Stop listening, close every connection, wait for every thread."""
        self.stopping.set()
        self.shutdown()
        self.server_close()
        self._accepting.join(_STOP_SECONDS)
        deadline = time.monotonic() + _STOP_SECONDS
        while True:
            with self._threads_lock:
                workers, sockets = list(self._workers), list(self._sockets)
            if not workers or time.monotonic() > deadline:
                return
            for sock in sockets:
                sever(sock)
            workers[0].join(0.05)


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection: requests one after another, each with its fault, if any."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024
    server: Server

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.sandbox.idle_seconds)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        if os.name == "nt" and not self._comes():
            self.close_connection = True
        else:
            super().handle_one_request()

    def _comes(self) -> bool:
        """Wait for a request; False if there is none.  On Windows `sever` does not end a wait for input."""
        deadline = time.monotonic() + self.server.sandbox.idle_seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            while not (self.connection.pending() or selector.select(0.02)):
                if self.server.stopping.is_set() or time.monotonic() > deadline:
                    return False
        return True

    def finish(self) -> None:
        # One at a time: a stream that can no longer be flushed must not keep the socket open.
        for stream in (self.wfile, self.rfile):
            with contextlib.suppress(OSError, ValueError):
                stream.close()

    def _serve(self) -> None:
        sandbox = self.server.sandbox
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        mailbox = sandbox.mailbox_of(path, headers)
        length = headers.get("content-length", "")
        self._record = Request(self.command, path, query, mailbox, headers, 0, time.monotonic())
        self._counted = True
        welcome = sandbox.begin(self._record)
        fault = sandbox.faults.choose(self.command, self.path, mailbox)
        self._record.fault = fault.kind if fault else ""
        try:
            self._exchange(Call(self.command, path, query, headers, b""), length, fault, welcome)
        except Cut:
            self._done(None)  # it is over before the client learns of that
            self._leave()
        finally:
            self._done(None)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve

    def _exchange(self, call: Call, length: str, fault: Optional[Fault], welcome: bool) -> None:
        sandbox = self.server.sandbox
        refusal = self._framing(call, length)
        if refusal is not None:
            self.close_connection = True  # where the next request begins is unknown
            self._write(call, refused(refusal))
            return
        upload = call.path.startswith("/upload/")
        limit = _HOPELESS if upload else sandbox.tenant.request_limit
        body, whole = self._read_body(int(length or 0), limit, fault)
        call = call._replace(body=body)
        if call.path.startswith("/v1.0/") or upload:
            self._wait(sandbox.latency)
        if fault is not None and fault.kind in BEFORE:
            early = self._suffer(fault)
            if early is not None:
                self._write(call, early, fault)
                return
        if not welcome:
            answer = refused(Refusal(429, "ApplicationThrottled", "MailboxConcurrency limit.", **{"Retry-After": "1"}))
        else:
            answer = sandbox.process(call) if whole else sandbox.too_large(call)
        self._conclude(call, answer, fault)

    def _framing(self, call: Call, length: str) -> Optional[Refusal]:
        """Graph requires a Content-Length if there may be a body (411), and accepts no chunked bodies."""
        if "transfer-encoding" in call.headers:
            return Refusal(411, "LengthRequired", "Chunked transfer coding is not taken.")
        if not length and call.method in ("POST", "PUT", "PATCH"):
            return Refusal(411, "LengthRequired", "A Content-Length is needed.")
        if length and (not length.isascii() or not length.isdigit() or int(length) > _HOPELESS):
            return Refusal(400, "BadRequest", "The Content-Length is wrong.")
        return None

    def _read_body(self, length: int, limit: int, fault: Optional[Fault]) -> Tuple[bytes, bool]:
        """The body, and whether all of it was kept; what is over the limit is read and dropped."""
        broken = fault is not None and fault.kind == "cut_body"
        end = length // 2 if broken else length
        kept: List[bytes] = []
        got = 0
        while got < end:
            data = self.rfile.read(min(64 * 1024, end - got))
            if not data:
                raise Cut
            got += len(data)
            self._record.size = got
            if length <= limit:
                kept.append(data)
            elif self.server.sandbox.tenant.over_limit == "reset" and got > limit:
                raise Cut
        if broken:
            raise Cut
        return b"".join(kept), length <= limit

    def _suffer(self, fault: Fault) -> Optional[Answer]:
        """Carry out a fault before processing; None means to go on."""
        if fault.kind == "slow":
            self._wait(fault.seconds)
            return None
        if fault.kind == "hang":
            self._hang(fault)
            return None
        if fault.kind == "cut":
            raise Cut
        if fault.kind in ("drip", "drip_head"):
            self._drip(fault, fault.status, fault.kind == "drip")
        return fault_answer(fault)

    def _conclude(self, call: Call, answer: Answer, fault: Optional[Fault]) -> None:
        """Send the answer, or what a fault after processing makes of it."""
        kind = fault.kind if fault is not None else ""
        if fault is not None and kind in ("answer_after", "stranger_after"):
            self._write(call, fault_answer(fault), fault)
            return
        if kind == "cut_after":
            raise Cut
        if fault is not None and kind == "hang_after":
            self._hang(fault)
        if fault is not None and kind == "drip_after":
            self._drip(fault, answer.status, True)
        self._write(call, answer, half=kind == "cut_answer")

    def _drip(self, fault: Fault, status: int, whole_head: bool) -> None:
        """An answer that never ends; the connection is cut when the fault is released or the server stops."""
        head = b"HTTP/1.1 %d Dripping\r\nrequest-id: %s\r\n" % (status, str(uuid.uuid4()).encode())
        head += b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        if whole_head:
            self._put(head)
        octets = itertools.cycle([b"1\r\n \r\n"]) if whole_head else (bytes([octet]) for octet in _endless(head[:-2]))
        while not fault.released.wait(fault.seconds or 1.0) and not self.server.stopping.is_set():
            self._put(next(octets))
        raise Cut

    def _hang(self, fault: Fault) -> None:
        """Hang until released; the connection is cut if the client leaves, the server stops or time is up."""
        deadline = time.monotonic() + fault.seconds if fault.seconds else float("inf")
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            while not fault.released.is_set():
                # If anything comes from the client in the middle of a request, it is leaving.
                if selector.select(0.02) or self.server.stopping.is_set() or time.monotonic() > deadline:
                    raise Cut
        if self.server.stopping.is_set():
            raise Cut

    def _wait(self, seconds: float) -> None:
        if seconds > 0 and self.server.stopping.wait(seconds):
            raise Cut

    # --- answering

    def _write(self, call: Call, answer: Answer, fault: Optional[Fault] = None, half: bool = False) -> None:
        body, headers = self._coded(call, answer)
        if fault is None or fault.kind not in FOREIGN:
            headers = {**self._identity(call), **headers}
        headers["Date"] = email.utils.formatdate(self.server.sandbox.tenant.clock(), usegmt=True)
        if answer.status != 204 and "Transfer-Encoding" not in headers:
            headers["Content-Length"] = str(len(body))
        if self.close_connection:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {answer.status} {_phrase(answer.status)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        if call.method == "HEAD":
            body = b""
        if half:
            everything = head + body
            # Without a body, cut within the status line: clients take headers that end early for complete ones.
            self._put(everything[: len(head) + len(body) // 2 if body else len("HTTP/1.1 ")])
            raise Cut
        # The request counts as over before the answer's last octet leaves: the client may be quicker than this thread.
        everything = head + body
        if len(everything) > 16 * 1024:
            self._put(everything[:-1])
            everything = everything[-1:]
        self._done(answer.status)
        self._put(everything)

    def _coded(self, call: Call, answer: Answer) -> Tuple[bytes, Dict[str, str]]:
        """A $value may come without a length (msgraph-sdk-dotnet#564), in chunks or compressed."""
        headers = dict(answer.headers or {})
        coding = self.server.sandbox.tenant.value_coding if answer.raw_value else "length"
        body = answer.body
        if coding == "gzip" and "gzip" in call.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, 1)
        if coding == "length":
            return body, headers
        headers["Transfer-Encoding"] = "chunked"
        return b"".join(_chunked(body)), headers

    def _identity(self, call: Call) -> Dict[str, str]:
        """What every answer of Graph carries (best-practices-concept)."""
        if not call.path.startswith(("/v1.0/", "/upload/", "/beta/")):
            return {"x-ms-request-id": str(uuid.uuid4())}
        found = {"request-id": str(uuid.uuid4()), "x-ms-ags-diagnostic": '{"ServerInfo":{"DataCenter":"Sandbox"}}'}
        if call.headers.get("return-client-request-id", "").lower() == "true":
            found["client-request-id"] = call.headers.get("client-request-id", "")
        return found

    def _put(self, data: bytes) -> None:
        try:
            self.wfile.write(data)
            self.wfile.flush()
        except (OSError, ValueError):
            raise Cut from None

    def _done(self, status: Optional[int]) -> None:
        if self._counted:
            self._counted = False
            self.server.sandbox.end(self._record, status)

    def _leave(self) -> None:
        self.close_connection = True
        sever(self.connection)


def fault_answer(fault: Fault) -> Answer:
    """The answer a fault gives instead of Graph's."""
    headers = dict(fault.headers)
    if fault.retry_after is not None:
        headers["Retry-After"] = fault.retry_after
    if fault.html:
        page = _PORTAL_PAGE if fault.kind in FOREIGN else SORRY_PAGE
        page = b"" if fault.status == 204 else page if fault.body is None else fault.body
        return Answer(fault.status, page, {"Content-Type": "text/html; charset=utf-8", **headers})
    if fault.status in (202, 204):
        return Answer(fault.status, b"", headers)
    return refused(Refusal(fault.status, fault.code, fault.message, **headers))


def _endless(head: bytes) -> Iterator[int]:
    """The octets of a head, and then a header field that never ends."""
    yield from head
    yield from b"X-More: "
    yield from itertools.repeat(ord("x"))


def _chunked(body: bytes, size: int = 8192) -> Iterator[bytes]:
    for first in range(0, len(body), size):
        part = body[first : first + size]
        yield b"%x\r\n%s\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


def _phrase(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def sever(sock: socket.socket) -> None:
    # SSLSocket.shutdown would take the TLS layer away from under a reading thread.
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
