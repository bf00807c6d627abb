import pytest
from cases import each

from m365proxy.admin import spans
from m365proxy.errors import UsageError


@each("span, seconds", [("90s", 90), (" 30M ", 1800), ("2h", 7200), ("7d", 604800), ("0s", 0)])
def test_spans(span, seconds):
    assert spans.seconds_of(span, "--learn") == seconds


@each("span", ["", "2", "h", "-1h", "1.5h", "2 h", "1w", "1234567s", "2h30m"])
def test_a_bad_span_is_a_sentence(span):
    with pytest.raises(UsageError, match="^--learn takes a time such as 30m"):
        spans.seconds_of(span, "--learn")
