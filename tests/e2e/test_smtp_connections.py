"""Slow and silent clients hold nobody up, and none stays for ever; tests/bench/connections.py is the long form."""

import os
import sys

import pytest
from program import Program, wait_until

if not sys.platform.startswith("linux"):
    pytest.skip("counts threads and memory in /proc", allow_module_level=True)

from bench.connections import Slow, deliver, measure

SLOW, NORMAL = 180, 20


def test_most_are_slow_the_others_deliver(tmp_path):
    program = Program(tmp_path, limits={"connections": SLOW + NORMAL})
    try:
        program.sign_in().start()
        clients = measure(program, SLOW, NORMAL)
        try:
            for client in clients.sockets:
                client.setblocking(False)
                with pytest.raises(OSError):  # all of them are still there, and nothing was said to them
                    client.recv(1)
        finally:
            clients.close()
        assert "Traceback" not in program.said()
    finally:
        program.close()


def test_who_drips_is_cut_off_too(tmp_path):
    program = Program(tmp_path, limits={"command_seconds": 3, "data_seconds": 3, "session_seconds": 5})

    def threads():
        return len(os.listdir(f"/proc/{program.process.pid}/task"))

    try:
        program.sign_in().start()
        deliver(program, 1)
        wait_until(lambda: not program.queue())
        before = threads()
        clients = Slow(program.port("smtp"), 10)
        try:
            assert threads() >= before + 10
            # A stuck handshake has 30 s of its own; these two are not waited for.
            wait_until(lambda: threads() <= before + 2, 25, "the end of the sessions")
        finally:
            clients.close()
        assert program.said().count("Nothing came for too long, closing") >= 8
    finally:
        program.close()
