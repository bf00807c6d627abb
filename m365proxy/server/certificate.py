"""What the running program wants to know of its listeners' certificate: when it ends, and its names.

The library cryptography takes 7.5 MB to read that, which a program that runs for months would keep.  So a process of
its own reads it, and ends.
"""

from __future__ import annotations

import functools
import json
import os
import ssl
import sys
import time
from typing import List, NamedTuple, Union

from ..system import jsontext, ownprocess
from . import tls

# Seconds until the process is killed.  A small router takes three.
_SECONDS = 30.0

# Seconds for which an answer, or the lack of one, is remembered.
_AGAIN = 3600.0

# Octets that the process reads; a certificate has a few thousand.
_LONGEST = 1024 * 1024


class Seen(NamedTuple):
    end: float  # seconds since 1970
    names: List[str]  # host names, as clients compare them


def seen(path: str) -> Seen:
    """What the first certificate of a PEM file says; OSError or ValueError if it cannot be read.

    It is read again when the file has changed, and once an hour, because the process may have failed.
    """
    found = _seen(path, os.stat(path).st_mtime_ns, int(time.monotonic() // _AGAIN))
    if isinstance(found, Seen):
        return found
    raise found


@functools.lru_cache(4)
def _seen(path: str, changed: int, hour: int) -> Union[Seen, OSError, ValueError]:
    try:
        return _read_apart(path)
    except (OSError, ValueError) as error:  # remembered: whoever asks again soon must not wait for another process
        return error.with_traceback(None)


def _read_apart(path: str) -> Seen:
    with open(path, "rb") as file:
        der = tls.first_der(file.read())
    pem = ssl.DER_cert_to_PEM_cert(der).encode()  # alone: there may be a key beside it
    if not ownprocess.is_possible():
        return _read(pem)
    said = jsontext.parse(ownprocess.ask(ownprocess.CERTIFICATE, pem, _SECONDS))
    try:
        return Seen(**said)
    except TypeError:
        raise ValueError("not what the process answers") from None


def _read(pem: bytes) -> Seen:
    return Seen(tls.end_of(pem).timestamp(), [*tls.names_of(pem).names])


# In the process.


def answer() -> None:
    """Answer on standard output what the certificate on standard input says; ValueError if it is none."""
    print(json.dumps(_read(sys.stdin.buffer.read(_LONGEST))._asdict()))
