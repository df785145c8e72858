"""A loop as Hugging Face writes it: batches are dictionaries, and the model returns its loss with the logits.

Put `AutoModelForSequenceClassification.from_pretrained(...)` in place of `TinyClassifier`, and start it on
every device with `p2pfl node --script hugging_face_loop.py ...`. The marked lines are p2pfl's.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

import p2pfl  # 1


class TinyClassifier(nn.Module):
    """The interface of a classifier of the library `transformers`."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 16), nn.Linear(16, 2)

    def forward(self, input_ids: Tensor, labels: Tensor) -> SimpleNamespace:
        """Return loss and logits."""
        logits = self.head(self.embedding(input_ids).mean(1))
        return SimpleNamespace(loss=functional.cross_entropy(logits, labels), logits=logits)


tokens = torch.randint(1, 50, (320, 12), generator=torch.Generator().manual_seed(1))
labels = (tokens.float().mean(1) > 25).long()
examples: Any = [{"input_ids": ids, "labels": label} for ids, label in zip(tokens, labels, strict=True)]
train, test = examples[:256], examples[256:]  # put the tokenised data of this device here
loader = DataLoader(train, batch_size=32, shuffle=True)
model = TinyClassifier()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)


def evaluate(model: nn.Module) -> dict[str, float]:
    """Return the metrics of a model on the test data."""
    batch = next(iter(DataLoader(test, batch_size=len(test))))
    output = model(**batch)
    right = (output.logits.argmax(1) == batch["labels"]).float().mean()
    return {"accuracy": right, "loss": output.loss, "examples": len(test)}


for round in p2pfl.rounds(model, metrics=evaluate):  # 2
    model.train()
    for batch in loader:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    round.submit(examples=len(train), steps=len(loader))  # 3
