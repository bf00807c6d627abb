"""What each command does, apart from `demo`.  Prints for people; returns the exit status or None for 0."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import sys
from typing import List, Optional

from ..config import load as configuration
from ..config.sections import Config
from ..errors import CannotCreate, ConfigError, NotRunning, UsageError
from ..logins.passwords import hash_password as hashed
from ..system import files, jsontext, log
from ..system.signals import Asked
from ..system.systemd import Notifier
from . import invocation, packaged
from .owner import become_owner, owner_to_become
from .running import is_running
from .terminal import Mark, Terminal

# Seconds between looks at a config that waits to be filled in.
_CONFIG_SECONDS = 2.0


def config_to_run(path: str) -> Config:
    """The config for `run`, after `become_owner`; CannotCreate if its ports could not be opened then."""
    config = configuration.load(path)
    config = dataclasses.replace(config, warnings=(*config.warnings, *_elsewhere(config)))
    low = [wanted.port for wanted in config.sockets if 0 < wanted.port < _first_free_port()]
    if low and owner_to_become(config.state_dir) is not None:
        raise CannotCreate(
            f"{config.state_dir} does not belong to root, and its owner may not open port {low[0]}. Start the "
            "service instead, which may: `systemctl start m365proxy`."
        )
    become_owner(config.state_dir)
    return config


def _first_free_port() -> int:
    """The lowest port that every user may open; in a container it may be 0."""
    try:
        return int(files.read("/proc/sys/net/ipv4/ip_unprivileged_port_start") or 1024)
    except (OSError, ValueError):
        return 1024


def wait_for_config(path: str, notifier: Notifier, asked: "Asked[str]") -> bool:
    """Return True when the config is not the sample any more and has no mistakes; False if the program is to stop.

    A config that is not the sample at the start is not waited for.  The
    service manager gets "ready" meanwhile: a package that was just installed
    is no failed service.
    """
    seen = _content(path)
    if not _is_sample(seen):
        return True
    log.setup()
    logger = log.get("run")
    notice = (
        f"{path} is not filled in yet: run `m365proxy init`, or put user, tenant_id, client_id and mailboxes there. "
        "It is checked every few seconds; no restart is needed."
    )
    logger.warning("%s", notice)
    notifier.ready("Waiting for its configuration: " + notice)
    while True:
        with contextlib.suppress(queue.Empty):
            if asked.get(timeout=_CONFIG_SECONDS) == "stop":
                return False
        notifier.alive()
        content = _content(path)
        if content == seen:
            continue
        seen = content
        try:
            configuration.load(path)
            return True
        except ConfigError as error:
            for problem in error.problems:
                logger.warning("still waiting: %s", problem)


def _content(path: str) -> bytes:
    """The config's octets; an empty object if there is no file, and b"", which is no sample, if it cannot be read."""
    try:
        return files.read(path) or b"{}"
    except OSError:
        return b""


def _is_sample(content: bytes) -> bool:
    """Whether the two IDs that every config needs are missing, or are the zeros of the sample."""
    try:
        document = jsontext.parse(content)
    except ValueError:
        return False  # a file of the administrator: loading it says what is wrong
    ids = [str(document.get(name) or "") for name in ("tenant_id", "client_id")] if isinstance(document, dict) else []
    return bool(ids) and not "".join(ids).strip("0-")


def run(
    config: Config, notifier: Notifier, asked: "Asked[str]", adopt: bool = False, lock: Optional[files.Lock] = None
) -> Optional[int]:
    """Run until `asked` says "stop", which may be there already; then stop in an orderly way.

    `adopt`, `lock`: see Daemon.
    """
    from ..account import event_log
    from ..daemon import Daemon

    steps = event_log(config)
    log.setup(config.logging.level, config.logging.file or "", config.logging.syslog, steps)
    program = ("sudo " if packaged.is_service() else "") + invocation.program(config.path)
    daemon = Daemon(config, notifier=notifier, asked=asked, event_log=steps, program=program, adopt=adopt, lock=lock)
    daemon.start()
    daemon.serve()
    return None


def _elsewhere(config: Config) -> List[str]:
    """A warning if the state directory comes only from the service manager's environment: commands do not have it."""
    if configuration.load(config.path, {}).state_dir == config.state_dir:
        return []
    return [
        f"the state directory {config.state_dir} comes only from $STATE_DIRECTORY, so commands like `login` and "
        f'`status` use another one; put "state_dir": {json.dumps(config.state_dir)} into {config.path}.'
    ]


def logout(config: Config) -> Optional[int]:
    from ..account import Account

    if Account(config).tokens.logout():
        print("The stored sign-in is deleted. Queued mail waits until somebody runs `m365proxy login`.")
    else:
        print("Nobody was signed in.")
    return None


def check(config: Config, offline: bool, as_json: bool) -> Optional[int]:
    """A line for each check as it comes; the exit status of the first stage that failed."""
    from .check import ports, report, runner, subject

    holders = ports.holders(ports.wanted_by(config))  # root sees more
    dropped_root = become_owner(config.state_dir)
    running = False
    with contextlib.suppress(PermissionError, CannotCreate):  # a line of `check` says that the directory is closed
        running = is_running(config)
    about = subject.Subject(config, running=running, dropped_root=dropped_root, holders=holders)
    lines = []
    shown = None if as_json else report.Report(Terminal(sys.stdout, os.environ), invocation.program(config.path))
    for group, result in runner.run_quietly(about, offline):
        lines.append((group, result))
        if shown:
            shown.add(group, result)
    if shown:
        shown.end()
    else:
        print(report.as_json(lines))
    return runner.exit_status(result for _, result in lines)


def check_broken(error: ConfigError) -> None:
    """The object of `check --json` for a config that cannot be read."""
    from .check import report
    from .check.result import Group, of_text

    checks = [of_text(Mark.WRONG, "config", problem, error.exit_status) for problem in error.problems]
    print(report.as_json([(Group.MACHINE, result) for result in checks]))


def status(config: Config, as_json: bool) -> Optional[int]:
    """How all stands; 1 if there is something to do, 3 if nothing runs."""
    from . import status

    unit = packaged.unit_of(config.path)  # which only root can see
    become_owner(config.state_dir)
    return status.show(config, unit, as_json)


def hash_password(password: str) -> Optional[int]:
    if not password:
        raise UsageError("An empty password cannot be used. Type one, or pipe it in.")
    try:
        password.encode()
    except UnicodeError:  # octets that are no text have become surrogates
        raise _bad_password() from None
    print(hashed(password))
    return None


def read_password() -> str:
    """The password from a pipe."""
    try:
        return sys.stdin.readline().rstrip("\r\n")
    except UnicodeError:
        raise _bad_password() from None


def _bad_password() -> UsageError:
    return UsageError("The password is not valid text. Type it, or pipe it in as UTF-8.")


def reload(config: Config) -> Optional[int]:
    from ..system import control

    if not is_running(config):
        raise NotRunning("m365proxy is not running; it reads its config when it starts.")
    control.request(config.state_dir, "reload")
    print("Reload requested. See the log for the result.")
    return None
