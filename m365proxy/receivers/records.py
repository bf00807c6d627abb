"""The log of a receiver: its records go to the main process, which writes the log and counts the steps."""

from __future__ import annotations

import logging
from typing import Any, Dict, Optional

from ..system import log
from ..system.groupwriter import UnlockedHandler
from .channel import Channel

# The word of their messages.
RECORD = "record"


class Sender(UnlockedHandler):
    """Sends each record through a channel, which needs no lock."""

    def __init__(self, channel: Channel):
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}: {log.exception_text(record.exc_info)}"
        template = record.msg if isinstance(record.msg, str) else ""
        event = getattr(record, "event", None)
        self._channel.send(RECORD, record.created, record.levelno, record.name, template, text, event)


class _Received(logging.LogRecord):
    """A record whose message is complete; its template is still there for those who compare lines."""

    text: str

    def getMessage(self) -> str:
        return self.text


def write(created: float, level: int, name: str, template: str, text: str, event: Optional[Dict[str, Any]]) -> None:
    """Log what a receiver has sent."""
    record = _Received(name, level, "", 0, template, None, None)
    record.created, record.text = created, text
    record.msecs = created % 1 * 1000
    if event is not None:
        record.event = event
    logging.getLogger(name).handle(record)
