"""Pages to look at, the same each time: what `render` takes, made up, with an event log in a directory."""

import collections
import html.parser
import logging
import os
import time

from snapshots import NOW, snapshot_of, watch

from m365proxy.monitoring.counters import Counters
from m365proxy.monitoring.devices import Devices
from m365proxy.monitoring.monitor import report_on
from m365proxy.server.handshake import OLD_TLS
from m365proxy.spool.overview import Group
from m365proxy.spool.spool import mailbox_tag
from m365proxy.system import events
from m365proxy.web.page import Setting

SCANNER, ALERTS, ERP = "scanner@contoso.com", "alerts@contoso.com", "erp@contoso.com"
SUPPORT, INVOICES = "support@fabrikam.com", "invoices@fabrikam.com"
REQUEST = "5f3c9c1e-4d0a-4a55-9d55-8c0f7e2b1a10"
BUSY = "Graph has trouble with erp@contoso.com (HTTP 503 serverBusy); nothing was sent. It is tried again."
REFUSED = (
    "Exchange refuses to send as erp@contoso.com. Give relay@contoso.com Send As on it: `m365proxy check` says how."
)

# What must not become anything but text.
HOSTILE = (
    "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)> \u202ekcab\u2066 \x00\x1b[31m &lt; `x` "
)


# Elements without an end tag (HTML, 13.1.2).
VOID = {"meta", "link", "br", "img", "input"}

