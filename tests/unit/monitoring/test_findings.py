"""What is found in a snapshot."""

from cases import each
from snapshots import ALERTS, NOW, snapshot_of

from m365proxy.cli import parser
from m365proxy.monitoring import findings
from m365proxy.monitoring.counters import Counters
from m365proxy.spool.spool import mailbox_tag

TAG = mailbox_tag(ALERTS)
HOUR = 3600
DAY = 24 * HOUR
FULL = "The mailbox alerts@contoso.com is full. Make room in it (Sent Items counts too)."
DENIED = "Access denied: the app may not send. Grant it with: `Add-RecipientPermission alerts@contoso.com`."
SLOW = "Graph asks to slow down for alerts@contoso.com. It is tried again by itself."


def group(reason="", state="waiting", status="", count=1, oldest=NOW - 60, tag=TAG):
    return {
        "state": state,
        "tag": tag,
        "reason": reason,
        "status": status,
        "code": "",
        "count": count,
        "oldest": oldest,
    }


def queue(*groups, **changes):
    """A queue that has these groups, and what follows from them."""
    open_ = [one for one in groups if one["state"] in ("waiting", "sending")]
    by_tag = {}
    for one in open_:
        by_tag[one["tag"]] = by_tag.get(one["tag"], 0) + one["count"]
    return {
        "queue": {
            "groups": list(groups),
            "waiting": sum(by_tag.values()),
            "oldest": min((one["oldest"] for one in open_), default=0.0),
            "waiting_by_tag": by_tag,
            **changes,
        }
    }


def after_an_error(reason):
    counters = Counters()
    counters.note(NOW - 7200, {"event": "delivered", "mailbox": ALERTS})
    counters.note(NOW - 7000, {"event": "deferred", "mailbox": ALERTS, "reason": reason})
    return counters


