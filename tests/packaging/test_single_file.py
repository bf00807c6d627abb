"""The single file and the launcher: what they hold and what they say where something is missing."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from m365proxy.system.outbound import system_store

ROOT = pathlib.Path(__file__).resolve().parents[2]
VENDORED = ("certifi", "charset_normalizer", "idna", "jwt", "msal", "requests", "typing_extensions.py", "urllib3")


@pytest.fixture(scope="module")
def single_file():
    path = os.environ.get("M365PROXY_SINGLE_FILE")
    if not path:
        pytest.skip("M365PROXY_SINGLE_FILE names no single file; .ci/packages makes one")
    return pathlib.Path(path)


def test_everything_is_inside_with_its_licence(single_file):
    with zipfile.ZipFile(single_file) as archive:
        names = archive.namelist()
        assert {name.split("/")[0] for name in names} >= {*VENDORED, "m365proxy", "__main__.py", "LICENSE"}
        dists = {name.split("/")[0] for name in names if ".dist-info/" in name}
        licences = {name.split("/")[0] for name in names if "LICEN" in name.upper()}
        assert len(dists) == len(VENDORED) and dists <= licences
        assert not [name for name in names if name.endswith((".so", ".pyd", ".pyc"))]
        for path in (ROOT / "m365proxy").rglob("*.py"):
            assert archive.read(path.relative_to(ROOT).as_posix()) == path.read_bytes()


def test_it_is_an_executable_script(single_file):
    assert single_file.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert single_file.stat().st_mode & 0o111 == 0o111


def test_without_cryptography_it_says_so_in_one_sentence(single_file, tmp_path):
    (tmp_path / "cryptography").mkdir()
    (tmp_path / "cryptography" / "__init__.py").write_text("raise ImportError('not for this machine')")
    done = subprocess.run(
        [sys.executable, str(single_file), "check"],
        capture_output=True,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(tmp_path)),
    )
    # PYTHONPATH comes behind the file itself, which has no cryptography of its own
    assert done.returncode == 69 and not done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert "not for this machine" in done.stderr and "python3-cryptography" in done.stderr


@pytest.mark.parametrize("store", [system_store(), None])
def test_certificates_are_unpacked_only_where_the_system_has_none(single_file, store, tmp_path):
    script = (
        "import os, sys, zipfile; file = sys.argv.pop(1); sys.path.insert(0, file)\n"
        f"import m365proxy.system.outbound; m365proxy.system.outbound._SYSTEM_STORES = {[store] if store else []}\n"
        "sys.exit = id; exec(zipfile.ZipFile(file).read('__main__.py')); import requests\n"
        "path = requests.certs.where(); print(path, requests.__file__, oct(os.stat(path).st_mode & 0o777))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(single_file), "--version"],
        capture_output=True,
        text=True,
        env=dict(os.environ, TMPDIR=str(tmp_path)),
    )
    path, requests, mode = done.stdout.split()[-3:]
    assert requests.startswith(str(single_file)), done.stderr
    assert path == store if store else pathlib.Path(path).parent == tmp_path and mode == "0o644"
    assert not list(tmp_path.iterdir())


def test_the_launcher_alone_says_how_to_make_the_single_file(tmp_path):
    shutil.copy(ROOT / "m365proxy.py", tmp_path)
    (tmp_path / "m365proxy").mkdir()  # of another purpose, as /etc/m365proxy beside /etc/m365proxy.py
    done = subprocess.run([sys.executable, str(tmp_path / "m365proxy.py")], capture_output=True, text=True)
    assert done.returncode == 69 and len(done.stderr.splitlines()) == 1
    assert "setup.py single_file" in done.stderr
