"""The top header of large mail as properties of Graph's message resource, and what has no property there."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Set

from ..mime import addresses, dates, header, words
from ..mime.addresses import Mailbox
from ..mime.header import Field
from ..mime.topheader import TNEF_CORRELATOR, TopHeader

# What the message resource lacks, by MAPI tag.
IN_REPLY_TO, REFERENCES = "String 0x1042", "String 0x1039"
LIST_UNSUBSCRIBE, SENSITIVITY = "String 0x1045", "Integer 0x36"
# Date.  Exchange sets it anew when it sends a message, as MS-OXOMSG 2.2.3.11 says, or it does not.
SUBMIT_TIME = "SystemTime 0x0039"

# Characters: of a subject (Exchange's limit), a list of ids, an X- field.
_LONGEST_SUBJECT, _LONGEST_IDS, _LONGEST_VALUE = 255, 8000, 900

# The most X- fields that Graph accepts (InvalidInternetMessageHeaderCollection).
MOST_HEADERS = 5

# Fields that become properties; any number of the first kind, and one of the second.
_PEOPLE = frozenset(b"reply-to disposition-notification-to x-confirm-reading-to return-receipt-to".split())
_SINGLE = frozenset(
    b"in-reply-to references list-unsubscribe sensitivity importance priority x-priority x-msmail-priority".split()
)
PROPERTIES = _PEOPLE | _SINGLE

# Which X- fields are among the five: first those that act on mail systems or are asked for most, ...
FIRST_X = (b"x-auto-response-suppress", b"x-loop", b"x-mailer")
# ... and last those in which filters and mail services make notes for themselves.  All others stand between.
LAST_X = (
    b"x-antiabuse x-antivirus x-barracuda- x-gm- x-google- x-ironport- x-mimeole x-mozilla- x-originating-"
    b" x-php- x-proofpoint- x-received x-spam- x-virus-"
).split()

# Characters that XML, and so Exchange, cannot represent.
UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")

_X_FIELD = re.compile(rb"[Xx]-[A-Za-z0-9_-]{1,74}\Z")
# PidTagSensitivity.
_SENSITIVITIES = {"personal": "1", "private": "2", "company-confidential": "3"}
_IMPORTANCES = {
    "importance": {"high": "high", "low": "low"},
    "x-priority": {"1": "high", "2": "high", "4": "low", "5": "low"},
    "x-msmail-priority": {"high": "high", "low": "low"},
    "priority": {"urgent": "high", "non-urgent": "low"},
}

# How the log line names what a field loses, besides the name of a field that is lost altogether.
REPEATED = "{} (repeated)"
CUT = "end of {}"
CUT_IDS = "middle of {}"
OTHER_ADDRESS = "address in {} (receipts go to From)"


class Header(NamedTuple):
    """`properties` of the message resource, without body; `left_out`: what of the header is not in them."""

    properties: Dict[str, Any]
    left_out: List[str]


def as_properties(top: TopHeader) -> Header:
    """The top header as properties of the message resource."""
    block = header.Block(top.kept, 0, sound=False)
    chosen = _choose(top.kept)
    people = {
        "toRecipients": top.to,
        "ccRecipients": top.cc,
        "bccRecipients": top.bcc,
        "replyTo": [*_valid(block.mailboxes("Reply-To")), *top.reply_to],
    }
    tagged = [
        (IN_REPLY_TO, _ids(block, "In-Reply-To")),
        (REFERENCES, _ids(block, "References")),
        (LIST_UNSUBSCRIBE, UNWRITABLE.sub("", block.text("List-Unsubscribe"))[:_LONGEST_IDS]),
        (SUBMIT_TIME, dates.utc(top.date) if top.date else ""),
        (SENSITIVITY, _SENSITIVITIES.get(block.text("Sensitivity").lower(), "")),
    ]
    # MS-OXCMAIL 2.1.3.1.5 and 2.1.3.1.6: Exchange writes Return-Receipt-To and Disposition-Notification-To for these,
    # with the address of From, because the message resource has no other for receipts.
    read = block.all("Disposition-Notification-To") or block.all("X-Confirm-Reading-To")
    found: Dict[str, Any] = {
        "subject": UNWRITABLE.sub("", top.subject)[:_LONGEST_SUBJECT],
        "from": _person(top.author),
        **{key: [_person(mailbox) for mailbox in mailboxes] for key, mailboxes in people.items()},
        "importance": _importance(block),
        "isReadReceiptRequested": bool(read),
        "isDeliveryReceiptRequested": bool(block.all("Return-Receipt-To")),
        "internetMessageId": top.message_id,
        "internetMessageHeaders": [{"name": field.name.decode("ascii"), "value": _value(field)} for field in chosen],
        "singleValueExtendedProperties": [{"id": tag, "value": value} for tag, value in tagged if value],
    }
    properties = {key: value for key, value in found.items() if value != []}
    return Header(properties, list(dict.fromkeys(_left_out(top, block, chosen))))


def _left_out(top: TopHeader, block: header.Block, chosen: Sequence[Field]) -> Iterator[str]:
    if len(UNWRITABLE.sub("", top.subject)) > _LONGEST_SUBJECT:
        yield CUT.format("Subject")
    carried = {field.name.lower() for field in chosen}
    seen: Set[bytes] = set()
    for field in top.kept:
        key, name = field.name.lower(), field.name.decode("ascii")
        if key in _PEOPLE:
            if key != b"reply-to" and _asks_for_others(field, top.author):
                yield OTHER_ADDRESS.format(name)
        elif key in _SINGLE:
            if key in seen:
                yield REPEATED.format(name)
            else:
                yield from _shortened(block, field, name)
            seen.add(key)
        elif field not in chosen:
            yield REPEATED.format(name) if key in carried else name


def _asks_for_others(field: Field, author: Mailbox) -> bool:
    """Whether a receipt is to go to an address that is not the author's."""
    named = _valid(field.mailboxes)
    return any(addresses.key(mailbox.address) != addresses.key(author.address) for mailbox in named)


