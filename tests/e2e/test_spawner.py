"""A program that is forked is, for a test, as one that was started anew: what spawner says of it is true."""

import os
import signal
import subprocess
import sys

import pytest
import spawner

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or "M365PROXY_TEST_COMMAND" in os.environ, reason="nothing is forked there"
)

# All that a process has from its beginning, and of which the tests choose something.
LOOK = """
import json, os, signal, sys, threading
pending = [signal.getsignal(getattr(signal, name)) for name in ("SIGINT", "SIGCHLD", "SIGTERM", "SIGHUP", "SIGPIPE")]
print(json.dumps({
    "argv": sys.argv, "environ": dict(os.environ), "cwd": os.getcwd(), "stdin": sys.stdin.read(),
    "signals": [one if isinstance(one, int) else one.__name__ for one in pending],
    "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "open": len(os.listdir("/proc/self/fd")), "threads": threading.active_count(), "group": os.getpgid(0),
    "session": os.getsid(0), "warnings": sys.warnoptions, "loggers": len(__import__("logging").root.handlers),
}))
print("said", file=sys.stderr)
sys.exit(3)
"""


def environment(**more):
    return dict(spawner._environment(), **more)


def both(words, text, env, cwd):
    """(forked, new), completed."""
    return [run(words, text, env=env, cwd=cwd, timeout=60) for run in (spawner.run, spawner.run_new)]


def start(code, tmp_path):
    with open(tmp_path / "log", "ab") as log:
        words = [sys.executable, "-c", code]
        made = spawner.popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), cwd=str(tmp_path)
        )
    assert isinstance(made, spawner.Forked)
    return made


def test_it_begins_as_a_new_process_does(tmp_path):
    words = [sys.executable, "-c", LOOK, "one", "two words"]
    forked, new = both(words, "typed\n", environment(ONE_MORE="ä"), tmp_path)
    assert (forked.returncode, forked.stdout, forked.stderr) == (new.returncode, new.stdout, new.stderr)
    assert forked.returncode == 3 and forked.stderr == "said\n" and '"typed\\n"' in forked.stdout


def test_the_program_itself(tmp_path):
    for words in (["--version"], ["--help"], ["status"], ["nonsense"]):
        forked, new = both([sys.executable, spawner.PROGRAM, *words], "", environment(HOME=str(tmp_path)), tmp_path)
        assert (forked.returncode, forked.stdout, forked.stderr) == (new.returncode, new.stdout, new.stderr)


@pytest.mark.parametrize(
    "code, status",
    [
        ("pass", 0),
        ("import sys; sys.exit(77)", 77),
        ("import sys; sys.exit('why')", 1),
        ("1 / 0", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1); import sys; sys.stdout.write('x')", 1),
        ("import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('later'))).start()", 0),
        ("import atexit; atexit.register(print, 'at the end')", 0),
    ],
)
def test_it_ends_as_a_new_process_does(tmp_path, code, status):
    forked, new = both([sys.executable, "-c", code], "", environment(), tmp_path)
    assert (forked.returncode, forked.stdout) == (new.returncode, new.stdout) and forked.returncode == status
    assert forked.stderr.splitlines()[-1:] == new.stderr.splitlines()[-1:]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_a_signal_ends_it(tmp_path, number):
    process = start("import time; time.sleep(100)", tmp_path)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.send_signal(number)
    assert process.wait(60) == process.poll() == process.returncode == -number
    process.send_signal(number)  # nobody gets it: its number may be another's


def test_many_at_once_end_each_with_its_own_status(tmp_path):
    processes = [start(f"import sys; sys.exit({number})", tmp_path) for number in range(20)]
    assert [process.wait(60) for process in processes] == list(range(20))


def test_none_of_them_sees_what_another_did(tmp_path):
    code = "from m365proxy.system import files; print(hasattr(files, 'mine')); files.mine = 1"
    for _ in range(2):
        done = spawner.run([sys.executable, "-c", code], "", env=environment(), cwd=tmp_path, timeout=60)
        assert done.stdout == "False\n", done.stderr


def test_chance_is_not_the_same_for_all(tmp_path):
    code = "import random, os, ssl; print(random.random(), os.urandom(8), ssl.RAND_bytes(8))"
    words = [sys.executable, "-c", code]
    said = {spawner.run(words, "", env=environment(), cwd=tmp_path, timeout=60).stdout for _ in range(3)}
    assert len(said) == 3


@pytest.mark.parametrize("name", ["PYTHONIOENCODING", "LC_ALL", "TZ"])
def test_what_only_a_new_interpreter_reads_gets_one(tmp_path, name):
    assert not spawner._is_forkable([sys.executable, spawner.PROGRAM], environment(**{name: "C"}))
    assert spawner._is_forkable([sys.executable, spawner.PROGRAM], environment(HOME="/"))


def test_one_that_takes_too_long_is_killed(tmp_path):
    with pytest.raises(subprocess.TimeoutExpired):
        code = "import os, time; print(os.getpid()); time.sleep(100)"
        spawner.run([sys.executable, "-c", code], "", env=environment(), cwd=tmp_path, timeout=0.5)
