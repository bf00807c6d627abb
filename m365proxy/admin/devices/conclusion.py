"""What to make of the clients that came: proposals are shown, and written if that is wanted."""

from __future__ import annotations

import copy
import sys
import time
from typing import Callable, Dict, List, Sequence, TypeVar

from ...config.restart import needing_restart
from ...config.sections import Config
from ...errors import UsageError
from ...system import control, log
from ...system.choices import Service
from ...system.interfaces import default_gateways
from ..card import entrances
from ..init import configfile, nextsteps, spelling
from ..init.installation import Installation
from ..init.nextsteps import Call
from ..init.questions import Asked, Question
from ..running import is_running, latest_status
from ..terminal import Mark, Terminal
from .observation import Sighting
from .proposals import Proposal, Surroundings, proposals

T = TypeVar("T")

# Seconds within which the program obeys.
_OBEYS = 5.0


class Conclusion:
    """The end of the command."""

    def __init__(self, config: Config, command: str, apply: bool, terminal: Terminal, call: Call):
        """`command`: the words that were typed.  `apply`: write what is proposed; at a terminal each is asked for."""
        self._config = config
        self._command = command
        self._apply = apply
        self._asks = apply and terminal.interactive
        self._terminal = terminal
        self._call = call

    def draw(self, clients: Dict[str, Sighting]) -> None:
        """Say what to do about each client; with `apply`, write it, and make the running program use it."""
        if not clients:
            self._nothing_came()
            return
        installation = Installation.read(self._config.path, self._call.plain(self._command))
        around = Surroundings(installation.before, default_gateways(), self._mailbox_for, self._call, {})
        wanted: List[Proposal] = []
        for client, sighting in clients.items():
            self._terminal.line(self._terminal.bold(log.clean(client)))
            for proposal in self._proposals(client, sighting, around):
                self._mark(Mark.ATTENTION, proposal.sentence)
                if self._takes_over(proposal, installation):
                    wanted.append(proposal)
        self._terminal.line()
        if wanted and self._apply:
            self._write(installation, [one.after for one in wanted if one.after])
        elif self._apply:
            self._say("Nothing was written.")
        elif wanted:
            self._say(
                "Nothing was written. Put into the config what you want, or learn again with --apply, which writes "
                "what it proposes."
            )

    def _proposals(self, client: str, sighting: Sighting, around: Surroundings) -> List[Proposal]:
        if sighting.is_guessing:
            self._mark(
                Mark.WRONG,
                "It tried many user names, as only those do who guess passwords. Nothing is proposed. Find out what it "
                "is, and keep it out (allowed_networks).",
            )
        elif sighting.troubles:
            return proposals(client, sighting.troubles, around)
        elif sighting.messages:
            self._mark(Mark.OK, "Its mail was accepted. There is nothing to set.")
        else:
            self._mark(
                Mark.INFO,
                "It connected, but sent nothing. If it shows an error: is the port on the device the right one, and is "
                "TLS set as this port has it?",
            )
        return []

    def _takes_over(self, proposal: Proposal, installation: Installation) -> bool:
        """Show what a proposal changes, and change it, if that is wanted."""
        if proposal.change is None:
            return False
        for line in proposal.change(copy.deepcopy(installation.document)).splitlines():
            self._terminal.line(f"    {log.clean(line, 10_000)}")
        if self._asks and not self._ask(Question("write", "Write this into the config? (yes or no)", _yes, "yes")):
            return False
        proposal.change(installation.document)
        return True

    def _mailbox_for(self, client: str) -> str:
        """The mailbox of a device that sends without a login; asked if there are several and somebody answers."""
        names = [one.username for one in self._config.mailboxes if Service.SMTP in one.services]
        if len(names) == 1:
            return names[0]
        if not names or not self._asks:
            return ""
        text = f"Which mailbox may {client} send as, if it sends without a login: {', '.join(names)}?"
        return self._ask(Question("mailbox", text, _one_of(names), names[0]))

    def _write(self, installation: Installation, after: Sequence[str]) -> None:
        """Write the config, with a copy of what was there; then make the running program use it."""
        with configfile.undisturbed():
            config = installation.finish(with_script=False)
            new, copies = installation.write()
            for file in new:
                self._mark(Mark.OK, f"Written: {file.path}")
            for path in copies:
                self._mark(Mark.OK, f"Kept as it was: {path}")
        for warning in config.warnings:
            if warning not in installation.before.warnings:
                self._mark(Mark.ATTENTION, warning)
        if needing_restart(installation.before, config) or not is_running(config):
            self._mark(Mark.ATTENTION, nextsteps.of_service(installation.before, config, self._call))
        else:
            self._reload(config.state_dir)
        for sentence in after:
            self._mark(Mark.ATTENTION, sentence)
        self._say("Then try on the device once more.")

    def _reload(self, state_dir: str) -> None:
        """Have the running program use the config, and wait until it does."""
        control.request(state_dir, "reload")
        end = time.monotonic() + _OBEYS
        while control.is_waiting(state_dir, "reload"):
            if time.monotonic() > end:
                self._mark(Mark.ATTENTION, f"The program does not obey. Once it does: `{self._call('reload')}`")
                return
            time.sleep(0.05)
        latest_status(state_dir)  # it writes that after the reload
        self._mark(Mark.OK, "The running program uses it from the next connection on.")

    def _nothing_came(self) -> None:
        """What keeps a device from even getting here."""
        self._say("Nothing came in. Look at these:")
        config = self._config
        networks = entrances.device_networks(config, ())
        ways = entrances.entrances(config, Service.SMTP, networks)
        if ways and all(way.is_local for way in ways):
            self._mark(
                Mark.WRONG,
                f"The program listens for this machine only (bind). `{self._call('init')}` asks from where devices "
                "come; then restart the program.",
            )
        elif ways:
            servers = entrances.servers(ways[0], networks, entrances.certificate(config))
            self._mark(
                Mark.ATTENTION,
                f"The server on the device must be {' or '.join(servers)}, the port {ways[0].port}. "
                f"`{self._call('card')} LOGIN` prints all of it.",
            )
        self._mark(
            Mark.ATTENTION,
            "A firewall on this machine or on the way must let the port through. In a container, the port must be "
            "published.",
        )
        self._mark(Mark.ATTENTION, "The device's own address, mask and gateway must be right. Can it be pinged?")

    def _ask(self, question: "Question[T]") -> T:
        return Asked(self._terminal, sys.stdin).ask(question)

    def _mark(self, mark: Mark, text: str) -> None:
        self._terminal.line(self._terminal.wrap(f"{self._terminal.mark(mark)} {text}"))

    def _say(self, text: str) -> None:
        self._terminal.line(self._terminal.wrap(text))


def _yes(typed: str) -> bool:
    word = typed.strip().lower()
    if word not in ("yes", "y", "no", "n"):
        raise UsageError("Type yes or no.")
    return word.startswith("y")


def _one_of(names: Sequence[str]) -> Callable[[str], str]:
    def read(typed: str) -> str:
        found = spelling.address(typed)
        if found not in names:
            raise UsageError(f"{found} is none of the mailboxes.{spelling.nearest(found, names)}")
        return found

    return read
