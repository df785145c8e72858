"""`python -m p2pfl.sim`: many seeds of one simulated federation, judged after every step.

A seed that breaks an invariant is printed with the end of its trace and replays exactly with
`--seed N --trace`. `--no-adoption` leaves out the rule the whole protocol rests on, to show that the judge
sees a fork.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from p2pfl.core.options import Found, Policy
from p2pfl.sim.checker import Violation
from p2pfl.sim.faults import PROFILES
from p2pfl.sim.world import World

BATCH = 20
"""Seeds a process takes at a time: a few seconds' work, so that progress is seen."""

TRACE_LINES = 40
"""Of the trace, shown before a violation: about one round of five nodes."""

MOST_VIOLATIONS = 5
"""After so many the rest would tell nothing new."""


class Setting(NamedTuple):
    """One federation, but for its seed."""

    nodes: int
    rounds: int
    faults: str
    adoption: bool
    codec: bool


class Outcome(NamedTuple):
    """What a seed came to."""

    seed: int
    rounds: int
    """Rounds decided."""
    violation: str
    """Empty when every invariant held and the run completed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the seeds asked for; return 1 when an invariant was broken, otherwise 0."""
    options = _parser().parse_args(arguments)
    setting = Setting(options.nodes, options.rounds, options.faults, not options.no_adoption, options.codec)
    if options.seed is not None:
        return _replay(setting, options.seed, whole=options.trace)
    seeds = range(options.first, options.first + options.seeds)
    began = time.monotonic()
    done = rounds = 0
    violations: list[Outcome] = []
    for outcomes in _batches(setting, seeds, options.jobs):
        done += len(outcomes)
        rounds += sum(outcome.rounds for outcome in outcomes)
        violations += [outcome for outcome in outcomes if outcome.violation]
        _say(f"{done} of {len(seeds)} seeds, {len(violations)} violations", is_passing=True)
        if len(violations) >= MOST_VIOLATIONS:
            break
    seconds = time.monotonic() - began
    _say(
        f"{done} seeds, {rounds} rounds of {setting.nodes} nodes in {seconds:.1f} s "
        f"({rounds / max(seconds, 1e-9):.0f} rounds/s), faults: {setting.faults}; "
        f"{len(violations)} violations"
    )
    for outcome in violations:
        _say(f"seed {outcome.seed}: {outcome.violation}")
    if not violations:
        return 0
    _replay(setting, violations[0].seed, whole=options.trace)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m p2pfl.sim", description=__doc__)
    parser.add_argument("--nodes", type=_positive, default=5, help="devices in the federation (5)")
    parser.add_argument("--rounds", type=_positive, default=5, help="rounds of training in each run (5)")
    parser.add_argument("--faults", choices=sorted(PROFILES), default="heavy", help="what goes wrong (heavy)")
    parser.add_argument("--seeds", type=_positive, default=2000, help="how many seeds (2000)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first seed (0)")
    parser.add_argument("--seed", type=int, metavar="N", help="only this seed")
    parser.add_argument("--trace", action="store_true", help="with a seed: its whole trace")
    parser.add_argument("--jobs", type=_positive, default=1, help="processes at a time (1)")
    parser.add_argument("--codec", action="store_true", help="pass every message through the wire's codec")
    parser.add_argument(
        "--no-adoption", action="store_true", help="leave out the adoption rule: a violation is expected"
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a number from 1 up")
    return number


def forget(_found: Iterable[Found]) -> None:
    """Stand in for the adoption rule: the newly elected propose their own value, whatever they found."""


def _world(setting: Setting, seed: int, *, trace: bool) -> World:
    policy = Policy() if setting.adoption else Policy(adopt=forget)
    return World(
        seed,
        nodes=setting.nodes,
        rounds=setting.rounds,
        faults=PROFILES[setting.faults],
        policy=policy,
        trace=trace,
        codec=setting.codec,
    )


def run_seed(setting: Setting, seed: int) -> Outcome:
    """Run one seed to its end."""
    world = _world(setting, seed, trace=False)
    violation = ""
    try:
        world.run()
    except Violation as error:
        violation = str(error)
    return Outcome(seed, len(world.checker.chosen), violation)


def run_batch(setting: Setting, seeds: range) -> list[Outcome]:
    """Run *seeds* one after the other; what a process of the pool does."""
    return [run_seed(setting, seed) for seed in seeds]


def _batches(setting: Setting, seeds: range, jobs: int) -> Iterator[list[Outcome]]:
    batches = [seeds[start : start + BATCH] for start in range(0, len(seeds), BATCH)]
    if jobs == 1:
        yield from (run_batch(setting, batch) for batch in batches)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(run_batch, [setting] * len(batches), batches)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _replay(setting: Setting, seed: int, *, whole: bool) -> int:
    """Run *seed* again with a trace and print it, or, of a violation, its end; return the exit code."""
    world = _world(setting, seed, trace=True)
    violation = ""
    try:
        world.run()
    except Violation as error:
        violation = str(error)
    lines = world.trace or []
    for line in lines if whole else lines[-TRACE_LINES:] if violation else []:
        _say(line)
    _say(f"seed {seed}: {violation or f'{len(world.checker.chosen)} rounds, every invariant held'}")
    return 1 if violation else 0


def _say(text: str, *, is_passing: bool = False) -> None:
    """Print a line; a passing one is overwritten by the next, and left out where nobody watches."""
    if not is_passing:
        sys.stdout.write(f"{text}\n")
    elif sys.stdout.isatty():
        sys.stdout.write(f"{text}\r")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
