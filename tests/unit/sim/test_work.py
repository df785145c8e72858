"""The work checker must find an update that is lost, counted twice, or counted in the wrong round."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl import events
from p2pfl.core.effects import SaveCommit, SaveGenesis, SaveUpdate, Train
from p2pfl.core.roster import selection
from p2pfl.events import AnyEvent, TrainingFinished
from p2pfl.messages import Collect, LeftOut, Origin, Record, RecordBlobs, UpdateEntry, record_digest
from p2pfl.sim.device import aggregate_of
from p2pfl.sim.disk import Disk
from p2pfl.sim.violation import Violation
from p2pfl.sim.work import WorkChecker
from p2pfl.spec import MetricTarget, RunSpec, with_options
from tests.support.core import ballot, chain_of, member, model, training
from tests.support.records import (
    CARD,
    MEDIAN,
    NAMES,
    SPEC,
    STATEFUL,
    controlled,
    evaluations,
    node,
    result_with,
    update,
)

MINE = update("ada", 1)


class Court:
    def __init__(self, spec: RunSpec = SPEC) -> None:
        self.chain = chain_of(*NAMES[:3], spec=spec)
        self.run, self.genesis = self.chain.run, self.chain.genesis
        self.work = WorkChecker()
        self.work.founded(SaveGenesis(self.run, self.genesis))
        self.disk = Disk(member("ada"))
        self.disk.save(SaveGenesis(self.run, self.genesis))

    def trained(self, *updates: UpdateEntry, round_: int = 1, parent: str | None = None) -> None:
        for entry in updates:
            blobs = RecordBlobs(parent or self.genesis.model)
            self.work.updates[entry.digest] = (self.run, round_, blobs)

    def record(self, *updates: UpdateEntry, **changes: RecordBlobs | tuple[LeftOut, ...]) -> Record:
        """A record that aggregates *updates*."""
        record = self.chain.commit().record
        self.chain.commits.pop()
        parent = self.genesis.blobs
        blobs = aggregate_of(self.genesis.spec, parent, updates) if updates else parent
        return msgspec.structs.replace(record, **{"updates": updates, "blobs": blobs, **changes})

    def accept(self, record: Record) -> None:
        """Accept *record*, with all members that do not count left out, unless it says otherwise."""
        if not record.left_out:
            record = msgspec.structs.replace(record, left_out=self.others(record))
        self.work.accepted(record, record_digest(record))

    def others(self, record: Record) -> tuple[LeftOut, ...]:
        counted = {update.node for update in record.updates}
        return tuple(LeftOut(one.node, "late") for one in self.genesis.roster if one.node not in counted)

    def commit(self, record: Record) -> None:
        commit = msgspec.structs.replace(self.chain.commit(), record=record)
        self.work.committed(self.disk, SaveCommit(self.run, commit, 1.0))

    def tell(self, event: AnyEvent) -> None:
        self.work.told(self.disk, "ada", event)


@pytest.fixture
def court() -> Court:
    return Court()


def objection(kind: str, match: str) -> Any:
    return pytest.raises(Violation, match=f"^{kind}: .*{match}")


def test_the_aggregate_of_what_was_trained_for_the_round_is_fine(court: Court) -> None:
    both = sorted((MINE, update("ben", 1)), key=lambda entry: entry.node)
    court.trained(*both)
    court.accept(court.record(*both))


def test_a_late_update_counted_in_the_next_round_is_a_violation(court: Court) -> None:
    court.trained(MINE, round_=0)
    with objection("update", "of round 0 from .* counted in round 1"):
        court.accept(court.record(MINE))


def test_an_update_from_another_parent_is_a_violation(court: Court) -> None:
    court.trained(MINE, parent=model("another"))
    with objection("update", "counted in round 1"):
        court.accept(court.record(MINE))


def test_an_update_nobody_trained_is_a_violation(court: Court) -> None:
    with objection("update", "nobody trained"):
        court.accept(court.record(MINE))


def test_an_update_counted_twice_is_a_violation(court: Court) -> None:
    court.trained(MINE)
    with objection("update", "counted twice"):
        court.accept(court.record(MINE, MINE))


def test_a_model_that_is_not_the_aggregate_of_its_manifest_is_a_violation(court: Court) -> None:
    court.trained(MINE)
    with objection("update", "is not the aggregate of the updates"):
        court.accept(court.record(MINE, blobs=RecordBlobs(model("something else"))))


def test_updates_in_another_order_than_that_of_the_node_ids_are_a_violation(court: Court) -> None:
    first, second = sorted((MINE, update("ben", 1)), key=lambda entry: entry.node)
    court.trained(first, second)
    with objection("update", "not in the order of node ids"):
        court.accept(court.record(second, first))


def test_training_twice_for_one_parent_is_work_lost(court: Court) -> None:
    train = Train(training(court.chain, 1, court.genesis.model))
    court.work.begun(court.disk, train)
    court.disk.save(SaveUpdate(court.run, 1, court.run, MINE))
    court.work.begun(court.disk, train)  # a power cut took the bytes: not its fault
    court.disk.unflushed.add(MINE.digest)
    with objection("work", "trains twice in round 1"):
        court.work.begun(court.disk, train)


def trained_event() -> TrainingFinished:
    return events.TrainingFinished(1, MINE.digest, 10, 7, 0.5, 1.0)


def test_an_update_that_is_counted_is_no_lost_work(court: Court) -> None:
    court.trained(MINE)
    court.tell(trained_event())
    court.commit(court.record(MINE))


def test_an_update_nobody_speaks_of_is_lost_work(court: Court) -> None:
    court.trained(MINE)
    court.tell(trained_event())
    with objection("work", "and nobody says why"):
        court.commit(court.record())


def test_an_update_brought_back_by_a_restart_is_owed_an_answer_too(court: Court) -> None:
    court.trained(MINE)
    court.tell(events.UpdateReused(1, MINE.digest))
    with objection("work", "and nobody says why"):
        court.commit(court.record())


def test_a_reason_in_the_record_is_an_answer(court: Court) -> None:
    court.trained(MINE)
    court.tell(trained_event())
    court.commit(court.record(left_out=(LeftOut(node("ada"), "its update came too late"),)))


def test_a_refusal_told_to_the_member_itself_is_an_answer_and_one_of_another_is_not(court: Court) -> None:
    court.trained(MINE)
    court.tell(trained_event())
    court.tell(events.UpdateRefused(1, "ben", "it claims too many samples"))
    with objection("work", "and nobody says why"):
        court.commit(court.record())
    court.tell(trained_event())
    court.tell(events.UpdateRefused(1, "ada", "another record was adopted"))
    court.commit(court.record())


def test_a_process_that_ended_is_owed_nothing(court: Court) -> None:
    court.trained(MINE)
    court.tell(trained_event())
    court.work.stopped(member("ada"))
    court.commit(court.record())


# --- who trains ---------------------------------------------------------------------------------------------


def sampling_court() -> tuple[Court, UpdateEntry, UpdateEntry]:
    """A court of a run in which one member is selected; its update, and one of another member."""
    court = Court(with_options(SPEC, sample=1))
    (first,) = selection(court.run, 1, court.genesis.roster, court.genesis.spec)
    mine, other = sorted((update(name, 1) for name in NAMES[:2]), key=lambda one: one.node != first)
    assert mine.node == first, "the test needs another sample"
    court.trained(mine, other)
    return court, mine, other


def test_an_update_of_a_member_that_was_not_selected_is_a_violation_unless_it_was_asked() -> None:
    court, mine, other = sampling_court()
    court.accept(court.record(mine))
    both = court.record(*sorted((mine, other), key=lambda one: one.node))
    with objection("update", "1 updates in round 1 are of members nobody selected"):
        court.accept(both)
    asks = Collect(court.run, 1, ballot(1, "cleo"), selected=False)
    court.work.collects(node("cleo"), other.node, asks)
    with objection("update", "nobody selected"):
        court.accept(both)
    court.work.collects(node("cleo"), other.node, msgspec.structs.replace(asks, selected=True))
    court.accept(both)


def test_an_aggregator_may_ask_itself() -> None:
    court, _, other = sampling_court()
    court.work.collects(other.node, node("cleo"), Collect(court.run, 1, ballot(1, "ada"), selected=False))
    court.accept(court.record(other))


def test_a_selected_member_of_which_the_record_says_nothing_is_a_violation() -> None:
    court, _, other = sampling_court()
    court.work.collects(other.node, node("cleo"), Collect(court.run, 1, ballot(1, "ada"), selected=False))
    with objection("update", "does not say what became"):
        court.accept(court.record(other, left_out=(LeftOut(other.node, "late"),)))


# --- stopping early ---------------------------------------------------------------------------------------------


def judged(*accuracies: int, kind: str = "train", spec: RunSpec) -> WorkChecker:
    """A judge that saw a round, then one record for each of *accuracies* in per cent; the last is of *kind*."""
    chain, work = chain_of(*NAMES[:3], spec=spec), WorkChecker()
    work.founded(SaveGenesis(chain.run, chain.genesis))
    for place, accuracy in enumerate((0, *accuracies)):
        is_last = place == len(accuracies)
        measured = evaluations(*((accuracy, 100),) * 3) if place else ()
        record = chain.commit(kind=kind if is_last else "train", evaluated=measured).record
        left_out = tuple(LeftOut(one.node, "late") for one in record.roster)
        record = msgspec.structs.replace(record, updates=(), left_out=left_out, blobs=chain.genesis.blobs)
        work.accepted(record, record_digest(chain.commits[-1].record))
    return work


RULE = with_options(SPEC, until=MetricTarget("accuracy", 0.95), patience=2)


def test_a_run_that_goes_on_until_its_rule_is_met_and_ends_then_is_fine() -> None:
    judged(50, 60, 50, spec=RULE)
    judged(50, 60, 50, 60, kind="evaluate", spec=RULE)
    judged(50, 95, kind="evaluate", spec=RULE)
    judged(*(50,) * 20, spec=SPEC)


@pytest.mark.parametrize("accuracies", [(50, 95), (60, 50, 60)])
def test_a_round_that_trains_although_the_rule_is_met_is_a_violation(accuracies: tuple[int, ...]) -> None:
    with objection("content", "trains, although the run is to end early"):
        judged(*accuracies, spec=RULE)


@pytest.mark.parametrize("accuracies", [(50, 94), (50, 60, 50)])
def test_an_early_end_without_a_reason_is_a_violation(accuracies: tuple[int, ...]) -> None:
    with objection("content", "ends the run early, and nothing asks for that"):
        judged(*accuracies, kind="evaluate", spec=RULE)


# --- states, controls and memory --------------------------------------------------------------------------------

OWN = controlled(MINE)
"""Ada's update with its control."""


