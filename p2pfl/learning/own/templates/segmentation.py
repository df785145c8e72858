"""A p2pfl task: segmentation, which finds the pixels of an object.

Try it alone with `p2pfl task check FILE`, then on every device `p2pfl node --task FILE --data SCANS ..`.
The folder SCANS has pictures, all of one size, and for each picture NAME.png a mask NAME.mask.png that is
white where the object is. Without --data, discs on a noisy ground are drawn.
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from torchvision.transforms.functional import to_tensor

import p2pfl

primary = ("dice", "max")  # the metric by which models are compared, and whether larger or smaller is better


class Scans(Dataset[tuple[Tensor, Tensor]]):
    """Pictures in a folder, each with its mask."""

    def __init__(self, place: Path) -> None:
        self.masks = sorted(place.glob("*.mask.png"))

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        mask = self.masks[index]
        picture = mask.with_name(mask.name.replace(".mask", ""))
        return read(picture), (read(mask) > 0.5).float()


class Discs(Dataset[tuple[Tensor, Tensor]]):
    """Discs of random size and place on a noisy ground; the same ones in every process."""

    def __init__(self, examples: int = 200, side: int = 32) -> None:
        self.examples, self.side = examples, side

    def __len__(self) -> int:
        return self.examples

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(index)
        row, column, radius = torch.rand(3, generator=generator) * self.side
        rows, columns = torch.meshgrid(torch.arange(self.side), torch.arange(self.side), indexing="ij")
        mask = ((rows - row) ** 2 + (columns - column) ** 2 < (2 + radius / 4) ** 2).float().unsqueeze(0)
        return mask + torch.randn(mask.shape, generator=generator) / 2, mask  # [1, side, side] each


def model(agreed: p2pfl.Agreed) -> nn.Module:
    """Return a new model; it gives a score for each pixel."""
    channels, _, _ = agreed.input_shape
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 16, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 1, 1),
    )


def data(place: Path | None) -> Dataset[tuple[Tensor, Tensor]]:
    """Return the examples of this device; `place` is the path of --data."""
    return Discs() if place is None else Scans(place)


def read(path: Path) -> Tensor:
    """Return the picture in the file *path* in grey, [1, height, width] from 0 to 1."""
    with Image.open(path) as picture:
        pixels: Tensor = to_tensor(picture.convert("L"))
    return pixels


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean loss of a batch: cross-entropy, and one minus the dice of the scores."""
    scores = outputs.sigmoid()
    dice = (2 * (scores * targets).sum() + 1) / (scores.sum() + targets.sum() + 1)
    return functional.binary_cross_entropy_with_logits(outputs, targets) + 1 - dice


def metrics(outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return the means of what is measured over a batch, by name."""
    found = outputs > 0
    both = (found & (targets > 0.5)).sum((1, 2, 3))  # [batch]
    sizes = found.sum((1, 2, 3)) + targets.sum((1, 2, 3))
    return {"dice": ((2 * both + 1) / (sizes + 1)).mean()}
