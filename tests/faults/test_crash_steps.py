"""The program is killed at every single step of a message's way, and started again.

What got its 250 arrives exactly once; what did not, at most once.
"""

import itertools
import json
import os
import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import List, NamedTuple, Optional, Tuple

import pytest
from faults.crash import LOG, SMALLEST, Job, Server
from program import ALERTS, Program

from m365proxy.sandbox import uploads

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

SERVERS = 4

# Octets that Exchange refuses in the story of a message that fails.
TOO_MUCH = 20_000


class Story(NamedTuple):
    kill: Optional[Tuple[str, str, int]]
    died: str  # "" if it never came to the kill
    steps: List[str]
    said: bool  # whether it got its 250
    delivered: int  # times
    queued: List[str]  # "held", "failed"; others are wrong
    drafts: int  # left behind
    log: str


class Bench:
    """A tenant, a signed-in installation to copy, and processes that run copies of it."""

    def __init__(self, path):
        self.path = path
        (path / "template").mkdir()
        # Without signing in, which costs more time than all the rest.
        self.template = Program(
            path / "template",
            receivers=0,  # the steps of this process are counted
            queue={"min_free_mb": 0, "on_ambiguous": "hold"},
            relay_networks={"127.0.0.0/8": ALERTS},
        )
        self.tenant = self.template.sandbox.tenant
        # Several installations at once use one mailbox here; a draft whose deletion meets a 429 stays for a day.
        self.template.sandbox.concurrency_limit = None
        self.tenant.max_send_size = TOO_MUCH
        self.template.sign_in()
        self._token = self.template.sandbox.entra.token()
        self._numbers = itertools.count()
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

    def set_ids(self, message_id, kept):
        """What Exchange does with ids; the program believes that a draft's id leads to its sent copy."""
        self.tenant.message_id, self.tenant.draft_id_survives = message_id, kept
        known = {"sent ids": {ALERTS: {"kept": True, "learned": self.tenant.clock()}}}
        (self.path / "template" / "state" / "routes.json").write_text(json.dumps(known))

    def play(self, way, kill=None):
        """One message, with the program killed at `kill`, (side, step, time); what came of it, see Story."""
        with self._lock:
            server = self._free.pop()
            name = f"story-{next(self._numbers)}-"
        try:
            return self._play(server, name, way, kill)
        finally:
            with self._lock:
                self._free.append(server)

    def _play(self, server, name, way, kill):
        directory = self.path / name
        shutil.copytree(self.template.directory, directory)
        job = Job(str(directory / "config.json"), reports=way.reports, large=bool(way.large), token=self._token)
        said, mail = False, way.mail(name)
        if way.first:
            side, step = way.first.split(" ", 1)
            first = server.run(job._replace(side=side, step=step, **mail))
            assert first.died == way.first, f"never came to {way.first}: {first.steps}"
            said, mail = first.said, {}
        run = server.run(job._replace(**mail, **dict(zip(("side", "step", "time"), kill or ()))))
        said = said or run.said
        if run.died:
            assert server.run(job).died == ""
        story = Story(kill, run.died, run.steps, said, *self._found(directory, name), (directory / LOG).read_text())
        shutil.rmtree(directory)
        return story

    def _found(self, directory, name):
        with self.tenant.lock:
            delivered = sum(name.encode() in delivery.raw for delivery in self.tenant.delivered)
            drafts = [item for item in self.tenant.items(ALERTS, "drafts") if name.encode() in self.tenant.mime(item)]
        queue = directory / "state" / "queue"
        queued = [name.rpartition(".")[2] for place in ("new", "cur") for name in os.listdir(queue / place)]
        failed = ["told" if name.endswith(".told") else "failed" for name in os.listdir(queue / "failed")]
        return delivered, queued + failed, len(drafts)


