#!/usr/bin/env python3
"""Makes m365proxy.1 and m365proxy.json.5 from the command line's parser and the option table.

python3 debian/manpages.py DIRECTORY
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import re
import sys
from typing import Iterator

from m365proxy import __version__, cli
from m365proxy.admin.init.interview import KEYS
from m365proxy.config import options
from m365proxy.config.option import Option

_HEADLINES = {
    "user": "The account and the app registration",
    "mailboxes": "The mailboxes",
    "bind": "Where it listens",
    "plaintext_networks": "Access",
    "queue": "Behaviour",
}

_EXIT_STATUS = (
    (0, "Success."),
    (3, "status, reload, drain: m365proxy is not running."),
    (64, "The command line is wrong."),
    (67, "A mailbox, or a right in Exchange, is missing."),
    (69, "Microsoft cannot be reached, or a library is missing."),
    (70, "An unexpected error; please report it."),
    (73, "A port, directory or file cannot be opened or made."),
    (74, "The disk is full or failing."),
    (75, "Already running, or a port is in use."),
    (77, "A sign-in is needed; run never ends with this status."),
    (78, "The config, a certificate or a key is wrong, or the state directory is another machine's."),
)

_FILES = (
    ("/etc/m365proxy.json", "The config; see m365proxy.json(5)."),
    (
        "/etc/m365proxy/NAME.json",
        "The config of the service m365proxy@NAME: one for each further tenant, with the state directory "
        "/var/lib/m365proxy/NAME.",
    ),
    ("/var/log/m365proxy", "Where the packaged services may write a log file (logging.file)."),
    (
        "/var/lib/m365proxy",
        "State directory of the packaged service: the sign-in, encrypted (tokens.enc, "
        "token.key), the queue (queue/), and the data for status (status.json).",
    ),
    ("~/.m365proxy", "State directory if m365proxy runs as an ordinary user; the config is config.json there."),
)

_ENVIRONMENT = (
    ("M365PROXY_CONFIG", "The config file, unless --config is given."),
    ("STATE_DIRECTORY", "The state directory, unless the config names one."),
    (
        "M365PROXY_MACHINE",
        "The name of this machine, if it has no identity of its own, as containers: a copied state directory is "
        "noticed by it.",
    ),
    ("HTTPS_PROXY, NO_PROXY", "The proxy for connections to Microsoft, unless the config names one."),
    ("REQUESTS_CA_BUNDLE, SSL_CERT_FILE", "Certificates to trust, unless the config has ca_file."),
)

_SIGNALS = (
    ("TERM, INT", "Stop in an orderly way, within 10 seconds."),
    ("HUP", "Read config and certificates again."),
    ("USR1", "Try all waiting mail now."),
)


def roff(text: str) -> str:
    """Text as roff shows it unchanged."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "\\(ga")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def title(name: str, section: int, heading: str) -> str:
    # The day of the last change, so that a build can be repeated
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    day = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).date() if seconds else ""
    return f'.TH {roff(name)} {section} "{day}" "m365proxy {__version__}" "{heading}"\n'


def listed(pairs: object) -> Iterator[str]:
    for name, text in pairs:
        yield f".TP\n.B {roff(str(name))}\n{roff(text)}\n"


def synopsis(action: argparse.Action) -> str:
    words = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    return f"{words} {action.metavar}" if action.option_strings and action.metavar else words


