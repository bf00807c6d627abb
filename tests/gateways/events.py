"""What happens meanwhile: two rows of events, each over and over until the time is up.

The rows run beside each other.  The one is about the gateway on the replicated volume, whose takeovers take as long as
the storage keeps a lost machine's lock; the other one about all others.  Each row takes one gateway away at most, and
waits until HAProxy has it back.
"""

from __future__ import annotations

import shutil
import threading
import time
import traceback
from collections import Counter
from typing import Callable, List, Optional

from gateways.balancers import await_one
from gateways.nodes import Gateway
from gateways.site import Site
from waiting import wait_until

# The least time between two events: what is measured is how long a device waits because of one.
_APART = 10.0

# How long a cable is out, and a program that is being drained may take.
_CUT, _DRAIN = 15.0, 40

# What a gateway that is cut off from Microsoft has to take before it dies for good.
_WAITING = 3


class Row(threading.Thread):
    """Events, one after the other; `error` says why it ended before its time."""

    def __init__(self, name: str, seconds: float):
        super().__init__(name=name, daemon=True)
        self.error = ""
        self._end = time.monotonic() + seconds

    @property
    def events(self) -> "List[Callable[[], None]]":
        raise NotImplementedError

    def run(self) -> None:
        try:
            while True:
                for event in self.events:
                    if time.monotonic() >= self._end:
                        return
                    event()
        except Exception:
            self.error = traceback.format_exc()


class Events:
    def __init__(self, site: Site, seconds: float):
        self.counts: "Counter[str]" = Counter()
        self._site = site
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._last = -_APART  # monotonic
        self._rows = [_Others(self, seconds), _OnTheVolume(self, seconds)]

    def run(self) -> None:
        for row in self._rows:
            row.start()
        for row in self._rows:
            row.join()

    def errors(self) -> List[str]:
        return [row.error for row in self._rows if row.error]

    def begin(self, what: str, detail: str = "") -> None:
        """Something is about to happen; it waits until devices have found a way round what happened before."""
        while True:
            with self._lock:
                left = self._last + _APART - time.monotonic()
                if left <= 0:
                    self._last = time.monotonic()
                    break
            time.sleep(left)
        self.note(what, detail)

    def note(self, what: str, detail: str = "") -> None:
        self.counts[what] += 1
        self.say(f"{what} {detail}".rstrip())

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {text}", flush=True)


class _Others(Row):
    def __init__(self, scene: Events, seconds: float):
        super().__init__("others", seconds)
        self._scene = scene
        self._site = scene._site
        self._turn = 0

    @property
    def events(self) -> "List[Callable[[], None]]":
        return [
            self._kill,
            self._kill_haproxy,
            self._cut_from_devices,
            self._cut_from_microsoft,
            self._start_a_clone,
            self._lose_for_good,
            self._power_off,
            self._upgrade_all,
        ]

    def _next(self) -> Gateway:
        """Each in turn."""
        self._turn += 1
        return self._site.gateways[self._turn % len(self._site.gateways)]

    def _back(self, gateway: Gateway) -> None:
        gateway.await_serving()
        self._site.await_up(gateway)

    def _kill(self) -> None:
        gateway = self._next()
        self._scene.begin("kill -9 of a gateway", gateway.name)
        gateway.kill()
        wait_until(lambda: not gateway.is_serving(), what="its end")
        self._back(gateway)

    def _kill_haproxy(self) -> None:
        active = await_one(self._site.balancers)
        self._scene.begin("kill -9 of HAProxy", active.machine.name)
        active.kill_haproxy()
        wait_until(lambda: not active.has_address(), what="the address leaving")
        await_one(self._site.balancers)
        active.start_haproxy()
        self._site.await_up(*self._site.gateways)

    def _cut_from_devices(self) -> None:
        self._cut("cut between a gateway and the devices", "eth0")

    def _cut_from_microsoft(self) -> None:
        self._cut("cut between a gateway and Microsoft", "eth1")

    def _cut(self, what: str, adapter: str) -> None:
        gateway = self._next()
        self._scene.begin(what, gateway.name)
        gateway.machine.unplug(adapter)
        time.sleep(_CUT)
        gateway.machine.plug(adapter)
        self._back(gateway)

    def _power_off(self) -> None:
        gateway = self._next()
        self._scene.begin("power cut of a machine that comes back", gateway.name)
        gateway.power_off()
        time.sleep(_CUT)
        gateway.machine.boot()
        gateway.start()
        self._back(gateway)

    def _start_a_clone(self) -> None:
        original = self._next()
        self._scene.note("clone started by mistake", f"of {original.name}")
        clone = self._site.clone(original)
        clone.start()
        wait_until(lambda: clone.statuses, what="the end of the clone")
        assert clone.statuses == [78] and not clone.is_serving(), f"the clone ended with {clone.statuses}"
        clone.power_off()

    def _lose_for_good(self) -> None:
        """With mail in its queue, which another machine in its place takes over."""
        dead = self._next()
        dead.machine.unplug("eth1")
        wait_until(lambda: len(dead.queue()) >= _WAITING, what="mail in its queue")
        self._scene.begin("machine that dies for good, its queue adopted", dead.name)
        dead.power_off()
        self._site.await_down(dead)
        successor = self._site.replace(dead)
        self._scene.say(successor.command("adopt", dead.state_dir).partition("\n")[0])
        shutil.rmtree(dead.state_dir)
        self._back(successor)

    def _upgrade_all(self) -> None:
        for gateway in self._site.gateways:
            _upgrade(self._scene, gateway)
            self._back(gateway)


