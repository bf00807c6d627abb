"""What is wrong with a text that is not JSON: the line, the column, and what to change."""

from __future__ import annotations

import json
import re
from typing import Tuple

from .options import OPTIONS

_CURLY = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u00ab\u00bb"
_COMMENT = re.compile(r"//|/\*|#")
_PYTHON = {"True": "true", "False": "false", "None": "null"}
_MISSING = {
    "Expecting value": 'A value is missing: a number, true, false, or a text in double quotes (").',
    "Expecting property name": 'A name in double quotes (") is missing.',
    "Expecting ':'": "A colon (:) is missing before it.",
    "Expecting ','": "A comma or a closing bracket is missing before it.",
}

# A line is shown as far as it certainly holds no secret: keys of the table and their values, except for these.
_SECRET = re.compile(r"pass|secret|key|token|proxy|private|cert", re.IGNORECASE)
_NAME = re.compile(rf"""["'{_CURLY}]?([\w#.@/-]+)["'{_CURLY}]?\s*[:=]""")
_KNOWN = {option.name for option in OPTIONS}
_MASK = "***"

# Characters of a line that are shown.
_WIDTH = 120


def explain(error: json.JSONDecodeError) -> Tuple[str, Tuple[str, ...]]:
    """A sentence that says where and what to do; and the line with a caret below it.

    Secrets in the line are masked; if nothing of it may be shown, it is ().
    """
    position, advice = _advice(error)
    text = error.doc
    start = text.rfind("\n", 0, position) + 1
    line = text[start:].split("\n", 1)[0].rstrip()
    column = position - start
    where = f"line {text.count(chr(10), 0, position) + 1}, column {column + 1}: {advice}"
    # No character of the file may control the terminal.
    shown = "".join(c if c.isprintable() else " " for c in _without_secrets(line)[:_WIDTH])
    if not shown.strip(" *"):
        return where, ()
    return where, (f"    {shown}", f"    {' ' * min(column, len(shown))}^")


def _advice(error: json.JSONDecodeError) -> Tuple[int, str]:
    """The place of the mistake, and probably what to change."""
    text, position = error.doc, error.pos
    found = text[position : position + 1]
    line = text[text.rfind("\n", 0, position) + 1 :].split("\n", 1)[0]
    word = _beginning(r"\w*", text[position:])
    before = text[:position].rstrip()
    if "trailing comma" in error.msg or (found and found in "}]" and before.endswith(",")):
        return text.rfind(",", 0, position + 1), "Remove the comma before the closing bracket."
    if _COMMENT.match(text, position):
        return position, 'JSON knows no comments. Remove it, or make it a key that begins with #: "#note": "text".'
    if found == "'":
        return position, 'Use double quotes (") instead of single ones.'
    if (found and found in _CURLY) or ('"' in line and "control character" in error.msg and set(line) & set(_CURLY)):
        return position, 'Use straight quotes (") instead of curly ones.'
    if word in _PYTHON:
        return position, f"Write {_PYTHON[word]} instead of {word}."
    if "escape" in error.msg:
        return position, r"A backslash stands for itself only when it is doubled: write \\ (or / in a path)."
    if "control character" in error.msg or "Unterminated" in error.msg:
        return position, 'The quote (") at the end of a text is missing.'
    if "',' delimiter" in error.msg and found and found in '"{[':
        return position, "A comma is missing before it."
    if word and error.msg.startswith("Expecting") and "delimiter" not in error.msg:
        return position, 'Put names and texts in double quotes (").'
    if error.msg == "Extra data":
        return position, "Nothing may follow the last closing brace. Remove it, or a brace too many before it."
    if not text.strip():
        return 0, "The file is empty. Fill it in, or remove it and make a new one with `m365proxy init`."
    if not text[position:].strip():
        return position, "The file ends too early. Put in what is missing, at the end a closing brace (})."
    missing = (advice for expected, advice in _MISSING.items() if error.msg.startswith(expected))
    return position, next(missing, f"{error.msg}.")


def _beginning(pattern: str, text: str) -> str:
    """What `pattern` matches at the beginning of `text`."""
    found = re.match(pattern, text)
    return found.group() if found else ""


def _without_secrets(line: str) -> str:
    """The line up to the first thing that may be a secret."""
    names = [name for name in _NAME.finditer(line) if len(name.group(1)) > 1]  # C: is a drive
    end = len(line)
    if not names:
        end = len(_beginning(r"[\s{}\[\],:/*#]*", line))
    elif not re.fullmatch(r"[\s{}\[\],/*#]*", line[: names[0].start()]):
        end = 0
    for name in names:
        if name.group(1).lstrip("#") not in _KNOWN and name.start() < end:
            end = name.start()
    secret = _SECRET.search(line)
    if secret is not None:
        containing = [name for name in names if name.start() <= secret.start() < name.end()]
        end = min(end, containing[0].end() if containing else secret.start())
    return line[:end] + (_MASK if line[end:].strip() else "")
