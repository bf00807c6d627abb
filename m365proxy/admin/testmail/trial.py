"""`test`: plays a device that sends a mail through the running program, and follows the mail to its end.

The mail stays where it arrives: what is in a mailbox is for its owner to delete.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import time
from typing import Any, Callable, Dict, Iterator, List, Optional

from ...account import Account, spool_of
from ...config.sections import Config, MailboxConfig
from ...delivery.routes import Routes
from ...errors import NotRunning, UsageError
from ...logins import onetime
from ...mime.addresses import valid_address
from ...server import autocert
from ...system import log
from ...system.choices import Permissions, Service, TlsMode
from ...system.networks import within
from .. import invocation
from ..running import is_running
from ..steps import Failed, Steps
from ..terminal import Mark, Terminal
from . import device
from .device import Login, Way
from .dialogue import Certificate, Pop3Device, Refused, SmtpDevice
from .following import Mailboxes, QueuedMail, Running, Unseen
from .scan import Scan

# Seconds until a sent mail is seen in Sent Items, and in the inbox of a recipient.
_SENT_SECONDS, _INBOX_SECONDS = 30.0, 90.0

# So many of the newest messages are looked at over POP3, so often, with a pause (seconds) between.
_NEWEST, _FETCHES, _FETCH_PAUSE = 20, 3, 3.0

_QUEUED = re.compile(r"queued as (\S+)")

# Exit statuses of a listener that does not take the mail: its answer may change (4yz), or the config must.
_LATER, _CONFIG = 75, 78

# Replies of SMTP: RFC 4954 section 6, RFC 5321 4.2.2; and the exit status of the second.
_WRONG_PASSWORD, _NO_ROOM = "535", "452"
_DISK = 74

# ... and if what is fetched is not what was sent.
_UNEXPECTED = 70

_NAMES = {"inbox": "the inbox", "junkemail": "the junk mail folder", "sentitems": "Sent Items"}


def run(
    config: Config, terminal: Terminal, sender: str, recipient: str, login: str, ask: Optional[Callable[[str], str]]
) -> Optional[int]:
    """Send a test mail from a mailbox of the config, with a login of it ("": any), and follow it.

    `recipient`: "" for the mailbox itself.  `ask(login)` returns the login's
    password; None: a one-time password is used.  NotRunning; UsageError.
    """
    mailbox, chosen = device.choose(config, sender, login)
    recipient = recipient or mailbox.username
    if not valid_address(recipient):
        raise UsageError(f"--to: {log.quote(recipient, 100)} is no mail address, as name@example.com is.")
    program = invocation.program(config.path)
    if not is_running(config):
        raise NotRunning(f"m365proxy is not running. Start it (the service, or `{program} run`), and test again.")
    password = ""
    if ask is not None:
        if chosen is None:
            raise UsageError(f"--ask-password: {mailbox.username} has no login, so there is no password to ask for.")
        password = ask(chosen.name)
        if not password:
            raise UsageError("An empty password cannot be used. Type one, or pipe it in.")
    steps = Steps(terminal, program)
    with _without_log():
        return _Test(config, terminal, steps, mailbox, chosen, Scan(mailbox.username, recipient.lower())).run(password)


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """What is logged is not printed: the steps say the same."""
    logger, nowhere = logging.getLogger("m365proxy"), logging.NullHandler()
    logger.addHandler(nowhere)
    try:
        yield
    finally:
        logger.removeHandler(nowhere)


class _Test:
    """One run of the command."""

    def __init__(
        self,
        config: Config,
        terminal: Terminal,
        steps: Steps,
        mailbox: MailboxConfig,
        login: Optional[Login],
        mail: Scan,
    ):
        self._config = config
        self._terminal = terminal
        self._mailbox = mailbox
        self._login = login
        self._mail = mail
        self._running = Running(config)
        self._steps = steps
        self._id = ""  # in the queue
        self._unseen = ""  # a mailbox that cannot be looked into

    def run(self, password: str) -> Optional[int]:
        """All steps; the exit status."""
        mail, steps = self._mail, self._steps
        self._say(f"m365proxy test: a device's mail from {mail.sender} to {mail.recipient}")
        try:
            self._submit(password)
            self._follow()
            self._look()
        except Failed as error:
            steps.fail(error)
            return error.exit_status
        except KeyboardInterrupt:
            if self._id:
                trace = steps.adapted(f"`m365proxy trace {self._id}`")
                self._say(f"\nThe mail goes on by itself. {trace} tells what becomes of it.")
            raise
        self._say(f"Done, in {steps.total:.1f} s. The mail stays where it is; delete it when you like.")
        return None

    def _say(self, text: str) -> None:
        self._terminal.line(self._terminal.wrap(text))

    # The device's part.

    def _submit(self, password: str) -> None:
        steps = self._steps
        steps.start("the running program")
        is_one_time = self._login is not None and not password
        digest = ""
        if self._login is not None and not password:
            password = onetime.make()
            digest = onetime.digest(self._login.name, Service.SMTP, password)
        status = self._running.status(admit=digest)
        steps.done(f"m365proxy is running (pid {status['pid']})")
        steps.start("the connection")
        way = self._way(status, Service.SMTP)
        try:
            client = SmtpDevice(way, self._certificate(way))
            try:
                steps.done(f"connected to {way}, {_encryption(client.encryption)}")
                self._hand_over(client, way, password, is_one_time)
            finally:
                client.close()
        except Refused as error:
            raise Failed(f"{way} refused: {error}", self._advice(error, way, is_one_time), _of_code(error)) from None
        except OSError as error:
            raise _broken(error, way) from None

    def _way(self, status: Dict[str, Any], service: Service) -> Way:
        without_login = self._mailbox.username if service is Service.SMTP and self._login is None else ""
        way = device.way_to(self._config, status.get("listeners", ()), service, without_login)
        if way is None:
            raise Failed(f"The config has no listener for {service}.", "Set one, and restart the program.", _CONFIG)
        return way

    def _certificate(self, way: Way) -> Certificate:
        tls = self._config.tls.tls_cert
        if way.socket.tls is TlsMode.NONE or not tls:
            return Certificate()
        return Certificate.read(autocert.path_in(self._config.state_dir) if tls == "auto" else tls)

    def _hand_over(self, client: SmtpDevice, way: Way, password: str, is_one_time: bool) -> None:
        steps, mail = self._steps, self._mail
        if self._login is None:
            steps.note(f"without a login: relay_networks has {way.address} for {mail.sender}", Mark.INFO)
        else:
            steps.start("the login")
            client.log_in(self._login.name, password)
            how = "a one-time password" if is_one_time else "its own password"
            steps.done(f"logged in as {self._login.name}, with {how}")
            if is_one_time and not within(way.address, self._login.networks):
                steps.note(_networks_of(self._login), Mark.INFO)
        steps.start("the mail")
        said = client.send(mail.sender, mail.recipient, mail.octets)
        found = _QUEUED.search(said)
        if not found:
            raise Failed(f"{way} answered 250 {said}", "That is no m365proxy: what listens there?", _CONFIG)
        self._id = found.group(1)
        steps.done(f"250: on disk, queue id {self._id}")
        with contextlib.suppress(OSError, Refused):  # the mail is taken, whatever the answer to QUIT is
            client.quit()

    def _advice(self, error: Refused, way: Way, is_one_time: bool) -> str:
        """What to do about a refusal of SMTP; its text mostly says it."""
        if error.code != _WRONG_PASSWORD or self._login is None:
            return "A device would be told the same. More is in the log."
        if is_one_time:
            return "If the config was changed since the program was started, run `m365proxy reload`, and test again."
        if not within(way.address, self._login.networks):
            return f"{_networks_of(self._login)}, and not from here ({way.address}). Test without --ask-password."
        return (
            "Try another password; or set this one: `m365proxy hash-password` prints what to put into the config, and "
            "`m365proxy reload` puts it to use."
        )

    # After the 250.

    def _follow(self) -> None:
        steps, mailbox = self._steps, self._mailbox.username
        steps.start("the delivery")
        queued = QueuedMail(self._running, spool_of(self._config), self._id, mailbox)
        drafts: List[str] = []

        def drafted(where: str) -> None:
            drafts.append(where)
            steps.done(f"draft made in {where}")

        queued.follow(drafted, lambda sentence: steps.done(sentence, Mark.ATTENTION))
        took, sent = steps.lap(), queued.sent()
        if not sent:
            steps.done("it has left the queue; other mail was sent since, so nothing more is known", Mark.INFO, took)
            return
        if sent["draft"] and not drafts:  # between two looks
            steps.note(f"draft made in {sent['draft']}", Mark.OK)
        if sent["request_id"]:
            steps.done(f"202: Microsoft has taken it over (request-id {sent['request_id']})", took=took)
        else:
            steps.done("Microsoft has taken it over, though it did not say so: the mail was found there", took=took)

    def _look(self) -> None:
        steps, config = self._steps, self._config
        if config.permissions is Permissions.SEND:
            steps.note('no look into mailboxes: permissions is "send"', Mark.SKIPPED)
            return
        account = Account(config)
        try:
            mailboxes = Mailboxes(account.graph, self._mail.message_id, self._mail.subject)
            self._look_into_sent_items(mailboxes, account.graph.user)
            box = self._recipient_box()
            if box is None:
                steps.note(f"{self._mail.recipient} is not in the config: look there", Mark.SKIPPED)
            elif self._has_arrived(mailboxes, box):
                self._fetch(box)
        finally:
            account.graph.close()

    def _recipient_box(self) -> Optional[MailboxConfig]:
        return next((box for box in self._config.mailboxes if box.username == self._mail.recipient), None)

    def _look_into_sent_items(self, mailboxes: Mailboxes, user: str) -> None:
        steps, sender = self._steps, self._mailbox.username
        steps.start("Sent Items")
        where = Routes(self._config.state_dir, user, True).candidates(sender)[0].url_mailbox
        try:
            found = mailboxes.find(where, ("sentitems",), _SENT_SECONDS)
        except Unseen as error:
            steps.done(f"{where} cannot be looked into: {error}", Mark.SKIPPED)
            self._unseen = where
            return
        if found:
            steps.done(f"in Sent Items of {where}")
        elif self._mailbox.sent_items == 0:
            steps.done(f'not in Sent Items of {where}: sent_items is "none"', Mark.SKIPPED)
        else:
            steps.done(f"not in Sent Items of {where} within {_SENT_SECONDS:.0f} s", Mark.ATTENTION)

    def _has_arrived(self, mailboxes: Mailboxes, box: MailboxConfig) -> bool:
        steps = self._steps
        steps.start("the inbox")
        if box.username == self._unseen:
            return False
        try:
            found = mailboxes.find(box.username, ("inbox", "junkemail"), _INBOX_SECONDS)
        except Unseen as error:
            steps.done(f"{box.username} cannot be looked into: {error}", Mark.SKIPPED)
            return False
        if not found:
            raise Failed(
                f"not in the inbox of {box.username} within {_INBOX_SECONDS:.0f} s, though Microsoft has taken it.",
                f"It may be late. Look for a report in the inbox of {self._mailbox.username}, for an inbox rule, and "
                "into Message trace of the Exchange admin center.",
                _LATER,
            )
        mark = Mark.OK if found == "inbox" else Mark.ATTENTION
        steps.done(f"in {_NAMES[found]} of {box.username}", mark)
        return found == "inbox"

    # The POP3 client's part.

    def _fetch(self, box: MailboxConfig) -> None:
        steps = self._steps
        steps.start("POP3")
        login = next(iter(device.logins(box, Service.POP3)), None)
        if login is None or not any(one.protocol is Service.POP3 for one in self._config.sockets):
            steps.note("POP3 is off" if login else f"{box.username} has no login for POP3", Mark.SKIPPED)
            return
        if box.folder.lower() != "inbox":
            steps.note(f"POP3 shows the folder {box.folder}, not the inbox", Mark.SKIPPED)
            return
        try:
            way = self._read_newest(login)
        except Refused as error:
            if error.code == "IN-USE":
                steps.done(f"{box.username} is being read by another POP3 client, so it was not fetched", Mark.SKIPPED)
                return
            raise Failed(f"POP3 refused: {error}", "Look into the log.", _of_code(error)) from None
        if way is None:
            raise Failed(
                f"the mail is in the inbox of {box.username}, but not among the {_NEWEST} newest that POP3 shows.",
                "Run the test again. If it fails again, look into the log.",
                _LATER,
            )
        steps.done(f"fetched from {way}; its PDF is what was sent")

    def _read_newest(self, login: Login) -> Optional[Way]:
        """Fetch the mail; by which way, None if it is not among the newest.  Refused, Failed."""
        for again in range(_FETCHES):
            if again:
                time.sleep(_FETCH_PAUSE)
            password = onetime.make()
            status = self._running.status(admit=onetime.digest(login.name, Service.POP3, password))
            way = self._way(status, Service.POP3)
            try:
                client = Pop3Device(way, self._certificate(way), login.name, password)
                try:
                    if self._is_there(client):
                        return way
                finally:
                    client.close()
            except OSError as error:
                raise _broken(error, way) from None
        return None

    def _is_there(self, client: Pop3Device) -> bool:
        """Whether POP3 shows the mail; Failed if it is another one than was sent."""
        numbers = (number for number, header in client.newest(_NEWEST) if self._mail.is_named_in(header))
        number = next(numbers, 0)
        if number and not self._mail.has_arrived_as(client.retrieve(number)):
            raise Failed("what was fetched is not what was sent.", "Please report it.", _UNEXPECTED)
        client.quit()
        return bool(number)


def _encryption(version: str) -> str:
    return f"{version} with the certificate of the config" if version else "without TLS"


def _networks_of(login: Login) -> str:
    return f"Devices may log in as {login.name} from {', '.join(map(str, login.networks))} only"


def _of_code(error: Refused) -> int:
    """The exit status; a refusal for now has a 4yz reply (RFC 5321 4.2.1) or SYS/TEMP (RFC 3206)."""
    if error.code == _NO_ROOM:
        return _DISK
    return _LATER if error.code.startswith("4") or error.code in ("SYS/TEMP", "IN-USE") else _CONFIG


def _broken(error: OSError, way: Way) -> Failed:
    reason = "it did not answer in time" if isinstance(error, socket.timeout) else error.strerror or str(error)
    return Failed(f"{way}: {reason}.", "Run `m365proxy status`, and look into the log.", _LATER)
