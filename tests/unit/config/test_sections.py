"""The classes of the sections against the option table: neither has a name or a type that the other has not."""

import dataclasses
import typing
from typing import Optional, Tuple

from cases import each
from configs import MINIMAL

from m365proxy.config import types
from m365proxy.config.options import OPTIONS, keys_of
from m365proxy.config.sections import SECTIONS, Config, Socket
from m365proxy.config.types import Secret

CLASSES = {"": Config, **SECTIONS}

# What the loader makes of options, and what it adds.
MADE = {"https_proxy": Optional[Secret], "state_dir": str}
ADDED = {"": {"path", "warnings", "sockets"}}


def type_of(option_type, path):
    """The Python type of an option's values."""
    if isinstance(option_type, types.Objects):
        return Tuple[SECTIONS[path + "[]"], ...]
    if isinstance(option_type, types.Object):
        return SECTIONS[path]
    if isinstance(option_type, types.ListOf):
        return Tuple[type_of(option_type.item, path), ...]
    if isinstance(option_type, types.WordOf):
        return option_type.enumeration
    return typing.get_type_hints(type(option_type).__call__)["return"]


def annotation(option):
    if option.path in MADE:
        return MADE[option.path]
    usual = type_of(option.type, option.path)
    return usual if option.required or option.default is not None else Optional[usual]


def test_every_section_of_the_table_has_a_class():
    assert {option.section for option in OPTIONS} - {"https_proxy"} == set(CLASSES)


@each("section", CLASSES)
def test_the_class_of_a_section_has_the_options_of_the_table(section):
    expected = {option.name: annotation(option) for option in keys_of(section)}
    found = typing.get_type_hints(CLASSES[section])
    added = ADDED.get(section, {"key"})
    assert added <= set(found)
    assert {name: kind for name, kind in found.items() if name not in added} == expected


@each("section", [*CLASSES.values(), Socket])
def test_defaults_are_in_the_table_only_and_nothing_changes(section):
    fields = dataclasses.fields(section)
    assert all(field.default is field.default_factory is dataclasses.MISSING for field in fields)
    assert section.__dataclass_params__.frozen


def test_the_defaults_arrive(load):
    loaded = load(MINIMAL)
    for option in OPTIONS:
        if option.section in ("", "tls", "queue", "pop3", "limits", "logging") and option.default not in (None, {}, []):
            section = getattr(loaded, option.section) if option.section else loaded
            assert getattr(section, option.name) == option.type(option.default), option.path


@each(
    "sent_items, nodes, unmarked",
    [("keep", 1, True), ("keep", 2, False), ("none", 1, False), ("delete_after_days:30", 1, False)],
)
def test_mail_needs_a_marker_where_copies_are_deleted_or_another_gateways(load, sent_items, nodes, unmarked):
    (box,) = MINIMAL["mailboxes"]
    loaded = load({**MINIMAL, "mailboxes": [{**box, "sent_items": sent_items}], "limits": {"nodes": nodes}})
    assert loaded.may_be_unmarked(box["username"].upper()) is unmarked
    assert loaded.may_be_unmarked("relay@contoso.com") is (nodes == 1)
