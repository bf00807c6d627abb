"""Readers of what follows DATA: pure functions over chunks, without the socket."""

from __future__ import annotations

from typing import Optional

_CRLF = b"\r\n"


class DotReader:
    """Finds the end of DATA and removes the doubled dots (RFC 5321 4.5.2).

    Only CRLF.CRLF ends the data; LF.LF, LF._CRLF and CR.CR are text.
    """

    def __init__(self) -> None:
        # The CRLF that ended the DATA command counts as the one before a lone dot.
        self._held = b"\r\n"
        self._virtual = True
        self.done = False
        self.rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """Decoded octets; sets `done` at the end and leaves what followed it in `rest`."""
        data = self._held + chunk
        out = []
        position = 0
        while True:
            found = data.find(b"\r\n.", position)
            if found < 0:
                keep = 2 if data.endswith(_CRLF) else 1 if data.endswith(b"\r") else 0
                keep = min(keep, len(data) - position)
                out.append(data[position : len(data) - keep])
                self._held = data[len(data) - keep :]
                break
            after = data[found + 3 : found + 5]
            if after == _CRLF:
                out.append(data[position : found + 2])
                self.done, self.rest, self._held = True, data[found + 5 :], b""
                break
            if after in (b"", b"\r"):
                out.append(data[position:found])
                self._held = data[found:]
                break
            out.append(data[position : found + 2])
            position = found + 3
        return self._without_virtual(b"".join(out))

    def _without_virtual(self, decoded: bytes) -> bytes:
        if self._virtual and decoded:
            # Two octets leave _held together: they are CRLF or nothing has left yet.
            self._virtual = False
            return decoded[2:]
        return decoded


class LfDotReader:
    """A DotReader for clients that never send CR: LF.LF ends the data too.

    From the first CR on it is a DotReader: only CRLF.CRLF ends the data.
    """

    def __init__(self) -> None:
        # The LF that ended the DATA command counts as the one before a lone dot.
        self._held = b"\n"
        self._virtual = True
        self._strict: Optional[DotReader] = None
        self.done = False
        self.rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """Decoded octets; sets `done` at the end and leaves what followed it in `rest`."""
        if self._strict is not None:
            return self._feed_strict(chunk)
        lines, cr, after = (self._held + chunk).partition(b"\r")
        decoded = self._without_dots(lines)
        if self.done:
            self.rest += cr + after
        elif cr:
            decoded += self._held
            self._strict = DotReader()
        if self._virtual and decoded:
            self._virtual = False
            decoded = decoded[1:]
        return decoded + self._feed_strict(cr + after) if self._strict else decoded

    def _feed_strict(self, chunk: bytes) -> bytes:
        assert self._strict is not None
        decoded = self._strict.feed(chunk)
        self.done, self.rest = self._strict.done, self._strict.rest
        return decoded

    def _without_dots(self, data: bytes) -> bytes:
        out = []
        position = 0
        while True:
            found = data.find(b"\n.", position)
            if found < 0:
                end = len(data) - (data.endswith(b"\n") and len(data) > position)
                out.append(data[position:end])
                self._held = data[end:]
                break
            after = data[found + 2 : found + 3]
            if after == b"\n":
                out.append(data[position : found + 1])
                self.done, self.rest, self._held = True, data[found + 3 :], b""
                break
            if not after:
                out.append(data[position:found])
                self._held = data[found:]
                break
            out.append(data[position : found + 1])
            position = found + 2
        return b"".join(out)
