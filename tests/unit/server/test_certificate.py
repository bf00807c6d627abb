"""What the running program knows of its certificate, read by a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from m365proxy.server import certificate, tls
from m365proxy.system import ownprocess

CERT, KEY = tls.self_signed(["localhost", "relay.contoso.com"])


@pytest.fixture(autouse=True)
def nothing_known():
    certificate._seen.cache_clear()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "cert.pem"
    path.write_bytes(KEY + CERT)
    return path


@pytest.fixture
def asked(monkeypatch):
    """The questions; each is answered with `asked.answer`."""

    class Asked(list):
        answer = b'{"end": 1.0, "names": ["relay.contoso.com"]}'

    found = Asked()

    def ask(word, question, seconds):
        assert word == ownprocess.CERTIFICATE
        found.append(question)
        return found.answer

    monkeypatch.setattr(ownprocess, "ask", ask)
    return found


@pytest.fixture
def read_here(monkeypatch):
    """No process can be started."""
    monkeypatch.setattr(ownprocess, "is_possible", lambda: False)


def expected(path):
    return (tls.expiry(str(path)).timestamp(), ["localhost", "relay.contoso.com"])


def test_its_end_and_its_names_without_cryptography_in_this_process(path):
    code = "import sys, json; from m365proxy.server import certificate"
    code += f"; print(json.dumps(certificate.seen({str(path)!r})))"
    code += "; print([name for name in sys.modules if name.startswith('cryptography')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    seen, loaded = done.stdout.splitlines()
    assert tuple(json.loads(seen)) == expected(path), done.stderr
    assert loaded == "[]"


def test_it_is_read_here_where_no_process_can_be_started(path, read_here):
    assert certificate.seen(str(path)) == expected(path)


def test_it_is_read_again_when_the_file_has_changed(path, asked):
    for _ in range(3):
        assert certificate.seen(str(path)) == (1.0, ["relay.contoso.com"])
    assert len(asked) == 1
    os.utime(path, ns=(1, 1))
    certificate.seen(str(path))
    assert len(asked) == 2


def test_the_process_is_not_given_the_key(path, asked):
    certificate.seen(str(path))
    assert b"KEY" in KEY and b"KEY" not in asked[0] and tls.first_der(asked[0]) == tls.first_der(CERT)


def test_a_process_that_fails_is_not_begun_again_for_an_hour(path, monkeypatch):
    begun, now = [], [10_000.0]
    monkeypatch.setattr(certificate.time, "monotonic", lambda: now[0])

    def ask(word, question, seconds):
        begun.append(word)
        raise OSError("no memory")

    monkeypatch.setattr(ownprocess, "ask", ask)
    for _ in range(3):
        with pytest.raises(OSError, match="no memory"):
            certificate.seen(str(path))
    assert len(begun) == 1
    now[0] += 3600
    with pytest.raises(OSError):
        certificate.seen(str(path))
    assert len(begun) == 2


@pytest.mark.parametrize("answer", [b"", b"nonsense", b"[]", b"{}", b'{"end": 1.0}', b"7"])
def test_nonsense_is_no_answer(path, asked, answer):
    asked.answer = answer
    with pytest.raises(ValueError):
        certificate.seen(str(path))


CONTENT = {
    "nothing": b"",
    "a key": KEY,
    "something else": b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
}


@pytest.mark.parametrize("what", CONTENT)
def test_what_cannot_be_read(path, read_here, what):
    path.write_bytes(CONTENT[what])
    with pytest.raises(ValueError):
        certificate.seen(str(path))


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        certificate.seen(str(tmp_path / "none"))
