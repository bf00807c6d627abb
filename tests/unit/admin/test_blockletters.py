"""Letters that are read from across a room."""

import string

import pytest

from m365proxy.admin.blockletters import enlarged


def test_a_word():
    assert [line.replace(" ", ".") for line in enlarged("Hi-1", "#")] == [
        "#...#..#####..........##",
        "#...#....#...........#.#",
        "#####....#.....###.....#",
        "#...#....#.............#",
        "#...#..#####.........#####",
    ]


def test_every_letter_and_digit_has_a_shape_of_its_own():
    shapes = {one: enlarged(one, "#") for one in string.ascii_uppercase + string.digits}
    assert {len(lines) for lines in shapes.values()} == {5}
    assert max(len(line) for lines in shapes.values() for line in lines) == 5
    assert len(set(map(tuple, shapes.values()))) == 36


@pytest.mark.parametrize("text", ["A B", "ÄB", "A\x1b"])
def test_what_has_no_shape_is_not_enlarged(text):
    assert enlarged(text, "#") == []
