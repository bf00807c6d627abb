"""Words that belong to the program or to everybody: nobody can be recognised by them, so they stay in a report."""

from __future__ import annotations

import difflib
import re
from typing import Iterator

from ...config.options import OPTIONS
from ...config.types import Choice, ListOf, Path, Type

# Hosts that everybody's program asks or names; tenants have names of their own in other domains of Microsoft's.
_HOSTS_TEXT = """
graph.microsoft.com graph.microsoft.us dod-graph.microsoft.us microsoftgraph.chinacloudapi.cn
login.microsoftonline.com login.microsoftonline.us login.partner.microsoftonline.cn login.chinacloudapi.cn
microsoft.com www.microsoft.com aka.ms learn.microsoft.com admin.exchange.microsoft.com entra.microsoft.com
portal.azure.com localhost
"""
HOSTS = frozenset(_HOSTS_TEXT.split())

# Parts of paths that are the same on many machines.
_PATHS_TEXT = """
~ . .. etc var lib log usr local bin sbin share opt srv home root run tmp dev mnt media data ssl certs private
letsencrypt live archive acme python3 python venv .venv site-packages dist-packages users programdata windows
programs program appdata roaming m365proxy .m365proxy m365proxy.py m365proxy.json config.json status.json
counters.json routes.json tls_first.json tokens.enc token.key tokens.enc.bad installation machines.json lock queue new
cur failed state events control maildrop seen fullchain.pem privkey.pem cert.pem key.pem chain.pem app-key.pem
ca-certificates.crt v1.0 livez readyz healthz metrics devices.json warnings.json doc examples
adopted.json retired adopting
"""
PATHS = frozenset(_PATHS_TEXT.split())

# What a file's name ends with; the name before it may be anybody's.
_ENDINGS_TEXT = """
json jsonl pem crt cer key enc log conf txt service py pfx p12 bad tmp toml yaml eml
"""
ENDINGS = frozenset(_ENDINGS_TEXT.split())

# Whose names are in texts on errors.
_MODULES_TEXT = """
m365proxy msal requests urllib3 cryptography ssl socket json http python
"""
MODULES = frozenset(_MODULES_TEXT.split())

# Names of users, logins and machines by which nobody can be recognised, and words that are in sentences of ours.
_COMMON_TEXT = """
inbox archive junk drafts auth token topic webhook hooks services root admin administrator system nobody user users
test demo default guest login logins mail mails smtp smtps pop3 pop3s imap info office support service device
devices printer print scanner scan scans scanning copier camera monitor monitoring alert alerts relay backup noreply
no-reply postmaster sales contact server host network networks domain address addresses mailbox mailboxes message
messages password secret certificate microsoft exchange graph tenant windows linux debian ubuntu raspbian
raspberrypi openwrt alpine fedora container docker python openssl status queue report check event events config none
null true false name text value client server sign-in com net org local onmicrosoft
"""
_COMMON = frozenset(_COMMON_TEXT.split())


def _words_of(type: Type) -> Iterator[str]:
    if isinstance(type, Choice):
        yield from type.names
    if isinstance(type, Path):
        yield from type.special
    if isinstance(type, ListOf):
        yield from _words_of(type.item)


OPTION_PATHS = frozenset(option.path for option in OPTIONS)
_OPTIONS = frozenset(part for path in OPTION_PATHS for part in re.findall(r"\w+", path))
_CHOICES = frozenset(word.lower() for option in OPTIONS for word in _words_of(option.type))


def is_known(word: str) -> bool:
    """Whether a word is one of the config's own, or common to all."""
    word = word.lower()
    return word in _OPTIONS or word in _CHOICES or word in _COMMON


def is_nearly_known(name: str) -> bool:
    """Whether a key that is not known is an option's name with a typing error."""
    return bool(difflib.get_close_matches(name.lower(), _OPTIONS, 1, cutoff=0.8))
