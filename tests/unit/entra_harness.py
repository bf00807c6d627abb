"""What the tests of the sign-in share: a stand-in tenant, a clock that moves when somebody sleeps, and Tokens."""

from __future__ import annotations

import contextlib
import json

import pytest

from m365proxy.entra.tokenfile import TokenFile
from m365proxy.entra.tokens import Tokens
from m365proxy.sandbox import Sandbox
from m365proxy.system.outbound import Outbound

USER = "relay@contoso.com"


class Time:
    """A clock that only moves when it is told to, or when somebody sleeps."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


class Harness:
    """A stand-in tenant, a state directory, and Tokens made for them."""

    def __init__(self, sandbox, directory):
        self.sandbox = sandbox
        self.directory = directory
        self.time = Time()
        self.shown = []
        self.file = TokenFile(directory, {})

    def tokens(self, **other):
        sandbox = self.sandbox
        settings = {
            "client_id": sandbox.client_id,
            "tenant_id": sandbox.tenant_id,
            "user": USER,
            "permissions": "full",
            "token_file": TokenFile(self.directory, {}),
            "outbound": Outbound(ca_file=sandbox.ca_file, direct=True),
            "authority_url": sandbox.authority_url,
            "graph_url": sandbox.graph_url,
            "resource": sandbox.graph_url,
            "clock": lambda: 5_000_000.0,
            "monotonic": self.time.monotonic,
            "sleep": self.time.sleep,
        }
        return Tokens(**{**settings, **other})

    def signed_in(self, **other):
        tokens = self.tokens(**other)
        tokens.login(self.shown.append)
        return tokens

    def refreshes(self):
        return self.sandbox.entra.counts["refresh_token"]

    def content(self):
        """The stored refresh token, or None."""
        stored = self.file.load()
        if stored is None:
            return None
        (entry,) = json.loads(stored.cache)["RefreshToken"].values()
        return entry["secret"]

    def accepts(self, token):
        """Whether Graph takes the token."""
        with contextlib.suppress(Exception):
            return self.sandbox.entra.actor({"authorization": "Bearer " + token}).user
        return None


@pytest.fixture
def harness(tmp_path):
    with Sandbox() as sandbox:
        yield Harness(sandbox, str(tmp_path))


def sentence_of(error):
    """The text, if it is fit for an administrator."""
    text = str(error.value)
    assert text[0].isupper() or text.startswith(("client_", "relay@", "alerts@", "msal ", "127.0.0.1 ")), text
    assert text.endswith((".", "?", ")")), text
    assert "\n" not in text and "http" not in text.lower().replace("(http status", "").replace("https or", ""), text
    return text


class Canned:
    """A response of requests, as far as HttpClient looks at one."""

    def __init__(self, body, status=200, headers=None):
        self.status_code = status
        self.headers = headers or {}
        self._body = body

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        pass

    def iter_content(self, _size):
        yield self._body.encode() if isinstance(self._body, str) else self._body
