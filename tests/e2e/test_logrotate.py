"""The example for logrotate, with the real one: no line is lost, and the program needs no signal."""

import os
import pathlib
import shutil
import signal
import subprocess

import pytest
from program import wait_until

pwd = pytest.importorskip("pwd")
grp = pytest.importorskip("grp")

LOGROTATE = shutil.which("logrotate", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "etc" / "m365proxy.logrotate"


@pytest.mark.skipif(not LOGROTATE, reason="logrotate is not installed")
def test_the_example_for_logrotate(make_program, tmp_path):
    logs, rules = tmp_path / "logs", tmp_path / "rules"
    logs.mkdir(mode=0o750)
    user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    text = EXAMPLE.read_text("utf-8")
    for old, new in (("/var/log/m365proxy/", f"{logs}/"), ("m365proxy m365proxy", f"{user} {group}")):
        assert old in text
        text = text.replace(old, new)
    rules.write_text(text)
    rules.chmod(0o644)
    current = logs / "m365proxy.log"
    program = make_program(logging={"file": str(current)}).start()
    for copies in ({"m365proxy.log.1"}, {"m365proxy.log.1", "m365proxy.log.2.gz"}):
        before = wait_until(current.read_text, what="a line in the log")
        subprocess.run([LOGROTATE, "--force", "--state", str(tmp_path / "state.rotate"), str(rules)], check=True)
        assert {path.name for path in logs.iterdir()} == copies | {current.name}
        assert (logs / "m365proxy.log.1").read_text().startswith(before)
        program.process.send_signal(signal.SIGHUP)
    assert "config" in wait_until(current.read_text, what="a line in the new file")
