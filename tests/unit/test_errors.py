"""The exception tree: what the command line ends with, and what is said."""

import copy
import inspect
import pathlib
import re

from cases import each

from m365proxy import errors
from m365proxy.errors import ConfigError, ProxyError

TROUBLESHOOTING = pathlib.Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"
ALL = [one for _, one in inspect.getmembers(errors, inspect.isclass)]


@each("error", ALL)
def test_every_error_is_of_the_tree_and_its_exit_status_is_in_the_manual(error):
    table = TROUBLESHOOTING.read_text("utf-8").partition("## Exit status")[2]
    documented = {int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    assert issubclass(error, ProxyError)
    assert error.exit_status in documented and error.exit_status != 0


def test_a_config_error_names_every_mistake():
    error = ConfigError("user is missing.", "smtp_port: 70000 is too large.", shown=('"smtp_port": 70000', "^"))
    for one in (error, copy.copy(error)):  # each thread that waits for a token gets a copy
        assert str(one) == "user is missing.\nsmtp_port: 70000 is too large."
        assert one.problems == ("user is missing.", "smtp_port: 70000 is too large.")
        assert one.shown == ('"smtp_port": 70000', "^")
