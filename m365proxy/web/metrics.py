"""The figures in the text format of Prometheus, version 0.0.4, which most monitoring systems read.

A figure is a row of METRICS: docs/monitoring.md has the same table.
"""

from __future__ import annotations

import sys
from typing import Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from ..monitoring.counters import BEYOND, DELIVERY_BOUNDS, Counter, Counters
from ..monitoring.findings import kind_of
from ..monitoring.monitor import Report
from ..system.choices import Service
from .response import Response
from .source import Source

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MB = 1024 * 1024
_DAY = 86400

_Totals = Mapping[Tuple[Counter, str], float]

# What follows the metric's name ("_bucket"), the values of its labels, and the figure.
_Sample = Tuple[str, Tuple[str, ...], float]


class Metric(NamedTuple):
    """A row of the table.  `labels` are their names; `samples` makes the figures, none if they are not known."""

    name: str
    kind: str  # "counter", "gauge", "histogram"
    help: str
    labels: Tuple[str, ...]
    samples: Callable[[Report, _Totals], Iterable[_Sample]]


def respond(source: Source) -> Response:
    """The figures as they are now.  Temporary if listing the queue takes too long."""
    return Response(200, render(source.report(), source.monitor.counters).encode("utf-8", "replace"), MEDIA_TYPE)


def render(report: Report, counters: Counters) -> str:
    """All metrics, each with its help and kind."""
    totals = counters.totals()
    return "".join(line + "\n" for metric in METRICS for line in _lines(metric, report, totals))


def _lines(metric: Metric, report: Report, totals: _Totals) -> Iterator[str]:
    samples = list(metric.samples(report, totals))
    if samples:
        yield f"# HELP {metric.name} {_escaped(metric.help)}"
        yield f"# TYPE {metric.name} {metric.kind}"
    for suffix, values, figure in samples:
        names = (*metric.labels, "le") if suffix == "_bucket" else metric.labels
        labels = ",".join(f'{name}="{_quoted(value)}"' for name, value in zip(names, values))
        yield (
            f"{metric.name}{suffix}{{{labels}}} {_number(figure)}"
            if labels
            else (f"{metric.name}{suffix} {_number(figure)}")
        )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')


def _number(figure: float) -> str:
    """With three decimals at most, as counters.json has them: no sum is less after a restart than it was before."""
    return str(int(figure)) if float(figure).is_integer() else repr(round(float(figure), 3))


# How rows get their figures.


def _one(figure: Optional[float]) -> List[_Sample]:
    return [] if figure is None else [("", (), figure)]


def _total(counter: Counter) -> Callable[[Report, _Totals], List[_Sample]]:
    return lambda report, totals: _one(totals.get((counter, ""), 0))


def _by_label(counter: Counter) -> Callable[[Report, _Totals], List[_Sample]]:
    """A label may hold the values of two."""
    return lambda report, totals: [
        ("", tuple(label.split(" ")), total) for (one, label), total in sorted(totals.items()) if one is counter
    ]


def _by_service(counter: Counter) -> Callable[[Report, _Totals], List[_Sample]]:
    """For mail always, for the status port if there is anything."""

    def samples(report: Report, totals: _Totals) -> List[_Sample]:
        counted = {label: total for (one, label), total in totals.items() if one is counter}
        found = {**{service.value: 0.0 for service in Service}, **counted}
        return [("", (service,), total) for service, total in found.items()]

    return samples


def _deliveries(report: Report, totals: _Totals) -> Iterator[_Sample]:
    count = 0.0
    for bound in (*map(str, DELIVERY_BOUNDS), BEYOND):
        count += totals.get((Counter.DELIVERED_WITHIN, bound), 0)
        yield "_bucket", (bound,), count
    yield "_sum", (), totals.get((Counter.DELIVERY_SECONDS, ""), 0)
    yield "_count", (), count


def _queue(report: Report, totals: _Totals) -> List[_Sample]:
    queue = report["queue"]
    states = {"waiting": queue["waiting"], "sending": queue["sending"], "held": queue["held"]}
    return [("", (state,), count) for state, count in {**states, "failed": queue["failed"]}.items()]


def _mailboxes(report: Report, totals: _Totals) -> List[_Sample]:
    return [("", (name,), view["waiting"]) for name, view in report["mailboxes"].items()]


def _findings(report: Report, totals: _Totals) -> List[_Sample]:
    counts: Dict[str, int] = {}
    for finding in report["findings"]:
        counts[kind_of(finding)] = counts.get(kind_of(finding), 0) + 1
    return [("", (kind,), count) for kind, count in counts.items()]


def _age(report: Report, moment: float) -> float:
    """Seconds since a moment; a clock that was set makes it no less than 0."""
    return max(0.0, report["written"] - moment)


def _oldest(report: Report, totals: _Totals) -> List[_Sample]:
    oldest = report["queue"]["oldest"]
    return _one(round(_age(report, oldest)) if oldest else 0)


def _renewal(report: Report, totals: _Totals) -> List[_Sample]:
    last = report["sign_in"]["last_refresh"]
    return _one(round(_age(report, last)) if last else None)


def _certificate(report: Report, totals: _Totals) -> List[_Sample]:
    certificate = report["certificate"]
    return _one(certificate["days"] * _DAY if certificate is not None else None)


