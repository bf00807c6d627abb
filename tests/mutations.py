"""Changes that would break a promise.  Each of them must make a test fail.

    python tests/mutations.py [NAME...]

A change is made in a copy of the source, in a temporary directory; then only the tests that are named with it run.
"killed" means that one of them failed, as it must.  The exit status is 1 if a change survives, or if its old text is
not in the file exactly once: then the list has to follow the code.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import List, NamedTuple, Set, Tuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
COPIED = ("m365proxy", "tests", "etc", "m365proxy.py", "pyproject.toml", "setup.py")


class Mutation(NamedTuple):
    name: str
    promise: str  # what the change would break
    file: str  # below m365proxy/
    old: str
    new: str
    tests: str  # files and folders
    only: str = ""  # pytest's -k


MUTATIONS = (
    # 250 means that it is on the disk.
    Mutation(
        "file-not-synced",
        "a message that got its 250 is on the disk",
        "spool/incoming.py",
        "files.sync_file(file)\n",
        "pass\n",
        "tests/unit/spool tests/faults/test_powercut.py",
    ),
    Mutation(
        "directory-not-synced",
        "the name of an accepted message survives a power cut",
        "spool/incoming.py",
        "files.move(self._path, self._target)\n            self._sync_new()",
        "files.move(self._path, self._target)",
        "tests/unit/spool tests/faults/test_powercut.py",
    ),
    Mutation(
        "replace-not-synced",
        "a state file that was replaced survives a power cut",
        "system/files.py",
        '    if durable:\n        sync_directory(os.path.dirname(path) or ".")',
        "",
        "tests/unit/system/test_files.py tests/faults/test_powercut.py",
    ),
    Mutation(
        "envelope-line-ends",
        "nobody writes lines of the envelope by a line end in an address",
        "spool/envelope.py",
        'if "\\r" in text or "\\n" in text or "\\0" in text:',
        "if False:",
        "tests/unit/spool",
    ),
    Mutation(
        "envelope-not-cut",
        "recipients do not see the envelope",
        "spool/spool.py",
        "return read_envelope(file), file",
        "return read_envelope(file), files.open_shared(self.path(entry))",
        "tests/unit/spool/test_spool.py",
    ),
    # Sent once.
    Mutation(
        "posting-taken-for-claimed",
        "after a crash a message that may have been sent is looked for, not sent again",
        "spool/spool.py",
        "if entry.phase is not Phase.CLAIMED:",
        "if entry.phase is Phase.HELD:",
        "tests/unit/spool",
    ),
    Mutation(
        "202-with-a-body",
        "a 202 that another program made up is not believed",
        "graph/answer.py",
        "return not self._content and not self._broken",
        "return True",
        "tests/unit/graph",
    ),
    Mutation(
        "202-of-a-stranger",
        "only Graph's own 202 means sent",
        "delivery/outcome.py",
        "if http == 202 and from_graph:",
        "if http == 202:",
        "tests/unit/delivery/test_outcome.py",
    ),
    Mutation(
        "lost-answer-taken-for-not-sent",
        "a request whose answer got lost is not repeated blindly",
        "delivery/outcome.py",
        "Verdict(Outcome.AMBIGUOUS if maybe_processed else Outcome.NOT_SENT, Then.TRANSIENT",
        "Verdict(Outcome.NOT_SENT, Then.TRANSIENT",
        "tests/unit/delivery/test_outcome.py",
    ),
    Mutation(
        "marker-not-checked",
        "the mail of another gateway is not taken for ours",
        "delivery/drafts.py",
        'return _marker_of(item) not in ("", mark)',
        "return False",
        "tests/unit/delivery",
        "marker or another or copy or twin",
    ),
    Mutation(
        "adopted-message-in-two-queues",
        "a message that is taken over is in one queue only before it is sent",
        "spool/adoption.py",
        "            self._give(copied)\n            self._place(copied)\n",
        "            self._place(copied)\n            self._give(copied)\n",
        "tests/unit/spool/test_adoption.py",
        "killed",
    ),
    Mutation(
        "copied-directory-runs",
        "a copied state directory does not run on another machine",
        "system/machines.py",
        "or _entry_of(known, machine) is not None:",
        "or True:",
        "tests/unit/system/test_machines.py",
    ),
    Mutation(
        "draft-seen-once",
        "a draft counts as not sent only after it was seen twice, and late enough",
        "delivery/attempt.py",
        "elif now - state.still_draft >= self._draft_apart and now - state.posted >= self._draft_after:",
        "else:",
        "tests/unit/delivery/test_attempt.py",
        "still_a_draft",
    ),
    Mutation(
        "found-draft-sent-without-a-marker",
        "a draft that somebody may have found gets its marker before it is sent",
        "delivery/attempt.py",
        "if draft.phase is DraftPhase.BARE and not was_untouched:",
        "if False:",
        "tests/unit/delivery/test_sentids.py",
        "marker_first or lost_answer",
    ),
    Mutation(
        "two-requests-with-bcc",
        "mail with Bcc is never sent without it",
        "delivery/draftsteps.py",
        "if message.prepared.top.bcc or message.claim.state.drafted:",
        "if message.claim.state.drafted:",
        "tests/unit/delivery/test_sentids.py",
        "needs_the_marker",
    ),
    Mutation(
        "unsent-copy-deleted",
        "a draft that is in Sent Items is not deleted with the copies",
        "delivery/sentcopies.py",
        "in copies and is_sent(item)]",
        "in copies]",
        "tests/unit/delivery/test_sentcopies.py",
    ),
    Mutation(
        "proof-deleted",
        "the copy of a message that is in the queue stays",
        "delivery/leftovers.py",
        'if self._spool.find(item["queue_id"]):',
        "if False:",
        "tests/unit/delivery/test_leftovers.py",
    ),
    # Graph's limits.
    Mutation(
        "retry-after-shortened",
        "Graph is left alone as long as it asks for",
        "graph/answer.py",
        "return self.retry_after or (_RETRY_AFTER_UNSAID",
        "return min(self.retry_after, 1.0) or (_RETRY_AFTER_UNSAID",
        "tests/unit/graph",
    ),
    Mutation(
        "place-not-given-back",
        "a mailbox does not run out of places",
        "graph/slots.py",
        "            self._running -= 1\n",
        "",
        "tests/unit/graph/test_slots.py",
    ),
    Mutation(
        "five-places",
        "a mailbox gets four requests at a time, not more",
        "graph/slots.py",
        "SLOTS = 4",
        "SLOTS = 5",
        "tests/unit/graph",
    ),
    # Who may.
    Mutation(
        "any-sender",
        "a device sends as its own mailbox and its send_as only",
        "logins/users.py",
        "return address_matches(address, (self.mailbox, *self.send_as))",
        "return True",
        "tests/unit/logins/test_users.py",
    ),
    Mutation(
        "any-author-with-the-empty-sender",
        "with MAIL FROM:<> only a mail server's own address may be replaced in From",
        "smtp/bounces.py",
        "null_sender and bool(authors) and all(map(_is_daemon, authors))",
        "null_sender",
        "tests/unit/smtp/test_bounces.py tests/unit/smtp/test_acceptance.py",
    ),
    Mutation(
        "password-by-its-beginning",
        "the whole password has to be right",
        "logins/verifier.py",
        'hmac.compare_digest(self._token("", password), self._token("", stored))',
        "stored.startswith(password)",
        "tests/unit/logins/test_users.py",
    ),
    Mutation(
        "status-page-without-password",
        "the status page is shown to nobody without its password",
        "web/site.py",
        "refusal = None if found.is_open else self._gate.refusal(request.authorization, request.peer)",
        "refusal = None",
        "tests/unit/web/test_site.py",
    ),
    Mutation(
        "status-page-by-any-name",
        "the status page is asked by this machine's names only",
        "web/hosts.py",
        "return name in self._own or _is_address(name) or self._is_certified(name)",
        "return True",
        "tests/unit/web/test_hosts.py",
    ),
    Mutation(
        "never-blocked",
        "passwords cannot be guessed without end",
        "logins/guard.py",
        "            if self._blocked(where, pair, {}):\n",
        "            if False:\n",
        "tests/unit/logins/test_guard.py",
    ),
    Mutation(
        "smtp-login-in-clear",
        "a password is not taken over SMTP without TLS, but from plaintext_networks",
        "smtp/session.py",
        "not self._client.settings.tls_required and within(self._peer, self._policy.plaintext_networks)",
        "True",
        "tests/unit/test_smtp_dialogs.py",
        "auth or tls",
    ),
    Mutation(
        "pop3-login-in-clear",
        "a password is not taken over POP3 without TLS, but from plaintext_networks",
        "pop3/login.py",
        "self._connection.tls_version is not None or within(self._peer, self._plaintext_networks)",
        "True",
        "tests/unit/test_pop3_dialogs.py",
    ),
    Mutation(
        "proxy-header-of-anybody",
        "only proxies of the config may say whose connection it is",
        "server/listener.py",
        "proxy = self._connections.is_proxy(peer)",
        "proxy = True",
        "tests/unit/server",
    ),
    Mutation(
        "one-time-password-again",
        "a one-time password is good once",
        "logins/onetime.py",
        "self._ends.pop(digest(",
        "self._ends.get(digest(",
        "tests/unit/logins/test_onetime.py",
    ),
    Mutation(
        "any-certificate",
        "`m365proxy test` gives a password to nobody but the listener with the config's certificate",
        "admin/testmail/dialogue.py",
        "context.verify_flags |= _PARTIAL_CHAIN",
        "context.verify_mode = ssl.CERT_NONE",
        "tests/unit/admin/testmail/test_dialogue.py",
    ),
    # Large mail.
    Mutation(
        "large-not-compared",
        "large mail is sent in its form only if Exchange has kept it",
        "delivery/largesteps.py",
        "            self._compare(claim, mailbox, whole, known, value)\n",
        "            pass\n",
        "tests/unit/delivery/test_largesteps.py",
        "form_is_kept",
    ),
    Mutation(
        "half-filled-draft-sent",
        "a draft that files are missing from is never sent",
        "delivery/largesteps.py",
        "draft_state(DraftPhase.FILLING, mailbox, value)\n        claim.save_state()\n        value",
        "made\n        claim.save_state()\n        value",
        "tests/unit/delivery/test_largesteps.py tests/faults/test_crash_steps.py",
        "filling_on_disk or large",
    ),
    # What devices say.
    Mutation(
        "dot-left-in",
        "the second dot at the beginning of a line is taken away",
        "smtp/dotreader.py",
        "            position = found + 3\n",
        "            position = found + 2\n",
        "tests/unit/test_smtp_dialogs.py",
        "dots",
    ),
    Mutation(
        "bare-lf-ends-data",
        "no second message is smuggled in behind a dot between bare line feeds",
        "smtp/dotreader.py",
        "data = self._held + chunk",
        r'data = self._held + chunk.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")',
        "tests/unit/test_smtp_dialogs.py",
        "smuggling",
    ),
    Mutation(
        "twice-the-size",
        "a message beyond the limit is refused",
        "smtp/reception.py",
        "if self._received > self._policy.size_limit:",
        "if self._received > 2 * self._policy.size_limit:",
        "tests/unit/smtp tests/unit/test_smtp_dialogs.py",
        "large or size",
    ),
    # POP3.
    Mutation(
        "deleted-at-once",
        "a message is deleted at QUIT and at no other time",
        "pop3/transaction.py",
        "        self._marked.add(number)\n",
        "        self._marked.add(number)\n        self._maildrop.delete([number - 1])\n",
        "tests/unit/pop3",
    ),
    Mutation(
        "uidl-of-the-moment",
        "a message has the same UIDL in every session",
        "maildrop/item.py",
        'hashlib.sha256(self.id.encode("utf-8", "surrogatepass"))',
        "hashlib.sha256((self.id + str(id(self.snapshot))).encode())",
        "tests/unit/maildrop",
        "uidl",
    ),
    Mutation(
        "deleted-unseen",
        "a message that nobody is known to have had whole is never deleted for good",
        "maildrop/item.py",
        "return self.substituted or not (self.seen or (self.exact and not self.tried))",
        "return False",
        "tests/unit/maildrop",
    ),
    # The config and what is said of it.
    Mutation(
        "unknown-keys-accepted",
        "a key that is written wrong is not passed over",
        "config/load.py",
        'if name not in known and not name.startswith("#"):',
        "if False:",
        "tests/unit/config",
        "bad",
    ),
    Mutation(
        "secret-shown",
        "no message about the config shows a secret",
        "config/types.py",
        "found = kind(value) if self.hidden else shown(value)",
        "found = shown(value)",
        "tests/unit/config",
        "secret",
    ),
    # Reports.
    Mutation(
        "report-on-a-report",
        "a report that fails makes no further report",
        "delivery/reporter.py",
        'failure.envelope.kind == "report"',
        'failure.envelope.kind == "no report"',
        "tests/unit/delivery/test_reporter.py",
    ),
    Mutation(
        "report-to-who-wants-none",
        "a sender who asked for no report gets none",
        "delivery/reporter.py",
        "elif failure.envelope is None or failure.recipients:",
        "else:\n                found.messages.append(failure)\n            if False:",
        "tests/unit/delivery/test_reporter.py",
    ),
    # The machine.
    Mutation(
        "lock-not-taken",
        "two programs never work on one state directory",
        "system/files.py",
        "while not _try_lock(file):",
        "while False:",
        "tests/unit/system/test_files.py",
    ),
    Mutation(
        "directory-left-open",
        "what an earlier version left open to other users of the machine is closed to them",
        "system/files.py",
        "        os.chmod(path, 0o700)\n",
        "",
        "tests/unit/spool/test_spool.py",
    ),
    Mutation(
        "readable-by-others",
        "other users of the machine read neither mail nor secrets",
        "system/files.py",
        "def replace(path: str, content: Union[bytes, bytearray], mode: int = 0o600",
        "def replace(path: str, content: Union[bytes, bytearray], mode: int = 0o644",
        "tests/unit/system/test_files.py",
    ),
    # Warnings.
    Mutation(
        "warned-again-and-again",
        "a warning is sent once a day",
        "monitoring/warnings.py",
        "warning.told_ago, warning.is_told = 0.0, True",
        "warning.is_told = True",
        "tests/unit/monitoring/test_warnings.py",
    ),
    Mutation(
        "warned-of-a-moment",
        "what stands for less than 10 minutes is not sent",
        "monitoring/warnings.py",
        "warning.phase is _Phase.NEW and warning.seconds >= self.hold",
        "warning.phase is _Phase.NEW",
        "tests/unit/monitoring/test_warnings.py",
    ),
    Mutation(
        "key-in-the-environment",
        "the program of notify_command does not get the key of the sign-in",
        "monitoring/command.py",
        '_OURS = ("M365PROXY_", ',
        "_OURS = (",
        "tests/unit/monitoring/test_command.py",
    ),
    # The page.
    Mutation(
        "page-not-escaped",
        "what comes from outside is text on the page, and nothing else",
        "web/render.py",
        "Html(log.clean(value, _LONGEST).translate(_REFERENCES))",
        "Html(log.clean(value, _LONGEST))",
        "tests/unit/web/test_render.py tests/unit/web/test_page.py",
    ),
)


class Bench:
    """A copy of the source in which one change after the other is made."""

    def __init__(self, directory: str):
        self.root = pathlib.Path(directory)
        self._passed: Set[Tuple[str, str]] = set()  # tests that pass without a change
        self._time = 0  # of the file that was written last, in seconds since 1970
        for name in COPIED:
            source, target = ROOT / name, self.root / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)

    def outcome(self, mutation: Mutation) -> str:
        """ "killed", or what is wrong."""
        path = self.root / "m365proxy" / mutation.file
        if not path.is_file():
            return f"m365proxy/{mutation.file} is not there"
        text = path.read_text("utf-8")
        count = text.count(mutation.old)
        if count != 1:
            return f"m365proxy/{mutation.file} has the old text {count} times"
        tests = (mutation.tests, mutation.only)
        if tests not in self._passed and self._run(mutation) != 0:
            return "its tests fail without the change too"
        self._passed.add(tests)
        self._write(path, text.replace(mutation.old, mutation.new))
        try:
            status = self._run(mutation)
        finally:
            self._write(path, text)
        # pytest: 0 all passed, 1 some failed; anything else means that they could not be run.
        return {0: "SURVIVED", 1: "killed"}.get(status, f"pytest ended with {status}")

    def _write(self, path: pathlib.Path, text: str) -> None:
        """Bytecode goes by the file's time in seconds: two changes within one second would be taken for one."""
        path.write_text(text, "utf-8")
        self._time += 1
        os.utime(path, (self._time, self._time))

    def _run(self, mutation: Mutation) -> int:
        words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        return subprocess.run(
            [*words, *mutation.tests.split(), "-k", mutation.only],
            cwd=self.root,
            stdout=subprocess.DEVNULL,
        ).returncode


def main(names: List[str]) -> int:
    unknown = set(names) - {mutation.name for mutation in MUTATIONS}
    if unknown:
        print(f"no mutation {', '.join(sorted(unknown))}; there are {', '.join(one.name for one in MUTATIONS)}")
        return 2
    chosen = [mutation for mutation in MUTATIONS if not names or mutation.name in names]
    killed = 0
    with tempfile.TemporaryDirectory(prefix="m365proxy-mutations.") as directory:
        bench = Bench(directory)
        for mutation in chosen:
            began = time.monotonic()
            outcome = bench.outcome(mutation)
            killed += outcome == "killed"
            print(f"{outcome:10} {mutation.name} ({time.monotonic() - began:.0f} s): {mutation.promise}", flush=True)
    print(f"{killed} of {len(chosen)} killed")
    return 0 if killed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
