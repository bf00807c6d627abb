"""Access lists of Windows, from the text that Windows makes of them."""

import sys

import pytest
from cases import each

from m365proxy.system import accesslist

ADMINISTRATORS = "(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)"


def names(accounts):
    return [account.name for account in accounts]


@each(
    "text, readers, writers",
    [
        ("D:PAI" + ADMINISTRATORS + "(A;OICI;0x1301bf;;;LS)", [], []),
        # what %ProgramData% and C:\ hand down
        ("D:AI" + ADMINISTRATORS + "(A;OICIID;0x1200a9;;;BU)(A;CIID;DCLCRPWP;;;BU)", ["Users"], ["Users"]),
        (
            "O:BAG:SYD:AI(A;OICIID;0x1200a9;;;BU)(A;ID;0x1301bf;;;AU)(A;OICIIOID;SDGXGWGR;;;AU)",
            ["Users", "Authenticated Users"],
            ["Authenticated Users"],
        ),
        ("D:(A;;0x1f01ff;;;S-1-5-21-1004336348-1177238915-682003330-1001)", [], []),
        ("D:(A;;FR;;;S-1-5-21-1004336348-1177238915-682003330-513)", ["Domain Users"], []),
        ("D:(A;;FR;;;DU)(A;;FR;;;S-1-5-32-545)", ["Domain Users", "Users"], []),
        ("D:(A;;FR;;;WD)(A;;FW;;;WD)", ["Everyone"], ["Everyone"]),
        ("D:(D;;FA;;;BU)" + ADMINISTRATORS, [], []),
        ("D:(A;;FX;;;BU)(A;;RC;;;WD)", [], []),  # passing through, reading the list itself
        ("D:(XA;;FR;;;WD;(@User.clearance >= 1))", ["Everyone"], []),
        ("D:PAI" + ADMINISTRATORS + "S:(AU;SAFA;FA;;;WD)", [], []),  # what is only written down
        ("D:NO_ACCESS_CONTROL", ["Everyone"], ["Everyone"]),
        ("O:BAG:SY", ["Everyone"], ["Everyone"]),
        ("D:P", [], []),
    ],
)
def test_what_everybody_may_do(text, readers, writers):
    found = accesslist.of_text(text)
    assert (names(found.readers), names(found.writers)) == (readers, writers)


def test_numbers_that_every_language_of_windows_knows():
    assert [one.number for one in accesslist.of_text("D:(A;;FR;;;BU)(A;;FR;;;AU)").readers] == [
        "S-1-5-32-545",
        "S-1-5-11",
    ]


def test_the_list_of_a_file(tmp_path):
    if sys.platform == "win32":
        assert "D:" in accesslist.text_of(str(tmp_path))
        with pytest.raises(FileNotFoundError):
            accesslist.text_of(str(tmp_path / "none"))
    else:
        with pytest.raises(OSError, match="no access lists"):
            accesslist.text_of(str(tmp_path))
