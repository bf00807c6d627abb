"""A small configuration with a state directory of its own."""

import json

import pytest
from configs import MINIMAL

from m365proxy.config import load


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**MINIMAL, "state_dir": "state"}))
    return load.load(str(path), {})
