"""What each command does, apart from `demo`.  Prints for people; returns the exit status or None for 0."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import queue
import sys
import time
from typing import Any, Callable, Dict, Iterator, List, Optional

from ..config import load as configuration
from ..config.sections import Config
from ..errors import CannotCreate, ConfigError, InUse, NotRunning, UsageError
from ..logins.passwords import hash_password as hashed
from ..spool.envelope import DamagedMessage
from ..spool.spool import Spool
from ..spool.state import Entry, Phase, Place, State
from ..system import files, log, statusfile
from ..system.signals import Asked
from ..system.systemd import Notifier
from . import status as status_view

# Octets of a message's header that `queue show` prints.
_HEADER_SHOWN = 8 * 1024

# Phases in which a message may have been sent.
_DOUBTFUL = (Phase.POSTING, Phase.HELD)

# A message that moves on between our look and our rename is looked for again, so often.
_LOOKS = 5

# Seconds between looks at a config that waits to be filled in.
_CONFIG_SECONDS = 2.0

# What is imported only when it is needed; the owner of the state directory may be unable to read it then.
_IMPORTED_LATER = (
    "m365proxy.daemon",
    "m365proxy.system.control",
    "m365proxy.admin.check",
    "cryptography.fernet",
    "cryptography.x509",
    "cryptography.hazmat.primitives.asymmetric.ec",
    "cryptography.hazmat.primitives.asymmetric.rsa",
    "msal",
    "requests",
    "ctypes",
    "netrc",
    "encodings.ascii",
    "encodings.cp1252",
    "encodings.idna",
    "encodings.latin_1",
    "encodings.punycode",
)


def become_owner(state_dir: str) -> bool:
    """As root: go on as the owner of the state directory, so that no file in it becomes root's; whether so."""
    owner = _owner_to_become(state_dir)
    if sys.platform == "win32" or owner is None:
        return False
    for name in _IMPORTED_LATER:
        with contextlib.suppress(ImportError):  # the command may do without
            importlib.import_module(name)
    os.setgroups([owner.st_gid])
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
    return True


def _owner_to_become(state_dir: str) -> Optional[os.stat_result]:
    """The state directory's, if we are root and it belongs to somebody else."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    try:
        owner = os.stat(state_dir)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return owner if owner.st_uid != 0 else None


def config_to_run(path: str) -> Config:
    """The config for `run`, after `become_owner`; CannotCreate if its ports could not be opened then."""
    config = configuration.load(path)
    config = dataclasses.replace(config, warnings=(*config.warnings, *_elsewhere(config)))
    low = [wanted.port for wanted in config.sockets if 0 < wanted.port < _first_free_port()]
    if low and _owner_to_become(config.state_dir) is not None:
        raise CannotCreate(
            f"{config.state_dir} belongs to another user than root, who may not open port {low[0]}. "
            "Start the service instead, which may: `systemctl start m365proxy`."
        )
    become_owner(config.state_dir)
    return config


def _first_free_port() -> int:
    """The lowest port everybody may open; containers allow all of them."""
    try:
        return int(files.read("/proc/sys/net/ipv4/ip_unprivileged_port_start") or 1024)
    except (OSError, ValueError):
        return 1024


def wait_for_config(path: str, notifier: Notifier, asked: "Asked[str]") -> bool:
    """True once the config is no longer the sample: right from the start, or filled in and without mistakes; False
    if the program is to stop.

    The service manager is told that all is well meanwhile: a package that was
    just installed is no failed service.
    """
    seen = _content(path)
    if not _is_sample(seen):
        return True
    log.setup()
    logger = log.get("run")
    told = (
        f"{path} is not filled in yet: put user, tenant_id, client_id and the mailboxes there. "
        "It is looked at every few seconds; no restart is needed."
    )
    logger.warning("%s", told)
    notifier.ready("Waits for its configuration: " + told)
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
    """The config's octets; as good as empty if it is not there, as good as somebody's own if it cannot be read."""
    try:
        return files.read(path) or b"{}"
    except OSError:
        return b""


def _is_sample(content: bytes) -> bool:
    """Whether the two IDs that nobody can do without are missing or still the sample's zeros."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return False  # somebody's own file: loading it says what is wrong
    ids = [str(document.get(name) or "") for name in ("tenant_id", "client_id")] if isinstance(document, dict) else []
    return bool(ids) and not "".join(ids).strip("0-")


