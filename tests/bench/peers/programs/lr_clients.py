"""Logistic regression with numpy or torch for Flower's clients, and the data that all programs share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def load(settings: dict[str, Any], what: str) -> tuple[Floats, NDArray[np.int64]]:
    """Return the inputs and the classes of *what*, "train" or "test"; they stay in the file until they are read."""
    folder = Path(settings["data"])
    return np.load(folder / f"{what}_x.npy", mmap_mode="r"), np.load(folder / f"{what}_y.npy", mmap_mode="r")


def initial(settings: dict[str, Any]) -> list[Floats]:
    """Return the weights [inputs, classes] and the biases [classes] that a run begins with: zeros."""
    shape = settings["inputs"], settings["classes"]
    return [np.zeros(shape, np.float32), np.zeros(shape[1], np.float32)]


def train(settings: dict[str, Any], parameters: list[Floats], client: int, seed: int) -> list[Floats]:
    """Return the parameters after the local training of *client*."""
    x, y = load(settings, "train")
    first = client * settings["examples"]
    x, y = x[first : first + settings["examples"]], y[first : first + settings["examples"]]
    if settings["uses_torch"]:
        return _train_with_torch(settings, parameters, x, y, seed)
    weights, biases = parameters[0].copy(), parameters[1].copy()
    for rows in _batches(len(y), settings, seed):
        inputs = x[rows]
        gradient = _softmax(inputs @ weights + biases)  # [batch, classes]
        gradient[np.arange(len(rows)), y[rows]] -= 1
        gradient /= len(rows)
        weights -= settings["lr"] * (inputs.T @ gradient)
        biases -= settings["lr"] * gradient.sum(0)
    return [weights, biases]


def _train_with_torch(
    settings: dict[str, Any], parameters: list[Floats], x: Floats, y: NDArray[np.int64], seed: int
) -> list[Floats]:
    """Return the parameters after a plain loop of PyTorch."""
    import torch
    from torch.nn import functional

    module = torch.nn.Linear(settings["inputs"], settings["classes"])
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(parameters[0].T.copy()))
        module.bias.copy_(torch.from_numpy(parameters[1].copy()))
    inputs, classes = torch.from_numpy(x.copy()), torch.from_numpy(y.copy())
    optimizer = torch.optim.SGD(module.parameters(), lr=settings["lr"])
    for rows in map(torch.from_numpy, _batches(len(y), settings, seed)):
        optimizer.zero_grad()
        functional.cross_entropy(module(inputs[rows]), classes[rows]).backward()
        optimizer.step()
    return [module.weight.detach().numpy().T.copy(), module.bias.detach().numpy()]


def accuracy(settings: dict[str, Any], parameters: list[Floats]) -> float:
    """Return the accuracy on the test examples."""
    x, y = load(settings, "test")
    return float(((x @ parameters[0] + parameters[1]).argmax(1) == y).mean())


def _batches(examples: int, settings: dict[str, Any], seed: int) -> Iterator[NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    for _ in range(settings["epochs"]):
        order = generator.permutation(examples)
        for first in range(0, examples, settings["batch"]):
            yield order[first : first + settings["batch"]]


def _softmax(scores: Floats) -> Floats:
    raised = np.exp(scores - scores.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)
