import io
import logging
import os
import socket
import sys
import threading

import pytest
from cases import each

from m365proxy.system import groupwriter, log


@each(
    "raw,cleaned",
    [
        ("plain", "plain"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        (b"caf\xe9\0", "caf\\xe9\\x00"),
        ("\x1b[31m", "\\x1b[31m"),
        ("größer", "größer"),
        ("\u202e", "\\u202e"),
        ("x" * 300, "x" * 199 + "…"),
    ],
)
def test_clean(raw, cleaned):
    assert log.clean(raw) == cleaned


def test_quote_shows_where_a_value_ends():
    assert log.quote('a" from 1.2.3.4 user "b') == '"a\\" from 1.2.3.4 user \\"b"'


@pytest.fixture
def restored():
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising
    logging.getLogger("m365proxy").setLevel(logging.NOTSET)


def test_an_event_is_one_line_and_an_exception_no_traceback(tmp_path, restored):
    path = tmp_path / "log"
    log.setup("INFO", str(path))
    logger = log.get("spool")
    logger.info("two\nlines")
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        logger.exception("it broke")
    lines = path.read_text().splitlines()
    assert len(lines) == 2
    assert lines[0].endswith("INFO spool: two\\x0alines")
    assert "ValueError: bad\\x0athing at test_log.py:" in lines[1]


def test_the_libraries_may_not_tell_urls(tmp_path, restored):
    path = tmp_path / "log"
    log.setup("DEBUG", str(path))
    logging.getLogger("urllib3.connectionpool").debug("GET https://upload/secret")
    assert path.read_text() == ""


def test_a_log_file_that_cannot_be_opened_is_said(tmp_path, restored):
    with pytest.raises(log.CannotCreate, match="logging.file"):
        log.setup("INFO", str(tmp_path / "no" / "log"))


@pytest.mark.skipif(sys.platform == "win32", reason="pipes are no files there")
def test_a_log_file_that_is_a_pipe_waits_for_no_reader(tmp_path, restored):
    path = tmp_path / "log"
    os.mkfifo(path)
    with pytest.raises(log.CannotCreate, match="nobody reads. Name a file"):
        log.setup("INFO", str(path))
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), encoding="utf-8") as reader:
        log.setup("INFO", str(path))
        log.get("smtp").info("one")
        assert reader.readline().endswith("INFO smtp: one\n")
        log.setup("INFO")


def test_a_log_file_that_is_lost_stops_nothing(tmp_path, restored, capsys):
    """Rotated away together with its directory: the line goes to stderr, and back to the file when it can."""
    directory = tmp_path / "log"
    directory.mkdir()
    path = directory / "m365proxy.system.log"
    log.setup("INFO", str(path))
    log.get("smtp").info("one")
    directory.rename(tmp_path / "old")
    log.get("smtp").info("two")
    log.get("smtp").info("three")
    told = capsys.readouterr().err.splitlines()
    assert [line.rpartition(" ")[2] for line in told] == ["two", "three"]
    directory.mkdir()
    log.get("smtp").info("four")
    assert path.read_text().endswith("INFO smtp: four\n")


def test_a_log_file_that_takes_no_more_stops_nothing(restored, capsys):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    log.setup("INFO", "/dev/full")
    log.get("smtp").info("one")
    assert "INFO smtp: one" in capsys.readouterr().err
    log.setup("INFO")


def test_a_syslog_that_cannot_be_reached_is_told_and_no_more(tmp_path, restored, monkeypatch, capsys):
    def unknown(*_):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(log, "_SYSLOG", str(tmp_path / "missing"))
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    log.setup("INFO", syslog=True)
    log.get("smtp").info("one")
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("logging.syslog cannot be reached: ")
    assert told[1].endswith("INFO smtp: one")


@pytest.fixture
def syslog(tmp_path, monkeypatch):
    """The socket of a syslog daemon."""
    path = str(tmp_path / "devlog")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        listening.settimeout(10)
        monkeypatch.setattr(log, "_SYSLOG", path)
        yield listening


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there is no syslog")
def test_syslog_gets_the_same_words_as_the_file(tmp_path, restored, syslog):
    """With the facility mail (2) and the priority of the level (RFC 5424 6.2.1)."""
    path = tmp_path / "log"
    log.setup("DEBUG", str(path), syslog=True)
    for level in ("error", "warning", "info", "debug"):
        getattr(log.get("test"), level)("what\nhappened to größer")
    got = [syslog.recv(4096).decode().rstrip("\0") for _ in range(4)]
    words = [line.partition("Z ")[2] for line in path.read_text("utf-8").splitlines()]
    assert words[0] == "ERROR test: what\\x0ahappened to größer"
    assert got == [f"<{16 + priority}>m365proxy: {text}" for priority, text in zip((3, 4, 6, 7), words)]


