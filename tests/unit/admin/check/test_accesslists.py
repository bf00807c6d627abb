"""Who may read the files on Windows, with what Windows would say of them."""

import dataclasses

import pytest

from m365proxy.admin.check import accesslists
from m365proxy.admin.check.subject import Subject
from m365proxy.admin.terminal import Mark

CLOSED = "D:PAI(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)(A;OICI;0x1301bf;;;LS)"
OPEN = "D:AI(A;OICIID;FA;;;BA)(A;OICIID;0x1200a9;;;BU)(A;CIID;DCLCRPWP;;;BU)"


@pytest.fixture
def looked_at(config, tmp_path, monkeypatch):
    """The lines of an installation whose files of these names have these lists; all others are closed."""
    (tmp_path / "state").mkdir()

    def look(lists, **more):
        def text_of(path):
            found = lists.get(path[len(str(tmp_path)) + 1 :], CLOSED)
            if isinstance(found, OSError):
                raise found
            return found

        monkeypatch.setattr(accesslists.accesslist, "text_of", text_of)
        return list(accesslists.rights(Subject(dataclasses.replace(config, **more))))

    return look


def test_files_that_are_closed(looked_at):
    assert [line.mark for line in looked_at({})] == [Mark.OK]


def test_a_state_directory_that_users_may_read(looked_at, tmp_path):
    (line,) = looked_at({"state": OPEN})
    assert line.mark is Mark.ATTENTION
    assert line.sentence == f"{tmp_path / 'state'} can be read and changed by other users of this machine (Users)."
    assert f"`icacls {tmp_path / 'state'} /inheritance:d`" in line.remedy
    assert f"`icacls {tmp_path / 'state'} /remove:g *S-1-5-32-545`" in line.remedy


def test_a_config_and_a_key_that_users_may_read(looked_at, config, tmp_path):
    key = tmp_path / "two words.key"
    key.write_text("")
    tls = dataclasses.replace(config.tls, tls_key=str(key))
    found = looked_at({"config.json": "D:(A;;FR;;;WD)", key.name: "D:(A;;FR;;;DU)"}, tls=tls)
    assert [line.sentence.split(" can be ")[1] for line in found] == [
        "read by other users of this machine (Everyone).",
        "read by other users of this machine (Domain Users).",
    ]
    assert found[1].remedy.endswith(f'`icacls "{key}" /remove:g "Domain Users"`')


def test_a_list_that_cannot_be_read_is_no_fault(looked_at):
    (line,) = looked_at({"state": PermissionError(13, "Access is denied")})
    assert line.mark is Mark.SKIPPED and line.sentence.endswith("cannot be looked up: Access is denied")
