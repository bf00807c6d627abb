"""Snapshots and their parts, for tests of what is made of them."""

from m365proxy.monitoring import snapshot
from m365proxy.monitoring.counters import Counters
from m365proxy.monitoring.snapshot import ProgramView, SignInView, Watched
from m365proxy.spool.overview import EMPTY

NOW = 1_800_000_000.0
ALERTS = "alerts@contoso.com"

SIGNED_IN = SignInView(
    user="relay@contoso.com",
    signed_in_at=NOW - 86400,
    last_refresh=NOW - 3600,
    error="",
    needs_sign_in=False,
    exit_status=0,
)

PROGRAM = ProgramView(
    pid=4711,
    started=NOW - 7200,
    listeners=["smtp 127.0.0.1:2525"],
    deaf=[],
    draining=False,
    connections=0,
    paused="",
    clock_skew=0.0,
    sent={},
)


def watch(directory="/nonexistent", **changes):
    return Watched(str(directory), (ALERTS,), 64, "", None)._replace(**changes)


def snapshot_of(*, watched=None, queue=None, sign_in=None, counters=None, program=PROGRAM, now=NOW, **changes):
    """All is well, but for what is given.  `queue`, `sign_in`: what is different in them; others: keys of the whole."""
    taken = snapshot.take(
        watched or watch(),
        {**EMPTY, **(queue or {})},
        {**SIGNED_IN, **(sign_in or {})},
        counters or Counters(),
        now,
        program,
    )
    return {**taken, **changes}
