import pytest
from cases import each

from m365proxy.logins import sasl
from m365proxy.logins.sasl import Malformed


@each(
    "text, octets",
    [("YWJj", b"abc"), ("YWI=", b"ab"), ("YWI", b"ab"), ("YQ", b"a"), (" YWJj ", b"abc"), ("=", b""), ("", b"")],
)
def test_unbase64(text, octets):
    assert sasl.unbase64(text) == octets


@each("text", ["Y", "YWJ*", "YW Jj", "ü", "YW=Jj", "-_-_"])
def test_no_base64(text):
    with pytest.raises(Malformed):
        sasl.unbase64(text)


@each("octets, text", [(b"abc", "abc"), ("ü".encode(), "ü"), (b"\xfc", "ü"), (b"", "")])
def test_credential(octets, text):
    assert sasl.credential(octets) == text


def test_plain():
    assert sasl.plain(b"\0user\0p\xc3\xbc") == ("", "user", "pü")
    assert sasl.plain(b"other\0user\0p") == ("other", "user", "p")


# Settings files with foreign line ends, and buffers of C programs with their NUL.
STRAY = ["\r", "\n", "\0", "\r\n", "\r\n\0", "\0\0"]


@each("stray", STRAY)
def test_what_strays_behind_a_user_name_is_none_of_it(stray):
    octets = stray.encode()
    assert sasl.user_name(b"a\r\0b" + octets) == "a\r\0b"
    assert sasl.user_name(octets) == ""
    assert sasl.credential(b"p" + octets) == "p" + stray  # a password may be right with it
    assert sasl.trimmed("p" + stray) == "p"
    assert sasl.plain(b"\0user\0p" + octets) == ("", "user", "p" + stray)
    if "\0" not in stray:
        assert sasl.plain(b"x" + octets + b"\0user" + octets + b"\0p") == ("x", "user", "p")


@pytest.mark.parametrize("octets", [b"user\0secret\0", b"user\0secret\0\0", b"user\0secret\0\r\n"])
def test_a_password_where_the_user_name_belongs_is_not_taken_for_one(octets):
    with pytest.raises(Malformed):  # else the log would name it
        sasl.plain(octets)


@each("octets", [b"", b"user", b"\0user", b"\0user\0p\0p", b"\0user\0\0p"])
def test_no_plain(octets):
    with pytest.raises(Malformed):
        sasl.plain(octets)
