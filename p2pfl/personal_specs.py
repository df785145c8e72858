"""What of a run's model is particular to each device, as part of the run's specification; without torch."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from p2pfl.spec_part import SpecPart

MAX_PATTERNS = 64
"""Maximum number of patterns of tensor names in a run."""

Pattern = Annotated[str, Meta(min_length=1, max_length=200)]
"""A pattern of names, as of files: `head.*` matches "head.weight" (`fnmatch`)."""


class Personalisation(SpecPart, frozen=True):
    """Which tensors stay on each device, and how a model is adapted to a device before it is evaluated."""

    personal: Annotated[tuple[Pattern, ...], Meta(max_length=MAX_PATTERNS)] = ()
    """Patterns of the names of tensors that each device trains for itself."""
    personalise: Annotated[int, Meta(ge=0, le=10**4)] = 0
    """Epochs on the device's own examples after which a copy of the model is evaluated too; 0: none is."""


class LoraSpec(SpecPart, frozen=True):
    """Low-rank adapters: only small matrices beside the weights of linear layers train (Hu et al. 2021)."""

    target: Annotated[tuple[Pattern, ...], Meta(min_length=1, max_length=MAX_PATTERNS)]
    """Patterns of the names of the linear layers that get adapters."""
    rank: Annotated[int, Meta(ge=1, le=4096)] = 8
    """Rank r of the product of the two matrices."""
    alpha: Annotated[float, Meta(gt=0, le=1e6)] = 16.0
    """The product is scaled by alpha / r."""
    train: Annotated[tuple[Pattern, ...], Meta(max_length=MAX_PATTERNS)] = ()
    """Patterns of the names of parameters that train too, such as those of a new head."""

    @property
    def scale(self) -> float:
        """The factor of the product."""
        return self.alpha / self.rank
