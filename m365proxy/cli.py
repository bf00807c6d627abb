"""The command line: which command, with which config, and its exit status."""

from __future__ import annotations

import argparse
import difflib
import getpass
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Callable, Dict, List, NoReturn, Optional, Sequence

from . import __version__
from .errors import ConfigError, ProxyError, UsageError
from .system import files, libraries, log, ownprocess, signals

if TYPE_CHECKING:
    from .config.sections import Config

COMMANDS = (
    *("run", "init", "configure", "login", "logout", "check", "status", "queue", "trace", "test", "card", "devices"),
    *("adopt", "hash-password", "reload", "drain", "report", "demo"),
)


class _Parser(argparse.ArgumentParser):
    """argparse with our exit status, and one clear sentence for a mistake."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].upper()}{message[1:]}. See `{self.prog} --help`.")


def parser() -> argparse.ArgumentParser:
    """The commands and their options; the manual page is made from it."""
    top = _Parser(
        prog="m365proxy",
        description="SMTP and POP3 for old devices, relayed over Microsoft Graph.",
        epilog="Exit status: 0 success, 1 attention (status only), 3 not running, 64 wrong usage, 67 a mailbox or a "
        "right in Exchange is missing, 69 Microsoft unreachable or a library missing, 70 unexpected error, 73 a port, "
        "directory or file cannot be opened or made, 74 disk full or failing, 75 already running, port in use, or mail "
        "waiting, 77 sign-in needed, 78 config, certificate or key wrong, or another machine's state directory.",
    )
    top.add_argument(
        "--config",
        metavar="PATH",
        help="config file (default: $M365PROXY_CONFIG, ~/.m365proxy/config.json or /etc/m365proxy.json; "
        "on Windows %%ProgramData%%\\m365proxy\\config.json in place of the last)",
    )
    top.add_argument("--version", action="version", version=f"m365proxy {__version__}")
    top.add_argument("--login", action="store_const", const="login", dest="command", help="the same as `login`")
    commands = top.add_subparsers(dest="named", metavar="COMMAND", parser_class=_Parser)
    _add_run(commands)
    _add_init(commands)
    commands.add_parser("login", help="sign in to Microsoft 365 with a device code")
    commands.add_parser("logout", help="delete the stored sign-in")
    check = commands.add_parser("check", help="check the config, the machine, the sign-in and each mailbox")
    check.add_argument("--offline", action="store_true", help="do not contact Microsoft")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    show = commands.add_parser(
        "status", help="say whether all is well, what to do, and how sign-in, ports, disk, queue and mailboxes stand"
    )
    show.add_argument("--json", action="store_true", help="print one JSON object")
    _add_queue(commands)
    _add_mail(commands)
    card = commands.add_parser(
        "card", help="print what to type into a device: server, port, encryption, user name, From"
    )
    card.add_argument("login", metavar="LOGIN", help="the user name the device is to use, or a mailbox's address")
    devices = commands.add_parser("devices", help="show who connected, what they do, and what to set")
    devices.add_argument("--json", action="store_true", help="print one JSON object")
    devices.add_argument(
        "--learn",
        metavar="SPAN",
        help="for 30m or the like, show what comes in while you try a device, then what to change",
    )
    devices.add_argument(
        "--apply", action="store_true", help="with --learn: write the changes into the config, and reload"
    )
    commands.add_parser("hash-password", help="hash a password for the config")
    commands.add_parser("reload", help="make the running program read its config and certificates again")
    commands.add_parser("drain", help="accept no new mail until a restart, and wait until all that is queued is sent")
    report = commands.add_parser(
        "report", help="print a text for a question in public: versions, config, check, status, last errors, no names"
    )
    report.add_argument("--output", metavar="FILE", type=_given, help="write it to a new file, too")
    demo = commands.add_parser("demo", help="try everything against a built-in stand-in tenant")
    demo.add_argument("--serve", action="store_true", help="keep running and print commands to try")
    return top


def _add_run(commands: "argparse._SubParsersAction[_Parser]") -> None:
    run = commands.add_parser("run", help="receive and deliver mail (the default)")
    run.add_argument(
        "--wait",
        action="store_true",
        help="if the config is still the sample, wait until it is filled in instead of failing (for services)",
    )
    run.add_argument(
        "--standby",
        action="store_true",
        help="if another machine uses the state directory, wait until that ends, and take over",
    )
    run.add_argument(
        "--adopt",
        action="store_true",
        help="let this machine use the state directory of another one, which must never run again beside it",
    )
    adopt = commands.add_parser(
        "adopt",
        help="take over the queue of a gateway that is gone; or let this machine use another one's state directory",
    )
    adopt.add_argument(
        "directory",
        nargs="?",
        type=_given,
        metavar="DIRECTORY",
        help="the state directory of a gateway that will never run again: all its mail is taken into this one's queue",
    )


def _add_init(commands: "argparse._SubParsersAction[_Parser]") -> None:
    init = commands.add_parser(
        "init",
        aliases=["configure"],
        help="ask a few questions, and write a config and the script for the tenant",
    )
    init.add_argument("--answers", metavar="FILE", help="take the answers from a file (JSON; - is standard input)")
    init.add_argument("--print", action="store_true", dest="only_print", help="write nothing, print what would be")
    init.add_argument(
        "--ids", metavar="LINE", help="fill in the ids of the app registration, as the script prints them"
    )
    init.add_argument("--add-mailbox", metavar="ADDRESS", help="add a mailbox")
    init.add_argument("--add-login", metavar="LOGIN", help="add a user name for a device, with a password of its own")
    init.add_argument("--ports", action="store_true", help="ask for the ports only")
    init.add_argument("--tls", action="store_true", help="ask for the certificate only")


def _add_queue(commands: "argparse._SubParsersAction[_Parser]") -> None:
    queue = commands.add_parser("queue", help="show and change the queue")
    actions = queue.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=_Parser)
    listing = actions.add_parser("list", help="list all messages")
    listing.add_argument("--json", action="store_true", help="print one JSON object per line")
    actions.add_parser("show", help="show one message: envelope, state and header").add_argument(
        "id", metavar="ID", help="its ID, or the beginning of it with date and time"
    )
    actions.add_parser("retry", help="send a message now, or all that wait or have failed").add_argument(
        "id", metavar="ID|all"
    )
    actions.add_parser("drop", help="delete a message for good, or all that have failed").add_argument(
        "id", metavar="ID|failed"
    )


def _add_mail(commands: "argparse._SubParsersAction[_Parser]") -> None:
    trace = commands.add_parser("trace", help="tell what became of a message, or of all of an address or client")
    trace.add_argument("what", metavar="WHAT", help="an ID or its beginning, an address, a login or a client's address")
    trace.add_argument("--since", metavar="SPAN", help="nothing older than this: 30m, 2h or 7d")
    trace.add_argument("--json", action="store_true", help="print the events, one JSON object per line")
    test = commands.add_parser("test", help="send a mail as a device would, and follow it to the inbox")
    test.add_argument(
        "--from", metavar="MAILBOX", dest="sender", type=_given, help="mailbox to send from (default: the first)"
    )
    test.add_argument("--to", metavar="ADDR", type=_given, help="recipient (default: the mailbox itself)")
    test.add_argument(
        "--login", metavar="LOGIN", type=_given, help="user name of the device to play (default: any of the mailbox)"
    )
    test.add_argument(
        "--ask-password",
        action="store_true",
        help="log in with the device's own password, asked for or read from a pipe, and not with a one-time password",
    )
    test.add_argument(
        "--notify", action="store_true", help="send a test by each way that warnings take, instead of a mail"
    )


def _given(word: str) -> str:
    """The word, which must not be empty, as a variable of a script is that was never set."""
    if not word.strip():
        raise argparse.ArgumentTypeError("it is empty")
    return word


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command; returns the exit status.  Never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # Mail has characters that an ASCII or Windows console cannot show.
            stream.reconfigure(errors="backslashreplace")
    try:
        words = sys.argv[1:] if argv is None else list(argv)
        if words in ([ownprocess.RENEWAL], [ownprocess.CERTIFICATE]):
            return _answer(words[0])
        arguments = _parse(words)
        if arguments.command == "run":
            arguments.asked = signals.listen()  # before anything that takes time: HUP would kill the program
        status = _commands()[arguments.command](arguments) or 0
        if sys.stdout is not None:
            sys.stdout.flush()  # at the end of Python, a full disk would have another exit status
        return status
    except ConfigError as error:
        for problem in error.problems:
            _complain(problem)
        for line in error.shown:
            _tell(line)
        return error.exit_status
    except ProxyError as error:
        _complain(str(error))
        return error.exit_status
    except ImportError as error:
        _complain(libraries.explain(error))
        return 69
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _has_lost_output()  # its reader left
        return 0
    except OSError as error:
        advice = (
            " Run the command as root or as the user the service runs as." if isinstance(error, PermissionError) else ""
        )
        where = "Standard output" if _has_lost_output() else "The system"
        _complain(f"{error.filename or where}: {error.strerror or error}.{advice}")
        return 74 if error.errno in files.DISK_FAULTS else 73
    except Exception:  # the last resort of the program
        log.setup()
        log.get("cli").exception("unexpected error; please report it with this line")
        return 70


def _answer(word: str) -> int:
    """What the running program starts this one for."""
    if word == ownprocess.RENEWAL:
        from .entra import renewalprocess

        renewalprocess.answer()
    else:
        from .server import certificate

        certificate.answer()
    return 0


def _has_lost_output() -> bool:
    """Whether standard output cannot be written any more; what is left for it is not tried again at the end then."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return True
    return False


