import pytest
from program import Program


@pytest.fixture
def make_program(tmp_path):
    made = []

    def make(**settings):
        directory = tmp_path / f"program{len(made)}"
        directory.mkdir()
        made.append(Program(directory, **settings))
        return made[-1]

    yield make
    for program in made:
        program.close()
        assert "Traceback" not in program.said()


@pytest.fixture
def program(make_program):
    """Signed in and running."""
    made = make_program()
    made.login()
    return made.start()
