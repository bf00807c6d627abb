"""Whatever is written can be read."""

import io

from cases import each
from hypothesis import given
from hypothesis import strategies as st
from smtp_harness import Harness, user

from m365proxy.spool.envelope import Envelope, envelope_lines, read_envelope

TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\n\0"))
NAMED = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\n\0"), min_size=1)
LIST = st.lists(NAMED, max_size=5).map(tuple)
ENVELOPES = st.builds(
    Envelope,
    mailbox=NAMED,
    sender=TEXT,
    recipients=st.lists(NAMED, min_size=1, max_size=5).map(tuple),
    client=TEXT,
    login=TEXT,
    kind=NAMED,
    accepted=st.integers(0, 2**40).map(lambda number: number / 1000),
    ret=TEXT,
    envid=TEXT,
    silent=LIST,
    orcpt=LIST,
)


def again(envelope):
    """The envelope written and read, with a message behind it."""
    file = io.BytesIO(envelope_lines(envelope) + b"Subject: x\r\n")
    found = read_envelope(file)
    assert file.read() == b"Subject: x\r\n"
    return found


@given(ENVELOPES)
def test_what_is_written_can_be_read(envelope):
    assert again(envelope) == envelope


@each("size", [1000, 2**20, 2**22 - 1000, 2**22, 2**23])
def test_of_any_size_it_is_read_or_not_written(size):
    envelope = Envelope("a@contoso.com", recipients=("b@contoso.com",), orcpt=("x" * 1000,) * (size // 1000))
    try:
        envelope_lines(envelope)
    except ValueError:
        assert size >= 2**22 - 1000
    else:
        assert again(envelope) == envelope


def test_the_largest_that_a_client_may_send():
    """The most recipients that the config allows, each with all that may be said of it."""
    domain = ".".join(["d" * 63] * 2 + ["e" * 57])
    with Harness(recipients=1000, relay=lambda peer: user()) as harness, harness.client() as talk:
        talk.ask("MAIL FROM:<scanner@contoso.com> RET=FULL ENVID=" + "e" * 100)
        for number in range(1000):
            address = f"{'l' * 61}{number:03}@{domain}"
            talk.send(f"RCPT TO:<{address}> NOTIFY=NEVER ORCPT=rfc822;{'o' * 493}\r\n".encode())
            assert talk.reply() == "250 2.1.5 Ok"
        assert talk.ask("DATA").startswith("354 ")
        talk.send(b"x\r\n.\r\n")
        assert talk.reply().startswith("250 ")
        envelope = harness.spool.accepted[0].envelope
    assert len(envelope.recipients) == len(envelope.silent) == len(envelope.orcpt) == 1000
    assert 2**20 < len(envelope_lines(envelope)) < 2**21
    assert again(envelope) == envelope
