"""Whether new mail is taken: what `/readyz` answers, which load balancers read."""

from __future__ import annotations

import enum


class Readiness(enum.Enum):
    """The value is the answer's text; etc/haproxy.cfg looks for that of DRAINING."""

    READY = "ok"
    NOT_READY = "not ok"
    # Sessions that are open are ended in order by the program itself, so nobody else should end them.
    DRAINING = "draining"
