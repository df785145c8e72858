"""What a card may say, and what an evaluation must count."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from p2pfl.cards import (
    CLASSIFICATION,
    MAX_COUNTED_CLASSES,
    MAX_EXAMPLES,
    REGRESSION,
    Agreement,
    ColumnCard,
    DataCard,
    LabelCount,
    Measures,
    column_lines,
    counted_classes,
    metric_text,
)
from p2pfl.messages import Evaluation
from tests.support.records import CARD


def agreement(classes: int, measures: Measures = CLASSIFICATION, share: str = "labels") -> Agreement:
    fields = {"classes": [f"c{n}" for n in range(classes)], "examples": 10, "share": share}
    return msgspec.convert(fields | {"measures": msgspec.to_builtins(measures)}, Agreement)


def test_the_direction_says_what_is_better() -> None:
    assert CLASSIFICATION.is_better(0.9, than=0.8)
    loss = Measures("mse", ("loss",), "loss", "min")
    assert loss.is_better(0.8, than=0.9)
    assert not loss.is_better(0.8, than=0.8)


def test_the_sums_of_the_standard_measures_are_in_order() -> None:
    for measures in (CLASSIFICATION, REGRESSION):
        assert list(measures.metrics) == sorted(measures.metrics)


@pytest.mark.parametrize(
    ("given", "counted"),
    [
        (agreement(3), 3),
        (agreement(MAX_COUNTED_CLASSES), MAX_COUNTED_CLASSES),
        (agreement(MAX_COUNTED_CLASSES + 1), 0),
        (agreement(3, share="none"), 0),
        (agreement(0, REGRESSION), 0),
    ],
    ids=["some", "most", "too many", "nothing shared", "no classes"],
)
def test_classes_are_counted_where_they_are_few_and_told(given: Agreement, counted: int) -> None:
    assert counted_classes(given) == counted


def test_what_a_card_leaves_at_its_default_is_not_sent() -> None:
    assert msgspec.to_builtins(CARD).keys() == {"task", "examples", "labels"}


@pytest.mark.parametrize(
    "fields",
    [
        {"examples": 0},
        {"examples": MAX_EXAMPLES + 1},
        {"notes": ["x" * 301]},
        {"share": "all"},
        {"columns": [["age", "number", 1, 0, float("nan"), 0.0, []]]},
        {"columns": [["age", "number", 1, 0, 0.0, -1.0, []]]},
        {"more": 1},
    ],
    ids=str,
)
def test_a_card_out_of_bounds_is_refused(fields: dict[str, object]) -> None:
    body = msgspec.msgpack.encode(msgspec.to_builtins(CARD) | fields)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(body, type=DataCard)


# --- metrics by name --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0000"), (0.95123, "0.9512"), (-12.3456, "-12.3456"), (123456.0, "1.235e+05"), (1e-5, "1e-05")],
)
def test_a_metric_is_shown_with_four_decimals_unless_it_is_large_or_tiny(value: float, text: str) -> None:
    assert metric_text(value) == text


@pytest.mark.parametrize("direction", ["max", "min"])
def test_what_is_not_finite_is_never_better_and_reaches_nothing(direction: Literal["max", "min"]) -> None:
    measures = msgspec.structs.replace(CLASSIFICATION, primary="dice", direction=direction)
    assert measures.is_better(0.3, than=None)
    for bad in (1e300 / 5000, 1e300, -1e300):
        assert not measures.is_better(bad, than=None)
        assert measures.is_better(0.3, than=bad)
        assert not measures.is_better(bad, than=0.3)
        assert not measures.is_better(bad, than=bad)
        assert not measures.reaches("dice", bad, 0.99)
    assert measures.reaches("dice", 0.99, 0.99)
    assert measures.reaches("dice", 0.5, 0.99) == (direction == "min")


def test_a_smaller_loss_is_better_and_a_larger_value_of_every_other_metric() -> None:
    smaller = ("loss", "mse", "mae", "rmse", "top_error", "validation_loss")
    assert {CLASSIFICATION.direction_of(name) for name in smaller} == {"min"}
    assert {CLASSIFICATION.direction_of(name) for name in ("accuracy", "f1", "dice", "r2")} == {"max"}


def test_the_agreement_alone_says_which_value_of_the_primary_metric_is_better() -> None:
    measures = Measures("mine", ("cost", "loss"), "cost", "min")
    assert (measures.direction_of("cost"), measures.direction_of("loss")) == ("min", "min")
    assert Measures("mine", ("loss",), "loss", "max").direction_of("loss") == "max"


def test_the_metrics_of_a_run_are_those_of_its_evaluations_the_primary_one_first() -> None:
    assert Agreement(("a", "b"), 10).metric_names == ("accuracy", "f1", "loss")
    assert Agreement(("a", "b"), 10, share="none").metric_names == ("accuracy", "loss")
    table = Agreement((), 10, REGRESSION)
    assert table.metric_names == ("r2", "loss", "mae", "mse")
    sums = dict.fromkeys(REGRESSION.metrics, 1.0)
    assert set(Evaluation(10, sums).metrics) == set(table.metric_names)


@pytest.mark.parametrize("measures", [CLASSIFICATION, REGRESSION])
def test_measures_of_adapted_models_come_on_top_and_can_be_taken_off(measures: Measures) -> None:
    both = measures.with_personal()
    assert both.without_personal() == measures
    assert list(both.metrics) == sorted(both.metrics)
    assert "personal_loss" in both.metrics
    assert "personal_target" not in both.metrics


def test_a_metric_of_the_task_that_is_called_personal_stays() -> None:
    mine = Measures("own", ("accuracy", "personal_space"), "accuracy", "max")
    assert mine.with_personal().without_personal() == mine


def test_the_direction_of_a_personal_metric_is_that_of_the_common_one() -> None:
    assert REGRESSION.direction_of("personal_mse") == "min"
    assert CLASSIFICATION.direction_of("personal_accuracy") == "max"
    assert Measures("own", ("cost",), "cost", "min").direction_of("personal_cost") == "min"


def test_the_columns_of_a_table_are_told_by_kind_with_their_gaps() -> None:
    card = DataCard(
        "table",
        40,
        (LabelCount("no", 30), LabelCount("yes", 10)),
        columns=(
            *(ColumnCard(f"x{index}", "number", 40) for index in range(9)),
            ColumnCard("sex", "category", 39, 1, categories=("f", "m")),
            ColumnCard("age", "number", 37, 3),
        ),
        target=ColumnCard("ill", "category", categories=("no", "yes")),
    )
    assert column_lines(card) == [
        "columns: 10 numbers (x0, x1, x2, x3, x4, x5, x6, x7 and 2 more); 1 category (sex (2)); the target ill is a "
        "class (no, yes)",
        "missing values by column: sex 1, age 3",
    ]
    assert column_lines(DataCard("mine", 40, ())) == []
