"""A warning as a mail: it is sent at once, or taken back."""

import email
import email.policy
import threading

import pytest

from m365proxy.delivery.warningmail import WarningMail
from m365proxy.errors import Temporary
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import Spool

ALERTS, ADMIN = "alerts@contoso.com", "admin@contoso.com"


class Harness:
    """A courier that does as the test wants with each message, when it is looked for."""

    def __init__(self, path):
        self.spool = Spool(str(path / "queue"))
        self.spool.make()
        self.seen = []  # envelope and mail of each message
        self.seconds = 0.0
        self.courier = lambda claim: claim.remove_sent()
        self.stopped = threading.Event()
        self.mail = WarningMail(self.spool, self.accept, patience=10.0, look=0.001, monotonic=self.monotonic)

    def monotonic(self):
        self.seconds += 1.0
        return self.seconds

    def accept(self, id):
        claim = self.spool.claim(id)
        envelope, file = claim.open()
        with file:
            self.seen.append((envelope, email.message_from_binary_file(file, policy=email.policy.default)))
        self.courier(claim)

    def send(self):
        text = "- Größe: " + "many words " * 20 + "\n  Run: m365proxy queue list"
        self.mail.send(ALERTS, ADMIN, "m365proxy on gateway: 1 thing to do", text, self.stopped)

    def left(self):
        return list(self.spool.entries())


@pytest.fixture
def harness(tmp_path):
    return Harness(tmp_path)


def test_it_is_a_mail_of_the_mailbox_that_is_sent(harness):
    harness.send()
    [(envelope, mail)] = harness.seen
    assert (envelope.mailbox, envelope.recipients, envelope.kind) == (ALERTS, (ADMIN,), "warning")
    assert (mail["To"], mail["Subject"]) == (ADMIN, "m365proxy on gateway: 1 thing to do")
    assert mail["From"] == f"Mail gateway <{ALERTS}>" and mail["Auto-Submitted"] == "auto-generated"
    text = mail.get_content()
    assert text.startswith("- Größe: many words") and "  Run: m365proxy queue list" in text
    assert max(map(len, text.splitlines())) <= 76 and harness.left() == []


def refuse(claim):
    claim.state.error = "Exchange refuses the recipient."
    claim.fail()


def defer(claim):
    claim.state.error = "The mailbox is full."
    claim.defer()


@pytest.mark.parametrize(
    "courier, said",
    [
        (refuse, "Exchange refuses the recipient."),
        (defer, "The mailbox is full."),
        (lambda claim: claim.release(), "has not sent it in time"),
    ],
)
def test_what_is_not_sent_is_taken_back(harness, courier, said):
    harness.courier = courier
    with pytest.raises(Temporary, match=said):
        harness.send()
    assert harness.left() == []


def test_what_may_be_on_its_way_stays(harness):
    harness.courier = lambda claim: claim.mark_posting()
    with pytest.raises(Temporary, match="in time"):
        harness.send()
    assert len(harness.left()) == 1


def test_a_stop_takes_it_back(harness):
    harness.courier = lambda claim: claim.release()
    harness.stopped.set()
    with pytest.raises(Temporary):
        harness.send()
    assert harness.left() == [] and harness.seconds < 3


def test_a_full_queue_takes_it_and_a_full_disk_does_not(harness, tmp_path):
    harness.spool = Spool(str(tmp_path / "queue"), max_waiting=1)
    harness.spool.put(Envelope(ALERTS, ALERTS, (ADMIN,))).commit()
    harness.mail = WarningMail(harness.spool, harness.accept, look=0.001)
    harness.send()
    harness.mail = WarningMail(Spool(str(tmp_path / "queue"), min_free=1 << 60), harness.accept)
    with pytest.raises(Temporary, match="min_free_mb"):
        harness.send()
