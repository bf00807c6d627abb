"""A CONNECT proxy on 127.0.0.1 that can be told to misbehave."""

import base64
import contextlib
import selectors
import socket
import struct
import threading

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Tunnel:
    """Leads every name to 127.0.0.1.  `connects`: the host:port asked for, refused ones included.

    mode: "pass"; a status line to refuse with ("403 Forbidden"); "close" or
    "garbage" instead of an answer to CONNECT; "silent": no answer; "drip": one
    that never comes to an end; "hello": a reset when TLS begins.  `lose`: called whenever something comes back from
    behind; true resets the tunnel.  `most`: octets from the client after
    which it is reset.
    """

    def __init__(self, user="", password=""):
        self.mode = "pass"
        self.lose = lambda: False
        self.most = None
        self.connects = []
        self._expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self._stopping = threading.Event()
        self._threads = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stopping.set()
        self._accepting.join(10)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self):
        while not self._stopping.is_set():
            with contextlib.suppress(socket.timeout):
                client, _ = self._listener.accept()
                client.settimeout(10)
                self._threads.append(threading.Thread(target=self._serve, args=(client,), daemon=True))
                self._threads[-1].start()

    def _serve(self, client):
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                piece = client.recv(4096)
                if not piece:
                    return
                head += piece
            target = head.split()[1].decode()
            self.connects.append(target)
            self._answer(client, head.decode("latin-1"), int(target.rpartition(":")[2]))

    def _answer(self, client, head, port):
        mode = self.mode
        if self._expected and f"proxy-authorization: {self._expected}".lower() not in head.lower():
            mode = "407 Proxy Authentication Required"
        if mode == "silent":
            while not self._stopping.wait(0.02):
                pass
        elif mode == "drip":
            client.sendall(b"HTTP/1.1 200 Connection established\r\nX-Long: ")
            while not self._stopping.wait(0.01):
                client.sendall(b"x")
        elif mode == "garbage":
            client.sendall(b"\x00\xffwhat?\r\n\r\n")
        elif mode == "hello":
            client.sendall(ESTABLISHED)
            client.recv(1)
            reset(client)
        elif mode[:1].isdigit():
            client.sendall(f"HTTP/1.1 {mode}\r\nContent-Length: 0\r\n\r\n".encode())
        elif mode == "pass":
            with socket.create_connection(("127.0.0.1", port), 10) as behind:
                client.sendall(ESTABLISHED)
                self._pump(client, behind)

    def _pump(self, client, behind):
        """One thread for both ways, so that a reset happens at once."""
        received = 0
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, behind)
            selector.register(behind, selectors.EVENT_READ, client)
            while not self._stopping.is_set():
                for key, _ in selector.select(0.05):
                    data = key.fileobj.recv(65536)
                    received += len(data) if key.fileobj is client else 0
                    lost = key.fileobj is behind and data and self.lose()
                    if lost or (self.most is not None and received > self.most):
                        reset(client)
                        reset(behind)
                        return
                    if not data:
                        return
                    key.data.sendall(data)


def reset(sock):
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
