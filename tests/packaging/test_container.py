"""The container: its examples agree with each other, and an image that was built runs.

M365PROXY_CONTAINER names podman and its options, M365PROXY_IMAGE the image, as in .ci/packages.
"""

import json
import os
import pathlib
import re
import shlex
import smtplib
import subprocess

import pytest
from program import ALERTS, PASSWORD, RELAY, SCANS, wait_until

from m365proxy.config import load
from m365proxy.logins import passwords
from m365proxy.sandbox import Sandbox
from m365proxy.web.site import PAGES

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "etc" / "container"
PODMAN, IMAGE = shlex.split(os.environ.get("M365PROXY_CONTAINER", "")), os.environ.get("M365PROXY_IMAGE", "")
NUMBER = 5525


def text(name):
    return (FOLDER / name).read_text("utf-8")


def documents(name):
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all(text(name)))


def test_the_image_has_the_packages_that_the_deb_depends_on():
    (line,) = re.findall(r"ca-certificates (python3 .*) \\", text("Containerfile"))
    build = re.findall(r"python3-(\w+)", (ROOT / "debian" / "control").read_text("utf-8"))
    assert set(line.split()) == {"python3", *(f"python3-{name}" for name in build if name not in ("all", "setuptools"))}


def test_user_and_places_are_the_same_in_all_files():
    assert {int(number) for number in re.findall(r"\b(5\d\d\d)\b", "".join(map(text, os.listdir(FOLDER))))} == {NUMBER}
    for name in ("Containerfile", "compose.yaml", "kubernetes.yaml"):
        assert "/etc/m365proxy" in text(name) and "/var/lib/m365proxy" in text(name)
    assert "m365proxy.json: |" in text("kubernetes.yaml")
    assert "M365PROXY_CONFIG=/etc/m365proxy/m365proxy.json" in text("Containerfile")


def test_kubernetes_asks_what_needs_no_password():
    asked = re.findall(r"path: (/\w+)\n +port: status\n +scheme: HTTPS", text("kubernetes.yaml"))
    assert sorted(asked) == sorted(path for path, page in PAGES.items() if page.is_open)


def test_the_config_for_kubernetes_loads(tmp_path):
    block = text("kubernetes.yaml").partition("m365proxy.json: |\n")[2].partition("---")[0]
    settings = json.loads(block)
    settings.update(tenant_id="5f0c8d3a-7f3e-4a52-9a55-0d6a1c6f1b11", client_id="5f0c8d3a-7f3e-4a52-9a55-0d6a1c6f1b11")
    settings["mailboxes"][0]["password"] = settings["status_password"] = passwords.hash_password(PASSWORD)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    loaded = load.load(str(tmp_path / "config.json"), {})
    assert loaded.state_dir.startswith("/var/lib/m365proxy/")
    assert not [warning for warning in loaded.warnings if "no device can log in" in warning]


def test_one_pod_at_a_time():
    kinds = {document["kind"]: document for document in documents("kubernetes.yaml")}
    spec = kinds["Deployment"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    assert kinds["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteOnce"]
    (container,) = spec["template"]["spec"]["containers"]
    targets = {port["targetPort"] for port in kinds["Service"]["spec"]["ports"]}
    assert targets == {port["name"] for port in container["ports"]} - {"status"}  # that is for the cluster alone


def test_compose_keeps_the_state_on_a_volume():
    (document,) = documents("compose.yaml")
    service = document["services"]["m365proxy"]
    assert {volume.split(":")[0] for volume in service["volumes"]} == {"./config", *document["volumes"]}
    assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).exists()


# The rest runs the image


def podman(*words, **options):
    return subprocess.run([*PODMAN, *words], capture_output=True, text=True, timeout=300, **options)


@pytest.fixture
def sandbox():
    made = Sandbox(mailboxes=(RELAY, ALERTS, SCANS), user=RELAY)
    made.start()
    yield made
    made.stop()


