"""Jobs end in one input each; what failed says why; a blob nobody knows of yet is not collected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import Average, Create, Describe, Evaluate, Fetch, Fold, Train
from p2pfl.errors import BlobError, DataDirectoryError, NetworkError, OutOfFilesError, TaskError, WorkerError
from p2pfl.learning import commands
from p2pfl.messages import Evaluation
from p2pfl.runtime import work
from p2pfl.runtime.work import Work
from p2pfl.schema import file_bytes, header
from p2pfl.store.blobs import BlobStore
from p2pfl.store.partial import Watch
from tests.support.core import ballot
from tests.support.records import SCHEMA, SPEC, digest

RUN, MODEL = digest("run"), digest("model")
WAIT_SECONDS = 10.0
TRAIN = Train(RUN, 3, SPEC, MODEL, 1)
GOOD = header(SCHEMA) + bytes(file_bytes(SCHEMA) - len(header(SCHEMA)))
"""A blob of `SCHEMA`: zeros."""
BAD = b"no model"
"""What no check lets pass."""


def on_disk(name: str) -> list[inputs.AnyInput]:
    """What is told of a fetched model: that it is here, and then that it is on disk."""
    return [inputs.BlobReady(name, durable=False), inputs.BlobReady(name, durable=True)]


class Host:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.fed: list[inputs.AnyInput] = []
        self.told: list[events.AnyEvent] = []
        self.released: list[str] = []
        self.errors: list[BaseException] = []
        self._changed = asyncio.Event()

    def feed(self, event: inputs.AnyInput) -> None:
        self.fed.append(event)
        self._changed.set()

    def publish(self, event: events.AnyEvent) -> None:
        self.told.append(event)

    def name_of(self, node: str) -> str:
        return f"the device {node}"

    def release_later(self, digest: str) -> None:
        self.released.append(digest)
        self._changed.set()

    def fail(self, error: DataDirectoryError) -> None:
        self.errors.append(error)
        self._changed.set()

    def break_down(self, error: BaseException) -> None:
        self.errors.append(error)
        self._changed.set()

    def _has_ended(self) -> bool:
        if any(isinstance(one, inputs.BlobReady) for one in self.fed):
            return bool(self.released)  # there may be more of it before
        return any(not isinstance(one, inputs.TrainProgress) for one in self.fed)

    async def outcome(self) -> list[inputs.AnyInput]:
        """Wait until a job has ended; return what was fed."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not (self.errors or self._has_ended()):
                self._changed.clear()
                await self._changed.wait()
        return [one for one in self.fed if not isinstance(one, inputs.TrainProgress)]

    async def fed_twice(self) -> None:
        """Wait until two inputs were fed."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.fed) < 2:
                self._changed.clear()
                await self._changed.wait()


class Worker:
    """Answers every job with the next of *answers*: raises it, or calls it with the job's arguments."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.calls: list[str] = []
        self.is_stopped = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def job(*arguments: Any, passing_path: Path | None = None) -> Any:
            self.calls.append(name)
            answer = self._answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer(*arguments) if callable(answer) else answer

        return job

    def stop_training(self) -> None:
        self.is_stopped = True


