"""SMTP sessions behind a real Listener on a free port, with fakes for users and spool."""

from __future__ import annotations

import base64
import contextlib
import io
import ipaddress
import socket
import ssl
from types import SimpleNamespace

from waiting import PATIENCE

from m365proxy.errors import Temporary
from m365proxy.logins.passwords import spellings
from m365proxy.logins.users import LoginRefused, User
from m365proxy.server.client import ListenerSettings
from m365proxy.server.connections import Connections
from m365proxy.server.listener import Listener
from m365proxy.smtp.policy import Policy
from m365proxy.smtp.session import PROTOCOL, SmtpSession
from m365proxy.system.choices import DeleteRule, TlsMode

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
PASSWORD = "pass word"
PLAIN = base64.b64encode(f"\0scanner@contoso.com\0{PASSWORD}".encode()).decode()
FULL = Temporary("The disk is full.")


def user(address="scanner@contoso.com", login=None, **more):
    """A User as the config would make it."""
    options = {
        "folder": "inbox",
        "pop3_delete": DeleteRule.parse("trash"),
        "pop3_mark_read": False,
        "pop3_fold_lines": False,
        "rewrite_from": False,
        "default_from": None,
        "send_as": (),
    }
    mailbox = SimpleNamespace(username=address, **{**options, **more})
    return User(mailbox, address if login is None else login, ("smtp",))


class Users:
    """scanner@contoso.com with the password "pass word"."""

    def __init__(self, user, trouble=None):
        self.user = user
        self.trouble = trouble
        self.lost = False  # whether a reload has taken the right away
        self.seen = []

    @staticmethod
    def name(login, service):
        return login.casefold()

    def current(self, user, service, peer):
        return None if self.lost else self.user

    def check(self, login, password, service, peer):
        self.seen.append((login, password, service, peer))
        if self.trouble:
            raise self.trouble
        if login.lower() != self.user.mailbox or PASSWORD not in spellings(password):
            raise LoginRefused("wrong password" if login == self.user.mailbox else "unknown user name")
        return self.user


class Spool:
    """What Spool.put promises, in memory; `trouble` maps put, write and commit to what they raise."""

    def __init__(self, trouble=None):
        self.trouble = trouble or {}
        self.begun = []
        self.accepted = []

    def put(self, envelope):
        self.fail("put")
        self.begun.append(Incoming(self, envelope))
        return self.begun[-1]

    def fail(self, step):
        if step in self.trouble:
            raise self.trouble[step]

    @property
    def open_ones(self):
        """Messages that were neither accepted nor thrown away."""
        return [one for one in self.begun if not (one.aborted or one in self.accepted)]


class Incoming:
    def __init__(self, spool, envelope):
        self.spool = spool
        self.envelope = envelope
        self.content = b""
        self.size = 0
        self.aborted = 0
        self.writes = 0

    def write(self, data):
        self.spool.fail("write")
        assert not self.aborted, "written to after abort"
        self.content += data
        self.size += len(data)
        self.writes += 1

    def open(self):
        return io.BytesIO(self.content)

    def commit(self):
        self.spool.fail("commit")
        assert not self.aborted
        self.spool.accepted.append(self)
        return f"ID{len(self.spool.accepted)}"

    def abort(self):
        self.aborted += 1


class Talk:
    """The client's side: lines in, lines out, a limit on waiting."""

    def __init__(self, port, address="127.0.0.1"):
        self.socket = socket.create_connection((address, port), timeout=PATIENCE)
        self._file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._file.close()
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        """One line without its CRLF; b"" at the end of the connection."""
        try:
            line = self._file.readline()
        except ConnectionResetError:
            return b""
        assert not line or line.endswith(b"\r\n"), line
        return line[:-2] if line else b""

    def closed(self):
        with contextlib.suppress(ConnectionResetError):
            return self._file.readline() == b""
        return True

    def reply(self):
        """A whole reply, its lines joined with LF."""
        lines = [self.line()]
        while lines[-1][3:4] == b"-":
            lines.append(self.line())
        return b"\n".join(lines).decode("ascii")

    def ask(self, line):
        self.send(line.encode("utf-8") + b"\r\n")
        return self.reply()

    def start_tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._file.close()
        self.socket = context.wrap_socket(self.socket)
        self._file = self.socket.makefile("rb")


class Harness:
    """A running listener; `with Harness(...) as harness, harness.client() as talk:`."""

    def __init__(
        self,
        certificate=None,
        *,
        tls_mode=None,
        tls_required=False,
        users=None,
        spool=None,
        connections=None,
        address="127.0.0.1",
        handshake_seconds=10.0,
        client_hellos=None,
        lf_only_clients=False,
        **policy,
    ):
        context = None
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
        self.users = users or Users(user())
        self.spool = spool or Spool()
        self.connections = Connections() if connections is None else connections
        self.policy = Policy(**{"plaintext_networks": LOOPBACK, **policy})
        settings = ListenerSettings(
            PROTOCOL,
            tls_mode=TlsMode(tls_mode or ("starttls" if certificate else "none")),
            tls_required=tls_required,
            handshake_seconds=handshake_seconds,
            client_hellos=client_hellos,
            lf_only_clients=lf_only_clients,
        )
        self.listener = Listener(address, 0, settings, self._session, self.connections, context)

    def _session(self, client):
        return SmtpSession(
            client,
            hostname="mail.contoso.com",
            users=self.users,
            accept=self.spool.put,
            policy=self.policy,
        )

    def __enter__(self):
        self.listener.start()
        return self

    def __exit__(self, *_):
        self.listener.close()
        self.connections.stop(PATIENCE)

    def client(self, greeted=True):
        talk = Talk(self.listener.port, self.listener.server_address[0])
        if greeted:
            assert talk.reply().startswith("220 ")
        return talk


def log_in(talk):
    assert talk.ask(f"AUTH PLAIN {PLAIN}") == "235 2.7.0 Logged in"


def begin(talk, recipient="jones@contoso.com"):
    """Up to and with DATA; returns the reply to DATA."""
    assert talk.ask("MAIL FROM:<scanner@contoso.com>") == "250 2.1.0 Ok"
    assert talk.ask(f"RCPT TO:<{recipient}>") == "250 2.1.5 Ok"
    return talk.ask("DATA")
