"""Loading: good configurations, the folders of bad ones, and where the file is."""

import base64
import datetime
import ipaddress
import json
import os
import pathlib
import stat
import sys

import pytest
from cases import each
from configs import CERT, MAILBOX, MINIMAL, QUIET, problems, sockets

from m365proxy.config import load as config
from m365proxy.config.options import keys_of
from m365proxy.errors import ConfigError
from m365proxy.system.choices import DeletePolicy, DeleteRule

ROOT = pathlib.Path(__file__).resolve().parents[3]


BAD = sorted(path for path in (ROOT / "tests" / "bad_configs").iterdir() if path.is_dir())


@each("folder", BAD, ids=lambda folder: folder.name)
def test_a_bad_config_gets_exactly_its_sentences(folder):
    path = folder / "config.json"
    with pytest.raises(ConfigError) as caught:
        config.load(str(path), {})
    said = [problem.replace(str(path), "config.json") for problem in caught.value.problems]
    assert [*said, *caught.value.shown] == (folder / "expected.txt").read_text("utf-8").splitlines()
    assert caught.value.exit_status == 78


def test_there_are_enough_bad_configs():
    assert len(BAD) >= 25


@each("folder", BAD, ids=lambda folder: folder.name)
def test_no_sentence_contains_a_secret(folder):
    said = (folder / "expected.txt").read_text("utf-8")
    content = (folder / "config.json").read_bytes()
    for secret in ("s3cret", "a plain password", "x y z", "BEGIN PRIVATE KEY", "$2b$", "AAECAwQF"):
        assert secret not in said
    assert content == b"" or said


@each(
    "key, value",
    [
        ("client_secret", 12345678),
        ("client_secret", "12345678\u0000"),
        ("status_password", ["12345678"]),
        ("https_proxy", "ftp://user:12345678@proxy"),
        ("https_proxy", "http://user:12345678@proxy:port"),
        ("https_proxy", {"url": "socks://12345678@proxy"}),
        ("https_proxy", {"url": "http://proxy", "user": "u", "password": "12345678\n"}),
        ("notify_url", "ftp://12345678@ntfy.contoso.com/12345678"),
        ("notify_url", "https://ntfy.contoso.com/12345678 "),
        ("notify_url", ["https://ntfy.contoso.com/12345678"]),
        ("notify_command", ["/usr/local/bin/page", 12345678]),
        ("notify_command", [["12345678"]]),
        ("notify_command", "12345678\n"),
        ("mailboxes", {"scanner@contoso.com": "12345678"}),
        ("mailboxes", ["12345678"]),
        ("mailboxes", [{**MAILBOX, "password": 12345678}]),
        ("mailboxes", [{**MAILBOX, "password": "$2b$12$12345678"}]),
        ("mailboxes", [{**MAILBOX, "password": "scrypt$1$1$1$12345678$12345678"}]),
        ("mailboxes", [{**MAILBOX, "logins": [{"login": "a", "password": ["12345678"]}]}]),
        ("client_certificate", {"private_key": "-----BEGIN KEY-----12345678", "thumbprint": "0" * 40}),
        ("client_certificate", "12345678"),
    ],
)
def test_complaints_never_quote_what_may_be_secret(load, key, value):
    said = problems(load, {**MINIMAL, key: value})
    assert said and all("12345678" not in problem for problem in said)


@pytest.mark.parametrize(
    "document, said",
    [
        ("[" * 100000, "is not valid JSON: brackets are nested too deeply."),
        ('{"user": -Infinity}', "is not valid JSON: -Infinity is not a number in JSON."),
        ("{" + " " * config._LONGEST_FILE + "}", "it is no configuration of m365proxy."),
    ],
)
def test_files_that_would_overwhelm_the_parser(load, document, said):
    (problem,) = problems(load, document)
    assert problem.endswith(said)


