"""A test of many rows says which of them are wrong."""

import pytest
from cases import each


@each("row, larger", [(1, 2), (2, 3)])
def test_rows_that_are_right_pass(row, larger):
    assert row + 1 == larger


def failing(rows, ids, test):
    with pytest.raises(AssertionError) as caught:
        each("row, right", rows, ids=ids)(test)()
    return str(caught.value), caught.value.__cause__


def test_each_row_that_is_wrong_is_named():
    def test(row, right):
        assert row == right, "not the same"

    said, cause = failing([("a", "b"), ("c", "c"), ("d", "e")], None, test)
    lines = said.splitlines()
    assert lines[0] == "2 of 3 cases:"
    assert [line.partition(": Assert")[0].strip() for line in lines[1:]] == ["'a', 'b'", "'d', 'e'"]
    assert "not the same" in str(cause)


@each("ids, name", [(["first"], "first"), (str.upper, "A-B"), (iter(["lazy"]), "lazy")])
def test_names_are_given_as_to_parametrize(ids, name):
    said, _ = failing([("a", "b")], ids, lambda row, right: 1 / 0)
    assert f"{name}: ZeroDivisionError: division by zero" in said


@each("end", [pytest.fail, pytest.skip], ids=["fail", "skip"])
def test_nothing_hides_a_row(end):
    """A skip would hide the rows behind it; what the time limit raises comes once only."""
    tried = []

    def test(row, right):
        tried.append(row)
        end("an end")

    assert "'a', 'b'" in failing([("a", "b"), ("c", "d")], None, test)[0]
    assert tried == ["a"]


def test_fixtures_are_handed_on():
    @each("row", [1, 2])
    def test(row, fixture):
        fixture.append(row)

    found = []
    test(fixture=found)
    assert found == [1, 2]
