"""A POP3 session over a socketpair, with a mailbox made of bytes behind it."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from types import SimpleNamespace

from waiting import PATIENCE

from m365proxy.errors import Permanent
from m365proxy.logins.passwords import spellings
from m365proxy.mime.encodings import canonical, ended
from m365proxy.pop3.session import Pop3Session
from m365proxy.server.connection import Connection

SILENCE = object()

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)

MESSAGES = (
    b"Subject: one\r\n\r\nHello\r\n",
    b"Subject: dots\r\n\r\n.\r\n..\r\n.hidden\r\nlast line without an end",
    b"Subject: 8bit\n\nGr\xfc\xdfe\nsecond\nthird\n",
)


def as_served(chunks):
    """A message with the line ends that its copy has."""
    return ended(canonical(chunks, doubled=False))


class Users:
    """scanner@contoso.com with the password "pass word"."""

    def __init__(self):
        self.seen = []
        self.trouble = None
        self.lost = False  # whether a reload has taken the right away

    def current(self, user, service, peer):
        return None if self.lost else user

    def check(self, login, password, service, peer):
        self.seen.append((login, password, service, peer))
        if self.trouble:
            raise self.trouble
        if login != "scanner@contoso.com" or "pass word" not in spellings(password):
            refusal = Permanent("not accepted")
            refusal.reason = "wrong password"
            raise refusal
        return SimpleNamespace(mailbox=login, login=login)


class Message:
    """What maildrop.Message promises, over the octets or the error it is made of.

    `pieces` are what comes in turn: octets, an error, SILENCE without end, or a number of times that nothing
    comes in time.
    """

    def __init__(self, *pieces, known=True):
        self.pieces = list(pieces)
        self.size = sum(map(len, pieces)) if known else None

    def wait_ready(self, seconds):
        if not self.pieces:
            return True
        if isinstance(self.pieces[0], int):
            self.pieces[0] -= 1
            if self.pieces[0] >= 0:
                return False
            self.pieces.pop(0)
        if isinstance(self.pieces[0], Exception):
            raise self.pieces[0]
        return True

    def chunks(self, before_wait, in_silence):
        for piece in self.pieces:
            before_wait()
            while piece is SILENCE:
                in_silence()
            if isinstance(piece, Exception):
                raise piece
            yield piece


class Messages(list):
    """What a snapshot promises."""

    @property
    def octets(self):
        return sum(message.size for message in self)


class Drop:
    """What Maildrop promises, over a list of bytes."""

    def __init__(self, raws):
        self.raws = [b"".join(as_served([raw])) for raw in raws]
        self.messages = Messages(
            SimpleNamespace(uidl=f"{number:040x}", size=len(raw)) for number, raw in enumerate(self.raws, 1)
        )
        self.trouble = {}
        self.undeletable = 0
        self.deletions = []
        self.closed = 0
        self.unmeasured = []

    def retrieve(self, index):
        if index in self.trouble:
            trouble = self.trouble[index]
            return Message(*(trouble if isinstance(trouble, tuple) else (trouble,)), known=False)
        return Message(self.raws[index])

    def top(self, index, lines):
        return self.retrieve(index)

    def wait_measured(self, seconds):
        step = self.unmeasured.pop(0) if self.unmeasured else True
        if isinstance(step, Exception):
            raise step
        return step

    def delete(self, indices):
        self.deletions.append(list(indices))
        return self.undeletable

    def close(self):
        self.closed += 1


class Maildrops:
    def __init__(self, drop):
        self.drop = drop
        self.trouble = None
        self.opened = []

    def open(self, user, session):
        self.opened.append((user.mailbox, session))
        if self.trouble:
            raise self.trouble
        return self.drop


class Harness:
    """One session in a thread, and the client's end of its socket."""

    def __init__(self, raws=MESSAGES, peer="127.0.0.1", networks=LOOPBACK, tls=None, **more):
        self.users = Users()
        self.drop = Drop(raws)
        self.maildrops = Maildrops(self.drop)
        self.client, server = socket.socketpair()
        self.client.settimeout(PATIENCE)
        self.file = self.client.makefile("rb")
        self.connection = Connection(server, peer)
        self.session = Pop3Session(
            self.connection,
            users=self.users,
            maildrops=self.maildrops,
            tls_context=tls,
            plaintext_networks=networks,
            **more,
        )
        self.thread = threading.Thread(target=self.session.run, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()

    def leave(self):
        """Hang up, and wait for the session's end."""
        self.file.close()
        self.client.close()
        self.ended()

    def ended(self):
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()

    def say(self, line):
        self.client.sendall(line + b"\r\n")

    def line(self):
        """The next line without its CRLF; b"" when the session has hung up."""
        line = self.file.readline()
        assert line == b"" or line.endswith(b"\r\n")
        return line[:-2]

    def ask(self, line):
        self.say(line)
        return self.line()

    def lines(self):
        """A multi-line answer's lines as they came, up to its dot."""
        found = []
        while True:
            line = self.line()
            if line == b".":
                return found
            assert line or not self.file.closed
            found.append(line)

    def logged_in(self):
        assert self.line().startswith(b"+OK")
        assert self.ask(b"USER scanner@contoso.com").startswith(b"+OK")
        assert self.ask(b"PASS pass word").startswith(b"+OK")
        return self


@contextlib.contextmanager
def listening(raws, tls=None, networks=LOOPBACK):
    """A loopback port with one session behind it, for clients that want to connect: (port, drop)."""
    drop = Drop(raws)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            client, address = listener.accept()
            Pop3Session(
                Connection(client, address[0]),
                users=Users(),
                maildrops=Maildrops(drop),
                tls_context=tls,
                plaintext_networks=networks,
            ).run()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], drop
        thread.join(PATIENCE)
        assert not thread.is_alive()
