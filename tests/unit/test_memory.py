import platform
import subprocess
import sys

import pytest

# Threads by turns take and free blocks of the size of a password check; prints the MB that stay.
CODE = """
import hashlib, re, sys, threading
from m365proxy import memory
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
