"""A notice: what is said of warnings to those who are to know of them."""

from __future__ import annotations

import json
import socket
import time
from typing import Any, Dict, FrozenSet, List, NamedTuple, Sequence, Tuple

from ..system import log
from ..system.choices import Word
from .findings import DatedFinding

# Things that the text names; the page and `status` show all.
_NAMED = 10

# ... and the JSON: receivers have limits, ntfy one of 128 KiB, Teams one of 28 KiB.
_LISTED = 20

# Characters of one thing, so that all are together below 4,096 octets: the most that ntfy takes.
_LONGEST = 250


class Health(Word):
    """Whether there is something to do, in the words of Uptime Kuma."""

    UP = "up"
    DOWN = "down"


class Notice(NamedTuple):
    """`standing`: all that is to do now.  `over`: what is not any more, each with the time of its end."""

    standing: Tuple[DatedFinding, ...]
    over: Tuple[Tuple[DatedFinding, float], ...] = ()
    is_test: bool = False

    @property
    def keys(self) -> FrozenSet[str]:
        return frozenset(finding["key"] for finding in (*self.standing, *(finding for finding, _ in self.over)))

    @property
    def health(self) -> Health:
        return Health.DOWN if self.standing else Health.UP

    @property
    def title(self) -> str:
        count = len(self.standing)
        what = f"{count} {'thing' if count == 1 else 'things'} to do" if count else "all is well again"
        return f"m365proxy on {socket.gethostname()}: {'this is a test' if self.is_test else what}"

    @property
    def text(self) -> str:
        """Plain text of several lines, without line ends of its own at the end."""
        if self.is_test:
            return "This is what a warning looks like. Nothing is wrong."
        blocks = [
            _block(finding["sentence"], f"since {_moment(finding['since'])}", finding["commands"])
            for finding in self.standing
        ]
        text = "\n".join(_shortened(blocks))
        if self.over:
            ended = [
                _block(finding["sentence"], f"from {_moment(finding['since'])} to {_moment(end)}", ())
                for finding, end in self.over
            ]
            text += ("\n\n" if text else "") + "No more:\n" + "\n".join(_shortened(ended))
        return text

    def as_json(self) -> bytes:
        """For notify_url; docs/monitoring.md describes it.  Slack, Mattermost and others show `text`."""
        title, text = self.title, self.text
        content: Dict[str, Any] = {
            "title": title,
            "message": text,
            "text": f"{title}\n{text}",
            "status": self.health.value,
            "priority": 4 if self.standing else 3,  # of ntfy: high, default
            "count": len(self.standing),
            "findings": [_listed(finding) for finding in self.standing[:_LISTED]],
            "over": [{**_listed(finding), "ended": end} for finding, end in self.over[:_LISTED]],
        }
        return json.dumps(content).encode()


def _listed(finding: DatedFinding) -> Dict[str, Any]:
    return {**finding, "sentence": log.clean(finding["sentence"], 2 * _LONGEST)}


def _block(sentence: str, when: str, commands: Sequence[str]) -> str:
    said = log.clean(f"- {sentence}", _LONGEST) + f" ({when})"
    return "\n".join([said, *(f"  Run: {log.clean(command)}" for command in commands)])


def _shortened(blocks: List[str]) -> List[str]:
    more = len(blocks) - _NAMED
    return blocks[:_NAMED] + ([f"- and {more} more: see `m365proxy status`"] if more > 0 else [])


def _moment(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):  # a clock that was very wrong
        return "an unknown time"
