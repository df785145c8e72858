from __future__ import annotations

from collections import UserDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import rnn

from p2pfl.learning.batches import TensorBatches, call_model
from p2pfl.learning.task import Scaling

X = torch.arange(24).reshape(12, 2)
Y = torch.arange(12) + 100
ROWS = torch.tensor([9, 1, 4, 7, 2])


def test_shuffled_yields_the_rows_once_in_the_order_of_the_generator() -> None:
    batches = TensorBatches(X, Y, ROWS)
    loaded = list(batches.shuffled([3, 2], torch.Generator().manual_seed(5)))
    order = ROWS[torch.randperm(5, generator=torch.Generator().manual_seed(5))]
    assert [count for *_, count in loaded] == [3, 2]
    assert torch.equal(torch.cat([x for x, *_ in loaded]), X[order])
    assert torch.equal(torch.cat([y for _, y, _ in loaded]), Y[order])
    assert batches.examples == 5


def test_each_epoch_of_a_generator_has_another_order() -> None:
    generator, batches = torch.Generator().manual_seed(5), TensorBatches(X, Y, torch.arange(12))
    epochs = [torch.cat([y for _, y, _ in batches.shuffled([6, 6], generator)]) for _ in range(2)]
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(epochs[0].sort().values, Y)


def test_ordered_yields_the_rows_in_their_order() -> None:
    loaded = list(TensorBatches(X, Y, ROWS).ordered(4))
    assert [count for *_, count in loaded] == [4, 1]
    assert torch.equal(torch.cat([x for x, *_ in loaded]), X[ROWS])
    assert torch.cat([y for _, y, _ in loaded]).tolist() == [109, 101, 104, 107, 102]


def test_batches_are_copies_and_scaled() -> None:
    pixels = torch.arange(8, dtype=torch.uint8).reshape(4, 2, 1, 1)
    scaling = Scaling(torch.full((2, 1, 1), 2.0), torch.full((2, 1, 1), 1.0))
    [(scaled, _, _)] = TensorBatches(pixels, Y[:4], torch.tensor([2, 0]), scaling).ordered(4)
    assert scaled.flatten().tolist() == [9, 11, 1, 3]
    [(x, y, _)] = TensorBatches(X.clone(), Y, torch.arange(12)).ordered(12)
    x.zero_()
    y.zero_()
    assert X.sum() == 276
    assert Y.sum() == 1266


def test_labels_are_the_targets_that_are_classes() -> None:
    labels = TensorBatches(X, Y, ROWS).labels
    assert labels is not None
    assert labels.tolist() == [109, 101, 104, 107, 102]
    assert TensorBatches(X, Y.float(), ROWS).labels is None
    assert TensorBatches(X, Y.reshape(12, 1), ROWS).labels is None


class _Recorder(nn.Module):
    """Returns its arguments."""

    def forward(self, *places: Any, **names: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return places, names


ONE, TWO = torch.ones(1), torch.ones(2)
PACKED = rnn.pack_sequence([TWO, ONE])


@pytest.mark.parametrize(
    ("inputs", "places", "names"),
    [
        (ONE, (ONE,), {}),
        ((ONE, TWO), (ONE, TWO), {}),
        ([ONE, TWO], (ONE, TWO), {}),
        ({"a": ONE, "b": TWO}, (), {"a": ONE, "b": TWO}),
        (UserDict(a=ONE), (), {"a": ONE}),
        (PACKED, (PACKED,), {}),
    ],
)
def test_a_model_is_called_as_its_inputs_are_held(
    inputs: Any, places: tuple[Tensor, ...], names: dict[str, Tensor]
) -> None:
    got, named = call_model(_Recorder(), inputs)
    assert [id(one) for one in got] == [id(one) for one in places]
    assert {name: id(one) for name, one in named.items()} == {name: id(one) for name, one in names.items()}
