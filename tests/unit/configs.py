"""Small configurations that tests load and change."""

import json

import pytest

from m365proxy.config import load as configuration
from m365proxy.errors import ConfigError

MAILBOX = {"username": "scanner@contoso.com", "password": "s3cret"}
MINIMAL = {
    "user": "relay@contoso.com",
    "tenant_id": "contoso.com",
    "client_id": "11111111-2222-3333-4444-555555555555",
    "mailboxes": [MAILBOX],
}

# Nothing in it is worth a warning.
HASHED = {**MAILBOX, "password": "scrypt$16384$8$1$AAECAwQFBgcICQoLDA0ODw==$" + "A" * 43 + "="}
QUIET = {**MINIMAL, "mailboxes": [HASHED]}

CERT = {"tls": {"tls_cert": "auto"}}


def problems(load, document):
    with pytest.raises(ConfigError) as caught:
        load(document)
    return list(caught.value.problems)


def sockets(loaded):
    return [(socket.protocol, socket.address, socket.port, socket.tls) for socket in loaded.sockets]


def configured(directory, **settings):
    """A loaded configuration whose state is in the directory."""
    path = directory / "config.json"
    path.write_text(json.dumps({**QUIET, "state_dir": "state", **settings}))
    return configuration.load(str(path), {})
