"""The world: one simulated federation on virtual time, put together from its parts.

All chance comes from `random.Random(seed)`. So a seed replays exactly, and a failure reports its seed.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from p2pfl.core import inputs
from p2pfl.core.effects import AnyEffect, Exit
from p2pfl.core.options import Options
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import Member
from p2pfl.sim.aimed_faults import AimedFaults
from p2pfl.sim.bans import Bans
from p2pfl.sim.checker import InvariantChecker
from p2pfl.sim.device import CARD, Device
from p2pfl.sim.disk import Disk
from p2pfl.sim.driver import SimulatedDriver
from p2pfl.sim.environment import Environment
from p2pfl.sim.faults import CALM, Faults
from p2pfl.sim.limits import Limits
from p2pfl.sim.network import SILENCE, Network
from p2pfl.sim.operators import Operators, learning_rates, with_learning_rate
from p2pfl.sim.progress import BOUND, ProgressChecker
from p2pfl.sim.random_faults import RandomFaults
from p2pfl.sim.rules import Rule
from p2pfl.sim.setting import (
    ALL,
    SETTINGS,
    digest_of,
    node_id,
    sampling_of,
    spec_of,
    stopping_of,
    strategy_of,
)
from p2pfl.sim.transfers import BlobTransfers
from p2pfl.sim.violation import Violation
from p2pfl.spec import RunSpec

PATIENCE = 600.0
"""Virtual seconds after the end of the faults within which the run must complete."""

NEW_JOURNAL_EXITS = (ExitCode.CLONED, ExitCode.LOST_MODEL)
"""Exit codes after which an operator has to start the node with `--new-journal`, and does."""

REPEATS = 3
"""Number of times an operator starts a device with a refused journal again, before `--new-journal`."""

SMALL = 8
"""Maximum number of nodes that all wait for each other before a run is founded. Of more nodes, one is always
away while there are faults: two thirds suffice, and the others join."""


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
        with_options: bool = False,
    ) -> None:
        """Start no device yet. *without* is the rule to leave out; a violation is expected then.

        *with_options* gives options of the run to some devices in some worlds (`p2pfl.sim.operators`).
        """
        self.seed = seed
        self.faults = faults
        self.on_effect: Callable[[Device, AnyEffect], None] | None = None
        """Called after each effect: here a test injects its faults."""
        self.environment = environment = Environment(seed, faults, nodes, trace=trace)
        self.random, self.devices, self.trace = environment.random, environment.devices, environment.trace
        self.network = Network(environment, self, codec=codec)
        self.bans = Bans(environment, self, self.network)
        self.transfers = BlobTransfers(environment, self.network, self)
        self.checker = InvariantChecker(environment.disks, self.transfers.damaged)
        self.limits = Limits(environment, self.checker, self.transfers.damaged)
        self.aimed_faults = AimedFaults(environment, self, self.network, self.limits)
        self.operators = Operators(environment, self, seed)
        self._driver = SimulatedDriver(environment, self, self.network, self.transfers, self.checker)
        self._without = without
        # Where a rule is left out, all train: more that can go wrong, and known seeds at which it shows.
        sampling = ALL if without is not None else sampling_of(seed)
        strategy = strategy_of(seed, nodes)
        self._spec = spec or spec_of(rounds, 1, stopping_of(seed), sampling, strategy)
        self._rates = learning_rates(seed, nodes) if with_options else {}
        self._is_complete = False
        is_one_late = nodes > 2 and faults.late > 0 and self.random.random() < faults.late
        wanted = 2 * nodes // 3 if environment.is_faulty and nodes > SMALL else nodes - is_one_late
        for index in range(nodes):
            self.add_device(index, wanted)
        self._late = list(self.devices.values())[nodes - 1 :] if is_one_late else []

    def add_device(self, index: int, min_nodes: int, **changes: object) -> Device:
        """Add a device that is not started yet; *changes* are fields of its `Options`."""
        node = node_id(index)
        nonce = digest_of("nonce", index, self.seed)[:32]
        options = Options(self._spec, frozenset(), 0, min_nodes, nonce, listed=self.environment.size)
        if index in self._rates:
            options = with_learning_rate(options, self._rates[index])
        options = msgspec.structs.replace(options, **changes)
        disk = Disk(Member(node, digest_of("journal", index, 0)[:32]))
        device = Device(f"node-{index + 1}", disk, options)
        if self._without is not None:
            self._without.apply(device)
        self.devices[node] = device
        return device

    # --- running --------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""
        return self.environment.now

    @property
    def is_faulty(self) -> bool:
        """Whether faults still happen."""
        return self.environment.is_faulty

    def after(self, delay: float, action: Callable[..., None], *arguments: object) -> None:
        """Call *action* with *arguments* in *delay* seconds."""
        self.environment.after(delay, action, *arguments)

    def run(self) -> None:
        """Start all devices, inject the faults, and run until the run is complete.

        Raises:
            Violation: an invariant does not hold, or the run does not complete.
        """
        self.begin()
        self.run_until(self.is_complete, self.faults.until + PATIENCE)

    def begin(self) -> None:
        """Schedule the start of all devices within a second, except a late one, and the faults."""
        for device in self.devices.values():
            latest = self.faults.until if device in self._late else 1.0
            self.after(latest * self.random.random(), self.start, device)
        RandomFaults(self.environment, self, self.network, self.transfers, self.limits).begin()
        self.operators.begin()
        ProgressChecker(self.environment, self.transfers, BOUND + self.faults.allowance).begin()
        if self.is_faulty:
            self.after(self.faults.until, self._end_faults)
        self.after(self.faults.until + SETTINGS.linger, self.serve_stragglers)

    def _end_faults(self) -> None:
        self.environment.is_faulty = False
        self.transfers.blocked, self.network.unpullable = set(), set()
        self.heal()
        for device in self.devices.values():
            self._resume(device, device.inbox, 0.0, is_asleep=False)

    def run_for(self, seconds: float) -> None:
        """Run for *seconds*."""
        end = self.now + seconds
        clock = self.environment.clock
        while (at := clock.next_at) is not None and at <= end:
            clock.step()
        clock.now = end

    def run_until(self, done: Callable[[], bool], limit: float) -> None:
        """Run until *done* returns true.

        Raises:
            Violation: it is not done at virtual time *limit*.
        """
        clock = self.environment.clock
        while not done():
            at = clock.next_at
            if at is None or at > limit:
                raise Violation("progress", f"not done at {self.now:.1f} s: {self._summary()}")
            clock.step()

    def is_complete(self) -> bool:
        """Whether every device has exited with the run complete."""
        return self._is_complete

    def _settle(self) -> None:
        """Compute `is_complete`, which is read at every step and changes only with starts, exits and bans.

        A banned device need not complete the run. Without it, the others may be too few to train.
        """
        ended = {ExitCode.COMPLETE, ExitCode.UNTRAINED} if self.faults.ban_every else {ExitCode.COMPLETE}
        exits = [device.exit for device in self.devices.values() if not device.is_banned]
        self._is_complete = all(exit_ is not None and exit_.code in ended for exit_ in exits)

    def _summary(self) -> str:
        parts = []
        for device in self.devices.values():
            ledger = device.node.ledger if device.node else None
            state = f"round {ledger.round}" if ledger else "no run"
            parts.append(f"{device.name} {'up' if device.is_up else 'down'} {state}")
        return "; ".join(parts)

    # --- devices --------------------------------------------------------------------------------------------

    def start(self, device: Device) -> None:
        """Start a device's process; its links are made a little later."""
        if device.is_up:
            return
        if device.disk.refused and device.driver_rules.keeps_refusal:
            self.environment.note(device, "does not start: its journal was refused")
            self._give_way(device)
            return
        self.environment.note(device, "starts")
        effects = device.start_process(self.now)
        self._settle()
        self._driver.carry_out(device, effects)
        self.network.dial(device)

    def crash(self, device: Device, down: float | None = None, *, power: bool | None = None) -> None:
        """Stop a device's process at once; it starts again after *down* seconds, by default a random time.

        With *power* the device loses power: everything that was not flushed is lost, blobs and votes alike. A
        device on a backup is spared until it has been refused: after enough starts no other could notice the
        backup.
        """
        if not device.is_up or device.is_restored:
            return
        is_power_cut = self.random.random() < self.faults.power_cuts if power is None else power
        self.environment.note(device, "loses power" if is_power_cut else "crashes")
        self._stop(device)
        if is_power_cut:
            device.disk.unflushed.clear()
        seconds = down if down is not None else self.random.expovariate(1 / max(0.1, self.faults.down))
        self.after(seconds, self.start, device)

    def _stop(self, device: Device) -> None:
        self.checker.work.stopped(device.member)
        device.crash()
        self.network.fall_silent(device)

    def end(self, device: Device, exit_: Exit) -> None:
        """End a device's process; its operator then does what the exit code asks for."""
        self.environment.note(device, f"exits {exit_.code}: {exit_.reason}")
        self._driver.flush(device, device.process)
        device.exit = exit_
        self._stop(device)
        self._settle()
        if device in self.environment.copies:
            return
        if exit_.code in NEW_JOURNAL_EXITS:
            if exit_.code == ExitCode.LOST_MODEL:
                self.checker.lost(device.member)
                device.refusals = REPEATS
            self._give_way(device)
        elif exit_.code == ExitCode.UNFIT:
            device.card = CARD
            self.after(self.random.expovariate(1 / self.faults.down), self.start, device)
        elif exit_.code == ExitCode.LEFT and device.is_away:
            self.after(self.random.expovariate(1 / self.faults.down), self.start, device)

    def _give_way(self, device: Device) -> None:
        """Start a device with a refused journal again: unchanged several times, then with a new journal.

        The unchanged starts are what a service manager does by itself.
        """
        if device.refusals < REPEATS:
            device.refusals += 1
        else:
            device.refusals = 0
            device.renew_journal()
        self.after(self.faults.down, self.start, device)

    def ban(self, device: Device, subject: Device) -> None:
        """Let an operator at *device* ban *subject*."""
        self.bans.say(device, subject, is_banned=True)
        self._settle()

    def unban(self, device: Device, subject: Device) -> None:
        """Let an operator at *device* lift the ban of *subject*."""
        self.bans.say(device, subject, is_banned=False)
        self._settle()

    def serve_stragglers(self) -> None:
        """Start finished devices again for those that were away, as their operators would."""
        for device in self.devices.values():
            if device.exit is not None and not self._is_complete:
                self.start(device)
        self.after(2 * SETTINGS.linger, self.serve_stragglers)

    def lose_disk(self, device: Device, down: float | None = None) -> None:
        """Crash a device; it starts again with an empty data directory."""
        if device.is_up:
            self.crash(device, down)
        self.environment.note(device, "loses its disk")
        self.checker.lost(device.member)
        device.lose_disk()

    def restore_disk(self, device: Device, backup: Disk, down: float | None = None) -> None:
        """Crash a device; it starts again with *backup* in place of its data directory."""
        if device.is_up:
            self.crash(device, down)
        self.environment.note(
            device,
            f"comes back with a backup of its start {backup.incarnation} and {backup.votes_cast} votes",
        )
        self.checker.lost(device.member)
        device.disk, device.is_restored = backup, True

    def turn_away(self, device: Device, seconds: float) -> None:
        """Start a device with `--new-run`, and after *seconds* with an empty data directory instead."""
        self.crash(device, 0.1, power=False)
        self.environment.note(device, "is to take part in a new run")
        device.has_turned_away = True
        self.after(seconds, self._turn_back, device)

    def _turn_back(self, device: Device) -> None:
        device.has_turned_away = False
        self.lose_disk(device, self.faults.down)

    def copy(self, device: Device) -> Device:
        """Start a second device on a copy of *device*'s data directory, with its certificate."""
        options = msgspec.structs.replace(device.options, nonce=digest_of("copy", device.name)[:32])
        made = Device(f"{device.name} (copy)", device.disk.backup(), options)
        self.environment.copies.append(made)
        self.start(made)
        return made

    def freeze(self, device: Device, seconds: float) -> None:
        """Suspend a process (SIGSTOP): it reads no input and its timer stops; the others notice."""
        self._suspend(device, seconds, lag=0.0, is_asleep=False)

    def sleep(self, device: Device, seconds: float, *, is_counted: bool) -> None:
        """Let a device sleep: its links end, and its clock stands still unless *is_counted*."""
        self._suspend(device, seconds, lag=0.0 if is_counted else seconds, is_asleep=True)

    def _suspend(self, device: Device, seconds: float, *, lag: float, is_asleep: bool) -> None:
        if not device.is_up or device.is_frozen:
            return
        self.environment.note(device, f"{'sleeps' if is_asleep else 'is suspended'} for {seconds:.1f} s")
        device.inbox = []
        self.after(SILENCE, self.network.notice_frozen, device, device.process)
        self.after(seconds, self._resume, device, device.inbox, lag, is_asleep)

    def _resume(self, device: Device, inbox: object, lag: float, is_asleep: bool) -> None:
        """Resume a process: first with the waiting calls, then with its overdue timer."""
        if device.inbox is None or device.inbox is not inbox:
            return
        self.environment.note(device, "goes on")
        waiting, device.inbox = device.inbox, None
        device.lag += lag
        for action in waiting:
            device.enter(action)
        self._driver.arm(device)
        if is_asleep:
            self.network.drop_links(device)
        if device.is_up:
            self.network.dial(device)

    # --- inputs ---------------------------------------------------------------------------------------------

    def feed(self, device: Device, event: inputs.AnyInput) -> None:
        """Give the protocol of *device* an input, and carry out its effects."""
        if device.node is not None:
            self._driver.carry_out(device, device.node.input(event, self.now - device.lag))

    def hand(self, device: Device, process: int, event: inputs.AnyInput) -> None:
        """Feed *event* to *process*, once it is no longer suspended, and to no later process."""
        if device.process != process:
            return
        if device.is_frozen:
            device.enter(lambda: self.hand(device, process, event))
        else:
            self.feed(device, event)

    def carried_out(self, device: Device, effect: AnyEffect) -> None:
        """Inject the faults of a test, and aimed faults, after *effect*."""
        self.bans.check(device, effect)
        self.operators.check(device, effect)
        if self.on_effect is not None:
            self.on_effect(device, effect)
        if self.environment.is_faulty:
            self.aimed_faults.after(device, effect)

    # --- what scenarios do to the network -------------------------------------------------------------------

    def is_connected(self, one: str, other: str) -> bool:
        """Whether a link between two nodes is up."""
        return self.network.is_connected(one, other)

    def cut(self, side: set[str]) -> None:
        """Cut the nodes of *side* off from the others."""
        self.network.cut(side)

    def heal(self) -> None:
        """End the cut and all losses of messages."""
        self.network.heal()

    def named(self, text: str) -> str:
        """Return *text* with the names of devices in place of their short ids."""
        return self.environment.named(text)