ELEMENTS = {
    *("html", "head", "meta", "title", "style", "body", "header", "nav", "main", "section", "footer", "h1", "h2", "p"),
    *("a", "ol", "li", "div", "code", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tr", "th", "td"),
    *("span", "time", "details", "summary"),
}
ATTRIBUTES = {
    *("lang", "charset", "name", "content", "http-equiv", "id", "class", "scope", "href", "data-label"),
}


class Reader(html.parser.HTMLParser):
    """What a browser makes of a page; fails on what it had to mend."""

    def __init__(self, text):
        super().__init__()
        self.open, self.counts, self.attributes, self.text = [], collections.Counter(), [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.counts[tag] += 1
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def handle_comment(self, data):
        raise AssertionError(data)


SETTING = Setting(host="pi", program="sudo m365proxy")


def report_of(directory, **changes):
    """What the program would show of such a snapshot."""
    return report_on(snapshot_of(state_dir=str(directory), **changes))


class Log:
    """Writes an event log, as if the program had run for hours."""

    def __init__(self, directory):
        self._log = events.EventLog(os.path.join(directory, "events"), 64 << 20)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._log.close()

    def note(self, when, event, **fields):
        self._log.handle(logging.makeLogRecord({"created": when, **events.step(event, **fields)}))

    def accept(self, when, mailbox, recipients, client="192.0.2.17", size=48211, **fields):
        """Its id."""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(when))
        id = f"{stamp}-{mailbox_tag(mailbox)}-{int(when * 1000) & 0xFFFFFFFF:08x}"
        fields = {"login": mailbox, "sender": mailbox, "tls": "TLSv1.2", **fields}
        self.note(when, "accepted", id=id, client=client, mailbox=mailbox, recipients=recipients, size=size, **fields)
        return id

    def deliver(self, when, mailbox, recipients, seconds=1.2, **fields):
        id = self.accept(when, mailbox, recipients, **fields)
        self.note(when + seconds, "delivered", id=id, mailbox=mailbox, request_id=REQUEST, seconds=seconds)

    def defer(self, when, id, mailbox, reason, seconds=5.0):
        self.note(when, "deferred", id=id, mailbox=mailbox, reason=reason, request_id=REQUEST, seconds=seconds)


def well(directory):
    """All is well."""
    counters = _counted({SCANNER: 23, ALERTS: 4})
    with Log(directory) as log:
        for number in range(9):
            log.deliver(
                NOW - 5000 + 400 * number, ALERTS if number % 4 == 3 else SCANNER, [SUPPORT], size=31_000 * number
            )
    watched = watch(mailboxes=(SCANNER, ALERTS))
    report = report_of(directory, watched=watched, counters=counters, disk_free_mb=11_842)
    return report, _devices(), SETTING


def troubled(directory):
    """Some mail waits, some failed."""
    counters = _counted({SCANNER: 212, ALERTS: 4})
    counters.note(NOW - 240, {"event": "deferred", "mailbox": ERP, "reason": BUSY})
    counters.note(NOW - 7000, {"event": "failed", "mailbox": ERP, "reason": REFUSED})
    with Log(directory) as log:
        failed = log.accept(NOW - 9000, ERP, [INVOICES], client="192.0.2.40", tls=None)
        log.note(NOW - 7000, "failed", id=failed, mailbox=ERP, reason=REFUSED, request_id=REQUEST)
        for number in range(7):
            log.deliver(NOW - 5000 + 400 * number, SCANNER, [SUPPORT, INVOICES][: 1 + number % 2])
        slow = log.accept(NOW - 1800, SCANNER, [SUPPORT])
        log.defer(NOW - 1799, slow, SCANNER, BUSY.replace(ERP, SCANNER))
        log.note(NOW - 1793, "delivered", id=slow, mailbox=SCANNER, request_id=REQUEST, seconds=6.8)
        held = log.accept(NOW - 900, SCANNER, ["archive@contoso.com"], size=2_811_004)
        log.note(NOW - 600, "held", id=held, mailbox=SCANNER, reason="The draft was edited in Exchange.")
        for number in range(3):
            waiting = log.accept(NOW - 400 + 60 * number, ERP, [INVOICES], client="192.0.2.40", tls=None)
            log.defer(NOW - 399 + 60 * number, waiting, ERP, BUSY, 300.0)
    groups = [
        _group("waiting", ERP, BUSY, 41, NOW - 5400),
        _group("waiting", SCANNER, "", 2, NOW - 2),
        _group("held", SCANNER, "The draft was edited in Exchange.", 1, NOW - 900),
        _group("failed", ERP, REFUSED, 1, NOW - 9000),
    ]
    queue = {"waiting": 43, "sending": 1, "held": 1, "failed": 1, "oldest": NOW - 5400, "groups": groups}
    queue["waiting_by_tag"] = {mailbox_tag(ERP): 41, mailbox_tag(SCANNER): 2}
    report = report_of(
        directory,
        watched=watch(mailboxes=(SCANNER, ALERTS, ERP)),
        counters=counters,
        queue=queue,
        disk_free_mb=811,
        listeners=["smtp 192.0.2.1:25", "smtps 192.0.2.1:465", "pop3s 192.0.2.1:995"],
        connections=3,
        certificate={"path": "/etc/ssl/pi.pem", "days": 61},
        secret_days=412,
    )
    return report, _devices(*_TROUBLED), SETTING


def huge(directory, logged=10_000):
    """500 mailboxes, of which some are in trouble, and so many messages in the event log."""
    names = tuple(f"device{number:03}@branch{number % 40}.contoso.com" for number in range(500))
    counters = _counted({name: number % 30 for number, name in enumerate(names)})
    for name in names[::7]:
        counters.note(NOW, {"event": "deferred", "mailbox": name, "reason": BUSY.replace(ERP, name)})
    with Log(directory) as log:
        for number in range(logged):
            when = NOW - 50_000 + 5 * number
            if number % 9:
                log.deliver(when, names[number % 500], [SUPPORT, INVOICES])
            else:
                id = log.accept(when, names[number % 500], [SUPPORT])
                log.defer(when + 1, id, names[number % 500], BUSY)
    groups = [_group("waiting", name, BUSY.replace(ERP, name), 14, NOW - 50_000) for name in names]
    queue = {"waiting": 7000, "oldest": NOW - 50_000, "groups": groups, "unread": 6000}
    queue["waiting_by_tag"] = {mailbox_tag(name): 14 for name in names[::7]}
    steps = [
        step
        for number in range(1000)
        for step in (
            {**_TROUBLED[number % len(_TROUBLED)], "client": f"192.0.{number // 250}.{number % 250}"},
            {**_SCANNING, "client": f"192.0.{number // 250}.{number % 250}"},
        )[: 1 + number % 2]
    ]
    report = report_of(directory, watched=watch(mailboxes=names), counters=counters, queue=queue)
    return report, _devices(*steps), SETTING


def hostile(directory):
    """Every text in it, of the report and of the event log, is an attack."""
    with Log(directory) as log:
        fields = ("id", "client", "login", "mailbox", "sender", "tls", "request_id", "reason", "code", "command")
        for event in ("accepted", "delivered", "deferred", "held", "failed", "reported", "refused", HOSTILE):
            log.note(NOW, event, **dict.fromkeys(fields, HOSTILE), recipients=[HOSTILE] * 12, messages=[HOSTILE])
    queue = {"waiting": 1, "groups": [{**_group(HOSTILE, ALERTS, HOSTILE, 1, NOW), "tag": HOSTILE}]}
    counters = Counters()
    for event in ("deferred", "failed", "delivered"):
        counters.note(NOW, {"event": event, "mailbox": HOSTILE, "reason": HOSTILE, "code": HOSTILE})
    report = report_of(
        directory,
        watched=watch(mailboxes=(HOSTILE, HOSTILE * 40)),
        counters=counters,
        queue=queue,
        sign_in={"user": HOSTILE, "error": HOSTILE},
        listeners=[HOSTILE],
        paused=HOSTILE,
        certificate={"path": HOSTILE, "days": 3},
        version=HOSTILE,
    )
    report["findings"].append({"key": HOSTILE, "sentence": HOSTILE, "commands": [HOSTILE]})
    view = _devices(_SCANNING)[0]
    devices = [{**view, **{name: HOSTILE for name in view if isinstance(view[name], str)}}]
    devices[0].update({name: [HOSTILE] for name in view if isinstance(view[name], list)})
    return report, devices, Setting(host=HOSTILE, program=HOSTILE)


_SCANNING = {
    "event": "accepted",
    "client": "192.0.2.17",
    "mailbox": SCANNER,
    "login": SCANNER,
    "tls": "TLSv1.2",
    "auth": "LOGIN",
}
_TROUBLED = (
    {**_SCANNING, "client": "192.0.2.40", "mailbox": ERP, "login": ERP, "tls": None, "auth": "PLAIN"},
    {"event": "TLS failed", "client": "192.0.2.31", "reason": OLD_TLS},
    {"event": "login failed", "client": "192.0.2.32", "service": "smtp", "login": "scan", "reason": "wrong password"},
)


def _devices(*steps):
    devices = Devices()
    for step in (_SCANNING, {**_SCANNING, "client": "192.0.2.18", "mailbox": ALERTS, "login": ALERTS}, *steps):
        devices.note(NOW - 600, step)
    return devices.views()


def _group(state, mailbox, reason, count, oldest):
    return Group(state=state, tag=mailbox_tag(mailbox), reason=reason, status="", code="", count=count, oldest=oldest)


def _counted(sent):
    counters = Counters()
    for mailbox, count in sent.items():
        for number in range(count):
            counters.note(NOW - 3600 + 60 * (number % 60), {"event": "delivered", "mailbox": mailbox})
    return counters