def _parse(argv: List[str]) -> argparse.Namespace:
    arguments, rest = parser().parse_known_args(_corrected(argv))
    if rest:
        raise UsageError(f"Unexpected argument {rest[0]}. See `m365proxy --help`.")
    arguments.command = arguments.named or arguments.command or "run"
    return arguments


def _corrected(argv: List[str]) -> List[str]:
    """argv; UsageError, with the nearest name, if it names an unknown command."""
    words = iter(argv)
    for word in words:
        if word == "--config":
            next(words, None)
        elif not word.startswith("-"):
            if word not in COMMANDS:
                near = difflib.get_close_matches(word, COMMANDS, 1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise UsageError(f"There is no command {log.quote(word, 40)}.{hint} See `m365proxy --help`.")
            if any(later.split("=")[0] == "--config" for later in words):
                raise UsageError(f"--config goes before the command: `m365proxy --config PATH {word}`.")
            break
    return argv


def _complain(sentence: str) -> None:
    _tell(f"m365proxy: {sentence}")


def _tell(line: str) -> None:
    """Print to standard error, if that can be written: whether or not, the exit status is the same."""
    try:
        print(line, file=sys.stderr)
    except OSError:
        signals.lose_output(2)  # at the end of Python, what is left for it would change the exit status


def _commands() -> Dict[str, Callable[[argparse.Namespace], Optional[int]]]:
    from .admin import commands

    return {
        "run": _run,
        "init": _init,
        "configure": _init,
        "login": _login,
        "logout": lambda arguments: commands.logout(_config(arguments, owner=True)),
        "check": _check,
        "status": lambda arguments: commands.status(_config(arguments), arguments.json),
        "queue": _queue,
        "trace": _trace,
        "test": _test,
        "card": _card,
        "devices": _devices,
        "adopt": _adopt,
        "hash-password": lambda arguments: commands.hash_password(_ask_password()),
        "reload": lambda arguments: commands.reload(_config(arguments, owner=True)),
        "drain": _drain,
        "report": _report,
        "demo": _demo,
    }


def _config(arguments: argparse.Namespace, owner: bool = False) -> Config:
    """The loaded config; with `owner`, root becomes the owner of the state directory first."""
    from .admin.owner import become_owner
    from .config import load

    loaded = load.load(load.find(arguments.config, os.environ))
    if owner:
        become_owner(loaded.state_dir)
    return loaded


def _login(arguments: argparse.Namespace) -> Optional[int]:
    from .admin import signin

    return signin.login(_config(arguments, owner=True))


def _run(arguments: argparse.Namespace) -> Optional[int]:
    from .admin import commands, standby
    from .config import load
    from .system import systemd

    notifier = systemd.Notifier(os.environ)
    path = load.find(arguments.config, os.environ)
    wait = getattr(arguments, "wait", False)  # `run` is also what happens without any command
    if wait and not commands.wait_for_config(path, notifier, arguments.asked):
        return None
    adopt = getattr(arguments, "adopt", False)
    config = commands.config_to_run(path)
    if not getattr(arguments, "standby", False):
        return commands.run(config, notifier, arguments.asked, adopt)
    turn = standby.wait(config, notifier, arguments.asked)
    if turn is None:
        return None
    # Who has seen another machine hold the lock has its directory, and no copy of it.
    return commands.run(config, notifier, arguments.asked, adopt or turn.has_waited, turn.lock)


def _init(arguments: argparse.Namespace) -> Optional[int]:
    from .admin.init import conversation

    wish = conversation.Wish(**{name: getattr(arguments, name) for name in conversation.Wish._fields})
    return conversation.run(arguments.config, wish)


def _check(arguments: argparse.Namespace) -> Optional[int]:
    from .admin import commands

    try:
        config = _config(arguments)
    except ConfigError as error:
        if arguments.json:
            commands.check_broken(error)
        raise
    return commands.check(config, arguments.offline, arguments.json)


def _queue(arguments: argparse.Namespace) -> Optional[int]:
    from .admin import queue

    config = _config(arguments, owner=True)
    if arguments.action == "list":
        return queue.list_messages(config, arguments.json)
    action = {"show": queue.show, "retry": queue.retry, "drop": queue.drop}[arguments.action]
    return action(config, arguments.id)


def _trace(arguments: argparse.Namespace) -> Optional[int]:
    from .admin import trace

    since = trace.begin_of(arguments.since, time.time()) if arguments.since else 0.0
    return trace.trace(_config(arguments, owner=True), arguments.what, since, arguments.json)


def _test(arguments: argparse.Namespace) -> Optional[int]:
    from .admin import testnotice
    from .admin.terminal import Terminal
    from .admin.testmail import trial

    others = (arguments.sender, arguments.to, arguments.login, arguments.ask_password)
    if arguments.notify and any(others):
        raise UsageError("--notify goes alone: it tests the ways of warnings, and no mailbox.")
    config = _config(arguments, owner=True)
    terminal = Terminal(sys.stdout, os.environ)
    if arguments.notify:
        return testnotice.run(config, terminal)
    ask = _ask_password_of if arguments.ask_password else None
    return trial.run(config, terminal, arguments.sender or "", arguments.to or "", arguments.login or "", ask)


def _card(arguments: argparse.Namespace) -> Optional[int]:
    from .admin.card import card

    card.show(_config(arguments, owner=True), arguments.login)
    return None


def _drain(arguments: argparse.Namespace) -> Optional[int]:
    from .admin import drain

    return drain.drain(_config(arguments, owner=True))


def _report(arguments: argparse.Namespace) -> Optional[int]:
    from .admin.report import report

    return report.report(arguments.config, arguments.output, os.environ)


def _devices(arguments: argparse.Namespace) -> Optional[int]:
    from .admin.devices import learn, table

    if arguments.learn is None:
        if arguments.apply:
            raise UsageError("--apply goes with --learn: `m365proxy devices --learn 30m --apply`.")
        return table.show(_config(arguments, owner=True), arguments.json)
    if arguments.json:
        raise UsageError("--json does not go with --learn.")
    # The config belongs to root, or to whoever else may change it.
    return learn.learn(_config(arguments, owner=not arguments.apply), arguments.learn, arguments.apply)


def _adopt(arguments: argparse.Namespace) -> Optional[int]:
    from .admin import adopt

    config = _config(arguments, owner=True)
    if arguments.directory is None:
        return adopt.adopt_machine(config, os.environ)
    return adopt.adopt_queue(config, os.path.abspath(arguments.directory), os.environ)


def _demo(arguments: argparse.Namespace) -> Optional[int]:
    from .admin import demo

    return demo.run(arguments.serve)


def _ask_password() -> str:
    from .admin import commands, terminal

    if sys.stdin is None:  # started with it closed
        return ""
    if not terminal.is_terminal(sys.stdin):
        return commands.read_password()
    first = _typed("Password: ")
    if first and _typed("Password again: ") != first:
        raise UsageError("The two passwords are different. Run the command again.")
    return first


def _ask_password_of(login: str) -> str:
    from .admin import commands, terminal

    if not terminal.is_terminal(sys.stdin):
        return "" if sys.stdin is None else commands.read_password()
    return _typed(f"Password of {login}: ")


def _typed(prompt: str) -> str:
    """A line that is typed without being shown; "" if the input ends (Ctrl-D)."""
    try:
        return getpass.getpass(prompt)
    except EOFError:
        print(file=sys.stderr)  # the prompt is still on the line
        return ""
