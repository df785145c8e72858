"""What a record may hold is judged by its run's spec and roster alone, and the flaw is named."""

from __future__ import annotations

import msgspec
import pytest

from p2pfl.core.content import (
    count_flaw,
    kept_flaw,
    kind_flaw,
    metrics_flaw,
    record_flaw,
    roles_flaw,
    shortage,
)
from p2pfl.messages import ClassCount, Evaluation, MemberEvaluation, Origin, Record, RecordBlobs, UpdateBlobs
from tests.support.records import (
    AGREEMENT,
    CARD,
    MEDIAN,
    NAMES,
    SPEC,
    STATEFUL,
    Chain,
    digest,
    evaluation,
    evaluations,
    genesis,
    journal,
    node,
    roster,
    update,
)


@pytest.fixture
def record() -> Record:
    return Chain().commit().record


def test_a_record_and_a_genesis_that_name_a_model_alone_have_no_flaw(record: Record) -> None:
    assert roles_flaw(record, SPEC) == roles_flaw(genesis(), SPEC) == ""


def test_a_blob_too_many_is_named(record: Record) -> None:
    stray = msgspec.structs.replace(record, blobs=RecordBlobs(record.model, state=digest("state")))
    assert roles_flaw(stray, SPEC) == "it names the blobs model, state, not model"
    blobs = UpdateBlobs(digest("update"), control=digest("control"))
    updates = (record.updates[0], msgspec.structs.replace(record.updates[1], blobs=blobs))
    flaw = roles_flaw(msgspec.structs.replace(record, updates=updates), SPEC)
    assert flaw == "an update in it names the blobs update, control, not update"


def test_sums_of_other_metrics_are_named() -> None:
    assert metrics_flaw(evaluation(8, 10, 2.0), AGREEMENT) == ""
    flaw = metrics_flaw(Evaluation(10, {"dice": 8.0}), AGREEMENT)
    assert flaw == "an evaluation has the metrics dice, not accuracy, loss"


def test_counts_of_other_classes_are_named() -> None:
    whole = evaluation(8, 10, 2.0)
    flaw = metrics_flaw(msgspec.structs.replace(whole, classes=whole.classes[:3]), AGREEMENT)
    assert flaw == "an evaluation counts 3 classes, not 10"


def test_more_right_examples_than_a_class_has_or_was_predicted_for_are_refused() -> None:
    whole = evaluation(8, 10, 2.0)
    for count in (ClassCount(2**53, 1, 2**53), ClassCount(8, 10, 7)):
        flaw = metrics_flaw(msgspec.structs.replace(whole, classes=(count, *whole.classes[1:])), AGREEMENT)
        assert flaw == (
            f"an evaluation counts {count.right} right examples of a class that has {count.examples} and was "
            f"predicted for {count.predicted}"
        )


def test_an_update_counts_no_more_examples_than_its_members_card_stated() -> None:
    entry = roster("ada")[0]
    assert count_flaw(update("ada", 1, CARD.examples), entry) == ""
    flaw = count_flaw(update("ada", 1, CARD.examples + 1), entry)
    assert flaw == "it claims 1001 samples, and its data card stated 1000"


def test_an_update_of_somebody_else_counts_nothing() -> None:
    entry = roster("ada")[0]
    assert count_flaw(update("ada", 1), None) == "it is not from a member of the roster"
    renewed = msgspec.structs.replace(entry, journal=journal("a new disk"))
    assert count_flaw(update("ada", 1), renewed) == "it is not from a member of the roster"


def test_a_record_of_the_runs_roles_metrics_and_counts_has_no_flaw() -> None:
    record = Chain().commit(evaluated=evaluations((5, 10), (6, 10))).record
    assert record_flaw(record, genesis(), roster(*NAMES)) == ""


def test_the_first_flaw_of_a_record_is_named(record: Record) -> None:
    dice = (MemberEvaluation(node("ben"), Evaluation(9, {"dice": 4.0})),)
    flawed = msgspec.structs.replace(record, evaluations=dice, updates=(update("ben", 1, 1001),))
    assert "metrics dice" in record_flaw(flawed, genesis(), roster("ben"))
    flawed = msgspec.structs.replace(flawed, evaluations=())
    flaw = "an update of ben in it does not count: it claims 1001 samples, and its data card stated 1000"
    assert record_flaw(flawed, genesis(), roster("ben")) == flaw
    flaw = f"an update of {node('ben')[:7]} in it does not count: it is not from a member of the roster"
    assert record_flaw(flawed, genesis(), roster("ada")) == flaw
    state = RecordBlobs(record.model, state=digest("state"))
    flawed = msgspec.structs.replace(flawed, blobs=state)
    assert record_flaw(flawed, genesis(), roster("ben")) == "it names the blobs model, state, not model"


