"""LoRA: small trainable matrices beside the frozen weights of linear layers.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021). Only the adapters train, so only they
are exchanged (`p2pfl.learning.exchange`). An export has the merged weights and no adapters.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn import functional

from p2pfl.errors import TaskError
from p2pfl.personal_specs import LoraSpec


class LoraLinear(nn.Module):
    """A linear layer whose weight is frozen, and the product of two small matrices beside it."""

    def __init__(self, base: nn.Linear, spec: LoraSpec) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        # Section 4.1: "a random Gaussian initialization for A and zero for B", so the output is unchanged.
        first = torch.randn(spec.rank, base.in_features) / base.in_features**0.5
        self.lora_a = nn.Parameter(first.to(base.weight))  # [rank, in]
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, spec.rank))  # [out, rank]
        self.scale = spec.scale

    def forward(self, inputs: Tensor) -> Tensor:
        """Return `h = W x + alpha / r * B A x` (equation 3, with the scaling of section 4.1)."""
        added: Tensor = functional.linear(functional.linear(inputs, self.lora_a), self.lora_b)
        outputs: Tensor = self.base(inputs)
        return outputs + self.scale * added


def add_adapters(module: nn.Module, spec: LoraSpec) -> nn.Module:
    """Put adapters into the linear layers of *module* that *spec* names, and freeze the rest; return it.

    Raises:
        TaskError: a pattern matches nothing.
    """
    linear = {name: one for name, one in module.named_modules() if type(one) is nn.Linear and name}
    for pattern in spec.target:
        if not any(fnmatchcase(name, pattern) for name in linear):
            some = ", ".join([*linear][:6]) or "none"
            raise TaskError(
                f"--lora-target {pattern!r} matches no nn.Linear of the model, whose linear layers are "
                f"{some}: use the name of one, or a pattern such as 'attn.*'."
            )
    names = [name for name, _ in module.named_parameters()]
    for pattern in spec.train:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise TaskError(
                f"--lora-train {pattern!r} matches no parameter of the model: use the name of one, or a "
                "pattern such as 'head.*'."
            )
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(any(fnmatchcase(name, pattern) for pattern in spec.train))
    for name, layer in linear.items():
        if any(fnmatchcase(name, pattern) for pattern in spec.target):
            around, _, own = name.rpartition(".")
            setattr(module.get_submodule(around), own, LoraLinear(layer, spec))
    return module
