import logging

import pytest

from m365proxy import log


@pytest.mark.parametrize(
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
