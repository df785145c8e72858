"""The node's side of a trainer: listens for it, gives it the jobs, and keeps them while there is none.

A `TrainerServer` outlives its trainers. A job waits until a trainer is connected. When the trainer
disconnects (a crash, Ctrl-C, a cell of a notebook that is run again), its unfinished jobs are sent to the
next one. The newest trainer wins: in a notebook, an interrupted loop may still hold its connection when the
next one begins.

`TrainerWorker` has the interface of `p2pfl.learning.process.Worker`: the trainer describes, creates, trains
and evaluates, and the worker process aggregates.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import logging
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from p2pfl.cards import Agreement
from p2pfl.errors import P2pflError, TaskError, WorkerError
from p2pfl.learning import commands
from p2pfl.learning.commands import Answer, Command
from p2pfl.learning.data import check_share
from p2pfl.learning.process import OnProgress, Worker, expect
from p2pfl.learning.scripts import frames
from p2pfl.learning.scripts.frames import (
    FRAMES_VERSION,
    MAX_SOCKET_PATH,
    SOCKET_FILE,
    TrainerEndpoint,
    TrainerHello,
    TrainerRefused,
    TrainerRunOver,
    TrainerWelcome,
)
from p2pfl.messages import Evaluation
from p2pfl.spec import RunSpec, ScriptTask, Share, describe_task
from p2pfl.strategy_specs import OwnStrategySpec
from p2pfl.work import AggregationJob, AggregationResult, EvaluationJob, TrainingJob, TrainingResult

logger = logging.getLogger(__name__)

HELLO_SECONDS = 10.0
"""Time in which a program that connects must introduce itself."""

ENDED_WITH_RUN = "the script or notebook has ended with its run; start this node again for another run"

AnswerT = TypeVar("AnswerT", bound=msgspec.Struct)
OnNotice = Callable[[str], None]
"""Called with a sentence for the user of this device."""


class _PendingJob:
    """A command without an answer."""

    def __init__(self, command: Command, on_progress: OnProgress | None) -> None:
        self.command = command
        self.on_progress = on_progress
        self.is_stopped = False
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()


class _Connection:
    """One connected trainer."""

    def __init__(self, writer: asyncio.StreamWriter, what: str) -> None:
        self.writer = writer
        self.what = what

    def send(self, frame: frames.FromNode) -> None:
        """Send *frame*; it is lost if the trainer is gone."""
        if not self.writer.is_closing():
            self.writer.write(frames.encode(frame))


class TrainerServer:
    """Listens for a trainer of the task *task*, and keeps the jobs that wait for one.

    Call all methods in the event loop of `open`.
    """

    def __init__(self, task: str, *, token: str = "", on_notice: OnNotice = lambda _: None) -> None:
        """Trainers show *token*; empty: a random one."""
        self._task = task
        self._token = token or secrets.token_hex(32)
        self._on_notice = on_notice
        self._ids = itertools.count(1)
        self._jobs: dict[int, _PendingJob] = {}
        """By id, in the order in which a trainer executes them."""
        self._connection: _Connection | None = None
        self._server: asyncio.Server | None = None
        self._is_awaited = False
        """Whether the user was told that a job waits for a trainer."""
        self._over: TrainerRunOver | None = None
        self._refusal = ""
        """Why every job fails; empty if a trainer may do it."""
        self.endpoint: TrainerEndpoint
        """Where a trainer connects; set by `open`."""
        self.connected = 0
        """Number of trainers that have connected."""
        self.submitted = 0
        """Number of updates of all trainers."""
        self.on_lost: Callable[[], None] = lambda: None
        """Called when a trainer has disconnected."""
        self._interrupted: int | None = None
        """The job that the last trainer had begun when it disconnected."""

    @property
    def is_connected(self) -> bool:
        """Whether there is a trainer."""
        return self._connection is not None

    @property
    def is_over(self) -> bool:
        """Whether the run has ended."""
        return self._over is not None

    async def open(self, folder: Path) -> None:
        """Listen on a Unix socket in *folder*, or on the loopback interface.

        Raises:
            OSError: the system refuses.
        """
        token, path = self._token, folder / SOCKET_FILE
        if hasattr(socket, "AF_UNIX") and len(os.fsencode(path)) <= MAX_SOCKET_PATH:
            path.unlink(missing_ok=True)  # of a node that was killed; the data directory is locked
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                listening.bind(str(path))
                path.chmod(0o600)  # before it accepts a connection
                self._server = await asyncio.start_unix_server(self._accept, sock=listening)
            except BaseException:
                listening.close()
                raise
            self.endpoint = TrainerEndpoint(token, str(path))
            return
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.endpoint = TrainerEndpoint(token, port=self._server.sockets[0].getsockname()[1])

    async def close(self, reason: str) -> None:
        """Say goodbye to the trainer with *reason*, and stop listening; unfinished jobs fail."""
        if self._connection is not None and not self.is_over:
            self._connection.send(TrainerRefused(reason))
        self.drop()
        if self._server is not None:
            self._server.close()
            self._delete_socket()
        self.refuse(reason, WorkerError)

    def _delete_socket(self) -> None:
        if self.endpoint.path:
            Path(self.endpoint.path).unlink(missing_ok=True)

    # --- jobs -----------------------------------------------------------------------------------------------

    def next_id(self) -> int:
        """Return the id of a new command."""
        return next(self._ids)

    async def ask(self, command: Command, on_progress: OnProgress | None = None) -> Answer:
        """Have a trainer execute *command*; wait for the trainer if there is none.

        Raises:
            TaskError: no trainer will do it, or it ended while it did it.
            WorkerError: the node is ending.
        """
        if self._refusal:
            raise TaskError(self._refusal)
        if self.is_over:
            raise TaskError(ENDED_WITH_RUN)
        job = self._jobs[command.id] = _PendingJob(command, on_progress)
        if self._connection is not None:
            self._connection.send(command)
        elif not self._is_awaited and self.connected:
            self._is_awaited = True
            self._on_notice("work waits for the next loop of p2pfl.rounds")
        try:
            return await job.answer
        except asyncio.CancelledError:
            self._stop(job)
            raise
        finally:
            self._jobs.pop(command.id, None)

    def stop_training(self) -> None:
        """Stop all trainings; a loop that runs ends by itself, and its result is dropped."""
        for job in list(self._jobs.values()):
            if isinstance(job.command, commands.RunTraining):
                self._stop(job)

    def _stop(self, job: _PendingJob) -> None:
        job.is_stopped = True
        if self._connection is not None:
            self._connection.send(commands.StopJob(job.command.id))
        elif not job.answer.done():
            job.answer.set_result(commands.JobStopped(job.command.id))

    def fail_interrupted(self, reason: str, *, or_first: bool) -> bool:
        """Fail the job that the last trainer had begun; return whether there was one.

        With *or_first*, the first of all jobs fails if none had begun: the trainer could do no job at all.
        """
        job = self._jobs.get(self._interrupted) if self._interrupted is not None else None
        if job is None and or_first:
            job = next(iter(self._jobs.values()), None)
        self._interrupted = None
        if job is None or job.answer.done():
            return False
        job.answer.set_exception(TaskError(reason))
        return True

    def refuse(self, reason: str, kind: type[P2pflError] = TaskError) -> None:
        """Fail all jobs, now and later, with *reason*."""
        self._refusal = reason
        for job in self._jobs.values():
            if not job.answer.done():
                job.answer.set_exception(kind(reason))

    def end_run(self, path: str) -> None:
        """Tell the trainer that the run has ended; its final model is the file *path*."""
        self._over = TrainerRunOver(path)
        if self._connection is not None:
            self._connection.send(self._over)

    # --- trainers -------------------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                hello = await _read(reader)
            flaw = self._flaw(hello)
            if flaw or not isinstance(hello, TrainerHello):
                writer.write(frames.encode(TrainerRefused(flaw)))
                return
            connection = _Connection(writer, hello.what)
            self._begin(connection)
            try:
                while True:
                    self._take(connection, await _read(reader))
            finally:
                if self._connection is connection:
                    self._lose()
        except (TimeoutError, OSError, EOFError):
            pass
        except asyncio.CancelledError:
            pass  # the event loop ends; asyncio's streams cannot handle a cancelled handler
        except WorkerError as error:
            logger.warning("a trainer is disconnected: %s", error)
        finally:
            writer.close()

    def _flaw(self, hello: frames.FromTrainer) -> str:
        """Return why a program that begins with *hello* is refused; empty if it is welcome."""
        if not isinstance(hello, TrainerHello) or not hmac.compare_digest(hello.token, self.endpoint.token):
            return "the node does not know this program: let the node start it, or call p2pfl.node again"
        if hello.version != FRAMES_VERSION:
            return "node and script use different versions of p2pfl: use the same on both sides"
        return self._refusal

    def _begin(self, connection: _Connection) -> None:
        """Make *connection* that of the trainer, and send it all jobs."""
        if self._connection is not None:
            self._connection.send(TrainerRefused("another loop of p2pfl.rounds has begun on this node"))
            self.drop()
        self._connection, self._interrupted = connection, None
        self._is_awaited = False
        self.connected += 1
        logger.info("trained by %s", connection.what)
        if self.connected > 1:
            self._on_notice(f"{connection.what} trains here now")
        connection.send(TrainerWelcome(self._task))
        for job in self._jobs.values():
            connection.send(job.command)
        if self._over is not None:
            connection.send(self._over)

    def drop(self) -> None:
        """Disconnect the trainer, if there is one."""
        if self._connection is not None:
            writer = self._connection.writer
            self._lose()
            writer.close()

    def _lose(self) -> None:
        """Note that the trainer is gone: keep its jobs for the next one, except those that nobody needs."""
        assert self._connection is not None
        what, self._connection = self._connection.what, None
        self._interrupted = next(iter(self._jobs), None)
        for job in self._jobs.values():
            if job.is_stopped and not job.answer.done():
                job.answer.set_result(commands.JobStopped(job.command.id))
        logger.info("no longer trained by %s", what)
        self.on_lost()

    def _take(self, connection: _Connection, answer: frames.FromTrainer) -> None:
        if isinstance(answer, TrainerHello | commands.WorkerHeartbeat) or connection is not self._connection:
            return
        job = self._jobs.get(answer.id)
        if job is None or job.answer.done():  # its caller was cancelled
            return
        if not isinstance(answer, commands.TrainJobProgress):
            self.submitted += isinstance(answer, commands.TrainingDone)
            stopped = commands.JobStopped(answer.id)
            job.answer.set_result(stopped if job.is_stopped else answer)
            self._jobs.pop(answer.id)
        elif job.on_progress is not None and not job.is_stopped:
            job.on_progress(answer)


async def _read(reader: asyncio.StreamReader) -> frames.FromTrainer:
    length = int.from_bytes(await reader.readexactly(commands.LENGTH_BYTES), "big")
    commands.check_length(length)
    return frames.decode_from_trainer(await reader.readexactly(length))


class TrainerWorker:
    """Gives jobs to a trainer, and aggregations to a worker process; the interface of `Worker`.

    Every job raises the same errors as those of `Worker`.
    """

    def __init__(self, worker: Worker | None, server: TrainerServer, share: Share = "labels") -> None:
        """*worker* is None where nothing is aggregated; *share* is the most that this device tells."""
        self._worker = worker
        self._server = server
        self._share = share

    @property
    def pid(self) -> int | None:
        """The process id of the worker; None while no process runs."""
        return self._worker.pid if self._worker is not None else None

    async def describe(self, spec: RunSpec, agreement: Agreement | None = None) -> commands.DescribeDone:
        """Have the trainer describe its data, and its model if there is an *agreement*."""
        if not isinstance(spec.task, ScriptTask):
            raise TaskError(
                f"the run is for {describe_task(spec.task)}, and this device trains with a script; start it "
                "without --script to take part"
            )
        check_share(spec.task, self._share)
        if self._worker is not None:
            await self._worker.start()  # it loads torch while the script loads its data
        command = commands.DescribeJob(self._server.next_id(), spec, agreement)
        described = expect(await self._server.ask(command), commands.DescribeDone)
        if self._worker is None or not isinstance(spec.strategy, OwnStrategySpec):
            return described
        source = await self._worker.check_strategy(spec)
        card = msgspec.structs.replace(described.card, strategy_source=source)
        return msgspec.structs.replace(described, card=card)

    async def create(
        self, spec: RunSpec, agreement: Agreement, path: Path, folder: Path | None = None
    ) -> commands.CreateDone:
        """Have the trainer write its model as it is to *path*, flushed to disk.

        Its frozen tensors are kept beside *folder*, that of the blobs, if there is one.
        """
        command = commands.CreateJob(self._server.next_id(), spec, agreement, str(path), str(folder or ""))
        return expect(await self._server.ask(command), commands.CreateDone)

    async def train(
        self,
        job: TrainingJob,
        folder: Path,
        path: Path,
        on_progress: OnProgress | None = None,
        *,
        control: Path | None = None,
    ) -> TrainingResult | None:
        """Have the trainer do *job* and write the update to *path*; return None if it was stopped.

        A *control* is written beside it if the strategy has controls.
        """
        command = commands.RunTraining(
            self._server.next_id(), job, str(folder), str(path), str(control) if control is not None else ""
        )
        answer = await self._server.ask(command, on_progress)
        if isinstance(answer, commands.JobStopped):
            return None
        return expect(answer, commands.TrainingDone).result

    async def evaluate(self, job: EvaluationJob, folder: Path) -> Evaluation:
        """Have the trainer do *job*, whose blob is in *folder*."""
        command = commands.RunEvaluation(self._server.next_id(), job, str(folder))
        return expect(await self._server.ask(command), commands.EvaluationDone).result

    async def aggregate(
        self, job: AggregationJob, folder: Path, path: Path, *, state: Path | None = None
    ) -> AggregationResult:
        """Have the worker process do *job*."""
        assert self._worker is not None
        return await self._worker.aggregate(job, folder, path, state=state)

    def stop_training(self) -> None:
        """Stop all trainings."""
        self._server.stop_training()

    async def close(self) -> None:
        """End the worker process."""
        if self._worker is not None:
            await self._worker.close()
