"""A line that shows how far a simulation is, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from p2pfl.cards import metric_text
from p2pfl.learning.simulation.simulated import SimulatedRound


class ProgressLine:
    """Overwrites one line of a terminal with each round."""

    def __init__(
        self, stream: TextIO, rounds: int, label: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Show *rounds* rounds in all, behind *label*."""
        self._stream = stream
        self._rounds = rounds
        self._label = label
        self._clock = clock
        self._began = clock()
        self._shown = False

    def show(self, row: SimulatedRound, primary: str) -> None:
        """Show *row*, whose metric *primary* compares models."""
        left = (self._clock() - self._began) / row.round * (self._rounds - row.round)
        value = f", {primary} {metric_text(row.metrics[primary])}" if primary in row.metrics else ""
        text = f"{self._label}round {row.round} of {self._rounds}{value}, {duration(left)} left"
        self._stream.write(f"\r\x1b[2K{text}")
        self._stream.flush()
        self._shown = True

    def close(self) -> None:
        """Remove the line."""
        if self._shown:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
            self._shown = False


def duration(seconds: float) -> str:
    """Return *seconds* for people: "8 s", "3 min 20 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
