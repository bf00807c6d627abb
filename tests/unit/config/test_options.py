"""The option table."""

from m365proxy.config.options import OPTIONS
from m365proxy.system import log


def test_the_table_is_whole():
    paths = [option.path for option in OPTIONS]
    assert len(paths) == len(set(paths))
    for option in OPTIONS:
        assert option.help.endswith(".") and option.help.isprintable(), option.path
        assert option.type.words, option.path
        section = option.section
        assert not section or section.removesuffix("[]") in paths, option.path
        if option.default is not None:
            option.type(option.default)
        assert not (option.required and option.default is not None), option.path


def test_log_levels_are_those_of_the_log():
    (level,) = [option for option in OPTIONS if option.path == "logging.level"]
    assert level.type.names == log.LEVELS


def test_what_options_need_and_exclude_is_in_their_own_section():
    paths = {option.path for option in OPTIONS}
    for option in OPTIONS:
        for name in filter(None, (*option.needs, option.excludes)):
            other = f"{option.section}.{name}" if option.section else name
            assert other in paths and other != option.path, option.path


def test_the_restart_of_a_section_is_marked_once():
    marked = {option.path for option in OPTIONS if option.restart}
    assert "[]" not in "".join(marked)
    assert not [path for path in marked if path.rpartition(".")[0] in marked]
