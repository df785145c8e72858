"""Specs and jobs of a run that scripts train, and a node for a trainer in a thread of the test."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from p2pfl.cards import MAX_EXAMPLES, Agreement, Measures
from p2pfl.learning.choice import Choice, make_spec
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.process import WorkerSettings
from p2pfl.learning.scripts.trainer import TrainerServer
from p2pfl.spec import RunSpec
from p2pfl.work import EvaluationJob, TrainingJob

MEASURES = Measures("own", ("accuracy", "loss"), "accuracy", "max")
AGREEMENT = Agreement((), MAX_EXAMPLES, MEASURES)

IDLE_WORKER = WorkerSettings(program=(sys.executable, "-c", "import sys; sys.stdin.read()"))
"""A worker that does nothing, and ends with its node."""

ResultT = TypeVar("ResultT")


def script_spec(**options: Any) -> RunSpec:
    return make_spec(Choice("script", "train", DataPlaces()), options)


SPEC = script_spec()


def training(model: str = "m", *, trained: int = 0, spec: RunSpec = SPEC) -> TrainingJob:
    return TrainingJob("run", trained + 1, spec, AGREEMENT, model, 0, trained, 3)


def evaluation(model: str = "m", *, spec: RunSpec = SPEC) -> EvaluationJob:
    return EvaluationJob("run", 1, spec, AGREEMENT, model, 0, 1)


class ThreadedNode:
    """A `TrainerServer` whose event loop runs in a thread, so that a loop of rounds can run in the test's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notices: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.server = self.run(self._open())

    async def _open(self) -> TrainerServer:
        server = TrainerServer("train", on_notice=self.notices.append)
        await server.open(self.folder)
        return server

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Run *work* in the node's loop, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def begin(self, work: Coroutine[Any, Any, ResultT]) -> Begun[ResultT]:
        """Run *work* in the node's loop, and return at once."""
        return Begun(self.run(_started(work)), self._loop)

    def do(self, call: Any, *arguments: Any) -> None:
        """Call *call* in the node's loop."""

        async def work() -> None:
            call(*arguments)

        self.run(work())

    def close(self) -> None:
        self.run(self.server.close("the test is over"))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


class Begun(Generic[ResultT]):
    """Work under way in the loop of a `ThreadedNode`."""

    def __init__(self, task: asyncio.Task[ResultT], loop: asyncio.AbstractEventLoop) -> None:
        self._task = task
        self._loop = loop

    def result(self) -> ResultT:
        async def wait() -> ResultT:
            return await self._task

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result(30)


async def _started(work: Coroutine[Any, Any, ResultT]) -> asyncio.Task[ResultT]:
    return asyncio.create_task(work)


@contextmanager
def threaded_node(folder: Path) -> Iterator[ThreadedNode]:
    node = ThreadedNode(folder)
    try:
        yield node
    finally:
        node.close()
