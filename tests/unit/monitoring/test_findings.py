"""What is found in a snapshot."""

import pytest
from snapshots import snapshot_of

from m365proxy.monitoring import findings


def test_nothing_where_all_is_well():
    assert findings.find(snapshot_of()) == []


@pytest.mark.parametrize(
    "key, changes",
    [
        ("sign-in", {"sign_in": {"error": "Nobody is signed in."}}),
        ("held", {"queue": {"held": 1}}),
        ("failed", {"queue": {"failed": 2}}),
    ],
)
def test_each_kind(key, changes):
    [finding] = findings.find(snapshot_of(**changes))
    assert finding["key"] == findings.kind_of(finding) == key
    assert finding["sentence"].endswith(".")


@pytest.mark.parametrize(
    "running, count, said",
    [
        (True, 0, "All is well"),
        (True, 1, "Attention: 1 thing to do"),
        (True, 2, "Attention: 2 things to do"),
        (False, 2, "Not running"),
    ],
)
def test_the_verdict(running, count, said):
    found = [{"key": "held", "sentence": "1 message is held.", "commands": []}] * count
    assert findings.verdict(running, found) == said