class Puller:
    """Brings *data* into the store under whatever digest is asked for, once it may, or raises it."""

    def __init__(self, store: BlobStore, data: bytes | Exception) -> None:
        self._store = store
        self._data = data
        self.pulls: list[tuple[str, int, tuple[str, ...]]] = []
        self.may_bring = asyncio.Event()
        self.may_bring.set()
        self.shows = True
        """Whether it shows what it brings; not where two pulls of one blob became one."""

    async def pull(
        self,
        digest: str,
        length: int,
        sources: tuple[str, ...],
        on_progress: Callable[[str, int, int], None] | None = None,
        *,
        durable: bool = True,
        soon: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self.pulls.append((digest, length, sources))
        if on_progress is not None:
            on_progress(sources[0], length, length)
        await self.may_bring.wait()
        if isinstance(self._data, Exception):
            raise self._data
        if not self._store.has(digest):
            path = self._store.new_path()
            path.write_bytes(self._data)
            self._store.adopt(path, digest, durable=durable)
            if watch is not None and self.shows:
                watch(0, self._data)


class Bench:
    """Work with everything around it."""

    def __init__(self, path: Path, *answers: Any, data: bytes | Exception = b"", pace: float = 0.0) -> None:
        self.host = Host()
        self.store = BlobStore(path)
        self.worker = Worker(*answers)
        self.puller = Puller(self.store, data)
        self.work = Work(self.host, self.store, self.worker, self.puller, pace=pace)  # type: ignore[arg-type]

    def unclaimed(self) -> list[str]:
        """Names of the worker's files that became no blob."""
        return [path.name for path in self.store.new_path().parent.iterdir()]


def trained(spec: Any, round_: int, model: Path, partition: int, path: Path, on_progress: Any) -> Any:
    """A training that reports once and writes an update."""
    on_progress(commands.Progress(0, 5, 10, 0.25))
    path.write_bytes(GOOD)
    return commands.Trained(0, blake3(GOOD).hexdigest(), 40, 0.5, 0.1, (30, 10))


# --- blobs --------------------------------------------------------------------------------------------------


async def test_a_fetched_blob_is_ready_and_guarded_until_its_release_comes_up(tmp_path: Path) -> None:
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    bench.work.begin(Fetch(name, SCHEMA, ("ben",)))
    assert bench.work.guard.holds(name), "from the first step on: a collection may be under way"
    assert await bench.host.outcome() == on_disk(name)
    assert bench.puller.pulls == [(name, file_bytes(SCHEMA), ("ben",))]
    assert bench.store.is_durable(name)
    assert bench.work.guard.holds(name)
    assert bench.host.released == [name]
    assert bench.host.told == [], "a quick blob is here before anybody could see it come"


async def test_the_coming_of_a_long_blob_is_told_with_the_name_of_whom_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "QUICK_BYTES", 0)
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    bench.work.begin(Fetch(name, SCHEMA, ("ben",)))
    await bench.host.outcome()
    assert bench.host.told == [events.Progress(0, "pull", len(GOOD), len(GOOD), "the device ben")]


async def test_an_update_is_fetched_without_a_flush_and_said_to_be_so(tmp_path: Path) -> None:
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    bench.work.begin(Fetch(name, SCHEMA, ("ben",), durable=False))
    assert await bench.host.outcome() == [inputs.BlobReady(name, durable=False)]
    assert bench.store.has(name)
    assert not bench.store.is_durable(name)


async def test_a_passing_blob_that_a_vote_wants_is_made_durable_and_not_pulled_again(tmp_path: Path) -> None:
    bench, name = Bench(tmp_path), blake3(GOOD).hexdigest()
    path = bench.store.new_path()
    path.write_bytes(GOOD)
    bench.store.adopt(path, name, durable=False)
    bench.work.begin(Fetch(name, SCHEMA, ("ben",)))
    assert await bench.host.outcome() == on_disk(name)
    assert bench.store.is_durable(name)
    assert bench.puller.pulls == []


async def test_a_vote_that_wants_the_bytes_of_an_update_under_way_gets_them_durable(tmp_path: Path) -> None:
    # The average of one update has the same bytes: update and model are one blob.
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    bench.puller.may_bring.clear()
    bench.work.begin(Fetch(name, SCHEMA, ("ben",), durable=False))
    bench.work.begin(Fetch(name, SCHEMA, ("ben",)))
    jobs = set(bench.work._tasks)
    bench.puller.may_bring.set()
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*jobs)
    ready = [one.durable for one in bench.host.fed if one == inputs.BlobReady(name, one.durable)]
    assert set(ready) == {False, True}
    assert ready[-1] or not ready[0]
    assert bench.store.is_durable(name)
    assert bench.host.errors == []


async def test_a_fetch_under_way_is_not_begun_twice(tmp_path: Path) -> None:
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    bench.work.begin(Fetch(name, SCHEMA, ("ben",)))
    bench.work.begin(Fetch(name, SCHEMA, ("cleo",)))
    assert await bench.host.outcome() == on_disk(name)
    assert len(bench.puller.pulls) == 1


async def test_a_blob_that_fails_its_check_is_invalid_for_good(tmp_path: Path) -> None:
    bad = GOOD[:-1]
    bench, name = Bench(tmp_path, data=bad), blake3(bad).hexdigest()
    bench.work.begin(Fetch(name, SCHEMA, ("ben",)))
    [failed] = await bench.host.outcome()
    assert isinstance(failed, inputs.BlobFailed)
    assert failed.invalid


NAN = GOOD[:-4] + b"\x00\x00\xc0\x7f"
"""A model whose last number is none."""


