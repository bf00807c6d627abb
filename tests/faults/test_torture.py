"""The torture's short form: a few of its modes, a few kills each."""

import dataclasses
import os
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest
from faults.torture import Mode, judge, modes, torment

# In each, something else than in the others tells what became of a draft, and the last ones nothing.
MODES = [
    Mode("replace_at_create", id_survives=False, late=True, meanwhile="drafts", believed=True),
    Mode("replace_at_send", id_survives=False, late=True, meanwhile="outbox"),
    Mode("replace_at_send", marker_survives=False),
    Mode("replace_at_send", id_survives=False, marker_survives=False, late=True, meanwhile="drafts"),
    Mode(one_step=True),
]


def test_nothing_is_lost_and_nothing_comes_twice(tmp_path):
    seed = int(os.environ.get("M365PROXY_TEST_SEED", secrets.randbelow(10**6)))
    print(f"M365PROXY_TEST_SEED={seed}")

    def run(number):
        directory = tmp_path / str(number)
        directory.mkdir()
        return torment(MODES[number], seed + number, messages=15, kills=2, directory=directory)

    with ThreadPoolExecutor(len(MODES)) as pool:
        results = list(pool.map(run, range(len(MODES))))
    for mode, result in zip(MODES, results):
        print(mode, dataclasses.asdict(result))
        assert result.messages >= 15 and result.faults, "nothing happened"
        assert (result.lost, result.duplicated, result.failed) == (0, 0, 0), result.names
        assert not (mode.decidable and result.held)


def test_every_mode_is_one_of_its_own():
    assert len(set(modes())) == len(modes()) and set(MODES) <= set(modes())
    assert len({str(mode) for mode in modes()}) == len(modes())


class Stub:
    """What judge looks at: deliveries and a queue."""

    def __init__(self, directory, delivered, queued):
        self.directory = directory
        for place in ("new", "cur", "failed"):
            (directory / "state" / "queue" / place).mkdir(parents=True)
        for number, (place, token) in enumerate(queued):
            (directory / "state" / "queue" / place / str(number)).write_text(f"Subject: {token}\r\n")
        tenant = type("Tenant", (), {"delivered": [type("D", (), {"raw": t.encode()}) for t in delivered]})
        self.sandbox = type("Sandbox", (), {"tenant": tenant})


@pytest.mark.parametrize(
    "delivered,queued,accepted,found",
    [
        (["token-1"], [], ["token-1"], (1, 0, 0, 0, 0)),
        (["token-1"], [], ["token-1", "token-2"], (1, 0, 0, 1, 0)),
        (["token-1", "token-1"], [], ["token-1"], (1, 0, 0, 0, 1)),
        (["token-1", "token-1"], [], [], (0, 0, 0, 0, 1)),
        (["token-1"], [("cur", "token-1")], ["token-1"], (0, 1, 0, 0, 0)),
        ([], [("cur", "token-1"), ("failed", "token-2")], ["token-1", "token-2"], (0, 1, 1, 0, 0)),
    ],
)
def test_the_judge_sees_it(tmp_path, delivered, queued, accepted, found):
    result = judge(Stub(tmp_path, delivered, queued), dict.fromkeys(accepted, "queued"))
    assert (result.delivered, result.held, result.failed, result.lost, result.duplicated) == found
