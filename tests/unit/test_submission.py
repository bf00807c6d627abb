"""What an SMTP session is given of a configuration, and what a reload changes of it."""

import ipaddress

import pytest
from configs import configured

from m365proxy import submission as module
from m365proxy.mime import prepare
from m365proxy.server.connections import Connections
from m365proxy.smtp import replies
from m365proxy.submission import Submission, guard_of

SCANNER, ALERTS = "scanner@contoso.com", "alerts@contoso.com"
PRINTER = "192.0.2.1"


@pytest.fixture
def make(tmp_path):
    def make(**settings):
        config = configured(tmp_path, **settings)
        guard, connections = guard_of(config), Connections()
        return Submission(config, guard, connections, lambda envelope: None, lambda reason: None)

    return make


def test_a_network_that_may_send_stands_for_its_mailbox(make, tmp_path):
    submission = make(relay_networks={"192.0.2.0/24": SCANNER})
    assert submission.policy.relay(PRINTER).mailbox == SCANNER
    assert submission.policy.relay("198.51.100.1") is None
    submission.configure(configured(tmp_path))
    assert submission.policy.relay(PRINTER) is None


def test_mail_from_the_gateway_is_worth_a_line(make, monkeypatch, caplog):
    monkeypatch.setattr(module, "default_gateways", lambda: {PRINTER})
    submission = make(relay_networks={"192.0.2.0/24": SCANNER})
    assert submission.policy.relay(PRINTER).mailbox == SCANNER
    assert "which may hide other clients (NAT)" in caplog.text


def test_who_may_only_send_sends_no_large_mail(make):
    policy = make(permissions="send").policy
    assert policy.size_limit == prepare.LARGE_MIME_CEILING
    assert policy.too_large is replies.TOO_LARGE_TO_SEND_ONLY
    assert make().policy.size_limit > prepare.LARGE_MIME_CEILING


def test_a_reload_reaches_guard_connections_and_sessions(make, tmp_path):
    submission = make()
    networks = submission.plaintext_networks
    submission.configure(
        configured(
            tmp_path, plaintext_networks=["192.0.2.0/24"], allowed_networks=["192.0.2.0/24"], limits={"errors": 3}
        )
    )
    assert networks == [ipaddress.ip_network("192.0.2.0/24")]
    assert not submission._connections.may_connect("198.51.100.1")
    assert submission.policy.errors == 3
