"""What a card may say, and what an evaluation must count."""

from __future__ import annotations

import msgspec
import pytest

from p2pfl.cards import (
    CLASSIFICATION,
    MAX_COUNTED_CLASSES,
    MAX_EXAMPLES,
    REGRESSION,
    Agreement,
    DataCard,
    Measures,
    counted_classes,
)
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
