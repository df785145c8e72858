from __future__ import annotations

import msgspec

from p2pfl.learning.batches import TensorBatches
from p2pfl.learning.simulation.ray_worker import what_was_read
from tests.support.simulated import quick_federation


def test_what_was_read_tells_other_data_and_another_model_apart() -> None:
    federation = quick_federation()
    read = what_was_read(federation, b"model")
    assert what_was_read(quick_federation(), b"model") == read
    assert what_was_read(federation, b"other").model != read.model
    part = federation.prepared.train_part(0)
    assert isinstance(part, TensorBatches)
    part.x[part.rows[5]] += 1
    changed = what_was_read(federation, b"model")
    assert changed == msgspec.structs.replace(read, examples=changed.examples) != read
