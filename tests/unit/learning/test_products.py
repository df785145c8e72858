from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from p2pfl.learning.products import inner_products
from p2pfl.learning.weights import TORCH_DTYPES, bytes_of
from p2pfl.schema import Schema, TensorSpec, canonical, header


class Memory:
    """A file of *schema* in memory, with the tensors of *values* by name."""

    def __init__(self, schema: Schema, values: dict[str, Tensor]) -> None:
        self.schema = schema
        raw = [bytes(bytes_of(values[one.name].to(TORCH_DTYPES[one.dtype]))) for one in schema]
        self._bytes = header(schema) + b"".join(raw)

    def fill_from(self, offset: int, raw: memoryview) -> None:
        raw[:] = self._bytes[offset : offset + len(raw)]


def _products(
    schema: Schema,
    models: Sequence[dict[str, Tensor]],
    state: Memory | None = None,
    *,
    slots: int = 0,
    piece: int = 32_000,
) -> list[list[float]]:
    """Return the products of all models but the first, which is the parent."""
    parent, *updates = [Memory(schema, model) for model in models]
    found = inner_products(updates, parent.fill_from, schema, state, slots=slots, piece=piece)
    return [[float(one) for one in row] for row in found.tolist()]


def _one(values: Sequence[float], dtype: str = "F32") -> dict[str, Tensor]:
    return {"w": torch.tensor(values, dtype=torch.float64).to(TORCH_DTYPES[dtype])}


def _schema(dtype: str, elements: int, *, is_buffer: bool = False) -> Schema:
    return canonical([TensorSpec("w", dtype, (elements,), is_buffer)])


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_they_are_those_of_the_differences_from_the_parent(dtype: str) -> None:
    models = [_one(values, dtype) for values in ([1, 1, 1], [2, 1, 3], [1, 5, 2])]
    assert _products(_schema(dtype, 3), models) == [[5, 2], [2, 17]]  # changes (1, 0, 2) and (0, 4, 1)


@pytest.mark.parametrize("piece", [1, 2, 5, 100])
def test_how_long_pieces_are_changes_only_rounding(piece: int) -> None:
    generator = torch.Generator().manual_seed(1)
    schema = canonical(
        [TensorSpec("a", "F64", (3,)), TensorSpec("b", "F32", (4,)), TensorSpec("c", "F32", (7,))]
    )
    models = [
        {one.name: torch.randn(one.shape, generator=generator, dtype=torch.float64) for one in schema}
        for _ in range(5)
    ]
    stored = [
        torch.cat([model[one.name].to(TORCH_DTYPES[one.dtype]).double() for one in schema])
        for model in models
    ]
    changes = torch.stack(stored[1:]) - stored[0]
    found = torch.tensor(_products(schema, models, piece=piece), dtype=torch.float64)
    assert torch.allclose(found, changes @ changes.t(), rtol=1e-12)


def test_buffers_integers_and_booleans_do_not_count() -> None:
    schema = canonical(
        [
            TensorSpec("buffer", "F32", (2,), is_buffer=True),
            TensorSpec("count", "I64", (1,), is_buffer=True),
            TensorSpec("mask", "BOOL", (1,), is_buffer=True),
            TensorSpec("w", "F32", (1,)),
            TensorSpec("z", "F16", (1,)),
        ]
    )

    def model(value: float) -> dict[str, Tensor]:
        return {one.name: torch.full(one.shape, value) for one in schema}

    assert _products(schema, [model(0), model(3)]) == [[18]]


def test_elements_that_are_not_finite_in_the_parent_do_not_count() -> None:
    mask = [float("-inf"), float("inf"), float("nan")]
    models = [_one([*mask, 1]), _one([*mask, 3]), _one([7, 7, 7, 4])]
    assert _products(_schema("F32", 4), models) == [[4, 6], [6, 9]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e200])
def test_an_update_with_a_number_out_of_bounds_has_products_that_are_not_finite(bad: float) -> None:
    models = [_one(values, "F64") for values in ([0, 0], [1, 2], [bad, 1])]
    found = torch.tensor(_products(_schema("F64", 2), models))
    assert found.isfinite().diag().tolist() == [True, False]
    assert found[0, 0] == 5


@pytest.mark.parametrize("piece", [1, 2, 100])
def test_the_first_slot_of_the_state_is_one_more_change(piece: int) -> None:
    schema = canonical([TensorSpec("a", "F32", (2,)), TensorSpec("b", "F32", (1,), is_buffer=True)])
    schema = canonical([*schema, TensorSpec("c", "F32", (1,))])
    slots = canonical([TensorSpec("0.F32", "F32", (4, 2))])
    state = Memory(slots, {"0.F32": torch.tensor([[2.0, 9.0], [0.0, 9.0], [50.0, 9.0], [-1.0, 9.0]])})

    def model(*values: float) -> dict[str, Tensor]:
        return {"a": torch.tensor(values[:2]), "b": torch.tensor([7.0]), "c": torch.tensor(values[2:])}

    found = _products(schema, [model(0, 0, 0), model(1, 2, 3)], state, slots=2, piece=piece)
    assert found == [[14, -1], [-1, 5]]  # the state is (2, 0, -1) in the parameters
