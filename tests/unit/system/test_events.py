"""The event log: what the program's log says about steps, as JSON."""

import json
import logging
import os
import pathlib
import re
import shutil
import stat
import threading

import pytest

from m365proxy.system import events, files, log


@pytest.fixture
def directory(tmp_path):
    return str(tmp_path / "events")


@pytest.fixture
def logger(directory):
    """A logger of the program whose steps are written; the whole log has room for 8,000 octets."""
    logger = log.get("test")
    handler = events.EventLog(directory, 8000)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield logger
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    handler.close()


def lines(directory):
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            yield from (line for line in file.read().split("\n") if line)


def written(directory):
    return [json.loads(line) for line in lines(directory)]


def test_a_log_line_that_is_a_step_is_written_with_its_fields(logger, directory):
    logger.info("no step")
    logger.info("accepted X", extra=events.step("accepted", id="X", size=5, recipients=("a@contoso.com",), tls=None))
    (event,) = written(directory)
    stamp = event.pop("time")
    assert event == {"event": "accepted", "id": "X", "size": 5, "recipients": ["a@contoso.com"]}
    assert len(stamp) == len("2026-11-29T13:05:00.123Z") and stamp.endswith("Z")
    if os.name == "posix":
        assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
        assert {stat.S_IMODE(os.stat(entry).st_mode) for entry in os.scandir(directory)} == {0o600}


def test_times_are_in_utc_with_milliseconds(directory):
    handler = events.EventLog(directory, 8000)
    handler.handle(logging.makeLogRecord({"created": 1796000000.0459, **events.step("x")}))
    handler.close()
    assert [event["time"] for event in written(directory)] == ["2026-11-30T00:53:20.045Z"]


@pytest.mark.parametrize(
    "value, expected",
    [
        ("Größe", "Größe"),
        ("a\r\n250 b\x1b", "a\\x0d\\x0a250 b\\x1b"),
        ("x" * 9000, "x" * 499 + "…"),
        ("\ud800", "\\ud800"),
        (["\x00", "b"], ["\\x00", "b"]),
    ],
)
def test_what_comes_from_outside_is_made_safe(logger, directory, value, expected):
    logger.info("x", extra=events.step("refused", reason=value))
    assert written(directory)[0]["reason"] == expected


def test_the_oldest_file_goes_when_all_are_full(logger, directory):
    for number in range(300):
        logger.info("x", extra=events.step("accepted", id=f"{number:04}"))
    ids = [event["id"] for event in written(directory)]
    assert ids == [f"{number:04}" for number in range(300 - len(ids), 300)]
    assert 6000 < sum(entry.stat().st_size for entry in os.scandir(directory)) < 8000 + 8 * 100
    assert len(os.listdir(directory)) <= 8


def test_a_command_and_a_new_start_go_on_with_the_newest_file(logger, directory):
    logger.info("x", extra=events.step("accepted", id="1"))
    command = events.EventLog(directory, 8000)
    command.note("dropped", id="1")
    command.close()
    logger.info("x", extra=events.step("accepted", id="2"))
    assert [event["event"] for event in written(directory)] == ["accepted", "dropped", "accepted"]
    assert len(os.listdir(directory)) == 1


def test_a_line_cut_off_by_a_power_cut_spoils_no_other(directory):
    os.mkdir(directory)
    with open(os.path.join(directory, "00000001.jsonl"), "w", encoding="ascii") as file:
        file.write('{"event": "accep')
    handler = events.EventLog(directory, 8000)
    handler.note("accepted", id="2")
    handler.close()
    cut, whole = lines(directory)
    assert cut == '{"event": "accep' and json.loads(whole)["id"] == "2"


