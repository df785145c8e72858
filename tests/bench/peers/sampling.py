"""What a federation of foreign programs takes of memory and moves over loopback, looked at from outside.

A thread samples; afterwards anybody can ask how much it was at a moment. A sample of twenty processes takes
two milliseconds, so ten a second cost 2 % of a core. Finding out which processes there are takes longer (all
of the machine's are looked at) and is done twice a second: what lives shorter is not seen.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType

import psutil

SAMPLE_SECONDS = 0.1
SAMPLES_PER_SEARCH = 5

LOOPBACK = next((name for name in ("lo", "lo0") if name in psutil.net_io_counters(pernic=True)), "")
"""The interface, by its name on Linux or macOS."""


@dataclass(frozen=True)
class Sample:
    """One look."""

    at: float
    """On the monotonic clock."""
    moved_bytes: int
    """Sent over loopback since the machine started, headers and acknowledgements included."""
    resident_bytes: dict[str, int]
    """Of each program that is watched, together with all its descendants."""


class Sampler:
    """Samples from `with` to its end."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []
        self._roots: dict[str, psutil.Process] = {}
        self._trees: dict[str, list[psutil.Process]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler")

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def watch(self, name: str, pid: int) -> None:
        """Count process *pid* and its descendants as program *name* from now on."""
        self._roots = self._roots | {name: psutil.Process(pid)}

    def samples(self) -> Sequence[Sample]:
        """Return all samples so far, the oldest first."""
        return tuple(self._samples)

    def tree(self, name: str) -> list[psutil.Process]:
        """Return the processes of program *name* that are there now."""
        return [self._roots[name], *descendants(self._roots[name])]

    def _run(self) -> None:
        number = 0
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            if number % SAMPLES_PER_SEARCH == 0 or self._trees.keys() != self._roots.keys():
                self._trees = {name: self.tree(name) for name in self._roots}
            moved = psutil.net_io_counters(pernic=True)[LOOPBACK].bytes_sent
            resident = {name: sum(map(resident_bytes, tree)) for name, tree in self._trees.items()}
            self._samples.append(Sample(time.monotonic(), moved, resident))
            number += 1
            due += SAMPLE_SECONDS


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """Return all descendants of *process*, none if it is gone."""
    with contextlib.suppress(psutil.Error):
        return process.children(recursive=True)
    return []


def resident_bytes(process: psutil.Process) -> int:
    """Return the resident memory of *process*, 0 if it is gone."""
    with contextlib.suppress(psutil.Error):
        return process.memory_info().rss
    return 0


def moved_at(samples: Sequence[Sample], at: float) -> float:
    """Return what had been moved by the time *at*, between two samples in proportion."""
    for before, after in pairwise(samples):
        if before.at <= at <= after.at:
            share = (at - before.at) / (after.at - before.at)
            return before.moved_bytes + share * (after.moved_bytes - before.moved_bytes)
    raise ValueError("There are no samples around that time.")


def resident_at(samples: Sequence[Sample], name: str, at: float) -> int:
    """Return the memory of program *name* in the last sample before *at*, 0 before it was watched."""
    return next((one.resident_bytes.get(name, 0) for one in reversed(samples) if one.at <= at), 0)


def highest(samples: Sequence[Sample], name: str, since: float) -> int:
    """Return the most memory program *name* ever had from *since* on."""
    return max((one.resident_bytes.get(name, 0) for one in samples if one.at >= since), default=0)
