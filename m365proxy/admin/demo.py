"""`demo`: the real program with the stand-in tenant, on 127.0.0.1, in a temporary directory.

Touches neither the user's config nor their sign-in, and uses no proxy.
"""

from __future__ import annotations

import contextlib
import email
import email.message
import email.policy
import json
import os
import poplib
import secrets
import smtplib
import ssl
import tempfile
import time
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from ..account import event_log
from ..config import load as configuration
from ..config.sections import Config
from ..daemon import Daemon
from ..errors import ProxyError
from ..logins.passwords import hash_password
from ..sandbox import Sandbox
from ..server import tls
from ..system import files, log, signals
from ..system.outbound import Outbound

_RELAY, _ALERTS, _SCANS = "relay@contoso.com", "alerts@contoso.com", "scans@contoso.com"

# Seconds for any one step; the whole demo is over in far less.
_PATIENCE = 20.0


class DemoFailed(ProxyError):
    """A step of the demo failed."""

    exit_status = 69


class _Steps:
    """Prints each step with the time it took."""

    def __init__(self) -> None:
        self._began = self._last = time.monotonic()

    def done(self, what: str) -> None:
        now = time.monotonic()
        print(f"  {now - self._last:6.2f} s  {what}", flush=True)
        self._last = now

    def total(self) -> float:
        return time.monotonic() - self._began


def run(serve: bool) -> Optional[int]:
    """Send a mail and fetch it; with `serve`, keep running afterwards."""
    steps = _Steps()
    print("m365proxy demo: a device's mail by SMTP to a stand-in tenant, and back by POP3")
    with tempfile.TemporaryDirectory(prefix="m365proxy-demo-") as directory, contextlib.ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(mailboxes=(_RELAY, _ALERTS, _SCANS), user=_RELAY))
        steps.done("stand-in tenant is up (HTTPS on 127.0.0.1)")
        passwords = {name: secrets.token_urlsafe(9) for name in (_ALERTS, _SCANS)}
        outbound = Outbound(None, sandbox.ca_file, direct=True)
        asked = signals.listen() if serve else None
        config = _config(directory, sandbox, passwords)
        steps_taken = event_log(config)
        log.setup("INFO" if serve else "WARNING", events=steps_taken)
        stack.callback(log.setup, "WARNING")  # closes the event log before its directory goes
        daemon = Daemon(config, outbound, environ={}, asked=asked, event_log=steps_taken)
        files.make_directory(daemon.config.state_dir)
        daemon.account.tokens.login(lambda text: None)
        steps.done("signed in with the device code flow of msal")
        daemon.start()
        stack.callback(daemon.stop)
        smtp_port, pop3_port = (listener.port for listener in daemon.listeners)
        steps.done(f"listening: SMTP on port {smtp_port}, POP3 on port {pop3_port}")
        trust = ssl.create_default_context(cafile=os.path.join(directory, "cert.pem"))
        sent = _submit(smtp_port, trust, passwords[_ALERTS])
        steps.done("250: the device's mail with its attachment is on disk")
        _wait_for(lambda: len(sandbox.tenant.delivered) == 1, "the mail did not reach the stand-in tenant")
        steps.done("delivered over Graph (202)")
        fetched = _fetch(pop3_port, trust, passwords[_SCANS])
        steps.done("fetched by POP3 over STLS")
        count = _compare(sent, fetched)
        steps.done(f"compared: {count} parts, octet by octet the same")
        print(f"Everything works, in {steps.total():.1f} s.")
        if serve:
            _serve(daemon, passwords, smtp_port, pop3_port, os.path.join(directory, "cert.pem"))
    return None


def _config(directory: str, sandbox: Sandbox, passwords: Dict[str, str]) -> Config:
    certificate, key = tls.self_signed(["localhost", "127.0.0.1"])
    for name, content in (("cert.pem", certificate), ("key.pem", key)):
        files.replace(os.path.join(directory, name), content, durable=False)
    settings = {
        "user": _RELAY,
        "tenant_id": sandbox.tenant_id,
        "client_id": sandbox.client_id,
        "authority_url": sandbox.authority_url,
        "graph_url": sandbox.graph_url,
        "ca_file": sandbox.ca_file,
        "mailboxes": [{"username": name, "password": hash_password(word)} for name, word in passwords.items()],
        "receivers": 0,  # this process has threads, and so cannot be forked
        "smtp_port": 0,
        "pop3_port": 0,
        "status_port": 0,
        "tls": {"tls_cert": "cert.pem", "tls_key": "key.pem"},
        "state_dir": "state",
    }
    path = os.path.join(directory, "config.json")
    files.replace(path, json.dumps(settings).encode(), durable=False)
    return configuration.load(path, {})


