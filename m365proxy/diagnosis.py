"""`check`: one line per thing that must be right, each with what to do."""

from __future__ import annotations

import errno
import os
import socket
import time
from typing import Any, Callable, List, NamedTuple, Union

from . import autocert, files, log, outcome, refusals, registration, tls
from .answer import Refused
from .config import Config
from .daemon import CERTIFICATE_DAYS, Account, certificate_days, expiry_sentence
from .delivery import clock_is_plausible
from .errors import ConfigError, ProxyError

OK, WARNING, WRONG = "ok", "warning", "WRONG"

# Exit statuses of refused mailboxes, by outcome's status: a right that is missing, a mailbox that does not exist.
_EXIT_STATUS = {"4.7.0": 77, "4.1.8": 78}


class Result(NamedTuple):
    """One line; `exit_status` is 0 unless the mark is WRONG."""

    mark: str
    name: str
    sentence: str
    exit_status: int = 0


def offline(config: Config, running: bool, dropped_root: bool = False) -> List[Result]:
    """What can be told without asking Microsoft.

    `running`: the program holds its ports already.  `dropped_root`: this
    process was root's and may open less than the service, by its unit, can.
    """
    results = [Result(OK, "config", config.path)]
    results += [Result(WARNING, "config", warning) for warning in config.warnings]
    results.append(_tried("certificate", lambda: _certificate(config)))
    results.append(_tried("state", lambda: _state(config)))
    results.append(_tried("log", lambda: _log(config)))
    if not running:
        results += [_tried("port", lambda wanted=wanted: _port(wanted, dropped_root)) for wanted in config.listeners]
    results.append(_tried("sign-in", lambda: _sign_in(config)))
    if not clock_is_plausible(time.time()):
        results.append(Result(WARNING, "clock", "This machine's clock is far off. Set it, or let NTP do it."))
    return results


def online(config: Config) -> List[Result]:
    """What only Microsoft can tell: reachable, signed in, each mailbox open."""
    account = Account(config)
    results = [_tried("graph", lambda: _reach(account))]
    results.append(_tried("token", lambda: _token(account)))
    if results[-1].mark == OK and config.permissions == "full":
        results += [
            _tried(mailbox.username, lambda mailbox=mailbox: _mailbox(config, account, mailbox))
            for mailbox in config.mailboxes
        ]
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
            return Result(WARNING, "certificate", "None is set: passwords of devices cross the network unencrypted.")
        return "none is set; no password is taken from the network"
    cert, key = config.tls.tls_cert, config.tls.tls_key
    if cert == "auto":
        cert = key = autocert.path_in(config.state_dir)
        if not os.path.exists(cert):
            return "a self-signed one is made at the first start"
    tls.server_context(cert, key, "TLSv1.2")
    days = certificate_days(cert)
    if days < 0:
        raise ConfigError(expiry_sentence(cert, days))
    if days < CERTIFICATE_DAYS:
        return Result(WARNING, "certificate", expiry_sentence(cert, days))
    return f"{cert}, valid for another {days} days"


def _state(config: Config) -> str:
    files.make_directory(config.state_dir)
    free = files.free_bytes(config.state_dir) // (1024 * 1024)
    if free < config.queue.min_free_mb:
        raise ConfigError(f"Only {free} MB are free for {config.state_dir}; queue.min_free_mb refuses mail below "
                          f"{config.queue.min_free_mb}. Make room.")
    return f"{config.state_dir} can be written, {free} MB free"


def _log(config: Config) -> str:
    if not config.logging.file:
        return "goes to the standard error output"
    log.check_file(config.logging.file)
    return f"{config.logging.file} can be written"


def _port(wanted: Any, dropped_root: bool) -> Union[Result, str]:
    from .server import bind_error

    family = socket.AF_INET6 if ":" in wanted.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        if os.name == "posix":
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((wanted.address, wanted.port))
        except OSError as error:
            if dropped_root and error.errno == errno.EACCES:
                return Result(WARNING, "port", f"{wanted.protocol} {wanted.address}:{wanted.port} cannot be tried by "
                              "this user; the service may open it by its unit.")
            raise bind_error(error, wanted.address, wanted.port) from None
    return f"{wanted.protocol} {wanted.address}:{wanted.port} is free"


def _sign_in(config: Config) -> Union[Result, str]:
    state = Account(config).tokens.state()
    if config.client_certificate:
        registration.private_key(config.client_certificate.private_key)
    if config.client_secret or config.client_certificate:
        return "by the app registration itself"
    if state.get("error"):
        return Result(WRONG, "sign-in", state["error"], 77)
    if not state.get("user"):
        return Result(WRONG, "sign-in", "Nobody is signed in. Run `m365proxy login`.", 77)
    return f"stored for {state['user']}"


def _reach(account: Account) -> str:
    account.graph.check_reachable()
    skew = account.graph.skew
    if abs(skew) > 300:
        raise ConfigError(f"This machine's clock is {abs(skew):.0f} s off Microsoft's. Set it, or let NTP do it.")
    return f"{account.graph.host} answers"


def _token(account: Account) -> str:
    account.tokens.renew()  # a stored token would say nothing of a sign-in that was revoked since
    return f"Microsoft has just renewed the sign-in of {account.graph.user or 'the app'}"


def _mailbox(config: Config, account: Account, mailbox: Any) -> Union[Result, str]:
    address = mailbox.username
    try:
        account.graph.read("GET", address, "/mailFolders/inbox", params={"$select": "id"}).close()
    except Refused as error:
        answer = error.answer
        verdict = outcome.of_answer(answer.status, answer.code, True, mailbox=address, user=account.graph.user,
                                    host=account.graph.host)
        read = refusals.sentence(refusals.READ, http=answer.status, code=answer.code, mailbox=address,
                                 user=account.graph.user, app=account.graph.app)
        if verdict.status not in _EXIT_STATUS:
            return Result(WRONG, address, str(error), 69)
        sentence = read
        if answer.status == 403 and not _is_read(config, mailbox):
            return Result(WARNING, address, "Its inbox cannot be opened. Sending needs no more than the right to send "
                          f"as {address}; for anything else: {sentence}")
        return Result(WRONG, address, sentence, _EXIT_STATUS[verdict.status])
    return "its inbox can be opened"


def _is_read(config: Config, mailbox: Any) -> bool:
    """Whether anything but sending is done in a mailbox: POP3, or the removal of old copies."""
    has_pop3 = "pop3" in mailbox.services and any(wanted.protocol == "pop3" for wanted in config.listeners)
    return has_pop3 or mailbox.sent_items is not None
