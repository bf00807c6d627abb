#!/usr/bin/env python3
"""Makes the completion for bash from the command line's parser.

python3 debian/completion.py DIRECTORY
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Iterator, List, NamedTuple

from m365proxy import cli

# What a value is called in the parser if it is the name of a file.
_FILES = ("FILE", "PATH", "DIRECTORY")

_SCRIPT = """\
# Completion of bash for m365proxy; made by debian/completion.py from the program's own parser.

_m365proxy() {
    local cur=${COMP_WORDS[COMP_CWORD]} word path="" value="" words="" options="" files=""
    local -i number
    COMPREPLY=()
    for ((number = 1; number < COMP_CWORD; number++)); do
        word=${COMP_WORDS[number]}
        if [[ $word == "=" ]]; then
            continue # bash takes --option=value apart
        elif [[ -n $value && $word != -* ]]; then
            value=""
            continue
        fi
        value=""
        # A command, or an option with the values that may follow: files, these words, or - for any
        case $path:$word in
%s
        esac
    done
    [[ $cur == "=" ]] && cur=""
    if [[ -n $value && $cur != -* ]]; then
        case $value in
            /file) files=yes ;;
            -) ;;
            *) words=$value ;;
        esac
    else
        case $path in
%s
        esac
    fi
    [[ $cur == -* ]] && words=$options files=""
    if [[ -n $words ]]; then
        while read -r word; do
            COMPREPLY+=("$word")
        done < <(compgen -W "$words" -- "$cur")
    fi
    if [[ -n $files ]]; then
        compopt -o filenames 2>/dev/null
        while read -r word; do
            COMPREPLY+=("$word")
        done < <(compgen -f -- "$cur")
    fi
}

complete -F _m365proxy m365proxy
"""


class Level(NamedTuple):
    """What may follow some commands; `path` is their names, each after a slash."""

    path: str
    words: List[str]
    options: List[str]
    takes_value: List[argparse.Action]
    commands: List[str]
    takes_file: bool


def levels(parser: argparse.ArgumentParser, path: str = "") -> Iterator[Level]:
    """The parser's own level, then those of its commands."""
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    options = [action for action in shown if action.option_strings]
    operands = [action for action in shown if not action.option_strings]
    groups = [action for action in operands if isinstance(action, argparse._SubParsersAction)]
    commands = {name: sub for group in groups for name, sub in group.choices.items()}
    yield Level(
        path,
        list(commands) or [word for action in operands for word in fixed_words(action)],
        [word for action in options for word in action.option_strings if word.startswith("--")],
        [action for action in options if action.nargs != 0],
        list(commands),
        any(is_file(action) for action in operands if action not in groups),
    )
    for name, sub in commands.items():
        yield from levels(sub, f"{path}/{name}")


def fixed_words(action: argparse.Action) -> List[str]:
    """Its choices, or what its name lists in lower case: the `all` of ID|all."""
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    return [word for word in str(action.metavar or "").split("|") if word.islower()]


def is_file(action: argparse.Action) -> bool:
    return str(action.metavar) in _FILES


def script(parser: argparse.ArgumentParser) -> str:
    before, after = [], []
    for level in levels(parser):
        for action in level.takes_value:
            patterns = " | ".join(f"{level.path}:{word}" for word in action.option_strings)
            value = "/file" if is_file(action) else " ".join(map(str, action.choices or ["-"]))
            before.append(f'            {patterns}) value="{value}" ;;')
        for name in level.commands:
            before.append(f"            {level.path}:{name}) path={level.path}/{name} ;;")
        files = " files=yes" if level.takes_file else ""
        words, options = " ".join(level.words), " ".join(level.options)
        after.append(f'            "{level.path}") words="{words}" options="{options}"{files} ;;')
    return _SCRIPT % ("\n".join(before), "\n".join(after))


def main(directory: str) -> None:
    target = pathlib.Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    (target / "m365proxy").write_text(script(cli.parser()), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
