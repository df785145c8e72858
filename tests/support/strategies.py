"""Aggregates rounds of a small model through real files, with the strategy's state carried along."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from p2pfl.learning import weights
from p2pfl.learning.aggregation import aggregate
from p2pfl.learning.slots import Slots, read_slots, slot_pieces
from p2pfl.schema import TensorSpec, canonical
from p2pfl.spec import slot_schema
from p2pfl.strategy_specs import control_slots, state_slots
from p2pfl.work import AggregatedModel, AggregationJob, WeightedUpdate
from tests.support.core import ballot
from tests.support.learning import make_spec

SCHEMA = canonical([TensorSpec("w", "F32", (3,)), TensorSpec("mean", "F32", (2,), is_buffer=True)])
"""Three parameters and a buffer of two elements."""


@dataclass(frozen=True)
class Trained:
    """An update of the small model, and what its entry in a record says."""

    w: list[float]
    mean: tuple[float, float] = (0.0, 0.0)
    examples: int = 1
    steps: int = 1
    loss: float = 1.0
    control: list[float] | None = None
    """The control of *w*; that of the buffer is zero."""


class Rounds:
    """A run of the small model that begins with *w* and a buffer of zeros."""

    def __init__(self, folder: Path, strategy: str, w: list[float], *, members: int = 2, **run: Any) -> None:
        self._folder = folder
        arguments = run.pop("strategy_arg", {})
        self._spec = make_spec(strategy=strategy, strategy_arg=arguments, **run)
        self._members = members
        self._round = 0
        self._state = ""
        self._write("model-0", Trained(w))

    def play(self, *updates: Trained) -> dict[str, list[float]]:
        """Aggregate *updates*; return the tensors of the new model."""
        folder, parent, self._round = self._folder, f"model-{self._round}", self._round + 1
        weighted = []
        for number, one in enumerate(updates):
            name = f"update-{self._round}-{number}"
            self._write(name, one)
            control = self._write_control(f"control-{self._round}-{number}", one)
            weighted.append(WeightedUpdate(name, one.examples, one.steps, one.loss, control))
        job = AggregationJob(
            "run",
            self._round,
            ballot(1, "ada"),
            self._spec,
            parent,
            tuple(weighted),
            self._state,
            self._members,
        )
        has_state = bool(state_slots(self._spec.strategy))
        state = f"state-{self._round}"
        model = folder / f"model-{self._round}"
        result = aggregate(job, folder, model, folder / state if has_state else None)
        assert isinstance(result, AggregatedModel)
        assert bool(result.state) == has_state
        self._state = state if has_state else ""
        with weights.ModelFile(model) as file:
            return {one.name: _read(file, one).tolist() for one in file.schema}

    def state(self) -> dict[str, list[float]]:
        """Return the slots of the state for the parameters."""
        return {slot: tensors["w"].tolist() for slot, tensors in self._slots().items()}

    def buffer_state(self) -> dict[str, list[float]]:
        """Return the slots of the state for the buffer."""
        return {slot: tensors["mean"].tolist() for slot, tensors in self._slots().items()}

    def _slots(self) -> Slots:
        with weights.ModelFile(self._folder / self._state) as file:
            return read_slots(file, SCHEMA, state_slots(self._spec.strategy))

    def _write(self, name: str, values: Trained) -> None:
        tensors = {"w": torch.tensor(values.w), "mean": torch.tensor(values.mean)}
        weights.write(self._folder / name, SCHEMA, [tensors[one.name] for one in SCHEMA])

    def _write_control(self, name: str, values: Trained) -> str:
        slots = control_slots(self._spec.strategy)
        if not slots:
            return ""
        pieces = slot_pieces({slots[0]: {"w": torch.tensor(values.control)}}, SCHEMA)
        weights.write(self._folder / name, slot_schema(SCHEMA, slots), pieces)
        return name


def _read(file: weights.ModelFile, spec: TensorSpec) -> Tensor:
    tensor = torch.empty(spec.shape, dtype=weights.TORCH_DTYPES[spec.dtype])
    file.read_into(tensor)
    return tensor
