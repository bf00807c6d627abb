"""`check`: a line for each thing that must be right, with what to do if it is not."""

from __future__ import annotations

import errno
import functools
import os
import socket
import time
from typing import Callable, List, NamedTuple, Tuple, Union

from ..account import Account, spool_of
from ..config import load as configuration
from ..config.sections import Config, MailboxConfig, Socket
from ..delivery.routes import Routes
from ..entra import registration
from ..errors import ConfigError, ProxyError, Temporary
from ..graph import refusals
from ..graph.answer import GraphRefused
from ..mime import prepare
from ..server import autocert, tls
from ..server.tls import CERTIFICATE_DAYS, certificate_days, expiry_sentence
from ..spool.spool import mailbox_tag, tag_of
from ..spool.state import Place
from ..system import files, log, statusfile
from ..system.choices import Permissions, Service
from ..system.clock import clock_is_plausible
from . import status

OK, INFO, WARNING, WRONG = "ok", "info", "warning", "WRONG"

# A mailbox or a right at Exchange is missing; the disk is full.
_NOT_IN_EXCHANGE, _DISK = 67, 74

# The names of lines by stage, in the order in which problems should be solved; those of mailboxes come last.
_STAGES = (("config", "certificate"), ("state", "log"), ("port",), ("graph", "clock"), ("sign-in", "token"))

# How many waiting messages of a mailbox are read to see why they wait.
_SAMPLE = 50


class Result(NamedTuple):
    """A line.  `exit_status` is 0 unless the mark is WRONG."""

    mark: str
    name: str
    sentence: str
    exit_status: int = 0


class Sending(NamedTuple):
    """When mail of a mailbox was last sent, and when and why an attempt last failed; 0 is never."""

    worked: float
    failed: float = 0.0
    error: str = ""
    code: str = ""


def exit_status(results: List[Result]) -> int:
    """The exit status of the first stage in which something is wrong; 0 if nothing is."""
    wrong = [result for result in results if result.exit_status]
    return min(wrong, key=lambda result: _stage(result.name)).exit_status if wrong else 0


def _stage(name: str) -> int:
    return next((number for number, names in enumerate(_STAGES) if name in names), len(_STAGES))


def offline(config: Config, running: bool, dropped_root: bool = False) -> List[Result]:
    """What can be checked without Microsoft.

    `running`: the program has opened its ports already.  `dropped_root`: this
    process was root's; the unit of the service may allow more than it may do now.
    """
    results = [Result(OK, "config", config.path)]
    results += [Result(WARNING, "config", warning) for warning in config.warnings]
    results.append(_tried("certificate", lambda: _certificate(config)))
    results.append(_tried("state", lambda: _state(config)))
    results.append(_tried("log", lambda: _log(config)))
    if not running:
        results += [_tried("port", functools.partial(_port, wanted, dropped_root)) for wanted in config.sockets]
    results.append(_tried("sign-in", lambda: _sign_in(config)))
    if not clock_is_plausible(time.time()):
        results.append(Result(WARNING, "clock", "The clock of this machine is wrong. Set it, or use NTP."))
    return results


def online(config: Config) -> List[Result]:
    """What only Microsoft knows: that it can be reached, the sign-in, and whether each mailbox may send and be read."""
    account = Account(config)
    results = [_tried("graph", lambda: _reach(account))]
    results.append(_tried("token", lambda: _token(account)))
    if results[-1].mark == OK:
        for mailbox in config.mailboxes:
            results += _mailbox(config, account, mailbox)
    account.graph.close()
    return results


def _tried(name: str, test: Callable[[], Union[Result, str]]) -> Result:
    try:
        found = test()
    except ProxyError as error:
        return Result(WRONG, name, str(error), error.exit_status)
    return found if isinstance(found, Result) else Result(OK, name, found)


def _certificate(config: Config) -> Union[Result, str]:
    if not config.tls.tls_cert:
        if any(not network.is_loopback for network in config.plaintext_networks):
            return Result(WARNING, "certificate", "None is set: devices send their passwords unencrypted.")
        return "none is set; passwords are accepted only from this machine"
    cert, key = config.tls.tls_cert, config.tls.tls_key
    if cert == "auto":
        cert = key = autocert.path_in(config.state_dir)
        if not os.path.exists(cert):
            return "a self-signed one is made at the first start"
    tls.server_context(cert, key or cert, "TLSv1.2")
    days = certificate_days(cert)
    if days < 0:
        raise ConfigError(expiry_sentence(cert, days))
    if days < CERTIFICATE_DAYS:
        return Result(WARNING, "certificate", expiry_sentence(cert, days))
    return f"{cert}, valid for another {days} days"


def _state(config: Config) -> Union[Result, str]:
    files.make_directory(config.state_dir)
    free = files.free_bytes(config.state_dir) // (1024 * 1024)
    if free < config.queue.min_free_mb:
        return Result(
            WRONG,
            "state",
            f"Only {free} MB are free for {config.state_dir}. New mail is refused below "
            f"{config.queue.min_free_mb} MB (queue.min_free_mb). Free some disk space.",
            _DISK,
        )
    return f"{config.state_dir} is writable, {free} MB free"


def _log(config: Config) -> str:
    if not config.logging.file:
        return "goes to standard error"
    log.check_file(config.logging.file)
    return f"{config.logging.file} is writable"