@pytest.fixture
def stateful() -> Court:
    return Court(STATEFUL)


def test_model_and_state_of_exactly_the_updates_are_fine(stateful: Court) -> None:
    stateful.trained(OWN)
    stateful.accept(stateful.record(OWN))


def test_a_state_that_is_not_the_aggregate_of_its_manifest_is_a_violation(stateful: Court) -> None:
    stateful.trained(OWN)
    record = stateful.record(OWN)
    other = RecordBlobs(record.model, model("another state"))
    with objection("update", "the state of round 1 is not the aggregate"):
        stateful.accept(msgspec.structs.replace(record, blobs=other))


def test_a_record_with_updates_and_without_a_state_is_a_violation(stateful: Court) -> None:
    stateful.trained(OWN)
    with objection("content", "lacks its state"):
        stateful.accept(stateful.record(OWN, blobs=RecordBlobs(model("model"))))


def test_a_state_that_changes_without_updates_is_a_violation(stateful: Court) -> None:
    with objection("content", "has no update, and other blobs"):
        stateful.accept(stateful.record(blobs=RecordBlobs(stateful.genesis.model, model("state"))))


def test_an_update_with_another_control_or_without_one_is_a_violation(stateful: Court) -> None:
    stateful.work.trained(
        training(stateful.chain, 1, stateful.genesis.model),
        msgspec.structs.replace(result_with(OWN.digest), control=OWN.blobs.control),
        CARD,
    )
    with objection("content", "has another control"):
        stateful.accept(stateful.record(MINE))
    other = update("ben", 1)
    stateful.trained(other)
    with objection("content", "lacks a blob"):
        stateful.accept(stateful.record(other))


