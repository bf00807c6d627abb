"""A spooled message made ready for Graph (promises 4 and 5)."""

from __future__ import annotations

import re
from typing import BinaryIO, Callable, Iterator, Optional, Sequence

from . import header

# Octets of raw MIME that surely fit Graph's 4 MB request once base64 has made
# them a third larger: 3.87 MB, below both readings of "4 MB" (GF 1.3).
LARGE_MIME_CEILING = 2_900_000

_CHUNK = 64 * 1024
_LINE_END = re.compile(rb"\r*\n|\r")


class Prepared:
    """A message as it goes to Graph, made anew from the file by every call of `chunks`."""

    def __init__(self, file: BinaryIO, delivery: header.TopHeader, head: bytes, body: int):
        self.delivery = delivery
        self._file = file
        self._head = head
        self._body = body
        self._size: Optional[int] = None

    @property
    def size(self) -> int:
        """Octets of the whole message."""
        if self._size is None:
            self._size = sum(map(len, self.chunks()))
        return self._size

    def chunks(self) -> Iterator[bytes]:
        """The message from its first octet."""
        yield self._head
        position, held = self._body, b""
        while True:
            self._file.seek(position)
            data = self._file.read(_CHUNK)
            position += len(data)
            if not data:
                break
            data = held + data
            kept = len(data.rstrip(b"\r"))
            held = data[kept:]
            yield _LINE_END.sub(b"\r\n", data[:kept])
        if held:
            yield b"\r\n" * len(held)

    def write_to(self, out: BinaryIO) -> None:
        """Write the whole message."""
        for chunk in self.chunks():
            out.write(chunk)


def prepare(
    file: BinaryIO,
    start: int = 0,
    *,
    recipients: Sequence[str],
    sender: str,
    message_id: str,
    date: Optional[float] = None,
    may_send_as: Optional[Callable[[str], bool]] = None,
    replace_message_id: bool = False,
) -> Prepared:
    """The message that begins at `start` of a seekable file, for one envelope."""
    block = header.read(file, start)
    delivery = header.TopHeader(
        block,
        recipients=recipients,
        sender=sender,
        message_id=message_id,
        date=date,
        may_send_as=may_send_as,
        replace_message_id=replace_message_id,
    )
    content = [
        header.emit(field.name, field.value)
        for field in block.fields
        if field.name.lower() == b"mime-version" or field.name.lower().startswith(b"content-")
    ]
    return Prepared(file, delivery, delivery.emit(content), block.body)
