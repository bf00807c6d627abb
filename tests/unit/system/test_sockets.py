"""TLS on a connection that is gone already.  A socket that was never connected stands for it: it has no peer either."""

import os
import socket
import ssl

import pytest

from m365proxy.system.sockets import Socket


def test_a_peer_that_has_gone_leaves_no_descriptor():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = Socket
    sock = socket.socket()
    descriptor = sock.fileno()
    with pytest.raises(ConnectionResetError, match="the peer has gone") as caught:
        context.wrap_socket(sock, server_side=True)
    assert caught.tb  # which keeps the socket, as the line of a log that tells of it may
    with pytest.raises(OSError):
        os.fstat(descriptor)
