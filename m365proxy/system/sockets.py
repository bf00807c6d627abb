"""TLS sockets that leave no descriptor behind."""

from __future__ import annotations

import errno
import ssl
from typing import Any


class Socket(ssl.SSLSocket):
    """As Python's, but closed at once if its peer had gone before TLS was put on it.

    Python raises then and leaves the descriptor to the collector.  For `SSLContext.sslsocket_class`.
    """

    def getpeername(self) -> Any:
        try:
            return super().getpeername()
        except OSError:
            if self.version() is None:  # no handshake yet: it is being made
                self.close()
            raise ConnectionResetError(errno.ECONNRESET, "the peer has gone") from None
