"""Data cards: what is merged, what is noted, and what is refused with the name of the device."""

from __future__ import annotations

import statistics
from typing import Any

import msgspec
import pytest

from p2pfl.agreement import SAME_COLUMNS, agree, merge_cards, misfit, stated_examples
from p2pfl.cards import (
    CLASSIFICATION,
    MAX_EXAMPLES,
    MAX_NOTES,
    REGRESSION,
    Agreement,
    ColumnCard,
    DataCard,
    LabelCount,
    Measures,
)
from p2pfl.spec import FileTask, PicturesTask, ScriptTask, Share, TableTask, TaskSpec, task_name, with_options
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


@pytest.mark.parametrize("options", [{"personalise": 2}, {"strategy": "ditto"}])
def test_a_run_that_adapts_its_model_agrees_on_the_metrics_of_both_and_devices_fit_it(
    options: dict[str, Any],
) -> None:
    spec = with_options(SPEC, **options)
    agreement, flaw = agree(spec, {"ada": CARD})
    assert agreement is not None, flaw
    assert agreement.measures.metrics == ("accuracy", "loss", "personal_accuracy", "personal_loss")
    assert misfit(spec.task, agreement, CARD) == ""
    assert agree(SPEC, {"ada": CARD}) == merge_cards(SPEC.task, {"ada": CARD})
    assert agree(spec, {"ada": card("x", task="other")}) == (None, "nobody has described the data of digits")


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


def agreed(task: TaskSpec, /, **cards: DataCard) -> Agreement:
    agreement, flaw = merge_cards(task, cards)
    assert flaw == ""
    assert agreement is not None
    assert agreement == merge_cards(task, dict(reversed(cards.items())))[0]
    return agreement


def refused(task: TaskSpec, /, **cards: DataCard) -> str:
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
        "ada has data for the task 'pictures' and ben has data for the task 'digits': start all devices for the "
        "same task"
    )
    assert refused(PICTURES, ben=CARD).endswith(
        "'digits', and this run is for 'pictures': start all devices for the same task"
    )


def test_both_devices_give_the_same_advice_when_they_tell_different_things() -> None:
    cards = {"ada": own(share="counts"), "ben": own(share="none"), "cleo": own()}
    sentences = {refused(FileTask(FILE.name, share=card.share), **cards) for card in cards.values()}
    assert sentences == {
        "the devices do not tell the same about their data ('none' on ben; 'counts' on ada; 'labels' on cleo): "
        "start all of them with --share none"
    }