def test_a_flood_is_restrained(tmp_path, restored):
    path = tmp_path / "log"
    log.setup("INFO", str(path))
    for number in range(40):
        log.get("test").warning("login failed %d", number)
    log.get("test").info("the end")
    assert [line.rpartition(" ")[2] for line in path.read_text().splitlines()] == [*map(str, range(30)), "end"]


class Hanging(io.StringIO):
    """Standard error that nobody reads for a while."""

    def __init__(self):
        super().__init__()
        self.writes = []
        self.began, self.goes_on = threading.Semaphore(0), threading.Event()

    def write(self, text):
        self.began.release()
        assert self.goes_on.wait(30)
        self.writes.append(text)
        return len(text)


@pytest.fixture
def hanging(restored, monkeypatch):
    """It hangs with a line in hand."""
    stream = Hanging()
    monkeypatch.setattr("sys.stderr", stream)
    log.setup()
    thread = threading.Thread(target=log.get("test").info, args=("first",))
    thread.start()
    assert stream.began.acquire(timeout=30)
    yield stream
    stream.goes_on.set()
    thread.join(30)


def ends(stream):
    return [[line.rpartition(" ")[2] for line in text.splitlines()] for text in stream.writes]


def test_while_a_line_is_written_nobody_waits_and_others_are_one_write(hanging):
    for number in range(3):
        log.get("test").info("%d", number)
    hanging.goes_on.set()
    logging.getLogger().handlers[0].close()  # waits for what is still to be written, as the end of the program does
    assert ends(hanging) == [["first"], ["0", "1", "2"]]
    assert all(text.endswith("\n") for text in hanging.writes)


def test_lines_that_nobody_takes_for_too_long_are_counted(hanging, monkeypatch):
    monkeypatch.setattr(groupwriter, "_MOST", 2)
    for number in range(5):
        log.get("test").info("%d", number)
    hanging.goes_on.set()
    logging.getLogger().handlers[0].close()
    told = "WARNING log: 3 lines were lost: nobody took them for too long\n"
    assert [text for text in hanging.writes if "lost" in text] == [told]
    assert [line for write in ends(hanging) for line in write if line != "long"] == ["first", "0", "1"]


def test_a_standard_error_that_is_closed_stops_nothing(restored, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    log.setup()
    stream.close()
    log.get("test").info("one")


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there is no syslog")
def test_a_syslog_that_hangs_stops_nothing(tmp_path, restored, syslog, monkeypatch):
    """A socket takes a few lines that nobody reads; then the standard handler would wait for ever."""
    monkeypatch.setattr(log, "_SYSLOG_PATIENCE", 0.01)
    path = tmp_path / "log"
    log.setup("INFO", str(path), syslog=True)
    for _ in range(2000):
        log.get("test").info("one")
    assert len(path.read_text().splitlines()) == 2000


@pytest.mark.parametrize("redirected", [False, True])
def test_the_journal_gets_priorities_and_no_time(tmp_path, restored, monkeypatch, redirected):
    """`journalctl -p warning` shows what matters.  A file that stderr leads to is no journal."""
    with open(tmp_path / "stderr", "w+", encoding="utf-8") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + redirected}")
        monkeypatch.setattr("sys.stderr", stream)
        log.setup("DEBUG")
        for level in ("error", "warning", "info", "debug"):
            getattr(log.get("test"), level)("what\nhappened")
        stream.seek(0)
        lines = stream.read().splitlines()
    if redirected:
        assert all(line.startswith("20") and "Z " in line for line in lines)
    else:
        assert lines == [
            "<3>ERROR test: what\\x0ahappened",
            "<4>WARNING test: what\\x0ahappened",
            "<6>INFO test: what\\x0ahappened",
            "<7>DEBUG test: what\\x0ahappened",
        ]
