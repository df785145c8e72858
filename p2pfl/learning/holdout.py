"""Chooses the examples of a device that it evaluates on and does not train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from blake3 import blake3


def hash_contents(seed: int, contents: Iterable[bytes]) -> list[bytes]:
    """Return a key of each example for `hold_out`: a hash of *seed* and its content.

    Copies are counted and have different keys: the rows of a table of few categories are mostly copies, and
    with equal keys all that are held out could be of one kind.
    """
    keys: list[bytes] = []
    copies = Counter[bytes]()
    for content in contents:
        key = blake3(f"holdout {seed} ".encode() + content).digest(16)
        copies[key] += 1
        keys.append(key if copies[key] == 1 else blake3(key + str(copies[key]).encode()).digest(16))
    return keys


def hold_out(
    labels: Sequence[int], keys: Sequence[bytes], share: float
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Divide examples with these *labels* into those to train on and a *share* to hold out, by index.

    The share of each class is held out, rounded so that their sum is the share of all. Rounding favours
    classes of which nothing is held out yet. One example of each class stays in training. At least one
    example is held out in all, of any class.

    The examples of a class with the least *keys* are held out. Where the keys are hashes of the examples, a
    device with more examples later still holds out most of the same ones.
    """
    classes: dict[int, list[int]] = {}
    for index in sorted(range(len(labels)), key=lambda index: keys[index]):
        classes.setdefault(labels[index], []).append(index)
    budget = max(1, round(share * len(labels)))
    wanted = {label: share * len(rows) for label, rows in classes.items()}
    counts = {label: min(int(wanted[label]), len(rows) - 1) for label, rows in classes.items()}
    by_need = sorted(classes, key=lambda label: (counts[label] > 0, counts[label] - wanted[label], label))
    for label in by_need:
        if sum(counts.values()) < budget and counts[label] < len(classes[label]) - 1:
            counts[label] += 1
    if len(labels) > 1 and not any(counts.values()):  # one example of each class
        counts[by_need[0]] = 1
    held_out = {index for label, rows in classes.items() for index in rows[: counts[label]]}
    train = tuple(index for index in range(len(labels)) if index not in held_out)
    return train, tuple(sorted(held_out))
