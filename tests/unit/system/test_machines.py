"""Which machines may run on a state directory."""

import json

import pytest

from m365proxy.errors import OtherMachine
from m365proxy.system import adopted, machines
from m365proxy.system.machineid import UNKNOWN, Machine

HERE = Machine("aaaa", frozenset({"eth-a", "wlan-a"}), "gateway1")
THERE = Machine("bbbb", frozenset({"eth-b"}), "gateway2")
CLONE = HERE._replace(adapters=frozenset({"eth-c"}))
CONTAINER = Machine(UNKNOWN, frozenset(), "f00d")


@pytest.fixture
def state_dir(tmp_path):
    return str(tmp_path)


def may_run(state_dir, machine):
    try:
        machines.check(state_dir, machine)
    except OtherMachine:
        return False
    return True


def start(state_dir, machine):
    machines.check(state_dir, machine)
    machines.note(state_dir, machine)


def test_a_directory_without_a_list_is_anybodys_and_then_his_who_came(state_dir):
    assert may_run(state_dir, HERE) and may_run(state_dir, THERE)
    start(state_dir, HERE)
    assert may_run(state_dir, HERE) and not may_run(state_dir, THERE)


@pytest.mark.parametrize(
    "again",
    [
        HERE._replace(host="new-name"),
        HERE._replace(adapters=frozenset({"eth-a"})),
        HERE._replace(adapters=frozenset({"wlan-a", "usb"})),
        HERE._replace(adapters=frozenset()),
    ],
    ids=["host name", "adapter less", "another adapter", "adapters not known"],
)
def test_the_same_machine_may_change(state_dir, again):
    start(state_dir, HERE)
    start(state_dir, again)
    start(state_dir, again)


def test_adapters_are_followed_one_after_the_other(state_dir):
    for adapters in ({"a", "b"}, {"b", "c"}, {"c"}, {"c", "d"}, {"d"}):
        start(state_dir, HERE._replace(adapters=frozenset(adapters)))
    assert not may_run(state_dir, HERE._replace(adapters=frozenset({"a"})))


def test_a_machine_cloned_with_its_id_is_refused(state_dir):
    start(state_dir, HERE)
    with pytest.raises(OtherMachine, match="gateway1, of which.*copy.*m365proxy adopt"):
        machines.check(state_dir, CLONE)


def test_a_refusal_names_the_latest_machine_and_both_ways_out(state_dir):
    start(state_dir, HERE)
    with pytest.raises(OtherMachine, match="gateway1, and.*on 2.*`m365proxy adopt`.*`m365proxy login`") as refused:
        machines.check(state_dir, THERE)
    assert refused.value.exit_status == 78
    machines.note(state_dir, THERE)
    with pytest.raises(OtherMachine, match="gateway2, and"):
        machines.check(state_dir, THERE._replace(id="cccc"))


def test_who_was_adopted_may_come_and_go_like_the_first(state_dir):
    start(state_dir, HERE)
    machines.note(state_dir, THERE)
    for machine in (HERE, THERE, HERE):
        start(state_dir, machine)
    assert not may_run(state_dir, THERE._replace(id="cccc"))


def test_containers_without_a_name_are_one_machine_until_one_has_a_name(state_dir):
    start(state_dir, CONTAINER)
    start(state_dir, CONTAINER._replace(host="beef"))
    named = Machine("dddd", frozenset(), "relay-0")
    start(state_dir, named)
    assert not may_run(state_dir, CONTAINER) and not may_run(state_dir, named._replace(id="eeee"))


def test_from_a_machine_to_a_container_somebody_has_to_decide(state_dir):
    start(state_dir, HERE)
    assert not may_run(state_dir, CONTAINER)
    machines.note(state_dir, CONTAINER)
    start(state_dir, CONTAINER)
    start(state_dir, HERE)
    assert not may_run(state_dir, THERE)


@pytest.mark.parametrize("content", ["", "{", "{}", "[1]", '[{"id": "aaaa"}]', '[{"id": 1, "adapters": 2}]'])
def test_a_damaged_list_keeps_nobody_from_mail(tmp_path, content):
    (tmp_path / "machines.json").write_text(content)
    start(str(tmp_path), HERE)
    assert not may_run(str(tmp_path), THERE)


def test_nothing_is_written_at_an_ordinary_start(tmp_path, monkeypatch):
    start(str(tmp_path), HERE)
    monkeypatch.setattr(machines.files, "replace", lambda *_: pytest.fail("written"))
    start(str(tmp_path), HERE)


def test_a_hash_and_a_name_are_all_that_is_kept(tmp_path):
    start(str(tmp_path), HERE)
    (kept,) = json.loads((tmp_path / "machines.json").read_text())
    assert set(kept) == {"id", "adapters", "host", "since"}


def test_nobody_may_take_a_directory_that_was_given_up(state_dir):
    start(state_dir, HERE)
    adopted.retire(state_dir, "c0ffee")
    with pytest.raises(OtherMachine, match="given up"):
        machines.note(state_dir, THERE)
