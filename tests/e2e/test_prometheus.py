"""Metrics of the running program as Prometheus takes them, the alerts, and the dashboard."""

import base64
import http.client
import json
import pathlib
import re
import signal
import subprocess

import pytest
from lineclient import LineClient
from program import ALERTS, PASSWORD, ROOT, wait_until
from tools import need

RULES = ROOT / "etc" / "prometheus" / "m365proxy.rules.yml"
CREDENTIALS = base64.b64encode(f"\0{ALERTS}\0{PASSWORD}".encode()).decode()

# What Grafana puts in place of its variables.
VARIABLES = {"$__rate_interval": "5m", "$__interval": "1m", "$job": ".*", "$instance": ".*"}


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
        assert response.status == 200, body
        return body
    finally:
        connection.close()


def metrics(program):
    """Each sample's figure by its name and labels."""
    text = get(program.port("status"), "/metrics")
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name.replace("m365proxy_", "", 1): float(figure) for name, figure in lines}


def send(program, count, sender=ALERTS):
    """So many messages, each with its 250; the last reply."""
    with LineClient(program.port("smtp")) as client:
        client.line()
        assert client.ask(f"AUTH PLAIN {CREDENTIALS}").startswith("235 ")
        for number in range(count):
            reply = client.ask(f"MAIL FROM:<{sender}>")
            if not reply.startswith("250 "):
                return reply
            client.ask("RCPT TO:<support@fabrikam.com>")
            client.ask("DATA")
            reply = client.ask(f"Subject: message {number}\r\n\r\nHello\r\n.")
            assert reply.startswith("250 "), reply
        client.ask("QUIT")
    return reply


