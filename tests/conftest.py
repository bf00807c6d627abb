"""What tests of several modules need: a certificate, waiting for a condition, and which tests are the fast tier.

The fast tier, `python -m pytest -m "not slow"`, opens no socket and starts no program.  What is slow is decided here
alone, by `is_slow`, and held to: a test of the fast tier that opens one of these fails.
"""

from __future__ import annotations

import functools
import gc
import inspect
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import types

import pytest
import urllib3.util.connection  # noqa: F401  when it is imported first it binds a socket, to see whether there is IPv6
import waiting

from m365proxy.server import tls

TESTS = pathlib.Path(__file__).parent

# With this, each program that a test starts would compile the whole package once more.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell that runs the tests in the background makes them ignore Ctrl-C, and with them the programs they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW_FOLDERS = {"corpus", "e2e", "faults", "fuzz", "packaging"}

# A test is slow if it, one of its fixtures, or a function or class of tests/ that these use, has one of these names in
# its code: what opens a socket or starts a program, a stand-in tenant or a listener; also what measures memory, hashes
# passwords, fills a queue with thousands of messages or a page with hundreds of mailboxes, makes a file of many
# megabytes or reads a flood.
SLOW_NAMES = {
    *("Sandbox", "Listener", "Outbound", "HTTPServer", "ThreadingHTTPServer", "ThreadingTCPServer"),
    "StatusPort",
    *("create_connection", "create_server", "bind", "connect", "subprocess", "Popen", "multiprocessing"),
    *("tracemalloc", "hash_password", "Verifier", "set_password", "fill", "huge", "truncate", "flood"),
    *(["socketpair"] if os.name == "nt" else []),  # made of a listener and a connection there
}


def is_slow(item) -> bool:
    """Whether a test is left out of the fast tier.  Property tests are: they try hundreds of examples."""
    if _folder(item.path) in SLOW_FOLDERS or getattr(item.function, "is_hypothesis_test", False):
        return True
    fixtures = item._fixtureinfo.name2fixturedefs
    return any(map(_reaches_slow, [item.function, *(one.func for found in fixtures.values() for one in found)]))


@functools.lru_cache(None)
def _folder(path) -> str:
    """The folder of tests/ that a file is in; "" if it is in none."""
    path = pathlib.Path(path)
    return path.relative_to(TESTS).parts[0] if path.is_relative_to(TESTS) else ""


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
    return bool(_folder(getattr(sys.modules.get(value.__module__), "__file__", None) or ""))


def pytest_configure(config):
    is_whole = config.args == config.getini("testpaths") and not _is_fast_tier(config)
    if is_whole and config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        _compile()
    gc.disable()  # until all is collected: nothing of that goes before the end, and looking through it again takes long
    if _is_fast_tier(config):
        for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            os.environ.pop(name, None)  # each Outbound would read the whole file, and nothing here goes out
    config.addinivalue_line("markers", "slow: not of the fast tier; set by tests/conftest.py, never by hand")


def _compile():
    """On a fresh clone, the tests' modules are compiled here, before each of several processes compiles them all."""
    if any((TESTS / "unit" / "__pycache__").glob(f"*.{sys.implementation.cache_tag}-pytest-{pytest.__version__}.pyc")):
        return
    files = sorted(TESTS.rglob("test_*.py"))
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    running = [subprocess.Popen([*words, *half], stdout=subprocess.DEVNULL) for half in (files[::2], files[1::2])]
    for one in running:
        one.wait()


def pytest_ignore_collect(collection_path, config):
    """The fast tier does not even read the folders that are slow altogether."""
    slow = collection_path.parent == TESTS and collection_path.name in SLOW_FOLDERS
    return (slow and _is_fast_tier(config)) or None


def _is_fast_tier(config) -> bool:
    return config.option.markexpr == "not slow"


@functools.lru_cache(None)
def _allow_time():
    """Property tests know no time limit, which a slow machine would not keep."""
    try:
        import hypothesis
    except ImportError:  # .ci/packages tries what is installed without it
        return
    patient = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
    hypothesis.settings.register_profile("patient", **patient)
    hypothesis.settings.load_profile("patient")


def pytest_collectstart():
    _allow_time()  # before any test module is imported; the process that only hands out tests imports none


def pytest_collection_modifyitems(items):
    for item in items:
        if is_slow(item):
            item.add_marker("slow")
        if "monkeypatch" in item.fixturenames:
            # First, so that it is undone last: threads that other fixtures have started and will stop rely on it.
            item.fixturenames.remove("monkeypatch")
            item.fixturenames.insert(0, "monkeypatch")


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


class _Watch:
    """Over a test of the fast tier: what it opens or starts all the same."""

    opened = None  # a list; None while no such test runs
    others = frozenset()  # the threads that earlier tests have left


def _watched(method, what):
    """Put in the place of a method for good, which costs less than to do so for each test."""

    @functools.wraps(method)
    def watched(*args, **more):
        if _Watch.opened is None or threading.current_thread() in _Watch.others:
            return method(*args, **more)
        _Watch.opened.append(what)
        raise AssertionError(f"a test of the fast tier {what}")

    return watched


def _sync(descriptor):
    """No test of the fast tier waits for the disk: whether what is written stays there, a power cut only would show."""
    return _fsync(descriptor) if _Watch.opened is None else os.fstat(descriptor) and None


_fsync, os.fsync = os.fsync, _sync
socket.socket.connect = _watched(socket.socket.connect, "connects a socket")
socket.socket.bind = _watched(socket.socket.bind, "binds a socket")
subprocess.Popen.__init__ = _watched(subprocess.Popen.__init__, "starts a program")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    if item.get_closest_marker("slow") is None:
        _Watch.others = frozenset(threading.enumerate()) - {threading.current_thread()}
        _Watch.opened = []


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown():
    """Fails a test of the fast tier that opened a socket or started a program, whoever swallowed the error."""
    opened, _Watch.opened = _Watch.opened, None
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
