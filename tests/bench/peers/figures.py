"""Compute the figures of another program's run from its marks and memory samples.

A round lasts from one boundary to the next. Its own work is the longest time from `begin` to `end` of a
member in it; the rest is the program's overhead. The first round is a warm-up and not counted.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.bench.peers.sampling import Sample, highest, moved_at, resident_at
from tests.bench.peers.world import Mark
from tests.bench.report import FIRST_ROUND, IDLE, MODEL_NAMES, OVERHEAD, PEAK, TRAFFIC, Figure
from tests.bench.synthetic import SMALLEST, parameters

NODES = 4
"""Nodes in every measurement."""

PARAMETER_BYTES = 4


@dataclass(frozen=True)
class Outcome:
    """Observations of one run."""

    model: str
    began: float
    """Time of the start of the first program."""
    idle_at: float
    """A time at which all members were running and idle."""
    boundaries: tuple[float, ...]
    """Times at which one round ends and the next begins."""
    marks: tuple[Mark, ...]
    samples: Sequence[Sample]
    members: tuple[str, ...]
    """Names of the programs that are members."""
    aggregators: Mapping[str, float]
    """Programs that aggregate or hold the aggregate, with a time at which they had no model yet."""


def figures(outcome: Outcome, note: str) -> Iterator[Figure]:
    """Yield the figures of *outcome*; *note* says how the program was set up."""
    model = MODEL_NAMES[outcome.model]
    overheads = [_overhead(outcome, *both) for both in pairwise(outcome.boundaries[1:])]
    rounds = f"{f'median of {len(overheads)} rounds' if len(overheads) > 1 else 'one round'}; {note}"
    yield Figure(OVERHEAD.format(model=model), statistics.median(overheads), "s", note=rounds)
    yield Figure(TRAFFIC.format(model=model, nodes=NODES), traffic(outcome), note="all of loopback")
    if outcome.model == SMALLEST:  # its peak memory is below the noise
        yield Figure(FIRST_ROUND, first_round(outcome), "s")
        yield Figure(IDLE, idle(outcome), "MB", note="without torch")
    else:
        yield peak(outcome, "")


def _overhead(outcome: Outcome, begin: float, end: float) -> float:
    """Return the seconds between two boundaries minus the members' own work."""
    begun: dict[int, float] = {}
    work = [0.0]
    for mark in outcome.marks:
        if mark.what == "begin":
            begun[mark.pid] = mark.at
        elif mark.what == "end" and begin <= begun[mark.pid] < end:
            work.append(mark.at - begun[mark.pid])
    return end - begin - max(work)


def traffic(outcome: Outcome) -> float:
    """Return the bytes of a round over loopback, in units of 2(N-1) models."""
    first, *_, last = times = outcome.boundaries[1:]
    moved = moved_at(outcome.samples, last) - moved_at(outcome.samples, first)
    return moved / (len(times) - 1) / (2 * (NODES - 1) * PARAMETER_BYTES * parameters(outcome.model))


def peak(outcome: Outcome, note: str) -> Figure:
    """Return the largest growth of an aggregator's memory over the time without a model."""
    growth = max(
        highest(outcome.samples, name, base) - resident_at(outcome.samples, name, base)
        for name, base in outcome.aggregators.items()
    )
    what = PEAK.format(model=MODEL_NAMES[outcome.model], nodes=NODES)
    return Figure(what, growth / (PARAMETER_BYTES * parameters(outcome.model)), "models", note=note)


def first_round(outcome: Outcome) -> float:
    """Return the seconds from the start to the first member's own work."""
    return next(mark.at for mark in outcome.marks if mark.what == "begin") - outcome.began


def idle(outcome: Outcome) -> float:
    """Return the median resident MB of an idle member."""
    return statistics.median(
        resident_at(outcome.samples, name, outcome.idle_at) / 1e6 for name in outcome.members
    )
