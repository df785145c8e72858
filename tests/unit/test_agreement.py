"""Data cards: what is merged, what is noted, and what is refused with the name of the device."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl.agreement import merge_cards, misfit, stated_examples
from p2pfl.cards import MAX_EXAMPLES, MAX_NOTES, REGRESSION, Agreement, DataCard, LabelCount, Measures
from p2pfl.spec import FileTask, PicturesTask, TaskSpec, task_name
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


# --- private data -----------------------------------------------------------------------------------------------

PICTURES = PicturesTask("lenet")
FILE = FileTask("mine")


def pictures(*labels: str, shape: tuple[int, ...] = (3, 32, 32), **fields: Any) -> DataCard:
    return msgspec.structs.replace(card(*labels, task="pictures"), input_shape=shape, **fields)


def own(*labels: str, **fields: Any) -> DataCard:
    return msgspec.structs.replace(card(*labels, task="mine"), **fields)


def agreed(task: TaskSpec, **cards: DataCard) -> Agreement:
    agreement, flaw = merge_cards(task, cards)
    assert flaw == ""
    assert agreement is not None
    assert agreement == merge_cards(task, dict(reversed(cards.items())))[0]
    return agreement


def refused(task: TaskSpec, **cards: DataCard) -> str:
    agreement, flaw = merge_cards(task, cards)
    assert agreement is None
    return flaw


def test_pictures_have_the_classes_of_all_devices_and_it_is_told_who_lacks_some() -> None:
    found = agreed(
        PICTURES, ada=pictures("cat", "dog"), ben=pictures("dog", "fox"), cleo=pictures("cat", "dog")
    )
    assert found.classes == ("cat", "dog", "fox")
    assert found.input_shape == (3, 32, 32)
    assert found.notes == ("only ben has the class 'fox'", "ben has no examples of the class 'cat'")


def test_numbered_classes_are_in_the_order_of_their_numbers() -> None:
    assert agreed(PICTURES, ada=pictures("10", "9", "1")).classes == ("1", "9", "10")


def test_a_class_that_looks_like_no_number_does_not_disturb_the_order() -> None:
    assert agreed(PICTURES, ada=pictures("nan", "2", "10", "1e3")).classes == ("10", "1e3", "2", "nan")


def test_one_class_in_all_is_refused() -> None:
    assert refused(PICTURES, ada=pictures("cat"), ben=pictures("cat")) == (
        "all devices together have one class, 'cat': nothing can be learned from it"
    )


def test_too_many_classes_are_refused() -> None:
    cards = {name: pictures(*(f"{name}{n}" for n in range(600))) for name in ("ada", "ben")}
    assert refused(PICTURES, **cards) == "the devices have 1200 classes together, and 1000 are possible"


@pytest.mark.parametrize(
    ("shapes", "size", "shape"),
    [
        (((1, 28, 28), (1, 28, 28)), 0, (1, 28, 28)),
        (((1, 20, 30), (1, 20, 30)), 0, (1, 20, 30)),
        (((1, 28, 28), (3, 32, 40)), 0, (3, 28, 28)),
        (((3, 900, 600), (3, 900, 600)), 0, (3, 128, 128)),
        (((1, 28, 28), (1, 28, 28)), 64, (1, 64, 64)),
    ],
)
def test_pictures_get_one_shape(
    shapes: tuple[tuple[int, ...], ...], size: int, shape: tuple[int, ...]
) -> None:
    task = msgspec.structs.replace(PICTURES, image_size=size)
    found = agreed(task, ada=pictures("a", "b", shape=shapes[0]), ben=pictures("a", "b", shape=shapes[1]))
    assert found.input_shape == shape
    assert bool(found.notes) == (shapes[0] != shapes[1])


def test_what_a_device_notes_is_in_the_agreement_with_its_name_and_not_without_end() -> None:
    cards = {
        name: pictures("a", "b", notes=tuple(f"file {n} cannot be read" for n in range(15)))
        for name in ("ada", "ben")
    }
    notes = agreed(PICTURES, **cards).notes
    assert notes[0] == "ada: file 0 cannot be read"
    assert (len(notes), notes[-1]) == (MAX_NOTES, "and 11 more")


def test_data_for_another_task_are_named_with_the_device() -> None:
    assert refused(PICTURES, ada=pictures("a"), ben=CARD) == (
        "ben has data for the task 'digits', and this run is for 'pictures': start all devices for the same task"
    )


def test_a_device_that_tells_less_is_named() -> None:
    assert refused(PICTURES, ada=pictures("a"), ben=pictures("a", share="none")) == (
        "ben tells 'none' about its data, and this run 'labels': use the same --share on all devices"
    )


def test_a_renamed_metric_is_named_with_both_devices() -> None:
    dice = Measures("dice_loss", ("dice", "loss"), "dice", "max")
    other = Measures("dice_loss", ("f", "loss"), "f", "max")
    assert refused(FILE, ada=own(measures=dice), ben=own(measures=other)) == (
        "ben and ada differ: its metrics: f, loss, in place of dice, loss; use the same task on all devices"
    )


@pytest.mark.parametrize(
    ("measures", "words"),
    [
        (Measures("mse", ("accuracy", "loss"), "accuracy", "max", True), "its loss: mse"),
        (
            Measures("cross-entropy", ("accuracy", "loss"), "loss", "min", True),
            "its primary metric: loss (min)",
        ),
        (Measures("cross-entropy", ("accuracy", "loss"), "accuracy", "max"), "one counts classes"),
    ],
)
def test_each_difference_of_what_is_measured_is_named(measures: Measures, words: str) -> None:
    assert words in refused(FILE, ada=own(), ben=own(measures=measures))


def test_inputs_of_another_shape_are_refused() -> None:
    flaw = refused(FILE, ada=own(input_shape=(3,)), ben=own(input_shape=(4,)))
    assert flaw.startswith("the inputs of ben have the shape 4, and those of ada 3")


def test_another_source_is_a_note() -> None:
    notes = agreed(FILE, ada=own(source="1"), ben=own(source="2")).notes
    assert notes == ("the source of the task on ben differs from that on ada",)


@pytest.mark.parametrize(
    ("late", "flaw"),
    [
        (pictures("cat"), ""),
        (pictures("cat", "fox"), "its data have the class 'fox', which the run does not have"),
        (CARD, "it has data for the task 'digits', and the run is for 'pictures'"),
        (
            pictures("cat", share="counts"),
            "it tells 'counts' about its data, and the run 'labels': use the same --share on all devices",
        ),
        (
            pictures("cat", measures=REGRESSION),
            "its loss: mse, in place of cross-entropy; use the same task on all devices",
        ),
    ],
)
def test_who_comes_later_must_fit(late: DataCard, flaw: str) -> None:
    found = agreed(PICTURES, ada=pictures("cat", "dog"))
    assert misfit(PICTURES, found, late) == flaw


def test_who_comes_later_needs_inputs_of_the_files_shape() -> None:
    found = agreed(FILE, ada=own(input_shape=(3,)))
    assert misfit(FILE, found, own(input_shape=(3,))) == ""
    assert misfit(FILE, found, own()) == "its inputs have the shape no shape, and those of the run 3"


def test_a_private_share_counts_as_its_card_says() -> None:
    assert stated_examples(PICTURES, pictures("a", examples=7), CARD) == 7
    assert stated_examples(PICTURES, None, CARD) == 1
