"""Loading: good configurations, the folders of bad ones, the sample, and anything at all."""

import base64
import datetime
import ipaddress
import json
import os
import pathlib
import stat
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m365proxy.config import load as config
from m365proxy.config import types
from m365proxy.config.options import OPTIONS, keys_of, sample
from m365proxy.errors import ConfigError
from m365proxy.mime import addresses
from m365proxy.system import log

ROOT = pathlib.Path(__file__).resolve().parents[3]
BAD = sorted(path for path in (ROOT / "tests" / "bad_configs").iterdir() if path.is_dir())

MAILBOX = {"username": "scanner@contoso.com", "password": "s3cret"}
MINIMAL = {
    "user": "relay@contoso.com",
    "tenant_id": "contoso.com",
    "client_id": "11111111-2222-3333-4444-555555555555",
    "mailboxes": [MAILBOX],
}


@pytest.fixture
def load(tmp_path):
    """Loads a document, or a text, or octets."""

    def load(document, environ=None):
        path = tmp_path / "config.json"
        if not isinstance(document, (str, bytes)):
            document = json.dumps(document)
        path.write_bytes(document if isinstance(document, bytes) else document.encode())
        path.chmod(0o600)
        return config.load(str(path), environ or {})

    return load


def problems(load, document):
    with pytest.raises(ConfigError) as caught:
        load(document)
    return list(caught.value.problems)


# Bad ones.


@pytest.mark.parametrize("folder", BAD, ids=lambda folder: folder.name)
def test_bad_config_is_told_exactly(folder):
    path = folder / "config.json"
    with pytest.raises(ConfigError) as caught:
        config.load(str(path), {})
    said = [problem.replace(str(path), "config.json") for problem in caught.value.problems]
    assert [*said, *caught.value.shown] == (folder / "expected.txt").read_text("utf-8").splitlines()
    assert caught.value.exit_status == 78


@pytest.mark.parametrize(
    "line",
    [
        '"password": "hunter2" "x"',
        '"client_secret": hunter2',
        "hunter2",
        "// hunter2: old",
        '"name": "hunter2", x',
        '"bob@contoso.com": hunter2',
        '"user": "x", "pass" "hunter2"',
        '"hunter2"',
        "'password': 'hunter2'",
        '"https_proxy": "http://u:hunter2@proxy',
        "secret hunter2",
        '{"user": 1, "Passwort": "hunter2"',
    ],
)
def test_a_line_is_shown_without_what_may_be_a_secret(load, line):
    with pytest.raises(ConfigError) as caught:
        load('{\n  "smtp_port": 25,\n  ' + line + "\n}")
    assert "not valid JSON" in str(caught.value)
    assert "hunter2" not in "".join([*caught.value.problems, *caught.value.shown])


def test_there_are_enough_bad_configs():
    assert len(BAD) >= 25


@pytest.mark.parametrize("folder", BAD, ids=lambda folder: folder.name)
def test_no_complaint_tells_a_secret(folder):
    said = (folder / "expected.txt").read_text("utf-8")
    content = (folder / "config.json").read_bytes()
    for secret in ("s3cret", "a plain password", "x y z", "BEGIN PRIVATE KEY", "$2b$", "AAECAwQF"):
        assert secret not in said
    assert content == b"" or said


