"""Speculative work in a member's whole round: it begins with the bytes, and the commit takes it over or drops it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import AnyEffect, Evaluate, SaveUpdate, Send, StopTraining, Train
from p2pfl.core.running import Running
from p2pfl.messages import Accept, Collect, Record, Submit
from p2pfl.spec import RunSpec, ScriptTask
from tests.support.core import (
    ballot,
    chain_of,
    context,
    ledger,
    member,
    model,
    of_kind,
    sent,
    taken,
    told,
    trained,
    training,
)
from tests.support.known import known
from tests.support.records import (
    NAMES,
    SPEC,
    STATEFUL,
    digest,
    evaluation,
    node,
    resigned,
    result_with,
    update,
)

HERE = evaluation(3, 4, 1.5)

MEMORY = update("ada", 2).digest
"""The device's update that the proposal counts."""


class Bench:
    """A member that has trained for round 2, of which ben is the aggregator; every call returns the effects."""

    def __init__(self, *, has_trained: bool = True, spec: RunSpec = SPEC) -> None:
        self.ctx = context("ada")
        self.chain = chain_of(*NAMES[:3], rounds=1, spec=spec)
        self.ledger = ledger(self.ctx, self.chain)
        self.it = Running(self.ctx, self.ledger, ready=True)
        self.it.open_round()
        if has_trained:
            self.trained(2, self.ledger.model)
        taken(self.ctx)

    def proposal(self, word: str = "average", **changes: Any) -> Any:
        """A record that may follow the last one."""
        record = self.chain.commit(model=model(word), **changes).record
        self.chain.commits.pop()
        return record

    def propose(self, record: Record, attempt: int = 2) -> Any:
        """Ben proposes *record*, and its model arrives here, not flushed yet."""
        self.it.received(member("ben"), Accept(self.chain.run, 2, ballot(attempt, "ben"), record))
        self.it.blob_ready(inputs.BlobReady(record.model, durable=False))
        return taken(self.ctx)

    def commit(self, record: Any) -> list[AnyEffect]:
        """Learn that *record* is committed."""
        commit = self.chain.commit()
        self.chain.commits[-1] = commit = resigned(
            msgspec.structs.replace(commit, record=record, ballot=record.ballot)
        )
        self.it.learned(node("ben"), (commit,))
        return taken(self.ctx)

    def trained(self, round_: int, parent: str, word: str = "update") -> list[AnyEffect]:
        self.it.trained(
            trained(self.chain, round_, parent, digest((word, round_)), MEMORY if round_ == 3 else "")
        )
        return taken(self.ctx)

    def evaluated(self, effect: Evaluate, evaluation: Any = HERE) -> Any:
        self.it.evaluated(inputs.Evaluated(effect.job, evaluation))
        return taken(self.ctx)


@pytest.fixture
def bench() -> Any:
    return Bench()


def test_work_on_a_proposed_model_begins_when_it_is_here_and_nothing_of_it_leaves(bench: Bench) -> None:
    record = bench.proposal()
    effects = bench.propose(record)
    [evaluate], [train] = of_kind(effects, Evaluate), of_kind(effects, Train)
    job = evaluate.job
    assert (job.round, job.model, job.part, job.parts) == (2, record.model, 0, 3)
    assert (train.job.round, train.job.model, train.job.partition) == (3, record.model, 0)
    later = bench.evaluated(evaluate) + bench.trained(3, record.model)
    assert not of_kind(effects + later, Send)
    assert not told(effects + later, events.TrainingStarted)
    assert not of_kind(later, SaveUpdate)
    assert bench.it.speculation.pinned() == {digest(("update", 3))}


def test_a_script_trains_on_committed_models_only_since_its_loop_cannot_be_stopped() -> None:
    bench = Bench(spec=msgspec.structs.replace(SPEC, task=ScriptTask("train")))
    record = bench.proposal()
    effects = bench.propose(record)
    assert of_kind(effects, Evaluate)
    assert not of_kind(effects, Train)
    bench.it.blob_ready(inputs.BlobReady(record.model, durable=True))
    [train] = of_kind(bench.commit(record), Train)
    assert (train.job.round, train.job.model) == (3, record.model)


def test_what_was_done_by_the_commit_is_the_new_round_s(bench: Bench) -> None:
    record = bench.proposal()
    [evaluate] = of_kind(bench.propose(record), Evaluate)
    bench.evaluated(evaluate)
    bench.trained(3, record.model)
    effects = bench.commit(record)
    assert not of_kind(effects, Evaluate, Train, StopTraining)
    names = [type(event).__name__ for event in told(effects, events.Event)]
    assert names == ["Committed", "TrainingStarted", "TrainingFinished"]
    [saved] = of_kind(effects, SaveUpdate)
    assert (saved.round, saved.previous, saved.update.digest) == (
        3,
        bench.ledger.digest,
        digest(("update", 3)),
    )
    assert bench.it.local_trainer.evaluation == HERE
    assert bench.it.speculation.pinned() == set()


def test_what_is_still_under_way_at_the_commit_goes_on(bench: Any) -> None:
    record = bench.proposal()
    [evaluate] = of_kind(bench.propose(record), Evaluate)
    bench.it.progressed(
        inputs.TrainProgress(training(bench.chain, 3, record.model, memory=MEMORY), 5, 10, 8.0)
    )
    effects = bench.commit(record)
    assert not of_kind(effects, Evaluate, Train, StopTraining)
    assert (bench.it.local_trainer.progress, bench.it.local_trainer.predicted) == (0.5, 8.0)
    bench.evaluated(evaluate)
    bench.trained(3, record.model)
    assert bench.it.local_trainer.evaluation == HERE
    assert bench.it.local_trainer.update is not None