def test_a_disk_that_takes_nothing_costs_events_only(logger, directory, monkeypatch, caplog):
    now = [100.0]
    monkeypatch.setattr(events.time, "monotonic", lambda: now[0])
    calls = []

    def refuse(path):
        calls.append(path)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "open_unbuffered", refuse)
        for _ in range(3):
            logger.info("x", extra=events.step("accepted", id="lost"))
        now[0] += 11
        logger.info("x", extra=events.step("accepted", id="lost"))
    assert len(calls) == 2  # not for each event
    now[0] += 11
    logger.info("x", extra=events.step("accepted", id="kept"))
    assert [event["id"] for event in written(directory)] == ["kept"]
    said = [record.getMessage() for record in caplog.records if record.name.endswith(".events")]
    assert said == [
        f"events cannot be written to {directory}, and are lost: No space left on device",
        f"events are written again to {directory}; those in between are lost",
    ]


def in_its_place_a_file(directory):
    pathlib.Path(directory).write_text("")


def below_it_a_directory(directory):
    os.makedirs(os.path.join(directory, "00000001.jsonl"))


def below_it_a_fifo(directory):
    os.mkdir(directory)
    path = os.path.join(directory, "00000001.jsonl")
    os.mkfifo(path)
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # with a reader, it can be opened for writing


@pytest.mark.skipif(os.name != "posix", reason="has no FIFO")
@pytest.mark.parametrize("spoil", [in_its_place_a_file, below_it_a_directory, below_it_a_fifo])
def test_whatever_stands_in_its_place_fails_nobody(logger, directory, caplog, spoil):
    spoil(directory)
    logger.info("x", extra=events.step("accepted", id="lost"))
    logger.info("x", extra=events.step("accepted", id="lost"))
    said = [record.getMessage() for record in caplog.records if record.name.endswith(".events")]
    assert len(said) == 1 and said[0].startswith(f"events cannot be written to {directory}, and are lost: ")


def test_a_fault_of_its_own_fails_nobody(logger, directory, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger.info("x", extra=events.step("accepted", id=object()))
    logger.info("x", extra=events.step("accepted", id="kept"))
    assert [event["id"] for event in written(directory)] == ["kept"]


def test_a_file_that_cannot_be_closed_fails_nobody(logger, directory, monkeypatch):
    monkeypatch.setattr(events.time, "monotonic", iter(range(0, 1000, 20)).__next__)

    class Remote(files.io.FileIO):
        """One whose disk says at the end only that it is full, as NFS does."""

        def write(self, data):
            raise OSError(28, "No space left on device")

        def close(self):
            if not self.closed:
                super().close()
                raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files.io, "FileIO", Remote)
        logger.info("x", extra=events.step("accepted", id="lost"))
        logger.info("x", extra=events.step("accepted", id="lost"))
    logger.info("x", extra=events.step("accepted", id="kept"))
    assert [event["id"] for event in written(directory)] == ["kept"]


@pytest.fixture
def a_second_later(monkeypatch):
    """Each event comes when the open file has to be looked at again."""
    monkeypatch.setattr(events, "_TRUST", -1.0)


def test_the_open_file_is_not_looked_at_for_each_event(logger, directory, monkeypatch):
    logger.info("x", extra=events.step("accepted", id="1"))
    looks, stat = [], os.stat
    monkeypatch.setattr(events.os, "stat", lambda path, **more: looks.append(path) or stat(path, **more))
    monkeypatch.setattr(events, "_TRUST", 1000.0)
    for _ in range(20):
        logger.info("x", extra=events.step("delivered", id="1"))
    assert looks.count(events.path_of(directory, 1)) <= 1
    assert len(written(directory)) == 21


@pytest.mark.skipif(os.name != "posix", reason="Windows removes no open file")
@pytest.mark.parametrize("how", [shutil.rmtree, lambda directory: os.rename(directory, directory + ".old")])
def test_events_do_not_go_where_nobody_finds_them(a_second_later, logger, directory, how):
    logger.info("x", extra=events.step("accepted", id="1"))
    how(directory)
    logger.info("x", extra=events.step("accepted", id="2"))
    assert [event["id"] for event in written(directory)] == ["2"]


@pytest.mark.skipif(os.name != "posix", reason="Windows moves no open file")
def test_a_file_in_the_place_of_the_directory_while_the_program_runs(a_second_later, logger, directory, caplog):
    logger.info("x", extra=events.step("accepted", id="1"))
    os.rename(directory, directory + ".old")
    in_its_place_a_file(directory)
    logger.info("x", extra=events.step("accepted", id="2"))
    assert "Move the file away." in caplog.text


