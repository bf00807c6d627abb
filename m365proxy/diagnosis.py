"""`check`: one line per thing that must be right, each with what to do."""

from __future__ import annotations

import datetime
import os
import socket
import time
from typing import Any, Callable, List, NamedTuple, Union

from . import autocert, files, tls
from .config import Config
from .daemon import Account
from .delivery import clock_is_plausible
from .errors import ConfigError, ProxyError

OK, WARNING, WRONG = "ok", "warning", "WRONG"

# Days before its end at which a certificate is warned about.
_CERTIFICATE_DAYS = 21


class Result(NamedTuple):
    """One line; `exit_status` is 0 unless the mark is WRONG."""

    mark: str
    name: str
    sentence: str
    exit_status: int = 0


def offline(config: Config, running: bool) -> List[Result]:
    """What can be told without asking Microsoft.  `running`: the program holds its ports already."""
    results = [Result(OK, "config", config.path)]
    results += [Result(WARNING, "config", warning) for warning in config.warnings]
    results.append(_tried("certificate", lambda: _certificate(config)))
    results.append(_tried("state", lambda: _state(config)))
    if not running:
        results += [_tried("port", lambda wanted=wanted: _port(wanted)) for wanted in config.listeners]
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
            _tried(mailbox.username, lambda mailbox=mailbox: _mailbox(account, mailbox.username))
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
        return Result(WARNING, "certificate", "None is set: passwords of devices cross the network unencrypted.")
    cert, key = config.tls.tls_cert, config.tls.tls_key
    if cert == "auto":
        cert = key = autocert.path_in(config.state_dir)
        if not os.path.exists(cert):
            return "a self-signed one is made at the first start"
    tls.server_context(cert, key, "TLSv1.2")
    end = tls.expiry(cert)
    days = (end - datetime.datetime.now(datetime.timezone.utc)).days
    if days < 0:
        raise ConfigError(f"tls.tls_cert: {cert} has expired. Renew it, then `m365proxy reload`.")
    if days < _CERTIFICATE_DAYS:
        return Result(WARNING, "certificate", f"{cert} expires in {days} days.")
    return f"{cert}, valid for another {days} days"


def _state(config: Config) -> str:
    files.make_directory(config.state_dir)
    free = files.free_bytes(config.state_dir) // (1024 * 1024)
    if free < config.queue.min_free_mb:
        raise ConfigError(f"Only {free} MB are free for {config.state_dir}; queue.min_free_mb refuses mail below "
                          f"{config.queue.min_free_mb}. Make room.")
    return f"{config.state_dir} can be written, {free} MB free"


def _port(wanted: Any) -> str:
    from .server import bind_error

    family = socket.AF_INET6 if ":" in wanted.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        if os.name == "posix":
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((wanted.address, wanted.port))
        except OSError as error:
            raise bind_error(error, wanted.address, wanted.port) from None
    return f"{wanted.protocol} {wanted.address}:{wanted.port} is free"


def _sign_in(config: Config) -> Union[Result, str]:
    state = Account(config).tokens.state()
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
    account.tokens.access_token()
    return "Microsoft gives an access token"


def _mailbox(account: Account, mailbox: str) -> str:
    account.graph.read("GET", mailbox, "/mailFolders/inbox", params={"$select": "id"}).close()
    return "its inbox can be opened"
