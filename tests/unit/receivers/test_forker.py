"""The forker in a process of its own: this one has threads, and so cannot be forked."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

if sys.platform == "win32":
    pytest.skip("no process can be forked here", allow_module_level=True)

ROOT = pathlib.Path(__file__).resolve().parents[3]

# Says what its receivers answer.  A receiver tells its pid and its parent's, and how often the work was prepared.
SCRIPT = """
import json, os, signal, sys, time
from m365proxy.receivers.forker import Forker

prepared = []

def prepare():
    prepared.append(os.getpid())
    def work(sock):
        sock.sendall(json.dumps([os.getpid(), os.getppid(), prepared]).encode())
        sock.recv(1)
    return work

forker = Forker(prepare)
forker.start()
socks = [forker.make() for _ in range(3)]
said = [json.loads(sock.recv(1000)) for sock in socks]
{then}
print(json.dumps([os.getpid(), said, more]))
"""


def run(then):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{then}", then)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_all_are_children_of_one_process_which_prepares_once():
    main, said, _ = run("more = None")
    pids, parents, prepared = zip(*said)
    (forker,) = set(parents)
    assert len(set(pids)) == 3 and main not in {*pids, forker}
    assert all(one == [forker] for one in prepared)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="there is no /proc here")
def test_no_log_file_stays_open_that_may_be_rotated_away(tmp_path):
    script = """
import os, sys
from m365proxy.receivers.forker import Forker
from m365proxy.system import log

def work(sock):
    open_here = [os.path.realpath(f"/proc/{pid}/fd/{name}") for pid in (os.getpid(), os.getppid())
                 for name in os.listdir(f"/proc/{pid}/fd")]
    sock.sendall(str(open_here.count(sys.argv[1])).encode())

log.setup(file=sys.argv[1])
forker = Forker(lambda: work)
forker.start()
print(forker.make().recv(100).decode())
"""
    words = [sys.executable, "-c", script, str(tmp_path / "log")]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout == "0\n"


def test_a_new_one_takes_the_place_of_one_that_was_killed():
    then = """
os.kill(said[0][0], signal.SIGKILL)
ended = socks[0].recv(1)
new = forker.make()
more = [ended.decode(), json.loads(new.recv(1000))[0]]
while os.path.exists(f"/proc/{said[0][0]}"):  # nor is it left as a zombie
    time.sleep(0.01)
"""
    _, said, (ended, new) = run(then)
    assert ended == "" and new not in [pid for pid, *_ in said]


def test_without_the_forker_there_is_no_new_one():
    then = """
os.kill(said[0][1], signal.SIGKILL)
os.waitpid(said[0][1], 0)
try:
    forker.make()
    more = "made"
except OSError:
    more = "none"
"""
    assert run(then)[2] == "none"


def test_signals_are_for_the_main_process():
    then = """
for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"):
    for pid in (said[0][0], said[0][1]):
        os.kill(pid, getattr(signal, name))
socks[0].sendall(b".")
more = [socks[0].recv(1).decode(), len(json.loads(forker.make().recv(1000)))]
"""
    assert run(then)[2] == ["", 3]


def test_its_end_is_waited_for():
    then = """
forker.stop(10)
os.waitpid(said[0][1], 0)
more = "over"
"""
    assert run(then)[2] == "over"
