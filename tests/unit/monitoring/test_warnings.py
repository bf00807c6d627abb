"""Which findings are told of, when, and how often, whatever the clock does."""

import json
import logging
import math
import random

import pytest

from m365proxy.monitoring.warnings import Warnings

NOW, MINUTE, HOUR, DAY, YEAR = 1_800_000_000.0, 60.0, 3600.0, 86400.0, 365 * 86400.0
TICK = 20.0


def finding(key, sentence="Something is wrong."):
    return {"key": key, "sentence": sentence, "commands": ["m365proxy queue list"]}


class Harness:
    """A program whose findings are as the test wants, with a tick every 20 seconds."""

    def __init__(self, directory):
        self.directory = str(directory)
        self.seconds = self.wall = 0.0
        self.found = {}
        self.sent = []  # (seconds, keys that stand, keys that are over) of each notice
        self.arrive = True
        self.unsettled = None
        self.start()

    def start(self):
        self.warnings = Warnings(lambda: self.seconds)
        self.warnings.load(self.directory)

    def restart(self, away=HOUR):
        """The program is stopped, and is started later on a machine that counts anew."""
        self.warnings.save(self.directory)
        self.wall += away
        self.seconds = 0.0
        self.start()

    def find(self, *keys):
        self.found = {key: finding(key) for key in keys}

    def run(self, seconds):
        end = self.seconds + seconds
        while self.seconds < end:
            self.seconds += TICK
            self.wall += TICK
            self.tick()

    def tick(self):
        notice = self.warnings.follow(list(self.found.values()), NOW + self.wall)
        if notice is not None:
            standing = [one["key"] for one in notice.standing]
            self.sent.append((self.seconds, standing, [one["key"] for one, _ in notice.over]))
            self.unsettled = notice
            if self.arrive is not None:
                self.warnings.settle(notice, self.arrive)

    def told(self):
        """What the notices said since this was asked last."""
        said, self.sent = [(standing, over) for _, standing, over in self.sent], []
        return said


@pytest.fixture
def harness(tmp_path):
    return Harness(tmp_path)


def test_what_stands_ten_minutes_is_told_once(harness):
    harness.find("held")
    harness.run(10 * MINUTE)
    assert harness.told() == []
    harness.run(10 * MINUTE)
    assert harness.told() == [(["held"], [])]
    harness.run(20 * HOUR)
    assert harness.told() == []


def test_what_comes_and_goes_each_minute_is_never_told(harness):
    for _ in range(200):
        harness.find("held")
        harness.run(MINUTE)
        harness.find()
        harness.run(MINUTE)
    assert harness.told() == [] and harness.warnings.is_empty


def test_what_lasts_is_told_once_a_day(harness):
    harness.find("held")
    harness.run(3 * DAY + HOUR)
    times = [seconds for seconds, _, _ in harness.sent]
    assert len(times) == 4 and all(later - earlier >= DAY for earlier, later in zip(times, times[1:]))


def test_what_is_gone_ten_minutes_is_over_and_that_is_told_once(harness):
    harness.find("held")
    harness.run(HOUR)
    harness.find()
    harness.run(9 * MINUTE)
    harness.find("held")  # it was gone for too short a time
    harness.run(30 * MINUTE)
    harness.find()
    assert harness.told() == [(["held"], [])]
    harness.run(11 * MINUTE)
    assert harness.told() == [([], ["held"])]
    harness.run(2 * DAY)
    assert harness.told() == [] and harness.warnings.is_empty


def test_the_end_is_when_it_was_seen_no_more(harness):
    harness.find("held")
    harness.run(HOUR)
    harness.find()
    harness.run(MINUTE)
    harness.find("held")
    harness.run(HOUR)
    harness.find()
    end = NOW + harness.wall + TICK
    harness.run(HOUR)
    [(finding, ended)] = harness.unsettled.over
    assert (finding["since"], ended) == (NOW + TICK, end)


