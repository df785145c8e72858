"""A training script for p2pfl: the loop is your own, and p2pfl exchanges the model between its rounds.

Start it on every device with `p2pfl node --script FILE ...`.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset, random_split

import p2pfl

digits = load_digits()  # put the data of this device here
pictures = torch.tensor(digits.data, dtype=torch.float32) / 16  # [examples, 64]
train, test = random_split(TensorDataset(pictures, torch.tensor(digits.target)), [0.9, 0.1])
loader = DataLoader(train, batch_size=32, shuffle=True)

model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


@torch.no_grad()
def evaluate(model: nn.Module) -> dict[str, float]:
    """Return the metrics of the global model on the held-out data of this device."""
    model.eval()
    right = loss = 0.0
    for inputs, targets in DataLoader(test, batch_size=256):
        outputs = model(inputs)
        right += float((outputs.argmax(1) == targets).sum())
        loss += float(functional.cross_entropy(outputs, targets, reduction="sum"))
    return {"accuracy": right / len(test), "loss": loss / len(test)}


for round in p2pfl.rounds(model, metrics=evaluate):  # loads the global model before each round
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    round.submit(examples=len(train))
