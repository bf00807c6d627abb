"""The program is killed at every single step of a message's way, once before it and once after it, and started again.

What got its 250 arrives exactly once; what did not, at most once.
"""

import itertools
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from faults.crash import Job, Server
from program import ALERTS, Program

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

SERVERS = 4

# Octets that Exchange refuses in the story of a message that fails.
TOO_MUCH = 20_000


class Bench:
    """A tenant, a signed-in installation to copy, and processes that run copies of it."""

    def __init__(self, path):
        self.path = path
        (path / "template").mkdir()
        self.template = Program(path / "template", queue={"min_free_mb": 0, "on_ambiguous": "hold"})
        self.tenant = self.template.sandbox.tenant
        self.tenant.max_send_size = TOO_MUCH
        self.template.sign_in()
        self.numbers = itertools.count()
        self.servers = [Server() for _ in range(SERVERS)]
        self._free = list(self.servers)
        self._lock = threading.Lock()

    def close(self):
        for server in self.servers:
            server.close()
        self.template.close()

    def permissions(self, which):
        self.template.settings.pop("pop3_port", None)
        self.template.configure(permissions=which)

    def play(self, way, side, number):
        """One message with the kill at one step; (where, what became of it), or None if there is no such step."""
        with self._lock:
            server = self._free.pop()
            name = f"story-{next(self.numbers)}-"
        try:
            return self._play(server, name, way, side, number)
        finally:
            with self._lock:
                self._free.append(server)

    def _play(self, server, name, way, side, number):
        directory = self.path / name
        shutil.copytree(self.template.directory, directory)
        config, said, mail = str(directory / "config.json"), False, {"subject": name, "size": way.size}
        if way.first:
            first_side, step = way.first.split(" ", 1)
            first = server.run(Job(config, side=first_side, name=step, **mail))
            assert first.died == way.first, f"never came to {way.first}: {first.steps}"
            said, mail = first.said, {}
        killed = server.run(Job(config, side=side, number=number, **mail))
        said = said or killed.said
        after = server.run(Job(config)) if killed.died else killed
        assert after.died == ""
        found = self._found(directory, name, said)
        shutil.rmtree(directory)
        return (killed.died, found) if killed.died else None

    def _found(self, directory, name, said):
        with self.tenant.lock:
            delivered = sum(name.encode() in delivery.raw for delivery in self.tenant.delivered)
            drafts = [item for item in self.tenant.items(ALERTS, "drafts") if name.encode() in (item.raw or b"")]
        queue = directory / "state" / "queue"
        queued = [(place, entry.rpartition(".")[2]) for place in ("new", "cur", "failed") for entry in os.listdir(queue / place)]
        return said, delivered, [place if place == "failed" else phase for place, phase in queued], len(drafts)


class Way:
    """A story: `first` is where the program dies in it before the kill that goes through all steps."""

    def __init__(self, good, first="", size=10, permissions="full", steps=()):
        self.good, self.first, self.size, self.permissions, self.steps = good, first, size, permissions, set(steps)


SENT, HELD, FAILED = (1, []), (1, ["held"]), (0, ["failed"])
ACCEPTING = {"create tmp", "sync_file tmp", "move tmp>new", "sync_directory new"}
SENDING = {"move new>cur", "replace state", "move cur>cur", "sync_directory cur", "remove cur", "remove state"}
DRAFT = {"POST messages", "PATCH message", "POST send"}
LOOKING = {"GET message", "GET messages"}

WAYS = {
    "by draft": Way([SENT], steps=ACCEPTING | SENDING | DRAFT),
    "in one step": Way(
        [SENT, HELD, (0, ["held"])], permissions="send", steps=ACCEPTING | SENDING | {"POST sendMail"}
    ),
    "sent, and dead before that was noted": Way([SENT], "after POST send", steps={"GET message", "remove cur"}),
    "dead before it was sent": Way([SENT], "before POST send", steps=LOOKING | SENDING | {"POST send"}),
    "dead before the draft's id was noted": Way([SENT], "after POST messages", steps=LOOKING | DRAFT | {"DELETE message"}),
    "refused for good": Way([FAILED], size=2 * TOO_MUCH, steps={"DELETE message", "move cur>failed", "sync_directory failed"}),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    made = Bench(tmp_path_factory.mktemp("steps"))
    yield made
    made.close()


@pytest.mark.parametrize("name", WAYS)
def test_dead_at_every_step(bench, name):
    way = WAYS[name]
    bench.permissions(way.permissions)
    visited, wrong = set(), []
    with ThreadPoolExecutor(SERVERS) as pool:
        for start in itertools.count(0, 8):
            jobs = [(way, side, number) for number in range(start, start + 8) for side in ("before", "after")]
            results = list(pool.map(lambda job: bench.play(*job), jobs))
            for where, (said, delivered, queued, drafts) in filter(None, results):
                visited.add(where)
                good = (delivered, queued) in way.good or (not said and (delivered, queued) == (0, []))
                if not good or drafts:
                    wrong.append((where, said, delivered, queued, drafts))
            if None in results:
                break
    assert not wrong
    missing = {f"{side} {step}" for step in way.steps for side in ("before", "after")} - visited
    assert not missing, f"never killed there; killed at {sorted(visited)}"
