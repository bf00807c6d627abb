"""Started by root in a state directory of somebody else: everything goes on as that user, and stays that user's."""

import os
import pathlib
import shutil
import socket
import tempfile

import pytest
from program import ALERTS, SCANS, Program

NOBODY = 65534

pytestmark = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can go on as another user")


@pytest.fixture
def program():
    # pytest's own directories are closed to other users, as is the stand-in tenant's certificate.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        made = Program(directory, forked=False)  # whether all is imported before it is another user is part of it
        made.configure(ca_file=shutil.copyfile(made.sandbox.ca_file, made.directory / "ca.pem").name)
        made.sign_in()
        state = made.directory / "state"
        for path in (state, *state.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        yield made
        made.close()
        assert "Traceback" not in made.said()


def owners(program):
    return {path.stat().st_uid for path in (program.directory / "state").rglob("*")}


def test_run(program):
    program.start()
    done = program.command("test", "--from", ALERTS, "--to", SCANS)
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    assert len(program.sandbox.tenant.delivered) == 1
    assert program.stop() == 0
    assert owners(program) == {NOBODY}


@pytest.mark.skipif(
    int(pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 1024
    if os.path.exists("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    else False,
    reason="everybody may open low ports here",
)
def test_run_on_a_low_port_is_left_to_the_service(program):
    program.configure(smtp_port=25)
    done = program.command("run")
    assert done.returncode == 73 and "systemctl start m365proxy" in done.stderr
    assert owners(program) == {NOBODY} and not (program.directory / "state" / "lock").exists()


@pytest.mark.parametrize(
    "words", [["check"], ["status"], ["login"], ["logout"], ["queue", "list"], ["queue", "retry", "all"]]
)
def test_commands(program, words):
    """Also where only root may read Python: what is needed is imported before."""
    done = program.command(*words)
    assert done.returncode == (3 if words == ["status"] else 0), done.stderr + done.stdout  # nothing is running
    assert owners(program) <= {NOBODY}


@pytest.mark.skipif(not os.path.exists("/proc/self/net/tcp"), reason="only Linux tells who holds a port")
def test_check_names_the_holder_of_a_busy_port(program):
    """A program of root's, whom the owner of the state directory may not look into."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        program.configure(smtp_port=holder.getsockname()[1])
        done = program.command("check", "--offline")
    assert done.returncode == 75 and f", pid {os.getpid()}" in " ".join(done.stdout.split())
