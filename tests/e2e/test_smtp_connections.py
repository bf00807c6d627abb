"""Slow and silent clients hold nobody up, and none stays for ever; tests/bench/connections.py is the long form."""

import sys
import time

import pytest
from program import Program, wait_until

if not sys.platform.startswith("linux"):
    pytest.skip("counts threads and memory in /proc", allow_module_level=True)

from bench.connections import Slow, measure

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
    program = Program(tmp_path, limits={"command_seconds": 3, "data_seconds": 3})

    def cut_off():
        return program.said().count("session from 127.0.0.1 ended: Nothing came for too long, closing")

    try:
        program.sign_in().start()
        began = time.monotonic()
        clients = Slow(program.port("smtp"), 10)
        try:
            # Two are stuck in a handshake, which has 30 s of its own.
            wait_until(lambda: cut_off() == 8, what="the end of the sessions")
            assert time.monotonic() - began >= 3
        finally:
            clients.close()
    finally:
        program.close()