def test_numbers_of_thousands_of_digits(load):
    (problem,) = problems(load, json.dumps({**MINIMAL, "smtp_port": 1}).replace(": 1}", ": " + "9" * 5000 + "}"))
    assert problem == "smtp_port must be a port number from 1 to 65535 (or 0 for any free port), not Infinity."


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    missing = tmp_path / "none.json"
    with pytest.raises(ConfigError, match="cannot be read: No such file .* A sample is /usr/share/doc/m365proxy"):
        config.load(str(missing), {})
    with pytest.raises(ConfigError, match="cannot be read: .* (Name a file with --config.|Run as root)"):
        config.load(str(tmp_path), {})

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ConfigError, match="Permission denied. Run as root or as the user the service runs as"):
        config.load(str(missing), {})


def test_the_small_form(load, tmp_path):
    loaded = load(
        {
            "user": "relay@contoso.com",
            "client_id": "11111111-2222-3333-4444-555555555555",
            "tenant_id": "AAAAAAAA-2222-3333-4444-555555555555",
            "mailboxes": [{"username": "Scanner@contoso.com", "password": "s3cret"}],
            "bind": "0.0.0.0",
            "smtp_port": 2525,
            "pop3_port": 1110,
            "tls": {"tls_cert": "cert.pem", "tls_key": "/etc/ssl/key.pem"},
            "attachment_limit_mb": 25,
        }
    )
    assert loaded.tenant_id == "aaaaaaaa-2222-3333-4444-555555555555"
    assert loaded.mailboxes[0].username == "scanner@contoso.com"
    assert loaded.mailboxes[0].password == "s3cret"
    assert loaded.bind == ("0.0.0.0",)
    assert loaded.tls.tls_cert == str(tmp_path / "cert.pem")
    assert loaded.tls.tls_key == os.path.join(str(tmp_path), "/etc/ssl/key.pem")
    assert loaded.attachment_limit_mb == 25
    assert sockets(loaded) == [("smtp", "0.0.0.0", 2525, "starttls"), ("pop3", "0.0.0.0", 1110, "starttls")]
    assert loaded.path == str(tmp_path / "config.json")
    assert loaded.warnings == (
        "mailboxes[0].password is plain text; `m365proxy hash-password` prints what to put there instead.",
    )


def test_the_defaults(load):
    loaded = load(MINIMAL, {"STATE_DIRECTORY": "/var/lib/m365proxy"})
    network = ipaddress.ip_network
    everywhere = (network("0.0.0.0/0"), network("::/0"))
    expected = {
        "client_secret": None,
        "client_certificate": None,
        "client_secret_expires": None,
        "permissions": "full",
        "cloud": "global",
        "graph_url": None,
        "authority_url": None,
        "ca_file": None,
        "https_proxy": None,
        "bind": ("127.0.0.1",),
        "smtp_port": 2525,
        "smtps_port": None,
        "pop3_port": None,
        "pop3s_port": None,
        "tls_first": (),
        "plaintext_networks": (network("127.0.0.0/8"), network("::1")),
        "relay_networks": (),
        "allowed_networks": everywhere,
        "proxy_protocol_from": (),
        "allowed_domains": ("*",),
        "attachment_limit_mb": 80,
        "notify": None,
        "status_port": None,
        "status_password": None,
        "state_dir": "/var/lib/m365proxy" if sys.platform != "win32" else config.state_directory({}, ""),
    }
    assert {name: getattr(loaded, name) for name in expected} == expected
    sections = {
        "tls": {"tls_cert": None, "tls_key": None, "min_version": "TLSv1.2", "required": False},
        "queue": {
            "retry_interval": 300,
            "lifetime_hours": 120,
            "min_free_mb": 64,
            "keep_failed_days": 90,
            "pace_per_minute": 0,
            "on_ambiguous": "retry",
            "dedupe_minutes": 0,
            "max_waiting": 0,
        },
        "pop3": {"exact_sizes": False, "read_ahead_mb": 32, "max_messages": 0},
        "limits": {
            "nodes": 1,
            "connections": 500,
            "connections_per_client": 100,
            "errors": 10,
            "recipients": 500,
            "command_seconds": 300,
            "data_seconds": 600,
            "session_seconds": 3600,
            "auth_failures": 10,
            "auth_block_minutes": 10,
        },
        "logging": {"level": "INFO", "file": None, "syslog": False, "events_mb": 16},
    }
    for name, section in sections.items():
        assert vars(getattr(loaded, name)) == {"key": name, **section}
    assert vars(loaded.mailboxes[0]) == {
        "key": "mailboxes[0]",
        "username": "scanner@contoso.com",
        "password": "s3cret",
        "login": None,
        "logins": (),
        "send_as": (),
        "default_from": None,
        "rewrite_from": False,
        "services": ("smtp", "pop3"),
        "folder": "inbox",
        "pop3_delete": DeleteRule(DeletePolicy.TRASH),
        "pop3_mark_read": False,
        "pop3_fold_lines": False,
        "sent_items": None,
    }