def test_another_record_committed_begins_anew_and_takes_no_result_of_the_old_work(bench: Bench) -> None:
    proposed = bench.proposal("one")
    [evaluate] = of_kind(bench.propose(proposed), Evaluate)
    other = bench.proposal("another")
    effects = bench.commit(other)
    assert [type(effect) for effect in effects if isinstance(effect, StopTraining | Train)] == [StopTraining]
    bench.it.blob_ready(inputs.BlobReady(other.model, durable=True))
    [train] = of_kind(taken(bench.ctx), Train)
    assert (train.job.round, train.job.model) == (3, other.model)
    bench.trained(3, proposed.model, "late")
    bench.evaluated(evaluate)
    assert bench.it.local_trainer.update is None
    assert bench.it.local_trainer.evaluation is None


def test_a_second_proposal_takes_the_first_one_s_place(bench: Any) -> None:
    bench.propose(bench.proposal("one"))
    second = bench.proposal("two")
    effects = bench.propose(second, attempt=3)
    assert [type(e) for e in effects if isinstance(e, StopTraining | Train)] == [StopTraining, Train]
    assert not of_kind(bench.propose(second, attempt=4), Train, StopTraining), "the same one, adopted"


def test_an_evaluation_for_another_division_of_the_test_data_is_not_taken(bench: Bench) -> None:
    first = bench.proposal()
    [evaluate] = of_kind(bench.propose(first), Evaluate)
    fewer = bench.proposal(next_roster=first.roster[:2])
    bench.propose(fewer, attempt=3)
    bench.evaluated(evaluate)
    bench.commit(fewer)
    assert bench.it.local_trainer.evaluation is None
    bench.evaluated(Evaluate(msgspec.structs.replace(evaluate.job, parts=2)))
    assert bench.it.local_trainer.evaluation == HERE


def test_the_open_round_s_own_training_comes_first() -> None:
    assert not of_kind(Bench(has_trained=False).propose(Bench().proposal()), Train, Evaluate, StopTraining)


@pytest.mark.parametrize("then", ["pause", "end"])
def test_no_work_for_a_round_that_does_not_follow(bench: Any, then: Any) -> None:
    assert not of_kind(bench.propose(bench.proposal(then=then)), Train, Evaluate)


def test_no_work_of_a_member_that_the_proposal_drops(bench: Any) -> None:
    roster = bench.ledger.roster[1:]
    assert not of_kind(bench.propose(bench.proposal(next_roster=roster)), Train, Evaluate)


def test_who_leaves_drops_its_work(bench: Bench) -> None:
    record = bench.proposal()
    bench.propose(record)
    bench.it.leave()
    assert of_kind(taken(bench.ctx), StopTraining)
    assert not of_kind(bench.commit(record), Train)


def test_a_failure_is_told_when_it_is_tried_again_after_the_commit(bench: Bench) -> None:
    record = bench.proposal()
    bench.propose(record)
    failed = inputs.WorkFailed(Train(training(bench.chain, 3, record.model, memory=MEMORY)), "no memory")
    bench.it.work_failed(failed)
    assert not told(taken(bench.ctx), events.Notice)
    bench.commit(record)
    bench.it.blob_ready(inputs.BlobReady(record.model, durable=True))
    assert of_kind(taken(bench.ctx), Train)
    bench.it.work_failed(failed)
    assert bench.it.local_trainer.declined == "its training failed: no memory"


def test_the_update_of_a_speculative_training_is_offered_to_the_next_aggregator(bench: Any) -> None:
    record = bench.proposal()
    bench.propose(record)
    bench.trained(3, record.model)
    bench.commit(record)
    collect = {"run": bench.chain.run, "round": 3, "selected": True}
    effects = []
    for attempt in (2, 3):
        bench.it.received(member("ben"), Collect(ballot=ballot(attempt, "ben"), **collect))
        effects += taken(bench.ctx)
    assert [known(one.update).digest for one in sent(effects, Submit)] == [digest(("update", 3))] * 2


def test_an_update_of_another_parent_is_not_kept(bench: Bench) -> None:
    [train] = of_kind(bench.propose(bench.proposal()), Train)
    bench.trained(train.job.round, model("another parent"))
    assert bench.it.speculation.is_training
    bench.trained(train.job.round, train.job.model)
    assert not bench.it.speculation.is_training


def test_a_proposed_model_whose_file_is_lost_takes_the_work_on_it_along(bench: Bench) -> None:
    record = bench.proposal()
    bench.propose(record)
    assert bench.it.speculation.is_training
    bench.it.blob_failed(inputs.BlobFailed(record.model, "its bytes are wrong", invalid=True, is_lost=True))
    effects = taken(bench.ctx)
    assert of_kind(effects, StopTraining)
    assert bench.it.speculation.record is None
    assert bench.ledger.holds, "the open round's own model is here"


def test_work_on_a_proposal_uses_its_state_and_the_memory_as_of_it() -> None:
    bench = Bench(spec=STATEFUL)
    record = bench.proposal()
    bench.it.received(member("ben"), Accept(bench.chain.run, 2, ballot(2, "ben"), record))
    stray = inputs.BlobReady(record.model, durable=False, companions=(model("another state"),))
    bench.it.blob_ready(stray)
    assert of_kind(taken(bench.ctx), Train) == []
    bench.it.blob_ready(inputs.BlobReady(record.model, durable=False, companions=(record.blobs.state,)))
    (train,) = of_kind(taken(bench.ctx), Train)
    assert (train.job.state, train.job.memory) == (record.blobs.state, MEMORY)
    result = msgspec.structs.replace(result_with(digest("mine")), control=digest("control"))
    bench.it.trained(inputs.Trained(train.job, result))
    assert bench.it.speculation.pinned() == {digest("mine"), digest("control")}
