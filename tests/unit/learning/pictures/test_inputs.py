from __future__ import annotations

import pytest
import torch

from p2pfl.learning.catalogue import CATALOGUE
from p2pfl.learning.pictures.inputs import own_pictures
from p2pfl.learning.task import Scaling


def test_private_pictures_are_scaled_in_every_channel() -> None:
    inputs = own_pictures((3, 8, 4))
    assert (inputs.shape, len(inputs.mean), len(inputs.deviation)) == ((3, 8, 4), 3, 3)
    scaling = Scaling.normalising(inputs.mean, inputs.deviation)
    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    assert scaling(white).flatten().tolist() == pytest.approx([2.0] * 3)


def test_every_task_of_pictures_has_a_mean_for_each_channel() -> None:
    for entry in CATALOGUE.values():
        assert entry.inputs is not None, entry.name
        assert len(entry.inputs.mean) == len(entry.inputs.deviation) == entry.inputs.shape[0]
