"""The examples for several gateways: other programs read them, and they agree with each other."""

import json
import os
import pathlib
import re
import subprocess

import pytest
from gateways.balancers import haproxy_text, keepalived_text
from program import PASSWORD
from tools import need

from m365proxy.config import load
from m365proxy.logins import passwords
from m365proxy.web.site import PAGES

ETC = pathlib.Path(__file__).resolve().parents[2] / "etc"
KUBERNETES = (ETC / "kubernetes" / "gateways.yaml").read_text("utf-8")


@pytest.mark.parametrize("standbys", [{}, {"192.0.2.23": "192.0.2.24"}], ids=["as it is", "with a standby"])
def test_haproxy_reads_its_file(tmp_path, standbys):
    text = haproxy_text(standbys)
    assert text.count("192.0.2.24:") == 3 * len(standbys)
    (tmp_path / "haproxy.cfg").write_text(text)
    done = subprocess.run([need("haproxy"), "-c", "-f", tmp_path / "haproxy.cfg"], capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr


@pytest.mark.parametrize("number", [1, 2])
def test_keepalived_reads_its_file(tmp_path, number):
    keepalived = need("keepalived")
    interfaces = [name for name in os.listdir("/sys/class/net") if name != "lo"]
    if not interfaces or os.geteuid() != 0:
        pytest.skip("keepalived needs root, and a network interface that is not lo")
    text = keepalived_text(number)
    (tmp_path / "keepalived.conf").write_text(text.replace("interface eth0", f"interface {interfaces[0]}"))
    done = subprocess.run([keepalived, "-t", "-f", tmp_path / "keepalived.conf"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # keepalived starts what a link leads to, under that name: pidof would be killall5, which always fails here.
    check = re.search(r'script "(\S+) ', text).group(1)
    assert not os.path.islink(need(check)), f"{check} leads to {os.path.realpath(check)}"
    machines = re.findall(r"unicast_src_ip ([\d.]+)|unicast_peer \{\s+([\d.]+)", text)
    addresses = json.dumps(sorted(one or other for one, other in machines))
    assert f'"proxy_protocol_from": {addresses}' in (ETC / "haproxy.cfg").read_text("utf-8")


@pytest.fixture(scope="module")
def documents():
    yaml = pytest.importorskip("yaml")
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(KUBERNETES)}


def test_the_parts_for_kubernetes_belong_together(documents):
    pods = documents["StatefulSet", "m365proxy"]["spec"]
    assert documents["Service", pods["serviceName"]]["spec"]["clusterIP"] == "None"
    labels = pods["template"]["metadata"]["labels"]
    assert pods["selector"]["matchLabels"] == labels
    for kind, name in documents:
        if kind == "Service":
            assert labels.items() <= documents[kind, name]["spec"]["selector"].items()
    (container,) = pods["template"]["spec"]["containers"]
    known = {port["name"] for port in container["ports"]}
    for kind, name in documents:
        if kind == "Service":
            assert {port["targetPort"] for port in documents[kind, name]["spec"]["ports"]} <= known
    volumes = {volume["name"] for volume in pods["template"]["spec"]["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in pods["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert {container[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")} == {
        path for path, page in PAGES.items() if page.is_open
    }


def test_a_pod_may_be_drained_before_it_is_killed(documents):
    pod = documents["StatefulSet", "m365proxy"]["spec"]["template"]["spec"]
    words = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    (seconds,) = re.findall(r"timeout (\d+) m365proxy drain", words[-1])
    assert pod["terminationGracePeriodSeconds"] >= int(seconds) + 20


def test_the_config_for_kubernetes_loads(documents, tmp_path):
    settings = json.loads(documents["Secret", "m365proxy-config"]["stringData"]["m365proxy.json"])
    settings.update(tenant_id="5f0c8d3a-7f3e-4a52-9a55-0d6a1c6f1b11", client_id="5f0c8d3a-7f3e-4a52-9a55-0d6a1c6f1b11")
    settings["mailboxes"][0]["password"] = settings["status_password"] = passwords.hash_password(PASSWORD)
    path = tmp_path / "m365proxy.json"
    path.write_text(json.dumps(settings))
    config = load.load(str(path), {})
    assert config.limits.nodes == documents["StatefulSet", "m365proxy"]["spec"]["replicas"]
