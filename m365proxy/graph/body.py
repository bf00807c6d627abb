"""Bodies of requests to Graph: of known length, sent in pieces."""

from __future__ import annotations

import base64
import json as jsonlib
from typing import Any, Callable, Iterable, Iterator, Mapping, Optional, Union

# Whole request body Graph takes (octets); both readings of "4 MB" allow it.
REQUEST_LIMIT = 4_000_000

# Octets that are handed to the socket at once.
_PIECE = 64 * 1024


class Body:
    """A request body of known length, read in pieces, that knows whether it has left completely.

    Graph cannot have acted on a request whose last octet never reached the socket.
    """

    def __init__(self, length: int, pieces: Iterable[bytes]):
        self._length = length
        self._pieces = iter(pieces)
        self._buffer = b""
        self._given = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        while True:
            data = self.read(16384)
            if not data:
                return
            yield data

    def read(self, size: int = -1) -> bytes:
        while size < 0 or len(self._buffer) < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._buffer += piece
        end = len(self._buffer) if size < 0 else size
        data, self._buffer = self._buffer[:end], self._buffer[end:]
        self._given += len(data)
        return data

    @property
    def exhausted(self) -> bool:
        """Whether every octet was handed to the socket."""
        return self._given >= self._length


def base64_body(length: int, pieces: Iterable[bytes]) -> Body:
    """`length` octets in base64 without line breaks, as MIME sendMail takes them (user-sendmail.md)."""

    def encoded() -> Iterator[bytes]:
        left = b""
        for piece in pieces:
            left += piece
            whole = len(left) - len(left) % 3
            yield base64.b64encode(left[:whole])
            left = left[whole:]
        yield base64.b64encode(left)

    return Body((length + 2) // 3 * 4, encoded())


def of_octets(octets: Union[bytes, bytearray]) -> Body:
    """Of what is in memory already."""
    return Body(len(octets), (bytes(octets[i : i + _PIECE]) for i in range(0, len(octets), _PIECE)))


def body_maker(body: Optional[Callable[[], Body]], json: Optional[Mapping[str, Any]]) -> Callable[[], Optional[Body]]:
    """A function that makes the body anew for each try: of JSON, or `body` itself, or none."""
    if json is not None:
        data = jsonlib.dumps(json).encode()
        return lambda: Body(len(data), [data])
    return body or (lambda: None)
