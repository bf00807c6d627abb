"""What a machine is known by."""

import sys

import pytest

from m365proxy.system import machineid
from m365proxy.system.machineid import UNKNOWN, this_machine

ID = "3d1219c7c4c5404aaa1f6d2a48adfda4"


@pytest.fixture
def system(tmp_path, monkeypatch):
    """No container, with /etc and /sys of its own; a function writes files there."""
    if sys.platform == "win32":
        pytest.skip("Windows keeps its id in the registry")
    monkeypatch.setattr(machineid, "is_container", lambda: False)

    def put(path, content):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
        return tmp_path

    return put


def adapter(put, name, address, assigned="0", real=True):
    put(f"sys/class/net/{name}/address", address + "\n")
    root = put(f"sys/class/net/{name}/addr_assign_type", assigned + "\n")
    if real:
        (root / "sys/class/net" / name / "device").mkdir()


def test_a_machine_is_its_machine_id_which_is_not_shown(system):
    found = this_machine({}, str(system("etc/machine-id", ID + "\n")))
    assert found.id not in (UNKNOWN, ID) and ID[:8] not in found.id
    assert this_machine({}, str(system("etc/machine-id", ID.upper()))).id == found.id
    assert this_machine({}, str(system("etc/machine-id", ID[::-1]))).id != found.id


def test_dbus_has_it_where_etc_has_none(system):
    root = system("etc/machine-id", ID)
    before = this_machine({}, str(root))
    (root / "etc/machine-id").unlink()
    assert this_machine({}, str(system("var/lib/dbus/machine-id", ID))) == before


@pytest.mark.parametrize("content", ["", "\n", "uninitialized\n", "0" * 32, ID[:31], ID + "0", "x" * 32])
def test_what_is_no_machine_id_is_unknown(system, content):
    assert this_machine({}, str(system("etc/machine-id", content))).id == UNKNOWN


def test_without_any_file_it_is_unknown(system, tmp_path):
    assert this_machine({}, str(tmp_path)).id == UNKNOWN


def test_in_a_container_the_file_says_nothing(system, monkeypatch):
    monkeypatch.setattr(machineid, "is_container", lambda: True)
    found = this_machine({}, str(system("etc/machine-id", ID)))
    assert found.id == UNKNOWN and not found.adapters


@pytest.mark.parametrize("inside", [True, False])
def test_a_name_given_is_the_machine_anywhere(system, monkeypatch, inside):
    monkeypatch.setattr(machineid, "is_container", lambda: inside)
    root = str(system("etc/machine-id", ID))
    first, other = (this_machine({machineid.VARIABLE: name}, root) for name in ("relay-0", "relay-1"))
    assert first.id != other.id and UNKNOWN not in (first.id, other.id) and first.host == "relay-0"
    assert this_machine({machineid.VARIABLE: "  "}, root) == this_machine({}, root)


@pytest.mark.skipif(sys.platform != "win32", reason="only Windows has a registry")
def test_windows_has_its_id_in_the_registry():
    assert this_machine({}).id not in ("", UNKNOWN)


def test_adapters_are_real_ones_with_an_address_of_their_own(system):
    root = system("etc/machine-id", ID)
    adapter(system, "eth0", "b8:27:eb:00:00:01")
    adapter(system, "wlan0", "02:00:00:00:00:02", assigned="1")
    adapter(system, "veth0", "02:00:00:00:00:03", real=False)
    adapter(system, "odd0", "00:00:00:00:00:00")
    found = this_machine({}, str(root)).adapters
    assert len(found) == 1
    adapter(system, "eth1", "b8:27:eb:00:00:04")
    assert found < this_machine({}, str(root)).adapters