def promtool(*words, text=None):
    done = subprocess.run([need("promtool"), *words], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def relay(make_program):
    return make_program(status_port=0).sign_in().start()


def test_what_happens_is_counted(relay):
    relay.sandbox.faults.add("answer", status=503, method="POST", path="/messages")
    send(relay, 2)
    assert send(relay, 1, sender="somebody@fabrikam.com").startswith("550")
    with LineClient(relay.port("smtp")) as client:
        client.line()
        client.ask("AUTH PLAIN " + base64.b64encode(b"\0nobody\0wrong").decode())
    expected = {
        "messages_accepted_total": 2,
        "messages_deferred_total": 1,
        "messages_failed_total": 0,
        "delivery_seconds_count": 2,
        'sessions_total{service="smtp"}': 3,
        'logins_failed_total{service="smtp"}': 1,
        'smtp_refusals_total{code="535",enhanced="5.7.8"}': 1,
        'smtp_refusals_total{code="550",enhanced="5.7.60"}': 1,
        'graph_requests_total{status="503"}': 1,
        'graph_requests_total{status="202"}': 2,
        "sign_in_valid": 1,
        'queue_messages{state="held"}': 0,
    }
    wait_until(lambda: expected.items() <= metrics(relay).items(), what=f"{expected}")


def test_promtool_finds_nothing_to_say_of_the_metrics(relay):
    need("promtool")
    send(relay, 1)
    send(relay, 1, sender="somebody@fabrikam.com")
    assert promtool("check", "metrics", text=get(relay.port("status"), "/metrics")) == ""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_kill_loses_no_count_and_counts_nothing_twice(relay):
    for kills in range(1, 4):
        send(relay, 3)
        wait_until(lambda kills=kills: metrics(relay)["messages_delivered_total"] == 3 * kills, what="delivery")
        before = metrics(relay)
        relay.stop(signal.SIGKILL)
        status = json.loads(relay.command("status", "--json").stdout)
        assert status["mailboxes"][ALERTS]["sent_24h"] == 3 * kills
        relay.start()
        after = metrics(relay)
        kept = [name for name in before if name.startswith(("messages_", "delivery_"))]
        assert len(kept) > 10 and {name: after[name] for name in kept} == {name: before[name] for name in kept}
        assert after['sessions_total{service="smtp"}'] == 0
    assert relay.stop() == 0
    relay.start()
    assert metrics(relay)["messages_accepted_total"] == 9
    assert relay.status()["mailboxes"][ALERTS]["sent_24h"] == 9


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_kill_before_a_sent_message_is_out_of_the_queue_counts_it_once(relay):
    """Graph's 202 is counted; the program is killed in the middle of what follows, and finds that it was sent."""
    send(relay, 1)
    wait_until(lambda: metrics(relay)["messages_delivered_total"] == 1, what="delivery")
    lines = [json.loads(line) for line in (relay.directory / "state/events/00000001.jsonl").read_text().splitlines()]
    (delivered,) = [line for line in lines if line["event"] == "delivered"]
    relay.stop(signal.SIGKILL)
    relay.start()
    with open(relay.directory / "state/events/00000001.jsonl", "a") as file:
        file.write(json.dumps(delivered) + "\n")
    relay.stop(signal.SIGKILL)
    relay.start()
    assert metrics(relay)["messages_delivered_total"] == 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_without_an_event_log_counters_begin_at_zero_after_a_kill(make_program):
    relay = make_program(status_port=0, logging={"events_mb": 0}).sign_in().start()
    send(relay, 1)
    wait_until(lambda: metrics(relay)["messages_delivered_total"] == 1, what="delivery")
    assert relay.stop() == 0
    relay.start()
    assert metrics(relay)["messages_delivered_total"] == 1
    relay.stop(signal.SIGKILL)
    relay.start()
    assert metrics(relay)["messages_delivered_total"] == 0
    assert relay.status()["mailboxes"][ALERTS]["sent_24h"] == 1
    assert not (relay.directory / "state" / "events").exists()


@pytest.mark.parametrize("is_protected", [False, True], ids=["on the machine", "with TLS and password"])
def test_prometheus_scrapes_it_and_loads_the_alerts(make_program, tmp_path, is_protected):
    program = need("prometheus")
    relay = make_program(status_port=0, **({"status_password": PASSWORD} if is_protected else {})).sign_in().start()
    send(relay, 1)
    scrape = {"job_name": "m365proxy", "static_configs": [{"targets": [f"127.0.0.1:{relay.port('status')}"]}]}
    if is_protected:
        scrape.update(
            scheme="https",
            tls_config={"ca_file": str(relay.certificate)},
            basic_auth={"username": "prometheus", "password": PASSWORD},
        )
    config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(RULES)]}
    (tmp_path / "prometheus.yml").write_text(json.dumps({**config, "scrape_configs": [scrape]}))  # YAML reads it, too
    log = tmp_path / "log"
    words = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=127.0.0.1:0"]
    with open(log, "wb") as file:
        running = subprocess.Popen([program, *words], cwd=tmp_path, stdout=file, stderr=file)
    try:
        address = wait_until(
            lambda: re.search(r'"Listening on" address=127\.0\.0\.1:(\d+)', log.read_text()), what="Prometheus"
        )
        port = int(address.group(1))

        def scraped():
            (target,) = json.loads(get(port, "/api/v1/targets"))["data"]["activeTargets"] or [{"health": "unknown"}]
            is_late = "deadline exceeded" in target.get("lastError", "")  # a busy machine needs more than a second
            assert target["health"] != "down" or is_late, target["lastError"]
            return target["health"] == "up"

        wait_until(lambda: '"Server is ready' in log.read_text() and scraped(), what="a scrape")
        query = "/api/v1/query?query=m365proxy_messages_accepted_total"
        (found,) = wait_until(lambda: json.loads(get(port, query))["data"]["result"], what="the figure")
        assert found["metric"]["job"] == "m365proxy" and found["value"][1] == "1"
        (group,) = json.loads(get(port, "/api/v1/rules"))["data"]["groups"]
        assert len(group["rules"]) > 10 and {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
    finally:
        running.terminate()
        running.wait(30)


def test_promtool_takes_the_alerts():
    assert "SUCCESS" in promtool("check", "rules", str(RULES))


def test_the_alerts_do_what_they_are_for():
    assert "SUCCESS" in promtool("test", "rules", str(pathlib.Path(__file__).with_name("prometheus.rules.test.yml")))


def test_promtool_understands_each_query_of_the_dashboard(tmp_path):
    need("promtool")
    text = (ROOT / "etc" / "grafana" / "m365proxy.json").read_text("utf-8")
    for variable, value in VARIABLES.items():
        text = text.replace(variable, value)
    dashboard = json.loads(text)
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    assert len(queries) > 30 and not any("$" in query for query in queries)
    rules = [{"record": f"dashboard:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(tmp_path / "rules.yml"))
    # Of a program that gives no figures nothing is said, and least of all that there is nothing to do.
    assert "vector(" not in text
