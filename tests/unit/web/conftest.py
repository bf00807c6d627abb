import pytest
from web_harness import StandInMonitor, Talk

from m365proxy.web.statusport import StatusPort


@pytest.fixture
def make_port():
    made = []

    def make(monitor=None):
        port = StatusPort(monitor or StandInMonitor())
        made.append(port)
        port.open(["127.0.0.1"], 0)
        port.start()
        return port

    yield make
    for port in made:
        port.close()


@pytest.fixture
def talk(make_port):
    """talk(port=None): a new client of a status port."""
    made = []
    only = []

    def make(port=None):
        if port is None:
            only[:] = only or [make_port()]
            port = only[0]
        made.append(Talk(port.listeners[0].port))
        return made[-1]

    yield make
    for one in made:
        one.close()
