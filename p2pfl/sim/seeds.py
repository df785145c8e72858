"""Many seeds of one simulated federation, in one process or several."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

import msgspec

from p2pfl.sim.faults import PROFILES
from p2pfl.sim.rules import RULES
from p2pfl.sim.violation import Violation
from p2pfl.sim.world import World

BATCH_NODES = 100
"""Number of nodes, over all seeds of a batch, that a process simulates before it reports: a second or two of
work."""

COLLECTED_OBJECTS = 50_000
"""Objects allocated between two garbage collections: a world allocates many long-lived and few cyclic
ones."""


class SimulationSettings(msgspec.Struct, frozen=True):
    """Everything about one federation except its seed."""

    nodes: int = 5
    rounds: int = 5
    faults: str = ""
    """A name in `PROFILES`; empty for "heavy", or for the faults of the rule left out."""
    codec: bool = False
    """Whether every message passes through the wire's codec."""
    without: str = ""
    """The name of the rule left out; empty to keep all."""

    def world(self, seed: int, *, trace: bool = False) -> World:
        """Make this federation for *seed*."""
        rule = RULES[self.without] if self.without else None
        faults = PROFILES[self.faults or "heavy"] if self.faults or rule is None else rule.faults
        return World(
            seed,
            nodes=self.nodes,
            rounds=self.rounds,
            faults=faults,
            without=rule,
            trace=trace,
            codec=self.codec,
            with_options=not self.without,
        )


class Outcome(msgspec.Struct, frozen=True):
    """The result of one seed."""

    seed: int
    rounds: int
    """Number of decided rounds."""
    violation: str
    """Empty when every invariant held and the run completed."""
    trace: Sequence[str] = ()
    """The trace, where it was asked for."""


def run_seed(setting: SimulationSettings, seed: int, *, trace: bool = False) -> Outcome:
    """Run one seed to its end."""
    world = setting.world(seed, trace=trace)
    violation = ""
    try:
        world.run()
    except Violation as error:
        violation = world.named(str(error))
    except Exception as error:  # noqa: BLE001 - its seed must be reported whatever the core raises
        violation = f"a fault in the program: {type(error).__name__}: {error}"
    return Outcome(seed, world.checker.rounds, violation, world.trace or ())


def run_seeds(setting: SimulationSettings, seeds: range, jobs: int = 1) -> Iterator[list[Outcome]]:
    """Run *seeds*, *jobs* at a time in processes of their own; yield outcomes in order, a batch at a time."""
    size = max(1, BATCH_NODES // setting.nodes)
    batches = [seeds[start : start + size] for start in range(0, len(seeds), size)]
    if jobs == 1:
        yield from (_run_batch(setting, batch) for batch in batches)
        return
    with ProcessPoolExecutor(jobs, initializer=_leave_interrupts_to_the_parent) as pool:
        try:
            yield from pool.map(_run_batch, [setting] * len(batches), batches)
        finally:  # waits, because the interpreter's exit fails while a pool is still closing
            pool.shutdown(cancel_futures=True)


def _run_batch(setting: SimulationSettings, seeds: range) -> list[Outcome]:
    before = gc.get_threshold()
    gc.set_threshold(COLLECTED_OBJECTS)
    try:
        return [run_seed(setting, seed) for seed in seeds]
    finally:
        gc.set_threshold(*before)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
