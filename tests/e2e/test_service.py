"""Under a service manager: waiting for a config, readiness, watchdog, an orderly end."""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile

import pytest
from program import COMMAND, wait_until

NIL = "00000000-0000-0000-0000-000000000000"


class Service:
    """`run --wait` with somebody who listens to its notifications."""

    def __init__(self, program):
        self.program = program
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Not in the test's own directory: such a path may have 107 octets only.
        self.directory = tempfile.TemporaryDirectory(dir="/tmp")
        self.address = os.path.join(self.directory.name, "notify")
        self.socket.bind(self.address)
        self.socket.settimeout(30)
        self.process = None

    def start(self, **environ):
        with open(self.program.log, "ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, "--config", str(self.program.config), "run", "--wait"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.program.directory,
                env=dict(self.program.environ, NOTIFY_SOCKET=self.address, **environ),
            )

    def hears(self, pattern):
        """The next notification that matches."""
        while True:
            said = self.socket.recv(4096).decode()
            if re.search(pattern, said):
                return said

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.socket.close()
        self.directory.cleanup()


@pytest.fixture
def service(make_program):
    made = Service(make_program())
    yield made
    made.end()


@pytest.mark.parametrize(
    "sample",
    [
        {"tenant_id": NIL, "client_id": NIL, "user": "relay@contoso.com"},
        {"#": "nothing but comments"},
    ],
)
def test_the_installed_sample_makes_it_wait_until_it_is_filled_in(service, sample):
    program = service.program
    program.config.write_text(json.dumps(sample))
    service.start(WATCHDOG_USEC="1000")
    assert "is not filled in yet: run `m365proxy init`, or" in service.hears("READY=1")
    service.hears("WATCHDOG=1")
    service.process.send_signal(signal.SIGHUP)  # `systemctl reload` is no reason to end
    half = dict(program.settings, mailboxes=[])
    program.config.write_text(json.dumps(half))
    wait_until(lambda: "still waiting: mailboxes" in program.said(), what="the mistake in the log")
    assert service.process.poll() is None
    program.configure()
    service.hears("READY=1\nSTATUS=smtp")
    assert program.said().count("not filled in yet") == 1


def test_it_stops_orderly_while_it_waits(service):
    service.program.config.unlink()
    service.start()
    service.hears("READY=1")
    service.process.terminate()
    assert service.process.wait(30) == 0


def test_it_waits_for_a_file_that_is_not_there(service):
    service.program.config.unlink()
    service.start()
    service.hears("READY=1")
    service.program.configure()
    service.hears("READY=1\nSTATUS=smtp")


@pytest.mark.parametrize("text", ['{"tenant_id": "contoso.com"}', "{", "[]"])
def test_a_wrong_config_that_somebody_filled_in_is_no_reason_to_wait(service, text):
    service.program.config.write_text(text)
    service.start()
    assert service.process.wait(30) == 78


def test_without_wait_the_sample_is_refused(make_program):
    program = make_program()
    program.configure(tenant_id=NIL, client_id=NIL)
    done = program.command("run")
    assert done.returncode == 78 and "still the sample's" in done.stderr


def test_ready_when_it_listens_and_stopping_when_it_stops(service):
    service.start(WATCHDOG_USEC="1000")
    said = service.hears("READY=1")
    port = int(re.search(r"smtp 127\.0\.0\.1:(\d+)", said).group(1))
    socket.create_connection(("127.0.0.1", port), 30).close()
    service.hears("WATCHDOG=1")
    assert "m365proxy login" in service.hears("STATUS=.*login")
    service.process.terminate()
    service.hears("STOPPING=1")
    assert service.process.wait(30) == 0


def test_a_state_directory_that_only_the_service_knows_is_warned_about(make_program):
    program = make_program()
    del program.settings["state_dir"]
    program.configure()
    program.start(STATE_DIRECTORY=str(program.directory / "state"))
    told = f'put "state_dir": "{program.directory}/state" into {program.config}'
    wait_until(lambda: told in program.said(), what="the warning")
    program.stop()
    program.configure(state_dir="state")
    program.log.unlink()
    program.start(STATE_DIRECTORY=str(program.directory / "state"))
    assert "$STATE_DIRECTORY" not in program.said()
