"""Keys for certificates: to make one takes longer than all the rest of a test."""

import functools
import itertools

from cryptography.hazmat.primitives.asymmetric import rsa

_make = rsa.generate_private_key


@functools.lru_cache(None)
def _stock():
    """Three: no test needs more different ones."""
    return [_make(public_exponent=65537, key_size=2048) for _ in range(3)]


def hand_out(monkeypatch):
    """A new key is the next one of the stock."""
    coming = itertools.cycle(_stock())

    def next_key(*, public_exponent, key_size):
        assert (public_exponent, key_size) == (65537, 2048)
        return next(coming)

    monkeypatch.setattr(rsa, "generate_private_key", next_key)
