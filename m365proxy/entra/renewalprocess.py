"""Renewing in a process of its own, about once an hour: msal and all that it loads go when it ends.

It is this program with a word for a command that nobody types.  On its standard input it gets a question, a line of
JSON with everything that it needs.  It answers in lines of JSON: whose sign-in it is, then the token or why there is
none.  No secret is in its arguments or its environment.  Its standard input ends with its parent, and so does it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import IO, Any, Callable, Dict, Iterator, Type, Union, cast

from .. import __version__
from ..errors import ProxyError, SignInNeeded, Temporary
from ..system import jsontext, log, ownprocess
from .http import Busy, Misconfigured
from .registration import Registration
from .renewer import NOBODY, Grant, Holder, Renewer
from .tokenfile import Identity, KeyUnusable, TokenFile, TokenFileDamaged

# Seconds until it is killed.  Its requests have time limits of their own; threads wait for a renewal a little longer.
_SECONDS = 200.0

# Seconds it has after its answer to tidy up: the single file removes the copy of certificates that it may have made.
_END_SECONDS = 10.0

# Octets of a line, of the question or the answer; a token has a few thousand.
_LONGEST = 1024 * 1024

# What it may refuse with.
_REFUSALS: Dict[str, Type[ProxyError]] = {
    kind.__name__: kind for kind in (Temporary, Busy, SignInNeeded, Misconfigured, TokenFileDamaged, KeyUnusable)
}

_IT = "The process that renews the sign-in"


class RenewalProcess:
    """In place of a Renewer.  For one thread at a time."""

    def __init__(self, registration: Registration, user: str, token_file: TokenFile, seconds: float = _SECONDS):
        """As Renewer; the process is killed after so many seconds."""
        self._registration = registration
        self._user = user
        self._file = token_file
        self._seconds = seconds

    def holder(self) -> None:
        """Only a renewal finds out."""

    def renew(self, force: bool, note: Callable[[Holder], object]) -> Grant:
        """As Renewer.renew; Temporary also if the process cannot be started, dies, hangs or answers nonsense."""
        if not self._registration.app_only and self._file.identity() is None:
            raise SignInNeeded(NOBODY)
        question = {
            "version": __version__,
            "registration": self._registration.settings(),
            "user": self._user,
            "state_dir": self._file.state_dir,
            "key": self._file.key_environ(),
            "force": force,
        }
        with self._process() as process:
            with contextlib.suppress(OSError):  # it has died: its end says so
                process.stdin.write(json.dumps(question).encode() + b"\n")
                process.stdin.flush()
            return _answer(process, note)

    @contextlib.contextmanager
    def _process(self) -> Iterator[Any]:
        """The process, which is killed if it takes too long; afterwards it has ended."""
        try:
            process = subprocess.Popen(
                ownprocess.command(ownprocess.RENEWAL),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=ownprocess.environ(),
                **ownprocess.APART,
            )
        except OSError as error:
            raise Temporary(f"{_IT} cannot be started: {error.strerror}.") from None
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._seconds, end)
        timer.daemon = True
        try:
            try:
                timer.start()
            except RuntimeError:
                raise Temporary("The system has no thread left to renew the sign-in with.") from None
            yield process
        except _Died:
            if late.is_set():
                raise Temporary(f"{_IT} did not end within {self._seconds:.0f} s, and was killed.") from None
            raise
        finally:
            timer.cancel()
            process.kill()  # if all is well it has ended
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    cast("IO[bytes]", pipe).close()
            process.wait()


def apart(registration: Registration, user: str, token_file: TokenFile) -> Union[RenewalProcess, Renewer]:
    """A RenewalProcess, or a Renewer where no process can be started."""
    kind = RenewalProcess if ownprocess.is_possible() else Renewer
    return kind(registration, user, token_file)


class _Died(Temporary):
    """It has ended without an answer."""


def _answer(process: Any, note: Callable[[Holder], object]) -> Grant:
    """What the process answers; raises what it refuses with, _Died or Temporary."""
    while True:
        line = process.stdout.readline(_LONGEST)
        if not line:
            raise _Died(f"{_IT} has died ({_status(process.wait())}). `m365proxy check` may say why.")
        try:
            said = jsontext.parse(line)
            if "holder" not in said:
                _let_end(process)
            if "grant" in said:
                return _grant(said["grant"])
            if "refusal" in said:
                raise _refusal(said)
            note(Holder(*said["holder"]))
        except (ValueError, LookupError, TypeError, AttributeError):
            raise Temporary(f"{_IT} answers nonsense. `m365proxy check` may say why.") from None


def _let_end(process: Any) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_SECONDS)


def _status(code: int) -> str:
    if code >= 0:
        return f"status {code}"
    return f"signal {-code}" + (", perhaps for want of memory" if code == -getattr(signal, "SIGKILL", 9) else "")


def _grant(said: Dict[str, Any]) -> Grant:
    grant = Grant(**said)
    return grant._replace(
        identity=cast("Identity", tuple(grant.identity)) if grant.identity else None,
        holder=Holder(*grant.holder) if grant.holder else None,
    )


def _refusal(said: Dict[str, Any]) -> ProxyError:
    error = _REFUSALS[said["refusal"]](str(said["sentence"]))
    if isinstance(error, Busy):
        error.seconds = float(said["seconds"])
    return error


# In the process.


def answer() -> None:
    """Answer the question on standard input, on standard output."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):  # they are for the parent, with which this process ends
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    try:
        question = jsontext.parse(sys.stdin.buffer.readline(_LONGEST))
        threading.Thread(target=_end_with_parent, daemon=True).start()
        said = {"grant": _renewed(question)._asdict()}
    except ProxyError as error:
        said = _refused(error)
    except Exception as error:  # the last resort of the process: its parent goes on
        kind = log.clean(f"{type(error).__name__} {getattr(error, 'name', None) or ''}".strip())
        said = _refused(Temporary(f"The sign-in cannot be renewed ({kind}). `m365proxy check` may say why."))
    _say(said)


def _renewed(question: Dict[str, Any]) -> Grant:
    if question["version"] != __version__:
        raise Temporary(f"m365proxy was updated to {__version__} while it runs. Restart it.")
    renewer = Renewer(
        Registration.of(question["registration"]),
        question["user"],
        TokenFile(question["state_dir"], question["key"]),
    )
    return renewer.renew(question["force"], lambda holder: _say({"holder": holder}))


def _refused(error: ProxyError) -> Dict[str, Any]:
    kind = next((one.__name__ for one in type(error).__mro__ if one.__name__ in _REFUSALS), Temporary.__name__)
    return {"refusal": kind, "sentence": str(error), "seconds": getattr(error, "seconds", 0.0)}


def _say(said: Dict[str, Any]) -> None:
    print(json.dumps(said), flush=True)


def _end_with_parent() -> None:
    while os.read(0, 4096):  # not sys.stdin, which could not be closed then
        pass
    os._exit(0)
