"""Jobs end in one input each; what failed says why; a blob nobody knows of yet is not collected."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import Average, Create, Describe, Evaluate, Fetch, Fold
from p2pfl.errors import DataDirectoryError, TaskError, WorkerError
from p2pfl.learning import commands
from p2pfl.messages import Evaluation
from tests.support.core import ballot
from tests.support.records import LAYOUT, SCHEMA, SPEC
from tests.support.work import BAD, GOOD, MODEL, RUN, TRAIN, WAIT_SECONDS, Bench, on_disk, trained

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
    bench, name = Bench(tmp_path, trained), blake3(GOOD).hexdigest()
    bench.work.begin(TRAIN)
    assert await bench.host.outcome() == [inputs.Trained(RUN, 3, MODEL, name, 40, 0.5, 0.1)]
    assert bench.host.fed[0] == inputs.TrainProgress(RUN, 3, 5, 10, 0.25)
    assert bench.store.has(name)
    assert not bench.store.is_durable(name)
    assert bench.store.is_pinned(name)
    assert bench.host.told == [
        events.ProgressMade(3, "train", 5, 10),
        events.DataShown(1, SPEC.partitions, (30, 10)),
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
    assert await bench.host.outcome() == [inputs.WorkFailed("train", "killed again", 3, model=MODEL)]
    assert bench.worker.calls == ["train", "train"]


async def test_a_task_to_blame_is_not_tried_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, TaskError("no such partition"))
    bench.work.begin(TRAIN)
    assert await bench.host.outcome() == [inputs.WorkFailed("train", "no such partition", 3, model=MODEL)]


async def test_a_stopped_training_answers_nothing_and_leaves_no_file(tmp_path: Path) -> None:
    def stopped(*arguments: Any) -> None:
        arguments[4].write_bytes(b"half")

    bench = Bench(tmp_path, stopped, commands.EvaluateDone(0, 1, 2, 0.5))
    bench.work.begin(TRAIN)
    bench.work.begin(Evaluate(RUN, 2, SPEC, MODEL, 0, 3))
    assert await bench.host.outcome() == [inputs.Evaluated(RUN, 2, MODEL, 0, 3, Evaluation(1, 2, 0.5))]
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
    described = commands.DescribeDone(0, SCHEMA, 1437, 360, ("0", "1"), 99, "cpu")
    bench = Bench(tmp_path, described)
    bench.work.begin(Describe(SPEC))
    assert await bench.host.outcome() == [inputs.Described(SPEC, SCHEMA, 1437)]
    [ready] = bench.host.told
    assert isinstance(ready, events.WorkerReady)
    assert (ready.task, ready.device, ready.samples, ready.parameters) == (SPEC.task, "cpu", 1437, 99)


async def test_that_the_worker_is_ready_is_told_once_however_often_it_is_asked(tmp_path: Path) -> None:
    described = commands.DescribeDone(0, SCHEMA, 1437, 360, ("0", "1"), 99, "cpu")
    bench = Bench(tmp_path, described, described, msgspec.structs.replace(described, device="cuda:0"))
    for _ in range(3):
        bench.forget()
        bench.work.begin(Describe(SPEC))
        await bench.host.outcome()
    assert [one.device for one in bench.host.told if isinstance(one, events.WorkerReady)] == ["cpu", "cuda:0"]


async def test_a_created_model_is_durable_and_pinned(tmp_path: Path) -> None:
    name = blake3(GOOD).hexdigest()

    def create(spec: Any, path: Path) -> str:
        path.write_bytes(GOOD)
        return name

    bench = Bench(tmp_path, create)
    bench.work.begin(Create(SPEC))
    assert await bench.host.outcome() == [inputs.Created(SPEC, name)]
    assert bench.store.is_durable(name)
    assert bench.store.is_pinned(name)


async def test_an_average_is_here_at_once_and_durable_when_a_vote_wants_it(tmp_path: Path) -> None:
    name = blake3(BAD).hexdigest()

    def average(key: str, path: Path, parent: tuple[Path, ...]) -> str:
        path.write_bytes(BAD)  # what the node would refuse: it does not look at its own worker's work again
        return name

    bench = Bench(tmp_path, average)
    bench.work.begin(Average(RUN, 3, ballot(2, "ada"), MODEL))
    assert await bench.host.outcome() == [inputs.Averaged(3, ballot(2, "ada"), name)]
    assert bench.store.has(name)
    assert not bench.store.is_durable(name)
    bench.host.fed.clear()
    bench.host.unpinned.clear()
    bench.work.begin(Fetch(name, LAYOUT, ("ben",), parent=MODEL))
    assert await bench.host.outcome() == on_disk(name)
    assert bench.store.is_durable(name)


async def test_an_average_that_died_with_its_worker_is_not_tried_again(tmp_path: Path) -> None:
    mine = ballot(2, "ada")
    bench = Bench(tmp_path, WorkerError("killed"))
    bench.work.begin(Average(RUN, 3, mine, MODEL))
    assert await bench.host.outcome() == [inputs.WorkFailed("average", "killed", 3, mine)]
    assert bench.worker.calls == ["average"]


async def test_an_update_is_told_to_be_folded_before_the_worker_answers_and_then_that_it_failed(
    tmp_path: Path,
) -> None:
    mine = ballot(2, "ada")
    bench = Bench(tmp_path, WorkerError("killed"))
    bench.work.begin(Fold(RUN, 3, mine, MODEL, 40))
    assert await bench.host.outcome() == [inputs.Folded(3, mine, MODEL)]
    await bench.host.fed_twice()
    assert bench.host.fed[1:] == [inputs.WorkFailed("average", "killed", 3, mine)]
    assert bench.worker.calls == ["fold"]


async def test_the_worker_is_given_an_update_before_the_average_that_counts_it(tmp_path: Path) -> None:
    mine = ballot(2, "ada")
    bench = Bench(tmp_path, None, None)
    feed = bench.host.feed

    def average_at_once(event: inputs.AnyInput) -> None:
        feed(event)
        if isinstance(event, inputs.Folded):
            bench.work.begin(Average(RUN, 3, mine, MODEL))

    bench.host.feed = average_at_once  # type: ignore[method-assign]
    bench.work.begin(Fold(RUN, 3, mine, MODEL, 40))
    await bench.host.fed_twice()
    assert bench.worker.calls == ["fold", "average"]


async def test_an_average_that_is_not_finite_leaves_no_blob(tmp_path: Path) -> None:
    bench = Bench(tmp_path, None)
    bench.work.begin(Average(RUN, 3, ballot(2, "ada"), MODEL))
    assert await bench.host.outcome() == [inputs.Averaged(3, ballot(2, "ada"), None)]
    assert bench.store.digests() == frozenset()


async def test_closing_ends_jobs_under_way(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trained)
    bench.work.begin(TRAIN)
    await bench.work.close()
    assert bench.work._tasks == set()
    assert bench.host.fed == []