def test_a_record_trains_unless_the_run_ends_early(record: Record) -> None:
    parent = genesis().model
    assert kind_flaw(record, parent, 0, stops=False, why="") == ""
    flaw = kind_flaw(record, parent, 0, stops=True, why="accuracy 0.9600 reached 0.95")
    assert flaw == "it goes on with the training, although accuracy 0.9600 reached 0.95"


def test_a_record_closes_the_run_only_after_its_last_round_or_for_a_reason(record: Record) -> None:
    parent = genesis().model
    changes = {"kind": "evaluate", "then": "end", "updates": (), "blobs": RecordBlobs(parent)}
    closing = msgspec.structs.replace(record, **changes)
    assert kind_flaw(closing, parent, SPEC.rounds, stops=False, why="") == ""
    assert kind_flaw(closing, parent, 1, stops=True, why="accuracy 0.9600 reached 0.95") == ""
    flaw = kind_flaw(closing, parent, SPEC.rounds - 1, stops=False, why="")
    assert flaw == "it ends the run early, and its evaluations are no reason to"


@pytest.mark.parametrize("field", ["then", "updates", "blobs"])
def test_a_record_that_closes_the_run_ends_it_with_the_parents_model(record: Record, field: str) -> None:
    parent = genesis().model
    changes = {"then": "end", "updates": (), "blobs": RecordBlobs(parent)}
    closing = msgspec.structs.replace(
        record, kind="evaluate", **{k: v for k, v in changes.items() if k != field}
    )
    flaw = kind_flaw(closing, parent, SPEC.rounds, stops=False, why="")
    assert flaw == "it closes the run, but does not end it with the parent's model"


# --- strategies with a state ------------------------------------------------------------------------------------


def test_a_record_with_updates_names_a_state_and_one_before_the_first_aggregation_need_not() -> None:
    chain = Chain(msgspec.structs.replace(genesis(), spec=STATEFUL))
    record = chain.commit().record
    assert roles_flaw(record, STATEFUL) == ""
    without = msgspec.structs.replace(record, blobs=RecordBlobs(record.model))
    assert roles_flaw(without, STATEFUL) == "it names the blobs model, not model, state"
    assert roles_flaw(msgspec.structs.replace(without, updates=()), STATEFUL) == ""
    bare = msgspec.structs.replace(record, updates=(update("ada", 1),))
    assert roles_flaw(bare, STATEFUL) == "an update in it names the blobs update, not update, control"


def test_record_0_names_a_state_only_where_it_continues_another_run() -> None:
    fresh = msgspec.structs.replace(genesis(), spec=STATEFUL)
    stray = msgspec.structs.replace(fresh, blobs=RecordBlobs(fresh.model, digest("state")))
    assert roles_flaw(fresh, STATEFUL) == ""
    assert roles_flaw(stray, STATEFUL) == "it names a state, and nothing was aggregated before it"
    origin = Origin(digest("run"), 4, digest("record"), 4)
    assert roles_flaw(msgspec.structs.replace(stray, continues=(origin,)), STATEFUL) == ""


def test_only_updates_change_the_model_or_the_state(record: Record) -> None:
    parent = RecordBlobs(digest("parent"), digest("state"))
    assert kept_flaw(record, parent) == ""
    empty = msgspec.structs.replace(record, updates=())
    assert kept_flaw(msgspec.structs.replace(empty, blobs=parent), parent) == ""
    for blobs in (
        RecordBlobs(digest("parent")),
        RecordBlobs(digest("parent"), digest("other")),
        record.blobs,
    ):
        flaw = kept_flaw(msgspec.structs.replace(empty, blobs=blobs), parent)
        assert flaw == "it counts no update, and does not repeat the blobs of the record before it"


def test_a_record_counts_as_many_updates_as_its_strategy_needs_or_none() -> None:
    assert shortage(3, MEDIAN) == shortage(1, SPEC) == ""
    assert shortage(2, MEDIAN) == "median needs 3 updates, and 2 came"
    chain = Chain(msgspec.structs.replace(genesis(), spec=MEDIAN))
    record, entries = chain.commit().record, chain.genesis.roster
    assert record_flaw(record, chain.genesis, entries) == ""
    fewer = msgspec.structs.replace(record, updates=record.updates[:2])
    flaw = record_flaw(fewer, chain.genesis, entries)
    assert flaw == "it counts too few updates: median needs 3 updates, and 2 came"
    assert record_flaw(msgspec.structs.replace(record, updates=()), chain.genesis, entries) == ""
