"""Many clients with Apple's pfl, its simulated backend and torch, in one process: `pfl_clients.py SETTINGS`.

Each client's examples are tensors that are cut into batches once, so pfl does not shuffle them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lr_clients
import torch
from marks import mark
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn
from torch.nn import functional


class Regression(nn.Module):
    """Logistic regression, as pfl wants a model."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(self.linear(x), y)

    def metrics(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        return {"loss": Weighted(self.loss(x, y).item() * len(y), len(y))}


class Rounds(TrainingProcessCallback):
    """Marks the end of each round."""

    def __init__(self, marks: str) -> None:
        self._marks = marks

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        mark(self._marks, "round")
        return False, Metrics()


def main() -> None:
    """Run the simulation."""
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    x, y = (torch.from_numpy(part.copy()) for part in lr_clients.load(settings, "train"))
    size = settings["examples"]
    made: dict[int, PyTorchTensorDataset] = {}

    def dataset(client: int) -> PyTorchTensorDataset:
        if client not in made:
            rows = slice(client * size, (client + 1) * size)
            made[client] = PyTorchTensorDataset((x[rows], y[rows]), user_id=str(client))
        return made[client]

    users = FederatedDataset(dataset, get_user_sampler("random", list(range(settings["clients"]))))
    module = Regression(settings["inputs"], settings["classes"])
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=settings["rounds"],
            evaluation_frequency=settings["rounds"] + 1,
            train_cohort_size=settings["sample"],
            val_cohort_size=0,
        ),
        SimulatedBackend(users, users, postprocessors=[WeightByDatapoints()]),
        model,
        NNTrainHyperParams(
            local_num_epochs=settings["epochs"],
            local_learning_rate=settings["lr"],
            local_batch_size=settings["batch"],
        ),
        NNEvalHyperParams(local_batch_size=None),
        [Rounds(settings["marks"])],
        send_metrics_to_platform=False,
    )
    test_x, test_y = (torch.from_numpy(part.copy()) for part in lr_clients.load(settings, "test"))
    with torch.no_grad():
        value = float((module(test_x).argmax(1) == test_y).float().mean())
    Path(settings["accuracy"]).write_text(str(value), encoding="utf-8")


if __name__ == "__main__":
    main()
