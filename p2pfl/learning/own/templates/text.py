"""A p2pfl task: classification of short texts.

Try it alone with `p2pfl task check FILE`, then on every device `p2pfl node --task FILE --data TEXTS.tsv ..`.
Each line of TEXTS.tsv is a class, a tab, and a text. Without --data, made-up sentences are used.
"""

from __future__ import annotations

import random
import zlib
from pathlib import Path

import torch
from torch import Tensor, nn

import p2pfl

classes = ["complaint", "praise"]  # the same on all devices; their order is that of the model's outputs

WORDS = 2000
"""Size of the vocabulary: a word is a number from its hash, so devices need not agree on a list of words."""

THINGS = ["parcel", "service", "phone"]
SAID = [["late", "broken", "slow", "noisy", "dear"], ["fast", "friendly", "quiet", "solid", "cheap"]]


class Bag(nn.Module):
    """The mean of the embeddings of a text's words, and a linear layer."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(WORDS, 32)
        self.out = nn.Linear(32, outputs)

    def forward(self, words: Tensor, starts: Tensor) -> Tensor:
        """Return [batch, classes] for the words of all texts in a row and the start of each text."""
        scores: Tensor = self.out(self.embedding(words, starts))
        return scores


def model(agreed: p2pfl.Agreed) -> nn.Module:
    """Return a new model; `agreed` is what the data of all devices have in common."""
    return Bag(len(agreed.classes))


def data(place: Path | None) -> list[tuple[str, int]]:
    """Return the examples of this device, (text, number of the class); `place` is the path of --data."""
    if place is None:
        chance = random.Random(0)  # the same sentences in every process
        return [_sentence(chance) for _ in range(400)]
    rows = (line.split("\t", 1) for line in place.read_text(encoding="utf-8").splitlines())
    return [(text, classes.index(label)) for label, text in rows]


def collate(examples: list[tuple[str, int]]) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return inputs and targets of a batch; a tuple of inputs is given to the model as several arguments."""
    texts = [
        [zlib.crc32(word.encode()) % WORDS for word in text.lower().split()] or [0] for text, _ in examples
    ]
    starts = torch.tensor([0, *map(len, texts[:-1])]).cumsum(0)
    words = torch.tensor([word for text in texts for word in text])
    return (words, starts), torch.tensor([target for _, target in examples])


def optimizer(parameters: list[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """Return the optimizer of a round; leave this function out for the one of --optimizer."""
    return torch.optim.Adam(parameters, learning_rate / 5)


def _sentence(chance: random.Random) -> tuple[str, int]:
    """Make up an example."""
    target = chance.randrange(2)
    words = chance.sample(SAID[target], 2)
    return f"the {chance.choice(THINGS)} was {' and '.join(words)}", target
