"""Jobs end in one input each; what failed says why; a blob nobody knows of yet is not collected."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from p2pfl import events
from p2pfl.cards import ColumnCard
from p2pfl.core import inputs
from p2pfl.core.effects import Aggregate, Companion, Create, Describe, Fetch, Train
from p2pfl.errors import DataDirectoryError, TaskError, WorkerError
from p2pfl.learning import commands
from p2pfl.spec import partitions_of
from p2pfl.work import (
    AggregatedModel,
    AggregationJob,
    AggregationResult,
    NotFinite,
    TrainingResult,
    UnreadableUpdate,
    WeightedUpdate,
)
from tests.support.core import ballot
from tests.support.records import AGREEMENT, CARD, LAYOUT, SCHEMA, SPEC, STATEFUL, digest, evaluation
from tests.support.work import (
    BAD,
    EVALUATE,
    GOOD,
    MODEL,
    PART,
    RESULT,
    RUN,
    TRAIN,
    WAIT_SECONDS,
    Bench,
    on_disk,
    trained,
)

JOB = AggregationJob(RUN, 3, ballot(2, "ada"), SPEC, MODEL, (WeightedUpdate(digest("u"), 40),))

# --- jobs that end the node -----------------------------------------------------------------------------------


async def test_a_disk_that_refuses_a_blob_ends_the_node(tmp_path: Path) -> None:
    error = DataDirectoryError("the disk is full")
    bench = Bench(tmp_path, data=error)
    bench.work.begin(Fetch(MODEL, LAYOUT, ("ben",)))
    assert await bench.host.outcome() == []
    assert bench.host.errors == [error]


async def test_a_fault_in_a_job_is_the_nodes_own(tmp_path: Path) -> None:
    error = RuntimeError("a bug")
    bench = Bench(tmp_path, data=error)
    bench.work.begin(Fetch(MODEL, LAYOUT, ("ben",)))
    assert await bench.host.outcome() == []
    assert bench.host.errors == [error]


# --- training -----------------------------------------------------------------------------------------------


async def test_a_training_reports_its_progress_and_hands_an_update_in_without_a_flush(tmp_path: Path) -> None:
    bench, name = Bench(tmp_path, trained), RESULT.digest
    bench.work.begin(TRAIN)
    assert await bench.host.outcome() == [inputs.Trained(TRAIN.job, RESULT)]
    assert bench.host.fed[0] == inputs.TrainProgress(TRAIN.job, 5, 10, 0.25)
    assert bench.store.has(name)
    assert not bench.store.is_durable(name)
    assert bench.store.is_pinned(name)
    assert bench.host.told == [
        events.ProgressMade(3, "train", 5, 10),
        events.DataShown(1, partitions_of(SPEC.task), PART),
    ]


async def test_a_training_whose_worker_died_is_done_once_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path, WorkerError("killed"), trained)
    bench.work.begin(TRAIN)
    [result] = await bench.host.outcome()
    assert isinstance(result, inputs.Trained)
    assert bench.worker.calls == ["train", "train"]


async def test_a_training_whose_worker_dies_twice_has_failed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, WorkerError("killed"), WorkerError("killed again"))
    bench.work.begin(TRAIN)
    assert await bench.host.outcome() == [inputs.WorkFailed(TRAIN, "killed again")]
    assert bench.worker.calls == ["train", "train"]


async def test_a_task_to_blame_is_not_tried_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, TaskError("no such partition"))
    bench.work.begin(TRAIN)
    assert await bench.host.outcome() == [inputs.WorkFailed(TRAIN, "no such partition")]


async def test_a_stopped_training_answers_nothing_and_leaves_no_file(tmp_path: Path) -> None:
    def stopped(*arguments: Any) -> None:
        arguments[2].write_bytes(b"half")

    bench = Bench(tmp_path, stopped, evaluation(1, 2, 0.5))
    bench.work.begin(TRAIN)
    bench.work.begin(EVALUATE)
    assert await bench.host.outcome() == [inputs.Evaluated(EVALUATE.job, evaluation(1, 2, 0.5))]
    assert bench.unclaimed() == []


async def test_a_stopped_training_hands_nothing_in(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lambda *_: None)
    bench.work.begin(TRAIN)
    jobs = set(bench.work._tasks)
    bench.work.stop_training()
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.wait(jobs)
    assert bench.host.fed == []
    assert bench.unclaimed() == []
    assert bench.worker.is_stopped


# --- the other jobs -----------------------------------------------------------------------------------------


async def test_a_described_task_is_told_to_people_and_to_the_protocol(tmp_path: Path) -> None:
    described = commands.DescribeDone(0, SCHEMA, CARD, 360, 99, "cpu")
    bench = Bench(tmp_path, described)
    bench.work.begin(Describe(SPEC, AGREEMENT))
    assert await bench.host.outcome() == [inputs.Described(SPEC, AGREEMENT, SCHEMA, CARD)]
    [ready] = bench.host.told
    assert isinstance(ready, events.WorkerReady)
    assert (ready.task, ready.device, ready.examples, ready.parameters) == (
        "digits",
        "cpu",
        CARD.examples,
        99,
    )


async def test_that_the_worker_is_ready_is_told_once_however_often_it_is_asked(tmp_path: Path) -> None:
    described = commands.DescribeDone(0, SCHEMA, CARD, 360, 99, "cpu")
    bench = Bench(tmp_path, described, described, msgspec.structs.replace(described, device="cuda:0"))
    for _ in range(3):
        bench.forget()
        bench.work.begin(Describe(SPEC))
        await bench.host.outcome()
    assert [one.device for one in bench.host.told if isinstance(one, events.WorkerReady)] == ["cpu", "cuda:0"]


async def test_a_created_model_is_durable_and_pinned(tmp_path: Path) -> None:
    name = blake3(GOOD).hexdigest()

    def create(spec: Any, agreement: Any, path: Path, folder: Path) -> commands.CreateDone:
        assert folder == bench.store.directory
        path.write_bytes(GOOD)
        return commands.CreateDone(0, name, SCHEMA)

    bench = Bench(tmp_path, create)
    bench.work.begin(Create(SPEC, AGREEMENT))
    assert await bench.host.outcome() == [inputs.Created(SPEC, AGREEMENT, name, SCHEMA)]
    assert bench.store.is_durable(name)
    assert bench.store.is_pinned(name)


async def test_a_new_model_is_here_at_once_and_durable_when_a_vote_wants_it(tmp_path: Path) -> None:
    name = blake3(BAD).hexdigest()

    def aggregate(job: AggregationJob, folder: Path, path: Path) -> AggregatedModel:
        assert (job, folder) == (JOB, bench.store.directory)
        path.write_bytes(BAD)  # what the node would refuse: it does not look at its own worker's work again
        return AggregatedModel(name)

    bench = Bench(tmp_path, aggregate)
    bench.work.begin(Aggregate(JOB))
    assert await bench.host.outcome() == [inputs.Aggregated(JOB, AggregatedModel(name))]
    assert bench.store.has(name)
    assert not bench.store.is_durable(name)
    bench.host.fed.clear()
    bench.host.unpinned.clear()
    bench.work.begin(Fetch(name, LAYOUT, ("ben",), parent=MODEL))
    assert await bench.host.outcome() == on_disk(name)
    assert bench.store.is_durable(name)


async def test_an_aggregation_whose_worker_died_is_tried_once_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path, WorkerError("killed"), NotFinite())
    bench.work.begin(Aggregate(JOB))
    assert await bench.host.outcome() == [inputs.Aggregated(JOB, NotFinite())]
    assert bench.worker.calls == ["aggregate", "aggregate"]


async def test_an_aggregation_whose_worker_died_twice_has_failed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, WorkerError("killed"), WorkerError("killed again"))
    bench.work.begin(Aggregate(JOB))
    assert await bench.host.outcome() == [inputs.WorkFailed(Aggregate(JOB), "killed again")]


@pytest.mark.parametrize("result", [NotFinite(), UnreadableUpdate(MODEL, "it was cut short")])
async def test_an_aggregation_without_a_new_model_leaves_no_blob(
    tmp_path: Path, result: AggregationResult
) -> None:
    bench = Bench(tmp_path, result)
    bench.work.begin(Aggregate(JOB))
    assert await bench.host.outcome() == [inputs.Aggregated(JOB, result)]
    assert bench.store.digests() == frozenset()
    assert bench.unclaimed() == []


async def test_closing_ends_jobs_under_way(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trained)
    bench.work.begin(TRAIN)
    await bench.work.close()
    assert bench.work._tasks == set()
    assert bench.host.fed == []


async def test_a_number_of_examples_that_is_not_told_is_told_to_nobody(tmp_path: Path) -> None:
    untold = msgspec.structs.replace(CARD, share="none")
    bench = Bench(tmp_path, commands.DescribeDone(0, SCHEMA, untold, 1, 99, "cpu"))
    bench.work.begin(Describe(SPEC, AGREEMENT))
    await bench.host.outcome()
    [ready] = bench.host.told
    assert isinstance(ready, events.WorkerReady)
    assert ready.examples == 0


async def test_the_kinds_of_the_columns_of_a_table_are_told_once(tmp_path: Path) -> None:
    target = ColumnCard("price", "number", 40)
    table = msgspec.structs.replace(
        CARD, labels=(), columns=(ColumnCard("age", "number", 40),), target=target
    )
    described = commands.DescribeDone(0, SCHEMA, table, 360, 99, "cpu")
    bench = Bench(tmp_path, described, described)
    for _ in range(2):
        bench.work.begin(Describe(SPEC))
        await bench.host.outcome()
    assert [one for one in bench.host.told if isinstance(one, events.Notice)] == [
        events.Notice("info", "columns: 1 number (age); the target price is a number")
    ]


# --- states and controls ----------------------------------------------------------------------------------------


async def test_a_control_is_handed_in_with_its_update(tmp_path: Path) -> None:
    control = blake3(BAD).hexdigest()

    def with_control(*arguments: Any) -> TrainingResult:
        arguments[-1].write_bytes(BAD)
        trained(*arguments[:-1])
        return msgspec.structs.replace(RESULT, control=control)

    bench = Bench(tmp_path, with_control)
    train = Train(msgspec.structs.replace(TRAIN.job, spec=STATEFUL))
    bench.work.begin(train)
    assert await bench.host.outcome() == [
        inputs.Trained(train.job, msgspec.structs.replace(RESULT, control=control))
    ]
    for name in (RESULT.digest, control):
        assert bench.store.has(name)
        assert not bench.store.is_durable(name)
    async with asyncio.timeout(WAIT_SECONDS):
        while len(bench.host.unpinned) < 2:  # noqa: ASYNC110 - it is asked for at once
            await asyncio.sleep(0)
    assert set(bench.host.unpinned) == {RESULT.digest, control}


@pytest.mark.parametrize("answer", [None, TaskError("no such partition")])
async def test_a_training_without_a_result_leaves_no_control(tmp_path: Path, answer: Any) -> None:
    def half(*arguments: Any) -> None:
        arguments[-1].write_bytes(b"half")
        if answer is not None:
            raise answer

    bench = Bench(tmp_path, half, evaluation(1, 2, 0.5))
    bench.work.begin(Train(msgspec.structs.replace(TRAIN.job, spec=STATEFUL)))
    bench.work.begin(EVALUATE)
    await bench.host.outcome()
    await bench.work.close()
    assert bench.unclaimed() == []


async def test_a_new_state_is_here_with_its_model_and_needs_no_check(tmp_path: Path) -> None:
    model, state = blake3(GOOD).hexdigest(), blake3(BAD).hexdigest()

    def aggregate(_job: AggregationJob, _folder: Path, path: Path, state_path: Path) -> AggregatedModel:
        path.write_bytes(GOOD)
        state_path.write_bytes(BAD)  # the node does not look at its own worker's work again
        return AggregatedModel(model, state)

    bench = Bench(tmp_path, aggregate)
    job = msgspec.structs.replace(JOB, spec=STATEFUL)
    bench.work.begin(Aggregate(job))
    assert await bench.host.outcome() == [inputs.Aggregated(job, AggregatedModel(model, state))]
    assert bench.store.has(state)
    bench.forget()
    companions = (Companion(state, "state", STATEFUL),)
    bench.work.begin(Fetch(model, LAYOUT, ("ben",), parent=job.parent, companions=companions))
    assert (await bench.host.outcome())[-1] == inputs.BlobReady(model, durable=True, companions=(state,))
    assert bench.store.is_durable(state)
