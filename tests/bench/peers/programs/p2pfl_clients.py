"""Many clients with this project's simulation: `p2pfl_clients.py SETTINGS`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lr_clients
import torch
from marks import mark
from torch import nn
from torch.utils.data import TensorDataset

import p2pfl

SETTINGS = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))


def model() -> nn.Module:
    """Return logistic regression that begins with zeros."""
    module = nn.Linear(SETTINGS["inputs"], SETTINGS["classes"])
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    return module


def data() -> tuple[TensorDataset, TensorDataset]:
    """Return the examples of all clients, and the test examples."""
    train, test = (
        TensorDataset(*(torch.from_numpy(part.copy()) for part in lr_clients.load(SETTINGS, what)))
        for what in ("train", "test")
    )
    return train, test


def main() -> None:
    """Run the simulation."""
    task = p2pfl.Task(model=model, data=data, classes=[str(one) for one in range(SETTINGS["classes"])])
    result = p2pfl.simulate(
        task,
        clients=SETTINGS["clients"],
        sample=SETTINGS["sample"],
        rounds=SETTINGS["rounds"],
        epochs=SETTINGS["epochs"],
        batch_size=SETTINGS["batch"],
        lr=SETTINGS["lr"],
        momentum=0.0,
        partition="iid",
        evaluate_every=SETTINGS["rounds"],
        seed=1,
        device="cpu",
        workers=SETTINGS["processes"],
        vectorised=SETTINGS["vectorised"],
        progress=lambda row: mark(SETTINGS["marks"], "round"),
    )
    value = result.history[-1].metrics["accuracy"]
    Path(SETTINGS["accuracy"]).write_text(str(value), encoding="utf-8")


if __name__ == "__main__":
    main()
