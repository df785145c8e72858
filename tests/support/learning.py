"""Run specifications and small models for tests of the learning package."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from p2pfl.spec import RunSpec, from_options, to_options, with_options

SPEC = from_options(
    task="digits",
    model="2nn",
    partition="iid",
    partitions=4,
    rounds=1,
    epochs=1,
    batch_size=32,
    learning_rate=0.05,
    momentum=0.9,
    weight_decay=0.0,
    seed=7,
    sample=0,
    min_updates=1,
    round_cap=60.0,
    drop_after=60.0,
)


def make_spec(**changes: Any) -> RunSpec:
    """Return the spec of a short run of digits, with *changes*."""
    return with_options(SPEC, **changes)


def pictures_spec(**changes: Any) -> RunSpec:
    """Return the spec of a short run on private pictures, with *changes*."""
    shared = {
        name: value
        for name, value in to_options(SPEC).items()
        if name not in ("kind", "task", "partition", "partitions")
    }
    return from_options(**{**shared, "kind": "pictures", **changes})


class Mixed(nn.Module):
    """A module with parameters, a scalar, an integer buffer, a boolean buffer and an empty tensor."""

    def __init__(self, seed: int = 0, steps: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(3, 5, generator=generator))
        self.scale = nn.Parameter(torch.randn((), generator=generator))
        self.brief = nn.Parameter(torch.randn(7, generator=generator).to(torch.bfloat16))
        self.steps: torch.Tensor
        self.mask: torch.Tensor
        self.nothing: torch.Tensor
        self.register_buffer("steps", torch.tensor(steps))
        self.register_buffer("mask", torch.randn(4, generator=generator) > 0)
        self.register_buffer("nothing", torch.empty(0, 3))
