"""From marks and samples of a peer's run to figures: the same arithmetic for every peer.

A round lasts from one boundary to the next. Its own work is the longest `begin`-to-`end` of a member in it; the
rest is the peer's. The first round is left out: connections and caches are new in it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.bench.ballast import parameters
from tests.bench.peers.sampling import Sample, highest, moved_at, resident_at
from tests.bench.peers.world import Mark
from tests.bench.report import FIRST_ROUND, IDLE, MODEL_NAMES, OVERHEAD, PEAK, TRAFFIC, Figure

NODES = 4
"""In every measurement."""

PARAMETER_BYTES = 4

SMALLEST = "0.4m"
"""The model whose run tells about starting and idling, and nothing about memory: noise is larger than it."""


@dataclass(frozen=True)
class Outcome:
    """What was seen of one run."""

    model: str
    began: float
    """When the first program was started."""
    idle_at: float
    """When the members were there and had nothing to do."""
    boundaries: tuple[float, ...]
    """Where rounds end and begin."""
    marks: tuple[Mark, ...]
    samples: Sequence[Sample]
    members: tuple[str, ...]
    """The programs that are members."""
    aggregators: Mapping[str, float]
    """The programs that average, or hold what is averaged, and when they had no model yet."""


def figures(outcome: Outcome, note: str) -> Iterator[Figure]:
    """Yield what *outcome* tells; *note* says how the peer was set up."""
    model = MODEL_NAMES[outcome.model]
    overheads = [_overhead(outcome, *both) for both in pairwise(outcome.boundaries[1:])]
    rounds = f"{f'median of {len(overheads)} rounds' if len(overheads) > 1 else 'one round'}; {note}"
    yield Figure(OVERHEAD.format(model=model), statistics.median(overheads), "s", note=rounds)
    yield Figure(TRAFFIC.format(model=model, nodes=NODES), traffic(outcome), note="all of loopback")
    if outcome.model == SMALLEST:
        yield Figure(FIRST_ROUND, first_round(outcome), "s")
        yield Figure(IDLE, idle(outcome), "MB", note="without torch")
    else:
        yield peak(outcome, "")


def _overhead(outcome: Outcome, begin: float, end: float) -> float:
    """Return the seconds between two boundaries in which no member worked by itself."""
    begun: dict[int, float] = {}
    work = [0.0]
    for mark in outcome.marks:
        if mark.what == "begin":
            begun[mark.pid] = mark.at
        elif mark.what == "end" and begin <= begun[mark.pid] < end:
            work.append(mark.at - begun[mark.pid])
    return end - begin - max(work)


def traffic(outcome: Outcome) -> float:
    """Return what one round moves over loopback, in units of 2(N-1) models."""
    first, *_, last = times = outcome.boundaries[1:]
    moved = moved_at(outcome.samples, last) - moved_at(outcome.samples, first)
    return moved / (len(times) - 1) / (2 * (NODES - 1) * PARAMETER_BYTES * parameters(outcome.model))


def peak(outcome: Outcome, note: str) -> Figure:
    """Return the largest growth of an aggregator's memory since it had no model."""
    growth = max(
        highest(outcome.samples, name, base) - resident_at(outcome.samples, name, base)
        for name, base in outcome.aggregators.items()
    )
    what = PEAK.format(model=MODEL_NAMES[outcome.model], nodes=NODES)
    return Figure(what, growth / (PARAMETER_BYTES * parameters(outcome.model)), "models", note=note)


def first_round(outcome: Outcome) -> float:
    """Return the seconds until the first member began its own work."""
    return next(mark.at for mark in outcome.marks if mark.what == "begin") - outcome.began


def idle(outcome: Outcome) -> float:
    """Return the MB a member takes while nothing is to be done, median."""
    return statistics.median(
        resident_at(outcome.samples, name, outcome.idle_at) / 1e6 for name in outcome.members
    )