def test_what_a_command_writes_counts_for_the_size_of_the_file(a_second_later, logger, directory):
    logger.info("x", extra=events.step("accepted", id="1"))
    command = events.EventLog(directory, 8000)
    for _ in range(20):
        command.note("retried", id="1")
    command.close()
    logger.info("x", extra=events.step("delivered", id="1"))
    assert [event["event"] for event in written(directory)] == ["accepted", *["retried"] * 20, "delivered"]


def test_a_file_that_is_deleted_while_others_are_read(logger, directory):
    for number in range(40):
        logger.info("x", extra=events.step("accepted", id=f"{number:04}"))
    found = events.lines(directory)
    first = json.loads(next(found))["id"]
    os.unlink(events.path_of(directory, 2))
    rest = [json.loads(line)["id"] for line in found]
    assert first == "0000" and rest[-1] == "0039" and len(rest) < 39


@pytest.mark.parametrize("octets", [0, 1, 80, 500, 1999, 5000, 1 << 20])
def test_the_last_lines_are_whole_and_as_many_as_fit(logger, directory, octets):
    for number in range(60):
        logger.info("x", extra=events.step("accepted", id=f"id{number:02}"))
    every = [f"{line}\n".encode() for line in lines(directory)]
    assert len(os.listdir(directory)) > 2
    found = events.last_lines(directory, octets)
    assert found == every[len(every) - len(found) :] and sum(map(len, found)) <= octets
    assert found == every or sum(map(len, every[-len(found) - 1 :])) > octets


def test_without_a_directory_there_are_no_last_lines(directory):
    assert events.last_lines(directory, 100) == []


def test_files_of_others_are_left_alone(logger, directory):
    os.mkdir(directory)
    others = ["1.jsonl", "00000001.jsonl.gz", "-0000001.jsonl", "000000002.jsonl"]
    for name in others:
        pathlib.Path(directory, name).write_text("")
    for number in range(300):
        logger.info("x", extra=events.step("accepted", id=f"{number:04}"))
    assert set(others) < set(os.listdir(directory)) and written(directory)[-1]["id"] == "0299"


def test_a_write_that_is_cut_short_is_begun_anew(logger, directory, monkeypatch):
    monkeypatch.setattr(events.time, "monotonic", iter(range(0, 1000, 20)).__next__)
    whole = files.io.FileIO.write

    class Short(files.io.FileIO):
        def write(self, data):
            return whole(self, data[:10])

    logger.info("x", extra=events.step("accepted", id="1"))
    handler = logger.handlers[-1]
    with monkeypatch.context() as patched:
        patched.setattr(files.io, "FileIO", Short)
        handler.close()
        logger.info("x", extra=events.step("accepted", id="2"))
    logger.info("x", extra=events.step("accepted", id="3"))
    found = []
    for line in lines(directory):
        try:
            found.append(json.loads(line)["id"])
        except ValueError:
            found.append("cut off")
    assert found == ["1", "cut off", "3"]


def test_nothing_is_synced(logger, directory, monkeypatch):
    synced = []
    monkeypatch.setattr(files, "sync_file", synced.append)
    monkeypatch.setattr(files, "sync_directory", synced.append)
    logger.info("x", extra=events.step("accepted", id="1"))
    assert synced == []


