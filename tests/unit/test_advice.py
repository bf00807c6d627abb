"""Advice in messages of the program, where nothing has to run for it: what is named exists, and to follow it helps.

What devices and the log are told is followed in tests/e2e/test_advice.py.
"""

import functools
import json
import pathlib
import re

import pytest
import sources
from configs import HASHED

from m365proxy import cli
from m365proxy.config import load as configuration
from m365proxy.config.options import OPTIONS
from m365proxy.errors import ConfigError, UsageError

ROOT = pathlib.Path(__file__).resolve().parents[2]
BAD = ROOT / "tests" / "bad_configs"


@functools.lru_cache(None)
def texts():
    """All texts of the package, and of the pages that quote them."""
    pages = {(ROOT / "docs" / name).read_text("utf-8") for name in ("troubleshooting.md", "knownissues.md")}
    return pages.union(*map(sources.strings, sources.paths()))


def test_a_command_in_a_message_is_one():
    found = {command for text in texts() for command in re.findall(r"`(?:sudo )?m365proxy ([^`]+)`", text)}
    assert {"login", "hash-password", "queue list"} <= found
    parser = cli.parser()
    assert {command for command in found if not is_command(parser, command.split())} == set()


def is_command(parser, words):
    try:
        return words[0] == "--help" or parser.parse_args(words).named in words
    except UsageError:
        return False


def test_an_option_in_brackets_at_the_end_of_a_message_is_one():
    """ "... (allowed_domains)" and the like."""
    names = {option.path for option in OPTIONS} | {option.path.rpartition(".")[2] for option in OPTIONS}
    found = {name for text in texts() for name in re.findall(r"\(([a-z0-9]+[._][a-z0-9_.]+)\)", text)}
    assert {"allowed_domains", "attachment_limit_mb", "limits.recipients", "tls.tls_cert"} <= found
    assert {name for name in found if not name.endswith((".md", ".py", ".service", "_pending"))} <= names


# -- mistakes in the config ---------------------------------------------------


def put(path, value):
    """A change: set the option at the path, such as "mailboxes.1.password"; REMOVED takes it away."""

    def change(document):
        *way, last = [int(word) if word.isdigit() else word for word in path.split(".")]
        for word in way:
            document = document.setdefault(word, {}) if isinstance(document, dict) else document[word]
        if value is REMOVED:
            del document[last]
        else:
            document[last] = value

    return change


REMOVED = object()
AUTO = put("tls.tls_cert", "auto")
GUID = "11111111-2222-3333-4444-555555555555"

# folder of bad_configs, what its sentences advise: the changes that follow it
FOLLOWED = [
    ("bcrypt_password", "hash-password", [put("mailboxes.0.password", HASHED["password"])]),
    (
        "login_without_password",
        "set both",
        [put("mailboxes.0.password", "x"), put("mailboxes.1.logins.0.password", "x")],
    ),
    ("certificate_without_key", "set both", [put("tls.tls_key", "key.pem")]),
    ("certificate_without_key", "or none", [put("tls", {})]),
    ("expiry_of_nothing", "remove it", [put("client_secret_expires", REMOVED)]),
    ("from_address_not_allowed", "nor in its send_as", [put("mailboxes.0.send_as", ["office@contoso.com"])]),
    ("key_with_auto_certificate", "remove one", [put("tls.tls_key", REMOVED)]),
    ("key_without_certificate", "set both", [put("tls.tls_cert", "cert.pem")]),
    ("mailbox_nobody_can_use", "set its password", [put("mailboxes.1.password", "x")]),
    ("pop3_with_send_only", "remove it", [put("pop3_port", REMOVED), put("pop3s_port", REMOVED)]),
    ("pop3_with_send_only", 'set "full"', [put("permissions", "full")]),
    ("proxy_password_alone", "set both", [put("https_proxy.user", "x")]),
    ("proxy_user_twice", "keep one", [put("https_proxy.user", REMOVED)]),
    ("relay_without_smtp", 'do not have "smtp"', [put("mailboxes.0.services", ["smtp"])]),
    ("same_port_on_all_addresses", "change one", [put("smtp_port", 2526)]),
    ("same_port_twice", "change one", [put("smtp_port", 2526)]),
    ("secret_and_certificate", "keep one", [put("client_secret", REMOVED)]),
    ("sent_items_with_send_only", "remove it", [put("mailboxes.0.sent_items", REMOVED)]),
    ("sent_items_with_send_only", 'set "full"', [put("permissions", "full")]),
    ("status_password_alone", "set both", [put("status_port", 8025)]),
    ("status_password_short", "choose one", [put("status_password", "harder to guess")]),
    ("status_password_without_certificate", "set tls.tls_cert", [AUTO]),
    ("status_port_taken", "change one", [put("status_port", 8025)]),
    ("tls_listener_without_certificate", "set tls.tls_cert", [AUTO]),
    ("tls_port_without_certificate", "set tls.tls_cert", [AUTO]),
    ("tls_required_on_plain_listener", 'set its tls to "starttls"', [put("listeners.0.tls", "starttls")]),
    ("tls_required_on_plain_listener", '"implicit"', [put("listeners.0.tls", "implicit")]),
    ("tls_required_without_certificate", "set tls.tls_cert", [AUTO]),
    (
        "unknown_key_like_no_other",
        "remove it",
        [put(name, REMOVED) for name in ("colour of the box", "", "line\nbreak")],
    ),
    ("relay_network_twice", "keep one", [put("relay_networks", {"192.168.10.7": "scanner@contoso.com"})]),
    ("user_missing", "the account that signs in", [put("user", "relay@contoso.com")]),
    ("user_missing", "set client_secret", [put("client_secret", "x")]),
]


def complaints(directory, document):
    path = directory / "config.json"
    path.write_text(json.dumps(document))
    try:
        configuration.load(str(path), {})
    except ConfigError as error:
        return error.problems
    return ()


@pytest.mark.parametrize("name, words, changes", FOLLOWED, ids=[f"{name}, {words}" for name, words, _ in FOLLOWED])
def test_a_followed_advice_leaves_nothing_to_complain_of(tmp_path, name, words, changes):
    document = json.loads((BAD / name / "config.json").read_text("utf-8"))
    assert any(words in problem for problem in complaints(tmp_path, document))
    for change in changes:
        change(document)
    assert complaints(tmp_path, document) == ()


def test_the_sentences_with_advice_are_followed():
    """What a value must be is a rule, and its sentence shows how it is written; these say what to do."""
    advising = re.compile(r"; (set|remove|keep|change) |\(or set ")
    found = {path.parent.name for path in BAD.glob("*/expected.txt") if advising.search(path.read_text("utf-8"))}
    elsewhere = {"everything_at_once", "required_keys_missing"}  # mistakes of the others, together
    twice = {"key_twice"}  # JSON that Python cannot write
    assert found - {name for name, _, _ in FOLLOWED} == elsewhere | twice
