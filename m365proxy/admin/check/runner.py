"""The stages of `check`, in the order in which problems are to be solved."""

from __future__ import annotations

import logging
from typing import Callable, Dict, Iterable, Iterator, NamedTuple, Tuple

from ...errors import ProxyError
from ...system import log
from ..terminal import Mark
from . import certificate, machine, mailboxes, network, ports, signin
from .result import Group, Result, of_error
from .subject import Subject


class Stage(NamedTuple):
    """One thing to look at.  It is skipped if a stage that it `needs` went wrong, or, if `online`, without network."""

    name: str
    group: Group
    test: Callable[[Subject], Iterable[Result]]
    needs: Tuple[str, ...] = ()
    online: bool = False


STAGES = (
    Stage("config", Group.MACHINE, machine.config),
    Stage("certificate", Group.MACHINE, certificate.certificate),
    Stage("files", Group.MACHINE, machine.rights),
    Stage("machine", Group.MACHINE, machine.machine),
    Stage("disk", Group.MACHINE, machine.disk),
    Stage("log", Group.MACHINE, machine.log_file),
    Stage("notify", Group.MACHINE, machine.notify),
    Stage("port", Group.MACHINE, ports.ports),
    Stage("clock", Group.MACHINE, machine.clock),
    Stage("dns", Group.MICROSOFT, network.dns, ("config",), True),
    Stage("tcp", Group.MICROSOFT, network.tcp, ("dns",), True),
    Stage("proxy", Group.MICROSOFT, network.proxy, ("tcp",), True),
    Stage("tls", Group.MICROSOFT, network.tls, ("proxy",), True),
    Stage("graph", Group.MICROSOFT, network.graph, ("tls",), True),
    Stage("clock", Group.MICROSOFT, network.clock, ("graph",), True),
    Stage("sign-in", Group.MICROSOFT, signin.stored, ("config",)),
    Stage("token", Group.MICROSOFT, signin.renewed, ("graph", "sign-in"), True),
    Stage("permissions", Group.MICROSOFT, signin.permissions, ("token",), True),
    Stage("mailboxes", Group.MAILBOXES, mailboxes.mailboxes, ("token",), True),
)


def run(subject: Subject, offline: bool = False) -> Iterator[Tuple[Group, Result]]:
    """Each line as soon as it is known; `offline`: nothing that needs Microsoft."""
    failed: Dict[str, str] = {}  # a stage that went wrong or was skipped, and the first cause of it
    for stage in STAGES:
        cause = next((failed[name] for name in stage.needs if name in failed), "")
        if cause or (offline and stage.online):
            failed.setdefault(stage.name, cause)
            why = f"skipped, because {cause} failed" if cause else "skipped, as --offline asks"
            yield stage.group, Result(Mark.SKIPPED, stage.name, why)
            continue
        for result in _lines(stage, subject):
            if result.mark is Mark.WRONG:
                failed.setdefault(stage.name, stage.name)
            yield stage.group, result
    subject.close()


def run_quietly(subject: Subject, offline: bool = False) -> Iterator[Tuple[Group, Result]]:
    """`run`, without errors of the sign-in on standard error: a line says the same."""
    logger = log.get("oauth")
    logger.addFilter(_is_no_error)
    try:
        yield from run(subject, offline)
    finally:
        logger.removeFilter(_is_no_error)


def _is_no_error(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR


def _lines(stage: Stage, subject: Subject) -> Iterator[Result]:
    try:
        yield from stage.test(subject)
    except (ProxyError, OSError) as error:
        yield of_error(stage.name, error)


def exit_status(results: Iterable[Result]) -> int:
    """The exit status of the first line that is wrong; 0 if none is."""
    return next((result.exit_status for result in results if result.exit_status), 0)
