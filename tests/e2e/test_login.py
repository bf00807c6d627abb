"""`login` on a terminal: giving up, a connection that drops, and what `status` says at once."""

import os
import signal
import subprocess

import pytest
from program import COMMAND, RELAY, wait_until

from m365proxy.errors import InUse
from m365proxy.system import files

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
fcntl = pytest.importorskip("fcntl")
termios = pytest.importorskip("termios")


class Login:
    """The command on a terminal of its own, as after ssh."""

    def __init__(self, program):
        self.terminal, inner = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            [*COMMAND, "--config", str(program.config), "login"],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=dict(program.environ, TERM="xterm", COLUMNS="80"),
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(inner)

    def until(self, words):
        while words not in self.shown:
            self.shown += os.read(self.terminal, 4096).decode("utf-8", "replace")

    def rest(self):
        """Its exit status, after the last words."""
        try:
            while True:
                self.shown += os.read(self.terminal, 4096).decode("utf-8", "replace")
        except OSError:  # Linux says EIO once nobody has the other end
            return self.process.wait(30)


@pytest.fixture
def waiting(make_program):
    program = make_program()
    program.sandbox.approve_after = None
    started = []

    def start():
        started.append(Login(program))
        started[-1].until("left. Ctrl-C")
        return started[-1]

    yield program, start
    for login in started:
        if login.process.poll() is None:
            login.process.kill()
            login.process.wait()


def test_a_code_on_a_terminal(waiting):
    program, start = waiting
    login = start()
    program.sandbox.entra.approve()
    assert login.rest() == 0
    assert "devicelogin" in login.shown and login.shown.count("\r") > 2
    assert f"\r\nSigned in as {RELAY}." in login.shown


def test_ctrl_c_gives_up_and_changes_nothing(waiting):
    program, start = waiting
    login = start()
    os.write(login.terminal, b"\x03")
    assert login.rest() == 128 + signal.SIGINT
    assert "Given up. Nothing was changed." in login.shown and "Traceback" not in login.shown
    assert not (program.directory / "state" / "tokens.enc").exists()


def test_a_sign_in_is_stored_although_the_connection_dropped(waiting):
    program, start = waiting
    login = start()
    os.close(login.terminal)  # HUP for the command, and errors for whatever it prints
    program.sandbox.entra.approve()
    assert login.process.wait(30) == 0
    assert f"{RELAY}, since" in program.command("status").stdout


def stopped(program):
    """The program runs, but cannot write its status any more; it holds no lock that a command would wait for.

    It has to be a child of this process, whom the system tells that it is stopped.
    """
    process = program.start().process

    def is_stopped():
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        try:
            with files.locked(str(program.directory / "state" / "tokens.lock"), 0):
                return True
        except InUse:
            process.send_signal(signal.SIGCONT)
            return False

    wait_until(is_stopped, what="a stop without a lock")
    return program


def test_status_shows_a_sign_in_at_once(make_program):
    program = stopped(make_program(forked=False))
    program.login()
    shown = program.command("status").stdout
    assert shown.startswith("All is well\n") and f"{RELAY}, since" in shown and "paused" not in shown


def test_status_shows_at_once_that_nobody_is_signed_in(make_program):
    program = stopped(make_program(forked=False).sign_in())
    assert f"{RELAY}, since" in program.command("status").stdout
    program.command("logout")
    assert "Nobody is signed in" in program.command("status").stdout
