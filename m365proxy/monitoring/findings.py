"""What an administrator has to do, found in a snapshot.  `status`, page, health, metrics and warnings show the same."""

from __future__ import annotations

import os
import re
import shlex
from typing import Dict, Iterator, List, Sequence, Tuple, TypedDict

from ..server import tls
from ..spool.overview import Group
from ..spool.spool import mailbox_tag
from ..system.clock import ago, clock_is_plausible
from .snapshot import MailboxView, Snapshot


class Finding(TypedDict):
    """One thing to do.

    `key` stays the same as long as it is the same thing, so that a warning is sent once: "held",
    "quota scanner@contoso.com".  `kind` is its first word.  `commands` can be copied; they may be none.
    """

    key: str
    sentence: str
    commands: List[str]


class DatedFinding(Finding):
    """`since`: when it was found first, seconds since 1970 by the clock of that time."""

    since: float


_Found = Tuple[str, str, Sequence[str]]

_DAY = 86400

# A message that waits longer (seconds) is mentioned: everything that passes by itself has passed.
_LONG = 3600.0

# A sign-in is renewed twice a day (daemon.py); it is lost after 90 days without (refresh-tokens.md).
_RENEWAL_DAYS, _LOST_DAYS = 7, 90

# Days before its end from which the app's secret or certificate is mentioned.
_SECRET_DAYS = 30

# Seconds by which our clock and Microsoft's may differ: from then on tokens are refused.
_CLOCK_DIFFERENCE = 300.0

# The running program writes status.json every 5 seconds, and when it is asked.
_STALE = 30.0

# So many seconds without a turn of its loop, and the running program hangs; systemd ends it after twice as many.
STALLED = 60

# Enhanced status codes (RFC 3463): a mailbox that is full, and what passes by itself.
_FULL, _PASSING = "4.2.2", "4.4."

_QUEUE_LIST, _RETRY_ALL = "m365proxy queue list", "m365proxy queue retry all"

_COMMAND = re.compile(r"`([^`]+)`")
_LAST_ADVICE = re.compile(r" Run `[^`]+`\.$")


def find(snapshot: Snapshot) -> List[Finding]:
    """The most urgent first.  Looks at nothing but the snapshot, so that two who have the same find the same."""
    return [Finding(key=key, sentence=sentence, commands=list(commands)) for key, sentence, commands in _all(snapshot)]


def kind_of(finding: Finding) -> str:
    """The first word of its key: for labels in metrics."""
    return finding["key"].partition(" ")[0]


def verdict(running: bool, found: Sequence[Finding]) -> str:
    """What `status` and the page say first, in the same words."""
    if not running:
        return "Not running"
    if not found:
        return "All is well"
    return f"Attention: {len(found)} {'thing' if len(found) == 1 else 'things'} to do"


def stale(written: float, now: float) -> List[Finding]:
    """The finding that the running program has not written its status; none if it did lately.

    `written`: when it did, 0 if never; both in seconds since 1970.  A clock that was set back makes it no newer.
    """
    if abs(now - written) <= _STALE:
        return []
    since = f"for {ago(now - written)}" if written < now else "since the clock was set back"
    if not written:
        since = "since its start"
    sentence = (
        f"m365proxy runs, but has written no status {since}: it hangs, or the disk is full. Look into its log. "
        "If nothing there helps, restart it."
    )
    return [Finding(key="stale", sentence=sentence, commands=[])]


def other_version(version: str) -> List[Finding]:
    """The finding that the running program is of another version, whose status is not understood."""
    sentence = f"The running program is of another version ({version}): it was updated since its start. Restart it."
    return [Finding(key="version", sentence=sentence, commands=[])]


def _all(snapshot: Snapshot) -> Iterator[_Found]:
    ends, ended = _ends(snapshot)
    yield from _not_running(snapshot)
    disk_low, disk_full = _disk(snapshot)
    yield from _hanging(snapshot)
    yield from _draining(snapshot)
    yield from disk_full or _refusing(snapshot)
    yield from _unreadable(snapshot)
    yield from _sending(snapshot)
    yield from _clock(snapshot)
    yield from ended
    yield from _given_up(snapshot)
    yield from _waiting(snapshot)
    yield from _renewal(snapshot)
    yield from ends
    yield from disk_low


def _not_running(snapshot: Snapshot) -> Iterator[_Found]:
    if not snapshot["running"]:
        yield "stopped", "m365proxy is not running: no mail is accepted or sent. Start it.", ("m365proxy run",)


def _hanging(snapshot: Snapshot) -> Iterator[_Found]:
    if snapshot["deaf"]:
        places = ", ".join(snapshot["deaf"])
        yield "deaf", f"No connections are accepted any more at {places}. Restart m365proxy.", ()
    if snapshot["stalled"] >= STALLED:
        yield (
            "stalled",
            f"m365proxy has hung for {ago(snapshot['stalled'])}: it tries nothing again, and hears no command. Look "
            "into its log. If nothing there helps, restart it.",
            (),
        )