def test_what_comes_back_every_hour_is_told_once_a_day_with_its_end(harness):
    for _ in range(48):
        harness.find("held")
        harness.run(HOUR)
        harness.find()
        harness.run(HOUR)
    assert harness.told() == [(["held"], []), ([], ["held"])] * 4


def test_nobody_hears_of_the_end_of_what_was_never_told(harness):
    harness.arrive = False
    harness.find("held")
    harness.run(30 * MINUTE)
    harness.find()
    harness.run(3 * HOUR)
    assert harness.told() == [(["held"], [])]


def test_an_outage_makes_one_notice(harness):
    harness.find(*(f"quota box{number}@contoso.com" for number in range(30)))
    harness.run(DAY - HOUR)
    [(standing, over)] = harness.told()
    assert len(standing) == 30 and over == []


def test_what_follows_waits_until_ten_minutes_after_the_last_notice(harness):
    for number in range(30):
        harness.find(*(f"quota box{one}@contoso.com" for one in range(number + 1)))
        harness.run(MINUTE)
    harness.run(HOUR)
    times = [seconds for seconds, _, _ in harness.sent]
    assert len(times) == 4 and all(later - earlier >= 10 * MINUTE for earlier, later in zip(times, times[1:]))
    assert len(harness.sent[-1][1]) == 30


def test_a_notice_says_all_that_is_to_do(harness):
    harness.find("held")
    harness.run(HOUR)
    harness.find("held", "failed")
    harness.run(HOUR)
    assert harness.told() == [(["held"], []), (["held", "failed"], [])]


def test_what_reached_nobody_is_sent_again_after_an_hour(harness):
    harness.arrive = False
    harness.find("held")
    harness.run(10 * MINUTE + 3 * HOUR)
    assert len(harness.told()) == 3
    harness.arrive = True
    harness.run(DAY)
    assert len(harness.told()) == 1


def test_while_a_notice_is_on_its_way_only_news_makes_another(harness):
    harness.arrive = None
    harness.find("held")
    harness.run(30 * MINUTE)
    first = harness.unsettled
    assert harness.told() == [(["held"], [])]
    harness.find("held", "failed")
    harness.run(30 * MINUTE)
    assert harness.told() == [(["held", "failed"], [])]
    harness.warnings.settle(harness.unsettled, True)
    harness.warnings.settle(first, False)
    harness.run(30 * MINUTE)
    assert harness.told() == []


def test_the_end_is_told_too_if_the_warning_arrived_after_it(harness):
    harness.arrive = None
    harness.find("held")
    harness.run(11 * MINUTE)
    harness.find()
    harness.run(15 * MINUTE)
    harness.warnings.settle(harness.unsettled, True)
    harness.run(15 * MINUTE)
    assert harness.told() == [(["held"], []), ([], ["held"])]


@pytest.mark.parametrize("moment", [0.0, 5 * MINUTE, 9 * MINUTE, 30 * MINUTE, 12 * HOUR])
def test_a_restart_neither_repeats_nor_forgets(harness, moment):
    harness.find("held")
    harness.run(moment)
    harness.restart()
    harness.run(11 * HOUR)
    assert harness.told() == [(["held"], [])]
    harness.find()
    harness.run(5 * MINUTE)
    harness.restart()
    harness.run(HOUR)
    assert harness.told() == [([], ["held"])]


def test_a_notice_that_the_stop_cut_off_is_sent_by_the_next_run(harness):
    harness.arrive = None
    harness.find("held")
    harness.run(11 * MINUTE)
    harness.restart()
    harness.arrive = True
    harness.run(MINUTE)
    assert harness.told() == [(["held"], []), (["held"], [])]