class Way:
    """A story with its `good` ends.

    first: where the program dies in it before the kill that goes through all
    steps; steps: what has to be among them; most: how often one and the same
    step is tried, as looks come again and again; reports: whether the sender
    is told of a failure; large: it is large mail, and what Exchange makes of a
    draft of MIME that files are added to; strays: how many drafts may be left.
    """

    def __init__(
        self, good, first="", size=10, permissions="full", steps=(), most=2, reports=False, large="", strays=0
    ):
        self.good, self.first, self.size, self.permissions = good, first, size, permissions
        self.steps, self.most, self.reports, self.large, self.strays = set(steps), most, reports, large, strays

    def mail(self, name):
        return {"subject": name, "size": self.size}

    def begin(self, steps):
        """Which step is the first to die at: mail is accepted in one way only, and some stories are about that."""
        accepts = steps[0] == "create tmp" and "create tmp" not in self.steps
        return steps.index("sync_directory new") + 1 if accepts else 0


SENT, HELD, FAILED = (1, []), (1, ["held"]), (0, ["failed"])
# What is delivered is the report. It comes again after a death between its commit and the note of it.
REPORTED = [(1, ["told"]), (2, ["told"])]
ACCEPTING = {"create tmp", "sync_file tmp", "move tmp>new", "sync_directory new"}
SENDING = {"move new>cur", "replace state", "move cur>cur", "sync_directory cur", "remove cur", "remove state"}
TWO = {"POST messages", "POST send"}
DRAFT = TWO | {"PATCH message"}
LOOKING = {"GET message", "GET messages"}
# "PUT message": the address of an upload has no name.
FILLING = {"POST messages", "PATCH message", "GET $value", "POST createUploadSession", "PUT message", "GET message"}

WAYS = {
    "by draft": Way([SENT], steps=ACCEPTING | SENDING | DRAFT, most=4),
    "in one step": Way(
        [SENT, HELD, (0, ["held"])], permissions="send", steps=ACCEPTING | SENDING | {"POST sendMail"}, most=4
    ),
    "sent, and dead before that was noted": Way([SENT], "after POST send", steps={"GET message", "remove cur"}),
    "dead before it was sent": Way([SENT], "before POST send", steps=LOOKING | SENDING | {"POST send"}),
    "dead before the draft's id was noted": Way(
        [SENT], "after POST messages", steps={"GET messages", "DELETE message"} | DRAFT
    ),
    "refused for good": Way(
        [FAILED], size=2 * TOO_MUCH, steps={"DELETE message", "move cur>failed", "sync_directory failed"}
    ),
    "refused for good, and the sender is told": Way(
        REPORTED,
        first="after sync_directory failed",
        size=2 * TOO_MUCH,
        steps=ACCEPTING | SENDING | DRAFT | {"move failed>failed", "sync_directory failed"},
        reports=True,
    ),
    "large mail": Way([SENT], steps=SENDING | FILLING | {"POST send"}, large="keep"),
    "large mail whose form is lost": Way(
        [SENT], steps=SENDING | FILLING | {"DELETE message", "POST send"}, large="forget_mime"
    ),
}

