"""A federation on virtual time: one heap of what happens next, one random source, one judge.

Everything that could differ between two runs of a seed comes from `random.Random(seed)`; so a seed replays
exactly, and a failure prints it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import msgspec

from p2pfl.core import inputs
from p2pfl.core.effects import AnyEffect, Collect, Exit, Fetch, Send, SendRecords, Tell
from p2pfl.core.options import Options, Policy
from p2pfl.messages import (
    Accept,
    Accepted,
    Commit,
    Member,
    Message,
    Prepare,
    Promise,
    RunSpec,
    Status,
)
from p2pfl.messages import Collect as CollectMessage
from p2pfl.sim.chaos import schedule_faults
from p2pfl.sim.checker import Checker, Violation
from p2pfl.sim.device import SAVES, Device, digest_of
from p2pfl.sim.disk import Disk
from p2pfl.sim.faults import CALM, Faults
from p2pfl.sim.setting import SETTINGS, node_id, spec_of, through_codec

AIMED_AT = (Prepare, Promise, CollectMessage, Accept, Accepted, Commit)
"""Messages after whose sending a crash hurts most."""

POWER_CUTS = 0.5
"""Share of crashes that take the whole device down, with what it had not flushed to disk."""

PATIENCE = 600.0
"""Virtual seconds after the end of the faults within which the run has to complete."""

Thunk = Callable[[], None]


class World:
    """One federation, one seed."""

    def __init__(
        self,
        seed: int,
        *,
        nodes: int = 5,
        rounds: int = 5,
        faults: Faults = CALM,
        policy: Policy | None = None,
        spec: RunSpec | None = None,
        trace: bool = False,
        codec: bool = False,
    ) -> None:
        self.seed = seed
        self.now = 0.0
        self.random = random.Random(seed)  # noqa: S311 - reproducible on purpose, nothing secret
        self.faults = faults
        self.checker = Checker()
        self.trace: list[str] | None = [] if trace else None
        self.cut_off: set[str] = set()
        """Nodes on the other side of a cut."""
        self.deaf: set[tuple[str, str]] = set()
        """Pairs of (from, to) between which messages are lost although the link is up."""
        self.on_effect: Callable[[Device, AnyEffect], None] | None = None
        """Called after each effect: where a test aims its faults."""
        self._heap: list[tuple[float, int, Thunk]] = []
        self._count = 0
        self._links: dict[tuple[str, str], int] = {}
        """Epoch of each link that is up, by (lower id, higher id)."""
        self._epoch = 0
        self._ticks: dict[str, float] = {}
        self._spins, self._last_tick = 0, -1.0
        self._policy = policy or Policy()
        self._spec = spec or spec_of(rounds)
        self._codec = codec
        """Whether messages pass through the real codec, which checks every bound; a third slower."""
        self.devices: dict[str, Device] = {}
        for index in range(nodes):
            self.add_device(index, nodes)

    def add_device(self, index: int, min_nodes: int, **changes: object) -> Device:
        """Add a device that is not started yet; *changes* are fields of its `Options`."""
        node = node_id(index)
        options = Options(self._spec, frozenset(), 0, min_nodes, digest_of("nonce", index, self.seed)[:32])
        options = msgspec.structs.replace(options, **changes)
        disk = Disk(Member(node, digest_of("journal", index, 0)[:32]))
        device = Device(f"node-{index + 1}", disk, options, SETTINGS, self._policy)
        self.devices[node] = device
        return device

    # --- running --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Start everybody, let the faults happen, and see the run complete.

        Raises:
            Violation: an invariant does not hold, or the run does not complete.
        """
        self.begin()
        self.run_until(self.is_complete, self.faults.until + PATIENCE)

    def begin(self) -> None:
        """Let everybody start within a second, and the faults begin."""
        for device in self.devices.values():
            self.after(self.random.random(), lambda device=device: self.start(device))  # type: ignore[misc]
        schedule_faults(self)
        if self.faults.until > 0:
            self.after(self.faults.until, self.heal)
        self.after(self.faults.until + SETTINGS.linger, self.serve_stragglers)

    def run_for(self, seconds: float) -> None:
        """Let things happen for *seconds*."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self._step()
        self.now = end

    def run_until(self, done: Callable[[], bool], limit: float) -> None:
        """Let things happen until *done*.

        Raises:
            Violation: virtual time *limit* has come and it is not done.
        """
        while not done():
            if not self._heap or self._heap[0][0] > limit:
                raise Violation(f"progress: not done at {self.now:.1f} s: {self._summary()}")
            self._step()

    def _step(self) -> None:
        self.now, _, thunk = heapq.heappop(self._heap)
        thunk()

    def is_complete(self) -> bool:
        """Whether every device has ended with the run complete."""
        return all(device.exit is not None and device.exit.code == 0 for device in self.devices.values())

    def _summary(self) -> str:
        parts = []
        for device in self.devices.values():
            ledger = device.node.ledger if device.node else None
            state = f"round {ledger.round}" if ledger else "no run"
            parts.append(f"{device.name} {'up' if device.is_up else 'down'} {state}")
        return "; ".join(parts)

    def after(self, delay: float, thunk: Thunk) -> None:
        """Let *thunk* happen in *delay* seconds."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay, self._count, thunk))

    # --- devices --------------------------------------------------------------------------------------------

    def start(self, device: Device) -> None:
        """Start a device's process; its links come up a little later."""
        if device.is_up:
            return
        self.note(device, "starts")
        self._carry_out(device, device.boot_up(self.now))
        for other in self.devices.values():
            if other is not device:
                self._connect_later(device, other)

    def crash(self, device: Device, down: float | None = None) -> None:
        """Stop a device's process at once; it comes back after *down* seconds, by default at random."""
        if not device.is_up:
            return
        self.note(device, "crashes")
        device.crash()
        if self.random.random() < POWER_CUTS:
            device.disk.passing.clear()
        self._disconnect(device)
        seconds = down if down is not None else self.random.expovariate(1 / max(0.1, self.faults.down))
        self.after(seconds, lambda: self.start(device))

    def serve_stragglers(self) -> None:
        """Start finished devices again for those that were away meanwhile, as their operators would."""
        for device in self.devices.values():
            if device.exit is not None and not self.is_complete():
                self.start(device)
        self.after(2 * SETTINGS.linger, self.serve_stragglers)

    def lose_disk(self, device: Device, down: float | None = None) -> None:
        """Crash a device for good and let it come back with an empty data directory."""
        if device.is_up:
            self.crash(device, down)
        self.note(device, "loses its disk")
        device.lose_disk()

    def feed(self, device: Device, event: inputs.AnyInput) -> None:
        """Give the protocol of *device* an input and carry out what it asks for."""
        if device.node is not None:
            self._carry_out(device, device.node.input(event, self.now))

    def _tick(self, device: Device, boot: int) -> None:
        if device.node is None or device.boot != boot or self._ticks.get(device.member.node) != self.now:
            return
        del self._ticks[device.member.node]
        self._spins = self._spins + 1 if self.now == self._last_tick else 0
        self._last_tick = self.now
        if self._spins > 1000:
            raise Violation(f"{device.name} asks for ticks without end at {self.now}")
        self._carry_out(device, device.node.tick(self.now))

    def _arm(self, device: Device) -> None:
        """Arm the device's one timer for its protocol's deadline."""
        deadline = device.node.deadline() if device.node else None
        if deadline is None:
            return
        at = max(deadline, self.now)
        if self._ticks.get(device.member.node) != at:
            self._ticks[device.member.node] = at
            boot = device.boot
            self.after(at - self.now, lambda: self._tick(device, boot))
            # `now + (at - now)` may differ from `at` in the last bit: remember what the heap holds.
            self._ticks[device.member.node] = self.now + (at - self.now)

    def _carry_out(self, device: Device, effects: list[AnyEffect]) -> None:
        boot = device.boot
        for effect in effects:
            self.checker.before(device.disk, effect)
            self._do(device, effect)
            self.checker.after(device.disk, effect)
            if self.on_effect is not None:
                self.on_effect(device, effect)
            if not device.is_up or device.boot != boot:
                return
            if self._crashes_now(effect):
                self.crash(device)
                return
        self._arm(device)

    def _crashes_now(self, effect: AnyEffect) -> bool:
        faults = self.faults
        if self.now >= faults.until:
            return False
        if (
            isinstance(effect, Send)
            and isinstance(effect.message, AIMED_AT)
            and self.random.random() < faults.aimed
        ):
            return True
        return faults.between > 0 and self.random.random() < faults.between

    def _do(self, device: Device, effect: AnyEffect) -> None:
        if isinstance(effect, SAVES):
            device.disk.save(effect)
            return
        match effect:
            case Send():
                self._send(device, effect.to, effect.message)
            case SendRecords():
                records = device.disk.records(effect.run, effect.after)
                if records is not None:
                    self._send(device, effect.to, records)
            case Fetch():
                self._fetch(device, effect, device.boot)
            case Collect():
                device.disk.collect(effect.keep)
            case Tell():
                device.told.append(effect.event)
                if self.trace is not None:
                    self.note(device, str(effect.event))
            case Exit():
                self.note(device, f"exits {effect.code}: {effect.reason}")
                device.exit = effect
                device.crash()
                self._disconnect(device)
            case _:
                self._work(device, effect)

    def _work(self, device: Device, effect: AnyEffect) -> None:
        outcome = device.work(effect, self.random.random)
        if outcome is None:
            return
        seconds, result = outcome
        boot = device.boot

        def finish() -> None:
            if device.boot != boot or device.node is None or device.is_stale(result):
                return
            if isinstance(result, inputs.Averaged) and result.digest is not None:
                device.disk.blobs.add(result.digest)
            if isinstance(result, inputs.Created):
                device.disk.blobs.add(result.model)
            if isinstance(result, inputs.Trained):
                device.disk.passing.add(result.digest)
                self.checker.updates[result.digest] = (result.run, result.round, result.model)
            self.feed(device, result)

        self.after(seconds, finish)

    # --- network --------------------------------------------------------------------------------------------

    def _pair(self, one: str, other: str) -> tuple[str, str]:
        return (one, other) if one < other else (other, one)

    def is_connected(self, one: str, other: str) -> bool:
        """Whether a link between two nodes is up."""
        return self._pair(one, other) in self._links

    def _parted(self, one: str, other: str) -> bool:
        return (one in self.cut_off) != (other in self.cut_off)

    def _connect_later(self, one: Device, other: Device) -> None:
        boots = (one.boot, other.boot)
        self.after(0.05 + 0.3 * self.random.random(), lambda: self._connect(one, other, boots))

    def _connect(self, one: Device, other: Device, boots: tuple[int, int]) -> None:
        a, b = one.member.node, other.member.node
        if not (one.is_up and other.is_up) or self._parted(a, b) or self.is_connected(a, b):
            return
        if boots != (one.boot, other.boot):
            return
        self._epoch += 1
        self._links[self._pair(a, b)] = self._epoch
        self.feed(one, inputs.Linked(other.member, other.name))
        if other.is_up:
            self.feed(other, inputs.Linked(one.member, one.name))

    def _disconnect(self, device: Device) -> None:
        node = device.member.node
        for pair in [pair for pair in self._links if node in pair]:
            self._unlink(pair)

    def _unlink(self, pair: tuple[str, str]) -> None:
        if self._links.pop(pair, None) is None:
            return
        for mine, theirs in (pair, pair[::-1]):
            device = self.devices[mine]
            if device.is_up:
                boot = device.boot
                self.after(0.0, lambda d=device, n=theirs, b=boot: self._lost(d, n, b))  # type: ignore[misc]

    def _lost(self, device: Device, node: str, boot: int) -> None:
        if device.boot == boot and not self.is_connected(device.member.node, node):
            self.feed(device, inputs.Unlinked(node))

    def cut(self, side: set[str]) -> None:
        """Cut the nodes of *side* off from the others."""
        self.cut_off = side
        for pair in list(self._links):
            if self._parted(*pair):
                self._unlink(pair)

    def heal(self) -> None:
        """Let everybody reach everybody again."""
        self.cut_off, self.deaf = set(), set()
        devices = list(self.devices.values())
        for index, one in enumerate(devices):
            for other in devices[index + 1 :]:
                if one.is_up and other.is_up:
                    self._connect_later(one, other)

    def _send(self, device: Device, to: str, message: Message) -> None:
        epoch = self._links.get(self._pair(device.member.node, to))
        if epoch is None or (device.member.node, to) in self.deaf:
            return
        if self._codec:
            message = through_codec(message)
        faulty = self.now < self.faults.until
        copies = 1
        if faulty and self.faults.drop and self.random.random() < self.faults.drop:
            copies = 0
        elif faulty and self.faults.duplicate and self.random.random() < self.faults.duplicate:
            copies = 2
        for _ in range(copies):
            delay = self.random.expovariate(1 / self.faults.delay)
            if faulty and self.faults.slow and self.random.random() < self.faults.slow:
                delay *= 100
            received = inputs.Received(device.member, message)
            self.after(delay, lambda r=received, e=epoch: self._deliver(to, r, e))  # type: ignore[misc]

    def _deliver(self, to: str, received: inputs.Received, epoch: int) -> None:
        """Deliver a message, also a late one of an earlier link; a Status only on its own link."""
        current = self._links.get(self._pair(received.member.node, to))
        if current is None or (current != epoch and isinstance(received.message, Status)):
            return
        self.feed(self.devices[to], received)

    def _fetch(self, device: Device, effect: Fetch, boot: int) -> None:
        def finish() -> None:
            if device.boot != boot or device.node is None:
                return
            here = device.member.node
            has = device.disk.has(effect.digest)
            for node in self.devices:
                linked = node != here and self.is_connected(here, node)
                has = has or (linked and self.devices[node].disk.has(effect.digest))
            if not has:
                self.feed(device, inputs.BlobFailed(effect.digest, "nobody reachable has it", invalid=False))
                return
            (device.disk.blobs if effect.durable else device.disk.passing).add(effect.digest)
            self.feed(device, inputs.BlobReady(effect.digest, effect.durable))

        self.after(0.01 + 0.1 * self.random.random(), finish)

    def note(self, device: Device | None, text: str) -> None:
        """Write a line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now:8.3f} {device.name if device else '':8} {text}")
