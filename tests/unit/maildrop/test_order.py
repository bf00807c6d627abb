"""Which messages a client will probably ask for next."""

from __future__ import annotations

from cases import each

from m365proxy.maildrop.order import Order


def after(count, *asked):
    order = Order(count)
    for one in asked:
        order.note(*one) if isinstance(one, tuple) else order.note(one, None)
    return order


@each(
    "asked, ahead",
    [
        ([0], [1, 2, 3, 4]),
        ([19], [18, 17, 16, 15]),
        ([7], []),
        ([7, 8], [9, 10, 11, 12]),
        ([7, 6], [5, 4, 3, 2]),
        ([7, 7], []),
        ([0, 1], [2, 3, 4, 5, 6, 7, 8, 9]),
        ([0, 1, 1], [2, 3, 4, 5, 6, 7, 8, 9]),
        ([0, 1, 15], [16, 17, 18, 19]),
        ([0, 1, 15, 14], [13, 12, 11, 10]),
        ([17, 18], [19]),
        ([], []),
    ],
)
def test_the_next_ones(asked, ahead):
    order = after(20, *asked)
    assert list(order.ahead()) == ahead
    assert [index for index in range(20) if order.is_ahead(index)] == sorted(ahead)


def test_the_window_grows_to_a_bound():
    assert len(list(after(200, *range(100)).ahead())) == 64


@each(
    "asked, lines",
    [
        ([0], None),
        ([(0, 5)], 5),
        ([(0, 5), 0], None),
        ([0, (1, 5)], None),
        ([0, (1, 5), 1, (2, 5)], None),
        ([0, (1, 5), (2, 5)], 5),
        ([(0, 0), (1, 9)], 9),
    ],
)
def test_two_tops_in_a_row_are_a_pass_over_the_tops(asked, lines):
    assert after(20, *asked).lines == lines
