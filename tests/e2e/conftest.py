import subprocess

import pytest
from program import Program
from tools import need


def _closed(program):
    program.close()
    assert "Traceback" not in program.said()


@pytest.fixture
def make_program(tmp_path):
    made = []

    def make(beside=None, **settings):
        directory = tmp_path / f"program{len(made)}"
        directory.mkdir()
        made.append(Program(directory, beside, **settings))
        return made[-1]

    yield make
    for program in reversed(made):  # first those that use another's tenant
        _closed(program)


@pytest.fixture
def program(make_program):
    """Signed in and running, for one test."""
    return make_program().sign_in().start()


@pytest.fixture(scope="module")
def _shared_program(tmp_path_factory):
    program = Program(tmp_path_factory.mktemp("shared"))
    try:
        yield program.sign_in().start()
    finally:
        _closed(program)


@pytest.fixture
def shared_program(_shared_program):
    """Signed in and running for all tests of a module that leave it as it was; the tenant is empty."""
    _shared_program.clean()
    return _shared_program


@pytest.fixture(scope="session")
def nodemailer(tmp_path_factory):
    """A directory in which node finds nodemailer."""
    npm, _ = need("npm"), need("node")
    directory = tmp_path_factory.mktemp("node")
    words = [npm, "install", "--no-audit", "--no-fund", "nodemailer"]
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, timeout=100)
    if done.returncode != 0 or not (directory / "node_modules" / "nodemailer").exists():
        pytest.skip(f"npm cannot install nodemailer: {done.stderr.strip()[-200:]}")
    return directory
