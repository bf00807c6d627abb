"""Programs of the checkout in forks of one process that has imported it all, for tests that start hundreds of them.

A new interpreter takes a third of a second to import the program.  `popen` and `run` are as in subprocess, and do fork
if what is started would be the same; see `_is_forkable`.  What is started is the program itself, or Python's -c.

A fork renews its sign-in itself, as where no process can be started for it (ownprocess.is_possible), and not in a new
interpreter.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pathlib
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = str(ROOT / "m365proxy.py")

# What Python and the C library read at their start only: with others, a fork would be another program.
_AT_START = ("PYTHON", "LC_", "LANG", "TZ", "LD_", "MALLOC_", "GLIBC_", "OPENSSL_", "COV")

# Octets of a request, which says all of an environment.
_LONGEST = 1 << 20


def popen(words: Sequence[str], *, stdin: int, stdout: Any, stderr: Any, env: Mapping[str, str], cwd: Any) -> Any:
    """As subprocess.Popen, for DEVNULL or a descriptor, and files."""
    if not _is_forkable(words, env):
        return subprocess.Popen(words, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd)
    return Forked(words, stdin, stdout, stderr, env, cwd)


def run(words: Sequence[str], text: str, *, env: Mapping[str, str], cwd: Any, timeout: float) -> Any:
    """As subprocess.run with a text as its input, and captured output."""
    if not _is_forkable(words, env):
        return run_new(words, text, env=env, cwd=cwd, timeout=timeout)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        reading, writing = os.pipe()
        try:
            with os.fdopen(writing, "w") as typed:
                typed.write(text)  # a pipe takes all that a test types
            process = Forked(words, reading, out, err, env, cwd)
        finally:
            os.close(reading)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(words, process.returncode, out.read(), err.read())


def run_new(words: Sequence[str], text: str, *, env: Mapping[str, str], cwd: Any, timeout: float) -> Any:
    """The same in a new interpreter."""
    return subprocess.run(words, input=text, capture_output=True, text=True, env=env, cwd=cwd, timeout=timeout)


def _is_forkable(words: Sequence[str], env: Mapping[str, str]) -> bool:
    if not sys.platform.startswith("linux") or "M365PROXY_TEST_COMMAND" in os.environ:
        return False
    is_ours = words[0] == sys.executable and (words[1] == "-c" or words[1].startswith(str(ROOT)))
    return is_ours and _of_start(env) == _of_start(_environment())


def _of_start(env: Mapping[str, str]) -> Dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_AT_START)}


def _environment() -> Dict[str, str]:
    return dict(os.environ, PYTHONUNBUFFERED="1", PYTHONWARNINGS="default")


class Forked:
    """A process, with what tests use of subprocess.Popen."""

    returncode: Optional[int] = None

    def __init__(self, words: Sequence[str], stdin: int, stdout: Any, stderr: Any, env: Mapping[str, str], cwd: Any):
        self.args = words
        reading, writing = os.pipe()
        self._news = os.fdopen(reading)
        job = json.dumps([words[1:], dict(env), os.fspath(cwd)]).encode()
        assert len(job) < _LONGEST
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, writing)
            if stdin == subprocess.DEVNULL:
                stdin = os.open(os.devnull, os.O_RDONLY)
                stack.callback(os.close, stdin)
            attached = array.array("i", [stdin, stdout.fileno(), stderr.fileno(), writing])
            _forker().sendmsg([job], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, attached)])
        self.pid = self._next("pid")

    def _next(self, word: str) -> int:
        said = self._news.readline().split()
        assert said[:1] == [word], f"{word} of {self.args} expected, but: {said}"
        return int(said[1])

    def poll(self) -> Optional[int]:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: Optional[float] = None) -> int:
        if self.returncode is None:
            if not select.select([self._news], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self.returncode = self._next("status")
            self._news.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.lru_cache(None)
def _forker() -> socket.socket:
    """The way to the process that forks; it ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LONGEST)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], env=_environment()
        )

    def end() -> None:
        ours.close()
        process.wait(30)

    atexit.register(end)
    return ours


# In the process that forks.


class _Server:
    """Forks, and says how each ended.  It has one thread only."""

    def __init__(self, control: socket.socket):
        self._control = control
        self._news: Dict[int, int] = {}  # by process

    def serve(self) -> Optional[Callable[[], object]]:
        """In a fork: what it has to do.  None at the end."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end this
        signal.signal(signal.SIGCHLD, lambda *_: self._reap())
        while True:
            job, ancillary, _, _ = self._control.recvmsg(_LONGEST, socket.CMSG_SPACE(16))
            if not job:
                return None
            descriptors = list(array.array("i", ancillary[0][2]))
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # until its end can be told
            pid = os.fork()
            if pid == 0:
                return _become(*json.loads(job), descriptors)
            self._news[pid] = descriptors.pop()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            for descriptor in descriptors:
                os.close(descriptor)

    def _reap(self) -> None:
        while self._news:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            news = self._news.pop(pid)
            ended = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            with contextlib.suppress(BrokenPipeError):
                os.write(news, b"status %d\n" % ended)
            os.close(news)


def _become(words: List[str], env: Dict[str, str], cwd: str, descriptors: List[int]) -> Callable[[], object]:
    """Make a fork what a new process would be; what it has to do."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    *streams, news = descriptors
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != news:
            with contextlib.suppress(OSError):  # it was there for the listing
                os.close(int(name))
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv[:] = words
    os.write(news, b"pid %d\n" % os.getpid())
    os.close(news)
    if words[0] == "-c":
        code = sys.argv.pop(1)
        return lambda: exec(code, {"__name__": "__main__"})  # noqa: S102
    return lambda: runpy.run_path(words[0], run_name="__main__")


def _end_with(work: Callable[[], object]) -> NoReturn:
    """Do it, and end as Python does, but for what takes it longest: freeing one thing after the other."""
    status = 0
    try:
        work()
    except SystemExit as error:
        status = error.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # the threads that are waited for
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        status = 120
    os._exit(status)


def _import_all() -> None:
    """What the program imports at once or later."""
    import _strptime  # noqa: F401
    import encodings.ascii  # noqa: F401

    import cryptography.fernet  # noqa: F401
    import cryptography.x509  # noqa: F401
    import msal  # noqa: F401

    import m365proxy

    for found in pkgutil.walk_packages(m365proxy.__path__, "m365proxy."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def main() -> None:
    sys.path[0] = str(ROOT)
    _import_all()
    sys.modules["m365proxy.system.ownprocess"].is_possible = lambda: False  # type: ignore[attr-defined]
    gc.freeze()  # no fork copies what it would look through
    control = socket.socket(fileno=int(sys.argv[1]))
    work = _Server(control).serve()
    if work is None:
        control.close()
    else:
        control.detach()  # a fork has closed it
        _end_with(work)


if __name__ == "__main__":
    main()
