"""Kinds of values that several options have."""

from m365proxy.config import kinds
from m365proxy.config.options import OPTIONS
from m365proxy.config.types import Type


def test_each_kind_is_that_of_an_option():
    made = [value for name, value in vars(kinds).items() if name.isupper() and isinstance(value, Type)]
    used = [option.type for option in OPTIONS]
    assert [kind for kind in made if kind is not kinds.NETWORK and kind not in used] == []
