"""Data cards: what is merged, what is noted, and what is refused with the name of the device."""

from __future__ import annotations

import pytest

from p2pfl.agreement import merge_cards, misfit, stated_examples
from p2pfl.cards import MAX_EXAMPLES, Agreement, DataCard, LabelCount
from p2pfl.spec import task_name
from tests.support.records import AGREEMENT, CARD, SPEC


def card(*labels: str, task: str = "digits", examples: int = 100) -> DataCard:
    return DataCard(task, examples, tuple(LabelCount(label, 1) for label in labels))


# --- built-in tasks ---------------------------------------------------------------------------------------------


def test_cards_that_go_together_make_the_same_agreement_in_any_order() -> None:
    agreement, flaw = merge_cards(SPEC.task, {"ben": CARD, "ada": CARD})
    assert (agreement, flaw) == (AGREEMENT, "")
    assert merge_cards(SPEC.task, {"ada": CARD, "ben": CARD})[0] == agreement


def test_cards_of_another_task_are_left_aside() -> None:
    other = card("cat", "dog", task="cifar10")
    assert merge_cards(SPEC.task, {"ada": CARD, "ben": other}) == (AGREEMENT, "")
    agreement, flaw = merge_cards(SPEC.task, {"ben": other})
    assert agreement is None
    assert flaw == "nobody has described the data of digits"


def test_cards_that_do_not_go_together_name_both_devices() -> None:
    agreement, flaw = merge_cards(SPEC.task, {"cleo": card("0", "2"), "ben": card("0", "1")})
    assert agreement is None
    assert flaw == "the data of cleo do not fit those of ben: its data lack the class '1' of the run"


def test_a_card_that_states_more_than_the_public_data_set_has_does_not_fit() -> None:
    _, flaw = merge_cards(SPEC.task, {"ada": card("0"), "ben": card("0", examples=MAX_EXAMPLES)})
    assert f"its data have {MAX_EXAMPLES} examples, and those of the run 100" in flaw


@pytest.mark.parametrize(
    ("labels", "flaw"),
    [
        (("a", "b", "c"), ""),
        (("a", "c"), "its data lack the class 'b' of the run"),
        (("c",), "its data lack the classes 'a', 'b' of the run"),
        (("a", "b", "c", "d"), "its data have the class 'd', which the run does not have"),
        (("a", "c", "b"), "its classes come in another order: class 1 is 'c' here and 'b' in the run"),
        (("a", "b", "c", "c"), "its data name a class twice"),
    ],
)
def test_who_has_other_classes_is_told_which(labels: tuple[str, ...], flaw: str) -> None:
    assert misfit(SPEC.task, Agreement(("a", "b", "c"), 100), card(*labels)) == flaw


def test_many_missing_classes_are_not_all_listed() -> None:
    flaw = misfit(SPEC.task, Agreement(tuple(f"class {n}" for n in range(1000)), 100), card("x"))
    assert flaw.endswith("'class 4' and 995 more of the run")


def test_a_device_states_what_its_card_of_the_task_says_else_what_every_copy_of_the_data_has() -> None:
    mine = card("0", examples=70)
    assert stated_examples(SPEC.task, mine, CARD) == 70
    assert stated_examples(SPEC.task, card("cat", task="cifar10"), CARD) == CARD.examples
    assert stated_examples(SPEC.task, None, CARD) == CARD.examples
    assert task_name(SPEC.task) == CARD.task
