"""How a picture becomes the input of a model. It imports no torch: an exported model carries these values."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

OWN_MEAN, OWN_DEVIATION = 0.5, 0.25
"""Private pictures are scaled with these, and not with statistics of the data: so there is nothing to agree
on. They are close to the statistics of photos (ImageNet: 0.45 and 0.23)."""

Side = Annotated[int, Meta(ge=1, le=2**16)]


class PictureInputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shape and scaling of the pictures that a model takes."""

    shape: tuple[Side, Side, Side]
    """[channels, height, width]."""
    mean: tuple[float, ...]
    """By channel, for pixels from 0 to 1."""
    deviation: tuple[float, ...]
    """By channel: the input is (pixel / 255 - mean) / deviation."""


def own_pictures(shape: tuple[int, int, int]) -> PictureInputs:
    """Return the inputs of a model for private pictures of *shape*."""
    return PictureInputs(shape, (OWN_MEAN,) * shape[0], (OWN_DEVIATION,) * shape[0])