def run(config: Config, notifier: Notifier, asked: "Asked[str]") -> Optional[int]:
    """Until `asked` says "stop", which it may have done already: then what is begun ends orderly."""
    from ..daemon import Daemon

    log.setup(config.logging.level, config.logging.file or "", config.logging.syslog)
    daemon = Daemon(config, notifier=notifier, asked=asked)
    daemon.start()
    daemon.serve()
    return None


def _elsewhere(config: Config) -> List[str]:
    """A warning if only the service manager's environment tells where the state is: commands do not have that."""
    if configuration.load(config.path, {}).state_dir == config.state_dir:
        return []
    return [
        f"the state directory is {config.state_dir} because of $STATE_DIRECTORY only, so commands like `login` and "
        f'`status` use another one; put "state_dir": {json.dumps(config.state_dir)} into {config.path}.'
    ]


def login(config: Config) -> Optional[int]:
    from ..account import Account

    files.make_directory(config.state_dir)
    account = Account(config)
    if config.client_secret or config.client_certificate:
        print("No sign-in is needed: the app registration's own secret or certificate is used.")
        return None
    user = account.tokens.login(lambda text: print(text, flush=True))
    print(f"Signed in as {user}.")
    return None


def logout(config: Config) -> Optional[int]:
    from ..account import Account

    if Account(config).tokens.logout():
        print("The sign-in is forgotten. Queued mail waits until somebody runs `m365proxy login`.")
    else:
        print("Nobody was signed in.")
    return None


def check(config: Config, offline: bool, as_json: bool) -> Optional[int]:
    """One line per check; the exit status of the first stage that failed."""
    from . import check as diagnosis

    dropped_root = become_owner(config.state_dir)
    results = diagnosis.offline(config, is_running(config), dropped_root)
    results += [] if offline else diagnosis.online(config)
    exit_status = diagnosis.exit_status(results)
    if as_json:
        _print_checks([result._asdict() for result in results], exit_status)
    else:
        for result in results:
            print(f"{result.mark:<7} {result.name}: {result.sentence}")
    return exit_status


def check_broken(error: ConfigError) -> None:
    """The object of `check --json` for a config that cannot be read."""
    checks = [
        {"mark": "WRONG", "name": "config", "sentence": problem, "exit_status": error.exit_status}
        for problem in error.problems
    ]
    _print_checks(checks, error.exit_status)


def _print_checks(checks: List[Dict[str, Any]], exit_status: int) -> None:
    print(json.dumps({"ok": exit_status == 0, "exit_status": exit_status, "checks": checks}, indent=1))


def status(config: Config, as_json: bool) -> Optional[int]:
    """How the running program, the queue and the sign-in stand; 3 if nothing runs."""
    from ..account import Account, spool_of

    told = statusfile.read(config.state_dir)
    told["running"] = is_running(config)
    if not told["running"]:
        told["sign_in"] = Account(config).tokens.state()
        told["listeners"] = []
    told["queue"] = status_view.queue(spool_of(config), time.time()) if _has_queue(config) else _EMPTY_QUEUE
    print(json.dumps(told, indent=1) if as_json else status_view.render(told, time.time()))
    return None if told["running"] else NotRunning.exit_status


_EMPTY_QUEUE = {"waiting": 0, "sending": 0, "held": 0, "failed": 0, "oldest_seconds": 0}