def test_everything_set(load, tmp_path):
    loaded = load(
        {
            **MINIMAL,
            "client_certificate": {"private_key": "keys/app.pem", "thumbprint": "a" * 40},
            "client_secret_expires": "2027-03-31",
            "graph_url": "https://127.0.0.1:8443/",
            "mailboxes": [
                {
                    **MAILBOX,
                    "login": "ups",
                    "logins": [{"login": "printer", "password": "x", "networks": "10.0.0.7", "services": "SMTP"}],
                    "send_as": ["office@contoso.com", "*@sales.contoso.com"],
                    "default_from": "Reports@Sales.Contoso.com",
                    "sent_items": "delete_after_days:30",
                    "pop3_delete": "move:Done/Scans",
                }
            ],
            "allowed_networks": ["::ffff:10.0.0.0/104", "10.0.0.0/255.0.0.0"],
            "logging": {"level": "debug", "file": "log/m365proxy.system.log"},
            "state_dir": "state",
        },
        {"STATE_DIRECTORY": "/var/lib/m365proxy"},
    )
    assert pathlib.Path(loaded.client_certificate.private_key) == tmp_path / "keys" / "app.pem"
    assert loaded.client_secret_expires == datetime.date(2027, 3, 31)
    assert loaded.graph_url == "https://127.0.0.1:8443"
    mailbox = loaded.mailboxes[0]
    assert (mailbox.sent_items, mailbox.pop3_delete) == (30, DeleteRule(DeletePolicy.MOVE, "Done/Scans"))
    assert mailbox.default_from == "reports@sales.contoso.com"
    assert mailbox.logins[0].networks == (ipaddress.ip_network("10.0.0.7/32"),)
    assert mailbox.logins[0].services == ("smtp",)
    assert loaded.allowed_networks == (ipaddress.ip_network("10.0.0.0/8"),) * 2
    assert loaded.logging.level == "DEBUG"
    assert pathlib.Path(loaded.logging.file) == tmp_path / "log" / "m365proxy.system.log"
    assert loaded.state_dir == str(tmp_path / "state")


def test_no_user_is_needed_with_a_client_secret(load):
    document = {**MINIMAL, "client_secret": "s3cret"}
    del document["user"]
    assert load(document).user is None


def test_relaying_needs_no_password(load):
    loaded = load(
        {
            **MINIMAL,
            "mailboxes": [{"username": "scanner@contoso.com"}],
            "relay_networks": {"10.0.0.0/16": "Scanner@contoso.com"},
        }
    )
    assert loaded.relay_networks == ((ipaddress.ip_network("10.0.0.0/16"), "scanner@contoso.com"),)


