"""Training by a script or a notebook: connects the trainer's server with the rest of the node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

from p2pfl import events
from p2pfl.events import Published
from p2pfl.learning.process import Worker
from p2pfl.learning.scripts.child import ScriptRunner
from p2pfl.learning.scripts.frames import ENDPOINT_FILE
from p2pfl.learning.scripts.trainer import TrainerServer, TrainerWorker
from p2pfl.runtime.node_config import ScriptSettings
from p2pfl.runtime.observing.endpoint import private_file
from p2pfl.runtime.observing.publish import Publisher
from p2pfl.store.directory import DataDirectory
from p2pfl.store.durable import disk_errors


@asynccontextmanager
async def script_training(
    settings: ScriptSettings | None, task: str, worker: Worker, directory: DataDirectory, publisher: Publisher
) -> AsyncIterator[Worker | TrainerWorker]:
    """Start the script of *settings*, or wait for the program that trains; yield what executes the jobs.

    Without *settings* that is *worker*.

    Raises:
        DataDirectoryError: a disk error.
    """
    if settings is None:
        yield worker
        return

    def tell(level: Literal["info", "warning", "error"]) -> Callable[[str], None]:
        return lambda text: publisher.publish(events.Notice(level, text))

    server = TrainerServer(task, token=settings.token, on_notice=tell("info"))

    def end_run(published: Published) -> None:
        if isinstance(published.event, events.RunEnded):
            server.end_run(str(directory.blobs_path / published.event.model))

    publisher.add(end_run)
    with disk_errors("listen in", directory.path):
        await server.open(directory.path)
    runner = (
        ScriptRunner(settings.words, server, on_end=tell("warning"), on_failure=tell("error"))
        if settings.words
        else None
    )
    try:
        with private_file(directory.path / ENDPOINT_FILE, server.endpoint.to_text().encode()):
            if runner is not None:
                runner.start()
            yield TrainerWorker(worker, server, settings.share)
    finally:
        if runner is not None:
            await runner.close()
        await server.close("the node has ended")
