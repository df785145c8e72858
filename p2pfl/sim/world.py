"""A federation on virtual time: devices, their network, what happens next, and one judge.

Everything that could differ between two runs of a seed comes from `random.Random(seed)`; so a seed replays
exactly, and a failure prints it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import msgspec

from p2pfl.core import inputs
from p2pfl.core.effects import AnyEffect, Exit
from p2pfl.core.options import Options
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import Member, RunSpec
from p2pfl.sim.bulk import Bulk
from p2pfl.sim.carrier import Carrier
from p2pfl.sim.chaos import schedule_faults
from p2pfl.sim.checker import InvariantChecker
from p2pfl.sim.clock import Clock
from p2pfl.sim.device import Device
from p2pfl.sim.disk import Disk
from p2pfl.sim.faults import CALM, Faults
from p2pfl.sim.network import SILENCE, Network
from p2pfl.sim.progress import BOUND, ProgressJudge
from p2pfl.sim.rules import Rule
from p2pfl.sim.setting import SETTINGS, digest_of, node_id, spec_of
from p2pfl.sim.trace import SHORT
from p2pfl.sim.violation import Violation

PATIENCE = 600.0
"""Virtual seconds after the end of the faults within which the run has to complete."""

NEW_JOURNAL_EXITS = (ExitCode.CLONED, ExitCode.LOST_MODEL)
"""Exit codes after which an operator has to start the node with `--new-journal`, and does."""

REPEATS = 3
"""Times an operator starts a device again whose journal was refused, before `--new-journal`."""

SMALL = 8
"""Nodes up to which all of them are waited for before a run is founded. Of more, somebody is always away
while there are faults: two thirds suffice, and the others join."""


class World:
    """One federation, one seed."""

    def __init__(
        self,
        seed: int,
        *,
        nodes: int = 5,
        rounds: int = 5,
        faults: Faults = CALM,
        without: Rule | None = None,
        spec: RunSpec | None = None,
        trace: bool = False,
        codec: bool = False,
    ) -> None:
        """Start nobody yet. *without* is the rule left out, for which a violation is expected."""
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 - reproducible on purpose, nothing secret
        self.faults = faults
        self.trace: list[str] | None = [] if trace else None
        self.on_effect: Callable[[Device, AnyEffect], None] | None = None
        """Called after each effect: where a test aims its faults."""
        self.size = nodes
        """How many nodes there are at the start."""
        self.is_faulty = faults.until > 0
        """Whether faults still happen."""
        self.devices: dict[str, Device] = {}
        self.copies: list[Device] = []
        """Devices that run on a copy of another's data directory, with its certificate."""
        self._clock = Clock()
        self.network = Network(self, codec=codec)
        self.bulk = Bulk(self)
        self.checker = InvariantChecker(self.disks, self.bulk.damaged)
        self._carrier = Carrier(self)
        self._without = without
        self._spec = spec or spec_of(rounds)
        self._is_complete = False
        is_one_late = nodes > 2 and faults.late > 0 and self.random.random() < faults.late
        wanted = 2 * nodes // 3 if self.is_faulty and nodes > SMALL else nodes - is_one_late
        for index in range(nodes):
            self.add_device(index, wanted)
        self._late = list(self.devices.values())[nodes - 1 :] if is_one_late else []

    def add_device(self, index: int, min_nodes: int, **changes: object) -> Device:
        """Add a device that is not started yet; *changes* are fields of its `Options`."""
        node = node_id(index)
        options = Options(self._spec, frozenset(), 0, min_nodes, digest_of("nonce", index, self.seed)[:32])
        options = msgspec.structs.replace(options, **changes)
        disk = Disk(Member(node, digest_of("journal", index, 0)[:32]))
        device = Device(f"node-{index + 1}", disk, options)
        if self._without is not None:
            self._without.apply(device)
        self.devices[node] = device
        return device

    def everybody(self) -> Iterator[Device]:
        """Yield all devices, copies included."""
        yield from self.devices.values()
        yield from self.copies

    def disks(self) -> Iterator[Disk]:
        """Yield all disks there are."""
        return (device.disk for device in self.everybody())

    # --- running --------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Seconds since the world began."""
        return self._clock.now

    def after(self, delay: float, action: Callable[..., None], *arguments: object) -> None:
        """Let *action* happen with *arguments* in *delay* seconds."""
        self._clock.after(delay, action, *arguments)

    def at(self, moment: float, action: Callable[..., None], *arguments: object) -> None:
        """Let *action* happen with *arguments* at *moment*."""
        self._clock.at(moment, action, *arguments)

    def run(self) -> None:
        """Start everybody, let the faults happen, and see the run complete.

        Raises:
            Violation: an invariant does not hold, or the run does not complete.
        """
        self.begin()
        self.run_until(self.is_complete, self.faults.until + PATIENCE)

    def begin(self) -> None:
        """Let everybody start within a second, but for one that is late, and the faults begin."""
        for device in self.devices.values():
            latest = self.faults.until if device in self._late else 1.0
            self.after(latest * self.random.random(), self.start, device)
        schedule_faults(self)
        ProgressJudge(self, BOUND + self.faults.allowance).begin()
        if self.is_faulty:
            self.after(self.faults.until, self._end_faults)
        self.after(self.faults.until + SETTINGS.linger, self.serve_stragglers)

    def _end_faults(self) -> None:
        self.is_faulty = False
        self.bulk.blocked, self.network.walled = set(), set()
        self.heal()
        for device in self.devices.values():
            self._resume(device, device.inbox, 0.0, is_asleep=False)

    def run_for(self, seconds: float) -> None:
        """Let things happen for *seconds*."""
        end = self.now + seconds
        while (at := self._clock.next_at) is not None and at <= end:
            self._clock.step()
        self._clock.now = end

    def run_until(self, done: Callable[[], bool], limit: float) -> None:
        """Let things happen until *done*.

        Raises:
            Violation: virtual time *limit* has come and it is not done.
        """
        clock = self._clock
        while not done():
            at = clock.next_at
            if at is None or at > limit:
                raise Violation("progress", f"not done at {self.now:.1f} s: {self._summary()}")
            clock.step()

    def is_complete(self) -> bool:
        """Whether every device has ended with the run complete."""
        return self._is_complete

    def _settle(self) -> None:
        """Work out `is_complete`: it is asked for at every step, and changes with starts and exits only."""
        exits = [device.exit for device in self.devices.values()]
        self._is_complete = all(exit_ is not None and exit_.code == 0 for exit_ in exits)

    def _summary(self) -> str:
        parts = []
        for device in self.devices.values():
            ledger = device.node.ledger if device.node else None
            state = f"round {ledger.round}" if ledger else "no run"
            parts.append(f"{device.name} {'up' if device.is_up else 'down'} {state}")
        return "; ".join(parts)

    # --- devices --------------------------------------------------------------------------------------------

    def start(self, device: Device) -> None:
        """Start a device's process; its links come up a little later."""
        if device.is_up:
            return
        if device.disk.refused and device.habits.keeps_refusal:
            self.note(device, "does not start: its journal was refused")
            self._give_way(device)
            return
        self.note(device, "starts")
        effects = device.boot_up(self.now)
        self._settle()
        self._carrier.carry_out(device, effects)
        self.network.dial(device)

    def crash(self, device: Device, down: float | None = None, *, power: bool | None = None) -> None:
        """Stop a device's process at once; it comes back after *down* seconds, by default at random.

        With *power* the whole device goes down: what was not flushed is lost, blobs and votes alike. One that
        runs on a backup is left alone until it has been told so: after enough starts nobody could tell.
        """
        if not device.is_up or device.is_restored:
            return
        is_power_cut = self.random.random() < self.faults.power_cuts if power is None else power
        self.note(device, "loses power" if is_power_cut else "crashes")
        self._stop(device)
        if is_power_cut:
            device.disk.unflushed.clear()
        seconds = down if down is not None else self.random.expovariate(1 / max(0.1, self.faults.down))
        self.after(seconds, self.start, device)

    def _stop(self, device: Device) -> None:
        self.checker.works.stopped(device.member)
        device.crash()
        self.network.fall_silent(device)

    def end(self, device: Device, exit_: Exit) -> None:
        """Let a device's process exit, and its operator do what the exit code asks for."""
        self.note(device, f"exits {exit_.code}: {exit_.reason}")
        self._carrier.flush(device, device.process)
        device.exit = exit_
        self._stop(device)
        self._settle()
        if device in self.copies:
            return
        if exit_.code in NEW_JOURNAL_EXITS:
            if exit_.code == ExitCode.LOST_MODEL:
                self.checker.lost(device.member)
                device.refusals = REPEATS
            self._give_way(device)
        elif exit_.code == ExitCode.LEFT and device.is_away:
            self.after(self.random.expovariate(1 / self.faults.down), self.start, device)

    def _give_way(self, device: Device) -> None:
        """Let a device start whose journal was refused: as it is, several times, and then with a new one.

        The first a service manager does by itself.
        """
        if device.refusals < REPEATS:
            device.refusals += 1
        else:
            device.refusals = 0
            device.renew_journal()
        self.after(self.faults.down, self.start, device)

    def serve_stragglers(self) -> None:
        """Start finished devices again for those that were away meanwhile, as their operators would."""
        for device in self.devices.values():
            if device.exit is not None and not self._is_complete:
                self.start(device)
        self.after(2 * SETTINGS.linger, self.serve_stragglers)

    def lose_disk(self, device: Device, down: float | None = None) -> None:
        """Crash a device for good and let it come back with an empty data directory."""
        if device.is_up:
            self.crash(device, down)
        self.note(device, "loses its disk")
        self.checker.lost(device.member)
        device.lose_disk()

    def restore_disk(self, device: Device, backup: Disk, down: float | None = None) -> None:
        """Crash a device and let it come back with *backup*, made before, in place of its data directory."""
        if device.is_up:
            self.crash(device, down)
        self.note(
            device,
            f"comes back with a backup of its start {backup.incarnation} and {backup.votes_cast} votes",
        )
        self.checker.lost(device.member)
        device.disk, device.is_restored = backup, True

    def turn_away(self, device: Device, seconds: float) -> None:
        """Start a device with `--new-run`, and after *seconds* with an empty data directory instead."""
        self.crash(device, 0.1, power=False)
        self.note(device, "is to take part in a new run")
        device.has_turned_away = True
        self.after(seconds, self._turn_back, device)

    def _turn_back(self, device: Device) -> None:
        device.has_turned_away = False
        self.lose_disk(device, self.faults.down)

    def copy(self, device: Device) -> Device:
        """Start a second device on a copy of *device*'s data directory, with its certificate."""
        options = msgspec.structs.replace(device.options, nonce=digest_of("copy", device.name)[:32])
        made = Device(f"{device.name} (copy)", device.disk.backup(), options)
        self.copies.append(made)
        self.start(made)
        return made

    def freeze(self, device: Device, seconds: float) -> None:
        """Suspend a process (SIGSTOP): it takes nothing in and its timer stands; the others notice."""
        self._suspend(device, seconds, lag=0.0, is_asleep=False)

    def sleep(self, device: Device, seconds: float, *, is_counted: bool) -> None:
        """Let a device sleep: when it wakes its links are gone; its clock stood still unless *is_counted*."""
        self._suspend(device, seconds, lag=0.0 if is_counted else seconds, is_asleep=True)

    def _suspend(self, device: Device, seconds: float, *, lag: float, is_asleep: bool) -> None:
        if not device.is_up or device.is_frozen:
            return
        self.note(device, f"{'sleeps' if is_asleep else 'is suspended'} for {seconds:.1f} s")
        device.inbox = []
        self.after(SILENCE, self.network.notice_frozen, device, device.process)
        self.after(seconds, self._resume, device, device.inbox, lag, is_asleep)

    def _resume(self, device: Device, inbox: object, lag: float, is_asleep: bool) -> None:
        """Let a process go on: first with what waits for it, then with its overdue timer."""
        if device.inbox is None or device.inbox is not inbox:
            return
        self.note(device, "goes on")
        waiting, device.inbox = device.inbox, None
        device.lag += lag
        for action in waiting:
            device.enter(action)
        self._carrier.arm(device)
        if is_asleep:
            self.network.drop_links(device)
        if device.is_up:
            self.network.dial(device)

    # --- inputs ---------------------------------------------------------------------------------------------

    def feed(self, device: Device, event: inputs.AnyInput) -> None:
        """Give the protocol of *device* an input and carry out what it asks for."""
        if device.node is not None:
            self._carrier.carry_out(device, device.node.input(event, self.now - device.lag))

    def hand(self, device: Device, process: int, event: inputs.AnyInput) -> None:
        """Feed *event* to the *process* it is meant for: when it is no longer suspended, never to another."""
        if device.process != process:
            return
        if device.is_frozen:
            device.enter(lambda: self.hand(device, process, event))
        else:
            self.feed(device, event)

    # --- what scenarios do to the network -------------------------------------------------------------------

    def is_connected(self, one: str, other: str) -> bool:
        """Whether a link between two nodes is up."""
        return self.network.is_connected(one, other)

    def cut(self, side: set[str]) -> None:
        """Cut the nodes of *side* off from the others."""
        self.network.cut(side)

    def heal(self) -> None:
        """Let everybody reach everybody again."""
        self.network.heal()

    def named(self, text: str) -> str:
        """Return *text* with the names of devices in place of their short ids."""
        for node, device in self.devices.items():
            text = text.replace(node[:SHORT], device.name)
        return text

    def name_of(self, node: str) -> str:
        """Return the name of the device with this node id."""
        return self.devices[node].name

    def note(self, device: Device | None, text: str) -> None:
        """Write a line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now:8.3f} {device.name if device else '':8} {text}")