def _port(wanted: Socket, dropped_root: bool) -> Union[Result, str]:
    from ..server.listener import bind_error

    family = socket.AF_INET6 if ":" in wanted.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        if os.name == "posix":
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((wanted.address, wanted.port))
        except OSError as error:
            if dropped_root and error.errno == errno.EACCES:
                return Result(
                    WARNING,
                    "port",
                    f"{wanted.protocol} {wanted.address}:{wanted.port} cannot be "
                    "tested by this user; the service may be allowed to open it.",
                )
            raise bind_error(error, wanted.address, wanted.port) from None
    return f"{wanted.protocol} {wanted.address}:{wanted.port} is free"


def _sign_in(config: Config) -> Union[Result, str]:
    state = Account(config).tokens.state()
    if config.client_certificate:
        registration.private_key(config.client_certificate.private_key)
    if config.client_secret or config.client_certificate:
        return "none is needed: the application signs in as itself"
    if state.get("error"):
        return Result(WRONG, "sign-in", state["error"], 77)
    if not state.get("user"):
        return Result(WRONG, "sign-in", "Nobody is signed in. Run `m365proxy login`.", 77)
    return f"stored for {state['user']}"


def _reach(account: Account) -> str:
    account.graph.check_reachable()
    skew = account.graph.skew
    if abs(skew) > 300:
        raise ConfigError(
            f"The clock of this machine differs from Microsoft's by {abs(skew):.0f} s. Set it, or use NTP."
        )
    return f"{account.graph.host} answers"


def _token(account: Account) -> str:
    account.tokens.renew()  # a stored token says nothing about a sign-in that was revoked later
    return f"Microsoft has just renewed the sign-in of {account.graph.user or 'the app'}"


def _mailbox(config: Config, account: Account, mailbox: MailboxConfig) -> List[Result]:
    """Two lines: to send and to read need different rights.  One line if permissions is "send"."""
    address = mailbox.username
    reading, missing = [], ""
    if config.permissions == Permissions.FULL:
        line, missing = _reading(config, account, mailbox)
        reading.append(line)
    return [_send(f"{address} send", _sending(config, account, address), missing), *reading]


def _reading(config: Config, account: Account, mailbox: MailboxConfig) -> Tuple[Result, str]:
    """The line, and a sentence if there is no such mailbox."""
    name = f"{mailbox.username} read"
    try:
        account.graph.read("GET", mailbox.username, "/mailFolders/inbox", params={"$select": "id"}).close()
    except GraphRefused as error:
        answer = error.answer
        sentence = refusals.sentence(
            refusals.READ,
            http=answer.status,
            code=answer.code,
            mailbox=mailbox.username,
            user=account.graph.user,
            app=account.graph.app,
        )
        missing = sentence if answer.code.lower() in refusals.NO_MAILBOX else ""
        if answer.status not in (403, 404):
            return Result(WRONG, name, sentence, Temporary.exit_status), missing
        if _is_read(config, account, mailbox):
            return Result(WRONG, name, sentence, _NOT_IN_EXCHANGE), missing
        return Result(INFO, name, f"cannot be read, which is not needed to send. {sentence}"), missing
    except ProxyError as error:
        return Result(WRONG, name, str(error), error.exit_status), ""
    return Result(OK, name, "its inbox can be opened"), ""


def _is_read(config: Config, account: Account, mailbox: MailboxConfig) -> bool:
    """Whether anything but sending is done in a mailbox: POP3, the removal of old copies, the drafts of large mail.

    An account may make those in its own mailbox; the app has none.
    """
    has_pop3 = Service.POP3 in mailbox.services and any(wanted.protocol == Service.POP3 for wanted in config.sockets)
    is_large = configuration.size_limit(config.attachment_limit_mb) > prepare.LARGE_MIME_CEILING
    sends_large = not account.graph.user and Service.SMTP in mailbox.services and is_large
    return has_pop3 or mailbox.sent_items is not None or sends_large


def _sending(config: Config, account: Account, address: str) -> Sending:
    """What the last deliveries showed.  Graph has no harmless way to ask."""
    known = statusfile.read(config.state_dir).get("mailboxes", {}).get(address, {})
    routes = Routes(config.state_dir, account.graph.user, config.permissions == Permissions.FULL)
    worked = max(routes.sent(address), known.get("last_delivery") or 0.0)
    spool, tag = spool_of(config), mailbox_tag(address)
    try:
        waiting = sorted(entry.id for entry in spool.entries(Place.NEW) if tag_of(entry.id) == tag)[:_SAMPLE]
        states = [state for state in map(spool.state, waiting) if state is not None and state.error]
    except OSError:  # no queue yet, or none that may be read: the line of state says so
        states = []
    if states:
        last = max(states, key=lambda state: state.last_attempt)
        return Sending(worked, last.last_attempt, last.error, last.code)
    return Sending(worked, known.get("last_error_time") or 0.0, known.get("last_error") or "")


def _send(name: str, known: Sending, missing: str) -> Result:
    """`missing`: a sentence if it is known that there is no such mailbox, else ""."""
    now = time.time()
    if known.failed > known.worked:
        sentence = f"the last attempt failed {status.ago(now - known.failed)} ago: {known.error}"
        if known.code.lower() in refusals.NO_RIGHT | refusals.NO_MAILBOX:
            return Result(WRONG, name, sentence, _NOT_IN_EXCHANGE)
        return Result(WARNING, name, sentence)
    if known.worked:
        return Result(OK, name, f"a delivery succeeded {status.ago(now - known.worked)} ago")
    if missing:
        return Result(WRONG, name, missing, _NOT_IN_EXCHANGE)
    return Result(INFO, name, "unknown until the first delivery")
