"""The device card: what it says, for which login, and what it says that the administrator must mend first."""

import io

import pytest
from configs import CERT, HASHED, configured

from m365proxy.admin.card import card, entrances
from m365proxy.admin.terminal import Terminal
from m365proxy.errors import UsageError
from m365proxy.server import tls

SHORT = {**HASHED, "login": "scan", "send_as": ["desk@contoso.com", "*@contoso.net"]}
DEVICE = {"login": "mfp-1", "password": HASHED["password"], "networks": ["192.168.10.21"]}
UPS = {"username": "ups@contoso.com", "rewrite_from": True}
OFFICE = {
    **CERT,
    "bind": "0.0.0.0",
    "smtp_port": 587,
    "smtps_port": 465,
    "pop3s_port": 995,
    "mailboxes": [{**SHORT, "logins": [DEVICE]}, UPS],
    "relay_networks": {"192.168.20.7": "ups@contoso.com"},
    "listeners": [{"protocol": "smtp", "port": 25, "tls": "none"}],
}


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(entrances.interfaces, "address_towards", lambda peer: "192.168.10.1")
    monkeypatch.setattr(entrances.interfaces, "own_addresses", lambda: ["192.168.10.1"])
    monkeypatch.setattr(entrances.interfaces, "full_name", lambda addresses: "m365proxy.contoso.com")
    monkeypatch.setattr(card.machine, "is_container", lambda: False)


def printed(directory, login, columns=80, password="", **settings):
    terminal = Terminal(io.StringIO(), {"COLUMNS": str(columns)})
    return card.text(configured(directory, **{**OFFICE, **settings}), login, terminal, password)


def rows(text):
    """{label: value} for sending."""
    found, label = {}, ""
    for line in text.splitlines():
        if line == "FETCHING (POP3)":
            break
        if line[:1].strip() and line[16:]:
            label = line[:16].strip()
            found[label] = line[16:]
        elif line.startswith(" " * 16):
            found[label] += " " + line[16:]
    return found


def test_a_card_as_it_is_printed(tmp_path):
    mailbox = {**HASHED, "logins": [DEVICE]}
    shown = printed(tmp_path, "mfp-1", password="kuwi-dora", mailboxes=[mailbox], relay_networks={})
    assert shown.partition("\nIF IT DOES NOT WORK\n")[0] == (
        "m365proxy: what to set in the device\n"
        "====================================\n"
        "Mailbox         scanner@contoso.com\n"
        "\n"
        "SENDING (SMTP)\n"
        "Server          m365proxy.contoso.com\n"
        "                or 192.168.10.1\n"
        "Port            465\n"
        "Encryption      SSL/TLS (not STARTTLS)\n"
        "Log in          yes: SMTP authentication by LOGIN, PLAIN or\n"
        "                automatic\n"
        "User name       mfp-1\n"
        "Password        kuwi-dora\n"
        "From, Reply-To  scanner@contoso.com\n"
        "Untick          check of the server's certificate, POP\n"
        "                before SMTP, CRAM-MD5, NTLM, Kerberos, OAuth\n"
        "Or instead      port 587 with STARTTLS\n"
        "Largest mail    80 MB of attachments\n"
        "Works from      192.168.10.21\n"
        "\n"
        "FETCHING (POP3)\n"
        "Server          m365proxy.contoso.com\n"
        "                or 192.168.10.1\n"
        "Port            995\n"
        "Encryption      SSL/TLS (not STARTTLS)\n"
        "User name       mfp-1\n"
        "Password        the same as for sending\n"
        "Untick          check of the server's certificate, APOP\n"
    )
    assert "ADMINISTRATOR" not in shown


def test_without_a_password_there_is_a_line_to_write_it_on(tmp_path):
    assert rows(printed(tmp_path, "mfp-1"))["Password"] == "_" * 24


@pytest.mark.parametrize("password", ["zwei  Wörter ", "x" * 70, "a\x1b[2Jb"])
def test_a_password_is_shown_as_it_is_or_escaped(tmp_path, password):
    shown = rows(printed(tmp_path, "mfp-1", password=password))["Password"]
    assert shown == password.replace("\x1b", "\\x1b").rstrip()


@pytest.mark.parametrize("columns", [20, 39, 40, 60, 200])
def test_no_line_is_wider_than_the_terminal_or_60_columns(tmp_path, columns):
    shown = printed(tmp_path, "scanner@contoso.com", columns)
    width = min(60, columns)
    assert [line for line in shown.splitlines() if len(line) > width and len(line.split()) > 2] == []
    assert shown.isascii() and "\x1b" not in shown
    for whole in ("scanner@contoso.com", "m365proxy.contoso.com", "`min_version`"):
        assert whole in shown


