"""A notice: what is said of warnings to those who are to know of them."""

from __future__ import annotations

import itertools
import json
import socket
import time
from typing import Any, Dict, FrozenSet, List, NamedTuple, Sequence, Tuple

from ..system import log
from ..system.choices import Word
from .findings import DatedFinding

# Things that the text names; the page and `status` show all.
_NAMED = 10

# Octets of what is to do and of what is over: the text stays below 4,096, the most that ntfy takes.
_TO_DO, _OVER = 2700, 1200

# ... and of each list in the JSON, which has the text twice: it stays below 28 KiB, the most that Teams takes.
_LIST = 5500

# Characters of one thing.
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
        text = "\n".join(_shortened(blocks, _TO_DO))
        if self.over:
            ended = [
                _block(finding["sentence"], f"from {_moment(finding['since'])} to {_moment(end)}", ())
                for finding, end in self.over
            ]
            text += ("\n\n" if text else "") + "No more:\n" + "\n".join(_shortened(ended, _OVER))
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
            "findings": _fitting([_listed(finding) for finding in self.standing], _LIST),
            "over": _fitting([{**_listed(finding), "ended": end} for finding, end in self.over], _LIST),
        }
        return _json(content)


def _json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _fitting(found: List[Dict[str, Any]], octets: int) -> List[Dict[str, Any]]:
    """As many from the beginning as fit into so many octets of JSON."""
    sizes = itertools.accumulate(len(_json(one)) + len(", ") for one in found)
    return [one for one, end in zip(found, sizes) if end <= octets]


def _listed(finding: DatedFinding) -> Dict[str, Any]:
    return {**finding, "sentence": log.clean(finding["sentence"], 2 * _LONGEST)}


def _block(sentence: str, when: str, commands: Sequence[str]) -> str:
    said = log.clean(f"- {sentence}", _LONGEST) + f" ({when})"
    return "\n".join([said, *(f"  Run: {log.clean(command)}" for command in commands)])


def _shortened(blocks: List[str], octets: int) -> List[str]:
    """At most _NAMED from the beginning, in so many octets; and how many more there are."""
    sizes = itertools.accumulate(len(block.encode()) + len("\n") for block in blocks[:_NAMED])
    shown = [block for block, end in zip(blocks, sizes) if end <= octets]
    more = len(blocks) - len(shown)
    return shown + ([f"- and {more} more: see `m365proxy status`"] if more else [])


def _moment(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):  # a clock that was very wrong
        return "an unknown time"
