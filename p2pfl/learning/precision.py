"""Mixed precision: forward passes in 16 bits on devices that compute faster with them.

The parameters and their gradients stay float32, so what the devices exchange is the same with and without it.
Evaluations are in full precision, so the metrics of different devices can be compared.
"""

from __future__ import annotations

import functools
import logging
from contextlib import AbstractContextManager, nullcontext

import torch

logger = logging.getLogger(__name__)

CPU_FEATURES = ("avx512_bf16", "amx_bf16", "bf16")
"""Instructions for bfloat16 of x86 and ARM processors. Without them torch emulates it, which is slower."""

INITIAL_SCALE = 2.0**12
"""Factor of the loss at the begin of a round with float16. Torch's default, 2**16, overflows in the first
batches of most models, and each overflow costs an optimizer step, of which a round may have few."""


class Precision:
    """The number type of the forward passes of a training."""

    def __init__(self, device: str, dtype: torch.dtype | None) -> None:
        """Compute in *dtype* on a *device* of this type, such as "cuda"; None: in full precision."""
        self._device = device
        self._dtype = dtype
        self.scaler = torch.amp.GradScaler(device, INITIAL_SCALE) if dtype == torch.float16 else None
        """Scales the loss so that small gradients are not rounded to zero; only float16 needs it."""

    def autocast(self) -> AbstractContextManager[object]:
        """Return a context for the forward pass and the loss of one batch."""
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device, self._dtype)


def choose_precision(device: torch.device, wish: str) -> Precision:
    """Return the precision of a training on *device*, for the *wish* "full" or "mixed"."""
    return Precision(device.type, short_type(device.type) if wish == "mixed" else None)


@functools.cache
def short_type(device: str) -> torch.dtype | None:
    """Return the 16-bit type of mixed precision on a *device* of this type.

    None: it has none that is known to be faster. This is logged, and only once since the result is cached.
    """
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device == "cpu" and any(_cpu_has(feature) for feature in CPU_FEATURES):
        return torch.bfloat16
    logger.warning("The device (%s) has no mixed precision: it trains in full precision.", device)
    return None


def _cpu_has(feature: str) -> bool:
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # older versions of torch do not have it
    return capabilities is not None and bool(capabilities().get(feature))