VALUES = {
    # name: (login, changed settings, label, value)
    "another user name": ("scan", {}, "User name", "scan"),
    "in any case, with blanks": (" MFP-1 ", {}, "User name", "mfp-1"),
    "senders": ("scan", {}, "From, Reply-To", "scanner@contoso.com (or desk@contoso.com, any in contoso.net)"),
    "a sender of its own": (
        "scanner@contoso.com",
        {"mailboxes": [{**HASHED, "send_as": ["desk@contoso.com"], "default_from": "desk@contoso.com"}, UPS]},
        "From, Reply-To",
        "desk@contoso.com (or scanner@contoso.com)",
    ),
    "From is replaced": ("ups@contoso.com", {}, "From, Reply-To", "ups@contoso.com (any other is replaced by it)"),
    "without a login": ("ups@contoso.com", {}, "Log in", "no: no user name and no password"),
    "without a login, from where": ("ups@contoso.com", {}, "Works from", "192.168.20.7"),
    "without a login, without TLS": (
        "ups@contoso.com",
        {},
        "Or instead",
        "port 587 with STARTTLS; port 587 without encryption; port 25 without encryption",
    ),
    "a login that some need not": (
        "scan",
        {
            "relay_networks": {"192.168.20.7": "scanner@contoso.com", "192.168.21.0/24": "scanner@contoso.com"},
            "mailboxes": [SHORT],
        },
        "Log in",
        "yes: SMTP authentication by LOGIN, PLAIN or automatic (not needed from 192.168.20.7, 192.168.21.0/24)",
    ),
    "without TLS where that is allowed": (
        "mfp-1",
        {"plaintext_networks": ["192.168.10.0/24"]},
        "Or instead",
        "port 587 with STARTTLS; port 587 without encryption; port 25 without encryption",
    ),
    "few recipients": (
        "scan",
        {"allowed_domains": ["contoso.com", "contoso.net"]},
        "Recipients",
        "only in contoso.com, contoso.net",
    ),
    "no encryption": (
        "scan",
        {
            "tls": {},
            "smtps_port": None,
            "pop3s_port": None,
            "smtp_port": 25,
            "listeners": [],
            "plaintext_networks": ["192.168.10.0/24"],
        },
        "Encryption",
        "none (only from 192.168.10.0/24)",
    ),
    "without TLS from some networks only": (
        "scan",
        {"plaintext_networks": ["192.168.10.0/24", "192.168.20.7", "127.0.0.0/8"]},
        "Or instead",
        "port 587 with STARTTLS; port 587 without encryption (only from 192.168.10.0/24, 192.168.20.7); "
        "port 25 without encryption (only from 192.168.10.0/24, 192.168.20.7)",
    ),
    "without TLS from everywhere": (
        "scan",
        {"plaintext_networks": ["0.0.0.0/0", "192.168.20.7"]},
        "Or instead",
        "port 587 with STARTTLS; port 587 without encryption; port 25 without encryption",
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_values(tmp_path, name):
    login, settings, label, value = VALUES[name]
    assert rows(printed(tmp_path, login, **settings))[label] == value


def test_a_certificate_of_a_ca_is_checked(tmp_path, monkeypatch):
    names = tls.CertificateNames(("mail.contoso.com",), (), False)
    monkeypatch.setattr(entrances, "certificate", lambda config: names)
    shown = rows(printed(tmp_path, "scan"))
    assert shown["Server"] == "mail.contoso.com or 192.168.10.1"
    assert shown["Untick"].startswith("POP before SMTP")


@pytest.mark.parametrize(
    "login, settings, sections",
    [
        ("scan", {}, ["SENDING", "FETCHING"]),
        ("ups@contoso.com", {}, ["SENDING"]),
        ("scan", {"pop3s_port": None}, ["SENDING"]),
        ("mfp-1", {"mailboxes": [{**HASHED, "logins": [{**DEVICE, "services": ["pop3"]}]}, UPS]}, ["FETCHING"]),
        ("mfp-1", {"mailboxes": [{**HASHED, "services": ["smtp"], "logins": [DEVICE]}, UPS]}, ["SENDING"]),
    ],
)
def test_only_what_the_login_may_use(tmp_path, login, settings, sections):
    shown = printed(tmp_path, login, **settings)
    assert [word for word in ("SENDING", "FETCHING") if word in shown] == sections
    assert shown.count("Password ") >= ("scan" in login) and shown.count("User name ") <= len(sections)


REMARKS = {
    # name: (settings, words)
    "only this machine": (
        {"bind": "127.0.0.1"},
        'For devices, set `bind` to an address of this machine, or to "0.0.0.0".',
    ),
    "no login is possible": (
        {"tls": {}, "smtps_port": None, "pop3s_port": None, "listeners": [], "smtp_port": 25},
        "Nobody can log in on port 25: it has no TLS.",
    ),
    "a load balancer": ({"proxy_protocol_from": ["192.168.10.9"]}, "the load balancer of `proxy_protocol_from`"),
    "no port": (
        {
            "mailboxes": [{**HASHED, "login": "scan", "services": ["pop3"]}, {**UPS, "services": ["smtp"]}],
            "pop3s_port": None,
        },
        "No port is set that this login may use",
    ),
}


@pytest.mark.parametrize("name", REMARKS)
def test_what_the_administrator_must_mend_first(tmp_path, name):
    settings, words = REMARKS[name]
    remarks = printed(tmp_path, "scan", **settings).partition("FOR THE ADMINISTRATOR\n")[2]
    assert words in " ".join(remarks.split())


def test_in_a_container_the_address_is_another(tmp_path, monkeypatch):
    monkeypatch.setattr(card.machine, "is_container", lambda: True)
    assert "enter the host's address" in " ".join(printed(tmp_path, "scan").split())


@pytest.mark.parametrize(
    "login, near",
    [("mfp1", "mfp-1"), ("MFP", "mfp-1"), ("scaner@contoso.com", "scanner@contoso.com"), ("ups", "ups@contoso.com")],
)
def test_an_unknown_login_is_answered_with_the_nearest(tmp_path, login, near):
    with pytest.raises(UsageError) as error:
        printed(tmp_path, login)
    assert f'There is no login "{login}"' in str(error.value) and f"Did you mean {near}?" in str(error.value)


@pytest.mark.parametrize("login", ["", "qqqqq"])
def test_a_login_like_no_other_is_answered_with_all(tmp_path, login):
    many = [{"login": f"mfp-{number}", "password": HASHED["password"]} for number in range(20)]
    with pytest.raises(UsageError) as error:
        printed(tmp_path, login, mailboxes=[{**HASHED, "logins": many}, UPS])
    assert "Did you mean" not in str(error.value)
    assert str(error.value).endswith("mfp-7, mfp-8 and 12 more.")
