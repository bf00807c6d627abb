import logging

import pytest


@pytest.fixture(autouse=True)
def logged(caplog):
    """The lines at INFO and above."""
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]
