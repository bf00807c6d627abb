import pytest
from cases import each

from m365proxy.errors import UsageError
from m365proxy.logins import passwords
from m365proxy.logins.passwords import hash_password, scrypt_parts


def test_a_hash_is_of_the_stated_form_and_salted():
    first, second = hash_password("right"), hash_password("right")
    assert first != second
    assert first.startswith("scrypt$16384$8$1$")
    salt, key = scrypt_parts(first)
    assert (len(salt), len(key)) == (16, 32)


def test_the_scrypt_is_the_one_of_rfc_7914(monkeypatch):
    """Section 12, the vector with our n, r, p."""
    monkeypatch.setattr(passwords, "SCRYPT_KEY_OCTETS", 64)
    assert passwords.scrypt(b"pleaseletmein", b"SodiumChloride").hex() == (
        "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
        "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
    )


def test_an_empty_password_is_not_hashed():
    with pytest.raises(UsageError):
        hash_password("")


HASH = "scrypt$16384$8$1$zM5XIPAKNOIvYMzgW3+Nmg==$O//FsePlVdkLgv4wBzfqDTlD3ifJ40LBU59N26RPpHs="


@each(
    "stored, words",
    [
        (HASH[:-1] + "*", "not a whole scrypt hash"),
        (HASH[:-4], "not a whole scrypt hash"),
        (HASH.replace("$O//", "$$O//"), "not a whole scrypt hash"),
        (HASH.replace("16384", "1048576"), "other parameters than n=16384"),
        (HASH.replace("zM5XIPAKNOIvYMzgW3+Nmg==", "YWJj"), "not a whole scrypt hash"),
    ],
)
def test_a_broken_hash_says_so(stored, words):
    assert passwords.is_hash(stored)
    with pytest.raises(ValueError, match=words):
        scrypt_parts(stored)


def test_generated_passwords_can_be_typed_and_not_be_guessed():
    made = {passwords.generate() for _ in range(200)}
    assert len(made) == 200 and {len(one) for one in made} == {16}
    characters = set("".join(made))
    assert not characters & set("0o1liI") and len(characters) == 31