def commands(parser: argparse.ArgumentParser, prefix: str = "") -> Iterator[str]:
    """Each command with its own options below it, down to the last subcommand."""
    for group in parser._actions:
        if not isinstance(group, argparse._SubParsersAction):
            continue
        helps = {choice.dest: choice.help or "" for choice in group._choices_actions}
        for name, sub in group.choices.items():
            if name not in helps:  # a second name of a command
                first = next(one for one, other in group.choices.items() if other is sub)
                yield f".TP\n.B {roff(prefix + name)}\n{roff(f'The same as {prefix}{first}.')}\n"
                continue
            arguments = [action for action in sub._actions if not isinstance(action, argparse._HelpAction)]
            flags = [action for action in arguments if action.option_strings]
            operands = [
                action
                for action in arguments
                if not action.option_strings and not isinstance(action, argparse._SubParsersAction)
            ]
            if any(isinstance(action, argparse._SubParsersAction) for action in arguments):
                yield from commands(sub, f"{prefix}{name} ")
                continue
            usage = " ".join(
                [
                    prefix + name,
                    *(f"[{synopsis(action)}]" for action in flags),
                    *(synopsis(action) for action in operands),
                ]
            )
            yield f".TP\n.B {roff(usage)}\n{roff(sentence(helps[name]))}\n"
            for action in flags:
                yield f".RS\n.TP\n.B {roff(synopsis(action))}\n{roff(sentence(action.help or ''))}\n.RE\n"


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def command_page() -> str:
    parser = cli.parser()
    flags = [
        action for action in parser._actions if action.option_strings and not isinstance(action, argparse._HelpAction)
    ]
    return "".join(
        [
            title("M365PROXY", 1, "User Commands"),
            ".SH NAME\nm365proxy \\- SMTP and POP3 for old devices, relayed over Microsoft Graph\n",
            ".SH SYNOPSIS\n.B m365proxy\n[\\-\\-config \\fIPATH\\fR] [\\fICOMMAND\\fR]\n",
            ".SH DESCRIPTION\n",
            roff(
                "Takes mail by SMTP from devices that support only a user name and a password, stores it safely, "
                "and relays it through one signed-in Microsoft 365 account and shared mailboxes over Microsoft "
                "Graph. Lets old clients fetch those mailboxes by POP3.\n"
            ),
            ".SH OPTIONS\n",
            *listed((synopsis(action), sentence(action.help or "")) for action in flags),
            ".SH COMMANDS\n",
            *commands(parser),
            ".SH ANSWERS\n",
            roff(
                "The file of init --answers holds one JSON object. Values are text, numbers, or lists of them. What is "
                "not in it is as it is in the config or, if there is none, the default.\n"
            ),
            *listed(KEYS.items()),
            ".SH EXIT STATUS\n",
            *listed(_EXIT_STATUS),
            ".SH SIGNALS\n",
            *listed(_SIGNALS),
            ".SH ENVIRONMENT\n",
            *listed(_ENVIRONMENT),
            ".SH FILES\n",
            *listed(_FILES),
            ".SH SEE ALSO\nm365proxy.json(5)\n",
        ]
    )


def config_page() -> str:
    out = [
        title("M365PROXY.JSON", 5, "File Formats"),
        ".SH NAME\nm365proxy.json \\- configuration of m365proxy\n",
        ".SH DESCRIPTION\n",
        roff(
            "The file holds one JSON object. Keys that begin with # are comments. Relative paths are relative to the "
            "file. In the names below a dot separates a section from its keys, and [] means each object of a list. "
            "`m365proxy check --offline` reports all mistakes at once.\n"
        ),
    ]
    for option in options.OPTIONS:
        if option.path in _HEADLINES:
            out.append(f".SH {_HEADLINES[option.path].upper()}\n")
        out.append(f".TP\n.B {roff(option.path)}\n{roff(option.help)}\n.br\n{roff(value_of(option))}\n")
    out.append(".SH EXAMPLE\nA sample with every option is in /usr/share/doc/m365proxy/examples.\n")
    out.append(".SH SEE ALSO\nm365proxy(1)\n")
    return "".join(out)


def value_of(option: Option) -> str:
    """What the key takes, its default, and whether a change needs a restart."""
    if option.required:
        default = "Required."
    elif option.default in (None, {}):
        default = ""
    else:
        default = f"Default: {json.dumps(option.default)}."
    restart = "A change needs a restart." if option.restart else ""
    return " ".join(filter(None, (sentence(option.type.words), default, restart)))


def main(directory: str) -> None:
    target = pathlib.Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    (target / "m365proxy.1").write_text(command_page(), "utf-8")
    (target / "m365proxy.json.5").write_text(config_page(), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