def _draining(snapshot: Snapshot) -> Iterator[_Found]:
    if snapshot["draining"]:
        rest = still_to_do(snapshot)
        sentence = (
            f"Draining: no new mail is accepted, and {rest}. A restart accepts mail again."
            if rest
            else "Drained: no new mail is accepted, and the queue is empty. Stop m365proxy; a start accepts mail again."
        )
        yield "draining", sentence, ()


def still_to_do(snapshot: Snapshot) -> str:
    """What a drained program has not done yet: "1 message is still to be sent, 1 connection is open"; "" if nothing."""
    left, connections = snapshot["queue"]["waiting"] + snapshot["queue"]["sending"], snapshot["connections"]
    rest = [_messages(left, "is", "are") + " still to be sent"] if left else []
    rest += [_count(connections, "connection is", "connections are") + " open"] if connections else []
    return ", ".join(rest)


def _refusing(snapshot: Snapshot) -> Iterator[_Found]:
    """What keeps new mail from being accepted."""
    if snapshot["refusing"]:
        yield ("refusing", *_advised(snapshot["refusing"]))
    elif snapshot["unwritable"]:
        place = snapshot["state_dir"]
        yield "disk unwritable", f"{place} cannot be written to: {snapshot['unwritable']}. Check its disk.", ()


def _unreadable(snapshot: Snapshot) -> Iterator[_Found]:
    if snapshot["unreadable"]:
        place = os.path.join(snapshot["state_dir"], "queue")
        sentence = (
            f"{place} cannot be read: {snapshot['unreadable']}. What is said of the queue is as it was before. Check "
            "its disk, and who may read what is in it."
        )
        yield "disk unreadable", sentence, ("m365proxy check",)


def _disk(snapshot: Snapshot) -> Tuple[List[_Found], List[_Found]]:
    """(what becomes urgent, what is)."""
    free, least = snapshot["disk_free_mb"], snapshot["min_free_mb"]
    if free is None or free >= max(1, 2 * least):
        return [], []
    place = snapshot["state_dir"]
    look = [] if os.name == "nt" else [f"df -h {shlex.quote(place)}"]
    if free >= least and free:
        sentence = (
            f"Only {free} MB are free on the disk of {place}. New mail is refused below {least} MB (queue.min_free_mb)."
            " Make room."
        )
        return [("disk low", sentence, look)], []
    sentence = f"Only {free} MB are free on the disk of {place}: new mail is refused until there is room. Make room."
    return [], [("disk full", sentence, look)]


def _sending(snapshot: Snapshot) -> Iterator[_Found]:
    """What keeps all mail from being sent."""
    sign_in, paused = snapshot["sign_in"], snapshot["paused"]
    if sign_in["needs_sign_in"]:
        yield ("sign-in", *_advised(sign_in["error"]))
    elif paused:
        yield "paused", f"Nothing can be sent for now; mail is accepted and waits. {paused}", ("m365proxy check",)
    elif sign_in["error"]:
        yield "sign-in", sign_in["error"], ("m365proxy check",)


def _advised(text: str) -> Tuple[str, List[str]]:
    """A text of ours, and the commands in it; its last sentence is left out if that only names one of them."""
    return _LAST_ADVICE.sub("", text), _COMMAND.findall(text)


def _clock(snapshot: Snapshot) -> Iterator[_Found]:
    skew = snapshot["clock_skew"]
    if abs(skew) > _CLOCK_DIFFERENCE:
        how = "behind" if skew > 0 else "ahead of"
        sentence = f"The clock of this machine is {ago(abs(skew))} {how} Microsoft's, so sign-ins are refused. Set it."
    elif not clock_is_plausible(snapshot["written"]):
        sentence = "The clock of this machine is wrong, as if nobody had set it since it was switched on. Set it."
    else:
        return
    yield "clock", sentence, ("m365proxy check",)


def _given_up(snapshot: Snapshot) -> Iterator[_Found]:
    held, failed = snapshot["queue"]["held"], snapshot["queue"]["failed"]
    if held:
        yield (
            "held",
            f"{_messages(held, 'is', 'are')} held, as nobody can know whether it was sent. Look into Sent Items of the "
            "mailbox. Then drop what is there, and retry what is not, each by its ID.",
            (_QUEUE_LIST,),
        )
    if failed:
        yield (
            "failed",
            f"{_messages(failed, 'was', 'were')} given up, and kept in failed/. See why. Then send all again, or "
            "delete them.",
            (_QUEUE_LIST, _RETRY_ALL, "m365proxy queue drop failed"),
        )


