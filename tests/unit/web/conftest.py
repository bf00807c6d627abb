import pytest
from web_harness import StandInMonitor, Talk, guard

from m365proxy.web.statusport import Access, StatusPort

NOBODY_ELSE = Access()


@pytest.fixture
def make_port():
    made = []

    def make(monitor=None, access=NOBODY_ELSE):
        port = StatusPort(monitor or StandInMonitor(), guard())
        made.append(port)
        port.open(["127.0.0.1"], 0, access)
        port.start()
        return port

    yield make
    for port in made:
        port.close()


@pytest.fixture
def talk(make_port):
    """talk(port=None, tls=None): a new client of a status port."""
    made = []
    only = []

    def make(port=None, tls=None):
        if port is None:
            only[:] = only or [make_port()]
            port = only[0]
        made.append(Talk(port.listeners[0].port, tls))
        return made[-1]

    yield make
    for one in made:
        one.close()
