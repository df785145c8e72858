"""What no card and no agreement can say, whatever other devices say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl.agreement import merge_cards, misfit
from p2pfl.card_checks import MAX_CARD_BYTES, agreement_flaw, card_flaw
from p2pfl.cards import AgreedColumn, ColumnCard, DataCard, LabelCount
from p2pfl.spec import PicturesTask, TableTask, TaskSpec
from tests.support.records import AGREEMENT, CARD, SPEC

PICTURES = PicturesTask("lenet")
TABLE = TableTask("ill", "linear")
PHOTOS = DataCard("pictures", 9, (LabelCount("cat", 4), LabelCount("dog", 5)), input_shape=(3, 8, 8))
ROWS = DataCard(
    "table",
    9,
    (LabelCount("no", 4), LabelCount("yes", 5)),
    columns=(ColumnCard("age", "number", 9, mean=4.0, spread=2.0),),
    target=ColumnCard("ill", "category", 9, categories=("no", "yes")),
)
WIDE = tuple(ColumnCard(f"c{n}", "category", 9, categories=("x" * 60, "y" * 60)) for n in range(2000))


@pytest.mark.parametrize(
    ("task", "card", "changes", "flaw"),
    [
        (SPEC.task, CARD, {"labels": (*CARD.labels, LabelCount("0", 1))}, "its data name a class twice"),
        (PICTURES, PHOTOS, {"input_shape": ()}, "it tells no shape of pictures"),
        (PICTURES, PHOTOS, {"input_shape": (3,)}, "it tells no shape of pictures"),
        (PICTURES, PHOTOS, {"input_shape": (2, 8, 8)}, "it tells no shape of pictures"),
        (PICTURES, PHOTOS, {"input_shape": (3, 8, 2**31)}, "it tells no shape of pictures"),
        (TABLE, ROWS, {"columns": ROWS.columns * 2}, "its table has two columns of the same name"),
        (TABLE, ROWS, {"target": None}, "it predicts no column, and the run 'ill'"),
        (TABLE, ROWS, {"target": ColumnCard("sex", "category")}, "it predicts the column 'sex', and the run"),
        (TABLE, ROWS, {"columns": WIDE}, f"and {MAX_CARD_BYTES} are possible: leave out columns"),
    ],
)
def test_a_card_that_can_be_none_is_refused_with_the_name_of_its_device(
    task: TaskSpec, card: DataCard, changes: dict[str, Any], flaw: str
) -> None:
    assert card_flaw(task, card) == ""
    wrong = msgspec.structs.replace(card, **changes)
    assert flaw in card_flaw(task, wrong)
    for cards in ({"ada": wrong}, {"ada": wrong, "ben": card}, {"ada": card, "ben": wrong}):
        agreement, reason = merge_cards(task, cards)
        assert agreement is None
        assert flaw in reason


@pytest.mark.parametrize(
    ("task", "card", "changes", "flaw"),
    [
        (SPEC.task, CARD, {"classes": (*AGREEMENT.classes, "0")}, "names a class twice"),
        (PICTURES, PHOTOS, {"input_shape": (3, 2048, 2048)}, "no possible shape of pictures"),
        (PICTURES, PHOTOS, {"input_shape": (3, 0, 8)}, "no possible shape of pictures"),
        (TABLE, ROWS, {"columns": (AgreedColumn("age", "number"),) * 2}, "names a column twice"),
        (TABLE, ROWS, {"classes": ("no", "yes", "?")}, "no target that fits its classes"),
        (TABLE, ROWS, {"target": None}, "no target that fits its classes"),
        (TABLE, ROWS, {"columns": (AgreedColumn("age", "number", deviation=0.0),)}, "without a deviation"),
        (
            TABLE,
            ROWS,
            {
                "columns": tuple(
                    AgreedColumn(f"c{n}", "category", categories=tuple(f"{i:060}" for i in range(9)))
                    for n in range(2000)
                )
            },
            "are possible: leave out columns",
        ),
    ],
)
def test_an_agreement_of_a_peer_that_can_be_none_is_declined(
    task: TaskSpec, card: DataCard, changes: dict[str, Any], flaw: str
) -> None:
    agreement, reason = merge_cards(task, {"ada": card})
    assert agreement is not None, reason
    assert agreement_flaw(task, agreement) == misfit(task, agreement, card) == ""
    wrong = msgspec.structs.replace(agreement, **changes)
    assert flaw in agreement_flaw(task, wrong)
    assert flaw in misfit(task, wrong, card)


def test_cards_that_are_small_enough_can_be_too_much_together() -> None:
    cards = {
        name: msgspec.structs.replace(
            ROWS,
            columns=tuple(
                ColumnCard(f"c{n}", "category", 9, categories=tuple(f"{name}{i:050}" for i in range(10)))
                for n in range(300)
            ),
        )
        for name in ("ada", "ben", "cleo", "dan")
    }
    assert all(card_flaw(TABLE, card) == "" for card in cards.values())
    agreement, reason = merge_cards(TABLE, cards)
    assert agreement is None
    assert "the descriptions of the data of all devices have" in reason
