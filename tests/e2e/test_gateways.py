"""Several gateways for the same mailboxes, at one tenant that counts all of their requests."""

import collections
import re
import smtplib

import pytest
from program import ALERTS, PASSWORD, SCANS, wait_until

# Messages of each node: enough for all of its slots, several times.
MAILS = 12


@pytest.fixture
def make_nodes(make_program):
    """So many programs, signed in and running, of one tenant."""

    def make(number, **settings):
        settings = {"limits": {"nodes": number}, "receivers": 0, **settings}
        first = make_program(**settings)
        return [first.sign_in().start()] + [
            make_program(beside=first, **settings).sign_in().start() for _ in range(1, number)
        ]

    return make


def submit(node, subjects):
    with smtplib.SMTP("127.0.0.1", node.port("smtp"), timeout=60) as smtp:
        smtp.login(ALERTS, PASSWORD)
        for subject in subjects:
            text = f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: {subject}\r\n\r\nx\r\n"
            assert smtp.sendmail(ALERTS, [SCANS], text) == {}


def delivered(sandbox):
    """How often each subject was delivered."""
    heads = [record.raw.partition(b"\r\n\r\n")[0] for record in list(sandbox.tenant.delivered)]
    return collections.Counter(re.search(rb"(?im)^subject: (\S+)", head).group(1).decode() for head in heads)


@pytest.mark.parametrize("number", [2, 3])
def test_nodes_share_what_a_mailbox_is_allowed(make_nodes, number):
    nodes = make_nodes(number)
    sandbox = nodes[0].sandbox
    for index, node in enumerate(nodes):
        submit(node, [f"first-{index}"])  # each learns the way
    wait_until(lambda: all(node.queue() == [] for node in nodes), what="empty queues")
    sandbox.forget()
    sandbox.latency = 0.1
    subjects = [[f"{index}-{mail}" for mail in range(MAILS)] for index in range(number)]
    for node, mine in zip(nodes, subjects):
        submit(node, mine)
    wait_until(lambda: all(node.queue() == [] for node in nodes), what="empty queues")
    found = delivered(sandbox)
    assert [subject for mine in subjects for subject in mine if found[subject] != 1] == []
    # Nobody was asked to wait, and no request was made in vain: none waited longer than for its turn.
    assert [request.path for request in sandbox.requests if request.status == 429] == []
    assert sandbox.peak_concurrency[ALERTS] <= 4
    sends = [request for request in sandbox.seen("/send$", "POST") if request.mailbox == ALERTS]
    assert len(sends) == number * MAILS


def test_with_more_nodes_than_slots_each_has_one(make_program):
    node = make_program(limits={"nodes": 5}, receivers=0).sign_in().start()
    sandbox = node.sandbox
    sandbox.concurrency_limit = None
    sandbox.latency = 0.05
    submit(node, [str(mail) for mail in range(MAILS)])
    wait_until(lambda: node.queue() == [], what="an empty queue")
    assert sandbox.peak_concurrency[ALERTS] == 1