def _upgrade(scene: Events, gateway: Gateway) -> None:
    scene.begin("upgrade by drain", gateway.name)
    gateway.drain(_DRAIN)
    gateway.stop()
    gateway.start()


class _OnTheVolume(Row):
    def __init__(self, scene: Events, seconds: float):
        super().__init__("on the volume", seconds)
        self._scene = scene
        self._site = scene._site

    @property
    def events(self) -> "List[Callable[[], None]]":
        return [self._kill, self._cut_from_storage, self._upgrade, self._power_off, self._cut_for_long]

    def _pair(self) -> "tuple[Gateway, Gateway]":
        """The one that serves, and the one that waits."""
        return wait_until(self._find_pair, 240, "one that serves on the volume, and one that waits")

    def _find_pair(self) -> "Optional[tuple[Gateway, Gateway]]":
        one, other = self._site.pair
        if one.is_serving() == other.is_serving():
            return None
        return (one, other) if one.is_serving() else (other, one)

    def _await_takeover(self, old: Gateway) -> None:
        (new,) = (one for one in self._site.pair if one is not old)
        began = time.monotonic()
        wait_until(new.is_serving, 300, f"the takeover by {new.name}")
        self._scene.note("takeover by the standby", f"{new.name}, after {time.monotonic() - began:.1f} s")
        self._site.await_up(new)

    def _kill(self) -> None:
        serving, _ = self._pair()
        self._scene.begin("kill -9 of a gateway", serving.name)
        serving.kill()
        self._await_takeover(serving)

    def _upgrade(self) -> None:
        serving, _ = self._pair()
        self._scene.begin("upgrade by drain", serving.name)
        serving.drain(_DRAIN)
        serving.stop()
        self._await_takeover(serving)
        serving.start()

    def _cut_from_storage(self) -> None:
        """Shorter than the storage keeps the lock."""
        serving, _ = self._pair()
        self._scene.begin("cut between a gateway and its storage", serving.name)
        serving.machine.unplug("eth2")
        time.sleep(_CUT)
        serving.machine.plug("eth2")
        self._site.await_up(serving)

    def _cut_for_long(self) -> None:
        """Until the storage has given its lock to the standby; then it is back, and so are all of its writes."""
        serving, _ = self._pair()
        self._scene.begin("cut between a gateway and its storage", f"{serving.name}, until the standby has taken over")
        serving.machine.unplug("eth2")
        self._await_takeover(serving)
        serving.machine.plug("eth2")
        wait_until(lambda: not serving.is_serving(), 240, f"the end of {serving.name}, which has lost its lock")

    def _power_off(self) -> None:
        serving, _ = self._pair()
        self._scene.begin("power cut of a machine that comes back", serving.name)
        serving.power_off()
        self._await_takeover(serving)
        self._site.boot_on_volume(serving)
