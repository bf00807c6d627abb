"""A program that is told of warnings: what it gets, and what is said of one that fails or hangs."""

import os
import subprocess
import sys
import threading

import pytest

from m365proxy.errors import Temporary
from m365proxy.monitoring import command
from m365proxy.monitoring.notice import Notice

FINDING = {"key": "held", "sentence": "1 message is held: größer.", "commands": [], "since": 1.8e9}
NOTICE = Notice((FINDING,))


def run(code, *more, notice=NOTICE, stopped=None, seconds=20.0, environ=os.environ):
    """Run a program written in Python."""
    assert subprocess is not None  # the tests start programs
    words = [sys.executable, "-c", code, *more]
    return command.run(words, notice, stopped or threading.Event(), seconds, environ)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_it_reads_title_and_text(out):
    said = run("import sys; open(sys.argv[1], 'wb').write(sys.stdin.buffer.read())", str(out))
    assert said == f"taken by {os.path.basename(sys.executable)}"
    assert out.read_text("utf-8") == f"{NOTICE.title}\n\n{NOTICE.text}\n"


def test_no_shell_reads_its_words(out):
    run("import sys; open(sys.argv[1], 'w').write(sys.argv[2])", str(out), "$(id); `id` > x && y")
    assert out.read_text() == "$(id); `id` > x && y"


@pytest.mark.parametrize("notice, status", [(NOTICE, "down"), (Notice(()), "up")])
def test_its_environment_has_the_status_and_no_key_of_ours(out, notice, status):
    environ = {**os.environ, "M365PROXY_KEY": "s3cret", "CREDENTIALS_DIRECTORY": "/run/s3cret", "HTTPS_PROXY": "x"}
    environ.update(NOTIFY_SOCKET="/run/s3cret", m365proxy_key="s3cret")
    code = "import os, sys; open(sys.argv[1], 'w').write(repr(dict(os.environ)))"
    run(code, str(out), notice=notice, environ=environ)
    said = out.read_text()
    assert "s3cret" not in said and f"'M365PROXY_STATUS': '{status}'" in said and "HTTPS_PROXY" in said


def test_it_need_not_read():
    long = Notice(tuple({**FINDING, "sentence": "x" * 5000} for _ in range(100)))
    assert run("import sys; sys.stdin.close()", notice=long).startswith("taken by")


def test_a_failure_is_told_with_its_first_line():
    code = "import sys; sys.exit('no route\\x1b to the pager\\nmore')"
    with pytest.raises(Temporary, match=r"ended with status 1: no route\\x1b to the pager$"):
        run(code)


def test_a_failure_without_words():
    with pytest.raises(Temporary, match="ended with status 3: it said nothing"):
        run("import sys; sys.exit(3)")


def test_endless_words_are_not_kept():
    code = "import sys; [sys.stderr.write('x' * 65536) for _ in range(200)]; sys.exit(1)"
    with pytest.raises(Temporary, match="status 1: x+…$"):
        run(code)


@pytest.mark.parametrize("words", [["/nowhere/at/all"], ["/etc"], ["a\0b"]])
def test_what_cannot_be_started(words):
    assert subprocess is not None
    with pytest.raises(Temporary, match="cannot be started: "):
        command.run(words, NOTICE, threading.Event())


CHILD = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
open(sys.argv[1] + ".new", "w").write(f"{os.getpid()} {child.pid}")
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(100)
"""


def _gone(pid):
    """Whether a process has ended; one that nobody waited for counts as ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks into /proc")
def test_one_that_hangs_is_ended_with_its_children(out, wait_until):
    stopped = threading.Event()
    said = []

    def attempt():
        try:
            run(CHILD, str(out), stopped=stopped)
        except Temporary as error:
            said.append(str(error))

    thread = threading.Thread(target=attempt)
    thread.start()
    wait_until(out.exists)
    stopped.set()
    thread.join()
    assert "was ended" in said[0]
    for pid in out.read_text().split():
        wait_until(lambda pid=pid: _gone(pid))


def test_one_that_takes_too_long():
    with pytest.raises(Temporary, match="has not ended within 0 s, and was ended"):
        run("import time; time.sleep(100)", seconds=0.2)
