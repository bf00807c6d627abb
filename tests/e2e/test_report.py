"""`report`: what may be posted in public.  Every secret and every name is planted, and looked for."""

import base64
import json
import os
import pty
import re
import select
import stat
import subprocess
import urllib.parse

import pytest
from program import ALERTS, COMMAND

from m365proxy.account import Account
from m365proxy.config import load as configuration
from m365proxy.config.options import OPTIONS
from m365proxy.config.types import (
    BindAddress,
    Delete,
    Guid,
    ListOf,
    NetworkRange,
    Object,
    Path,
    RelayNetworks,
    SecretText,
    Tenant,
    Text,
    Url,
)
from m365proxy.system.events import EventLog
from m365proxy.system.outbound import Outbound

TENANT, APP = "5d0c3b51-9a40-4b7e-8c9d-0123456789ab", "7e1f9a22-1111-4222-8333-abcdefabcdef"
REQUEST = "0eca3216-3251-493e-84b7-aa98d1a9f87d"
ID = "20261129T094207-94bb5edb358a-fad91c20"
HASH = "scrypt$16384$8$1$c2FsdHNhbHRzYWx0c2E=$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g="

# A value for each option that may name somebody or hold a secret.
PLANTED = {
    "user": "relay.chief@kunde-nord.example",
    "tenant_id": TENANT,
    "client_id": APP,
    "client_secret": "Cl1ent~Secret.Value",
    "client_certificate.private_key": "/srv/kunde-nord/app-schluessel.pem",
    "client_certificate.thumbprint": "A1B2C3D4E5F60718293A4B5C6D7E8F9001122334",
    "graph_url": "https://graph.kunde-nord.example",
    "authority_url": "https://anmeldung.kunde-nord.example",
    "ca_file": "/srv/kunde-nord/ca-datei.pem",
    "https_proxy.url": "http://proxyhost.kunde-nord.example:3128",
    "https_proxy.user": "proxy-benutzer",
    "https_proxy.password": "proxy-Kennwort-9",
    "mailboxes[].username": "lager.tor@kunde-nord.example",
    "mailboxes[].password": "Lager!Kennwort 7",
    "mailboxes[].login": "lagerdrucker",
    "mailboxes[].logins[].login": "Frau Özdemir",
    "mailboxes[].logins[].password": HASH,
    "mailboxes[].logins[].networks": "10.77.88.0/24",
    "mailboxes[].send_as": ["direktor@zweitfirma.example", "*@drittfirma.example", "vorgabe@kunde-nord.example"],
    "mailboxes[].default_from": "vorgabe@kunde-nord.example",
    "mailboxes[].folder": "Kundenakten Nord",
    "mailboxes[].pop3_delete": "move:Ablage Nord",
    "bind": ["127.0.0.1", "10.77.99.5"],
    "listeners[].bind": "10.77.99.6",
    "tls.tls_cert": "/srv/kunde-nord/nord zertifikat.pem",
    "tls.tls_key": "/srv/kunde-nord/nord-schluessel.pem",
    "tls_first": ["10.77.66.0/24"],
    "plaintext_networks": ["10.77.55.0/24"],
    "relay_networks": {"10.77.44.4": "lager.tor@kunde-nord.example"},
    "allowed_networks": ["10.77.0.0/16"],
    "proxy_protocol_from": ["10.77.33.3"],
    "allowed_domains": ["empfaenger-firma.example"],
    "notify": "edv.leitung@kunde-nord.example",
    "notify_url": "https://glocke:Klingel-7-Wort@ruf.kunde-nord.example/nord-ablage?token=t0psecret8",
    "notify_command": ["/srv/kunde-nord/rufe-nord", "Pager-Kennwort-99"],
    "status_password": "Status=Kennwort",
    "logging.file": "/srv/kunde-nord/protokolle/nord.log",
    "state_dir": "/srv/kunde-nord/zustand",
}
# Words that are in the planted values, and say nothing.
HARMLESS = {
    *("https", "http", "move", "scrypt", "example", "pem", "log", "srv", "token"),
    *("127.0.0.1", "3128", "frau", "datei"),
}


def is_naming(option):
    kind = option.type.item if isinstance(option.type, ListOf) else option.type
    if isinstance(kind, Object):
        return False
    named = (Text, SecretText, Tenant, Guid, Path, NetworkRange, BindAddress, Url, RelayNetworks, Delete)
    return isinstance(kind, named)


def test_each_option_that_may_name_somebody_is_planted():
    assert {option.path for option in OPTIONS if is_naming(option)} <= set(PLANTED)


def planted(path):
    """The pieces of a planted value that must not be in the report."""
    value = PLANTED[path]
    texts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else [value]
    for text in texts:
        if "assword" in path or "secret" in path:
            yield text
            continue
        for piece in [text, *re.split(r"[\s/@:~$*?=]+|\.(?=example|pem|log)", text)]:
            if len(piece) > 3 and piece.lower() not in HARMLESS and not piece.isdigit():
                yield piece


def spellings(text):
    yield text.lower()
    yield urllib.parse.quote(text, safe="").lower()
    yield json.dumps(text)[1:-1].lower()


def settings(app=None, **others):
    """A config with all of it: `app` is how the application signs in, None for an account."""
    found = {}
    for path, value in PLANTED.items():
        if path.startswith(("client_secret", "client_certificate")) and path.partition(".")[0] != app:
            continue
        if path == "state_dir":  # the program's own is in the way of the tests
            continue
        *sections, name = path.split(".")
        place = found
        for section in sections:
            if section.endswith("[]"):
                place = place.setdefault(section[:-2], [{}])[0]
            else:
                place = place.setdefault(section, {})
        place[name] = value
    if app:
        found["user"] = None
    found["listeners"][0].update(protocol="smtp", port=0)
    found["status_port"] = 8099
    return {**found, **others}