@pytest.mark.parametrize(
    "key, value",
    [
        ("client_secret", 12345678),
        ("client_secret", "12345678\u0000"),
        ("status_password", ["12345678"]),
        ("https_proxy", "ftp://user:12345678@proxy"),
        ("https_proxy", "http://user:12345678@proxy:port"),
        ("https_proxy", {"url": "socks://12345678@proxy"}),
        ("https_proxy", {"url": "http://proxy", "user": "u", "password": "12345678\n"}),
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
        ("[" * 100000, "is not valid JSON: brackets are nested too deep."),
        ('{"user": -Infinity}', "is not valid JSON: -Infinity is not a number there."),
        ("{" + " " * config._LONGEST_FILE + "}", "that is no configuration of m365proxy."),
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


# Good ones.


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
    assert loaded.warnings == [
        "mailboxes[0].password is plain text; `m365proxy hash-password` prints what to put there instead."
    ]


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
        "state_dir": "/var/lib/m365proxy",
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
        "logging": {"level": "INFO", "file": None, "syslog": False, "events": None},
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
        "pop3_delete": "trash",
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
    assert loaded.client_certificate.private_key == str(tmp_path / "keys" / "app.pem")
    assert loaded.client_secret_expires == datetime.date(2027, 3, 31)
    assert loaded.graph_url == "https://127.0.0.1:8443"
    mailbox = loaded.mailboxes[0]
    assert (mailbox.sent_items, mailbox.pop3_delete) == (30, "move:Done/Scans")
    assert mailbox.default_from == "reports@sales.contoso.com"
    assert mailbox.logins[0].networks == (ipaddress.ip_network("10.0.0.7/32"),)
    assert mailbox.logins[0].services == ("smtp",)
    assert loaded.allowed_networks == (ipaddress.ip_network("10.0.0.0/8"),) * 2
    assert loaded.logging.level == "DEBUG"
    assert loaded.logging.file == str(tmp_path / "log" / "m365proxy.system.log")
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


@pytest.mark.parametrize(
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
            "client_secret": "s3cret",
            "status_port": 8080,
            "status_password": "s3cret",
            "https_proxy": {"url": "http://proxy", "user": "u", "password": "s3cret"},
        }
    )
    assert "s3cret" not in repr(loaded)
    assert loaded.client_secret == "s3cret"


# Listeners.


def sockets(loaded):
    return [(listener.protocol, listener.address, listener.port, listener.tls) for listener in loaded.listeners]


CERT = {"tls": {"tls_cert": "auto"}}


@pytest.mark.parametrize(
    "settings_, expected",
    [
        ({}, [("smtp", "127.0.0.1", 2525, "none")]),
        ({"pop3_port": 1110}, [("smtp", "127.0.0.1", 2525, "none"), ("pop3", "127.0.0.1", 1110, "none")]),
        (
            {**CERT, "bind": ["127.0.0.1", "::1"]},
            [("smtp", "127.0.0.1", 2525, "starttls"), ("smtp", "::1", 2525, "starttls")],
        ),
        (
            {**CERT, "smtp_port": 25, "smtps_port": 465, "pop3_port": 110, "pop3s_port": 995},
            [
                ("smtp", "127.0.0.1", 25, "starttls"),
                ("smtp", "127.0.0.1", 465, "implicit"),
                ("pop3", "127.0.0.1", 110, "starttls"),
                ("pop3", "127.0.0.1", 995, "implicit"),
            ],
        ),
        ({"listeners": [{"protocol": "pop3", "port": 0}]}, [("pop3", "127.0.0.1", 0, "none")]),
        (
            {"smtp_port": 25, "listeners": [{"protocol": "pop3", "port": 110}]},
            [("smtp", "127.0.0.1", 25, "none"), ("pop3", "127.0.0.1", 110, "none")],
        ),
        (
            {**CERT, "listeners": [{"protocol": "smtp", "bind": ["::1", "127.0.0.1"], "port": 25, "tls": "none"}]},
            [("smtp", "::1", 25, "none"), ("smtp", "127.0.0.1", 25, "none")],
        ),
        # the same port for two addresses, and any free port twice, are no conflict
        (
            {"smtp_port": 0, "pop3_port": 0, "bind": "0.0.0.0"},
            [("smtp", "0.0.0.0", 0, "none"), ("pop3", "0.0.0.0", 0, "none")],
        ),
        (
            {"smtp_port": 25, "bind": "0.0.0.0", "listeners": [{"protocol": "pop3", "port": 25, "bind": "::"}]},
            [("smtp", "0.0.0.0", 25, "none"), ("pop3", "::", 25, "none")],
        ),
    ],
)
def test_listeners(load, settings_, expected):
    assert sockets(load({**MINIMAL, **settings_})) == expected


def test_listeners_take_over_the_tls_section(load):
    loaded = load(
        {
            **MINIMAL,
            "tls": {"tls_cert": "auto", "min_version": "TLSv1.3", "required": True},
            "smtp_port": 1,
            "listeners": [
                {"protocol": "smtp", "port": 2},
                {"protocol": "smtp", "port": 3, "min_version": "TLSv1", "required": False, "lf_only_clients": True},
                {"protocol": "smtp", "port": 4, "tls": "none"},
            ],
        }
    )
    assert [(item.key, item.min_version, item.required, item.lf_only_clients) for item in loaded.listeners] == [
        ("smtp_port", "TLSv1.3", True, False),
        ("listeners[0]", "TLSv1.3", True, False),
        ("listeners[1]", "TLSv1", False, True),
        ("listeners[2]", "TLSv1.3", False, False),
    ]


# Warnings.

HASHED = {**MAILBOX, "password": "scrypt$16384$8$1$AAECAwQFBgcICQoLDA0ODw==$" + "A" * 43 + "="}
QUIET = {**MINIMAL, "mailboxes": [HASHED]}


@pytest.mark.parametrize(
    "document, starts",
    [
        (QUIET, []),
        (MINIMAL, ["mailboxes[0].password is plain text; `m365proxy hash-password` prints"]),
        (
            {**QUIET, "mailboxes": [{**HASHED, "logins": [{"login": n, "password": "x"} for n in "abc"]}]},
            ["mailboxes[0].logins[0].password (and 2 more) is plain text"],
        ),
        ({**QUIET, "tls": {"min_version": "TLSv1.1"}}, ["tls.min_version is below TLSv1.2"]),
        (
            {**QUIET, "listeners": [{"protocol": "smtp", "port": 1, "min_version": "TLSv1"}]},
            ["listeners[0].min_version is below TLSv1.2"],
        ),
        (
            {**QUIET, "bind": ["192.168.1.1", "10.0.0.1"], "pop3_port": 110},
            [
                "smtp_port has no TLS, and plaintext_networks has only this machine",
                "pop3_port has no TLS, and plaintext_networks has only this machine",
            ],
        ),
        (
            {**QUIET, "bind": "0.0.0.0", "plaintext_networks": ["127.0.0.1", "192.168.1.0/24"]},
            ["smtp_port has no TLS, so passwords from 192.168.1.0/24 can be read"],
        ),
        ({**QUIET, "bind": "0.0.0.0", "relay_networks": {"10.0.0.0/8": "scanner@contoso.com"}}, []),
        ({**QUIET, **CERT, "bind": "0.0.0.0", "plaintext_networks": ["192.168.1.0/24"]}, []),
        (
            {**QUIET, "relay_networks": {"0.0.0.0/7": "scanner@contoso.com", "2001::/31": "scanner@contoso.com"}},
            ['relay_networks["2001::/31"] is very wide', 'relay_networks["0.0.0.0/7"] is very wide'],
        ),
        ({**QUIET, "relay_networks": {"2001:db8::/32": "scanner@contoso.com"}}, []),
        ({**QUIET, "mailboxes": [{**HASHED, "pop3_delete": "permanent"}]}, []),
        (
            {**QUIET, "cloud": "china", "mailboxes": [{**HASHED, "pop3_delete": "permanent"}]},
            ['mailboxes[0].pop3_delete is "permanent", which this cloud does not offer'],
        ),
    ],
)
def test_warnings(load, document, starts):
    said = load(document).warnings
    assert [warning[: len(start)] for warning, start in zip(said, starts)] == starts
    assert len(said) == len(starts)
    assert all(warning.endswith(".") and "\n" not in warning and "s3cret" not in warning for warning in said)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such file modes")
@pytest.mark.parametrize(
    "document, mode, warned",
    [
        (MINIMAL, 0o644, True),
        (MINIMAL, 0o640, False),
        (QUIET, 0o644, False),
        ({**QUIET, "client_secret": "s3cret"}, 0o644, True),
        ({**QUIET, "status_port": 1, "status_password": "s3cret"}, 0o644, True),
        ({**QUIET, "https_proxy": "http://u:p@proxy"}, 0o644, True),
        ({**QUIET, "https_proxy": "http://proxy"}, 0o644, False),
    ],
)
def test_secrets_others_can_read(tmp_path, document, mode, warned):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))
    path.chmod(mode)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    loaded = config.load(str(path), {})
    assert any(f"run `chmod o-rwx {path}`" in warning for warning in loaded.warnings) == warned


