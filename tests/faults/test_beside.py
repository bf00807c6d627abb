"""Two programs on one state directory, and login and logout beside the running one, while mail flows."""

import pytest
from faults.hasty import HastyProgram
from faults.torture import Clients, judge, settled
from program import PASSWORD, wait_until


@pytest.fixture
def program(tmp_path):
    made = HastyProgram(tmp_path)
    made.sign_in().start()
    yield made
    made.close()


@pytest.fixture
def clients(program):
    made = Clients(program, PASSWORD, 1)
    made.start()
    yield made
    made.stop()


def delivered(program):
    with program.sandbox.tenant.lock:
        return len(program.sandbox.tenant.delivered)


def flow(clients, messages):
    """So many more messages are accepted."""
    clients.allowed = len(clients.accepted) + messages
    wait_until(lambda: len(clients.accepted) >= clients.allowed, what="mail")


def all_arrived(program, clients):
    clients.stop()
    wait_until(lambda: settled(program), what="an empty queue")
    result = judge(program, clients.accepted)
    assert (result.delivered, result.lost, result.duplicated) == (len(clients.accepted), 0, 0), result.names


def test_a_second_run_ends_with_75_and_harms_nothing(program, clients):
    program.sandbox.latency = 0.05  # so that some is always on its way
    pid = program.process.pid
    for _ in range(3):
        clients.allowed += 40
        second = program.command("run")
        assert second.returncode == 75 and f"pid {pid}" in second.stderr, second.stderr
        wait_until(lambda: len(clients.accepted) >= clients.allowed, what="mail")
    assert program.process.poll() is None and program.status()["pid"] == pid
    all_arrived(program, clients)


def test_mail_waits_from_logout_to_login_and_then_flows(program, clients):
    flow(clients, 20)
    clients.allowed += 400
    done = program.command("logout")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: program.status()["sign_in"]["needs_sign_in"], what="the logout to be noticed")
    clients.allowed = 0
    wait_until(lambda: program.status()["paused"] and len(clients.accepted) > delivered(program), what="waiting mail")
    sent = delivered(program)
    flow(clients, 20)  # taken as ever
    assert delivered(program) == sent, "nobody is signed in"
    assert {place for place, _ in program.queue()} == {"new"}
    program.login()
    all_arrived(program, clients)
    assert delivered(program) == len(clients.accepted)


def test_login_beside_the_running_program_disturbs_nothing(program, clients):
    program.sandbox.latency = 0.05
    for _ in range(2):
        clients.allowed += 40
        program.login()
        wait_until(lambda: len(clients.accepted) >= clients.allowed, what="mail")
    all_arrived(program, clients)
    assert "paused" not in program.said() and not program.status()["sign_in"]["error"]
