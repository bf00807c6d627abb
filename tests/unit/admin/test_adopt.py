"""`adopt`: what is another machine's becomes this one's."""

import pathlib
import shutil

import pytest
from configs import configured

from m365proxy.account import installation, spool_of
from m365proxy.admin import adopt
from m365proxy.errors import InUse, OtherMachine, UsageError
from m365proxy.spool.envelope import Envelope
from m365proxy.spool.spool import Spool
from m365proxy.spool.state import Place
from m365proxy.system import adopted, files, machines
from m365proxy.system.adopted import Progress
from m365proxy.system.control import Control
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


@pytest.fixture
def gone(tmp_path):
    """The state directory of a gateway that had a message waiting and one held."""
    spool = Spool(str(tmp_path / "gone" / "queue"))
    spool.make()
    for _ in range(2):
        incoming = spool.put(Envelope("scanner@contoso.com", "scanner@contoso.com", ("somebody@example.org",)))
        incoming.write(b"Subject: x\r\n\r\nx\r\n")
        id = incoming.commit()
    claim = spool.claim(id)
    claim.mark_posting()
    claim.hold()
    return str(tmp_path / "gone")


def test_a_queue_is_taken_over_and_its_directory_given_up(tmp_path, gone, capsys):
    config = configured(tmp_path)
    owner = installation(gone)
    assert adopt.adopt_queue(config, gone, HERE) is None
    said = capsys.readouterr().out
    assert "2 (1 held, 1 waiting)" in said and "not running" in said, said
    assert len(list(spool_of(config).entries())) == 2
    assert adopted.settled(config.state_dir) == {owner}
    assert adopted.retired_by(gone) == installation(config.state_dir)
    assert adopt.adopt_queue(config, gone, HERE) is None
    assert "over from" in capsys.readouterr().out


def test_what_the_other_had_taken_over_is_ours_too(tmp_path, gone):
    config = configured(tmp_path)
    adopted.note(gone, "first", Progress.DONE)
    adopted.note(gone, "second", Progress.BEGUN)
    adopt.adopt_queue(config, gone, HERE)
    assert adopted.settled(config.state_dir) == {installation(gone), "first"}


def test_until_the_whole_queue_is_here_no_draft_is_swept(tmp_path, gone, monkeypatch, capsys):
    config = configured(tmp_path)
    monkeypatch.setattr(adopt.Adoption, "run", lambda *_: (1, 1))
    assert adopt.adopt_queue(config, gone, HERE) == 74
    assert adopted.adopted(config.state_dir) == {installation(gone): Progress.BEGUN}
    assert "run the command again" in " ".join(capsys.readouterr().out.split())


def test_the_running_program_is_told_of_all_but_what_is_held(tmp_path, gone):
    config = configured(tmp_path)
    files.make_directory(config.state_dir)
    with files.locked(f"{config.state_dir}/lock"):
        adopt.adopt_queue(config, gone, HERE)
    waiting = [entry.id for entry in spool_of(config).entries(Place.NEW)]
    assert Control(config.state_dir).take() == [("adopted", waiting[0])]


def copy_of(directory, path):
    return shutil.copytree(directory, path)


def contents(directory):
    return {path for path in pathlib.Path(directory).rglob("*") if path.name != "lock"}


def test_what_is_refused_is_left_as_it_is(tmp_path, gone):
    config = configured(tmp_path)
    files.make_directory(config.state_dir)
    installation(gone)
    another = copy_of(gone, tmp_path / "another")
    adopted.retire(str(another), "c0ffee")
    clone = copy_of(gone, tmp_path / "clone")
    own = copy_of(gone, tmp_path / "own")
    (own / "installation").write_text(installation(config.state_dir))
    (tmp_path / "empty").mkdir()
    with files.locked(f"{gone}/lock"), pytest.raises(InUse, match="gone is in use"):
        adopt.adopt_queue(config, gone, HERE)
    adopt.adopt_queue(config, gone, HERE)
    for directory, error, words in [
        (another, OtherMachine, "another gateway"),
        (clone, OtherMachine, "was taken over before"),
        (own, OtherMachine, "is a copy of the state directory of this installation"),
        (config.state_dir, UsageError, "of this installation itself"),
        (tmp_path / "empty", UsageError, "has no queue"),
        (tmp_path / "nowhere", UsageError, "There is no directory"),
    ]:
        before = contents(directory)
        with pytest.raises(error, match=words):
            adopt.adopt_queue(config, str(directory), HERE)
        assert contents(directory) == before
