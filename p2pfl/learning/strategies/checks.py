"""Checks what a strategy returns. Those of p2pfl pass; one of the user's own may not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class StrategyError(RuntimeError):
    """A strategy did what it must not."""

    def __init__(self, function: str, what: str) -> None:
        """Note the name of its *function*, and *what* that did wrong."""
        super().__init__(f"{function}() {what}")
        self.function = function
        self.what = what


def checked_start(initial: Any, slots: Sequence[str]) -> Tensor:
    """Return the result of `initial_state`: [slots] float64.

    Raises:
        StrategyError: it is not a number for each of *slots*.
    """
    try:
        values = torch.tensor(initial, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        values = None
    if values is None or values.shape != (len(slots),):
        raise StrategyError(
            "initial_state",
            f"returned {str(initial)[:60]}, and a number for each of {len(slots)} slots is expected",
        )
    return values


def checked_choice(chosen: Any, count: int) -> list[int]:
    """Return the result of `begin`: indices of some of *count* updates, ascending.

    Raises:
        StrategyError: it is something else.
    """
    try:
        indices = [int(index) for index in chosen]
    except (TypeError, ValueError):
        indices = []
    if not indices or indices != sorted({*indices}) or not 0 <= indices[0] <= indices[-1] < count:
        raise StrategyError(
            "begin", f"returned {str(chosen)[:60]}, and ascending indices of {count} updates are expected"
        )
    return indices


def checked_result(combined: Any, elements: int, slots: int) -> tuple[Tensor, Tensor | None]:
    """Return the result of `combine` for a piece of *elements*: their values, and the state of *slots*.

    Raises:
        StrategyError: it is something else.
    """
    if not isinstance(combined, tuple) or len(combined) != 2:
        raise StrategyError("combine", f"returned {_kind(combined)}, and a pair (values, state) is expected")
    values, state = combined
    if not isinstance(values, Tensor) or values.shape != (elements,):
        raise StrategyError(
            "combine", f"returned values of {_kind(values)}, and a tensor [{elements}] is expected"
        )
    if not slots:
        return values, None
    if not isinstance(state, Tensor) or state.shape != (slots, elements):
        raise StrategyError(
            "combine", f"returned a state of {_kind(state)}, and a tensor [{slots}, {elements}] is expected"
        )
    return values, state


def _kind(value: object) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__