def is_running(config: Config) -> bool:
    """Whether a program holds the state directory."""
    with _at_rest(config) as at_rest:
        return not at_rest


@contextlib.contextmanager
def _at_rest(config: Config) -> Iterator[bool]:
    """Whether no program runs; if so, none can start before the end of the block."""
    path = os.path.join(config.state_dir, "lock")
    if not os.path.exists(path):
        yield True
        return
    lock = files.Lock(path)
    try:
        lock.acquire()
    except InUse:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _has_queue(config: Config) -> bool:
    return os.path.isdir(os.path.join(config.state_dir, "queue", "new"))


def queue_list(config: Config, as_json: bool) -> Optional[int]:
    from ..account import spool_of

    spool = spool_of(config)
    entries = sorted(spool.entries(), key=lambda entry: entry.id) if _has_queue(config) else []
    for entry in entries:
        told = _told(spool, entry)
        if told is None:
            continue  # it moved on while we looked
        print(json.dumps(told) if as_json else _line(told))
    if not entries and not as_json:
        print("The queue is empty.")
    return None


def _told(spool: Spool, entry: Entry) -> Optional[Dict[str, Any]]:
    """One message as `queue` shows it; None if it is gone meanwhile."""
    told: Dict[str, Any] = {"id": entry.id, "state": _state_word(entry)}
    try:
        envelope, file = spool.open(entry)
        with file:
            told["size"] = os.fstat(file.fileno()).st_size - file.tell()
        told.update(
            mailbox=envelope.mailbox,
            sender=envelope.sender,
            recipients=list(envelope.recipients),
            client=envelope.client,
            kind=envelope.kind,
        )
    except DamagedMessage as error:
        told["error"] = str(error)
    except FileNotFoundError:
        return None
    state = spool.state(entry.id)
    if state is not None:
        told.update(
            attempts=state.attempts,
            due=state.due,
            error=state.error,
            code=state.code,
            request_id=state.request_id,
            message_id=state.message_id,
        )
    told["age_seconds"] = max(0, int(time.time() - status_view.accepted_time(entry.id)))
    return told


def _state_word(entry: Entry) -> str:
    if entry.place is Place.CUR:
        return "held" if entry.phase is Phase.HELD else "sending"
    return "waiting" if entry.place is Place.NEW else "failed"


def _line(told: Dict[str, Any]) -> str:
    recipients: List[str] = told.get("recipients", [])
    more = f" and {len(recipients) - 1} more" if len(recipients) > 1 else ""
    line = (
        f"{told['id']}  {told['state']:<7}  {status_view.ago(told['age_seconds']):>7}  "
        f"{told.get('size', 0):>9}  {log.clean(told.get('mailbox', '?'))} -> "
        f"{log.clean(recipients[0] if recipients else '?')}{more}"
    )
    return line + (f"\n    {log.clean(told['error'], 500)}" if told.get("error") else "")


def queue_show(config: Config, id: str) -> Optional[int]:
    from ..account import spool_of

    spool = spool_of(config)
    entry = _entry(config, spool, id)
    told = _told(spool, entry)
    if told is None:
        raise _moved_on(id)
    for name, value in told.items():
        if value not in ("", [], 0, 0.0):
            shown = ", ".join(value) if isinstance(value, list) else value
            print(f"{name.replace('_', ' ') + ':':<13} {log.clean(shown, 2000)}")
    print(f"{'file:':<13} {spool.path(entry)}\n")
    _print_header(spool, entry)
    return None


def queue_retry(config: Config, id: str) -> Optional[int]:
    """Send a message now, whatever it waits for: one by its id, or "all" that wait or failed."""
    from ..account import spool_of

    spool = spool_of(config)
    if id == "all":
        _retry_all(config, spool)
    else:
        entry, _ = _take(config, spool, id, spool.requeue)
        _tell_queued(config, id)
        doubt = " It may have been sent before: then it arrives twice." if entry.phase in _DOUBTFUL else ""
        print(f"{id} is tried again.{doubt}")
    if not is_running(config):
        print("m365proxy is not running; it sends when it is started.")
    return None


