"""The values of curves over the rounds; those that cannot change any more are computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from p2pfl.observe.rounds import Round, Rounds
from tui.widgets.scale import Points

Placed = Sequence[tuple[float, Round]]
"""Rounds with their places on the horizontal axis."""


class KeptCurve:
    """One value for each round. Those of the first rounds are kept, up to one with values that can change."""

    def __init__(self) -> None:
        self._places: list[float] = []
        self._points: list[tuple[float, float | None]] = []

    def points(self, rounds: Placed, value: Callable[[Round], float | None]) -> Points:
        """Return the *value* of each of *rounds*, which are of one run; *value* must always be the same."""
        places = [x for x, _ in rounds]
        kept = len(self._places)
        if places[:kept] != self._places:
            kept = 0  # older rounds came, or were dropped
        points = self._points[:kept] + [(x, value(one)) for x, one in rounds[kept:]]
        while kept < len(rounds) and rounds[kept][1].is_settled:
            kept += 1
        self._places, self._points = places[:kept], points[:kept]
        return tuple(points)


class KeptCurves:
    """The curves of a run, by a key."""

    def __init__(self) -> None:
        self._rounds: Rounds | None = None
        self._curves: dict[tuple[str, ...], KeptCurve] = {}

    def of(self, rounds: Rounds, *key: str) -> KeptCurve:
        """Return the curve of *key*; a new one if *rounds* are of another run."""
        if rounds is not self._rounds:
            self._rounds, self._curves = rounds, {}
        return self._curves.setdefault(key, KeptCurve())
