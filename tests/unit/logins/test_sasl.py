import pytest

from m365proxy.logins import sasl
from m365proxy.logins.sasl import Malformed


@pytest.mark.parametrize(
    "text, octets",
    [("YWJj", b"abc"), ("YWI=", b"ab"), ("YWI", b"ab"), ("YQ", b"a"), (" YWJj ", b"abc"), ("=", b""), ("", b"")],
)
def test_unbase64(text, octets):
    assert sasl.unbase64(text) == octets


@pytest.mark.parametrize("text", ["Y", "YWJ*", "YW Jj", "ü", "YW=Jj", "-_-_"])
def test_no_base64(text):
    with pytest.raises(Malformed):
        sasl.unbase64(text)


@pytest.mark.parametrize("octets, text", [(b"abc", "abc"), ("ü".encode(), "ü"), (b"\xfc", "ü"), (b"", "")])
def test_credential(octets, text):
    assert sasl.credential(octets) == text


def test_plain():
    assert sasl.plain(b"\0user\0p\xc3\xbc") == ("", "user", "pü")
    assert sasl.plain(b"other\0user\0p") == ("other", "user", "p")


@pytest.mark.parametrize("octets", [b"", b"user", b"\0user", b"\0user\0p\0"])
def test_no_plain(octets):
    with pytest.raises(Malformed):
        sasl.plain(octets)
