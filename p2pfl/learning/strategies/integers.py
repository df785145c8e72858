"""The weighted mean of integers, exact to the last digit.

A 64-bit integer has more digits than a float64 holds, and its product with a number of samples more than an
int64. So each value is taken apart into limbs of 16 bits, the limbs are summed by themselves, and the sums
are divided from the highest to the lowest, as one divides on paper: the remainder of one goes on to the next.
"""

from __future__ import annotations

import torch
from torch import Tensor

LIMB_BITS = 16
"""Bits of a limb: its sum over updates, and a remainder in front of it, fit into an int64 (`MAX_WEIGHT`)."""

MAX_WEIGHT = 2**45
"""Samples of all updates together: 35 million million. With more, the sum of a limb could leave an int64."""

_MASK = 2**LIMB_BITS - 1


def limbs_of(dtype: torch.dtype) -> int:
    """Return how many limbs a value of the integer *dtype* is taken apart into."""
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
    """Divide *total*, [limbs, elements] int64, by *weight* into *out*, [elements]; halves go to the even one.

    The mean lies between the least and the greatest value summed, so it fits *out*'s dtype, theirs.
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
    """Return *values* as int64, those of a uint64 bit for bit."""
    return values.view(torch.int64) if values.dtype == torch.uint64 else values.to(torch.int64)
