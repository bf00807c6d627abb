"""A mail server that throws away what it takes, for a server that relays: smtp-sink waits for whole seconds only.

    python sink.py PORT SECONDS

listens on 127.0.0.1, and answers to each message after so many seconds.
"""

from __future__ import annotations

import contextlib
import socketserver
import sys
import time


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # it was only looked whether somebody answers
            self._converse()

    def _converse(self) -> None:
        self._answer(b"220 sink.contoso.com")
        for line in self.rfile:
            verb = line[:4].upper()
            if verb == b"EHLO":
                self._answer(b"250-sink.contoso.com\r\n250 PIPELINING")
            elif verb == b"DATA":
                self._answer(b"354 Go on")
                while self.rfile.readline() not in (b".\r\n", b""):
                    pass
                time.sleep(float(sys.argv[2]))
                self._answer(b"250 Taken")
            elif verb == b"QUIT":
                self._answer(b"221 Bye")
                return
            else:
                self._answer(b"250 OK")

    def _answer(self, line: bytes) -> None:
        self.wfile.write(line + b"\r\n")


class _Sink(socketserver.ThreadingTCPServer):
    daemon_threads = allow_reuse_address = True
    request_queue_size = 100


if __name__ == "__main__":
    _Sink(("127.0.0.1", int(sys.argv[1])), _Session).serve_forever()
