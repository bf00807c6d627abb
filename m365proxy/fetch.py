"""A message brought from Graph into a copy: whole, or a text that says why it cannot be had."""

from __future__ import annotations

import collections
import email.utils
import threading
from datetime import datetime, timezone
from typing import Callable

from . import log
from .answer import Answer, GraphUnreachable, NoAnswer, Refused, Stopped
from .copies import Copy, folded, normalised
from .deletion import path_of
from .errors import Permanent, ProxyError, Temporary
from .folders import PREFER, Patience
from .item import Item
from .wire import crlf

_log = log.get("fetch")

# Longest silence of Graph within a message, which it makes while we wait (seconds).
_VALUE_SECONDS = 300.0

# The same for a message nobody has asked for yet: its slot may be of use to others.
_AHEAD_SECONDS = 60.0

# Messages that broke off: so many are remembered.
_BREAKS = 1000

# A message whose fetch breaks off before the client had any of it is fetched whole again, this often in all.
_FETCHES = 2

# Octets taken from Graph at once: small, because they wait for each other on a slow line.
_PIECE = 16 * 1024

# What Exchange says of an item it cannot make MIME of, today or ever (EWS response codes).
_DAMAGED = frozenset(
    {
        "errorcorruptdata", "errormimecontentinvalid", "errormimecontentinvalidbase64string",
        "errormimecontentconversionfailed", "errorcontentconversionfailed",
    }
)  # fmt: skip

_SUBSTITUTE = """\
From: m365proxy <{mailbox}>
To: {mailbox}
Subject: A damaged message stands here
{date}Message-ID: <{uidl}@m365proxy.invalid>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Exchange cannot give out the message that stands here in {mailbox}:
it says that the item is damaged ({code}).

The item itself is still in the mailbox. Look at it with Outlook, or have an
administrator repair the mailbox (New-MailboxRepairRequest). Deleting this
text by POP3 never destroys the item.
"""


class Breaks:
    """Messages that Graph broke off, for all sessions.  Any thread may call.

    A client that takes its mail in order would otherwise never get past such
    a one: each session would end in the middle of it.
    """

    def __init__(self) -> None:
        self._skip: "collections.OrderedDict[str, bool]" = collections.OrderedDict()  # by UIDL
        self._lock = threading.Lock()

    def known(self, uidl: str) -> bool:
        """Whether it broke off the last time it was asked for."""
        with self._lock:
            return uidl in self._skip

    def skip(self, uidl: str) -> bool:
        """Whether not to ask for it this once, since waiting for the whole of it was of no use."""
        with self._lock:
            skip = self._skip.get(uidl, False)
            if skip:
                self._skip[uidl] = False
            return skip

    def note(self, uidl: str) -> None:
        with self._lock:
            self._skip[uidl] = uidl in self._skip
            if len(self._skip) > _BREAKS:
                self._skip.popitem(last=False)

    def forget(self, uidl: str) -> None:
        with self._lock:
            self._skip.pop(uidl, None)


class Fetcher:
    """Brings messages of one mailbox into copies.  Any thread may call."""

    def __init__(self, graph, mailbox: str, sleep: Callable[[float], object], breaks: Breaks, fold: bool = False):
        """`fold`: cut lines that are too long for some clients."""
        self._graph = graph
        self._mailbox = mailbox
        self._sleep = sleep
        self._breaks = breaks
        self._fold = fold

    def fetch(self, item: Item, copy: Copy) -> None:
        """Fill a copy and close it; however that ends, the copy knows."""
        copy.patient = self._breaks.known(item.uidl)
        try:
            copy.open()
            if copy.patient:
                # Only a fetch that begins for the client may be noted, or left out: ahead, it would break off for ever.
                copy.require_claim()
                if self._breaks.skip(item.uidl):
                    raise Temporary("Exchange breaks this message off each time; it is left out this once.")
            self._bring(item, copy)
            self._breaks.forget(item.uidl)
        except Stopped:
            _log.debug("%s: the rest of a message is not wanted", self._mailbox)
        except OSError as error:
            copy.fail(Temporary(f"The message cannot be put on this machine's disk: {error.strerror}."))
        except ProxyError as error:
            if isinstance(error, GraphUnreachable) and error.maybe_processed and copy.claimed and not copy.stopped:
                self._breaks.note(item.uidl)
            copy.fail(error)
        finally:
            copy.close()

    def _bring(self, item: Item, copy: Copy) -> None:
        """The item's octets; whole again if Graph breaks off (it knows no ranges)."""
        patience = Patience(self._graph, self._mailbox, self._sleep)
        for tries_left in reversed(range(_FETCHES)):
            try:
                self._download(item, copy, patience)
                return
            except (Refused, NoAnswer) as error:
                code = error.answer.code
                if code.lower() in _DAMAGED:
                    _log.warning("%s: a damaged message (UIDL %s) is replaced by a text", self._mailbox, item.uidl)
                    item.substituted = copy.substitute = True
                    copy.write(self._substitute(item, code))
                    copy.complete()
                    return
                if isinstance(error, Refused):
                    if error.answer.status == 404:
                        raise Permanent("This message is gone from the mailbox.") from None
                    raise
                if not tries_left:
                    raise
                _log.info("%s: fetching a message again: %s", self._mailbox, error)
            except GraphUnreachable as error:
                if not tries_left or not copy.restart():
                    raise
                _log.info("%s: fetching a message again: %s", self._mailbox, error)

    def _download(self, item: Item, copy: Copy, patience: Patience) -> None:
        with patience.ask(lambda: self._ask(item, copy)) as answer:
            if not answer.request_id:
                raise Temporary("Something between here and Graph answered in its place.")
            chunks = normalised(answer.chunks(_PIECE))
            for chunk in folded(chunks) if self._fold else chunks:
                copy.write(chunk)
        if not copy.size:
            raise Temporary("Exchange gave an empty message.")
        copy.complete()

    def _ask(self, item: Item, copy: Copy) -> Answer:
        seconds = _VALUE_SECONDS if copy.claimed else _AHEAD_SECONDS
        try:
            return self._graph.read(
                "GET", self._mailbox, path_of(item.id) + "/$value", headers=PREFER, stream=True, seconds=seconds,
                leash=copy.leash,
            )
        except GraphUnreachable:
            if copy.stopped:
                raise Stopped from None
            raise

    def _substitute(self, item: Item, code: str) -> bytes:
        text = _SUBSTITUTE.format(
            mailbox=self._mailbox, uidl=item.uidl, date=_date_line(item.received), code=log.clean(code, 60)
        )
        return crlf(text.encode("utf-8"))


def _date_line(received: str) -> str:
    """A Date field from Graph's time of receipt; nothing rather than an invented one."""
    try:
        when = datetime.strptime(received[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return ""
    return f"Date: {email.utils.format_datetime(when)}\n"
