"""A `Work` with a fake worker, puller and host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blake3 import blake3

from p2pfl import events
from p2pfl.cards import DataCard, LabelCount
from p2pfl.core import inputs
from p2pfl.core.effects import Evaluate, Train
from p2pfl.errors import DataDirectoryError
from p2pfl.learning import commands
from p2pfl.net.bulk.request import PullRequest
from p2pfl.runtime.jobs.work import Work
from p2pfl.schema import file_bytes, header
from p2pfl.store.blobs import BlobStore
from p2pfl.work import EvaluationJob, TrainingJob, TrainingResult
from tests.support.records import AGREEMENT, SCHEMA, SPEC, digest

RUN, MODEL = digest("run"), digest("model")
WAIT_SECONDS = 10.0
TRAIN = Train(TrainingJob(RUN, 3, SPEC, AGREEMENT, MODEL, 1))
EVALUATE = Evaluate(EvaluationJob(RUN, 2, SPEC, AGREEMENT, MODEL, 0, 3))
GOOD = header(SCHEMA) + bytes(file_bytes(SCHEMA) - len(header(SCHEMA)))
"""A blob of `SCHEMA`: zeros."""
PART = DataCard("digits", 40, (LabelCount("0", 30), LabelCount("1", 10)))
BAD = b"no model"
"""A blob that no check accepts."""
RESULT = TrainingResult(blake3(GOOD).hexdigest(), PART, 3, 0.5, 0.1)


def on_disk(name: str) -> list[inputs.AnyInput]:
    """The inputs about a fetched model: it has arrived, and then it is durable."""
    return [inputs.BlobReady(name, durable=False), inputs.BlobReady(name, durable=True)]


class Host:
    """Records its calls."""

    def __init__(self) -> None:
        self.fed: list[inputs.AnyInput] = []
        self.told: list[events.AnyEvent] = []
        self.unpinned: list[str] = []
        self.errors: list[BaseException] = []
        self._changed = asyncio.Event()

    def feed(self, event: inputs.AnyInput) -> None:
        self.fed.append(event)
        self._changed.set()

    def publish(self, event: events.AnyEvent) -> None:
        self.told.append(event)

    def name_of(self, node: str) -> str:
        return f"the device {node}"

    def unpin_later(self, digest: str) -> None:
        self.unpinned.append(digest)
        self._changed.set()

    def fail(self, error: DataDirectoryError) -> None:
        self.errors.append(error)
        self._changed.set()

    def break_down(self, error: BaseException) -> None:
        self.errors.append(error)
        self._changed.set()

    def _has_ended(self) -> bool:
        if any(isinstance(one, inputs.BlobReady) for one in self.fed):
            return bool(self.unpinned)  # other inputs may precede it
        return any(not isinstance(one, inputs.TrainProgress) for one in self.fed)

    async def outcome(self) -> list[inputs.AnyInput]:
        """Wait until a job has ended; return the inputs so far without progress."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not (self.errors or self._has_ended()):
                self._changed.clear()
                await self._changed.wait()
        return [one for one in self.fed if not isinstance(one, inputs.TrainProgress)]


class Worker:
    """Answers every job with the next of *answers*: raises it, or calls it with the job's arguments.

    The path of a control or a state is the last argument, where there is one.
    """

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.calls: list[str] = []
        self.is_stopped = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def job(*arguments: Any, **paths: Any) -> Any:
            self.calls.append(name)
            answer = self._answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            more = (path for path in paths.values() if path is not None)
            return answer(*arguments, *more) if callable(answer) else answer

        return job

    def stop_training(self) -> None:
        self.is_stopped = True


class Puller:
    """Puts *data* into the store under any requested digest after `may_bring` is set; raises an exception."""

    def __init__(self, store: BlobStore, data: bytes | Exception) -> None:
        self._store = store
        self._data = data
        self.pulls: list[tuple[str, int, tuple[str, ...]]] = []
        self.may_bring = asyncio.Event()
        self.may_bring.set()
        self.by_name: dict[str, bytes] = {}
        """By digest: what it puts there in place of *data*."""
        self.shows = True
        """Whether it calls `watch`. A pull that joined another pull of the same blob does not."""

    async def pull(self, request: PullRequest) -> None:
        self.pulls.append((request.digest, request.length, tuple(request.sources)))
        if request.on_progress is not None:
            request.on_progress(request.sources[0], request.length, request.length)
        await self.may_bring.wait()
        if isinstance(self._data, Exception):
            raise self._data
        if not self._store.has(request.digest):
            data = self.by_name.get(request.digest, self._data)
            path = self._store.new_path()
            path.write_bytes(data)
            self._store.adopt(path, request.digest, durable=request.durable)
            if request.watch is not None and self.shows:
                request.watch(0, data)


class Bench:
    """A `Work` and its fakes."""

    def __init__(self, path: Path, *answers: Any, data: bytes | Exception = b"") -> None:
        self.host = Host()
        self.store = BlobStore(path)
        self.worker = Worker(*answers)
        self.puller = Puller(self.store, data)
        self.work = Work(self.host, self.store, self.worker, self.puller)  # type: ignore[arg-type]

    def keep(self, data: bytes) -> str:
        """Put the blob *data* into the store; return its digest."""
        path, name = self.store.new_path(), blake3(data).hexdigest()
        path.write_bytes(data)
        self.store.adopt(path, name)
        return name

    def forget(self) -> None:
        """Clear the recorded inputs and unpinned."""
        self.host.fed.clear()
        self.host.unpinned.clear()

    def unclaimed(self) -> list[str]:
        """Names of the worker's files that did not become blobs."""
        return [path.name for path in self.store.new_path().parent.iterdir()]


def trained(job: TrainingJob, folder: Path, path: Path, on_progress: Any) -> TrainingResult:
    """A training that reports once and writes an update."""
    on_progress(commands.TrainJobProgress(0, 5, 10, 0.25))
    path.write_bytes(GOOD)
    return RESULT