@pytest.mark.parametrize("shows", [True, False])
async def test_a_number_that_is_not_finite_is_found_whether_its_bytes_were_seen_coming_or_not(
    tmp_path: Path, *, shows: bool
) -> None:
    bench, name = Bench(tmp_path, data=NAN), blake3(NAN).hexdigest()
    bench.puller.shows = shows
    bench.work.begin(Fetch(name, SCHEMA, ("ben",)))
    [failed] = await bench.host.outcome()
    assert isinstance(failed, inputs.BlobFailed)
    assert failed.invalid
    assert "not finite" in failed.reason


async def test_a_blob_that_is_damaged_on_this_disk_is_pulled_again_and_that_is_told(tmp_path: Path) -> None:
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    path = bench.store.new_path()
    path.write_bytes(GOOD[:-3])
    bench.store.adopt(path, name)
    bench.work.begin(Fetch(name, SCHEMA, ("ben",)))
    assert await bench.host.outcome() == on_disk(name)
    assert bench.store.is_intact(name)
    [notice] = bench.host.told
    assert isinstance(notice, events.Notice)
    assert "is damaged: it is pulled again" in notice.text


async def test_a_blob_that_is_here_whole_and_of_no_use_is_not_pulled_again(tmp_path: Path) -> None:
    bench, name = Bench(tmp_path, data=GOOD), blake3(NAN).hexdigest()
    path = bench.store.new_path()
    path.write_bytes(NAN)
    bench.store.adopt(path, name)
    bench.work.begin(Fetch(name, SCHEMA, ("ben",)))
    [failed] = await bench.host.outcome()
    assert isinstance(failed, inputs.BlobFailed)
    assert failed.invalid
    assert bench.puller.pulls == []


async def test_a_blob_looked_at_while_it_came_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "check_blob", None)  # would raise
    bench, name = Bench(tmp_path, data=GOOD), blake3(GOOD).hexdigest()
    bench.work.begin(Fetch(name, SCHEMA, ("ben",)))
    assert await bench.host.outcome() == on_disk(name)


@pytest.mark.parametrize(
    "error",
    [NetworkError("nobody has it"), BlobError("its bytes are others"), OutOfFilesError("too many files")],
)
async def test_a_blob_that_cannot_be_had_now_may_be_had_later(tmp_path: Path, error: Exception) -> None:
    bench = Bench(tmp_path, data=error)
    bench.work.begin(Fetch(MODEL, SCHEMA, ("ben",)))
    assert await bench.host.outcome() == [inputs.BlobFailed(MODEL, str(error), invalid=False)]


async def test_a_disk_that_refuses_a_blob_ends_the_node(tmp_path: Path) -> None:
    error = DataDirectoryError("the disk is full")
    bench = Bench(tmp_path, data=error)
    bench.work.begin(Fetch(MODEL, SCHEMA, ("ben",)))
    assert await bench.host.outcome() == []
    assert bench.host.errors == [error]