# Where it is.


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
    assert [path.replace(os.sep, "/") for path in config._PLACES] == ["~/.m365proxy/config.json", "/etc/m365proxy.json"]


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


@pytest.mark.parametrize("megabytes, octets", [(0.5, 1766022), (1, 2483469), (80, 115840053), (150, 216282597)])
def test_size_limit(megabytes, octets):
    """limit x 4/3 x 78/76 + 1 MiB"""
    assert config.size_limit(megabytes) == octets
    assert isinstance(config.size_limit(megabytes), int)


def test_an_attachment_of_the_limit_fits():
    attached = base64.encodebytes(bytes(3 * 2**20)).replace(b"\n", b"\r\n")
    assert abs(config.size_limit(3) - 2**20 - len(attached)) < 78  # the text's MiB is still free


# The table and the sample.


def test_the_table_is_whole():
    paths = [option.path for option in OPTIONS]
    assert len(paths) == len(set(paths))
    for option in OPTIONS:
        assert option.help.endswith(".") and option.help.isprintable(), option.path
        assert option.type.words, option.path
        section = option.section
        assert not section or section.removesuffix("[]") in paths, option.path
        if option.default is not None:
            option.type(option.default)
        assert not (option.required and option.default is not None), option.path


def test_log_levels_are_those_of_the_log():
    (level,) = [option for option in OPTIONS if option.path == "logging.level"]
    assert level.type.names == log.LEVELS


