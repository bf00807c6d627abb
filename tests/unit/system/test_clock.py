import time

from cases import each

from m365proxy.system.clock import ago, clock_is_plausible


@each(
    "date, plausible",
    [("1970-01-01", False), ("2000-01-01", False), ("2025-06-01", False), ("2025-07-01", True), ("2099-01-01", True)],
)
def test_a_board_without_a_clock_is_not_believed(date, plausible):
    seconds = time.mktime(time.strptime(date, "%Y-%m-%d"))
    assert clock_is_plausible(seconds) is plausible


@each("seconds, text", [(-3, "0 s"), (45.9, "45 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172800, "2 days")])
def test_spans_of_time(seconds, text):
    assert ago(seconds) == text
