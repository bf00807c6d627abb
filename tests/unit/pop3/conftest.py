"""Fixtures of the POP3 sessions."""

from __future__ import annotations

import logging
import ssl

import pytest

from m365proxy.server.tls import self_signed


@pytest.fixture(autouse=True)
def info(caplog):
    caplog.set_level(logging.INFO, "m365proxy")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate for localhost with its key, in one file."""
    path = tmp_path_factory.mktemp("certificate") / "both.pem"
    path.write_bytes(b"".join(self_signed(["localhost"])))
    return path


@pytest.fixture
def server_tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def client_tls(certificate):
    return ssl.create_default_context(cafile=certificate)
