"""What a check says of a card and of a model, for people."""

from __future__ import annotations

from p2pfl.cards import CLASSIFICATION, DataCard, LabelCount, Measures
from p2pfl.cli.checking import describe_card, describe_schema
from p2pfl.schema import TensorSpec, canonical


def test_a_long_card_and_a_long_schema_are_shortened() -> None:
    labels = tuple(LabelCount(f"c{number}", 2) for number in range(25))
    card = DataCard("mine", 50, labels, CLASSIFICATION, notes=("one picture is broken",))
    lines = describe_card(card, 5)
    assert lines[0] == "data        50 examples to train, 5 held out; inputs of varying shape"
    assert lines[1].endswith("c19 (2) and 5 more")
    assert lines[-1] == "warning     one picture is broken"
    schema = canonical([TensorSpec(f"layer{number}", "F32", ()) for number in range(14)])
    assert describe_schema(schema, 14)[-2:] == [
        "              layer7   F32   scalar",
        "              and 2 more",
    ]


def test_a_smaller_metric_may_be_the_better_one() -> None:
    card = DataCard("mine", 5, (), Measures("mse", ("loss",), "loss", "min"), input_shape=(3, 8, 8))
    assert describe_card(card, 1) == [
        "data        5 examples to train, 1 held out; inputs 3x8x8",
        "measures    loss mse; loss; models are compared by loss, smaller is better",
    ]
