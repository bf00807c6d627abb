"""The installed .deb, in a root of its own: M365PROXY_INSTALLED=1, as root, systemd's part played by hand."""

import json
import os
import pathlib
import pwd
import re
import shlex
import smtplib
import socket
import stat
import subprocess

import pytest
from program import ALERTS, PASSWORD, RELAY, SCANS, wait_until

from m365proxy.sandbox import Sandbox

if not os.environ.get("M365PROXY_INSTALLED"):
    pytest.skip("M365PROXY_INSTALLED is not set; .ci/packages runs this in Debian roots", allow_module_level=True)

CONFIG, STATE, USER = pathlib.Path("/etc/m365proxy.json"), pathlib.Path("/var/lib/m365proxy"), "m365proxy"
DOC = pathlib.Path("/usr/share/doc/m365proxy")
CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}


def unit(key):
    """A setting of the unit as it is installed."""
    places = [pathlib.Path(top) / "systemd/system/m365proxy.service" for top in ("/usr/lib", "/lib")]
    text = next(place for place in places if place.exists()).read_text()
    return re.search(rf"^{key}=(.*)$", text, re.MULTILINE).group(1)


def owner(path):
    found = path.stat()
    return pwd.getpwuid(found.st_uid).pw_name, stat.S_IMODE(found.st_mode)


def command(*words):
    """What an administrator types after sudo."""
    return subprocess.run(["m365proxy", *words], env=CLEAN, capture_output=True, text=True, timeout=60)


class Unit:
    """The service as the unit describes it: user, command, state directory, notifications."""

    def __init__(self, directory):
        self.log = directory / "log"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(directory / "notify"))
        self.socket.settimeout(30)
        os.chmod(directory / "notify", 0o666)
        for place in (directory, *directory.parents):
            place.chmod(place.stat().st_mode | 0o711)
        account = ["--reuid", unit("User"), "--regid", unit("Group"), "--clear-groups", "--no-new-privs"]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["setpriv", *account, *shlex.split(unit("ExecStart"))],
                stdout=log,
                stderr=log,
                cwd="/",
                stdin=subprocess.DEVNULL,
                env=dict(CLEAN, NOTIFY_SOCKET=str(directory / "notify"), STATE_DIRECTORY=str(STATE)),
            )

    def hears(self, pattern):
        while True:
            said = self.socket.recv(4096).decode()
            found = re.search(pattern, said)
            if found:
                return found


@pytest.fixture
def running(tmp_path):
    made = Unit(tmp_path)
    yield made
    made.process.kill()
    made.process.wait()
    made.socket.close()


def test_owners_and_modes():
    found = CONFIG.stat()
    assert stat.S_IMODE(found.st_mode) == 0o640 and found.st_uid == 0
    assert found.st_gid == pwd.getpwnam(USER).pw_gid
    assert owner(STATE) == (USER, 0o700)
    assert pwd.getpwnam(USER).pw_shell == "/usr/sbin/nologin"


def test_the_config_is_the_sample_and_no_conffile():
    """A conffile whose sample changed would stop an upgrade with a question."""
    assert CONFIG.read_text() == pathlib.Path("/usr/share/m365proxy/m365proxy.json").read_text()
    assert not pathlib.Path("/var/lib/dpkg/info/m365proxy.conffiles").exists()


GATEWAYS = ("haproxy.cfg", "keepalived.conf", "kubernetes/gateways.yaml")
MONITORING = ("prometheus/m365proxy.rules.yml", "grafana/m365proxy.json")


def test_the_samples_and_the_manual_are_there():
    assert json.loads((DOC / "examples/m365proxy.json").read_text())["mailboxes"]
    for name in ("m365proxy.logrotate", *GATEWAYS, "fail2ban/jail.d/m365proxy.conf", *MONITORING):
        assert (DOC / "examples" / name).exists()
    for page in ("man1/m365proxy.1.gz", "man5/m365proxy.json.5.gz"):
        assert pathlib.Path("/usr/share/man", page).exists()


def test_bash_completes_commands():
    file = "/usr/share/bash-completion/completions/m365proxy"
    asked = f'source {file}; COMP_WORDS=(m365proxy sta) COMP_CWORD=1; _m365proxy; echo "$COMPREPLY"'
    assert subprocess.run(["bash", "-c", asked], capture_output=True, text=True).stdout == "status\n"
    assert owner(pathlib.Path(file)) == ("root", 0o644)


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "docs/index.md", "docs/install.md"])
def test_the_pages_can_be_read_and_lead_to_each_other(page):
    text = (DOC / page).read_text("utf-8")
    for target in re.findall(r"\]\(([\w./-]+\.md)", text):
        assert (DOC / page).parent.joinpath(target).exists(), target


def test_dependencies_are_debians_own_and_no_more():
    said = subprocess.run(["dpkg-query", "-W", "-f", "${Depends}", "m365proxy"], capture_output=True, text=True).stdout
    names = {re.match(r"[a-z0-9-]+", word.strip()).group() for word in said.split(",")}
    assert names == {"python3", "python3-msal", "python3-requests", "python3-cryptography"}


def test_a_life(running):
    """Installed, waiting; filled in, signed in by root, mail out; everything is still the service's own."""
    assert "not filled in yet: run `m365proxy init`" in running.hears("(?s)READY=1.*").group()
    assert command("status").returncode == 78
    assert running.process.poll() is None
    sandbox = Sandbox(mailboxes=(RELAY, ALERTS, SCANS), user=RELAY)
    sandbox.start()
    try:
        trust = pathlib.Path("/etc/m365proxy-test-ca.pem")
        trust.write_bytes(pathlib.Path(sandbox.ca_file).read_bytes())
        trust.chmod(0o644)
        settings = json.loads(CONFIG.read_text())
        settings.update(
            user=RELAY,
            tenant_id=sandbox.tenant_id,
            client_id=sandbox.client_id,
            authority_url=sandbox.authority_url,
            graph_url=sandbox.graph_url,
            ca_file=str(trust),
            smtp_port=0,
            mailboxes=[{"username": ALERTS, "password": PASSWORD}],
            queue={"min_free_mb": 0},
        )
        CONFIG.write_text(json.dumps(settings))
        port = int(running.hears(r"READY=1\nSTATUS=smtp 127\.0\.0\.1:(\d+)").group(1))
        done = command("login")
        assert done.returncode == 0, done.stderr
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as smtp:
            smtp.login(ALERTS, PASSWORD)
            smtp.sendmail(ALERTS, [SCANS], f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: t\r\n\r\nx\r\n")
        wait_until(lambda: len(sandbox.tenant.delivered) == 1, what="the delivery")
        for words in (["status"], ["queue", "list"], ["check"], ["reload"]):
            done = command(*words)
            assert done.returncode == 0, (words, done.stdout, done.stderr)
        assert {owner(path)[0] for path in STATE.rglob("*")} == {USER}
        assert owner(STATE / "token.key") == (USER, 0o600)
        running.process.terminate()
        assert running.process.wait(30) == 0
    finally:
        sandbox.stop()
