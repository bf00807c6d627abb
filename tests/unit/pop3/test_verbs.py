"""What a verb takes, and the lines it answers."""

from __future__ import annotations

from cases import each

from m365proxy.pop3.verbs import Reply, Verb, listing, ok


class State:
    """A session's state with one verb, which says what it was given."""

    def verb(self, *arguments):
        return ok(repr(arguments))


@each(
    "rest, least, most, answer",
    [
        (b"", 0, 0, ok("()")),
        (b"  1  2 ", 2, 2, ok("(b'1', b'2')")),
        (b"1", 0, 1, ok("(b'1',)")),
        (b"1", 0, 0, Reply(False, "Usage: VERB", fault=True)),
        (b"1", 2, 2, Reply(False, "Usage: VERB", fault=True)),
    ],
)
def test_arguments_are_counted(rest, least, most, answer):
    assert Verb(State.verb, "VERB", least, most).call(State(), rest) == answer


def test_a_raw_verb_gets_the_line_as_it_is():
    assert Verb(State.verb, "VERB", raw=True).call(State(), b" two words ") == ok("(b' two words ',)")


def test_a_listing_ends_with_a_dot_and_doubles_others():
    assert b"".join(listing("2 lines", ["one", ".two"]).body) == b"one\r\n..two\r\n.\r\n"
