"""The scheduled task for Windows: what Task Scheduler publishes of its files, and what the page says of its places.

Task Scheduler itself is not here.  What the task runs is run by windowstask.py, which `.ci/windows` starts.
"""

import pathlib
import re
import xml.etree.ElementTree as ElementTree

import windowsskips
import windowstask

from m365proxy import cli

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = ROOT / "etc/windows/m365proxy.xml"
PAGE = (ROOT / "docs/windows.md").read_text("utf-8")

# Where each element may stand, and what it may hold, from "Task Scheduler Schema Elements" at learn.microsoft.com.
TRUTH, DURATION = r"true|false", r"P(\d+D)?(T(\d+H)?(\d+M)?(\d+S)?)?"
PUBLISHED = {
    "Task/RegistrationInfo/Description": r".+",
    "Task/Triggers/BootTrigger/Enabled": TRUTH,
    "Task/Triggers/TimeTrigger/Enabled": TRUTH,
    "Task/Triggers/TimeTrigger/StartBoundary": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d",
    "Task/Triggers/TimeTrigger/Repetition/Interval": DURATION,
    "Task/Triggers/TimeTrigger/Repetition/StopAtDurationEnd": TRUTH,
    "Task/Principals/Principal/UserId": r".+",
    "Task/Principals/Principal/RunLevel": r"LeastPrivilege|HighestAvailable",
    "Task/Settings/MultipleInstancesPolicy": r"Parallel|Queue|IgnoreNew|StopExisting",
    "Task/Settings/DisallowStartIfOnBatteries": TRUTH,
    "Task/Settings/StopIfGoingOnBatteries": TRUTH,
    "Task/Settings/AllowHardTerminate": TRUTH,
    "Task/Settings/StartWhenAvailable": TRUTH,
    "Task/Settings/RunOnlyIfNetworkAvailable": TRUTH,
    "Task/Settings/AllowStartOnDemand": TRUTH,
    "Task/Settings/Enabled": TRUTH,
    "Task/Settings/Hidden": TRUTH,
    "Task/Settings/RunOnlyIfIdle": TRUTH,
    "Task/Settings/ExecutionTimeLimit": DURATION,
    "Task/Settings/Priority": r"\d|10",
    "Task/Actions/Exec/Command": r".+",
    "Task/Actions/Exec/Arguments": r".+",
    "Task/Actions/Exec/WorkingDirectory": r".+",
}


def leaves(element, above=""):
    """(path, text) of all elements without others in them."""
    path = above + element.tag.replace("{http://schemas.microsoft.com/windows/2004/02/mit/task}", "")
    if not len(element):
        yield path, element.text or ""
    for inner in element:
        yield from leaves(inner, path + "/")


def test_it_is_made_of_what_is_published():
    found = list(leaves(ElementTree.parse(FILE).getroot()))
    assert len(found) == len(dict(found)), "each stands there once"
    wrong = [(path, text) for path, text in found if not re.fullmatch(PUBLISHED.get(path, "no such element"), text)]
    assert wrong == []


def test_any_reader_takes_its_encoding():
    """schtasks and PowerShell hand it over as UTF-16: an encoding that the file names itself would be wrong there."""
    content = FILE.read_bytes()
    assert content.isascii() and b"encoding" not in content


def test_it_runs_always_and_as_nobody_in_particular():
    found = dict(leaves(ElementTree.parse(FILE).getroot()))
    assert found["Task/Principals/Principal/UserId"] == "S-1-5-19" and "(S-1-5-19)" in FILE.read_text()
    assert found["Task/Settings/ExecutionTimeLimit"] == "PT0S"  # none
    assert found["Task/Settings/MultipleInstancesPolicy"] == "IgnoreNew"  # else the second trigger would start many
    assert found["Task/Settings/DisallowStartIfOnBatteries"] == found["Task/Settings/StopIfGoingOnBatteries"] == "false"


def test_it_runs_what_the_page_installs():
    program, arguments, directory = windowstask.action(FILE)
    assert program in PAGE and directory in PAGE
    assert arguments[:2] == ["-m", "m365proxy"]
    chosen = cli.parser().parse_args(arguments[2:])
    assert (chosen.named, chosen.wait) == ("run", True)


REPORT = """
.s..
SKIPPED [2] tests\\unit\\a\\test_b.py:10: no modes there
SKIPPED [1] tests/e2e/test_c.py:5: no modes there
SKIPPED [1] tests/e2e/test_c.py:7: other: words
4 passed, 4 skipped in 1.00s
"""


def test_a_skip_on_windows_is_of_a_fixed_list(capsys):
    said = REPORT.replace("\n", "\r\n")
    assert windowsskips.main([said], ["no modes there", "other: words"]) == 0
    assert capsys.readouterr().out == "    3 no modes there\n    1 other: words\n"
    assert windowsskips.main([said], ["no modes there"]) == 1
    assert "not in the list of tests/windowsskips.py: other: words" in capsys.readouterr().out
    assert windowsskips.main([said], ["no modes there", "other: words", "third"]) == 1
    assert "given by no test: third" in capsys.readouterr().out
