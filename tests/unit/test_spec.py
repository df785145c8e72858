"""What a run trains: options, bounds, tags of other versions, metrics, schemas, cards and their agreement."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl.agreement import merge_cards, misfit, stated_examples
from p2pfl.cards import MAX_EXAMPLES, Agreement, DataCard, LabelCount
from p2pfl.messages import Genesis, Offer
from p2pfl.schema import file_bytes
from p2pfl.spec import (
    Primary,
    RunSpec,
    blob_schema,
    from_options,
    metric_names,
    primary_metric,
    record_roles,
    task_name,
    to_options,
    unknown_tag,
    update_roles,
    with_options,
)
from tests.support.records import AGREEMENT, CARD, SCHEMA, SPEC, genesis


def card(*labels: str, task: str = "digits", examples: int = 100) -> DataCard:
    return DataCard(task, examples, tuple(LabelCount(label, 1) for label in labels))


def decode(
    fields: dict[str, Any] | dict[str, dict[str, Any] | str] | dict[str, str],
    kind: type[Genesis] | type[Offer] | type[RunSpec],
) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=kind)


# --- options ----------------------------------------------------------------------------------------------------


def test_a_spec_and_its_options_are_two_forms_of_the_same() -> None:
    assert from_options(**to_options(SPEC)) == SPEC


def test_an_option_is_changed_wherever_it_stands() -> None:
    changed = with_options(SPEC, epochs=7, sample=2, partitions=9, rounds=3)
    assert (changed.training.epochs, changed.participation.sample) == (7, 2)
    assert (changed.task.partitions, changed.rounds) == (9, 3)
    assert with_options(changed, **to_options(SPEC)) == SPEC


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rounds", 0),
        ("learning_rate", 0.0),
        ("momentum", 1.0),
        ("round_cap", 0),
        ("partitions", 0),
        ("batch_size", "many"),
        ("sample", -1),
    ],
)
def test_an_option_out_of_bounds_is_refused_by_its_name(name: str, value: float | int | str) -> None:
    with pytest.raises(msgspec.ValidationError, match=rf"\.{name}`"):
        with_options(SPEC, **{name: value})


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="speed"):
        with_options(SPEC, speed=9)


# --- tags of other versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["task", "strategy", "encoding", "privacy"])
def test_an_unknown_tag_is_named_wherever_the_spec_stands(what: str) -> None:
    spec = msgspec.to_builtins(SPEC) | {what: {"type": "newer", "more": 1}}
    record_0 = msgspec.to_builtins(genesis()) | {"spec": spec}
    for fields, kind in ((record_0, Genesis), ({"type": "offer", "genesis": record_0}, Offer)):
        with pytest.raises(msgspec.ValidationError) as caught:
            decode(fields, kind)
        assert unknown_tag(caught.value) == f"{what} 'newer'"


def test_a_hostile_tag_is_cut_and_printable() -> None:
    spec = msgspec.to_builtins(SPEC) | {"strategy": {"type": "x" * 10**4}}
    with pytest.raises(msgspec.ValidationError) as caught:
        decode(msgspec.to_builtins(genesis()) | {"spec": spec}, Genesis)
    assert len(unknown_tag(caught.value)) < 60
    spec["strategy"] = {"type": "\x1b[2J\n"}
    with pytest.raises(msgspec.ValidationError) as caught:
        decode(msgspec.to_builtins(genesis()) | {"spec": spec}, Genesis)
    assert unknown_tag(caught.value) == "strategy '?'"


def test_other_errors_are_no_difference_of_versions() -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        decode({"type": "gossip"}, Offer)
    assert unknown_tag(caught.value) == ""
    with pytest.raises(msgspec.ValidationError) as caught:
        decode(msgspec.to_builtins(SPEC) | {"strategy": {"type": "fedavg", "more": 1}}, RunSpec)
    assert unknown_tag(caught.value) == ""


# --- metrics ----------------------------------------------------------------------------------------------------


def test_a_classification_measures_accuracy_and_loss_and_is_judged_by_the_first() -> None:
    assert metric_names(SPEC) == tuple(sorted(metric_names(SPEC))) == ("accuracy", "loss")
    assert primary_metric(SPEC) == Primary("accuracy", "max")


def test_the_direction_says_what_is_better() -> None:
    assert Primary("accuracy", "max").is_better(0.9, than=0.8)
    assert Primary("loss", "min").is_better(0.8, than=0.9)
    assert not Primary("loss", "min").is_better(0.8, than=0.8)


# --- blobs ------------------------------------------------------------------------------------------------------


def test_a_plain_update_has_the_schema_of_the_model() -> None:
    assert blob_schema(SCHEMA, SPEC, "model") == blob_schema(SCHEMA, SPEC, "update") == SCHEMA
    assert file_bytes(blob_schema(SCHEMA, SPEC, "update")) == file_bytes(SCHEMA)


@pytest.mark.parametrize("role", ["state", "control"])
def test_a_role_that_a_strategy_does_not_have_has_no_schema(role: Any) -> None:
    assert role not in (*record_roles(SPEC), *update_roles(SPEC))
    with pytest.raises(ValueError, match=role):
        blob_schema(SCHEMA, SPEC, role)


# --- data -------------------------------------------------------------------------------------------------------


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
    assert misfit(Agreement(("a", "b", "c"), 100), card(*labels)) == flaw


def test_many_missing_classes_are_not_all_listed() -> None:
    flaw = misfit(Agreement(tuple(f"class {n}" for n in range(1000)), 100), card("x"))
    assert flaw.endswith("'class 4' and 995 more of the run")


def test_a_device_states_what_its_card_of_the_task_says_else_what_every_copy_of_the_data_has() -> None:
    mine = card("0", examples=70)
    assert stated_examples(SPEC.task, mine, CARD) == 70
    assert stated_examples(SPEC.task, card("cat", task="cifar10"), CARD) == CARD.examples
    assert stated_examples(SPEC.task, None, CARD) == CARD.examples
    assert task_name(SPEC.task) == CARD.task