# What is different, and the keys of what is found.
CASES = {
    "all is well": ({}, []),
    "nothing runs": ({"program": None}, ["stopped"]),
    "nobody is signed in": (
        {"sign_in": {"error": "Nobody is signed in. Run `m365proxy login`.", "needs_sign_in": True}},
        ["sign-in"],
    ),
    "a lost sign-in pauses": (
        {"sign_in": {"error": "It is gone.", "needs_sign_in": True}, "paused": "It is gone."},
        ["sign-in"],
    ),
    "Entra is away": ({"sign_in": {"error": "No answer."}}, ["sign-in"]),
    "Entra is away, and mail waits": ({"sign_in": {"error": "No answer."}, "paused": "No answer."}, ["paused"]),
    "Graph is away": ({"paused": "No answer."}, ["paused"]),
    "renewed yesterday": ({"sign_in": {"signed_in_at": NOW - 80 * DAY, "last_refresh": NOW - DAY}}, []),
    "renewed 8 days ago": ({"sign_in": {"signed_in_at": NOW - 80 * DAY, "last_refresh": NOW - 8 * DAY}}, ["renewal"]),
    "signed in today": ({"sign_in": {"signed_in_at": NOW - HOUR, "last_refresh": 0.0}}, []),
    "renewed when it ran": (
        {"sign_in": {"signed_in_at": NOW - 80 * DAY, "last_refresh": NOW - 8 * DAY}, "program": None},
        ["stopped"],
    ),
    "an app has nothing to renew": ({"sign_in": {"signed_in_at": 0.0, "last_refresh": 0.0}}, []),
    "held": (queue(held=1), ["held"]),
    "failed": (queue(failed=2), ["failed"]),
    "a young queue": (queue(group(SLOW, status="4.4.5")), []),
    "an old queue": (queue(group(oldest=NOW - 2 * HOUR)), ["queue"]),
    "a queue with a reason": (queue(group(SLOW, status="4.4.5", oldest=NOW - 2 * HOUR)), [f"queue {ALERTS}"]),
    "a throttled mailbox": (
        {**queue(group(oldest=NOW - 2 * HOUR)), "counters": after_an_error(SLOW)},
        [f"queue {ALERTS}"],
    ),
    "an old queue while all is paused": (
        {**queue(group(SLOW, status="4.4.5", oldest=NOW - 2 * HOUR)), "paused": "No answer."},
        ["paused", "queue"],
    ),
    "it may have been sent, hours ago": (
        queue(group("No answer.", "sending", "4.4.1", oldest=NOW - 2 * HOUR)),
        [f"queue {ALERTS}"],
    ),
    "full": (queue(group(FULL, status="4.2.2")), [f"quota {ALERTS}"]),
    "refused": (queue(group(DENIED, status="4.7.0", oldest=NOW - 2 * HOUR)), [f"refused {ALERTS}"]),
    "full and refused": (
        queue(group(FULL, status="4.2.2"), group(DENIED, status="4.7.0")),
        [f"quota {ALERTS}", f"refused {ALERTS}"],
    ),
    "given up": (queue(group(DENIED, "failed", "4.7.0"), failed=1), ["failed"]),
    "no such mailbox": (queue(group(tag="00000000")), ["orphaned"]),
    "no such mailbox, for hours": (queue(group(SLOW, tag="00000000", oldest=NOW - 2 * HOUR)), ["orphaned"]),
    "the clock was set back": (queue(group(SLOW, oldest=NOW + DAY)), []),
    "room": ({"disk_free_mb": 128}, []),
    "little room": ({"disk_free_mb": 127}, ["disk low"]),
    "too little room": ({"disk_free_mb": 63}, ["disk full"]),
    "no room, and no limit": ({"disk_free_mb": 0, "min_free_mb": 0}, ["disk full"]),
    "a little room, and no limit": ({"disk_free_mb": 1, "min_free_mb": 0}, []),
    "a listener has ended": ({"deaf": ["smtp 127.0.0.1:2525"]}, ["deaf"]),
    "the loop turns": ({"stalled": 59}, []),
    "the loop hangs": ({"stalled": 60}, ["stalled"]),
    "mail is refused": ({"refusing": "10 messages wait already (queue.max_waiting)."}, ["refusing"]),
    "mail is refused as the disk is full": ({"disk_free_mb": 63, "refusing": "Less is free."}, ["disk full"]),
    "the queue cannot be listed": ({"unreadable": "Stale file handle"}, ["disk unreadable"]),
    "the disk takes nothing": ({"unwritable": "Read-only file system"}, ["disk unwritable"]),
    "nothing is taken by a full disk": ({"disk_free_mb": 0, "unwritable": "No space left on device"}, ["disk full"]),
    "unknown room": ({"disk_free_mb": None}, []),
    "clocks differ by 5 minutes": ({"clock_skew": -300.0}, []),
    "our clock is fast": ({"clock_skew": -301.0}, ["clock"]),
    "our clock is slow": ({"clock_skew": 301.0}, ["clock"]),
    "1970": ({"now": 100.0}, ["clock"]),
    "a certificate": ({"certificate": {"path": "cert.pem", "days": 21}}, []),
    "a certificate ends": ({"certificate": {"path": "cert.pem", "days": 20}}, ["certificate ends"]),
    "a certificate ends today": ({"certificate": {"path": "cert.pem", "days": 0}}, ["certificate ends"]),
    "a certificate has ended": ({"certificate": {"path": "cert.pem", "days": -1}}, ["certificate expired"]),
    "a secret": ({"secret_days": 30}, []),
    "a secret ends": ({"secret_days": 1}, ["secret ends"]),
    "a secret has ended": ({"secret_days": -1}, ["secret expired"]),
    "the most urgent first": (
        {
            **queue(group(FULL, status="4.2.2"), held=1, failed=1),
            "program": None,
            "disk_free_mb": 1,
            "sign_in": {"error": "It is gone.", "needs_sign_in": True},
            "certificate": {"path": "cert.pem", "days": 2},
            "secret_days": -1,
        },
        [
            *("stopped", "disk full", "sign-in", "secret expired", "held", "failed", f"quota {ALERTS}"),
            "certificate ends",
        ],
    ),
}


@each("changes, keys", CASES.values(), ids=CASES)
def test_what_is_found(changes, keys):
    found = findings.find(snapshot_of(**changes))
    assert [finding["key"] for finding in found] == keys
    for finding in found:
        assert finding["sentence"].endswith(".")
        assert findings.kind_of(finding) == finding["key"].split()[0]
        for command in finding["commands"]:
            name, *words = command.split()
            assert name != "m365proxy" or parser().parse_args(words)