def test_the_sample_file_is_the_tables():
    assert (ROOT / "etc" / "m365proxy.json").read_bytes().decode() == sample()


def test_the_sample_has_every_key_with_its_help():
    seen = {}

    def walk(document, section):
        for name, value in document.items():
            if name == "#":
                continue
            path = f"{section}.{name.lstrip('#')}" if section else name.lstrip("#")
            if name.startswith("#") and not name.startswith("##"):
                seen[path] = value
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                walk(value[0], path + "[]")
            elif isinstance(value, dict):
                walk(value, path)
            if not name.startswith("#") or name.startswith("##"):
                assert path in seen, f"{path} stands without a comment before it"

    walk(json.loads(sample()), "")
    assert seen == {option.path: option.help for option in OPTIONS}


def filled_in(text):
    document = json.loads(text)
    for key in ("tenant_id", "client_id"):
        document[key] = MINIMAL["client_id"]
    document["mailboxes"][0]["password"] = "s3cret"
    return document


def test_the_sample_asks_to_be_filled_in_and_nothing_else(load):
    assert [problem.split(" ")[0] for problem in problems(load, sample())] == ["tenant_id", "client_id", "mailboxes[0]"]
    plain = {**MINIMAL, "tenant_id": MINIMAL["client_id"], "state_dir": "/var/lib/m365proxy"}
    assert load(filled_in(sample())) == load(plain)


def test_the_samples_examples_are_right(load):
    """With the ## taken away they load too."""
    document = json.loads(json.dumps(filled_in(sample())).replace('"##', '"'))
    document["mailboxes"][0]["logins"][0]["password"] = HASHED["password"]
    document["tls"]["tls_cert"] = "auto"
    loaded = load(document)
    assert loaded.listeners[-1].address == "192.168.10.1"
    assert loaded.mailboxes[0].logins[0].login == "printer-2"
    assert loaded.client_certificate.thumbprint
    assert loaded.https_proxy


