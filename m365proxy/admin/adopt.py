"""`adopt`: what is another machine's, or another installation's, becomes this one's."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from typing import Counter as CounterOf
from typing import Iterator, List, Mapping, Optional

from ..account import installation, spool_of
from ..config.sections import Config
from ..errors import CannotCreate, OtherMachine, UsageError
from ..spool.adoption import Adoption
from ..spool.spool import Spool, mailbox_tag, tag_of
from ..spool.state import Entry, Phase, Place
from ..system import adopted, control, files, log, machines
from ..system.adopted import Progress
from ..system.machineid import this_machine
from .running import at_rest

# What some messages could not be taken over for: the disk that they are on.
_DISK = 74


def adopt_machine(config: Config, environ: Mapping[str, str]) -> Optional[int]:
    """Let this machine use the state directory, whosever it was; InUse (75) while a program runs on it."""
    machine = this_machine(environ)
    files.make_directory(config.state_dir)
    with files.locked(os.path.join(config.state_dir, "lock"), seconds=0.0):
        machines.note(config.state_dir, machine)
    print(
        f"{config.state_dir} belongs to this machine ({machine.host}) now. Start m365proxy here, and never again on a "
        "machine that has a copy of it."
    )
    return None


def adopt_queue(config: Config, directory: str, environ: Mapping[str, str]) -> Optional[int]:
    """Take over the queue in the state directory of an installation that is gone for good; running or not.

    InUse (75) if something runs there; 74 if some of its messages cannot be read.
    """
    state_dir = config.state_dir
    machines.check(state_dir, this_machine(environ))
    adopted.check_not_retired(state_dir)
    _check_place(state_dir, directory)
    # If nothing runs here, nothing starts before the end: it would find what is told it below by itself, too.
    with files.locked(os.path.join(directory, "lock"), seconds=0.0), at_rest(config) as is_at_rest:
        files.make_directory(state_dir)
        mine, owner = installation(state_dir), installation(directory)
        _check_whose(state_dir, directory, mine, owner)
        adopted.retire(directory, mine)
        adopted.note(state_dir, owner, Progress.BEGUN)
        told = _Told(config, is_at_rest)
        moved, left = Adoption(Spool(os.path.join(directory, "queue")), spool_of(config), owner).run(told.note)
        if not left:
            for id in (owner, *adopted.settled(directory)):
                adopted.note(state_dir, id, Progress.DONE)
        told.show(directory, moved, left)
    return _DISK if left else None


def _check_place(state_dir: str, directory: str) -> None:
    if os.path.isdir(state_dir) and os.path.isdir(directory) and os.path.samefile(state_dir, directory):
        raise UsageError(f"{directory} is the state directory of this installation itself.")
    with _readable(directory):
        os.listdir(directory)
        if not os.path.isdir(os.path.join(directory, "queue")):
            raise UsageError(
                f"{directory} is no state directory of m365proxy: it has no queue. It is `state_dir` in the config of "
                "the gateway that is gone."
            )


@contextlib.contextmanager
def _readable(directory: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"There is no directory {directory}.") from None
    except PermissionError:
        raise CannotCreate(
            f"{directory} cannot be read by the user that m365proxy runs as. Make that user its owner, with all in it: "
            f"`chown -R`."
        ) from None


def _check_whose(state_dir: str, directory: str, mine: str, owner: str) -> None:
    by = adopted.retired_by(directory)
    if mine == owner:
        raise OtherMachine(
            f"{directory} is a copy of the state directory of this installation: what waits there may have been sent "
            "from here. It is left as it is."
        )
    if by and by != mine:
        raise OtherMachine(f"The queue in {directory} was taken over by another gateway. Run the command there again.")
    if not by and owner in adopted.adopted(state_dir):
        raise OtherMachine(
            f"{directory} is a copy of a state directory that was taken over before: what waits there may have been "
            "sent already. It is left as it is."
        )


class _Told:
    """What was taken over, and who has to know."""

    def __init__(self, config: Config, is_at_rest: bool):
        self._config = config
        self._is_at_rest = is_at_rest
        self._tags = {mailbox_tag(mailbox.username) for mailbox in config.mailboxes}
        self._kinds: CounterOf[str] = Counter()
        self._strangers = 0

    def note(self, entries: List[Entry]) -> None:
        """These are in the queue now."""
        for entry in entries:
            self._kinds[_kind(entry)] += 1
            self._strangers += tag_of(entry.id) not in self._tags
            if not self._is_at_rest and entry.phase is not Phase.HELD:
                control.request(self._config.state_dir, "adopted", entry.id)

    def show(self, directory: str, moved: int, left: int) -> None:
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self._kinds.items()))
        print(f"Messages taken over from {log.clean(directory)}: {moved}{f' ({kinds})' if kinds else ''}.")
        if self._strangers:
            print(
                f"Of these, {self._strangers} belong to mailboxes that are not in the config. They wait until the "
                "mailbox is there; see `m365proxy queue list`."
            )
        if left:
            print(
                f"{left} could not be read, and stay there: the log above says why. Repair the disk, then run the "
                "command again."
            )
        else:
            print(
                "Drafts that nothing needs are removed from the mailboxes within a day. Nothing runs on that directory "
                "any more; it may be deleted."
            )
        if moved and self._is_at_rest:
            print("m365proxy is not running. It sends mail when it is started.")


def _kind(entry: Entry) -> str:
    if entry.place is Place.FAILED:
        return "failed"
    return {Phase.POSTING: "to be looked for", Phase.HELD: "held"}.get(entry.phase, "waiting")
