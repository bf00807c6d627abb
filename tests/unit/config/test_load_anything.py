"""Loading anything at all: a configuration, or sentences about what is wrong."""

from configs import MINIMAL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m365proxy.config.options import OPTIONS, keys_of
from m365proxy.errors import ConfigError

NAMES = sorted({option.name for option in OPTIONS})


TEXTS = st.sampled_from(
    [
        "",
        "a@contoso.com",
        "10.0.0.0/8",
        "::1",
        "0.0.0.0",
        "auto",
        "full",
        "smtp",
        "scrypt$",
        "https://x",
        "\ud800",
        "10.0.0.1/8",
        "common",
        "contoso.com",
        "2027-01-01",
        "http://[",
        "move:",
        "*",
    ]
)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.text(max_size=8)


def objects(children):
    names = st.sampled_from(NAMES) | st.text(max_size=6) | TEXTS
    return st.dictionaries(names, children, max_size=8)


ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | objects(inner), max_leaves=30)


@st.composite
def nearly_right(draw):
    """A document along the table in which any value may be anything."""

    def section(path):
        document = {}
        for option in keys_of(path):
            choice = draw(st.integers(0, 9))
            if choice == 0:
                document[option.name] = draw(ANYTHING)
            elif keys_of(option.path + "[]") and choice < 6:
                document[option.name] = [section(option.path + "[]") for _ in range(draw(st.integers(0, 2)))]
            elif keys_of(option.path) and choice < 6:
                document[option.name] = section(option.path)
            elif option.required or choice == 1:
                document[option.name] = MINIMAL.get(option.name, option.example or option.default)
        return document

    return section("")


SETTINGS = settings(
    max_examples=100,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def loads_or_complains(load, document):
    try:
        loaded = load(document)
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem and "\n" not in problem
            problem.encode("utf-8")
    else:
        assert loaded.mailboxes and loaded.sockets
        repr(loaded)


@SETTINGS
@given(document=nearly_right() | ANYTHING)
def test_any_json_loads_or_is_complained_about(load, document):
    loads_or_complains(load, document)


@SETTINGS
@given(content=st.binary(max_size=60) | st.text(alphabet='{}[]",:#\\u0123456789eE+-. truefalsn\n', max_size=60))
def test_any_octets_load_or_are_complained_about(load, content):
    loads_or_complains(load, content)
