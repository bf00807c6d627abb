"""What tests of several modules need: a certificate, waiting for a condition, and which tests are the fast tier.

The fast tier, `python -m pytest -m "not slow"`, opens no socket and starts no program.  What is slow is decided here
alone, by `is_slow`, and held to: a test of the fast tier that opens one of these fails.
"""

from __future__ import annotations

import functools
import gc
import inspect
import pathlib
import signal
import socket
import subprocess
import threading
import types

import pytest
import urllib3.util.connection  # noqa: F401  when it is imported first it binds a socket, to see whether there is IPv6
import waiting

from m365proxy.server import tls

TESTS = pathlib.Path(__file__).parent

# A shell that runs the tests in the background makes them ignore Ctrl-C, and with them the programs they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW_FOLDERS = {"corpus", "e2e", "faults", "fuzz", "packaging"}

# A test is slow if it, one of its fixtures, or a function or class of tests/ that these use, has one of these names in
# its code: what opens a socket or starts a program, a stand-in tenant or a listener; also what measures memory, fills a
# queue with thousands of messages or makes a file of many megabytes.
SLOW_NAMES = {
    *("Sandbox", "Listener", "Outbound", "HTTPServer", "ThreadingHTTPServer", "ThreadingTCPServer"),
    "StatusPort",
    *("create_connection", "create_server", "bind", "connect", "subprocess", "Popen", "multiprocessing"),
    *("tracemalloc", "fill", "truncate"),
}


def is_slow(item) -> bool:
    """Whether a test is left out of the fast tier.  Property tests are: they try hundreds of examples."""
    folder = item.path.relative_to(TESTS).parts[0]
    if folder in SLOW_FOLDERS or getattr(item.function, "is_hypothesis_test", False):
        return True
    fixtures = dict(item._fixtureinfo.name2fixturedefs)
    del fixtures[_nothing_slow.__name__]
    return any(map(_reaches_slow, [item.function, *(one.func for found in fixtures.values() for one in found)]))


@functools.lru_cache(None)
def _reaches_slow(function) -> bool:
    """Follows names from a function through the functions and classes of tests/."""
    found, seen = [function], {function}
    while found:
        one = found.pop()
        if isinstance(one, type):
            used = [*vars(one).values(), *one.__bases__]
        else:
            one = inspect.unwrap(one)
            names = _names(one.__code__)
            if names & SLOW_NAMES:
                return True
            used = [one.__globals__[name] for name in names if name in one.__globals__]
        used = [value for value in used if _is_of_tests(value) and value not in seen]
        found += used
        seen.update(used)
    return False


def _names(code) -> set:
    """The global names and attributes in a function, inner functions included."""
    inner = [_names(one) for one in code.co_consts if isinstance(one, types.CodeType)]
    return set(code.co_names).union(*inner)


def _is_of_tests(value) -> bool:
    if not (inspect.isfunction(value) or isinstance(value, type)):
        return False
    file = getattr(inspect.getmodule(value), "__file__", None) or ""
    return pathlib.Path(file).is_relative_to(TESTS)


def pytest_configure(config):
    gc.disable()  # until all is collected: nothing of that goes before the end, and looking through it again takes long
    config.addinivalue_line("markers", "slow: not of the fast tier; set by tests/conftest.py, never by hand")


def pytest_ignore_collect(collection_path, config):
    """The fast tier does not even read the folders that are slow altogether."""
    slow = collection_path.parent == TESTS and collection_path.name in SLOW_FOLDERS
    return (slow and config.option.markexpr == "not slow") or None


def pytest_collection_modifyitems(items):
    for item in items:
        if is_slow(item):
            item.add_marker("slow")


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _nothing_slow(request, monkeypatch):
    """Fails a test of the fast tier that opens a socket or starts a program, whoever swallows the error."""
    if request.node.get_closest_marker("slow"):
        yield
        return
    opened = []
    others = set(threading.enumerate()) - {threading.current_thread()}  # what earlier tests have left

    def refuse(method, what):
        def refused(*args, **more):
            if threading.current_thread() in others:
                return method(*args, **more)
            opened.append(what)
            raise AssertionError(f"a test of the fast tier {what}")

        return refused

    monkeypatch.setattr(socket.socket, "connect", refuse(socket.socket.connect, "connects a socket"))
    monkeypatch.setattr(socket.socket, "bind", refuse(socket.socket.bind, "binds a socket"))
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse(subprocess.Popen.__init__, "starts a program"))
    yield
    if opened:
        pytest.fail(f"a test of the fast tier {' and '.join(opened)}: is_slow() in tests/conftest.py does not see it")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """(certificate, key): paths of PEM files for localhost, 127.0.0.1 and ::1."""
    directory = tmp_path_factory.mktemp("certificate")
    paths = directory / "cert.pem", directory / "key.pem"
    for path, content in zip(paths, tls.self_signed(["localhost", "127.0.0.1", "::1"])):
        path.write_bytes(content)
    return tuple(map(str, paths))


@pytest.fixture(scope="session")
def wait_until():
    """waiting.wait_until."""
    return waiting.wait_until