class Container:
    """As compose.yaml starts it, but in the network of this machine, where the stand-in tenant is."""

    def __init__(self, config):
        self.name = "m365proxy-test"
        options = ["--network", "host", "--read-only", "--security-opt", "no-new-privileges"]
        volumes = ["--volume", f"{config}:/etc/m365proxy", "--volume", f"{self.name}:/var/lib/m365proxy"]
        done = podman("run", "--detach", "--name", self.name, *options, *volumes, IMAGE)
        assert done.returncode == 0, done.stderr

    def said(self):
        done = podman("logs", self.name)
        return done.stdout + done.stderr

    def exec(self, *words, user=NUMBER):
        return podman("exec", "--user", str(user), self.name, *words)

    def exec_in_terminal(self, *words):
        """(exit status, what the terminal showed) of `podman exec -it`."""
        import pty

        ours, theirs = pty.openpty()
        command = [*PODMAN, "exec", "-it", self.name, *words]
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 4096):
                shown += chunk
        except OSError:  # how Linux says that the other side is closed
            pass
        os.close(ours)
        return process.wait(60), shown.decode()

    def is_healthy(self):
        return podman("healthcheck", "run", self.name).returncode == 0


@pytest.mark.skipif(not IMAGE, reason="M365PROXY_IMAGE is not set; .ci/packages builds and runs the image")
@pytest.mark.timeout(600)
def test_a_life(sandbox, tmp_path):
    """Waits for a config; filled in, signed in, mail out; stopped and started again, with all that it had."""
    config = tmp_path / "config"
    config.mkdir()
    container = Container(config)
    try:
        wait_until(lambda: "is not filled in yet: run `m365proxy" in container.said(), what="the notice")
        assert not container.is_healthy()
        (config / "ca.pem").write_bytes(pathlib.Path(sandbox.ca_file).read_bytes())
        settings = {
            "user": RELAY,
            "tenant_id": sandbox.tenant_id,
            "client_id": sandbox.client_id,
            "authority_url": sandbox.authority_url,
            "graph_url": sandbox.graph_url,
            "ca_file": "ca.pem",
            "smtp_port": 0,
            "mailboxes": [{"username": ALERTS, "password": passwords.hash_password(PASSWORD)}],
            "queue": {"min_free_mb": 0},
        }
        (config / "new").write_text(json.dumps(settings))
        os.rename(config / "new", config / "m365proxy.json")
        wait_until(container.is_healthy, what="health")
        code, shown = container.exec_in_terminal("m365proxy", "login")
        assert code == 0 and f"Signed in as {RELAY}" in shown, shown
        wait_until(lambda: RELAY in container.exec("m365proxy", "status").stdout, what="the sign-in in the status")
        # What root does in there leaves nothing behind that the program cannot read.
        assert container.exec("m365proxy", "login", user=0).returncode == 0
        done = container.exec("m365proxy", "status", user=0)
        assert done.returncode == 0, done.stderr
        port = int(re.search(r"smtp 127\.0\.0\.1:(\d+)", done.stdout).group(1))
        with smtplib.SMTP("127.0.0.1", port, timeout=30) as smtp:
            smtp.login(ALERTS, PASSWORD)
            smtp.sendmail(ALERTS, [SCANS], f"From: {ALERTS}\r\nTo: {SCANS}\r\nSubject: t\r\n\r\nx\r\n")
        wait_until(lambda: len(sandbox.tenant.delivered) == 1, what="the delivery")
        done = container.exec("sh", "-c", "find ~ ! -user m365proxy; ls ~/.m365proxy")
        assert not [line for line in done.stdout.splitlines() if line.startswith("/")], done.stdout
        assert "tokens.enc" in done.stdout.split()
        assert podman("stop", "--time", "20", container.name).returncode == 0
        assert podman("inspect", "--format", "{{.State.ExitCode}}", container.name).stdout.strip() == "0"
        assert podman("start", container.name).returncode == 0
        wait_until(container.is_healthy, what="health after the second start")
        assert RELAY in container.exec("m365proxy", "status").stdout
    finally:
        podman("rm", "--force", container.name)
        podman("volume", "rm", container.name)
