"""The last messages on the page, each with its way."""

from __future__ import annotations

from typing import Iterator, Sequence

from ..monitoring import stories
from ..monitoring.stories import Event, Story
from ..spool.overview import accepted_time
from .render import Html, Tone, fill, join, mark, prose

# Of a message that was tried for days, the first and the last steps are shown.
_FIRST, _LAST = 3, 8

# How a message stands after an event.
_STANDINGS = {
    "accepted": ("accepted", Tone.WAIT),
    "delivered": ("sent", Tone.GOOD),
    "deferred": ("waiting", Tone.WAIT),
    "doubtful": ("unknown", Tone.WAIT),
    "held": ("held", Tone.BAD),
    "failed": ("failed", Tone.BAD),
    "reported": ("accepted", Tone.WAIT),
    "retried": ("waiting", Tone.WAIT),
    "dropped": ("deleted", Tone.NONE),
    "removed": ("deleted", Tone.NONE),
}

_NOTE = """<p class="quiet">Where a message is that was sent, Exchange knows: Exchange admin center, Mail flow, Message
trace. Microsoft's support asks for the request-id.</p>"""

_MESSAGE = """<details class="message">
<summary><time>{when}</time> {standing} {who}</summary>
<p><code>{id}</code></p>
<ol>
{steps}
</ol>
</details>"""


def messages(latest: Sequence[Story], program: str) -> Html:
    """A line for each message, which unfolds to its way."""
    if not latest:
        return Html("<p>The event log knows of none yet, or is switched off (logging.events_mb).</p>")
    return join([Html(_NOTE), *(_message(story, program) for story in latest)])


def _message(story: Story, program: str) -> Html:
    word, tone = _STANDINGS.get(story.last["event"], ("", Tone.NONE))
    return fill(
        _MESSAGE,
        when=stories.local(story.events[0]),
        standing=mark(word, tone),
        who=_who(story),
        id=story.id,
        steps=join(_steps(story.events, program)),
    )


def _who(story: Story) -> str:
    if not story.accepted:
        accepted = accepted_time(story.id)
        when = stories.local_time(accepted) if accepted else "earlier"
        return f"of {stories.text(story.last, 'mailbox') or 'a mailbox'}, accepted {when}"
    return f"{stories.text(story.accepted, 'sender') or '<>'} to {stories.recipients(story.accepted)}"


def _steps(events: Sequence[Event], program: str) -> Iterator[Html]:
    left_out = max(0, len(events) - _FIRST - _LAST)
    for place, event in enumerate(events):
        if not _FIRST <= place < _FIRST + left_out:
            yield fill(
                "<li><time>{when}</time> {step}</li>",
                when=stories.local(event),
                step=prose(stories.sentence(event), program),
            )
        elif place == _FIRST:
            yield fill('<li class="quiet">{count} more steps</li>', count=left_out)
