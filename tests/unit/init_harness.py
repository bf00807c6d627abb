"""`init` without a terminal and without Microsoft: scripted answers, and tenants that are known."""

import io
import json

from m365proxy.admin.init import freeports, tenantlookup
from m365proxy.admin.init.interview import KEYS
from m365proxy.admin.init.questions import Asked, Given
from m365proxy.admin.terminal import Terminal
from m365proxy.errors import Temporary

TENANT = "5f0c8d3a-7f3e-4a52-9a55-0d6a1c6f1b11"
CLIENT = "c1a4e2d0-36b5-4c0e-8b6f-2f6d1e0a7c22"
OTHER = "99999999-7f3e-4a52-9a55-0d6a1c6f1b11"
IDS = f"m365proxy ids: tenant_id={TENANT} client_id={CLIENT}"

# What Microsoft knows.
DOMAINS = {"contoso.com": TENANT, "contoso.de": TENANT, "fabrikam.com": OTHER, TENANT: TENANT, OTHER: OTHER}


class KnownTenants(tenantlookup.Tenants):
    """Asks a table; Microsoft is out of reach if there is none."""

    def __init__(self, table=DOMAINS):
        super().__init__("a way out", "https://login.example")
        self.table = table
        self.asked = []

    def _ask(self, name):
        self.asked.append(name)
        if self.table is None:
            raise Temporary("No connection to login.example.")
        return self.table.get(name)


class Shown(io.StringIO):
    """A stream, to be looked at."""

    def __init__(self, tty=False):
        super().__init__()
        self.isatty = lambda: tty


def typing(*lines):
    """(questions, what they show) for somebody who types these lines."""
    shown = Shown()
    return Asked(Terminal(shown, {"COLUMNS": "200"}), io.StringIO("".join(line + "\n" for line in lines))), shown


def giving(**answers):
    """(questions, what they show) for a file of answers."""
    shown = Shown()
    return Given(answers, list(KEYS), Terminal(shown, {"COLUMNS": "200"})), shown


def busy_ports(monkeypatch, *busy, low=True):
    """Which ports cannot be opened; with `low` false those below 1024 neither."""

    def trouble(addresses, port, ours=()):
        if port in ours:
            return ""
        if port in busy:
            return "is in use by another program"
        return "may not be opened by this user" if not low and 0 < port < 1024 else ""

    monkeypatch.setattr(freeports, "trouble", trouble)
    monkeypatch.setattr(freeports.machine, "is_container", lambda: False)


def comments_of(content):
    """The comments of a config, in their order."""
    found = []
    json.loads(content, object_pairs_hook=lambda pairs: found.extend(pair for pair in pairs if pair[0][0] == "#"))
    return found
