"""What a snapshot says of mailboxes, disk and certificates."""

import datetime

from snapshots import ALERTS, NOW, snapshot_of, watch

from m365proxy.monitoring.counters import Counters
from m365proxy.server import tls
from m365proxy.spool.spool import mailbox_tag


def test_of_a_program_that_does_not_run():
    taken = snapshot_of(program=None)
    assert (taken["running"], taken["pid"], taken["listeners"]) == (False, 0, [])


def test_a_mailbox_has_its_own_messages_and_memory():
    counters = Counters()
    counters.note(NOW - 60, {"event": "delivered", "mailbox": ALERTS})
    box = snapshot_of(queue={"waiting_by_tag": {mailbox_tag(ALERTS): 3, "00000000": 4}}, counters=counters)["mailboxes"]
    assert (box[ALERTS]["waiting"], box[ALERTS]["sent_24h"], box[ALERTS]["last_delivery"]) == (3, 1, NOW - 60)


def test_free_disk_is_unknown_where_there_is_no_directory(tmp_path):
    assert snapshot_of()["disk_free_mb"] is None
    assert snapshot_of(watched=watch(tmp_path))["disk_free_mb"] >= 0


def test_days_until_certificate_and_secret_end(tmp_path):
    (tmp_path / "cert.pem").write_bytes(tls.self_signed(["localhost"])[0])
    end = datetime.date.fromtimestamp(NOW) + datetime.timedelta(days=12)
    taken = snapshot_of(watched=watch(tmp_path, certificate=str(tmp_path / "cert.pem"), secret_end=end))
    assert taken["certificate"]["days"] > 300 and taken["secret_days"] == 12
