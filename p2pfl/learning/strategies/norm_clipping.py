"""The mean of changes that are scaled down to a maximum norm.

Sun et al., "Can You Really Backdoor Federated Learning?" (2019), section 4, "Norm thresholding of updates".
The number of examples does not weigh, other than in the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor

from p2pfl.learning.strategies.combination import Combination
from p2pfl.strategy_specs import NormClippingSpec


class NormClipping(Combination):
    """The mean of the clipped changes."""

    def __init__(self, spec: NormClippingSpec) -> None:
        """Make the strategy."""
        super().__init__(spec)
        self._norm = spec.norm

    def coefficients(self, products: Tensor) -> Tensor:
        """Return the scale of each change, divided by the number of updates."""
        norms = products.diag().sqrt().nan_to_num(torch.inf)
        limit = self._norm or float(norms.median())  # the lower one of two middle norms
        # Section 4: change / max(1, |change| / M)
        return torch.where(norms > limit, limit / norms, 1.0) / len(norms)
