"""Executes the effects that take time as tasks: pulls and checks blobs, trains, evaluates and aggregates.

Each job ends with exactly one input to the protocol, or with none if the protocol stopped it. A blob in the
store that the protocol does not know yet is pinned (`BlobStore.pin`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar, assert_never

import msgspec

from p2pfl import events
from p2pfl.cards import DataCard, column_lines
from p2pfl.core import inputs
from p2pfl.core.effects import (
    Aggregate,
    Create,
    Describe,
    Evaluate,
    Fetch,
    ReadSchema,
    Train,
    WorkerEffect,
)
from p2pfl.errors import DataDirectoryError, TaskError, WorkerError
from p2pfl.learning import commands
from p2pfl.learning.process import Worker
from p2pfl.learning.scripts.trainer import TrainerWorker
from p2pfl.runtime.jobs.blobs import FINITE, Blobs, Listener, Puller
from p2pfl.spec import RunSpec, ScriptTask, partitions_of, task_name
from p2pfl.store.blobs import BlobStore
from p2pfl.strategy_specs import control_slots, state_slots
from p2pfl.work import AggregatedModel, TrainingJob

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Effect = TypeVar("Effect")


JobExecutor = Worker | TrainerWorker
"""Executes the jobs: a worker process, or a program of the user for all but the aggregation."""


class Host(Listener, Protocol):
    """Receives the results of jobs: the interface of the driver."""

    def unpin_later(self, digest: str) -> None:
        """Remove a pin of *digest* after all queued effects."""

    def fail(self, error: DataDirectoryError) -> None:
        """End the node because of a disk error."""

    def break_down(self, error: BaseException) -> None:
        """End the node after an unexpected error."""


class Work:
    """Runs the jobs of one node."""

    def __init__(self, host: Host, store: BlobStore, worker: JobExecutor, puller: Puller) -> None:
        self._host = host
        self._store = store
        self._worker = worker
        self._blobs = Blobs(host, store, puller)
        self._tasks: set[asyncio.Task[None]] = set()
        self._fetching: set[tuple[tuple[str, ...], bool]] = set()
        self._last_ready: events.WorkerReady | None = None
        """The last one that was published."""
        self._published_part: int | None = None
        self._started = asyncio.get_running_loop().time()

    def begin(self, effect: Fetch | ReadSchema | WorkerEffect) -> None:
        """Start the job of *effect*."""
        match effect:
            case Fetch():
                if (effect.digests, effect.durable) not in self._fetching:
                    self._fetching.add((effect.digests, effect.durable))
                    for digest in effect.digests:
                        self._store.pin(digest)
                    self._start(self._fetch, effect)
            case ReadSchema():
                self._start(self._read_schema, effect)
            case Describe():
                self._start(self._describe, effect)
            case Create():
                self._start(self._create, effect)
            case Train():
                self._start(self._train, effect)
            case Evaluate():
                self._start(self._evaluate, effect)
            case Aggregate():
                self._start(self._aggregate, effect)
            case _:
                assert_never(effect)

    def stop_training(self) -> None:
        """End the training under way."""
        self._worker.stop_training()

    async def close(self) -> None:
        """End all jobs."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, job: Callable[[Effect], Coroutine[Any, Any, None]], effect: Effect) -> None:
        task = asyncio.create_task(self._run(job, effect))
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._host.break_down(error)

    async def _run(self, job: Callable[[Effect], Coroutine[Any, Any, None]], effect: Effect) -> None:
        try:
            await job(effect)
        except DataDirectoryError as error:
            self._host.fail(error)

    # --- blobs ----------------------------------------------------------------------------------------------

    async def _fetch(self, effect: Fetch) -> None:
        try:
            result = await self._blobs.obtain(effect)
        finally:
            self._fetching.discard((effect.digests, effect.durable))
        # The protocol gets the result before the pins are removed: from then on it names the blobs it needs.
        self._host.feed(result)
        self._unpin_later(*effect.digests)

    def _unpin_later(self, *digests: str) -> None:
        """Remove a pin of each of *digests* after all queued effects; an empty digest stands for no blob."""
        for digest in digests:
            if digest:
                self._host.unpin_later(digest)

    async def _read_schema(self, effect: ReadSchema) -> None:
        self._host.feed(await self._blobs.read_schema(effect))

    async def _adopt(self, path: Path, digest: str, *, durable: bool = True) -> None:
        """Move a file of the worker into the store, pinned; the caller removes the pin."""
        self._store.pin(digest)
        self._blobs.note_intact(digest)
        if durable:
            await asyncio.to_thread(self._store.adopt, path, digest)
        else:
            self._store.adopt(path, digest, durable=False)  # a rename

    # --- worker ---------------------------------------------------------------------------------------------

    async def _describe(self, effect: Describe) -> None:
        try:
            described = await self._twice(lambda: self._worker.describe(effect.spec, effect.agreement))
        except (TaskError, WorkerError) as error:
            self._host.feed(inputs.WorkFailed(effect, str(error)))
            return
        seconds = asyncio.get_running_loop().time() - self._started
        ready = events.WorkerReady(
            task_name(effect.spec.task),
            described.device,
            0 if _is_untold(effect.spec, described.card) else described.card.examples,
            described.parameters,
            seconds,
        )
        # The task is described again for each run that this node finds, mostly with the same result.
        if self._last_ready is None or msgspec.structs.replace(self._last_ready, seconds=seconds) != ready:
            self._last_ready = ready
            self._host.publish(ready)
            for line in column_lines(described.card):
                self._host.publish(events.Notice("info", line))
        self._host.feed(inputs.Described(effect.spec, effect.agreement, described.schema, described.card))

    async def _create(self, effect: Create) -> None:
        path = self._store.new_path()
        try:
            created = await self._twice(
                lambda: self._worker.create(effect.spec, effect.agreement, path, self._store.directory)
            )
        except (TaskError, WorkerError) as error:
            _remove(path)
            self._host.feed(inputs.WorkFailed(effect, str(error)))
            return
        await self._adopt(path, created.digest)
        self._host.feed(inputs.Created(effect.spec, effect.agreement, created.digest, created.schema))
        # The initial model stays pinned: the run is founded with it later, or never.

    async def _train(self, effect: Train) -> None:
        job, path = effect.job, self._store.new_path()
        control = self._store.new_path() if control_slots(job.spec.strategy) else None

        def progressed(progress: commands.TrainJobProgress) -> None:
            done, total = progress.done, progress.total
            self._host.feed(inputs.TrainProgress(job, done, total, progress.predicted))
            self._host.publish(events.ProgressMade(job.round, "train", done, total))

        try:
            result = await self._twice(
                lambda: self._worker.train(job, self._store.directory, path, progressed, control=control)
            )
        except (TaskError, WorkerError) as error:
            _remove(path, control)
            if not await self._blobs.has_lost(job.model, job.state):
                self._host.feed(inputs.WorkFailed(effect, str(error)))
            return
        if result is None:
            _remove(path, control)
            return
        self._publish_part(job, result.part)
        if control is not None and result.control:
            await self._adopt(control, result.control, durable=False)
        await self._adopt(path, result.digest, durable=False)
        self._host.feed(inputs.Trained(job, result))
        self._unpin_later(result.digest, result.control)

    def _publish_part(self, job: TrainingJob, part: DataCard) -> None:
        if self._published_part != job.partition:
            self._published_part = job.partition
            self._host.publish(events.DataShown(job.partition, partitions_of(job.spec.task), part))

    async def _evaluate(self, effect: Evaluate) -> None:
        job = effect.job
        try:
            evaluation = await self._twice(lambda: self._worker.evaluate(job, self._store.directory))
        except (TaskError, WorkerError) as error:
            if not await self._blobs.has_lost(job.model):
                self._host.feed(inputs.WorkFailed(effect, str(error)))
            return
        self._host.feed(inputs.Evaluated(job, evaluation))

    async def _aggregate(self, effect: Aggregate) -> None:
        job, path = effect.job, self._store.new_path()
        state = self._store.new_path() if state_slots(job.spec.strategy) else None
        try:
            result = await self._twice(
                lambda: self._worker.aggregate(job, self._store.directory, path, state=state)
            )
        except (TaskError, WorkerError) as error:
            _remove(path, state)
            self._host.feed(inputs.WorkFailed(effect, str(error)))
            # The next candidacy of this node aggregates once a damaged blob is here again.
            await self._blobs.has_lost(job.parent, job.state)
            return
        if not isinstance(result, AggregatedModel):
            _remove(path, state)
            self._host.feed(inputs.Aggregated(job, result))
            return
        # The worker has checked every element.
        if state is not None and result.state:
            await self._adopt_result(state, result.state, FINITE)
        await self._adopt_result(path, result.digest, job.parent)
        self._host.feed(inputs.Aggregated(job, result))
        self._unpin_later(result.digest, result.state)

    async def _adopt_result(self, path: Path, digest: str, parent: str) -> None:
        """Move a new model or state into the store; it is about to be accepted."""
        await self._adopt(path, digest, durable=False)
        self._store.begin_keeping(digest)
        self._blobs.note_usable(digest, parent)

    async def _twice(self, job: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Run *job*; once more if the worker failed."""
        try:
            return await job()
        except WorkerError as error:
            logger.warning("the worker failed, the job is retried once: %s", error)
            return await job()


def _remove(*paths: Path | None) -> None:
    for path in paths:
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _is_untold(spec: RunSpec, card: DataCard) -> bool:
    """Whether *card* does not state the number of examples; a script tells it with each update."""
    return isinstance(spec.task, ScriptTask) or card.share == "none"