@pytest.mark.parametrize("jump", [YEAR, -YEAR, -60 * YEAR])
def test_a_clock_that_jumps_changes_nothing(harness, jump):
    harness.find("held")
    harness.run(5 * MINUTE)
    harness.wall += jump
    harness.run(5 * MINUTE)
    assert harness.told() == []
    harness.run(MINUTE)
    assert harness.told() == [(["held"], [])]
    harness.wall -= jump
    harness.run(23 * HOUR)
    harness.wall += jump
    harness.restart()
    assert harness.told() == []
    harness.find()
    harness.run(HOUR)
    assert harness.told() == [([], ["held"])]


def test_a_finding_has_its_begin(harness):
    harness.find("held")
    harness.run(HOUR)
    begin = NOW + TICK

    def since():
        return harness.warnings.date(finding("held", "Another sentence."), NOW + harness.wall)["since"]

    assert since() == begin
    harness.restart()
    harness.run(MINUTE)
    assert since() == begin
    harness.find()
    harness.run(HOUR)
    assert since() == NOW + harness.wall


def test_the_log_says_begin_and_end_once(harness, caplog):
    caplog.set_level(logging.INFO)
    harness.find("held")
    harness.run(HOUR)
    harness.find()
    harness.run(HOUR)
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    said = "Something is wrong. Run: m365proxy queue list"
    assert lines == [("WARNING", said), ("INFO", "over: Something is wrong.")]


def test_the_log_says_each_day_that_it_lasts(harness, caplog):
    harness.find("held")
    harness.run(3 * DAY)
    assert [record.getMessage()[:6] for record in caplog.records] == ["Someth", "still:", "still:"]


def test_whatever_comes_and_goes_there_are_few_notices(harness):
    """At most one warning a day of each, and one of its end; and they agree with what stands in the end."""
    choose = random.Random(7)
    keys = [f"refused box{number}@contoso.com" for number in range(5)]
    for _ in range(150):
        harness.find(*(key for key in keys if choose.random() < 0.6))
        harness.run(choose.choice([MINUTE, 20 * MINUTE, 2 * HOUR]))
        if choose.random() < 0.1:
            harness.restart()
    for key in keys:
        ends = [over for _, _, over in harness.sent if key in over]
        assert 1 < len(ends) <= harness.wall / DAY + 1
    harness.find()
    harness.run(2 * HOUR)
    state = {}
    for _, standing, over in harness.sent:
        state.update({**dict.fromkeys(standing, True), **dict.fromkeys(over, False)})
    assert not any(state.values())


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[7]", b'[{"finding": {}}]', b'{"x": 1}', b"null"])
def test_a_damaged_file_begins_anew(tmp_path, content):
    (tmp_path / "warnings.json").write_bytes(content)
    harness = Harness(tmp_path)
    harness.find("held")
    harness.run(HOUR)
    assert harness.told() == [(["held"], [])]


@pytest.mark.parametrize("name", ["since", "ended", "seconds", "told_ago"])
@pytest.mark.parametrize("value", [math.inf, math.nan, "x", []])
def test_times_that_are_none_begin_anew(harness, tmp_path, name, value):
    harness.find("held")
    harness.run(HOUR)
    harness.warnings.save(harness.directory)
    [stored] = json.loads((tmp_path / "warnings.json").read_text())
    (tmp_path / "warnings.json").write_text(json.dumps([{**stored, name: value}]))
    again = Harness(tmp_path)
    assert again.warnings.is_empty


def test_what_cannot_be_read_is_said_and_begins_anew(tmp_path, caplog):
    (tmp_path / "warnings.json").mkdir()
    assert Harness(tmp_path).warnings.is_empty
    assert "warnings.json cannot be read, so warnings may be repeated: " in caplog.text


def test_what_the_disk_does_not_take_is_still_to_be_saved(harness):
    harness.find("held")
    harness.run(MINUTE)
    assert harness.warnings.is_changed
    with pytest.raises(OSError):
        harness.warnings.save(harness.directory + "/nowhere/at/all")
    assert harness.warnings.is_changed
    harness.warnings.save(harness.directory)
    assert not harness.warnings.is_changed