# Two requests, by what Exchange does with the Message-ID, and whether the draft's id is the copy's.
BARE = {
    "keep, True": Way([SENT], steps=SENDING | TWO),
    "keep, True, dead before it was sent": Way(
        [SENT], "before POST send", steps=LOOKING | SENDING | {"PATCH message", "POST send"}
    ),
    "keep, True, sent, and dead before that was noted": Way(
        [SENT], "after POST send", steps={"GET message", "remove cur"}
    ),
    "keep, True, dead before the draft's id was noted": Way(
        [SENT], "after POST messages", steps={"GET messages", "DELETE message"} | DRAFT
    ),
    "keep, False": Way([SENT], steps=SENDING | TWO, most=1),
    # A draft whose id was not noted is not recognised then: it is never sent, and stays.
    "replace_at_create, True": Way([SENT], steps=SENDING | TWO, most=1, strays=1),
    "replace_at_send, True": Way([SENT], steps=SENDING | TWO, most=1),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    made = Bench(tmp_path_factory.mktemp("steps"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(uploads, "SMALLEST", SMALLEST)
        yield made
    made.close()


def leaves_all(step):
    """Whether after a step all that outlives the process is as before it.

    What is written stays, synced or not, as the system goes on; if it does not: test_powercut.py.
    """
    return step.startswith(("GET ", "sync_"))


def sides(step):
    """Where there is a kill in any case, seen from a step.

    Before a request, too: what is kept of a mailbox, outside the queue, may have been noted since the step before it.
    """
    if leaves_all(step):
        return []
    return ["after"] if step[0].islower() else ["before", "after"]


def is_part(step):
    """Of the replacing of a state."""
    return step.endswith(("state", "state>state")) and not step.startswith(("replace", "remove"))


def kills(steps, most):
    """Before and after each step, up to its `most`th time, but once in each state that outlives the process: before a
    step it mostly is what it was after an earlier one.  The parts of replace, and what only reads, once."""
    times, is_met = Counter(), False  # whether there is a kill in the state before the step
    for step in steps:
        times[step] += 1
        is_tried = times[step] <= (1 if is_part(step) or step.startswith("GET ") else most)
        if is_tried and (not is_met or "before" in sides(step)):
            is_met = True
            yield "before", step, times[step]
        if not leaves_all(step):
            is_met = is_tried
            if is_tried:
                yield "after", step, times[step]


@pytest.mark.parametrize(
    "steps, expected",
    [
        (["create tmp", "sync_file tmp"], ["before create tmp 1", "after create tmp 1"]),
        (["move new>cur", "GET message"], ["before move new>cur 1", "after move new>cur 1"]),
        (
            ["remove cur", "remove cur", "remove cur", "GET message", "move cur>cur"],
            [
                *("before remove cur 1", "after remove cur 1", "after remove cur 2"),
                *("before GET message 1", "after move cur>cur 1"),
            ],
        ),
        (
            ["remove cur", "POST send"],
            ["before remove cur 1", "after remove cur 1", "before POST send 1", "after POST send 1"],
        ),
    ],
)
def test_each_state_is_met_once(steps, expected):
    assert [f"{side} {step} {time}" for side, step, time in kills(steps, 2)] == expected


@pytest.mark.parametrize("name", WAYS)
def test_dead_at_every_step(bench, name):
    die_at_every_step(bench, WAYS[name])


@pytest.mark.parametrize("name", BARE)
def test_dead_at_every_step_of_two_requests(bench, name):
    message_id, kept = name.split(", ")[:2]
    bench.set_ids(message_id, kept == "True")
    die_at_every_step(bench, BARE[name])


def die_at_every_step(bench, way):
    bench.tenant.mime_drafts_take_files = way.large or "keep"
    bench.permissions(way.permissions)
    undisturbed = bench.play(way)
    if way.steps >= TWO and not way.first:
        assert ("PATCH message" in undisturbed.steps) == ("PATCH message" in way.steps), "it is another way"
    assert (undisturbed.delivered, undisturbed.queued) in way.good
    chosen = kills(undisturbed.steps[way.begin(undisturbed.steps) :], way.most)
    with ThreadPoolExecutor(SERVERS) as pool:
        stories = list(pool.map(lambda kill: bench.play(way, kill), chosen))
    wrong = [
        story
        for story in stories
        if story.drafts > way.strays
        or not ((story.delivered, story.queued) in way.good or not story.said and story[4:6] == (0, []))
    ]
    assert not wrong, "\n".join(f"{story._replace(log='')}\n{story.log}" for story in wrong)
    died = {story.died for story in stories}
    missing = {f"{side} {step}" for step in way.steps for side in sides(step)} - died
    assert not missing, f"never killed there, but at {sorted(died)}"
    never = way.steps.difference(undisturbed.steps, *(story.steps for story in stories))
    assert not never, f"never came to {never}"
