"""What every part of a simulation shares: virtual time, the random source, the devices and the trace.

The parts (network, transfers, drivers, faults, checkers) get the environment, and what they need of each
other as values or callbacks; `World` puts them together. So none of them imports `World`.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from typing import Protocol

from p2pfl.core import inputs
from p2pfl.core.effects import AnyEffect, Exit
from p2pfl.sim.device import Device
from p2pfl.sim.disk import Disk
from p2pfl.sim.faults import Faults
from p2pfl.sim.trace import SHORT


class Clock:
    """Virtual time: a heap of scheduled calls. No call waits, and no two calls run at the same time.

    Calls due at the same moment run in the order in which they were scheduled, so a seed replays exactly.
    """

    def __init__(self) -> None:
        self.now = 0.0
        """Virtual seconds since the start."""
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = 0

    def after(self, delay: float, action: Callable[..., None], *arguments: object) -> None:
        """Call *action* with *arguments* in *delay* seconds."""
        self.at(self.now + delay, action, *arguments)

    def at(self, moment: float, action: Callable[..., None], *arguments: object) -> None:
        """Call *action* with *arguments* at *moment*, which must not be past."""
        self._count += 1
        heapq.heappush(self._heap, (moment, self._count, action, arguments))

    @property
    def next_at(self) -> float | None:
        """The time of the next scheduled call; None when there is none."""
        return self._heap[0][0] if self._heap else None

    def step(self) -> None:
        """Advance the time to the next scheduled call and make it."""
        self.now, _, action, arguments = heapq.heappop(self._heap)
        action(*arguments)


class Processes(Protocol):
    """What the parts of a simulation do to the processes of devices."""

    def feed(self, device: Device, event: inputs.AnyInput) -> None:
        """Give the protocol of *device* an input now."""

    def hand(self, device: Device, process: int, event: inputs.AnyInput) -> None:
        """Give an input to *process*, once it is no longer suspended, and to no later process."""

    def end(self, device: Device, exit_: Exit) -> None:
        """End the process of *device* with an exit code."""

    def carried_out(self, device: Device, effect: AnyEffect) -> None:
        """Take note that *device* has carried out *effect*: a fault may strike now."""


class Operations(Protocol):
    """What faults and operators do to devices."""

    def hand(self, device: Device, process: int, event: inputs.AnyInput) -> None:
        """Give an input to *process*, once it is no longer suspended, and to no later process."""

    def crash(self, device: Device, down: float | None = None, *, power: bool | None = None) -> None:
        """Stop the process at once, or cut the power; it starts again after *down* seconds."""

    def ban(self, device: Device, subject: Device) -> None:
        """Let an operator at *device* ban *subject*."""

    def unban(self, device: Device, subject: Device) -> None:
        """Let an operator at *device* lift the ban of *subject*."""

    def freeze(self, device: Device, seconds: float) -> None:
        """Suspend the process (SIGSTOP)."""

    def sleep(self, device: Device, seconds: float, *, is_counted: bool) -> None:
        """Let the device sleep; its clock goes on only if *is_counted*."""

    def lose_disk(self, device: Device, down: float | None = None) -> None:
        """Crash the device and replace its data directory by an empty one."""

    def restore_disk(self, device: Device, backup: Disk, down: float | None = None) -> None:
        """Crash the device and replace its data directory by *backup*."""

    def turn_away(self, device: Device, seconds: float) -> None:
        """Start the device with `--new-run`, and after *seconds* with an empty data directory instead."""


class Environment:
    """The state that all parts of one simulation share."""

    def __init__(self, seed: int, faults: Faults, size: int, *, trace: bool) -> None:
        self.random = random.Random(seed)  # noqa: S311 - reproducible on purpose, nothing secret
        self.faults = faults
        self.size = size
        """Number of nodes at the start."""
        self.is_faulty = faults.until > 0
        """Whether faults still happen."""
        self.clock = Clock()
        self.devices: dict[str, Device] = {}
        """By node id."""
        self.copies: list[Device] = []
        """Devices that run on a copy of another device's data directory, with its certificate."""
        self.trace: list[str] | None = [] if trace else None

    @property
    def now(self) -> float:
        """Virtual seconds since the start."""
        return self.clock.now

    def after(self, delay: float, action: Callable[..., None], *arguments: object) -> None:
        """Call *action* with *arguments* in *delay* seconds."""
        self.clock.after(delay, action, *arguments)

    def at(self, moment: float, action: Callable[..., None], *arguments: object) -> None:
        """Call *action* with *arguments* at *moment*."""
        self.clock.at(moment, action, *arguments)

    def everybody(self) -> Iterator[Device]:
        """Yield all devices, copies included."""
        yield from self.devices.values()
        yield from self.copies

    def disks(self) -> Iterator[Disk]:
        """Yield the disks of all devices, copies included."""
        return (device.disk for device in self.everybody())

    def named(self, text: str) -> str:
        """Return *text* with the names of devices in place of their short ids."""
        for node, device in self.devices.items():
            text = text.replace(node[:SHORT], device.name)
        return text

    def name_of(self, node: str) -> str:
        """Return the name of the device with node id *node*."""
        return self.devices[node].name

    def note(self, device: Device | None, text: str) -> None:
        """Append a line about *device*, or about no device, to the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.now:8.3f} {device.name if device else '':8} {text}")
