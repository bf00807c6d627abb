"""A client of text protocols for the tests of the running program."""

import socket

from waiting import PATIENCE


class LineClient:
    """A socket; a line at a time is said and read.  It sends whatever a test wants, right or wrong."""

    def __init__(self, port, source="127.0.0.1", behind=""):
        """From an address of this machine; `behind` is whom a proxy there says it passes on."""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE, source_address=(source, 0))
        if behind:
            target = "::1" if ":" in behind else "127.0.0.1"
            self.socket.sendall(f"PROXY TCP{6 if ':' in behind else 4} {behind} {target} 5 25\r\n".encode())
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def line(self):
        try:
            return self.file.readline().decode().rstrip("\r\n")
        except ConnectionResetError:  # it was closed before all was read
            return ""

    def lines(self):
        """Those of one reply."""
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
        return lines

    def ask(self, text):
        """The last line of the reply."""
        self.socket.sendall(text.encode() + b"\r\n")
        return self.lines()[-1]

    def tls(self, context, name="127.0.0.1"):
        self.file.close()
        self.socket = context.wrap_socket(self.socket, server_hostname=name)
        self.file = self.socket.makefile("rb")
        return self
