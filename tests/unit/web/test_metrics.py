"""The metrics: their text, and that all others who name them know the same."""

import json
import pathlib
import re
from types import SimpleNamespace

from cases import each
from snapshots import ALERTS, NOW, snapshot_of

from m365proxy.monitoring.counters import Counter, Counters
from m365proxy.monitoring.monitor import report_on
from m365proxy.web import metrics

SERVICES = ("smtp", "pop3", "status")
ROOT = pathlib.Path(__file__).resolve().parents[3]


def rendered(counters=None, **changes):
    """Each sample's figure, as a text, by its name and labels."""
    counters = counters or Counters()
    text = metrics.render(report_on(snapshot_of(counters=counters, **changes)), counters)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = dict(line.rsplit(" ", 1) for line in lines)
    assert len(found) == len(lines)
    return found


def test_what_was_counted():
    counters = Counters()
    counters.note(NOW, {"event": "accepted", "size": 700})
    counters.note(NOW, {"event": "login failed", "service": "pop3"})
    counters.note(NOW, {"event": "TLS failed", "service": "status"})
    counters.note_session("smtp")
    counters.note_refusal("550 5.7.60")
    counters.note_answer(202)
    counters.note_answer(0)
    counters.note_throttling(2.5)
    shown = rendered(counters)
    assert shown["m365proxy_messages_accepted_total"] == "1"
    assert shown["m365proxy_messages_accepted_bytes_total"] == "700"
    assert shown['m365proxy_logins_failed_total{service="pop3"}'] == "1"
    assert shown['m365proxy_logins_failed_total{service="smtp"}'] == "0"
    handshakes = {name: shown[f'm365proxy_tls_handshakes_failed_total{{service="{name}"}}'] for name in SERVICES}
    assert handshakes == {"smtp": "0", "pop3": "0", "status": "1"}
    assert shown['m365proxy_sessions_total{service="smtp"}'] == "1"
    assert shown['m365proxy_smtp_refusals_total{code="550",enhanced="5.7.60"}'] == "1"
    assert shown['m365proxy_graph_requests_total{status="202"}'] == "1"
    assert shown['m365proxy_graph_requests_total{status="none"}'] == "1"
    assert shown["m365proxy_throttled_seconds_total"] == "2.5"


@each("counter", Counter)
def test_each_counter_is_shown(counter):
    counters = Counters()
    labels = {Counter.REFUSED: "550 5.7.1", Counter.DELIVERED_WITHIN: "5", Counter.GRAPH_REQUESTS: "200"}
    of_service = (Counter.SESSIONS, Counter.CONNECTIONS_REFUSED, Counter.LOGIN_FAILED, Counter.TLS_FAILED)
    counters.add(counter, labels.get(counter, "smtp" if counter in of_service else ""), 4711)
    assert "4711" in rendered(counters).values()


def test_deliveries_are_a_histogram():
    counters = Counters()
    for number, seconds in enumerate((0.5, 1, 4.25, 4000, 100_000)):
        counters.note(NOW, {"event": "delivered", "id": str(number), "mailbox": ALERTS, "seconds": seconds})
    shown = rendered(counters)
    buckets = {le: shown[f'm365proxy_delivery_seconds_bucket{{le="{le}"}}'] for le in ("1", "2", "5", "3600", "21600")}
    assert buckets == {"1": "2", "2": "2", "5": "3", "3600": "3", "21600": "4"}
    assert shown['m365proxy_delivery_seconds_bucket{le="+Inf"}'] == shown["m365proxy_delivery_seconds_count"] == "5"
    assert shown["m365proxy_delivery_seconds_sum"] == "104005.75"


def test_a_restart_makes_no_sum_less():
    counters, later = Counters(), Counters()
    for number in range(3):
        counters.note(NOW, {"event": "delivered", "id": str(number), "mailbox": ALERTS, "seconds": 0.1})
    counters.note_throttling(1.23456)
    later.restore(counters.content())
    assert rendered(later) == rendered(counters)
    assert rendered(later)["m365proxy_delivery_seconds_sum"] == "0.3"


def test_how_things_stand():
    shown = rendered(
        queue={"waiting": 3, "held": 1, "oldest": NOW - 90},
        sign_in={"error": "Sign in again.", "needs_sign_in": True},
        certificate={"path": "cert.pem", "days": -1},
        secret_days=12,
        disk_free_mb=100,
        clock_skew=-2.55,
        paused="No sign-in.",
        connections=7,
    )
    expected = {
        'queue_messages{state="waiting"}': "3",
        'queue_messages{state="sending"}': "0",
        'queue_messages{state="held"}': "1",
        'queue_messages{state="failed"}': "0",
        "queue_oldest_age_seconds": "90",
        'mailbox_waiting_messages{mailbox="alerts@contoso.com"}': "0",
        "sign_in_valid": "0",
        "token_renewal_age_seconds": "3600",
        "sending_paused": "1",
        "clock_skew_seconds": "-2.5",
        'findings{kind="sign-in"}': "1",
        'findings{kind="held"}': "1",
        "certificate_remaining_seconds": "-86400",
        "secret_remaining_seconds": "1036800",
        "disk_free_bytes": "104857600",
        "disk_required_bytes": "67108864",
        "connections": "7",
    }
    assert {name: shown[f"m365proxy_{name}"] for name in expected} == expected