def _secret(report: Report, totals: _Totals) -> List[_Sample]:
    days = report["secret_days"]
    return _one(days * _DAY if days is not None else None)


def _disk_free(report: Report, totals: _Totals) -> List[_Sample]:
    free = report["disk_free_mb"]
    return _one(free * _MB if free is not None else None)


def _build(report: Report, totals: _Totals) -> List[_Sample]:
    return [("", (report["version"], ".".join(map(str, sys.version_info[:3]))), 1)]


def _gauge(
    name: str, help: str, samples: Callable[[Report, _Totals], Iterable[_Sample]], labels: Tuple[str, ...] = ()
) -> Metric:
    return Metric(f"m365proxy_{name}", "gauge", help, labels, samples)


def _counter(
    name: str, help: str, samples: Callable[[Report, _Totals], Iterable[_Sample]], labels: Tuple[str, ...] = ()
) -> Metric:
    return Metric(f"m365proxy_{name}_total", "counter", help, labels, samples)


METRICS = (
    # Messages.
    _counter("messages_accepted", "Messages that a client got its 250 for.", _total(Counter.ACCEPTED)),
    _counter("messages_accepted_bytes", "Octets of these messages.", _total(Counter.ACCEPTED_OCTETS)),
    _counter("messages_delivered", "Messages that Exchange has taken.", _total(Counter.DELIVERED)),
    _counter("messages_deferred", "Attempts that failed, with another to follow.", _total(Counter.DEFERRED)),
    _counter("messages_failed", "Messages that were given up.", _total(Counter.FAILED)),
    _counter("messages_held", "Messages of which nobody could decide whether they were sent.", _total(Counter.HELD)),
    Metric(
        "m365proxy_delivery_seconds",
        "histogram",
        "From the 250 to the client until Exchange has taken the message.",
        (),
        _deliveries,
    ),
    _gauge("queue_messages", "Messages in the queue.", _queue, ("state",)),
    _gauge("queue_oldest_age_seconds", "Age of the oldest message that waits or is being sent; 0: none.", _oldest),
    _gauge("mailbox_waiting_messages", "Messages of a mailbox that wait or are being sent.", _mailboxes, ("mailbox",)),
    # Clients.
    _counter("sessions", "Clients that were let in.", _by_service(Counter.SESSIONS), ("service",)),
    _gauge("connections", "Clients that are connected now.", lambda report, totals: _one(report["connections"])),
    _counter(
        "connections_refused",
        "Clients that were turned away: not allowed, or too many connections.",
        _by_service(Counter.CONNECTIONS_REFUSED),
        ("service",),
    ),
    _counter(
        "smtp_refusals",
        "SMTP replies that refuse something, by reply code and enhanced status code.",
        _by_label(Counter.REFUSED),
        ("code", "enhanced"),
    ),
    _counter("logins_failed", "Logins with a wrong name or password.", _by_service(Counter.LOGIN_FAILED), ("service",)),
    _counter("tls_handshakes_failed", "TLS handshakes that failed.", _by_service(Counter.TLS_FAILED), ("service",)),
    _counter("pop3_messages_retrieved", "Messages that POP3 clients have fetched.", _total(Counter.RETRIEVED)),
    # Microsoft.
    _counter(
        "graph_requests",
        "Requests to Microsoft Graph by HTTP status; none: without an answer.",
        _by_label(Counter.GRAPH_REQUESTS),
        ("status",),
    ),
    _counter(
        "throttled_seconds",
        "Seconds for which Graph wanted a mailbox left alone, over all mailboxes.",
        _total(Counter.THROTTLED_SECONDS),
    ),
    _gauge(
        "sign_in_valid",
        "0: the sign-in at Microsoft is missing or lost; else 1, also while Microsoft does not answer.",
        lambda report, totals: _one(not report["sign_in"]["needs_sign_in"]),
    ),
    _gauge("token_renewal_age_seconds", "Since the sign-in was last renewed.", _renewal),
    _gauge(
        "sending_paused",
        "Whether nothing can be sent at all: 1 or 0.",
        lambda report, totals: _one(bool(report["paused"])),
    ),
    _gauge(
        "clock_skew_seconds",
        "Microsoft's clock minus that of this machine.",
        lambda report, totals: _one(round(report["clock_skew"], 1)),
    ),
    # This machine, and what ends one day.
    _gauge("findings", "What there is to do, as in m365proxy status.", _findings, ("kind",)),
    _gauge("certificate_remaining_seconds", "Until tls.tls_cert expires; in whole days.", _certificate),
    _gauge("secret_remaining_seconds", "Until the app's secret or certificate expires; in whole days.", _secret),
    _gauge("disk_free_bytes", "Free space where the queue is.", _disk_free),
    _gauge(
        "disk_required_bytes",
        "Free space below which no mail is accepted (queue.min_free_mb).",
        lambda report, totals: _one(report["min_free_mb"] * _MB),
    ),
    _gauge(
        "start_time_seconds",
        "When the program was started, since 1970.",
        lambda report, totals: _one(round(report["started"])),
    ),
    _gauge("build_info", "Versions of m365proxy and of Python; always 1.", _build, ("version", "python")),
)
