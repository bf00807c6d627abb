"""What a snapshot says of mailboxes, disk and certificates."""

import datetime
import time

import pytest
from snapshots import ALERTS, NOW, snapshot_of, watch

from m365proxy.monitoring.counters import Counters
from m365proxy.server import tls
from m365proxy.spool.spool import mailbox_tag
from m365proxy.system import ownprocess


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


@pytest.fixture
def read_here(monkeypatch):
    """Certificates are read in this process."""
    monkeypatch.setattr(ownprocess, "is_possible", lambda: False)


def test_days_until_certificate_and_secret_end(tmp_path, read_here):
    (tmp_path / "cert.pem").write_bytes(tls.self_signed(["localhost"])[0])
    end = datetime.date.fromtimestamp(NOW) + datetime.timedelta(days=12)
    taken = snapshot_of(watched=watch(tmp_path, certificate=str(tmp_path / "cert.pem"), secret_end=end))
    assert taken["certificate"]["days"] > 300 and taken["secret_days"] == 12


def test_the_app_ends_with_its_certificate_or_on_the_day_the_config_names(tmp_path, read_here):
    end = NOW + 5.5 * 86400
    days = int((end - time.time()) / 86400)
    (tmp_path / "app.pem").write_bytes(b"".join(tls.self_signed(["localhost"], days=days)))
    watched = watch(tmp_path, client_certificate=str(tmp_path / "app.pem"))
    later, sooner = (datetime.date.fromtimestamp(NOW) + datetime.timedelta(days=days) for days in (40, 2))
    assert snapshot_of(watched=watched)["secret_days"] in (4, 5)
    assert snapshot_of(watched=watched._replace(secret_end=later))["secret_days"] in (4, 5)
    assert snapshot_of(watched=watched._replace(secret_end=sooner))["secret_days"] == 2


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN PRIVATE KEY-----", b"junk"])
def test_a_certificate_that_cannot_be_read_has_no_end(tmp_path, content):
    if content is not None:
        (tmp_path / "cert.pem").write_bytes(content)
    path = str(tmp_path / "cert.pem")
    taken = snapshot_of(watched=watch(tmp_path, certificate=path, client_certificate=path))
    assert taken["certificate"] is taken["secret_days"] is None
