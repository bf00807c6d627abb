"""Comparing passwords.  What it costs is in test_users.py."""

import threading

import pytest

from m365proxy.errors import Temporary
from m365proxy.logins.verifier import Verifier


def plain(password, salt):
    return password.ljust(32, b"\0")


# Of "right"; made anew, it would give the tests other names in each process.
HASH = "scrypt$16384$8$1$zM5XIPAKNOIvYMzgW3+Nmg==$O//FsePlVdkLgv4wBzfqDTlD3ifJ40LBU59N26RPpHs="


@pytest.mark.parametrize("stored", ["right", HASH], ids=["plain", "hashed"])
@pytest.mark.parametrize(
    "sent, expected", [("right", True), ("right\r\n", True), ("righ", False), ("Right", False), ("", False)]
)
def test_plain_and_hashed(stored, sent, expected):
    verifier = Verifier()
    assert [verifier.is_right("ups", sent, stored) for _ in range(2)] == [expected] * 2


def test_what_is_remembered_of_one_is_not_of_another():
    verifier = Verifier(scrypt=plain)
    assert verifier.is_right("ups", "right", "right")
    assert not verifier.is_right("fax", "right", "other")


def test_all_verifiers_of_the_program_share_their_turns():
    """Each run costs 16 MiB."""
    begun, go_on = threading.Semaphore(0), threading.Event()

    def slow(password, salt):
        begun.release()
        go_on.wait(20)
        return plain(password, salt)

    threads = [threading.Thread(target=Verifier(scrypt=slow).refuse, args=("x",)) for _ in range(2)]
    for thread in threads:
        thread.start()
        begun.acquire(timeout=20)
    try:
        with pytest.raises(Temporary):
            Verifier(scrypt_wait_seconds=0.01, scrypt=plain).refuse("x")
    finally:
        go_on.set()
        for thread in threads:
            thread.join()
