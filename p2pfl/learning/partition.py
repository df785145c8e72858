"""How one data set is divided among devices that pretend to have each its own.

Every member computes the whole division for itself and takes its part, so all must get the same one: on every
machine, with every version of Python, torch and numpy. Hence plain Python here, and of its generator only
`random()`, the one method whose sequence the language guarantees for a seed. (It also keeps the module usable
where torch and numpy must not be imported.) A division is disjoint and complete.

The schemes, as written in `RunSpec.partition`:

- `iid`: shuffle and deal out. - `dirichlet:ALPHA`: label skew after Hsu et al., "Measuring the Effects of
Non-Identical Data Distribution for Federated
  Visual Classification" (2019), in the form of Li et al., "Federated Learning on Non-IID Data Silos" (2022):
  each class is divided in proportions drawn from a symmetric Dirichlet distribution, so the parts differ in
  size too. A small ALPHA gives each part few classes; a large one approaches `iid`.
- `shards:K`: sort by label, cut into K shards a part, deal each part K of them (McMahan et al.,
"Communication-Efficient Learning
  of Deep Networks from Decentralized Data" (2017), section 3: its "pathological" split has K = 2).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import accumulate
from typing import assert_never

import msgspec

from p2pfl.errors import TaskError

LEAST_SAMPLES = 8
"""A part has at least so many where the data suffice: half a batch, so that every member has something to
train on."""

LEAST_ALPHA, MOST_ALPHA = 0.001, 1e6
"""Below, the gamma variates underflow; above, the division is even to the last sample anyway."""


class Iid(msgspec.Struct, frozen=True):
    """Shuffle and deal out."""


class Dirichlet(msgspec.Struct, frozen=True):
    """Divide each class in random proportions."""

    alpha: float
    """Concentration: all parameters of the Dirichlet distribution have this value."""


class Shards(msgspec.Struct, frozen=True):
    """Deal out pieces of the data sorted by label."""

    each: int
    """Shards a part gets."""


Scheme = Iid | Dirichlet | Shards
"""The ways to divide."""


def parse(text: str) -> Scheme:
    """Return the scheme written as *text*.

    Raises:
        TaskError: it names none, or its number is unusable.
    """
    kind, colon, value = text.partition(":")
    if kind == "iid" and not colon:
        return Iid()
    if kind == "dirichlet":
        try:
            alpha = float(value)
        except ValueError:
            alpha = math.nan
        if LEAST_ALPHA <= alpha <= MOST_ALPHA:
            return Dirichlet(alpha)
    if kind == "shards" and value.isascii() and value.isdigit() and len(value) <= 6 and int(value) > 0:
        return Shards(int(value))
    raise TaskError(
        f"The partition {text[:40]!r} cannot be understood; write iid, dirichlet:ALPHA with ALPHA from "
        f"{LEAST_ALPHA:g} to {MOST_ALPHA:g} (for instance dirichlet:0.5), or shards:K with K from 1 "
        "(for instance shards:2)."
    )


def divide(labels: Sequence[int], scheme: Scheme, parts: int, seed: int) -> list[list[int]]:
    """Divide the samples with these *labels* in *parts*; return the ascending sample indices of each part.

    The same arguments give the same division everywhere.

    Raises:
        TaskError: there are fewer samples than parts (or shards).
    """
    pieces = parts * scheme.each if isinstance(scheme, Shards) else parts
    if len(labels) < pieces:
        raise TaskError(
            f"The task has {len(labels)} training samples, which cannot be divided in {pieces} "
            f"{'shards' if isinstance(scheme, Shards) else 'partitions'}; use fewer partitions."
        )
    generator = random.Random(f"partition {seed} {parts}")  # noqa: S311  no secret
    match scheme:
        case Iid():
            division = _cut(_shuffled(range(len(labels)), generator), parts)
        case Dirichlet(alpha):
            division = _by_proportions(labels, alpha, parts, generator)
            _fill_up(division)
        case Shards():
            division = _by_shards(labels, scheme.each, parts, generator)
        case _:
            assert_never(scheme)
    return [sorted(part) for part in division]


def _shuffled(items: Sequence[int], generator: random.Random) -> list[int]:
    return sorted(items, key=lambda _: generator.random())


def _cut(items: Sequence[int], pieces: int) -> list[list[int]]:
    """Cut *items* into consecutive pieces whose lengths differ by at most one."""
    ends = [len(items) * (piece + 1) // pieces for piece in range(pieces)]
    return [list(items[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def _by_proportions(
    labels: Sequence[int], alpha: float, parts: int, generator: random.Random
) -> list[list[int]]:
    classes: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        classes.setdefault(label, []).append(index)
    division: list[list[int]] = [[] for _ in range(parts)]
    for label in sorted(classes):
        members = _shuffled(classes[label], generator)
        # Gamma variates divided by their sum are a draw from the Dirichlet distribution.
        draws = [_gamma(alpha, generator) for _ in range(parts)]
        total = sum(draws)
        if total == 0:  # all underflowed, which tiny alphas allow: the class goes to one part
            draws[int(generator.random() * parts)] = total = 1.0
        ends = [round(len(members) * min(1.0, share / total)) for share in accumulate(draws)]
        ends[-1] = len(members)
        for part, start, end in zip(division, [0, *ends], ends, strict=False):
            part += members[start:end]
    return division


def _gamma(alpha: float, generator: random.Random) -> float:
    """Draw from Gamma(*alpha*, 1).

    After Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables" (2000).
    """
    if alpha < 1:
        return _gamma(alpha + 1, generator) * math.pow(1 - generator.random(), 1 / alpha)
    d = alpha - 1 / 3
    c = 1 / math.sqrt(9 * d)
    while True:
        # Box and Muller's normal variate.
        x = math.sqrt(-2 * math.log(1 - generator.random())) * math.cos(2 * math.pi * generator.random())
        v = (1 + c * x) ** 3
        if v > 0 and math.log(1 - generator.random()) < x * x / 2 + d - d * v + d * math.log(v):
            return d * v


def _fill_up(division: list[list[int]]) -> None:
    """Move samples from the largest to the smallest part until none has too few."""
    least = min(LEAST_SAMPLES, sum(map(len, division)) // len(division))
    for part in division:
        while len(part) < least:
            part.append(max(division, key=len).pop())


def _by_shards(labels: Sequence[int], each: int, parts: int, generator: random.Random) -> list[list[int]]:
    by_label = sorted(_shuffled(range(len(labels)), generator), key=lambda index: labels[index])
    shards = _cut(by_label, parts * each)
    order = _shuffled(range(len(shards)), generator)
    return [[index for shard in order[part::parts] for index in shards[shard]] for part in range(parts)]
