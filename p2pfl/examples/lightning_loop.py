"""PyTorch Lightning: its Trainer does the local training of each round. The three marked lines are p2pfl's.

Start it on every device with `p2pfl node --script lightning_loop.py --peers ...`.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as lightning
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset, random_split

import p2pfl  # 1


class Perceptron(lightning.LightningModule):
    """A small classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the scores of the classes."""
        scores: Tensor = self.layers(inputs)
        return scores

    def training_step(self, batch: tuple[Tensor, Tensor], _number: int) -> Tensor:
        """Return the loss of a batch."""
        return functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), lr=0.003)


digits = load_digits()  # put the data of this device here
data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
train, test = random_split(data, [0.8, 0.2], torch.Generator().manual_seed(1))
loader = DataLoader(train, batch_size=32, shuffle=True)
model = Perceptron()


def evaluate(model: nn.Module) -> dict[str, float]:
    """Return the metrics of a model on the test data."""
    inputs, targets = test[:]
    scores = model(inputs)
    right = (scores.argmax(1) == targets).float().mean()
    return {"accuracy": right.item(), "loss": functional.cross_entropy(scores, targets).item()}


quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
for round in p2pfl.rounds(model, metrics=evaluate):  # 2
    lightning.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet).fit(model, loader)
    round.submit(examples=len(train), steps=len(loader))  # 3