def _submit(port: int, trust: ssl.SSLContext, password: str) -> email.message.EmailMessage:
    """What a scanner does: STARTTLS, log in, hand over a mail with a document."""
    mail = email.message.EmailMessage(policy=email.policy.SMTP)
    mail["From"] = f"Alerts <{_ALERTS}>"
    mail["To"] = f"Scans <{_SCANS}>"
    mail["Subject"] = "Scan of 3 pages (größer als A4)"
    mail.set_content("A scan is attached.\n.\nThe line above is a lone dot.\n")
    mail.add_attachment(secrets.token_bytes(200_000), maintype="application", subtype="pdf", filename="scan.pdf")
    with smtplib.SMTP("127.0.0.1", port, timeout=_PATIENCE) as client:
        client.starttls(context=trust)
        client.login(_ALERTS, password)
        client.send_message(mail)
    return mail


def _fetch(port: int, trust: ssl.SSLContext, password: str) -> email.message.Message:
    client = poplib.POP3("127.0.0.1", port, timeout=_PATIENCE)
    try:
        client.stls(context=trust)
        client.user(_SCANS)
        client.pass_(password)
        count = client.stat()[0]
        if count != 1:
            raise DemoFailed(f"The demo failed: POP3 shows {count} messages instead of 1.")
        lines = client.retr(1)[1]
        client.quit()
    finally:
        client.close()
    return email.message_from_bytes(b"\r\n".join(lines) + b"\r\n", policy=email.policy.SMTP)


def _compare(sent: email.message.Message, fetched: email.message.Message) -> int:
    """Every leaf part decodes to the same octets; returns their number."""
    if str(sent["Subject"]) != str(fetched["Subject"]):
        raise DemoFailed("The demo failed: the subject changed on the way.")
    ours, theirs = list(_leaves(sent)), list(_leaves(fetched))
    if ours != theirs:
        raise DemoFailed("The demo failed: what was fetched is not what was sent.")
    return len(ours)


def _leaves(mail: email.message.Message) -> Iterator[Tuple[str, Optional[str], bytes]]:
    for part in mail.walk():
        if not part.is_multipart():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)  # a part of one piece
            if part.get_content_maintype() == "text":
                content = content.replace(b"\r\n", b"\n")
            yield part.get_content_type(), part.get_filename(), content


def _wait_for(condition: Callable[[], bool], failure: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise DemoFailed(f"The demo failed: {failure}.")
        time.sleep(0.01)


def _status_port(daemon: Daemon) -> str:
    return next(place.partition(" ")[2] for place in daemon.addresses() if place.startswith("status "))


def _serve(daemon: Daemon, passwords: Dict[str, str], smtp_port: int, pop3_port: int, certificate: str) -> None:
    """Keep running, and print commands for another terminal."""
    lines: List[str] = [
        "",
        f"Running until Ctrl-C. How it stands, in a browser: http://{_status_port(daemon)}/",
        "Commands to try in another terminal:",
        "",
        f"swaks --server 127.0.0.1:{smtp_port} --tls --auth-user {_ALERTS} --auth-password '{passwords[_ALERTS]}' "
        f"--from {_ALERTS} --to {_SCANS}",
        "",
        f"curl --ssl-reqd --cacert {certificate} --user '{_ALERTS}:{passwords[_ALERTS]}' --mail-from {_ALERTS} "
        f"--mail-rcpt {_SCANS} --upload-file /etc/services smtp://127.0.0.1:{smtp_port}",
        "",
        f"curl --ssl-reqd --cacert {certificate} --user '{_SCANS}:{passwords[_SCANS]}' pop3://127.0.0.1:{pop3_port}/",
        "",
    ]
    print("\n".join(lines), flush=True)
    daemon.serve()
