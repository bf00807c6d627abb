"""docs/first-mail.md: made of what a terminal showed, and compared with what it shows now."""

import difflib
import re
import textwrap
from typing import List, NamedTuple

# What differs from one time to the next, and what stands for it in a comparison.  The order matters.
VARIES = (
    (r"(?m)^[ █]*█[ █]*\n", ""),  # the code in large letters
    (r"(?m)^  [0-9A-F]{9}$", "CODE"),
    (r"(?m)^ +(?:\d+\.\d\d s )?✓", "✓"),  # a step that was over before somebody looked has no time
    (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "GUID"),
    (r"\b\d{8}T\d{6}-[0-9a-f]+-[0-9a-f]+\b", "QUEUE-ID"),
    (r"\b\d{4}-\d\d-\d\d\b", "DATE"),
    (r"\b\d\d?:\d\d\b", "M:SS"),
    (r"\b\d+(?:\.\d+)? (s|ms|MB|GB|days?)\b", r"N \1"),
    (r"\bpid \d+", "pid N"),
    (r"\b[a-z0-9]{16}\b", "PASSWORD"),
)

_ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")

# Written elsewhere, between saving and restoring the cursor's place: apt's bar at the bottom.
_ELSEWHERE = re.compile(r"\x1b7.*?\x1b8", re.DOTALL)

# Above and below what the terminal showed, by the step's title; each paragraph is one line here.
_BEFORE = {
    "Install": "On a fresh Debian, which has not even Python. The libraries come from Debian.",
    "Answer the questions": (
        "Enter takes the answer in brackets; here it is right nearly everywhere. The script is for Azure Cloud Shell "
        "([what it does](tenant.md)), and the last line it prints is the last answer. The card in the middle is for "
        "whoever stands at the printer; `m365proxy card LOGIN` prints it again, without the password."
    ),
    "Sign in": "Somebody opens the address on a phone, types the code, and signs in as the account of the config.",
    "Check": "A line for each thing that must be right, and what to do if it is not.",
    "Send a mail": "It goes the way of a device's mail, and is followed until it has arrived.",
}

_TOP = (
    "Five commands. This page shows what they print, and is made by a test: a script types them at a terminal of a "
    "fresh Debian, where Microsoft's host names lead to a stand-in for Microsoft 365. For every release the test goes "
    "the whole way again, and fails if the page shows anything else, apart from times and what is drawn by lot.",
    "The times count from the first command on and leave out what people and Microsoft need: the script in Cloud Shell "
    "runs for some minutes, and new rights in Exchange take up to two hours to work everywhere. Mail waits until then.",
    "You need a Global Administrator, or both a Cloud Application Administrator and an Exchange Administrator, for the "
    "script; one licensed user who signs in, here `relay@contoso.com`; and this machine, in the devices' network. If a "
    "command shows something else than here, it says what to do; [Troubleshooting](troubleshooting.md) has more, by "
    "the text.",
    "Without the Debian package, [install](install.md) and go on with `init`. With the single file, type "
    "`python3 m365proxy.py` instead of `m365proxy`, and start it with `python3 m365proxy.py run`.",
)

_BOTTOM = """
## And then

- Type what the card says into the device. [Devices](devices.md) has more on each kind.
- `m365proxy init --add-login LOGIN` makes a password for one more device, `m365proxy init --add-mailbox ADDRESS` a
  mailbox.
- `m365proxy status` shows the state of everything, `m365proxy queue list` what waits.
"""


class Step(NamedTuple):
    """A command, what the terminal showed, and the seconds from the first command's start to its end."""

    title: str
    command: str
    screen: str
    ended: float


def plain(output: str) -> str:
    """What a screen shows after this output: no colours, and only the last of what was written in one place."""
    output = _ELSEWHERE.sub("", output)
    rows: List[List[str]] = [[]]
    row = column = place = 0
    while place < len(output):
        escape = _ESCAPE.match(output, place)
        character = output[place]
        place = escape.end() if escape else place + 1
        line = rows[row]
        if escape:
            if escape.group(2) == "K":  # erase to the end of the line
                del line[column:]
        elif character == "\r":
            column = 0
        elif character == "\n":
            row, column = row + 1, 0
            rows.append([])
        elif character >= " ":
            line.extend(" " * (column + 1 - len(line)))
            line[column] = character
            column += 1
    return "\n".join("".join(line).rstrip() for line in rows)


def end_of_installation(screen: str) -> str:
    """Of what apt says, the line about the package itself."""
    return "".join(f"...\n{line}\n" for line in screen.splitlines() if line.startswith("Setting up m365proxy"))


def page(prompt: str, steps: List[Step]) -> str:
    """The page, in Markdown."""
    parts = ["# From install to the first mail\n", *(f"\n{_filled(paragraph)}\n" for paragraph in _TOP)]
    for number, step in enumerate(steps, 1):
        parts += [
            f"\n## {number}. {step.title}\n\n{_filled(_BEFORE[step.title])}\n\n",
            f"```text\n{prompt}{step.command}\n{step.screen.rstrip()}\n```\n\nUntil here: {step.ended:.0f} s.\n",
        ]
    return "".join([*parts, _BOTTOM])


def _filled(paragraph: str) -> str:
    """In lines of 120 columns; what is in backticks stays on one."""
    joined = re.sub(r"`[^`]*`", lambda code: code.group().replace(" ", "\u00a0"), paragraph)
    filled = textwrap.fill(joined, 120, break_long_words=False, break_on_hyphens=False)
    return filled.replace("\u00a0", " ")


def normalised(text: str) -> str:
    """The text without what differs from one time to the next."""
    for pattern, name in VARIES:
        text = re.sub(pattern, name, text)
    return text


def difference(shown: str, now: str) -> str:
    """In which words two pages differ; "" if in none.  Not in which lines: a longer number may move a line's end."""
    page, terminal = (normalised(text).split() for text in (shown, now))
    found = []
    for kind, start, end, start_now, end_now in difflib.SequenceMatcher(None, page, terminal, False).get_opcodes():
        if kind != "equal":
            before, ours, theirs = page[max(0, start - 8) : start], page[start:end], terminal[start_now:end_now]
            found.append(
                f"after {' '.join(before)!r}\n  the page: {' '.join(ours)!r}\n  now:      {' '.join(theirs)!r}"
            )
    return "\n".join(found)
