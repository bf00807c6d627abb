"""`adopt`: what is another machine's becomes this one's."""

import pytest
from configs import configured

from m365proxy.admin import adopt
from m365proxy.errors import InUse, OtherMachine
from m365proxy.system import files, machines
from m365proxy.system.machineid import VARIABLE, this_machine

HERE, THERE = {VARIABLE: "gateway1"}, {VARIABLE: "gateway2"}


def test_another_machine_may_run_on_the_directory_from_then_on(tmp_path, capsys):
    config = configured(tmp_path)
    adopt.adopt_machine(config, HERE)
    with pytest.raises(OtherMachine):
        machines.check(config.state_dir, this_machine(THERE))
    adopt.adopt_machine(config, THERE)
    machines.check(config.state_dir, this_machine(THERE))
    assert "gateway2" in capsys.readouterr().out


def test_not_while_something_runs_on_it(tmp_path):
    config = configured(tmp_path)
    files.make_directory(config.state_dir)
    with files.locked(f"{config.state_dir}/lock"), pytest.raises(InUse):
        adopt.adopt_machine(config, THERE)
    machines.check(config.state_dir, this_machine(HERE))
