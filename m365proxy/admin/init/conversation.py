"""`init`: a few questions, then a config and the script for the tenant; later, one change at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sys
from typing import List, NamedTuple, Optional, Sequence

from ...config import load as configuration
from ...config.sections import Config
from ...errors import UsageError
from ...system.choices import Permissions
from .. import running
from ..card import card
from ..terminal import Mark, Terminal
from . import configfile, nextsteps, spelling
from .answers import Answers
from .configfile import NewFile
from .installation import Installation
from .interview import KEYS, Interview
from .nextsteps import Call
from .questions import Asked, Doubt, Given, InputEnded, Question, Questions, read_answers
from .tenantlookup import NoTenant
from .tenantscript import Ids, parse_ids

# Instead of the ids, as long as the script has not run.
_LATER = "later"


class Wish(NamedTuple):
    """What is on the command line.  Without a change, everything is asked.

    answers: a file of answers instead of a terminal.
    only_print: write nothing.
    ids, add_mailbox, add_login, ports, tls: change just this.
    """

    answers: Optional[str] = None
    only_print: bool = False
    ids: Optional[str] = None
    add_mailbox: Optional[str] = None
    add_login: Optional[str] = None
    ports: bool = False
    tls: bool = False

    @property
    def command(self) -> str:
        """The words that were typed, to be typed again."""
        values = (("--ids", self.ids), ("--add-mailbox", self.add_mailbox), ("--add-login", self.add_login))
        words = [word for name, value in values if value is not None for word in (name, value)]
        words += [name for name, is_there in (("--ports", self.ports), ("--tls", self.tls)) if is_there]
        words += ["--answers", self.answers] if self.answers else []
        words += ["--print"] if self.only_print else []
        return " ".join(map(shlex.quote, ["init", *words]))

    @property
    def is_one_change(self) -> bool:
        given = [one is not None for one in (self.ids, self.add_mailbox, self.add_login)]
        return any(given) or self.ports or self.tls


def run(given_path: Optional[str], wish: Wish) -> Optional[int]:
    """Ask, write, and say what comes next."""
    if sys.stdout is None:
        raise UsageError("Standard output is closed, but new passwords are shown there, only once. Open it.")
    path = os.path.abspath(configuration.place(given_path, os.environ))
    call = Call(path, os.environ)
    terminal = Terminal(sys.stdout, os.environ)
    questions = _questions(wish, terminal, call)
    installation = Installation.read(path, call.plain(wish.command))
    if not wish.only_print:
        configfile.check_writable(path, call.plain(wish.command))
    conversation = _Conversation(installation, questions, wish, terminal, call)
    try:
        conversation.hold()
    except KeyboardInterrupt:
        terminal.line()
        terminal.line("Stopped." if conversation.is_written else "Stopped; nothing was written.")
        raise
    except BrokenPipeError:
        if wish.only_print or conversation.is_written:
            raise
        raise OSError(errno.EIO, "nobody reads it, so nothing was written", "Standard output") from None
    return None


def _questions(wish: Wish, terminal: Terminal, call: Call) -> Questions:
    if wish.answers:
        return Given(read_answers(wish.answers), list(KEYS), terminal)
    if terminal.interactive:
        return Asked(terminal, sys.stdin)
    if wish.is_one_change and not wish.tls and not wish.ports:
        return Given({}, list(KEYS), terminal)
    raise UsageError(
        "init asks questions, and there is no terminal to answer them at. Run it in one (`ssh -t`, `docker exec -it`), "
        f"or put the answers into a file: `{call('init --answers FILE')}`."
    )


class _Conversation:
    """One run of the command."""

    def __init__(self, installation: Installation, questions: Questions, wish: Wish, terminal: Terminal, call: Call):
        self._installation = installation
        self._questions = questions
        self._wish = wish
        self._terminal = terminal
        self._call = call
        self._tenants = installation.tenants()
        self._had_ids = installation.has_ids
        self.is_written = False

    def hold(self) -> None:
        """All of it."""
        installation, wish = self._installation, self._wish
        before = installation.present
        if before is None and wish.is_one_change:
            raise UsageError(f"{installation.path} is not set up yet. Begin with `{self._call('init')}`.")
        if not wish.only_print and isinstance(self._questions, Asked):
            self._introduce()
        is_up = before is not None and running.is_running(installation.before)
        ours = [socket.port for socket in installation.before.sockets] if is_up else []
        reads = installation.before.permissions is not Permissions.SEND
        interview = Interview(self._questions, self._tenants, before, ours, reads)
        if before is not None and wish.is_one_change:
            self._change(interview, before)
        else:
            self._take_over(interview.whole())
        if isinstance(self._questions, Given):
            if not wish.is_one_change:
                self._take_ids("")
            self._questions.check_all_used()
        tenant_changed = installation.has_changed_tenant
        after = installation.finish(with_script=tenant_changed or not wish.is_one_change)
        if wish.only_print:
            self._print(after)
            return
        with configfile.undisturbed():
            if not self._write(after):
                self._mark(Mark.OK, f"Nothing changed: {installation.path} is as it was.")
        if isinstance(self._questions, Asked) and not installation.has_ids and installation.has_script:
            try:
                tenant_changed = not self._ask_ids()
            except KeyboardInterrupt:
                self._what_next(after, tenant_changed)
                raise
        self._what_next(after, tenant_changed)

    def _take_over(self, answered: Answers) -> None:
        """All answers; what belongs to another tenant goes."""
        before = self._installation.present
        is_same = not before or not before.tenant or self._tenants.are_same(before.tenant, answered.tenant)
        is_other = is_same is False
        if is_same is None and self._had_ids:
            self._questions.note(
                "The ids stay, as it could not be checked whether they are of this tenant. If they are of another one, "
                f"run the script, and fill in what it prints last: `{self._call('init --ids')} 'LINE'`"
            )
        if is_other and self._had_ids:
            self._questions.note("The ids of the app registration are those of the other tenant; they are taken out.")
        self._installation.amend(answered, is_other_tenant=is_other)

    def _introduce(self) -> None:
        terminal, path = self._terminal, self._installation.path
        if self._wish.is_one_change:
            return
        what = f"{path} is there: its values are the defaults, and everything else in it stays."
        if self._installation.present is None:
            what = f"This makes {path} and a script for your tenant."
        terminal.line(
            terminal.wrap(
                f"{what} Enter takes the answer in brackets. Ctrl-C stops; nothing is written before the end."
            )
        )

    def _change(self, interview: Interview, before: Answers) -> None:
        """What the command line asks for, and nothing else."""
        installation, wish, answered = self._installation, self._wish, before
        if wish.ids is not None:
            installation.set_ids(self._checked(parse_ids(wish.ids)))
        if wish.add_mailbox is not None:
            answered = self._with_mailbox(interview, answered, wish.add_mailbox)
        has_closed = False
        if wish.tls:
            certificate = interview.certificate()
            plaintext = answered.plaintext if certificate.cert else interview.plaintext(answered.devices, certificate)
            answered = answered._replace(certificate=certificate, plaintext=plaintext)
            if not answered.certificate.cert:
                answered = self._without_implicit(answered)
                has_closed = bool(before.smtp) and not answered.smtp
        if wish.ports or has_closed:
            answered = interview.ports(answered)
        installation.amend(answered)
        if wish.add_login is not None:
            login = spelling.login(wish.add_login)
            self._refuse_known(login)
            installation.add_login(interview.which_mailbox(answered.mailboxes, login), login)

    def _without_implicit(self, answered: Answers) -> Answers:
        """Without the ports that need a certificate."""
        closed = [door for door in (*answered.smtp, *answered.pop3) if door.implicit]
        if closed:
            self._questions.note(f"Closed, as they are for TLS from the first octet: {spelling.spell_doors(closed)}")
        doors = (tuple(door for door in some if door not in closed) for some in (answered.smtp, answered.pop3))
        return answered._replace(smtp=next(doors), pop3=next(doors))

    def _with_mailbox(self, interview: Interview, answered: Answers, typed: str) -> Answers:
        try:
            address = interview.mailbox(typed, answered.tenant, answered.account)
        except Doubt as doubt:
            address = str(doubt.value)
            self._mark(Mark.ATTENTION, str(doubt))
            if isinstance(self._questions, Asked) and not self._is_wanted(address):
                raise UsageError("Nothing was written.") from None
        self._refuse_known(address)
        new = interview.new([address], answered.account)
        return answered._replace(mailboxes=(*answered.mailboxes, address), new=new)

    def _is_wanted(self, address: str) -> bool:
        text = f"Is {address} right nevertheless?"
        return self._questions.ask(Question("", text, lambda typed: spelling.word(typed, ("yes", "no")), "no")) == "yes"

    def _refuse_known(self, login: str) -> None:
        """UsageError for a user name that is there."""
        for mailbox in self._installation.before.mailboxes:
            names = [mailbox.username, mailbox.login, *(one.login for one in mailbox.logins)]
            if login.casefold() in [name.casefold() for name in names if name]:
                raise UsageError(
                    f"{login} is there already, for {mailbox.username}. For a new password, put what "
                    f"`{self._call('hash-password')}` prints into {self._installation.path}."
                )

    def _take_ids(self, typed: str) -> None:
        """The ids, if they are among the answers."""

        def read(line: str) -> Optional[Ids]:
            return self._checked(parse_ids(line)) if line else None

        ids = self._questions.ask(
            Question("ids", "The ids of the app registration, as the script prints them.", read, typed)
        )
        if ids:
            self._installation.set_ids(ids)

    def _checked(self, ids: Ids) -> Ids:
        """The ids; UsageError if they are swapped, or those of another tenant, as far as Microsoft can be asked."""
        tenant = self._installation.answered.tenant
        is_name = "." in tenant
        try:
            expected = self._tenants.id_of(tenant) if is_name else tenant
            given = ids.tenant_id
            if expected not in (given, ids.client_id):
                given = self._tenants.id_of(given) or given
        except NoTenant:
            raise UsageError(
                f"Microsoft knows no tenant {ids.tenant_id}. Copy the whole line that the script printed last."
            ) from None
        if expected is None or expected == given:
            return ids
        if expected == ids.client_id:
            raise UsageError("The two ids are swapped: what is given as client_id is the tenant's id.")
        raise UsageError(
            f"tenant_id is not that of {tenant}{f', which is {expected}' if is_name else ''}. Run the script as an "
            f"administrator of {tenant}; or run `{self._call('init')}` again to name the other tenant."
        )

    def _ask_ids(self) -> bool:
        """Wait for the line the script prints, if somebody has the time; whether it came."""
        text = (
            f"Now open https://shell.azure.com as an administrator of {self._installation.answered.tenant}, choose "
            f"PowerShell, and paste all of {self._installation.script_path} there. Then paste the last line it prints "
            "here. Enter: later."
        )

        pasted: List[str] = []

        def read(line: str) -> Optional[Ids]:
            if line.lower() == _LATER:
                return None
            pasted.append(line)
            try:
                ids = parse_ids(line)
            except UsageError:
                if len(pasted) < 2:
                    raise
                ids = parse_ids("\n".join(pasted[-2:]))  # a terminal has broken the line in two
            return self._checked(ids)

        ids = None
        with contextlib.suppress(InputEnded):
            ids = self._questions.ask(Question("ids", text, read, _LATER))
        if ids:
            # Much may have happened while the script ran.
            installation = Installation.read(self._installation.path, self._call.plain("init"))
            installation.set_ids(ids)
            installation.finish(with_script=False)
            with configfile.undisturbed():
                installation.write()
            self._installation = installation
            self._mark(Mark.OK, f"Written: {self._installation.path}, with the ids.")
        return ids is not None

    def _print(self, after: Config) -> None:
        """Everything that would be written, for people."""
        terminal = self._terminal
        for new in self._installation.files():
            if not new.is_secret:
                terminal.line(terminal.bold(f"--- {new.path}"))
                terminal.line(self._installation.shown(new).rstrip("\n"))
        self._show_cards(self._cards(after))
        terminal.line("Nothing was written.")

    def _write(self, after: Config) -> bool:
        """Write what differs, and show it; False if nothing does."""
        cards = self._cards(after)
        self._terminal.line()  # if it cannot be printed, the passwords could not
        new, copies = self._installation.write()
        if not new:
            return False
        self.is_written = True
        try:
            self._show(after, new, copies, cards)
        except OSError as error:
            passwords = self._installation.passwords
            if not passwords:
                raise
            raise OSError(
                errno.EIO,
                f"{error.strerror}. {self._installation.path} is written, but the passwords of {', '.join(passwords)} "
                f"were perhaps not shown. For new ones, put what `{self._call('hash-password')}` prints into it",
                "Standard output",
            ) from None
        return True

    def _show(self, after: Config, new: Sequence[NewFile], copies: Sequence[str], cards: Sequence[str]) -> None:
        """What was written, and what nobody can see later."""
        installation = self._installation
        for file in new:
            self._mark(Mark.OK, f"Written: {file.path}")
        for copy in copies:
            self._mark(Mark.OK, f"Kept as it was: {copy}")
        known = installation.before.warnings if installation.present else ()
        for warning in after.warnings:
            if warning not in known:
                self._mark(Mark.ATTENTION, warning)
        self._show_cards(cards)

    def _cards(self, after: Config) -> List[str]:
        """A card for each new user name; made before anything is written, as it may fail."""
        passwords = self._installation.passwords
        return [card.text(after, login, self._terminal, password) for login, password in passwords.items()]

    def _show_cards(self, cards: Sequence[str]) -> None:
        """The cards and the passwords, which are shown this once."""
        terminal, passwords = self._terminal, self._installation.passwords
        for text in cards:
            terminal.line()
            terminal.line(text.rstrip("\n"))
        if passwords:
            terminal.line()
            sentence = "Passwords are shown only now; the config has hashes of them. Note them down:"
            if self._wish.only_print:
                sentence = "The passwords whose hashes are in the config above; the next run makes others:"
            self._mark(Mark.ATTENTION, sentence)
            for login, password in passwords.items():
                terminal.line(f"{login} {password}")

    def _what_next(self, after: Config, tenant_changed: bool) -> None:
        installation, terminal = self._installation, self._terminal
        before = installation.before if installation.present and self._had_ids else None
        todo = nextsteps.steps(
            has_ids=installation.has_ids,
            is_signed_in=nextsteps.is_signed_in(before, after),
            script=installation.script_path if tenant_changed and installation.has_script else "",
            grant=tenant_changed and not installation.has_script,
            service=nextsteps.of_service(before, after, self._call),
            is_new=before is None,
            call=self._call,
        )
        terminal.line()
        terminal.line(terminal.bold("Next:"))
        for number, step in enumerate(todo, 1):
            terminal.line(f"{number}." + terminal.wrap(step, "   ")[2:])

    def _mark(self, kind: Mark, sentence: str) -> None:
        self._terminal.line(self._terminal.wrap(f"{self._terminal.mark(kind)} {sentence}"))
