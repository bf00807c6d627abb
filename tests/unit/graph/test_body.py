"""Bodies of requests."""

from __future__ import annotations

import base64

import graph_harness
from cases import each
from graph_harness import ALERTS, MAIL

from m365proxy.graph.body import Body, base64_body

harness = graph_harness.harness


def test_a_body_is_read_in_small_pieces(harness):
    sizes, made, lead = [], [0], []
    total = 3_000_000

    class Watched(Body):
        def read(self, size=-1):
            data = super().read(size)
            sizes.append(size)
            made[0] -= len(data)
            lead.append(made[0])
            return data

    def pieces():
        lines = b"x" * 70 + b"\r\n"
        raw = base64.b64encode((MAIL + lines * total)[: total * 3 // 4])
        for i in range(0, total, 60_000):
            made[0] += len(raw[i : i + 60_000])
            yield raw[i : i + 60_000]

    answer = harness.graph.call(
        "POST", ALERTS, "/sendMail", headers={"Content-Type": "text/plain"}, body=lambda: Watched(total, pieces())
    )
    assert answer.status == 202 and harness.sandbox.seen("sendMail")[0].size == total
    assert min(sizes) > 0 and max(sizes) <= 64 * 1024, "somebody reads it whole"
    assert max(lead) <= 120_000


@each("size", [0, 1, 2, 3, 57, 1000])
@each("cut", [1, 2, 3, 7, 1000])
def test_base64_body(size, cut):
    raw = bytes(range(256)) * 4
    raw = raw[:size]
    body = base64_body(size, [raw[i : i + cut] for i in range(0, size, cut)])
    expected = base64.b64encode(raw)
    assert len(body) == len(expected) and b"".join(body) == expected and body.exhausted


def test_exhausted_tells_the_last_octet():
    body = Body(10, iter([b"abc", b"defg", b"hij"]))
    assert not body.exhausted
    assert body.read(4) == b"abcd" and body.read(5) == b"efghi" and not body.exhausted
    assert body.read(100) == b"j" and body.exhausted and body.read(5) == b""
    whole = Body(3, [b"abc"])
    assert whole.read() == b"abc" and whole.exhausted
    assert list(Body(40_000, [b"x" * 40_000])) == [b"x" * 16384, b"x" * 16384, b"x" * 7232]


def test_a_call_without_a_body_says_so(harness):
    answer = harness.graph.call("POST", ALERTS, "/messages/x/send")
    assert harness.sandbox.requests[0].headers["content-length"] == "0"
    assert answer.code == "ErrorInvalidIdMalformed"  # and not 411