async def test_a_fault_in_a_job_is_the_nodes_own(tmp_path: Path) -> None:
    error = RuntimeError("a bug")
    bench = Bench(tmp_path, data=error)
    bench.work.begin(Fetch(MODEL, SCHEMA, ("ben",)))
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
    assert bench.work.guard.holds(name)
    assert bench.host.told == [
        events.Progress(3, "train", 5, 10),
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

    bench = Bench(tmp_path, stopped, commands.Evaluated(0, 1, 2, 0.5))
    bench.work.begin(TRAIN)
    bench.work.begin(Evaluate(RUN, 2, SPEC, MODEL, 0, 3))
    assert await bench.host.outcome() == [inputs.Evaluated(RUN, 2, MODEL, 0, 3, Evaluation(1, 2, 0.5))]
    assert bench.unclaimed() == []


async def test_with_a_pace_an_update_is_handed_in_no_sooner_and_predicted_so(tmp_path: Path) -> None:
    pace = 0.3
    bench, loop = Bench(tmp_path, trained, pace=pace), asyncio.get_running_loop()
    began = loop.time()
    bench.work.begin(TRAIN)
    [result] = await bench.host.outcome()
    assert isinstance(result, inputs.Trained)
    assert loop.time() >= began + pace
    first, last = bench.host.fed[0], bench.host.fed[-2]
    assert isinstance(first, inputs.TrainProgress)
    assert (first.done < 5, first.total, first.predicted) == (True, 10, pace)
    assert last == inputs.TrainProgress(RUN, 3, 10, 10, pace)


async def test_a_stop_ends_the_wait_of_a_pace(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trained, commands.Evaluated(0, 1, 2, 0.5), pace=3600.0)
    bench.work.begin(TRAIN)
    bench.work.begin(Evaluate(RUN, 2, SPEC, MODEL, 0, 3))
    assert await bench.host.outcome() == [inputs.Evaluated(RUN, 2, MODEL, 0, 3, Evaluation(1, 2, 0.5))]
    jobs = set(bench.work._tasks)
    bench.work.stop_training()
    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.wait(jobs)
    assert len(bench.host.fed) == 2, "the progress and the evaluation, no update"
    assert bench.unclaimed() == []
    assert bench.worker.is_stopped


# --- the other jobs -----------------------------------------------------------------------------------------


async def test_a_described_task_is_told_to_people_and_to_the_protocol(tmp_path: Path) -> None:
    described = commands.Described(0, SCHEMA, 1437, 360, ("0", "1"), 99, "cpu")
    bench = Bench(tmp_path, described)
    bench.work.begin(Describe(SPEC))
    assert await bench.host.outcome() == [inputs.Described(SPEC, SCHEMA, 1437)]
    [ready] = bench.host.told
    assert isinstance(ready, events.WorkerReady)
    assert (ready.task, ready.device, ready.samples, ready.parameters) == (SPEC.task, "cpu", 1437, 99)


async def test_a_worker_that_is_ready_is_told_once_for_the_same_task(tmp_path: Path) -> None:
    described = commands.Described(0, SCHEMA, 1437, 360, ("0", "1"), 99, "cpu")
    other = commands.Described(0, SCHEMA, 1437, 360, ("0", "1"), 100, "cpu")
    bench = Bench(tmp_path, described, described, other)
    for parameters in ([99], [99], [99, 100]):
        bench.host.fed.clear()
        bench.work.begin(Describe(SPEC))
        await bench.host.outcome()
        assert [event.parameters for event in bench.host.told] == parameters


async def test_a_created_model_is_durable_and_guarded(tmp_path: Path) -> None:
    name = blake3(GOOD).hexdigest()

    def create(spec: Any, path: Path) -> str:
        path.write_bytes(GOOD)
        return name

    bench = Bench(tmp_path, create)
    bench.work.begin(Create(SPEC))
    assert await bench.host.outcome() == [inputs.Created(SPEC, name)]
    assert bench.store.is_durable(name)
    assert bench.work.guard.holds(name)


async def test_an_average_is_here_at_once_and_durable_when_a_vote_wants_it(tmp_path: Path) -> None:
    name = blake3(BAD).hexdigest()

    def average(key: str, path: Path) -> str:
        path.write_bytes(BAD)  # what the node would refuse: it does not look at its own worker's work again
        return name

    bench = Bench(tmp_path, average)
    bench.work.begin(Average(RUN, 3, ballot(2, "ada")))
    assert await bench.host.outcome() == [inputs.Averaged(3, ballot(2, "ada"), name)]
    assert bench.store.has(name)
    assert not bench.store.is_durable(name)
    bench.host.fed.clear()
    bench.host.released.clear()
    bench.work.begin(Fetch(name, SCHEMA, ("ben",)))
    assert await bench.host.outcome() == on_disk(name)
    assert bench.store.is_durable(name)


async def test_an_average_that_died_with_its_worker_is_not_tried_again(tmp_path: Path) -> None:
    mine = ballot(2, "ada")
    bench = Bench(tmp_path, WorkerError("killed"))
    bench.work.begin(Average(RUN, 3, mine))
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
            bench.work.begin(Average(RUN, 3, mine))

    bench.host.feed = average_at_once  # type: ignore[method-assign]
    bench.work.begin(Fold(RUN, 3, mine, MODEL, 40))
    await bench.host.fed_twice()
    assert bench.worker.calls == ["fold", "average"]


async def test_an_average_that_is_not_finite_leaves_no_blob(tmp_path: Path) -> None:
    bench = Bench(tmp_path, None)
    bench.work.begin(Average(RUN, 3, ballot(2, "ada")))
    assert await bench.host.outcome() == [inputs.Averaged(3, ballot(2, "ada"), None)]
    assert bench.store.digests() == frozenset()


async def test_closing_ends_jobs_under_way(tmp_path: Path) -> None:
    bench = Bench(tmp_path, trained, pace=3600.0)
    bench.work.begin(TRAIN)
    await bench.work.close()
    assert bench.work._tasks == set()
    assert bench.host.fed == []