def happened(program, words):
    """Events in which all of these are; the last 20 of each kind are in a report."""
    log = EventLog(str(program.directory / "state" / "events"), 1 << 20)
    some = [words[begin : begin + 7] for begin in range(0, len(words), 7)]
    assert len(some) < 20
    for number, words in enumerate(some):
        word, said = words[number % len(words)], ", ".join(words)
        encoded = "".join(f" https://{urllib.parse.quote(word, safe='')}@x.example/" for word in words)
        log.note("login failed", service="smtp", client="10.77.11.9", login=word, reason=f"refused {said}")
        log.note("refused", client="10.77.11.9", mailbox=ALERTS, command=f"RCPT TO:<{said}>", reply=f"550 no {said}")
        log.note(
            "failed", id=ID, reason=f"The folder '{word}' of {said} is not there", code="ErrorX", request_id=REQUEST
        )
        log.note("TLS failed", client="fe80::77:9", reason=encoded)
        log.note("deferred", id=word, code=word, request_id=word, reason=base64.b64encode(said.encode()).decode())
    log.close()


def report(program, *words, **more):
    done = program.command("report", *words, **more)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


@pytest.mark.parametrize("app", [None, "client_secret", "client_certificate"])
@pytest.mark.parametrize("broken", [{}, {"smtp_port": "Tippfehler-Kennwort"}, {"smpt_pasword": "Tippfehler-Kennwort"}])
def test_no_secret_and_no_name_is_in_it(make_program, app, broken):
    program = make_program().sign_in()
    config = configuration.load(str(program.config), {})
    tokens = Account(config, Outbound(None, config.ca_file, direct=True)).token_file.load().cache
    paths = [path for path in PLANTED if path != "state_dir"]
    secrets = [text for path in paths for text in planted(path)] + list(broken.values())
    program.settings = {**settings(app), "state_dir": "state"}
    program.configure(**broken)
    happened(program, secrets)
    text = report(program, PYTHONIOENCODING="utf-8").lower()
    found = [secret for secret in secrets for spelled in spellings(secret) if spelled in text]
    assert found == []
    key = (program.directory / "state" / "token.key").read_text().strip().lower()
    stored = [word.lower() for word in re.findall(r"[\w.~-]{20,}", tokens)]
    places = [part.lower() for part in program.directory.parts[-3:]]
    assert stored and [word for word in [key, *stored, *places] if word in text] == []
    assert ID.lower() in text and f"request_id={REQUEST}" in text  # what helps stays


def test_a_name_has_the_same_pseudonym_everywhere(make_program):
    program = make_program().sign_in()
    log = EventLog(str(program.directory / "state" / "events"), 1 << 20)
    log.note("refused", client="192.168.4.7", mailbox=ALERTS, command=f"MAIL FROM:<{ALERTS.upper()}>", reply="550 no")
    log.note("login failed", service="pop3", client="192.168.4.7", login="nobody's", reason="wrong password")
    log.close()
    text = report(program)
    assert '"username": "mailbox-2@domain-1"' in text  # user is the first
    assert "client=device-1 mailbox=mailbox-2@domain-1 command=MAIL:<mailbox-2@domain-1>" in text
    assert "service=pop3 client=device-1 login=login-1" in text
    assert text.endswith("device-1: private IPv4\n")


@pytest.mark.parametrize(
    "content", ["", "{", '{"user": "relay.chief@kunde-nord.example", "password": "Lager!Kennwort",}', "[]"]
)
def test_a_config_that_cannot_be_read_gives_a_report(make_program, content):
    program = make_program()
    program.config.write_text(content)
    text = report(program)
    assert "== Versions ==" in text and "== Last errors ==" in text
    assert "kunde-nord" not in text and "Lager" not in text


def test_without_a_config_there_is_a_report(make_program):
    done = make_program().command("report", config=False)
    assert done.returncode == 0 and "There is no configuration" in done.stdout


def test_output_is_a_new_private_file(make_program):
    program = make_program().sign_in()
    path = program.directory / "report.txt"
    done = program.command("report", "--output", str(path))
    assert done.returncode == 0 and done.stderr == f"Written to {path}.\n"
    assert path.read_text() == done.stdout
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = program.command("report", "--output", str(path))
    assert again.returncode == 73 and again.stdout == "" and "is there already" in again.stderr
    assert path.read_text() == done.stdout


@pytest.mark.skipif(COMMAND[0] == "chroot", reason="it writes into its working directory, which is another there")
@pytest.mark.parametrize("answer,is_written", [("y\n", True), ("\n", False), ("n\n", False)])
def test_at_a_terminal_it_is_shown_and_then_written_if_wanted(make_program, answer, is_written):
    program = make_program().sign_in()
    controller, terminal = pty.openpty()
    words = [*COMMAND, "--config", str(program.config), "report"]
    with subprocess.Popen(
        words, stdin=terminal, stdout=terminal, stderr=terminal, env=program.environ, cwd=program.directory
    ) as running:
        os.close(terminal)
        seen = read_until(controller, b"[y/N] ")
        assert b"== Versions ==" in seen and not list(program.directory.glob("m365proxy-report-*"))
        os.write(controller, answer.encode())
        assert running.wait(60) == 0
    os.close(controller)
    written = list(program.directory.glob("m365proxy-report-*.txt"))
    assert len(written) == is_written
    for path in written:
        assert "== Versions ==" in path.read_text() and stat.S_IMODE(path.stat().st_mode) == 0o600


def read_until(handle, end):
    seen = b""
    while end not in seen:
        assert select.select([handle], [], [], 60)[0], seen
        seen += os.read(handle, 65536)
    return seen
