"""The annotated sample configuration, made from the option table."""

from __future__ import annotations

import json
from typing import Iterator

from .options import keys_of


def sample() -> str:
    """The annotated sample configuration, etc/m365proxy.json, with every key of the table."""
    head = (
        "Keys beginning with # are comments. Take the ## away from an example to use it. Paths are relative to "
        "this file."
    )
    return "{\n" + ",\n".join([f'  "#": {json.dumps(head)}', *_entries("", "  ")]) + "\n}\n"


def _entries(section: str, indent: str) -> Iterator[str]:
    """A section's keys, each behind its help; optional sections stand there as "##" examples."""
    for option in keys_of(section):
        yield f"{indent}{json.dumps('#' + option.name)}: {json.dumps(option.help)}"
        mark = "" if option.required or option.default == {} else "##"
        if keys_of(option.path + "[]"):
            inner = ",\n".join(_entries(option.path + "[]", indent + "    "))
            value = f"[\n{indent}  {{\n{inner}\n{indent}  }}\n{indent}]"
        elif keys_of(option.path):
            inner = ",\n".join(_entries(option.path, indent + "  "))
            value = f"{{\n{inner}\n{indent}}}"
        else:
            mark = ""
            value = json.dumps(option.default if option.example is None else option.example)
        yield f"{indent}{json.dumps(mark + option.name)}: {value}"
