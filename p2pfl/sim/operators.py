"""What operators do before a run: the options that they give, and `p2pfl start` where these differ.

In half of the worlds nobody gives options. In a quarter one device was given some, in the last quarter two
were given different ones, and somebody has to decide. All draws are derived from the seed by hashes, so they
change nothing else that happens in a world.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import AnyEffect, Tell
from p2pfl.core.given_options import HOW_TO_DECIDE
from p2pfl.core.options import Options
from p2pfl.sim.device import Device
from p2pfl.sim.environment import Environment, Operations
from p2pfl.sim.setting import digest_of
from p2pfl.sim.violation import Violation
from p2pfl.spec import shown_options, with_options

LOOK = 5.0
"""Seconds between two looks of the operators at what is waited for."""

LEARNING_RATES = (0.25, 0.5)
"""The values that operators give; nothing else in a simulation depends on them."""


def learning_rates(seed: int, nodes: int) -> Mapping[int, float]:
    """Return the learning rate that each device was given in world *seed*, by its number from 0."""
    draw = int(digest_of("given options", seed)[:8], 16)
    kind, first = draw % 4, draw // 4 % nodes
    if kind < 2 or nodes < 2:
        return {}
    one, other = LEARNING_RATES
    return {first: one} if kind == 2 else {first: one, (first + 1) % nodes: other}


def with_learning_rate(options: Options, rate: float) -> Options:
    """Return *options* as if the operator had given this learning rate."""
    spec = with_options(options.spec, learning_rate=rate)
    return msgspec.structs.replace(options, spec=spec, given=options.given | {"learning_rate"})


class Operators:
    """Decide whose options hold, and check that no run has others."""

    def __init__(self, environment: Environment, operations: Operations, seed: int) -> None:
        self._environment, self._operations = environment, operations
        self._random = random.Random(f"operators {seed}")  # noqa: S311 - reproducible on purpose
        self._started: set[tuple[str, int]] = set()
        """Name and process of the devices at which `p2pfl start` was given."""

    def begin(self) -> None:
        """Look from now on."""
        self._environment.after(LOOK, self._look)

    def _look(self) -> None:
        """Give `p2pfl start` at one of the devices with options, where some wait for that."""
        devices = self._environment.devices.values()
        if any(HOW_TO_DECIDE in (one.node.waits_because or "") for one in devices if one.node is not None):
            self.start(self._random.choice([one for one in devices if one.options.given]))
        self._environment.after(LOOK, self._look)

    def start(self, device: Device) -> None:
        """Give `p2pfl start` at *device*, if its process runs."""
        if device.is_up:
            self._environment.note(device, "is told to start")
            self._started.add((device.name, device.process))
            self._operations.hand(device, device.process, inputs.Go())

    def check(self, device: Device, effect: AnyEffect) -> None:
        """Check that a run that *device* founds has the options that were given to its members.

        Raises:
            Violation: it has not, and nobody decided for those of *device*.
        """
        match effect:
            case Tell(event=events.RunJoined(how="founded") as joined):
                pass
            case _:
                return
        if (device.name, device.process) in self._started:
            return
        values = shown_options(joined.spec)
        for one in self._environment.devices.values():
            mine = shown_options(one.options.spec)
            lost = sorted(name for name in one.options.given if mine[name] != values[name])
            if one.name in joined.members and lost:
                raise Violation(
                    "options",
                    f"{device.name} founds a run without the {lost[0].replace('_', ' ')} that {one.name} was "
                    "given, and nobody decided so",
                )