def test_fewer_updates_than_the_strategy_needs_are_a_violation() -> None:
    court = Court(MEDIAN)
    court.trained(MINE)
    with objection("content", "counts 1 updates, too few"):
        court.accept(court.record(MINE))


def test_a_run_that_continues_another_one_begins_with_its_blobs(stateful: Court) -> None:
    stateful.trained(OWN)
    record = stateful.record(OWN)
    record = msgspec.structs.replace(record, left_out=stateful.others(record))
    stateful.accept(record)
    origin = Origin(stateful.run, 1, record_digest(record), 1)
    new = msgspec.structs.replace(stateful.genesis, blobs=record.blobs, continues=(origin,))
    stateful.work.founded(SaveGenesis(record_digest(new), new))
    bare = msgspec.structs.replace(new, blobs=RecordBlobs(record.model))
    with objection("content", "begins with other blobs"):
        stateful.work.founded(SaveGenesis(record_digest(bare), bare))


def test_a_training_with_another_memory_than_the_last_counted_update_is_a_violation(stateful: Court) -> None:
    stateful.trained(OWN)
    record = stateful.record(OWN)
    stateful.accept(record)
    job = training(stateful.chain, 2, record.model, memory=OWN.digest)
    due = Train(msgspec.structs.replace(job, state=record.blobs.state))
    stateful.work.begun(stateful.disk, due)
    with objection("work", "trains with another memory in round 2"):
        stateful.work.begun(stateful.disk, Train(msgspec.structs.replace(due.job, memory="")))
    unknown = msgspec.structs.replace(due.job, state=model("of no record that anybody accepted"), memory="")
    stateful.work.begun(stateful.disk, Train(unknown))
