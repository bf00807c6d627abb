"""Two gateways on one mailbox, with devices that put the same Message-ID on all their mail: a copy in Sent Items of the
one is no proof for the other."""

import smtplib

import pytest
from faults.hasty import HastyProgram
from faults.torture import settled
from program import ALERTS, PASSWORD, SCANS, wait_until

MAILS = 6


@pytest.fixture
def nodes(tmp_path):
    (tmp_path / "other").mkdir()
    first = HastyProgram(tmp_path)
    other = HastyProgram(tmp_path / "other", beside=first)
    made = [first, other]
    for node in made:
        node.settings.pop("pop3_port")
        queue = {"min_free_mb": 0, "retry_interval": 60, "on_ambiguous": "hold"}
        node.configure(queue=queue, limits={"nodes": 2})
        node.sign_in().start()
    yield made
    for node in reversed(made):
        node.close()


def submit(node, subject):
    with smtplib.SMTP("127.0.0.1", node.port("smtp"), timeout=30) as smtp:
        smtp.login(ALERTS, PASSWORD)
        mail = f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: {subject}\r\nMessage-ID: <1@printer.local>\r\n\r\nx\r\n"
        smtp.sendmail(ALERTS, [SCANS], mail)


def arrived(nodes):
    with nodes[0].sandbox.tenant.lock:
        return sorted(
            sent.raw.partition(b"Subject: ")[2].split(b"\r")[0].decode() for sent in nodes[0].sandbox.tenant.delivered
        )


@pytest.mark.parametrize("kinds", [["cut"], ["cut_after"], ["cut", "cut_after"]], ids="+".join)
@pytest.mark.parametrize("marker", [True, False], ids=["marker kept", "marker lost"])
def test_each_node_tells_its_own_mail_from_the_others(nodes, kinds, marker):
    """Every answer to a send gets lost once, whether it was carried out or not."""
    tenant = nodes[0].sandbox.tenant
    tenant.marker_survives = marker
    for kind in kinds:
        nodes[0].sandbox.faults.add(kind, path="/send$", method="POST", times=2 * MAILS // len(kinds))
    wanted = [f"{number} of {site}" for number in range(MAILS) for site in "ab"]
    for subject in wanted:
        submit(nodes["ab".index(subject[-1])], subject)
    wait_until(lambda: all(map(settled, nodes)), what="empty queues")
    assert arrived(nodes) == sorted(wanted)
    assert [node.queue() for node in nodes] == [[], []], "nothing is held"
    assert tenant.items(ALERTS, "drafts") == []
