"""Both readers against references that split the whole at line ends."""

from cases import each
from hypothesis import example, given
from hypothesis import strategies as st

from m365proxy.smtp.dotreader import DotReader, LfDotReader


def reference(stream):
    """(message, rest), or None while the end has not come: RFC 5321 4.5.2 read literally."""
    message = []
    while True:
        line, end, stream = stream.partition(b"\r\n")
        if not end:
            return None
        if line == b".":
            return b"".join(message), stream
        message.append((line[1:] if line.startswith(b".") else line) + b"\r\n")


def in_chunks(data, cuts):
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in zip(edges, edges[1:])]


def read_all(chunks, reader):
    """(message, rest, done) of a reader fed as the session does it."""
    message, chunks = b"", list(chunks)
    while chunks and not reader.done:
        message += reader.feed(chunks.pop(0))
    return message, reader.rest + b"".join(chunks), reader.done


WIRE = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"..", b"a", b"\r\n.\r\n", b"\0"]), max_size=14).map(
    b"".join
)
CUTS = st.lists(st.integers(0, 30), max_size=12)


@given(WIRE, CUTS)
@example(b".\r\n", [])
@example(b"\r\n.\r\n", [1, 2, 3, 4])
@example(b"\r.\r\n\r\n.\r\n", [1])
@example(b"a\r\n.\r\r\n.\r\nb", [4, 5])
def test_dot_reader_is_the_reference(data, cuts):
    message, rest, done = read_all(in_chunks(data, cuts), DotReader())
    wanted = reference(data)
    assert done == (wanted is not None)
    if wanted:
        assert (message, rest) == wanted
    else:
        # Whatever has come out so far is what the reference begins with, once the end comes.
        assert reference(data + b"\r\n.\r\n")[0].startswith(message)


@given(WIRE)
def test_dot_reader_octet_by_octet(data):
    assert read_all(in_chunks(data, range(len(data))), DotReader()) == read_all([data], DotReader())


@each("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r\n.\r\r\n", b"\n.\r"])
def test_only_crlf_dot_crlf_ends_data(end):
    reader = DotReader()
    reader.feed(b"text" + end + b"MAIL FROM:<>")
    assert not reader.done


def test_dot_reader_holds_a_few_octets_only():
    reader = DotReader()
    for _ in range(100):
        reader.feed(b"." * 1000 + b"\r\n" + b"x" * 1000)
        assert len(reader._held) <= 4


# -- clients that know no CR


def lf_reference(stream):
    """(message, rest), or None while the end has not come."""
    before, cr, after = stream.partition(b"\r")
    message = b""
    while True:
        line, end, before = before.partition(b"\n")
        if not end:
            break
        if line == b".":
            return message, before + cr + after
        message += (line[1:] if line.startswith(b".") else line) + b"\n"
    if not cr:
        return None
    # From the first CR on only CRLF ends a line: what is left of this one is text.
    text, end, rest = (cr + after).partition(b"\r\n.\r\n")
    if not end:
        return None
    if line.startswith(b".") and line != b".":
        line = line[1:]
    head, *lines = (text + b"\r\n").split(b"\r\n")
    return message + line + b"\r\n".join([head, *(one[1:] if one.startswith(b".") else one for one in lines)]), rest


LF_WIRE = st.lists(
    st.sampled_from([b"\n", b"\n", b"\n.\n", b"\r\n", b"\r", b".", b"..", b"a", b"\r\n.\r\n"]), max_size=12
).map(b"".join)


@given(LF_WIRE, st.lists(st.integers(0, 20), max_size=8))
@example(b".\n", [])
@example(b"a\n.\nb\r\n", [])
@example(b"a\n.\r\n.\r\nb", [2, 3])
@example(b"\r\n.\r\n", [1, 2, 3])
@example(b"\n.\r\n\r\n.\r\n", [1])
def test_lf_dot_reader_is_the_lf_reference(data, cuts):
    message, rest, done = read_all(in_chunks(data, cuts), LfDotReader())
    wanted = lf_reference(data)
    assert done == (wanted is not None)
    if wanted:
        assert (message, rest) == wanted
