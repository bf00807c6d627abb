"""The words that load balancers read."""

import pathlib
import re

from m365proxy.system.readiness import Readiness

ETC = pathlib.Path(__file__).resolve().parents[3] / "etc"


def test_haproxy_looks_for_the_word_of_draining_and_for_no_other():
    found = re.findall(r"http-check expect ! string (\S+)", (ETC / "haproxy.cfg").read_text("utf-8"))
    assert set(found) == {Readiness.DRAINING.value}
    assert not any(found[0] in one.value for one in Readiness if one is not Readiness.DRAINING)