# Types, where the bad folders do not reach.


@pytest.mark.parametrize(
    "type_, value, expected",
    [
        (types.ADDRESS, "O'Brien+x@Contoso.com", "o'brien+x@contoso.com"),
        (types.ADDRESS_PATTERN, "*@Contoso.com", "*@contoso.com"),
        (types.DOMAIN, "*", "*"),
        (types.NETWORK, "10.0.0.1", ipaddress.ip_network("10.0.0.1/32")),
        (types.NETWORK, "2001:DB8::/32", ipaddress.ip_network("2001:db8::/32")),
        (types.NETWORK, "::/0", ipaddress.ip_network("::/0")),
        (types.BindAddress(), "::0001", "::1"),
        (types.Number(1, 5), 2.5, 2.5),
        (types.Integer(1, 5), 5, 5),
        (types.Path("auto"), "auto", "auto"),
        (types.Choice("TLSv1", "TLSv1.2"), "tlsv1.2", "TLSv1.2"),
        (types.SentItems(), "delete_after_days:3650", 3650),
        (types.SentItems(), "keep", None),
        (types.ListOf(types.Integer(1, 5)), [], ()),
        (types.ListOf(types.Integer(1, 5)), 3, (3,)),
        (types.SecretText(), " a b ", " a b "),
        (types.Url("https"), "https://graph.microsoft.com/", "https://graph.microsoft.com"),
    ],
)
def test_types_accept(type_, value, expected):
    assert type_(value) == expected


@pytest.mark.parametrize(
    "type_, value",
    [
        (types.ADDRESS, "a@b@contoso.com"),
        (types.ADDRESS, "a@contoso.com\n"),
        (types.ADDRESS, "ä@contoso.com"),
        (types.ADDRESS, "a@contoso..com"),
        (types.ADDRESS, "a" * 65 + "@contoso.com"),
        (types.ADDRESS, ""),
        (types.Text(), " ups"),
        (types.Text(), "a\u202eb"),
        (types.Text(), "\ud800"),
        (types.Text(), "a" * 1001),
        (types.SecretText(), "\ud800"),
        (types.Integer(0, 5), True),
        (types.Integer(0, 5), 1.0),
        (types.Number(0, 5), float("nan")),
        (types.Number(0, 5), float("inf")),
        (types.Number(0, 5), 10**400),
        (types.Number(0, 5), False),
        (types.Port(), -1),
        (types.Password(), "scrypt$16384$8$1$AAECAwQFBg==$" + "A" * 43 + "="),
        (types.Password(), "scrypt$16384$8$1$AAECAwQFBgc=$" + "A" * 42 + "=="),
        (types.Password(), "scrypt$16384$8$1$AAECAwQFBgc=$" + "*" * 44),
        (types.NETWORK, "10.0.0.0/8 "),
        (types.NETWORK, 10),
        (types.NETWORK, ""),
        (types.BindAddress(), None),
        (types.Date(), "2027-02-30"),
        (types.Date(), "2027-W13-1"),
        (types.SentItems(), "delete_after_days:"),
        (types.SentItems(), "delete_after_days:3651"),
        (types.DELETE_POLICY, "move: "),
        (types.Url("https"), "https://"),
        (types.Url("https"), "https://host:99999"),
        (types.Url("https"), "https://[::1"),
        (types.Url("https"), "https://host/?q"),
        (types.Url("https"), "https://ho st"),
        (types.ListOf(types.ADDRESS), {"a": 1}),
        (types.THUMBPRINT, "g" * 40),
        (types.Path(), ""),
        (types.Path(), "a\nb"),
    ],
)
def test_types_refuse(type_, value):
    with pytest.raises(types.Refused) as caught:
        type_(value)
    for _, predicate in caught.value.mistakes:
        assert predicate.isprintable()