def test_relay_networks_come_smallest_first(load):
    loaded = load(
        {
            **MINIMAL,
            "relay_networks": {
                "10.0.0.0/16": "scanner@contoso.com",
                "#": "a comment",
                "10.0.0.7": "scanner@contoso.com",
                "10.0.0.0/24": "scanner@contoso.com",
            },
        }
    )
    assert [str(network) for network, _ in loaded.relay_networks] == ["10.0.0.7/32", "10.0.0.0/24", "10.0.0.0/16"]


def test_comments_stand_anywhere(load):
    loaded = load(
        {
            "#": {"anything": [1]},
            **MINIMAL,
            "#smtp_port": "text",
            "mailboxes": [{"#x": 1, **MAILBOX, "logins": [{"#": 2, "login": "a", "password": "b"}]}],
            "queue": {"#retry_interval": "five minutes"},
        }
    )
    assert loaded.smtp_port == 2525
    assert loaded.queue.retry_interval == 300


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_windows_editors_write(load, encoding):
    text = json.dumps({**MINIMAL, "#": "größer"}, ensure_ascii=False).replace(", ", ",\r\n")
    assert load(text.encode(encoding)).user == "relay@contoso.com"


def test_null_is_not_set(load):
    none = {option.name: None for option in keys_of("") if option.default is None and option.name not in MINIMAL}
    none.pop("mailboxes", None)
    assert len(none) > 10
    with_null, without = load({**MINIMAL, **none}), load(MINIMAL)
    assert with_null == without


@each(
    "proxy, url",
    [
        ("http://proxy.contoso.com:3128/", "http://proxy.contoso.com:3128"),
        ("http://u:p%40@proxy:3128", "http://u:p%40@proxy:3128"),
        ({"url": "http://proxy:3128"}, "http://proxy:3128"),
        (
            {"url": "http://proxy:3128", "user": "CORP\\relay", "password": "p@:/ ß"},
            "http://CORP%5Crelay:p%40%3A%2F%20%C3%9F@proxy:3128",
        ),
        ({"url": "https://[::1]:3128", "user": "relay"}, "https://relay:@[::1]:3128"),
    ],
)
def test_the_proxy_becomes_one_url(load, proxy, url):
    loaded = load({**MINIMAL, "https_proxy": proxy})
    assert loaded.https_proxy == url
    assert "proxy:3128" not in repr(loaded)


def test_secrets_do_not_show_in_a_repr(load):
    loaded = load(
        {
            **MINIMAL,
            **CERT,
            "client_secret": "s3cret",
            "status_port": 8080,
            "status_password": "s3cret s3cret",
            "https_proxy": {"url": "http://proxy", "user": "u", "password": "s3cret"},
        }
    )
    assert "s3cret" not in repr(loaded)
    assert loaded.client_secret == "s3cret"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such file modes")
@pytest.mark.parametrize(
    "document, mode, warned",
    [
        (MINIMAL, 0o644, True),
        (MINIMAL, 0o640, False),
        (QUIET, 0o644, False),
        ({**QUIET, "client_secret": "s3cret"}, 0o644, True),
        ({**QUIET, **CERT, "status_port": 1, "status_password": "s3cret s3cret"}, 0o644, True),
        ({**QUIET, "https_proxy": "http://u:p@proxy"}, 0o644, True),
        ({**QUIET, "https_proxy": "http://proxy"}, 0o644, False),
        ({**QUIET, "notify_url": "https://ntfy.contoso.com/topic"}, 0o644, True),
    ],
)
def test_secrets_others_can_read(tmp_path, document, mode, warned):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))
    path.chmod(mode)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    loaded = config.load(str(path), {})
    assert any(f"run `chmod o-rwx {path}`" in warning for warning in loaded.warnings) == warned


