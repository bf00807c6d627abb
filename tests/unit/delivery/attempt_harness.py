"""Everything from the spool to Graph and the stand-in tenant, for the tests of attempts and of drafts."""

import base64
import functools
import time

from courier_harness import workers
from waiting import PATIENCE

from m365proxy.delivery import uploads
from m365proxy.delivery.attempt import Delivery
from m365proxy.delivery.courier import Courier
from m365proxy.delivery.drafts import MARKER, Drafts
from m365proxy.delivery.messageids import SeenIds
from m365proxy.delivery.routes import Routes
from m365proxy.delivery.uploads import LargeDrafts
from m365proxy.graph.client import Graph
from m365proxy.mime import prepare
from m365proxy.sandbox import Sandbox, resource
from m365proxy.sandbox import uploads as sandbox_uploads
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import Spool
from m365proxy.spool.state import Phase, Place
from m365proxy.system.choices import OnAmbiguous
from m365proxy.system.outbound import Outbound

RELAY, ALERTS, SCANS = "relay@contoso.com", "alerts@contoso.com", "scans@contoso.com"


MAIL = b"From: alerts@contoso.com\r\nTo: scans@contoso.com\r\nSubject: t\r\n\r\nx\r\n"


class Tokens:
    """Hands out what the stand-in takes."""

    def __init__(self, sandbox, *scopes):
        self.token = sandbox.entra.token(RELAY, *scopes)

    def access_token(self, refused=None):
        return self.token


class Harness:
    """Everything from the spool to Graph; `open` again after a crash."""

    def __init__(self, path, sandbox):
        self.path = path
        self.sandbox = sandbox
        self.tenant = sandbox.tenant
        self.installation = "installation"
        self.full = True
        self.on_ambiguous = "hold"
        self.looks = (0.02, 0.05, 0.1, 0.2, 0.2, 0.3)
        self.still_draft = (0.05, 0.15)
        self.courier = None
        self.probes = 0  # how often it was asked whether Graph can be reached
        self.sent = lambda claim: None  # what the courier calls for a message that has left the queue
        self.ahead = 0.0  # seconds that the courier's monotonic clock is ahead of this machine's
        self.may_be_unmarked = False  # whether two requests a message may be enough
        self.now = None  # where the monotonic clocks of courier and Graph stand still

    def open(self):
        self.spool = Spool(str(self.path / "queue"))
        self.spool.make()
        (self.path / "seen").mkdir(exist_ok=True)
        self.graph = Graph(
            Tokens(self.sandbox),
            Outbound(None, self.sandbox.ca_file, direct=True),
            self.sandbox.graph_url,
            RELAY,
            monotonic=lambda: time.monotonic() if self.now is None else self.now,
        )
        self.routes = Routes(str(self.path), RELAY, self.full)
        self.drafts = Drafts(self.graph, self.installation)
        self.delivery = Delivery(
            self.graph,
            self.drafts,
            LargeDrafts(self.graph),
            self.routes,
            SeenIds(str(self.path / "seen")),
            lambda box, address: address == box,
            on_ambiguous=OnAmbiguous(self.on_ambiguous),
            may_be_unmarked=lambda mailbox: self.may_be_unmarked,
            looks=self.looks,
            still_draft=self.still_draft,
        )
        self.courier = Courier(
            self.spool,
            self.graph,
            self.delivery,
            [ALERTS, SCANS, RELAY],
            retry_interval=0.1,
            probe=self.probe,
            sent=lambda claim: self.sent(claim),
            monotonic=lambda: time.monotonic() + self.ahead if self.now is None else self.now,
        )
        self.courier.recover()
        self.courier.start()
        return self

    def probe(self):
        self.probes += 1
        self.graph.check_reachable()

    def close(self):
        if self.courier is not None:
            assert self.courier.stop(PATIENCE)
            self.graph.close()
            self.courier = None

    def put(self, mail=MAIL, recipients=(SCANS,), mailbox=ALERTS):
        incoming = self.spool.put(Envelope(mailbox, mailbox, recipients), self.courier.add)
        incoming.write(mail)
        return incoming.commit()

    def places(self):
        # new/ twice: a message that moves between two listings must not be missed
        found = {entry.id: entry for entry in self.spool.entries(Place.NEW, Place.CUR, Place.FAILED, Place.NEW)}
        return sorted((entry.place, entry.phase) for entry in found.values())

    def settled(self):
        """Nothing moves any more: all sent, held or failed, and no worker has anything left to do."""
        if workers():
            return False
        # new/ twice: a message that moves between two listings must not be missed
        entries = list(self.spool.entries(Place.NEW, Place.CUR, Place.NEW))
        return all(entry.phase is Phase.HELD for entry in entries) and not workers()


def harnesses(path):
    """For a fixture: the harness, stopped in the end."""
    with Sandbox(mailboxes=(RELAY, ALERTS, SCANS), user=RELAY) as sandbox:
        made = Harness(path, sandbox)
        yield made
        sandbox.faults.clear()
        made.close()


def settle(harness, wait_until):
    wait_until(harness.settled)


HIDDEN = "hidden@example.org"


ALWAYS = MAIL.replace(b"Subject", b"Message-ID: <always@printer.local>\r\nSubject")


def an_item(tenant, folder, *, marker="", draft=False, at=0.0, message_id="<always@printer.local>", subject="t"):
    """A mail in a folder, made and sent `at` seconds from now."""
    raw = ALWAYS.replace(b"<always@printer.local>", message_id.encode())
    tenant.add_message(ALERTS, raw.replace(b"Subject: t", b"Subject: " + subject.encode()), folder)
    item = tenant.items(ALERTS, folder)[-1]
    item.draft = draft
    item.sent = item.created = tenant.clock() + at
    if marker:
        item.extended[resource.tag(MARKER)] = marker


def crash_after_draft(harness, wait_until):
    """A message whose draft exists and whose send was refused for the moment."""
    harness.sandbox.faults.add("answer", path="/send$", status=429, code="ApplicationThrottled", retry_after="2")
    harness.open().put()
    wait_until(lambda: len(harness.tenant.items(ALERTS, "drafts")) == 1 and harness.places() == [("new", "")])
    harness.close()
    return harness.tenant.items(ALERTS, "drafts")[0]


# A field that mail sent as JSON does not have.
KEYWORDS = b"Keywords: scan\r\n"


@functools.lru_cache(None)
def lower_limits(monkeypatch):
    """What is large mail, what is uploaded, and how much at a time, by thousandths: for large_mail(5_000)."""
    limits = [
        (prepare, "LARGE_MIME_CEILING"),
        (uploads, "_SMALLEST_UPLOAD"),
        (uploads, "CHUNK"),
        (sandbox_uploads, "SMALLEST"),
    ]
    for module, name in limits:
        monkeypatch.setattr(module, name, getattr(module, name) // 1000)


def large_mail(octets=5_000_000, fields=b""):
    """A scanner's PDF that fits no single request."""
    pdf = base64.encodebytes(bytes(range(256)) * (octets // 256)).replace(b"\n", b"\r\n")
    return (
        fields + b"From: alerts@contoso.com\r\nTo: scans@contoso.com\r\nSubject: large\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nsee\r\n--b\r\n'
        b'Content-Type: application/pdf; name="scan.pdf"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        + pdf
        + b"--b--\r\n"
    )


def with_message_id(mail, message_id):
    return b"Message-ID: " + message_id + b"\r\n" + mail