@pytest.mark.parametrize(
    "address, patterns, expected",
    [
        ("A@Contoso.com", ["a@contoso.com"], True),
        ("b@contoso.com", ["a@contoso.com"], False),
        ("b@contoso.com", ["*@Contoso.com"], True),
        ("b@sub.contoso.com", ["*@contoso.com"], False),
        ("b@evilcontoso.com", ["*@contoso.com"], False),
        ("b@contoso.com.evil.com", ["*@contoso.com"], False),
        ("@contoso.com", ["*@contoso.com"], False),
        ("contoso.com", ["*@contoso.com"], False),
        ("*@contoso.com", ["a@contoso.com"], False),
        ("", ["*@contoso.com"], False),
    ],
)
def test_address_matches(address, patterns, expected):
    assert addresses.address_matches(address, patterns) is expected


# Anything at all.

NAMES = sorted({option.name for option in OPTIONS})
TEXTS = st.sampled_from(
    [
        "",
        "a@contoso.com",
        "10.0.0.0/8",
        "::1",
        "0.0.0.0",
        "auto",
        "full",
        "smtp",
        "scrypt$",
        "https://x",
        "\ud800",
        "10.0.0.1/8",
        "common",
        "contoso.com",
        "2027-01-01",
        "http://[",
        "move:",
        "*",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.text(max_size=8)


def objects(children):
    names = st.sampled_from(NAMES) | st.text(max_size=6) | TEXTS
    return st.dictionaries(names, children, max_size=8)


ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | objects(inner), max_leaves=30)


@st.composite
def nearly_right(draw):
    """A document along the table in which any value may be anything."""

    def section(path):
        document = {}
        for option in keys_of(path):
            choice = draw(st.integers(0, 9))
            if choice == 0:
                document[option.name] = draw(ANYTHING)
            elif keys_of(option.path + "[]") and choice < 6:
                document[option.name] = [section(option.path + "[]") for _ in range(draw(st.integers(0, 2)))]
            elif keys_of(option.path) and choice < 6:
                document[option.name] = section(option.path)
            elif option.required or choice == 1:
                document[option.name] = MINIMAL.get(option.name, option.example or option.default)
        return document

    return section("")


SETTINGS = settings(
    max_examples=200,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def loads_or_complains(load, document):
    try:
        loaded = load(document)
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem and "\n" not in problem
            problem.encode("utf-8")
    else:
        assert loaded.mailboxes and loaded.listeners
        repr(loaded)


@SETTINGS
@given(document=nearly_right() | ANYTHING)
def test_any_json_loads_or_is_complained_about(load, document):
    loads_or_complains(load, document)


@SETTINGS
@given(content=st.binary(max_size=60) | st.text(alphabet='{}[]",:#\\u0123456789eE+-. truefalsn\n', max_size=60))
def test_any_octets_load_or_are_complained_about(load, content):
    loads_or_complains(load, content)


@pytest.mark.parametrize(
    "change,hint",
    [
        ({"status_port": 8080}, "status_port is set, but has no effect"),
        ({"logging": {"events": "events.log"}}, "logging.events is set, but has no effect"),
        ({"queue": {"dedupe_minutes": 5}}, "queue.dedupe_minutes is set, but has no effect"),
        ({"user": None, "client_secret": "s", "client_secret_expires": "2020-01-01"}, "ends on 2020-01-01"),
    ],
)
def test_what_is_not_done_or_ends_soon_is_said(tmp_path, change, hint):
    settings = {
        "user": "relay@contoso.com",
        "client_id": "00000000-0000-0000-0000-000000000001",
        "tenant_id": "00000000-0000-0000-0000-000000000002",
        "smtp_port": 2525,
        "mailboxes": [{"username": "alerts@contoso.com", "password": "x"}],
        **change,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))
    assert any(hint in warning for warning in config.load(str(path), {}).warnings)


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