def test_a_device_that_tells_less_is_named() -> None:
    assert refused(PICTURES, ada=pictures("a"), ben=pictures("a", share="none")) == (
        "the devices do not tell the same about their data ('none' on ben; 'labels' on ada): start all of them "
        "with --share none"
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


def test_a_script_tells_its_examples_with_each_update_unless_it_shares_nothing() -> None:
    assert stated_examples(ScriptTask("train"), own(), CARD) == MAX_EXAMPLES
    assert stated_examples(ScriptTask("train", share="none"), own(), CARD) == 1


# --- tables -----------------------------------------------------------------------------------------------------

TABLE = TableTask("target", "mlp")


def number(name: str, *values: float, missing: int = 0) -> ColumnCard:
    """Return the card of a column of numbers, with the statistics of *values*."""
    mean = statistics.fmean(values) if values else 0.0
    spread = sum((value - mean) ** 2 for value in values)
    return ColumnCard(name, "number", len(values), missing, mean, spread)


def text(name: str, *labels: str, missing: int = 0) -> ColumnCard:
    return ColumnCard(name, "category", 10, missing, categories=tuple(sorted(labels)))


def table(
    *columns: ColumnCard,
    target: ColumnCard | None = None,
    share: Share = "labels",
    notes: tuple[str, ...] = (),
) -> DataCard:
    """Return the card of a table; its target is a class unless another is given."""
    target = target or text("target", "no", "yes")
    labels = tuple(LabelCount(label, 5) for label in target.categories)
    return DataCard("table", 9, labels, share=share, columns=columns, target=target, notes=notes)


def merged(task: TableTask = TABLE, /, **cards: DataCard) -> Agreement:
    return agreed(task, **cards)


def unmerged(task: TableTask = TABLE, /, **cards: DataCard) -> str:
    return refused(task, **cards)


def test_table_statistics_are_those_of_all_rows_together_even_far_from_zero() -> None:
    parts = [[1e9 + value for value in part] for part in ([1.0, 2.5], [4.0], [7.0, -3.0, 0.25])]
    agreement = merged(**{f"n{i}": table(number("x", *part)) for i, part in enumerate(parts)})
    rows = [value for part in parts for value in part]
    [column] = agreement.columns
    assert column.mean == pytest.approx(statistics.fmean(rows), rel=1e-15)
    assert column.deviation == pytest.approx(statistics.pstdev(rows), rel=1e-8)
    assert not column.is_gappy


def test_table_numbers_that_a_peer_made_up_do_not_break_the_merge() -> None:
    wild = ColumnCard("x", "number", 5, 0, 1e300, 1e300)
    agreement = merged(ada=table(number("x", 1.0, 2.0)), ben=table(wild), cleo=table(number("x", -1e300)))
    assert agreement.columns[0].deviation == 1.0


def test_table_columns_stand_in_the_order_of_the_first_device_and_merge_by_name() -> None:
    agreement = merged(
        ada=table(number("b", 1.0), text("a", "x", missing=1)), ben=table(text("a", "y"), number("b", 3.0))
    )
    assert [(one.name, one.is_gappy) for one in agreement.columns] == [("b", False), ("a", True)]
    assert agreement.columns[0].mean == 2.0
    assert agreement.columns[1].categories == ("x", "y")


def test_table_column_without_any_value_on_one_device_is_what_the_others_have() -> None:
    empty = ColumnCard("city", "number", 0, 12)
    [column] = merged(ada=table(empty), ben=table(text("city", "Bern"))).columns
    assert (column.kind, column.categories, column.is_gappy) == ("category", ("Bern",), True)


def test_table_categories_that_most_devices_have_are_kept() -> None:
    own = [f"a{index:03}" for index in range(100)]
    agreement = merged(
        ada=table(text("c", *own)),
        ben=table(text("c", *own[50:], *(f"z{index}" for index in range(50)))),
        cleo=table(text("c", "z1")),
    )
    [column] = agreement.columns
    assert set(own[50:]) | {"z1"} <= set(column.categories)
    assert len(column.categories) == 100
    assert "the column 'c' has 150 categories on all devices together" in agreement.notes[0]


@pytest.mark.parametrize("labels", [("nan", "2", "10"), ("10", "x", "2")])
def test_table_categories_that_have_no_order_as_numbers_are_sorted_as_text(labels: tuple[str, ...]) -> None:
    assert merged(ada=table(text("c", *labels))).columns[0].categories == tuple(sorted(labels))


def test_table_classes_are_those_of_all_devices_by_value_and_a_lack_is_noted() -> None:
    agreement = merged(
        ada=table(target=text("target", "2", "10")), ben=table(target=text("target", "9", "10"))
    )
    assert agreement.classes == ("2", "9", "10")
    assert agreement.measures == CLASSIFICATION
    assert agreement.notes == ("only ada has the class '2'", "only ben has the class '9'")


def whole(*values: int, labels: bool = True) -> ColumnCard:
    """Return the card of a target of whole numbers."""
    card = number("target", *map(float, values))
    names = tuple(str(value) for value in sorted(set(values)))
    return msgspec.structs.replace(card, categories=names if labels else ())


def test_table_target_of_few_whole_numbers_is_a_class_on_all_devices_or_on_none() -> None:
    few, many = whole(0, 1), whole(*range(40), labels=False)
    assert merged(ada=table(target=few), ben=table(target=whole(1, 2))).classes == ("0", "1", "2")
    agreement = merged(ada=table(target=few), ben=table(target=many))
    assert agreement.measures == REGRESSION
    assert agreement.target is not None
    assert agreement.target.mean == pytest.approx((0 + 1 + sum(range(40))) / 42)
    as_number = TableTask("target", "mlp", "number")
    assert merged(as_number, ada=table(target=few)).classes == ()
    as_class = TableTask("target", "mlp", "class")
    assert "too many different values on ben" in unmerged(
        as_class, ada=table(target=few), ben=table(target=many)
    )


def test_table_target_of_few_numbers_each_but_many_together_is_a_number() -> None:
    cards = {"ada": table(target=whole(*range(15))), "ben": table(target=whole(*range(10, 25)))}
    assert merged(**cards).measures == REGRESSION
    assert len(merged(TableTask("target", "mlp", "class"), **cards).classes) == 25


def test_table_target_of_text_and_of_numbers_go_together_only_as_classes() -> None:
    cards = {"ada": table(target=whole(0, 1)), "ben": table(target=text("target", "1", "unsure"))}
    assert unmerged(**cards) == "the target 'target' holds numbers on ada and text on ben"
    assert merged(TableTask("target", "mlp", "class"), **cards).classes == ("0", "1", "unsure")
    assert "holds text on ben" in unmerged(TableTask("target", "mlp", "number"), ben=cards["ben"])


def test_table_target_of_one_class_only_is_refused() -> None:
    one = table(target=text("target", "yes"))
    assert unmerged(ada=one, ben=one) == "the target 'target' has the class 'yes' only, on all devices"


@pytest.mark.parametrize(
    ("other", "flaw"),
    [
        (table(number("x", 1.0)), f"the table of ben lacks the column 'y', which ada has: {SAME_COLUMNS}"),
        (
            table(number("x", 1.0), text("y", "a"), number("z", 1.0)),
            f"the table of ben has the column 'z', which ada lacks: {SAME_COLUMNS}",
        ),
        (
            table(number("x", 1.0), number("y", 2.0)),
            "the column 'y' holds numbers on ben and text on ada: look for cells on ada that are no numbers",
        ),
        (
            table(number("x", 1.0), number("x", 2.0), text("y", "a")),
            "the data of ben cannot be used: its table has two columns of the same name",
        ),
        (
            DataCard("table", 9, ()),
            "the data of ben cannot be used: it predicts no column, and the run 'target': use the same --target "
            "on all devices",
        ),
        (
            table(number("x", 1.0), text("y", "a"), share="counts"),
            "the devices do not tell the same about their data ('counts' on ben; 'labels' on ada): start all of "
            "them with --share counts",
        ),
    ],
)
def test_table_that_differs_is_refused_with_the_device(other: DataCard, flaw: str) -> None:
    assert unmerged(ada=table(number("x", 1.0), text("y", "a")), ben=other) == flaw


@pytest.mark.parametrize(
    ("factor", "named"), [(1.0, None), (40.0, None), (100.0, "ben"), (-1000.0, "ben"), (0.01, "ben")]
)
def test_table_column_in_another_unit_on_one_of_three_devices_is_noted(
    factor: float, named: str | None
) -> None:
    values = [1.6, 1.8, 1.7]
    agreement = merged(
        ada=table(number("x", *values)),
        ben=table(number("x", *(factor * value for value in values))),
        cleo=table(number("x", *values)),
    )
    assert len(agreement.notes) == (named is not None)
    assert all(f"on {named} and " in note and "is it in another unit?" in note for note in agreement.notes)


def test_table_columns_whose_mean_is_near_zero_are_not_taken_for_other_units() -> None:
    agreement = merged(ada=table(number("x", -1.0, 1.001)), ben=table(number("x", -1.0, 2.0)))
    assert agreement.notes == ()


def test_table_notes_of_devices_come_with_their_names() -> None:
    agreement = merged(ada=table(notes=("the column 'x' is constant",)), ben=table())
    assert agreement.notes == ("ada: the column 'x' is constant",)


def test_table_of_a_late_joiner_has_to_fit() -> None:
    agreement = merged(ada=table(number("x", 1.0, 2.0), text("y", "a")))
    empty = ColumnCard("y", "number", 0, 9)
    assert misfit(TABLE, agreement, table(text("y", "new"), number("x", 5.0))) == ""
    assert misfit(TABLE, agreement, table(empty, number("x", 5.0))) == ""
    for other, flaw in [
        (table(number("x", 1.0)), "its table lacks the column 'y' of the run"),
        (
            table(number("x", 1.0), text("y", "a"), text("z", "a")),
            "its table has the column 'z', which the run does not have",
        ),
        (table(text("x", "a"), text("y", "a")), "its column 'x' holds text, and in the run numbers"),
        (
            table(number("x", 1.0), text("y", "a"), target=text("target", "perhaps")),
            "its target has the class 'perhaps', which the run does not have",
        ),
        (
            table(number("x", 1.0), text("y", "a"), target=whole(*range(40), labels=False)),
            "its target has too many different values, which the run does not have",
        ),
        (
            DataCard("table", 9, ()),
            "it predicts no column, and the run 'target': use the same --target on all devices",
        ),
    ]:
        assert misfit(TABLE, agreement, other) == flaw
    regression = merged(ada=table(target=number("target", 0.5, 1.5)))
    assert misfit(TABLE, regression, table()) == "its target 'target' holds text"
    assert misfit(TABLE, regression, table(target=whole(0, 1))) == ""


def test_another_source_of_the_strategy_is_a_note_for_every_kind_of_task() -> None:
    cards = {
        "ada": own(strategy_source="1"),
        "ben": own(strategy_source="2"),
        "cleo": own(strategy_source="1"),
        "dora": own(),  # started with another strategy, or without
    }
    assert agreed(FILE, **cards).notes == ("the source of the strategy on ben differs from that on ada",)
    assert agreed(FILE, ada=own(strategy_source="1"), ben=own(strategy_source="1")).notes == ()
