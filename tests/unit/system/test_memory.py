import platform
import subprocess
import sys

import pytest
from cases import each

from m365proxy.system import memory

# Threads by turns take and free blocks of the size of a password check; prints the MB that stay.
CODE = """
import hashlib, re, sys, threading
from m365proxy.system import memory
if sys.argv[1] == "with":
    memory.return_large_blocks()
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) // 1024
turn = threading.Semaphore(2)
ready = threading.Barrier(12)
def check():
    ready.wait()
    for _ in range(2):
        with turn:
            hashlib.scrypt(b"x", salt=b"y", n=2**14, r=8, p=1, maxmem=2**26)
before = resident()
threads = [threading.Thread(target=check) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps large blocks")
def test_large_blocks_go_back():
    kept = {}
    for way in ("with", "without"):
        done = subprocess.run([sys.executable, "-c", CODE, way], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        kept[way] = int(done.stdout)
    assert kept["with"] < 16 < kept["without"]


@each(
    "seen, times",
    [
        ([0, 10, 0, 0], 0),
        ([49, 0, 0], 0),
        ([1000, 900, 300, 300], 0),
        ([1000, 0], 0),
        ([1000, 0, 0], 1),
        ([1000, 250, 200, 0], 1),
        ([1000, 0, 300, 0], 0),
        ([1000, 0, 0, 0, 60, 0, 0, 0], 2),
    ],
)
def test_memory_goes_back_once_after_each_rush(seen, times):
    given_back = []
    after = memory.AfterRush(lambda: given_back.append(1))
    for connections in seen:
        after.look(connections, connections)
    assert len(given_back) == times


# Many small blocks, freed but for the last; prints the MB that stay.
SMALL = """
import re, sys
from m365proxy.system import memory
def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) // 1024
before = resident()
blocks = [bytearray(1000) for _ in range(100_000)]
kept = blocks[-1]
del blocks
if sys.argv[1] == "with":
    memory.return_free_pages()
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to give pages back")
def test_free_pages_go_back():
    kept = {}
    for way in ("with", "without"):
        done = subprocess.run([sys.executable, "-c", SMALL, way], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        kept[way] = int(done.stdout)
    assert kept["with"] < 30 < kept["without"]


def test_a_rush_between_two_looks_counts():
    given_back = []
    after = memory.AfterRush(lambda: given_back.append(1))
    after.look(0, 1000)
    after.look(0, 0)
    assert given_back == [1]
