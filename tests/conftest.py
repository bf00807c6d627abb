"""What tests of several modules need: a certificate, and waiting for a condition instead of sleeping."""

from __future__ import annotations

import time

import pytest

from m365proxy.server import tls


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """(certificate, key): paths of PEM files for localhost, 127.0.0.1 and ::1."""
    directory = tmp_path_factory.mktemp("certificate")
    paths = directory / "cert.pem", directory / "key.pem"
    for path, content in zip(paths, tls.self_signed(["localhost", "127.0.0.1", "::1"])):
        path.write_bytes(content)
    return tuple(map(str, paths))


def _wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def wait_until():
    """wait_until(condition, seconds=20): returns as soon as condition() is true, fails after `seconds`."""
    return _wait_until
