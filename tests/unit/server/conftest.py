import pytest
from server_harness import bound
from waiting import PATIENCE


@pytest.fixture
def listen():
    """listen(...) -> a started Listener, as server_harness.bound makes it; stopped after the test."""
    listeners = []

    def make(*arguments, **more):
        listener = bound(*arguments, **more)
        listeners.append(listener)
        listener.start()
        return listener

    yield make
    for listener in listeners:
        listener.close()
        listener._connections.stop(PATIENCE)
