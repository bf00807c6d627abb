"""What a session is told of its client and its listener."""

import ssl

from cases import each
from server_harness import PROTOCOLS, client_of

from m365proxy.server.client import Client, ListenerSettings
from m365proxy.server.connection import Connection
from m365proxy.system.choices import TlsMode

PEER = "192.0.2.7"


@each("has_certificate", [True, False])
@each("mode", TlsMode)
def test_starttls_is_offered_in_its_mode_and_with_a_certificate_only(mode, has_certificate):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if has_certificate else None
    client = Client(Connection(None, PEER), ListenerSettings(PROTOCOLS["smtp"], mode), tls)
    assert client.starttls is (tls if mode is TlsMode.STARTTLS else None)


def test_a_stop_is_noticed_by_a_session_that_runs():
    stopping = []
    client = Client(Connection(None, PEER), ListenerSettings(PROTOCOLS["smtp"]), is_stopping=lambda: bool(stopping))
    assert not client.stopping
    stopping.append(True)
    assert client.stopping


def test_behind_a_proxy_the_client_is_who_the_proxy_says():
    client = client_of(PEER)
    assert client.peer == PEER
    client.connection.peer = "198.51.100.1"
    assert client.peer == "198.51.100.1"


def test_progress_is_noted_for_good():
    client = client_of(PEER)
    assert not client.made_progress and not client.receiving
    client.note_progress()
    assert client.made_progress
