"""The order of the stages: what is skipped when something before it failed, and whose exit status counts."""

from cases import each

from m365proxy.admin.check import runner
from m365proxy.admin.check.result import Group, Result
from m365proxy.admin.check.runner import Stage
from m365proxy.admin.check.subject import Subject
from m365proxy.admin.terminal import Mark
from m365proxy.errors import InUse


def of(mark, status=0, text="x"):
    return lambda subject: [Result(mark, "", text, "", status)]


def failing(subject):
    yield Result(Mark.OK, "b", "as far as it went")
    raise InUse("It is used. Stop it.")


def failing_disk(subject):
    raise OSError(28, "No space left on device", "/x")


def found(monkeypatch, *stages, offline=False):
    monkeypatch.setattr(runner, "STAGES", [Stage(name, Group.MACHINE, *rest) for name, *rest in stages])
    return [result for _, result in runner.run(Subject(None), offline)]


def test_what_needs_a_stage_that_failed_is_skipped_and_says_which(monkeypatch):
    lines = found(
        monkeypatch,
        ("a", of(Mark.ATTENTION)),
        ("b", failing),
        ("c", of(Mark.OK), ("a",)),
        ("d", of(Mark.OK), ("a", "b")),
        ("e", of(Mark.OK), ("d",), True),
    )
    assert [(line.mark.value, line.name, line.sentence) for line in lines] == [
        ("warning", "", "x"),
        ("ok", "b", "as far as it went"),
        ("WRONG", "b", "It is used."),
        ("ok", "", "x"),
        ("skipped", "d", "skipped, because b failed"),
        ("skipped", "e", "skipped, because b failed"),
    ]
    assert lines[2].remedy == "Stop it." and runner.exit_status(lines) == 75


def test_offline_skips_what_needs_the_network(monkeypatch):
    lines = found(
        monkeypatch,
        ("a", of(Mark.OK), (), True),
        ("b", of(Mark.WRONG, 77)),
        ("c", of(Mark.OK), ("a",), True),
        ("d", of(Mark.OK), ("a", "b"), True),
        offline=True,
    )
    assert [line.sentence for line in lines] == ["skipped, as --offline asks", "x", *["skipped, as --offline asks"] * 2]
    assert runner.exit_status(lines) == 77


def test_an_error_of_the_system_is_a_line(monkeypatch):
    (line,) = found(monkeypatch, ("a", failing_disk))
    assert line == Result(Mark.WRONG, "a", "/x: No space left on device.", "", 74)


def test_the_first_stage_that_is_wrong_decides_the_exit_status():
    stages = [("config", 78), ("disk", 74), ("port", 75), ("graph", 69), ("sign-in", 77), ("mailboxes", 67)]
    names = [stage.name for stage in runner.STAGES]
    assert [name for name in names if name in dict(stages)] == [name for name, _ in stages]
    while stages:
        lines = [Result(Mark.WRONG, name, "", "", number) for name, number in stages]
        assert runner.exit_status([Result(Mark.OK, "config", ""), *lines]) == stages[0][1]
        stages.pop(0)
    assert runner.exit_status([Result(Mark.OK, "config", "")]) == 0


@each("stage", runner.STAGES, ids=lambda stage: stage.name)
def test_a_stage_needs_only_what_comes_before(stage):
    assert set(stage.needs) <= {one.name for one in runner.STAGES[: runner.STAGES.index(stage)]}
