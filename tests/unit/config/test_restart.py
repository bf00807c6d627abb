"""What needs a restart: a change of the options that the table marks, and of nothing else."""

from cases import each
from configs import CERT, MAILBOX, MINIMAL

from m365proxy.config.options import OPTIONS
from m365proxy.config.restart import needing_restart

BASE = {**MINIMAL, **CERT, "smtp_port": 2525, "client_secret": "s3cret"}

# Another value than the one in BASE, or the default.
OTHERS = {
    "user": "other@contoso.com",
    "tenant_id": "other.com",
    "client_id": "99999999-2222-3333-4444-555555555555",
    "client_secret": "another",
    "client_certificate": {"private_key": "key.pem", "thumbprint": "A1" * 20},
    "permissions": "send",
    "cloud": "china",
    "graph_url": "https://graph.contoso.com",
    "authority_url": "https://login.contoso.com",
    "ca_file": "ca.pem",
    "https_proxy": "http://proxy.contoso.com:3128",
    "bind": "127.0.0.2",
    "smtp_port": 25,
    "smtps_port": 465,
    "pop3_port": 110,
    "pop3s_port": 995,
    "listeners": [{"protocol": "smtp", "port": 26}],
    "tls.min_version": "TLSv1.3",
    "tls.required": True,
    "queue.retry_interval": 77,
    "queue.lifetime_hours": 7,
    "queue.min_free_mb": 7,
    "queue.pace_per_minute": 7,
    "queue.on_ambiguous": "hold",
    "queue.max_waiting": 7,
    "pop3": {"read_ahead_mb": 7},
    "limits.nodes": 7,
    "limits.connections": 7,
    "limits.connections_per_client": 7,
    "limits.auth_failures": 7,
    "limits.auth_block_minutes": 7,
    "receivers": 7,
    "status_port": 8025,
    "logging": {"level": "DEBUG"},
    "state_dir": "elsewhere",
}


def test_every_marked_option_is_tried():
    assert set(OTHERS) == {option.path for option in OPTIONS if option.restart}


@each("path, value", OTHERS.items(), ids=OTHERS)
def test_a_change_of_a_marked_option(load, path, value):
    section, _, name = path.rpartition(".")
    other = {**BASE, section: {**BASE.get(section, {}), name: value}} if section else {**BASE, path: value}
    before = dict(BASE)
    if path == "client_certificate":
        del before["client_secret"], other["client_secret"]
    assert needing_restart(load(before), load(other)) == [path]


@each(
    "settings",
    [
        {},
        {"mailboxes": [{**MAILBOX, "folder": "archive"}]},
        {"queue": {"keep_failed_days": 7}},
        {"limits": {"recipients": 3}},
        {"notify": "boss@contoso.com"},
        {"plaintext_networks": "10.0.0.0/8"},
    ],
)
def test_other_changes(load, settings):
    assert needing_restart(load(MINIMAL), load({**MINIMAL, **settings})) == []


def test_a_first_certificate_and_the_loss_of_the_last_one(load):
    without, with_one = load(MINIMAL), load({**MINIMAL, **CERT})
    assert needing_restart(without, with_one) == needing_restart(with_one, without) == ["tls.tls_cert"]
    elsewhere = load({**MINIMAL, "tls": {"tls_cert": "cert.pem", "tls_key": "key.pem"}})
    assert needing_restart(with_one, elsewhere) == []


def test_a_certificate_that_no_listener_uses_needs_none(load):
    plain = {**MINIMAL, "listeners": [{"protocol": "smtp", "port": 25, "tls": "none"}]}
    assert needing_restart(load(plain), load({**plain, **CERT})) == []


def test_the_default_port_beside_listeners(load):
    listeners = {**MINIMAL, "listeners": [{"protocol": "smtp", "port": 25, "tls": "none"}]}
    without, written_out = load(listeners), load({**listeners, "smtp_port": 2525})
    assert needing_restart(without, written_out) == needing_restart(written_out, without) == ["smtp_port"]


PAGE = {**BASE, "status_port": 8025, "status_password": "a drawer full"}


@each(
    "changes, expected",
    [
        ({"status_password": "another one"}, []),
        ({"status_password": None}, ["status_password"]),
        ({"status_password": None, "tls": {}}, ["tls.tls_cert"]),
        ({"status_password": None, "status_port": None}, ["status_port"]),
    ],
)
def test_the_status_port_stays_where_it_is(load, changes, expected):
    assert needing_restart(load(PAGE), load({**PAGE, **changes})) == expected
