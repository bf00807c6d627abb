"""Which mailbox, login and listener the test takes, and what it says if there is none."""

import pytest
from configs import HASHED, configured

from m365proxy.admin.steps import Failed
from m365proxy.admin.testmail import device
from m365proxy.errors import UsageError
from m365proxy.system.choices import Service

SCANNER, ALERTS, UPS = "scanner@contoso.com", "alerts@contoso.com", "ups@contoso.com"
PASSWORD = HASHED["password"]
MFP = {"login": "mfp", "password": PASSWORD, "networks": ["192.168.10.21"]}
CERT = {"tls": {"tls_cert": "auto"}}


def box(address, **more):
    return {"username": address, "password": PASSWORD, **more}


def without_password(address, **more):
    return {"username": address, **more}


MAILBOXES = [
    box(SCANNER, login="scanner"),
    without_password(ALERTS, logins=[MFP, {"login": "reader", "password": PASSWORD, "services": ["pop3"]}]),
    without_password(UPS),
]


@pytest.fixture
def config(tmp_path):
    return configured(tmp_path, mailboxes=MAILBOXES, relay_networks={"192.168.20.0/24": UPS}, **CERT)


@pytest.mark.parametrize(
    "address, login, mailbox, chosen",
    [
        ("", "", SCANNER, "scanner"),
        (SCANNER.upper(), "", SCANNER, "scanner"),
        (ALERTS, "", ALERTS, "mfp"),
        ("", "MFP", ALERTS, "mfp"),
        (ALERTS, "mfp", ALERTS, "mfp"),
        ("", SCANNER, SCANNER, SCANNER),
        (UPS, "", UPS, None),
    ],
)
def test_the_mailbox_and_its_login(config, address, login, mailbox, chosen):
    found, way_in = device.choose(config, address, login)
    assert (found.username, way_in and way_in.name) == (mailbox, chosen)


@pytest.mark.parametrize(
    "address, login, words",
    [
        ("scaner@contoso.com", "", ["--from", "Did you mean scanner@contoso.com?"]),
        ("", "mfb", ["--login", "Did you mean mfp?"]),
        ("", "reader", ["--login", "no login for smtp", "There are: "]),
        ("", "zzzz", ["There are: scanner, scanner@contoso.com, mfp"]),
        (SCANNER, "mfp", ["mfp is a login of alerts@contoso.com, not of scanner@contoso.com"]),
        ("a\nb", "", ["--from"]),
    ],
)
def test_what_is_not_there_is_said_with_what_is(config, address, login, words):
    with pytest.raises(UsageError) as caught:
        device.choose(config, address, login)
    assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)


def test_a_config_without_a_mailbox_that_may_send(tmp_path):
    config = configured(tmp_path, mailboxes=[box(SCANNER, services=["pop3"])], pop3_port=110)
    with pytest.raises(UsageError, match="No mailbox of the config may send"):
        device.choose(config, "", "")


LISTENERS = ["smtp 127.0.0.1:2525", "smtps 127.0.0.1:4650", "pop3 127.0.0.1:1100"]


@pytest.mark.parametrize(
    "settings, listeners, address, port, tls",
    [
        ({}, ["smtp 127.0.0.1:2525"], "127.0.0.1", 2525, "none"),
        (CERT, ["smtp 127.0.0.1:2525"], "127.0.0.1", 2525, "starttls"),
        ({"smtp_port": 0, **CERT}, ["smtp 127.0.0.1:4711"], "127.0.0.1", 4711, "starttls"),
        ({"bind": "::1", **CERT}, ["smtp [::1]:2525"], "::1", 2525, "starttls"),
        ({"bind": "0.0.0.0", **CERT}, ["smtp 0.0.0.0:2525"], "127.0.0.1", 2525, "starttls"),
        ({"bind": "::", **CERT}, ["smtp [::]:2525"], "::1", 2525, "starttls"),
        # Of several that with TLS, whichever is named first.
        (
            {
                "listeners": [
                    {"protocol": "smtp", "port": 2525, "tls": "none"},
                    {"protocol": "smtp", "port": 4650, "tls": "implicit"},
                ],
                **CERT,
            },
            LISTENERS,
            "127.0.0.1",
            4650,
            "implicit",
        ),
    ],
)
def test_the_listener(tmp_path, settings, listeners, address, port, tls):
    way = device.way_to(configured(tmp_path, **settings), listeners, Service.SMTP)
    assert (way.address, way.port, way.socket.tls, way.is_proxy) == (address, port, tls, False)


def test_a_protocol_that_is_off(tmp_path):
    assert device.way_to(configured(tmp_path), LISTENERS, Service.POP3) is None


def test_a_listener_that_the_running_program_does_not_have(tmp_path):
    with pytest.raises(Failed, match=r"smtp 127.0.0.1:2626 \(smtp_port\)"):
        device.way_to(configured(tmp_path, smtp_port=2626), LISTENERS, Service.SMTP)


@pytest.fixture
def own(monkeypatch):
    monkeypatch.setattr(device, "own_addresses", lambda: ["192.168.20.5", "fd00::5"])


EVERYWHERE = {"bind": "0.0.0.0"}


@pytest.mark.parametrize(
    "settings, without_login, address",
    [
        ({**EVERYWHERE, "allowed_networks": ["192.168.20.0/24"]}, "", "192.168.20.5"),
        ({**EVERYWHERE, "relay_networks": {"192.168.20.0/24": SCANNER}}, SCANNER, "192.168.20.5"),
        ({**EVERYWHERE, "relay_networks": {"127.0.0.0/8": SCANNER}}, SCANNER, "127.0.0.1"),
    ],
)
def test_the_address_is_one_that_may_do_it(tmp_path, own, settings, without_login, address):
    config = configured(tmp_path, **settings)
    assert device.way_to(config, ["smtp 0.0.0.0:2525"], Service.SMTP, without_login).address == address


@pytest.mark.parametrize(
    "settings, without_login, words",
    [
        ({"allowed_networks": ["10.0.0.0/8"]}, "", "127.0.0.1 is not in allowed_networks"),
        ({"relay_networks": {"10.0.0.0/8": SCANNER}}, SCANNER, "127.0.0.1. is not in its relay_networks"),
        # The smallest network decides.
        (
            {"mailboxes": [HASHED, box(ALERTS)], "relay_networks": {"127.0.0.0/8": SCANNER, "127.0.0.1": ALERTS}},
            SCANNER,
            "is not in its relay_networks",
        ),
    ],
)
def test_a_machine_that_may_not_do_it(tmp_path, own, settings, without_login, words):
    config = configured(tmp_path, **{**EVERYWHERE, "bind": "127.0.0.1", **settings})
    with pytest.raises(Failed, match=words):
        device.way_to(config, ["smtp 127.0.0.1:2525"], Service.SMTP, without_login)


def test_a_listener_that_wants_a_proxy_header(tmp_path):
    config = configured(tmp_path, proxy_protocol_from=["127.0.0.1"])
    assert device.way_to(config, ["smtp 127.0.0.1:2525"], Service.SMTP).is_proxy