def test_each_has_a_key_of_its_own():
    for changes, _ in CASES.values():
        keys = [finding["key"] for finding in findings.find(snapshot_of(**changes))]
        assert len(set(keys)) == len(keys)


@each(
    "changes, sentence, commands",
    [
        (
            {"sign_in": {"error": "Nobody is signed in. Run `m365proxy login`.", "needs_sign_in": True}},
            "Nobody is signed in.",
            ["m365proxy login"],
        ),
        (
            queue(group(DENIED, status="4.7.0", count=3)),
            f"3 messages wait: {DENIED} After that, send at once what waits.",
            ["Add-RecipientPermission alerts@contoso.com", "m365proxy queue retry all"],
        ),
        (
            queue(group(SLOW, status="4.4.5", count=41, oldest=NOW - 3 * HOUR)),
            f"41 messages wait in {ALERTS}, the oldest for 3 h: {SLOW}",
            ["m365proxy queue list"],
        ),
        (
            queue(
                group(SLOW, status="4.4.5", count=500, oldest=NOW - 3 * HOUR), waiting_by_tag={TAG: 7000}, unread=6500
            ),
            f"7000 messages wait in {ALERTS}, the oldest for 3 h: {SLOW}",
            ["m365proxy queue list"],
        ),
        (
            queue(group(FULL, status="4.2.2", count=500), waiting_by_tag={TAG: 7000}, unread=6500),
            f"7000 messages wait: {FULL}",
            ["m365proxy queue retry all"],
        ),
        (
            queue(group(count=500, oldest=NOW - 3 * HOUR), waiting_by_tag={TAG: 7000}, unread=6500),
            "7000 messages wait, the oldest for 3 h.",
            ["m365proxy queue list"],
        ),
        ({"clock_skew": 600.0}, r"The clock of this machine is 10 min behind Microsoft's, so sign-ins", None),
        ({"clock_skew": -600.0}, r"The clock of this machine is 10 min ahead of Microsoft's, so sign-ins", None),
        ({"secret_days": 1}, "The client secret or certificate of the app registration ends in 1 day.", []),
        (queue(group(tag="00000000")), "1 message belongs to a mailbox that is not in the config", None),
    ],
)
def test_its_words_and_commands(changes, sentence, commands):
    [finding] = findings.find(snapshot_of(**changes))
    assert finding["sentence"].startswith(sentence)
    assert commands is None or finding["commands"] == commands


@each(
    "running, count, said",
    [
        (True, 0, "All is well"),
        (True, 1, "Attention: 1 thing to do"),
        (True, 2, "Attention: 2 things to do"),
        (False, 2, "Not running"),
    ],
)
def test_the_verdict(running, count, said):
    found = [{"key": "held", "sentence": "1 message is held.", "commands": []}] * count
    assert findings.verdict(running, found) == said


@each(
    "written, said",
    [
        (NOW - 30, None),
        (NOW, None),
        (NOW - 240, "has written no status for 4 min"),
        (NOW + 3600, "has written no status since the clock was set back"),
        (0.0, "has written no status since its start"),
    ],
)
def test_a_program_that_writes_no_status(written, said):
    found = findings.stale(written, NOW)
    assert [finding["key"] for finding in found] == (["stale"] if said else [])
    assert said is None or said in found[0]["sentence"]


@each(
    "queue, connections, sentence",
    [
        ({"waiting": 1, "sending": 1}, 1, "Draining: no new mail is accepted, and 2 messages are still to be sent, 1 "),
        ({}, 2, "Draining: no new mail is accepted, and 2 connections are open. A restart accepts mail again."),
        ({"held": 1}, 0, "Drained: no new mail is accepted, and the queue is empty. Stop m365proxy; "),
    ],
)
def test_draining(queue, connections, sentence):
    found = findings.find(snapshot_of(queue=queue, draining=True, connections=connections))
    assert [one["sentence"] for one in found if one["key"] == "draining"][0].startswith(sentence)