def _retry_all(config: Config, spool: Spool) -> None:
    tried = held = 0
    for entry in list(spool.entries()) if _has_queue(config) else ():
        held += entry.phase is Phase.HELD
        state = spool.state(entry.id) if entry.place is Place.NEW else None
        if entry.place is Place.FAILED or (state is not None and state.due > time.time()):
            with contextlib.suppress(UsageError, InUse):  # it has moved on by itself
                _take(config, spool, entry.id, spool.requeue)
                _tell_queued(config, entry.id)
                tried += 1
    print(f"{tried} waiting or failed messages are tried again." if tried else "No message waits for a later time.")
    if held:
        print(
            f"{held} held ones are left alone, because they may have been sent: see `m365proxy queue list`, then "
            "retry or drop each by its ID."
        )


def _tell_queued(config: Config, id: str) -> None:
    from ..system import control

    if is_running(config):
        control.tell(config.state_dir, "queued", id)


def queue_drop(config: Config, id: str) -> Optional[int]:
    """Remove a message for good."""
    from ..account import spool_of

    spool = spool_of(config)
    entry, state = _take(config, spool, id, spool.drop)
    print(f"{id} is removed.")
    if entry.phase in _DOUBTFUL:
        print("It may have been sent all the same: see Sent Items of its mailbox.")
    if state.draft is not None and state.draft.id:
        print(f"A draft of it may remain in Drafts of {log.clean(state.draft.mailbox)}.")
    return None


def _take(config: Config, spool: Spool, id: str, action: Callable[[Entry], None]) -> "tuple[Entry, State]":
    """Do something to a message nobody is sending; what it was before.

    UsageError if there is no such message, InUse (75) if it is being sent.
    """
    for _ in range(_LOOKS):
        entry = _entry(config, spool, id)
        with _at_rest(config) as at_rest:
            if entry.phase in (Phase.CLAIMED, Phase.POSTING) and not at_rest:
                raise InUse(f"{id} is being sent just now. See what became of it: `m365proxy queue show {id}`.")
            state = spool.state(id) or State()
            try:
                action(entry)
            except FileNotFoundError:
                continue
        return entry, state
    raise _moved_on(id)


def _entry(config: Config, spool: Spool, id: str) -> Entry:
    """Where a message is; UsageError if it is nowhere."""
    entry = spool.find(id) if _has_queue(config) and _is_id(id) else None
    if entry is None:
        raise UsageError(f"There is no message {log.quote(id, 60)} in the queue. `m365proxy queue list` shows all.")
    return entry


def _moved_on(id: str) -> InUse:
    return InUse(f"{id} has just moved on. `m365proxy queue list` shows where it is; it is not there once it is sent.")


def _is_id(id: str) -> bool:
    """Ids come from people: nothing that leads out of the queue's directories."""
    return bool(id) and not set(id) & set("/\\.") and id.isprintable()


def _print_header(spool: Spool, entry: Entry) -> None:
    try:
        _, file = spool.open(entry)
    except (DamagedMessage, FileNotFoundError):
        return
    with file:
        for line in file.read(_HEADER_SHOWN).splitlines():
            if not line:
                return
            print(log.clean(line, 1000))


def hash_password(password: str) -> Optional[int]:
    if not password:
        raise UsageError("An empty password cannot be used. Type one, or pipe it in.")
    try:
        password.encode()
    except UnicodeError:  # octets Python could not read stand there as surrogates
        raise _bad_password() from None
    print(hashed(password))
    return None


def read_password() -> str:
    """The password that is piped in."""
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
    control.tell(config.state_dir, "reload")
    print("Asked. What changed, or why not, stands in the log.")
    return None
