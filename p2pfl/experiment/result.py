"""What `p2pfl.simulate` returns: the rounds, and the last model, ready to use."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from blake3 import blake3

import p2pfl
from p2pfl.cards import metric_text
from p2pfl.errors import UserError
from p2pfl.experiment.describe import describe_run
from p2pfl.learning.exports.exported import LoadedModel
from p2pfl.learning.exports.model_info import ModelInfo, model_info
from p2pfl.learning.simulation.blobs import load_bytes, model_bytes
from p2pfl.learning.simulation.rounds import Simulation
from p2pfl.learning.simulation.simulated import SimulatedRound, SimulatedRun
from p2pfl.learning.weights import state_schema
from p2pfl.paths import shown
from p2pfl.schema import file_bytes, header, parse_header
from p2pfl.store.assemble import TensorFile, assemble
from p2pfl.store.export import with_metadata

if TYPE_CHECKING:
    import pandas as pd


class SimulationHistory(list[SimulatedRound]):
    """The rounds of a simulation, in order."""

    def frame(self) -> pd.DataFrame:
        """Return a table with a row for each round and a column for each metric; the index is the round.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise UserError(
                "A table of the rounds needs the package pandas, which is not installed here: "
                "pip install 'p2pfl-lan[pandas]'."
            ) from error
        return pd.DataFrame(round_lines(self)).set_index("round")


def round_lines(rows: Iterable[SimulatedRound]) -> list[dict[str, Any]]:
    """Return the values of *rows* by the name of their column."""
    return [
        {
            "round": row.round,
            **row.metrics,
            "best": row.best,
            "training_loss": row.training_loss,
            "seconds": row.seconds,
            "clients": len(row.clients),
            "attackers": len(row.attackers),
            "left_out": len(row.left_out),
            "digest": row.digest,
            "note": row.note,
        }
        for row in rows
    ]


@dataclass(frozen=True, repr=False)
class SimulationResult:
    """The rounds of a simulation and its last model."""

    run: SimulatedRun
    """What was simulated."""
    history: SimulationHistory
    """The rounds, in order; `history[-1].metrics["accuracy"]` is the accuracy of the last model."""
    info: ModelInfo
    """What an exported model says about itself."""
    model: LoadedModel
    """The last model on the CPU, in evaluation mode, as `p2pfl.load` returns it."""
    blob: bytes
    """The file of the last model, as nodes have it."""

    def __repr__(self) -> str:
        """Return what was simulated, and the metrics of the last round."""
        last = ", ".join(f"{name} {metric_text(value)}" for name, value in self.history[-1].metrics.items())
        return f"<SimulationResult of {describe_run(self.run)}; after {len(self.history)} rounds: {last}>"

    @property
    def digest(self) -> str:
        """BLAKE3 of the last model's file, as nodes name it."""
        return blake3(self.blob).hexdigest()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the tensors of the last model by their names."""
        return dict(self.model.module.state_dict())

    def frame(self) -> pd.DataFrame:
        """Return the rounds as a pandas table; see `SimulationHistory.frame`."""
        return self.history.frame()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the last model to the safetensors file *path*, which `p2pfl.load` reads.

        Personal tensors have the values that the seed gives them, and adapters are merged.

        Raises:
            UserError: it cannot be written.
        """
        target = Path(path)
        schema = parse_header(self.blob)
        length = len(header(schema))
        start = with_metadata(self.blob[:length], self.info.metadata())
        module, known = self.model.module, {one.name for one in schema}
        own = tuple(one for one in state_schema(module) if one.name not in known)
        try:
            if not own:
                target.write_bytes(start + self.blob[length:])
                return
            with tempfile.TemporaryDirectory() as folder, target.open("wb") as file:
                shared, rest = Path(folder, "shared"), Path(folder, "own")
                shared.write_bytes(start + self.blob[length:])
                rest.write_bytes(model_bytes(module, own))
                assemble(shared, [TensorFile(rest)], file, lora_scale=self.run.spec.lora_scale)
        except OSError as error:
            raise UserError(
                f"The model cannot be written to {shown(target)}: {error.strerror}; name another file."
            ) from error


def result_of(simulation: Simulation, rows: Sequence[SimulatedRound]) -> SimulationResult:
    """Return the result of *simulation*, which has computed *rows*."""
    run = simulation.run
    schema = parse_header(simulation.model)
    assert len(simulation.model) == file_bytes(schema)
    evaluated = next((row for row in reversed(rows) if row.metrics), None)
    info = model_info(
        run.spec,
        simulation.agreement,
        version=p2pfl.__version__,
        run=run_id(run),
        round=len(rows),
        digest=blake3(simulation.model).hexdigest(),
        metrics=evaluated.metrics if evaluated is not None and evaluated is rows[-1] else {},
        examples=simulation.federation.test_examples,
    )
    module = simulation.federation.build_model().module
    load_bytes(simulation.model, module, schema)
    return SimulationResult(run, SimulationHistory(rows), info, LoadedModel(module, info), simulation.model)


def run_id(run: SimulatedRun) -> str:
    """Return an id of *run*, a digest of its settings: the same for equal ones."""
    return blake3(run.to_text().encode()).hexdigest()