@pytest.mark.parametrize(
    "network, warned",
    [
        ("192.168.10.1", True),
        ("192.168.10.0/24", False),
        ("192.168.10.2", False),
        ("fd00::1", False),
    ],
)
def test_a_gateway_that_may_send_without_sign_in_is_warned_about(load, monkeypatch, network, warned):
    monkeypatch.setattr(config, "default_gateways", lambda: ["192.168.10.1"])
    loaded = load({**MINIMAL, "relay_networks": {network: MAILBOX["username"]}})
    said = [warning for warning in loaded.warnings if "gateway" in warning]
    assert len(said) == warned
    assert all(warning.startswith(f'relay_networks["{network}/32"] is this machine\'s gateway: ') for warning in said)


def test_find_takes_the_first_place(tmp_path, monkeypatch):
    home, etc = tmp_path / "home.json", tmp_path / "etc.json"
    monkeypatch.setattr(config, "_PLACES", (str(home), str(etc)))
    with pytest.raises(ConfigError) as caught:
        config.find(None, {})
    for place in ("--config", "M365PROXY_CONFIG", str(home), str(etc), "etc/m365proxy.json in the source"):
        assert place in str(caught.value)
    etc.write_text("")
    assert config.find(None, {}) == str(etc)
    home.write_text("")
    assert config.find(None, {}) == str(home)
    assert config.find(None, {"M365PROXY_CONFIG": "there.json"}) == "there.json"
    assert config.find("here.json", {"M365PROXY_CONFIG": "there.json"}) == "here.json"


def test_the_usual_places():
    own, of_machine = config._PLACES
    assert own.replace(os.sep, "/") == "~/.m365proxy/config.json"
    assert of_machine == config._of_machine(sys.platform, os.environ)
    assert config._of_machine("linux", {}) == "/etc/m365proxy.json"
    there = {"ProgramData": "D:\\Data"}
    assert config._of_machine("win32", there) == "D:\\Data\\m365proxy\\config.json"
    assert config._of_machine("win32", {}) == "C:\\ProgramData\\m365proxy\\config.json"


@pytest.mark.skipif(sys.platform == "win32", reason="systemd's variable")
@pytest.mark.parametrize(
    "environ, expected",
    [
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"),
        ({"STATE_DIRECTORY": ""}, os.path.expanduser("~/.m365proxy")),
        ({}, os.path.expanduser("~/.m365proxy")),
    ],
)
def test_state_directory(load, environ, expected):
    assert load(MINIMAL, environ).state_dir == expected


def test_on_windows_the_state_of_a_service_is_beside_its_config(tmp_path, monkeypatch):
    of_machine = tmp_path / "config.json"
    monkeypatch.setattr(config.sys, "platform", "win32")
    monkeypatch.setattr(config, "_PLACES", ("~/config.json", str(of_machine)))
    assert config.state_directory({}, str(of_machine)) == str(tmp_path / "state")
    assert config.state_directory({}, str(tmp_path / "other.json")).endswith(".m365proxy")


@each("megabytes, octets", [(0.5, 1766022), (1, 2483469), (80, 115840053), (150, 216282597)])
def test_size_limit(megabytes, octets):
    """limit x 4/3 x 78/76 + 1 MiB"""
    assert config.size_limit(megabytes) == octets
    assert isinstance(config.size_limit(megabytes), int)


def test_an_attachment_of_the_limit_fits():
    attached = base64.encodebytes(bytes(3 * 2**20)).replace(b"\n", b"\r\n")
    assert abs(config.size_limit(3) - 2**20 - len(attached)) < 78  # the text's MiB is still free


def test_a_new_config_belongs_where_it_will_be_found(monkeypatch):
    own, of_machine = map(os.path.expanduser, config._PLACES)
    monkeypatch.setattr(config.os.path, "exists", lambda path: False)
    for is_administrator, where in ((True, of_machine), (False, own)):
        monkeypatch.setattr(config.machine, "is_administrator", lambda answer=is_administrator: answer)
        assert config.place(None, {}) == where
        assert config.place(None, {"M365PROXY_CONFIG": "/x"}) == "/x"
    monkeypatch.setattr(config.os.path, "exists", lambda path: path == of_machine)
    assert config.place(None, {}) == of_machine
