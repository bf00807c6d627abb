"""From nothing to the first mail: the whole dialogue at a terminal, and each way to stop it."""

import json
import os
import re
import select
import smtplib
import ssl
import struct
import sys

import pytest
from program import COMMAND

if sys.platform == "win32":
    pytest.skip("there is no pseudo terminal on Windows", allow_module_level=True)

import fcntl
import pty
import termios

ANSWERS = (
    ("Your tenant", "contoso.com"),
    ("Who signs in", ""),
    ("The account that signs in", ""),
    ("The mailboxes", "alerts@contoso.com"),
    ("Is alerts@contoso.com to be made?", "no"),
    ("Where are the devices?", "here"),
    ("Encryption", ""),
    ("Devices that cannot log in", ""),
    ("Ports for sending mail", "0"),
    ("Ports for old clients", ""),
)


class Dialogue:
    """`init` at a terminal."""

    def __init__(self, program, *words, columns=80, **environ):
        self.shown = ""
        self.answered = 0
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(program.directory)
            environ = dict(program.environ, TERM="xterm", **environ)
            os.execvpe(COMMAND[0], [*COMMAND, "--config", str(program.config), "init", *words], environ)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def expect(self, words):
        """Wait until it asks, after these words, for an answer."""
        pattern = re.compile(r"\s+".join(map(re.escape, words.split())) + r"(?s:.)*?\n(?:\[[^\]\n]*\])?: $")
        self._read(lambda: pattern.search(self.shown, self.answered))
        self.answered = len(self.shown)

    def type(self, text):
        os.write(self._terminal, text.encode())

    def answer(self, *pairs):
        for words, line in pairs:
            self.expect(words)
            self.type(line + "\n")
        return self

    def end(self):
        """The exit status."""
        self._read(lambda: False)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _read(self, is_enough):
        while not is_enough():
            assert select.select([self._terminal], [], [], 60)[0], f"it waits, after:\n{self.shown}"
            try:
                data = os.read(self._terminal, 65536)
            except OSError:  # it has ended
                data = b""
            if not data:
                assert is_enough() is False, f"it ended, after:\n{self.shown}"
                return
            self.shown += data.decode().replace("\r\n", "\n")


@pytest.fixture
def new_program(make_program):
    """An installation without a config, but for the way to the stand-in tenant."""
    program = make_program()
    names = ("authority_url", "graph_url", "ca_file", "state_dir", "queue")
    program.config.write_text(json.dumps({name: program.settings[name] for name in names}))
    return program


def test_from_nothing_to_the_first_mail(new_program):
    program = new_program
    dialogue = Dialogue(program).answer(*ANSWERS)
    sandbox = program.sandbox
    ids = f"m365proxy ids: tenant_id={sandbox.tenant_id} client_id={sandbox.client_id}"
    swapped = f"tenant_id={sandbox.client_id} client_id={sandbox.tenant_id}"
    dialogue.answer(("paste all of", swapped), ("The two ids are swapped", ids))
    assert dialogue.end() == 0, dialogue.shown
    written = json.loads(program.config.read_text())
    assert (written["user"], written["client_id"]) == ("relay@contoso.com", sandbox.client_id)
    password = re.search(r"^alerts@contoso\.com (\w{16})$", dialogue.shown, re.MULTILINE).group(1)
    assert password not in program.config.read_text() and "config-tenant.ps1" in dialogue.shown
    program.login()
    program.start()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", program.port("smtp"), timeout=30) as smtp:
        smtp.starttls(context=context)
        smtp.login("alerts@contoso.com", password)
        smtp.sendmail("alerts@contoso.com", ["relay@contoso.com"], b"Subject: first\r\n\r\nhello\r\n")
    done = program.command("init", "--add-login", "printer")
    assert done.returncode == 0 and "`" in done.stdout.partition("Next:")[2] and " reload`" in done.stdout
    assert program.command("reload").returncode == 0


@pytest.mark.parametrize("key, status", [("\x03", 130), ("\x04", 64)])
def test_ctrl_c_and_the_end_of_the_input_leave_nothing(new_program, key, status):
    before = new_program.config.read_bytes()
    dialogue = Dialogue(new_program, columns=40, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    dialogue.answer(ANSWERS[0], ("Who signs in", "\x1b[A"))  # an arrow key is no answer
    dialogue.expect("Type account or application.")
    dialogue.type(key)
    assert dialogue.end() == status and "othing was written" in re.sub(r"\s+", " ", dialogue.shown)
    assert new_program.config.read_bytes() == before
    assert not any(path.name.startswith("config") for path in new_program.directory.iterdir() if path.suffix != ".json")
    asked = re.sub(r"\x1b\[\d+m", "", dialogue.shown).partition("\nm365proxy:")[0]
    assert all(len(line) <= 40 or " " not in line for line in asked.splitlines())
    assert dialogue.shown.isascii()
