import dataclasses

import pytest
from cases import each

from m365proxy.smtp import replies
from m365proxy.smtp.replies import Reply

CONSTANTS = {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}

# Text from outside at its worst.
NASTY = "ü\r\n250 x\0" + "a" * 1000

MADE = {
    "greeting": replies.greeting(NASTY),
    "helo": replies.helo(NASTY),
    "ehlo": replies.ehlo(NASTY, ("SIZE 1", "HELP")),
    "help_text": replies.help_text(["NOOP"]),
    "sender_refused": replies.sender_refused(NASTY, NASTY, [NASTY, NASTY]),
    "sender_syntax": replies.sender_syntax(NASTY),
    "not_ascii": replies.not_ascii(NASTY),
    "recipient_syntax": replies.recipient_syntax(NASTY),
    "recipient_refused": replies.recipient_refused(NASTY, "it is too long"),
    "domain_refused": replies.domain_refused(NASTY),
    "queued": replies.queued(NASTY),
    "chunk_taken": replies.chunk_taken(10**20),
    "too_large": replies.too_large(NASTY),
    "message_refused": replies.message_refused(NASTY),
}

# Codes an SMTP server of today uses, by what they may follow (RFC 5321 4.2.3, RFC 4954 section 6, RFC 3207).
CODES = {
    214,
    220,
    221,
    235,
    250,
    252,
    334,
    354,
    421,
    451,
    452,
    454,
    500,
    501,
    502,
    503,
    504,
    530,
    535,
    538,
    550,
    552,
    553,
    554,
}


def test_every_reply_is_looked_at():
    made_by_functions = {
        name
        for name, value in vars(replies).items()
        if callable(value)
        and getattr(value, "__module__", "") == replies.__name__
        and not name.startswith("_")
        and not isinstance(value, type)
    }
    assert made_by_functions == set(MADE)
    assert len(CONSTANTS) > 40


@each("name", sorted({**CONSTANTS, **MADE}))
def test_reply(name):
    reply = {**CONSTANTS, **MADE}[name]
    lines = bytes(reply).split(b"\r\n")
    assert lines.pop() == b""
    assert reply.code in CODES
    for number, line in enumerate(lines):
        assert line[:3] == b"%d" % reply.code
        assert line[3:4] == (b" " if number == len(lines) - 1 else b"-")
        assert len(line) + 2 < 512
        assert all(32 <= octet < 127 for octet in line)
        if reply.code >= 400 or reply.enhanced:
            assert line[4:].startswith(reply.enhanced.encode() + b" ")
            assert reply.enhanced[0] == str(reply.code)[0]


def test_challenges_are_exact():
    assert bytes(replies.ASK_USER) == b"334 VXNlcm5hbWU6\r\n"
    assert bytes(replies.ASK_PASSWORD) == b"334 UGFzc3dvcmQ6\r\n"
    assert bytes(replies.ASK_PLAIN) == b"334 \r\n"


def test_several_lines():
    assert bytes(Reply(550, "5.7.1", ("one", "two"))) == b"550-5.7.1 one\r\n550 5.7.1 two\r\n"


def test_text_from_outside_cannot_make_a_line():
    assert bytes(replies.queued("a\r\n250 b")) == b"250 2.0.0 Ok: queued as a??250 b\r\n"


@each(
    "code, enhanced, lines",
    [
        (99, None, ("x",)),
        (199, None, ("x",)),
        (260, "2.0.0", ("x",)),
        (600, "6.0.0", ("x",)),
        (550, None, ("x",)),
        (550, "4.7.1", ("x",)),
        (550, "5.7", ("x",)),
        (550, "5.7.1000", ("x",)),
        (250, "2.0.0", ()),
        (250, "2.0.0", ("ü",)),
        (250, "2.0.0", ("a\r\nb",)),
        (250, "2.0.0", ("a\tb",)),
        (250, "2.0.0", ("x" * 500,)),
        (250, "2.0.0", ("fine", "x" * 500)),
    ],
)
def test_what_breaks_a_rule_cannot_be_made(code, enhanced, lines):
    with pytest.raises(ValueError):
        Reply(code, enhanced, lines)


def test_a_reply_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        replies.OK.code = 500
