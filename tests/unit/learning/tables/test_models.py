from __future__ import annotations

import pytest
import torch

from p2pfl.cards import REGRESSION, AgreedColumn, Agreement
from p2pfl.errors import TaskError
from p2pfl.learning.tables.models import build_table_model

COLUMNS = (AgreedColumn("a", "number", is_gappy=True), AgreedColumn("b", "category", categories=("x", "y")))


@pytest.mark.parametrize(("model", "parameters"), [("linear", 5 * 3 + 3), ("mlp", 6 * 64 + 65 * 64 + 65 * 3)])
def test_a_classifier_has_an_output_for_each_class(model: str, parameters: int) -> None:
    module = build_table_model(model, Agreement(("p", "q", "r"), 9, columns=COLUMNS))
    assert module(torch.zeros(4, 5)).shape == (4, 3)
    assert sum(one.numel() for one in module.parameters()) == parameters


@pytest.mark.parametrize("model", ["linear", "mlp"])
def test_a_regression_has_one_output(model: str) -> None:
    target = AgreedColumn("t", "number")
    module = build_table_model(model, Agreement((), 9, REGRESSION, columns=COLUMNS, target=target))
    assert module(torch.zeros(4, 5)).shape == (4, 1)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(TaskError, match="There is no model 'lenet' for tables; the models are: mlp, linear"):
        build_table_model("lenet", Agreement((), 9, columns=COLUMNS))
