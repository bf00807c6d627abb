"""Whose queue was taken over by whom."""

import pytest

from m365proxy.errors import OtherMachine
from m365proxy.system import adopted
from m365proxy.system.adopted import Progress


@pytest.fixture
def state_dir(tmp_path):
    return str(tmp_path)


def test_nothing_runs_on_a_directory_that_was_given_up(state_dir):
    adopted.check_not_retired(state_dir)
    adopted.retire(state_dir, "c0ffee")
    assert adopted.retired_by(state_dir) == "c0ffee"
    with pytest.raises(OtherMachine, match="given up.*move the directory away.*`m365proxy login`"):
        adopted.check_not_retired(state_dir)


def test_only_what_is_done_is_settled_and_that_for_good(state_dir):
    assert adopted.settled(state_dir) == frozenset()
    adopted.note(state_dir, "a", Progress.BEGUN)
    adopted.note(state_dir, "b", Progress.DONE)
    adopted.note(state_dir, "b", Progress.BEGUN)
    assert adopted.adopted(state_dir) == {"a": Progress.BEGUN, "b": Progress.DONE}
    assert adopted.settled(state_dir) == {"b"}


@pytest.mark.parametrize("content", ["{", "[]", '{"a": "else"}', "3"])
def test_a_damaged_list_is_an_empty_one(tmp_path, content):
    (tmp_path / "adopted.json").write_text(content)
    assert adopted.adopted(str(tmp_path)) == {}
    adopted.note(str(tmp_path), "a", Progress.DONE)
    assert adopted.settled(str(tmp_path)) == {"a"}
