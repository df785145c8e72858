"""Divide one data set into non-IID partitions, one for each device.

Every member computes all partitions and takes its own. So all members must compute the same ones, with every
version of Python, torch and numpy. Therefore this is plain Python, and the only method of its random
generator is `random()`: for this method alone the language guarantees the sequence of a seed. (The node
process, which must import neither torch nor numpy, uses this module too.) Partitions are disjoint, and
together complete.

The schemes, in the notation of `RunSpec.partition`:

- `iid`: shuffle all examples and cut them into equal partitions.
- `dirichlet:ALPHA`: label skew. The examples of each class are divided in proportions drawn from a symmetric
  Dirichlet distribution with concentration ALPHA, so partitions differ in size too. A small ALPHA gives each
  partition few classes; a large one approaches `iid`. After Hsu et al., "Measuring the Effects of
  Non-Identical Data Distribution for Federated Visual Classification" (2019), in the form of Li et al.,
  "Federated Learning on Non-IID Data Silos" (2022).
- `shards:K`: sort the examples by label, cut them into K shards for each partition, deal K shards to each.
  McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data" (2017),
  section 3: its "pathological" split has K = 2.
- `labels:K`: each partition has examples of K labels, and the partitions with a label share its examples
  equally. Li et al. (2022), section IV-A-1, there "#C = k". Every label has a partition here.
- `quantity:ALPHA`: quantity skew. The sizes of the partitions are in proportions from a symmetric Dirichlet
  distribution, their labels as in `iid`. Li et al. (2022), section IV-A-3.
- `natural:COLUMN`: all examples of an owner, such as a person or a device, are in one partition. COLUMN names
  the column of a table, or the attribute of a data set, that says whose each example is.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar, assert_never

import msgspec

from p2pfl.errors import TaskError

Item = TypeVar("Item")

MIN_EXAMPLES = 8
"""Least examples of a Dirichlet partition, if there are enough: half a batch, so every member can train."""

MIN_ALPHA, MAX_ALPHA = 0.001, 1e6
"""Below, the gamma variates underflow. Above, the proportions are equal to the last example anyway."""


class Iid(msgspec.Struct, frozen=True):
    """Equal partitions of shuffled examples."""


class Dirichlet(msgspec.Struct, frozen=True):
    """Each class divided in proportions from a symmetric Dirichlet distribution."""

    alpha: float
    """Concentration: all parameters of the Dirichlet distribution have this value."""


class Labels(msgspec.Struct, frozen=True):
    """Each partition has examples of some labels only."""

    each: int
    """Labels in a partition."""


class Quantity(msgspec.Struct, frozen=True):
    """Partitions of shuffled examples whose sizes differ."""

    alpha: float
    """Concentration, as in `Dirichlet`."""


class Natural(msgspec.Struct, frozen=True):
    """Each partition has all examples of some owners."""

    column: str
    """The column or attribute that names the owner of each example."""


class Shards(msgspec.Struct, frozen=True):
    """Each partition made of shards of the examples sorted by label."""

    each: int
    """Shards in a partition."""


Scheme = Iid | Dirichlet | Shards | Labels | Quantity | Natural
"""How a data set is divided into partitions."""


class DivisionError(TaskError):
    """Examples cannot be divided as asked."""


def parse(text: str) -> Scheme:
    """Return the scheme written as *text*, for example "dirichlet:0.5".

    Raises:
        TaskError: *text* names no scheme, or its number is out of range.
    """
    kind, colon, value = text.partition(":")
    if kind == "iid" and not colon:
        return Iid()
    if kind in ("dirichlet", "quantity"):
        try:
            alpha = float(value)
        except ValueError:
            alpha = math.nan
        if MIN_ALPHA <= alpha <= MAX_ALPHA:
            return Dirichlet(alpha) if kind == "dirichlet" else Quantity(alpha)
    if (
        kind in ("shards", "labels")
        and value.isascii()
        and value.isdigit()
        and len(value) <= 6
        and int(value)
    ):
        return Shards(int(value)) if kind == "shards" else Labels(int(value))
    if kind == "natural" and value:
        return Natural(value)
    raise TaskError(
        f"The partition {text[:40]!r} cannot be understood; write iid, dirichlet:ALPHA with ALPHA from "
        f"{MIN_ALPHA:g} to {MAX_ALPHA:g} (for instance dirichlet:0.5), quantity:ALPHA, shards:K with K from "
        "1 (for instance shards:2), labels:K, or natural:COLUMN."
    )


def divide(
    labels: Sequence[int], scheme: Scheme, count: int, seed: int, owners: Sequence[int | str] | None = None
) -> list[list[int]]:
    """Divide the examples with these *labels* into *count* partitions; return the ascending indices of each.

    The same arguments give the same partitions on every machine. *owners* names the owner of each example,
    for `Natural` only.

    Raises:
        DivisionError: there are fewer examples than partitions, or than shards; or too few labels or owners.
    """
    pieces = count * scheme.each if isinstance(scheme, Shards) else count
    if len(labels) < pieces:
        what = f"shards ({count} partitions of {scheme.each})" if isinstance(scheme, Shards) else "partitions"
        fewer = "shards or partitions" if isinstance(scheme, Shards) else "partitions"
        raise DivisionError(
            f"The task has {len(labels)} training examples, too few for {pieces} {what}; use fewer {fewer}."
        )
    generator = random.Random(f"partition {seed} {count}")  # noqa: S311  no secret
    match scheme:
        case Iid():
            partitions = _cut(_shuffled(range(len(labels)), generator), count)
        case Dirichlet(alpha):
            partitions = _by_proportions(labels, alpha, count, generator)
            _fill_up(partitions)
        case Shards():
            partitions = _by_shards(labels, scheme.each, count, generator)
        case Labels():
            partitions = _by_labels(labels, scheme.each, count, generator)
        case Quantity(alpha):
            partitions = _by_proportions([0] * len(labels), alpha, count, generator)
            _fill_up(partitions)
        case Natural(column):
            partitions = _by_owners(owners, column, count, generator)
        case _:
            assert_never(scheme)
    return [sorted(partition) for partition in partitions]


def _shuffled(items: Sequence[Item], generator: random.Random) -> list[Item]:
    return sorted(items, key=lambda _: generator.random())


def _cut(items: Sequence[int], pieces: int) -> list[list[int]]:
    """Cut *items* into consecutive pieces whose lengths differ by at most one."""
    ends = [len(items) * (piece + 1) // pieces for piece in range(pieces)]
    return [list(items[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def _by_proportions(
    labels: Sequence[int], alpha: float, count: int, generator: random.Random
) -> list[list[int]]:
    """Divide each class in proportions drawn from Dirichlet(*alpha*, ..., *alpha*)."""
    classes: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        classes.setdefault(label, []).append(index)
    partitions: list[list[int]] = [[] for _ in range(count)]
    for label in sorted(classes):
        examples = _shuffled(classes[label], generator)
        # Gamma variates divided by their sum are a draw from the Dirichlet distribution.
        draws = [_gamma(alpha, generator) for _ in range(count)]
        total = sum(draws)
        if total == 0:  # all underflowed, which a tiny alpha allows: the class goes to one partition
            draws[int(generator.random() * count)] = total = 1.0
        ends = [round(len(examples) * min(1.0, share / total)) for share in accumulate(draws)]
        ends[-1] = len(examples)
        for partition, start, end in zip(partitions, [0, *ends], ends, strict=False):
            partition += examples[start:end]
    return partitions


def _gamma(alpha: float, generator: random.Random) -> float:
    """Draw from Gamma(*alpha*, 1).

    Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables" (2000).
    """
    if alpha < 1:
        return _gamma(alpha + 1, generator) * math.pow(1 - generator.random(), 1 / alpha)
    d = alpha - 1 / 3
    c = 1 / math.sqrt(9 * d)
    while True:
        # A standard normal variate by the method of Box and Muller.
        x = math.sqrt(-2 * math.log(1 - generator.random())) * math.cos(2 * math.pi * generator.random())
        v = (1 + c * x) ** 3
        if v > 0 and math.log(1 - generator.random()) < x * x / 2 + d - d * v + d * math.log(v):
            return d * v


def _fill_up(partitions: list[list[int]]) -> None:
    """Move examples from the largest partition to each that has fewer than `MIN_EXAMPLES`."""
    least = min(MIN_EXAMPLES, sum(map(len, partitions)) // len(partitions))
    for partition in partitions:
        while len(partition) < least:
            partition.append(max(partitions, key=len).pop())


def _by_shards(labels: Sequence[int], each: int, count: int, generator: random.Random) -> list[list[int]]:
    """Sort by label, cut into shards, and deal *each* shards to each partition."""
    by_label = sorted(_shuffled(range(len(labels)), generator), key=lambda index: labels[index])
    shards = _cut(by_label, count * each)
    order = _shuffled(range(len(shards)), generator)
    return [[index for shard in order[first::count] for index in shards[shard]] for first in range(count)]


def _by_labels(labels: Sequence[int], each: int, count: int, generator: random.Random) -> list[list[int]]:
    """Give *each* labels to each partition, and divide the examples of a label among its partitions."""
    known = sorted(set(labels))
    if each > len(known):
        raise DivisionError(
            f"The task has {len(known)} labels, and each partition is to have {each}; use "
            f"labels:{len(known)} or less."
        )
    if each * count < len(known):
        raise DivisionError(
            f"The task has {len(known)} labels, and {count} partitions of {each} leave some of them to "
            f"nobody; use labels:{math.ceil(len(known) / count)} or more, or more partitions."
        )
    holders: dict[int, list[int]] = {label: [] for label in known}
    for partition in range(count):
        # The labels with the fewest partitions so far come first; chance decides among equals.
        order = sorted(known, key=lambda label: (len(holders[label]), generator.random()))
        for label in order[:each]:
            holders[label].append(partition)
    partitions: list[list[int]] = [[] for _ in range(count)]
    for label in known:
        examples = _shuffled([index for index, one in enumerate(labels) if one == label], generator)
        for partition, piece in zip(holders[label], _cut(examples, len(holders[label])), strict=True):
            partitions[partition] += piece
    if not all(partitions):
        raise DivisionError(
            f"The task has too few examples of a label for {count} partitions of {each} labels; use fewer "
            "labels or partitions."
        )
    return partitions


def _by_owners(
    owners: Sequence[int | str] | None, column: str, count: int, generator: random.Random
) -> list[list[int]]:
    """Deal the owners to the partitions, so that each has as many owners as the others, or one more."""
    if owners is None:
        raise DivisionError(
            f"The data have no {column!r} that names the owner of each example; use another partition."
        )
    names = _shuffled(sorted(set(owners)), generator)
    if len(names) < count:
        raise DivisionError(
            f"The column {column!r} names {len(names)} owners, too few for {count} partitions; use at most "
            f"{len(names)} partitions."
        )
    place = {name: position % count for position, name in enumerate(names)}
    partitions: list[list[int]] = [[] for _ in range(count)]
    for index, owner in enumerate(owners):
        partitions[place[owner]].append(index)
    return partitions
