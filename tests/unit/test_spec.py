"""What a run trains: options, bounds, tags of other versions, schemas."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl.messages import Genesis, Offer
from p2pfl.schema import file_bytes
from p2pfl.spec import (
    RunSpec,
    blob_schema,
    describe_run,
    describe_task,
    evaluation_parts,
    from_options,
    partitions_of,
    personal_flaw,
    record_roles,
    shown_options,
    to_options,
    unknown_tag,
    update_roles,
    with_options,
)
from p2pfl.strategy_specs import DittoSpec
from tests.support.records import SCHEMA, SPEC, genesis

RUN_OPTIONS = frozenset(
    [
        "rounds",
        "seed",
        "epochs",
        "batch_size",
        "learning_rate",
        "momentum",
        "weight_decay",
        "sample",
        "min_updates",
        "round_cap",
        "drop_after",
    ]
)
"""The options that a run of any task has."""


def decode(
    fields: dict[str, Any] | dict[str, dict[str, Any] | str] | dict[str, str],
    kind: type[Genesis] | type[Offer] | type[RunSpec],
) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=kind)


# --- options ----------------------------------------------------------------------------------------------------


def test_a_spec_and_its_options_are_two_forms_of_the_same() -> None:
    assert from_options(**to_options(SPEC)) == SPEC


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "pictures", "model": "lenet", "image_size": 32, "augment": True, "share": "counts"},
        {"kind": "table", "target": "age", "model": "mlp", "target_kind": "number", "holdout": 0.2},
        {"kind": "file", "task": "mine", "optimizer": "adamw", "schedule": "cosine", "steps": 7, "clip": 1.0},
        {"kind": "script", "task": "train", "patience": 5, "until": {"metric": "dice", "value": 0.9}},
    ],
    ids=lambda options: str(options["kind"]),
)
def test_private_data_have_options_of_their_own(options: dict[str, Any]) -> None:
    given = {name: value for name, value in to_options(SPEC).items() if name in RUN_OPTIONS}
    spec = from_options(**given, **options)
    assert from_options(**to_options(spec)) == spec
    found = to_options(spec)
    assert {name: msgspec.to_builtins(found[name]) for name in options} == options
    assert describe_task(spec.task) != describe_task(SPEC.task)
    assert (partitions_of(spec.task), evaluation_parts(spec.task, 3)) == (1, 1)


def test_an_option_is_changed_wherever_it_stands() -> None:
    changed = with_options(SPEC, epochs=7, sample=2, partitions=9, rounds=3)
    assert (changed.training.epochs, changed.participation.sample) == (7, 2)
    assert (partitions_of(changed.task), changed.rounds) == (9, 3)
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


# --- blobs ------------------------------------------------------------------------------------------------------


def test_a_plain_update_has_the_schema_of_the_model() -> None:
    assert blob_schema(SCHEMA, SPEC, "model") == blob_schema(SCHEMA, SPEC, "update") == SCHEMA
    assert file_bytes(blob_schema(SCHEMA, SPEC, "update")) == file_bytes(SCHEMA)


@pytest.mark.parametrize("role", ["state", "control"])
def test_a_role_that_a_strategy_does_not_have_has_no_schema(role: Any) -> None:
    assert role not in (*record_roles(SPEC), *update_roles(SPEC))
    with pytest.raises(ValueError, match=role):
        blob_schema(SCHEMA, SPEC, role)


def test_the_second_model_of_a_script_is_refused() -> None:
    spec = from_options(
        kind="script",
        task="mine",
        **{name: value for name, value in to_options(SPEC).items() if name in RUN_OPTIONS},
    )
    assert personal_flaw(spec) == ""
    flawed = msgspec.structs.replace(spec, strategy=DittoSpec())
    assert personal_flaw(flawed).startswith("--personalise and --strategy ditto train a second model")


def test_a_run_is_told_with_its_strategy_unless_that_is_fedavg() -> None:
    assert describe_run(SPEC) == describe_task(SPEC.task)
    changed = with_options(SPEC, strategy="fedadam", strategy_arg={"server_lr": 0.05, "beta1": 0.9})
    assert describe_run(changed) == f"{describe_task(SPEC.task)}, strategy fedadam (server_lr 0.05)"
    own = {"name": "mine.py:Cautious", "least": 3, "options": {"a": 2, "b": 1e-7}}
    told = shown_options(with_options(SPEC, strategy="own", strategy_arg=own))
    assert told["strategy"] == "mine.py:Cautious (a 2, b 1e-07)"
    assert "strategy_arg" not in told


def test_a_strategy_of_the_users_own_survives_its_form_as_options() -> None:
    own = {"name": "mine.py:Cautious", "least": 3, "slots": ("a", "b"), "options": {"c": 1.5}}
    spec = with_options(SPEC, strategy="own", strategy_arg=own)
    assert with_options(spec, rounds=spec.rounds) == spec
    assert record_roles(spec) == ("model", "state")
