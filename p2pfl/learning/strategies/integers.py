"""Computes the exact weighted mean of integers.

A 64-bit integer may not fit into a float64, and its product with a number of examples may not fit into an
int64. So each value is split into limbs of 16 bits. The limbs at each position are summed, and the sums are
divided by long division from the highest to the lowest: the remainder of one is added to the next.
"""

from __future__ import annotations

import torch
from torch import Tensor

LIMB_BITS = 16
"""Bits of a limb. Its sum over the updates plus the remainder of the limb above fits into an int64, see
`MAX_WEIGHT`."""

MAX_WEIGHT = 2**45
"""Maximum number of examples of all updates together. With more, the sum of a limb might exceed an int64."""

_MASK = 2**LIMB_BITS - 1


def limbs_of(dtype: torch.dtype) -> int:
    """Return the number of limbs of a value of the integer *dtype*."""
    return max(1, 8 * dtype.itemsize // LIMB_BITS)


def add_limbs(total: Tensor, values: Tensor, weight: int) -> None:
    """Add *weight* times *values*, [elements] of an integer dtype, to *total*, [limbs, elements] int64."""
    wide = _as_int64(values)
    highest = len(total) - 1
    for index, limb in enumerate(total):
        part = wide >> (LIMB_BITS * index)
        if index < highest or not values.dtype.is_signed:
            part &= _MASK
        limb.add_(part, alpha=weight)


def divide(total: Tensor, weight: int, out: Tensor) -> Tensor:
    """Divide *total*, [limbs, elements] int64, by *weight* into *out*, [elements]; round half to even.

    The mean is between the minimum and the maximum of the summed values, so it fits into their dtype, which
    is that of *out*.
    """
    quotient, rest = torch.zeros_like(total[0]), torch.zeros_like(total[0])
    for limb in reversed(total.unbind()):
        rest = (rest << LIMB_BITS) + limb
        digit = torch.div(rest, weight, rounding_mode="floor")
        rest -= digit * weight
        quotient = (quotient << LIMB_BITS) + digit
    twice = 2 * rest
    quotient += (twice > weight) | ((twice == weight) & (quotient & 1 == 1))
    if out.dtype == torch.uint64:
        out.view(torch.int64).copy_(quotient)
    else:
        out.copy_(quotient)
    return out


def _as_int64(values: Tensor) -> Tensor:
    """Return *values* as int64; a uint64 is reinterpreted, not converted."""
    return values.view(torch.int64) if values.dtype == torch.uint64 else values.to(torch.int64)