def test_a_sign_in_that_could_not_be_renewed_for_now_is_not_lost():
    shown = rendered(sign_in={"error": "login.microsoftonline.com cannot answer now.", "needs_sign_in": False})
    assert (shown["m365proxy_sign_in_valid"], shown['m365proxy_findings{kind="sign-in"}']) == ("1", "1")


def test_what_is_not_known_is_left_out():
    shown = rendered(sign_in={"last_refresh": 0.0}, disk_free_mb=None)
    for name in ("token_renewal_age_seconds", "disk_free_bytes", "certificate_remaining_seconds"):
        assert f"m365proxy_{name}" not in shown
    assert shown["m365proxy_queue_oldest_age_seconds"] == "0"


def test_a_clock_that_was_set_back_makes_nothing_younger_than_now():
    shown = rendered(queue={"oldest": NOW + 500}, sign_in={"last_refresh": NOW + 500})
    assert shown["m365proxy_queue_oldest_age_seconds"] == shown["m365proxy_token_renewal_age_seconds"] == "0"


def test_values_of_labels_are_escaped():
    strange = 'a"b\\c\nd'
    mailbox = {"waiting": 1}
    shown = rendered(mailboxes={strange: mailbox}, queue={"waiting": 0}, findings=[])
    assert 'm365proxy_mailbox_waiting_messages{mailbox="a\\"b\\\\c\\nd"}' in shown


def test_the_response_says_which_format_it_is():
    monitor = SimpleNamespace(counters=Counters())
    answer = metrics.respond(SimpleNamespace(report=lambda: report_on(snapshot_of()), monitor=monitor))
    assert (answer.status, answer.media_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert answer.body.startswith(b"# HELP m365proxy_") and answer.body.endswith(b"\n")


# Others who name metrics.


def test_the_docs_have_the_same_table():
    page = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
    for metric in metrics.METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        assert f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |\n" in page
    assert set(re.findall(r"^\| `(m365proxy_\w+)`", page, re.M)) == {metric.name for metric in metrics.METRICS}


def known():
    """(name, its labels) of all that can be asked for."""
    found = {metric.name: set(metric.labels) for metric in metrics.METRICS if metric.kind != "histogram"}
    for metric in metrics.METRICS:
        if metric.kind == "histogram":
            found.update({f"{metric.name}_bucket": {"le"}, f"{metric.name}_sum": set(), f"{metric.name}_count": set()})
    return found


def expressions(value):
    """All texts below keys of Grafana's JSON that hold a query."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key in ("expr", "query") and isinstance(one, str):
                yield one
            else:
                yield from expressions(one)
    elif isinstance(value, list):
        for one in value:
            yield from expressions(one)


def dashboard():
    return json.loads((ROOT / "etc" / "grafana" / "m365proxy.json").read_text("utf-8"))


def test_the_dashboard_and_the_alerts_ask_for_nothing_else():
    rules = (ROOT / "etc" / "prometheus" / "m365proxy.rules.yml").read_text("utf-8")
    texts = [*expressions(dashboard()), *re.findall(r"expr: (?:>-\n)?((?:.+\n)(?: {10}.+\n)*)", rules)]
    assert len(texts) > 40
    for text in texts:
        for name, selector in re.findall(r"\b(m365proxy_\w+)(\{[^}]*\})?", text):
            assert name in known(), text
            asked = set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", selector)) - {"job", "instance"}
            assert asked <= known()[name], text


def test_the_dashboard_shows_each_metric():
    asked = " ".join(expressions(dashboard()))
    unseen = {"m365proxy_clock_skew_seconds", "m365proxy_sending_paused"}  # among the findings
    assert {name for name in known() if not re.search(rf"\b{name}\b", asked)} == unseen


def test_panels_of_the_dashboard_do_not_overlap():
    taken = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


def test_each_kind_of_finding_has_an_alert_of_its_own():
    """Those of later versions have a common one."""
    source = (ROOT / "m365proxy" / "monitoring" / "findings.py").read_text("utf-8")
    rules = (ROOT / "etc" / "prometheus" / "m365proxy.rules.yml").read_text("utf-8")
    with_alert = set("|".join(re.findall(r'kind=~?"([\w|-]+)"', rules)).split("|"))
    (without,) = re.findall(r'kind!~"([\w|-]+)"', rules)
    assert with_alert == set(without.split("|"))
    for kind in with_alert:
        assert re.search(rf'"{kind}[" ]', source), f"nothing finds {kind}"