def _shortened(block: header.Block, field: Field, name: str) -> Iterator[str]:
    """What is lost of a field that became a property."""
    key = field.name.lower()
    if key in (b"in-reply-to", b"references"):
        ids = _all_ids(field)
        if not ids:
            yield name
        elif len(_fitting(ids)) < len(ids):
            yield CUT_IDS.format(name)
    elif key == b"list-unsubscribe" and len(UNWRITABLE.sub("", block.text(name))) > _LONGEST_IDS:
        yield CUT.format(name)
    elif key == b"sensitivity" and block.text(name).lower() not in (*_SENSITIVITIES, "normal", ""):
        yield name


def _valid(mailboxes: Iterable[Mailbox]) -> Iterator[Mailbox]:
    for mailbox in mailboxes:
        if addresses.valid_address(mailbox.address, smtputf8=True):
            yield Mailbox(mailbox.name, addresses.on_the_wire(mailbox.address))


def _person(mailbox: Mailbox) -> Dict[str, Any]:
    name = UNWRITABLE.sub("", addresses.display_name(mailbox.name))
    return {"emailAddress": {"address": mailbox.address, **({"name": name} if name else {})}}


def _importance(block: header.Block) -> str:
    for field, meanings in _IMPORTANCES.items():
        said = block.text(field).lower().split(" ")[0]
        if said in meanings:
            return meanings[said]
    return "normal"


def _ids(block: header.Block, name: str) -> str:
    """The message ids of a threading field; of a long list the first and the last ones."""
    fields = block.all(name)
    if not fields:
        return ""
    return " ".join(_fitting(_all_ids(fields[0])))


def _fitting(ids: List[str]) -> List[str]:
    """Of too many ids, the first and as many of the last ones as fit."""
    octets, dropped = sum(map(len, ids)) + len(ids), 0
    while len(ids) - dropped > 2 and octets > _LONGEST_IDS:
        dropped += 1
        octets -= len(ids[dropped]) + 1
    return ids[:1] + ids[1 + dropped :]


def _all_ids(field: Field) -> List[str]:
    written = header.emit(field).partition(b":")[2]
    return [word for word in written.decode("ascii").split() if word.startswith("<") and word.endswith(">")]


def _choose(kept: Sequence[Field]) -> List[Field]:
    """The X- fields that are sent, in the message's order; Graph accepts no other fields, and only a few of these."""
    found: Dict[bytes, Field] = {}
    for field in kept:
        key = field.name.lower()
        if not _X_FIELD.match(field.name) or key in PROPERTIES or key == TNEF_CORRELATOR:
            continue  # the correlator would belong to a message that Exchange did not make itself
        if 0 < len(_value(field)) <= _LONGEST_VALUE:
            found.setdefault(key, field)
    wanted = set(sorted(found, key=_rank)[:MOST_HEADERS])
    return [field for key, field in found.items() if key in wanted]


def _rank(key: bytes) -> int:
    if key in FIRST_X:
        return FIRST_X.index(key)
    return len(FIRST_X) + key.startswith(tuple(LAST_X))


def _value(field: Field) -> str:
    """The value of an X- field as Graph takes it."""
    return words.clean(UNWRITABLE.sub("", words.decode(field.text)).replace("\t", " "))