def _waiting(snapshot: Snapshot) -> Iterator[_Found]:
    """Mail that waits for an administrator, or for long."""
    queue = snapshot["queue"]
    by_tag: Dict[str, List[Group]] = {}
    for group in queue["groups"]:
        if group["state"] in ("waiting", "sending"):
            by_tag.setdefault(group["tag"], []).append(group)
    rest: List[Group] = []
    for name, box in snapshot["mailboxes"].items():
        groups = by_tag.pop(mailbox_tag(name), [])
        found = list(_of_mailbox(name, box, groups, snapshot))
        yield from found
        rest += [] if found else groups
    if _is_long(_oldest(rest), snapshot):
        # Not the sum of the groups: of a long queue only the oldest messages are in them.
        waiting = sum(queue["waiting_by_tag"].get(tag, 0) for tag in {group["tag"] for group in rest})
        text = f"{_messages(waiting, 'waits', 'wait')}, the oldest {_since(_oldest(rest), snapshot)}."
        yield "queue", text, (_QUEUE_LIST,)
    yield from _orphaned(snapshot)


def _of_mailbox(name: str, box: MailboxView, groups: List[Group], snapshot: Snapshot) -> Iterator[_Found]:
    """What is refused, and else what waits for long, unless no mail can be sent at all."""
    refused = [group for group in groups if group["status"] and not group["status"].startswith(_PASSING)]
    for kind, some in (
        ("quota", [group for group in refused if group["status"] == _FULL]),
        ("refused", [group for group in refused if group["status"] != _FULL]),
    ):
        if some:
            count = box["waiting"] if len(some) == len(groups) else sum(group["count"] for group in some)
            sentence, commands = _advised(some[0]["reason"])
            yield (
                f"{kind} {name}",
                f"{_messages(count, 'waits', 'wait')}: {sentence} After that, send at once what waits.",
                [*commands, _RETRY_ALL],
            )
    oldest = _oldest(groups)
    is_paused = snapshot["paused"] or snapshot["sign_in"]["error"]
    if refused or is_paused or not _is_long(oldest, snapshot):
        return
    has_failed = box["last_error_time"] > box["last_delivery"]
    reason = next((group["reason"] for group in groups if group["reason"]), box["last_error"] if has_failed else "")
    if reason:
        waiting = _messages(box["waiting"], "waits", "wait")
        what = f"{waiting} in {name}, the oldest {_since(oldest, snapshot)}: {reason}"
        yield f"queue {name}", what, (_QUEUE_LIST,)


def _orphaned(snapshot: Snapshot) -> Iterator[_Found]:
    known = {mailbox_tag(name) for name in snapshot["mailboxes"]}
    count = sum(number for tag, number in snapshot["queue"]["waiting_by_tag"].items() if tag not in known)
    if count:
        yield (
            "orphaned",
            f"{_messages(count, 'belongs', 'belong')} to a mailbox that is not in the config any more, and waits until "
            "it is back. Put it back into the config, or drop the messages.",
            (_QUEUE_LIST,),
        )


def _renewal(snapshot: Snapshot) -> Iterator[_Found]:
    sign_in = snapshot["sign_in"]
    renewed = max(sign_in["last_refresh"], sign_in["signed_in_at"])
    days = (snapshot["written"] - renewed) / _DAY
    if snapshot["running"] and not sign_in["needs_sign_in"] and sign_in["signed_in_at"] and days > _RENEWAL_DAYS:
        yield (
            "renewal",
            f"The sign-in was last renewed {days:.0f} days ago. After {_LOST_DAYS} days without renewal it is lost.",
            ("m365proxy check",),
        )


def _ends(snapshot: Snapshot) -> Tuple[List[_Found], List[_Found]]:
    """(what ends soon, what has ended): the certificate for devices, and the app's secret or certificate."""
    soon: List[_Found] = []
    over: List[_Found] = []
    certificate, days = snapshot["certificate"], snapshot["secret_days"]
    if certificate is not None and certificate["days"] < tls.CERTIFICATE_DAYS:
        left = certificate["days"]
        sentence = tls.expiry_sentence(certificate["path"], left)
        kind, place = ("certificate expired", over) if left < 0 else ("certificate ends", soon)
        place.append((kind, sentence, ("m365proxy reload",)))
    if days is not None and days < _SECRET_DAYS:
        when = "has expired" if days < 0 else f"ends in {_count(days, 'day', 'days')}"
        sentence = (
            f"The client secret or certificate of the app registration {when}. Make a new one in Entra, put it into "
            "the config (client_secret_expires, too), and restart m365proxy."
        )
        kind, place = ("secret expired", over) if days < 0 else ("secret ends", soon)
        place.append((kind, sentence, ()))
    return soon, over


def _oldest(groups: Sequence[Group]) -> float:
    return min((group["oldest"] for group in groups if group["oldest"]), default=0.0)


def _is_long(moment: float, snapshot: Snapshot) -> bool:
    return bool(moment) and snapshot["written"] - moment > _LONG


def _since(moment: float, snapshot: Snapshot) -> str:
    return f"for {ago(snapshot['written'] - moment)}"


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _messages(number: int, is_: str, are: str) -> str:
    """ "1 message is", "2 messages are"."""
    return f"{number} message {is_}" if number == 1 else f"{number} messages {are}"
