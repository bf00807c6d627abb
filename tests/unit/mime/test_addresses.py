"""Mail addresses and the patterns they are compared with."""

import pytest

from m365proxy.mime import addresses


@pytest.mark.parametrize(
    "address, patterns, expected",
    [
        ("A@Contoso.com", ["a@contoso.com"], True),
        ("b@contoso.com", ["a@contoso.com"], False),
        ("b@contoso.com", ["*@Contoso.com"], True),
        ("b@sub.contoso.com", ["*@contoso.com"], False),
        ("b@evilcontoso.com", ["*@contoso.com"], False),
        ("b@contoso.com.evil.com", ["*@contoso.com"], False),
        ("@contoso.com", ["*@contoso.com"], False),
        ("contoso.com", ["*@contoso.com"], False),
        ("*@contoso.com", ["a@contoso.com"], False),
        ("", ["*@contoso.com"], False),
    ],
)
def test_address_matches(address, patterns, expected):
    assert addresses.address_matches(address, patterns) is expected
