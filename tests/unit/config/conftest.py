"""Loading a configuration from a document."""

import json

import pytest

from m365proxy.config import load as config


@pytest.fixture
def load(tmp_path):
    """Loads a document, or a text, or octets."""

    def load(document, environ=None):
        path = tmp_path / "config.json"
        if not isinstance(document, (str, bytes)):
            document = json.dumps(document)
        path.write_bytes(document if isinstance(document, bytes) else document.encode("utf-8", "surrogatepass"))
        path.chmod(0o600)
        return config.load(str(path), environ or {})

    return load
