"""Writes the rounds of a simulation to the places of `--track`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from p2pfl.learning.simulation.simulated import SimulatedRound, SimulatedRun
from p2pfl.tracking.measures import Measurement
from p2pfl.tracking.targets import open_tracker, parse_target
from p2pfl.tracking.tracker import TrackedRun, Tracker

NODE = "simulation"
"""In place of the name of a node."""


class TrackedSimulation:
    """The trackers of one simulation; a context manager, which finishes them."""

    def __init__(self, track: str | Sequence[str], run: SimulatedRun, name: str) -> None:
        """*track* are values of `--track`, one text with commas or several; *name* is the id of *run*.

        Raises:
            UserError: one has none of the known forms, needs a package, or cannot be written.
        """
        texts = [part.strip() for part in track.split(",")] if isinstance(track, str) else track
        self._trackers: list[Tracker] = [open_tracker(parse_target(text)) for text in texts if text]
        self._run = TrackedRun(name, NODE, run.spec)
        self._has_begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tracker in self._trackers:
            tracker.close()

    def write(self, row: SimulatedRound) -> None:
        """Write the values of *row*."""
        values = list(measurements(row))
        for tracker in self._trackers:
            if not self._has_begun:
                tracker.begin(self._run)
            tracker.write(time.time(), values)
        self._has_begun = True


def measurements(row: SimulatedRound) -> Iterator[Measurement]:
    """Yield the finite values of *row*."""
    values = {
        **row.metrics,
        "training_loss": row.training_loss,
        "updates": float(len(row.clients)),
        "seconds": row.seconds,
    }
    for name, value in values.items():
        if value is not None and math.isfinite(value):
            yield Measurement(row.round, name, "", value)
