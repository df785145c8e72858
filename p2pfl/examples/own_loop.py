"""A script with its own loop: the three lines that are marked make it federated.

Start it on every device with `p2pfl node --script own_loop.py --peers ...`.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import p2pfl  # 1

inputs, targets = load_diabetes(return_X_y=True)  # put the data of this device here
data = TensorDataset(
    torch.tensor(inputs, dtype=torch.float32) * 20, torch.tensor(targets, dtype=torch.float32)[:, None] / 100
)
train, test = random_split(data, [0.8, 0.2], torch.Generator().manual_seed(1))
loader = DataLoader(train, batch_size=16, shuffle=True)

model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
criterion = nn.MSELoss()


def evaluate(model: nn.Module) -> dict[str, float]:
    """Return the metrics of a model on the test data."""
    batch, wanted = test[:]
    return {"mse": criterion(model(batch), wanted).item(), "examples": len(test)}


def train_one_epoch() -> float:
    """Train on all batches; return the mean loss."""
    model.train()
    total = 0.0
    for batch, wanted in loader:
        optimizer.zero_grad()
        loss = criterion(model(batch), wanted)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)


for round in p2pfl.rounds(model, metrics=evaluate, primary=("mse", "min")):  # 2
    loss = train_one_epoch()
    round.submit(examples=len(train), loss=loss, steps=len(loader))  # 3