def test_the_documentation_lists_all_events():
    root = pathlib.Path(events.__file__).parents[2]
    source = "\n".join(path.read_text("utf-8") for path in (root / "m365proxy").rglob("*.py"))
    named = set(re.findall(r'(?:\bevents\.step|\b_step|\b_note)\(\s*(?:config, )?"([A-Za-z0-9 ]+)"', source))
    rows = re.findall(r"^\| (`.*?) \|", (root / "docs" / "events.md").read_text("utf-8"), re.MULTILINE)
    assert {"accepted", "delivered", "dropped"} <= named
    assert named == {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_followers_get_each_step_and_no_other_record():
    seen = []
    followers = events.Followers([lambda when, step: seen.append((when, step["event"]))])
    record = logging.makeLogRecord({"msg": "x", **events.step("delivered", id="1")})
    followers.handle(record)
    followers.handle(logging.makeLogRecord({"msg": "no step"}))
    assert seen == [(record.created, "delivered")]


def test_a_follower_that_fails_harms_nobody():
    def fail(when, step):
        raise ValueError("a fault")

    followers = events.Followers([fail])
    followers.handle(logging.makeLogRecord(dict(events.step("delivered", id="1"))))


def test_followers_get_each_step_after_it_is_written(directory):
    event_log = events.EventLog(directory, 8000)
    seen = []

    def follow(when, step):
        seen.append((when, step["event"], len(written(directory))))

    followers = events.Followers([follow], event_log)
    followers.handle(logging.makeLogRecord({"created": 12.5, **events.step("accepted", id="1")}))
    followers.handle(logging.makeLogRecord({"msg": "no step"}))
    event_log.close()
    assert seen == [(12.5, "accepted", 1)]


def test_an_event_that_the_disk_does_not_take_is_followed(directory):
    in_its_place_a_file(directory)
    event_log = events.EventLog(directory, 8000)
    seen = []
    followers = events.Followers([lambda when, step: seen.append(step["id"])], event_log)
    for id in ("1", "2"):
        followers.handle(logging.makeLogRecord(dict(events.step("accepted", id=id))))
    event_log.close()
    assert seen == ["1", "2"]


class Hanging(files.io.FileIO):
    """A file on a disk that hangs."""

    began, goes_on, writes = threading.Semaphore(0), threading.Event(), []

    def write(self, data):
        self.began.release()
        assert self.goes_on.wait(30)
        self.writes.append(data)
        return super().write(data)


def test_while_the_disk_hangs_nobody_waits_and_what_came_meanwhile_is_one_write(directory, monkeypatch):
    """Counted is only what is written: after a kill no counter goes on from less than it has shown."""
    monkeypatch.setattr(Hanging, "writes", [])
    Hanging.goes_on.clear()
    monkeypatch.setattr(files.io, "FileIO", Hanging)
    event_log, seen = events.EventLog(directory, 8000), []
    followers = events.Followers([lambda when, step: seen.append(step["id"])], event_log)

    def log_step(id):
        followers.handle(logging.makeLogRecord(dict(events.step("accepted", id=id))))

    thread = threading.Thread(target=log_step, args=("1",))
    thread.start()
    assert Hanging.began.acquire(timeout=30)
    for id in ("2", "3", "4"):
        log_step(id)
    assert seen == []
    Hanging.goes_on.set()
    thread.join(30)
    with followers.held():
        assert seen == ["1", "2", "3", "4"]
    event_log.close()
    assert [write.count(b"\n") for write in Hanging.writes] == [1, 3]


def test_while_they_are_held_the_files_have_exactly_what_was_followed(directory):
    """Also while others log: what counters.json says is true of the place that it names."""
    event_log, seen = events.EventLog(directory, 1 << 20), []
    followers = events.Followers([lambda when, step: seen.append(step["id"])], event_log)

    def log_steps():
        for number in range(200):
            followers.handle(logging.makeLogRecord(dict(events.step("accepted", id=str(number)))))

    threads = [threading.Thread(target=log_steps) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        with followers.held() as end:
            if seen:
                assert [event["id"] for event in written(directory)] == seen
                assert end == (1, os.stat(events.path_of(directory, 1)).st_size)
    event_log.close()
    assert len(seen) == 800


def test_a_fault_with_one_step_harms_no_other(directory, caplog):
    event_log, seen = events.EventLog(directory, 8000), []

    def follow(when, step):
        if step["id"] == "2":
            raise ValueError("a fault")
        seen.append(step["id"])

    followers = events.Followers([follow], event_log)
    with followers.held():
        for id in ("1", "2", object(), "3"):
            followers.handle(logging.makeLogRecord(dict(events.step("accepted", id=id))))
    event_log.close()
    assert [event["id"] for event in written(directory)] == ["1", "2", "3"]
    assert seen[0] == "1" and seen[-1] == "3" and len(seen) == 3
    said = [record.getMessage() for record in caplog.records]
    assert said == ["an event could not be written", "a step could not be counted"]


def test_followers_stand_in_the_place_of_the_event_log(directory):
    root, event_log = logging.getLogger(), events.EventLog(directory, 8000)
    before = list(root.handlers)
    root.addHandler(event_log)
    followers = events.Followers([], event_log)
    followers.start()
    assert root.handlers == [*before, followers]
    followers.stop()
    assert root.handlers == [*before, event_log]
    root.removeHandler(event_log)
    alone = events.Followers([])
    alone.start()
    assert root.handlers == [*before, alone]
    alone.stop()
    assert root.handlers == before


def test_a_fault_of_a_follower_fails_nobody(directory, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    followers = events.Followers([lambda when, step: 1 / 0])
    followers.handle(logging.makeLogRecord(dict(events.step("accepted"))))


def after(directory, position):
    return [events.parse(line)["id"] for line in events.lines_after(directory, position)]


def test_lines_after_a_position_are_those_that_were_written_then(directory):
    event_log = events.EventLog(directory, 8000)
    assert event_log.end() == (0, 0) and after(directory, events.Position(0, 0)) == []
    ends = []
    for number in range(40):
        event_log.note("accepted", id=number)
        ends.append(event_log.end())
    event_log.close()
    assert ends[-1].number > 2
    for number, end in enumerate(ends):
        assert after(directory, end) == list(range(number + 1, 40))
    assert after(directory, events.Position(0, 0)) == list(range(40))


def test_lines_that_are_gone_are_missed(directory):
    with pytest.raises(events.Incomplete):
        after(directory, events.Position(1, 0))
    event_log = events.EventLog(directory, 8000)
    event_log.note("accepted", id="1")
    end = event_log.end()
    event_log.close()
    for position in (events.Position(end.number, end.octets + 1), events.Position(end.number + 1, 0)):
        with pytest.raises(events.Incomplete):
            after(directory, position)


def test_while_events_are_lost_nobody_knows_where_the_log_ends(directory):
    event_log = events.EventLog(directory, 8000)
    in_its_place_a_file(directory)
    assert event_log.end() == (0, 0)
    event_log.note("accepted", id="lost")
    assert event_log.end() is None
    event_log.close()


def test_the_time_of_an_event(directory):
    assert events.time_of({"time": "2026-11-30T00:53:20.045Z"}) == 1796000000.0
    with pytest.raises(ValueError):
        events.time_of({"time": "yesterday"})


# -- what is written from now on -------------------------------------------


def test_a_tail_has_what_comes_later_over_several_files(directory):
    before = events.EventLog(directory, 80_000)
    before.note("accepted", id="0")
    tail = events.Tail(directory)
    small = events.EventLog(directory, 80)
    for id in ("1", "2"):
        small.note("accepted", id=id)
    small.close()
    before.close()
    assert [events.parse(line)["id"] for line in tail.read()] == ["1", "2"]
    assert tail.read() == []


def test_a_tail_of_nothing_begins_with_the_first_event(directory):
    tail = events.Tail(directory)
    assert tail.read() == []
    log = events.EventLog(directory, 80_000)
    log.note("accepted", id="1")
    log.close()
    assert len(tail.read()) == 1


def test_a_tail_goes_on_in_a_new_directory(directory, tmp_path):
    log = events.EventLog(directory, 80)
    for id in ("1", "2"):
        log.note("accepted", id=id)
    tail = events.Tail(directory)
    os.rename(directory, tmp_path / "moved away")
    log.note("accepted", id="3")
    log.close()
    assert [events.parse(line)["id"] for line in tail.read()] == ["3"]


def test_a_tail_gives_whole_lines_only(directory):
    os.mkdir(directory)
    tail = events.Tail(directory)
    for part, lines in ((b'{"time": "x", ', []), (b'"event": "y"}\n{', [b'{"time": "x", "event": "y"}'])):
        with open(events.path_of(directory, 1), "ab") as file:
            file.write(part)
        assert tail.read() == lines
