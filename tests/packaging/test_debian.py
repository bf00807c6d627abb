"""What debian/ says agrees with the rest of the checkout.  What the package does is tested by .ci/packages."""

import difflib
import pathlib
import re
import shutil
import subprocess

import pytest

import m365proxy

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEBIAN = ROOT / "debian"


def test_the_changelog_begins_with_this_version():
    first = (DEBIAN / "changelog").read_text("utf-8").splitlines()[0]
    assert first.startswith(f"m365proxy ({m365proxy.__version__}) ")


def test_one_homepage():
    (said,) = re.findall(r"^Homepage: (.*)$", (DEBIAN / "control").read_text("utf-8"), re.MULTILINE)
    assert f'url="{said}"' in (ROOT / "setup.py").read_text("utf-8")


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_the_template_differs_from_the_unit_in_what_it_must_only(tmp_path):
    for name in ("debian", "etc"):
        (tmp_path / name).mkdir()
    shutil.copy(DEBIAN / "rules", tmp_path / "debian")
    shutil.copy(ROOT / "etc" / "m365proxy.service", tmp_path / "etc")
    subprocess.run(["make", "-sf", "debian/rules", "units"], cwd=tmp_path, check=True)
    unit = (tmp_path / "debian/m365proxy.service").read_text("utf-8")
    template = (tmp_path / "debian/m365proxy@.service").read_text("utf-8")
    assert unit == (ROOT / "etc" / "m365proxy.service").read_text("utf-8")
    changed = [line for line in difflib.ndiff(unit.splitlines(), template.splitlines()) if line[0] == "+"]
    assert changed == [
        "+ Description=SMTP and POP3 for old devices, relayed over Microsoft Graph (%i)",
        "+ # Waits, and says so, while /etc/m365proxy/%i.json is still the sample.",
        "+ ExecStart=/usr/bin/m365proxy --config /etc/m365proxy/%i.json run --wait",
        "+ StateDirectory=m365proxy/%i",
    ]
    assert "/etc/m365proxy.json" not in template


def test_everything_that_the_package_lists_is_there():
    for listing in ("docs", "examples"):
        for name in (DEBIAN / f"m365proxy.{listing}").read_text("utf-8").split():
            assert (ROOT / name).exists(), f"debian/m365proxy.{listing} names {name}"
