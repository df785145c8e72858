"""Runs the worker process from the node process: starts it, sends it jobs, receives answers, restarts it.

It is separate from `p2pfl.learning.worker` because the node process must not import torch. A `Worker`
outlives the processes that it starts: when a process dies, its jobs raise `WorkerError`, `on_death` is called
with the reason, and the next job starts another process.

Three kinds of failures are detected. An exit or a crash closes the pipe, so it is detected at once. A frozen
process, or one in which no thread can run Python, sends no `WorkerHeartbeat` frames
(`WorkerSettings.silence_seconds`). A hanging job, such as a torch operation that never returns, makes no
progress for `WorkerSettings.hang_factor` times its predicted duration. The process is then killed, and its
jobs fail. The predicted duration is the job's own prediction, or the duration of the last job of its kind.
Without either, the limit is an hour, since the first job of a kind may load torch or download data.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from p2pfl.cards import Agreement
from p2pfl.errors import P2pflError, TaskError, WorkerError
from p2pfl.learning import commands
from p2pfl.learning.commands import Answer, Command, TrainJobProgress
from p2pfl.learning.data import DataPlaces
from p2pfl.learning.output_lines import output_lines
from p2pfl.learning.watchdog import SILENT_TICKS, StallDetector, Watchdog
from p2pfl.messages import Evaluation
from p2pfl.programs import PYTHON, detached, environment
from p2pfl.spec import RunSpec
from p2pfl.work import AggregationJob, AggregationResult, EvaluationJob, TrainingJob, TrainingResult

logger = logging.getLogger(__name__)

output_logger = logging.getLogger("p2pfl.worker")
"""Logs each line that the worker process writes to its standard error: torch's warnings, user code's
output."""

TORCH_DEFAULTS = {"OMP_WAIT_POLICY": "PASSIVE", "THP_MEM_ALLOC_ENABLE": "1"}
"""Environment variables of the worker; the user's environment takes precedence.

OMP_WAIT_POLICY: by default torch's threads wait for each other in busy loops, even while another process,
such as this node, occupies the core of the awaited thread. On two shared cores, small models took up to ten
times as long to train. THP_MEM_ALLOC_ENABLE: with large tensors in huge pages (only on Linux), a worker with
11 million parameters spends a quarter less time in the kernel, which allocates memory page by page."""

OnProgress = Callable[[TrainJobProgress], None]
AnswerT = TypeVar("AnswerT", bound=msgspec.Struct)


class WorkerSettings(msgspec.Struct, frozen=True):
    """The settings of the worker process."""

    device: str = "auto"
    """"auto" is CUDA if available, else MPS, else the CPU; or a torch device name: "cpu", "cuda:1", "mps"."""
    threads: int = 0
    """Number of torch's threads on the CPU; 0 is torch's default, one per core."""
    places: DataPlaces = DataPlaces()
    """The folder of data sets, an absolute path, and whether they may be downloaded."""
    pace: float = 0.0
    """Minimum duration of a training in seconds, so that people can follow a demo."""
    silence_seconds: float = 60.0
    """Time without a frame from the worker after which it is killed. Heartbeats come every two seconds;
    swapping can delay them."""
    hang_factor: float = 10.0
    """A job hangs if it makes no progress for its predicted duration times this factor, plus `hang_seconds`.
    Other programs on the device may make a job several times slower."""
    hang_seconds: float = 60.0
    exit_seconds: float = 5.0
    """Time in which a worker must exit after its pipes closed; then it is killed."""
    program: tuple[str, ...] = (*PYTHON, "p2pfl.learning.worker")
    """The command that starts the worker, without its options."""


class _Job:
    """A command that waits for its answer."""

    def __init__(self, command: Command, on_progress: OnProgress | None, expected: float | None) -> None:
        loop = asyncio.get_running_loop()
        self.command = command
        self.on_progress = on_progress
        self.expected = expected
        """Predicted duration in seconds; None: unknown."""
        self.began = loop.time()
        self.answer: asyncio.Future[Answer] = loop.create_future()

    @property
    def aggregates(self) -> bool:
        """Whether the worker executes it in the aggregation thread, which does not wait for other jobs."""
        return isinstance(self.command, commands.RunAggregation)


class _Life:
    """One worker process, from its start to its end."""

    def __init__(self, process: asyncio.subprocess.Process, settings: WorkerSettings) -> None:
        self.process = process
        self.jobs: dict[int, _Job] = {}
        self.watchdog = Watchdog()
        self.last_words = ""
        """The last line that it wrote to its standard error."""
        self.stall_detectors = {
            aggregates: StallDetector(settings.hang_factor, settings.hang_seconds)
            for aggregates in (False, True)
        }
        """For each of the worker's two threads, by `_Job.aggregates`."""
        self.killed_because = ""
        """Why the node ended it; empty if it ended by itself."""
        self.attendant: asyncio.Task[None] | None = None

    def send(self, command: Command) -> None:
        """Send *command*. If the process is dying, the command is lost and its job fails with all others."""
        assert self.process.stdin is not None
        if not self.process.stdin.is_closing():
            self.process.stdin.write(commands.encode(command))

    def look_for_hang(self, tick: float) -> str:
        """Check for a hanging job, *tick* seconds after the last check; return the reason to kill, or ""."""
        for aggregates, stall in self.stall_detectors.items():
            jobs = [job for job in self.jobs.values() if job.aggregates == aggregates]
            if stall.is_stalled([job.expected for job in jobs], tick):
                kind = jobs[0].command.__struct_config__.tag
                longest = max(job.expected or 0.0 for job in jobs)
                known = f"; its predicted duration was {longest:.0f} s" if longest else ""
                return f"its job ({kind}) made no progress for {stall.stalled_seconds:.0f} s{known}"
        return ""

    def kill(self, because: str) -> None:
        """Kill the process; *because* is the reason unless it has one."""
        self.killed_because = self.killed_because or because
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


class Worker:
    """Trains, evaluates and aggregates in a separate process.

    Call all methods in the event loop that started the worker. Several jobs may be awaited at the same time;
    they are executed one after another, except that an aggregation runs beside the others. Paths name
    temporary files that the caller owns; a failed job may leave an incomplete file.

    Every job raises:
        TaskError: the task, its data or its options are wrong, so a retry cannot succeed.
        WorkerError: the process died, was closed, or the job failed for another reason.
    """

    def __init__(
        self, settings: WorkerSettings | None = None, *, on_death: Callable[[str], None] | None = None
    ) -> None:
        self._settings = settings or WorkerSettings()
        self.on_death = on_death
        """Called with the reason when a process dies, unless it was closed."""
        self._ids = itertools.count(1)
        self._starting = asyncio.Lock()
        self._life: _Life | None = None
        self._took: dict[type[Command], float] = {}
        """Duration in seconds of the last successful job of each kind, from command to answer."""

    @property
    def pid(self) -> int | None:
        """The process id of the worker; None while no process runs."""
        return self._life.process.pid if self._life else None

    async def start(self) -> None:
        """Start a process unless one runs.

        This takes milliseconds. The process imports torch afterwards, and jobs wait for it.

        Raises:
            WorkerError: the system cannot start it.
        """
        async with self._starting:
            if self._life is None:
                self._life = await self._begin()

    async def close(self) -> None:
        """End the process, also during a job; unfinished jobs raise `WorkerError`.

        A later job starts another one.
        """
        async with self._starting:
            life = self._life
            if life is None:
                return
            life.killed_because = "it was closed"
            assert life.process.stdin is not None
            assert life.attendant is not None
            life.process.stdin.close()
            try:
                async with asyncio.timeout(self._settings.exit_seconds):
                    await asyncio.shield(life.attendant)
            except TimeoutError:
                life.kill("it was closed")
                await life.attendant

    # --- jobs -----------------------------------------------------------------------------------------------

    async def describe(self, spec: RunSpec, agreement: Agreement | None = None) -> commands.DescribeDone:
        """Load the task of *spec* and describe its data, and its model if there is an *agreement*."""
        return await self._do(commands.DescribeJob(next(self._ids), spec, agreement), commands.DescribeDone)

    async def create(
        self, spec: RunSpec, agreement: Agreement, path: Path, folder: Path | None = None
    ) -> commands.CreateDone:
        """Write the initial model of *spec* for *agreement* to *path* and flush it to disk.

        Its frozen tensors are kept beside *folder*, that of the blobs, if there is one.
        """
        command = commands.CreateJob(next(self._ids), spec, agreement, str(path), str(folder or ""))
        return await self._do(command, commands.CreateDone)

    async def check_strategy(self, spec: RunSpec) -> str:
        """Load and try the strategy of *spec*, one of the user's own; return the digest of its source."""
        command = commands.CheckStrategy(next(self._ids), spec)
        return (await self._do(command, commands.StrategyChecked)).source

    async def train(
        self,
        job: TrainingJob,
        folder: Path,
        path: Path,
        on_progress: OnProgress | None = None,
        *,
        control: Path | None = None,
    ) -> TrainingResult | None:
        """Do *job*, whose blobs are in *folder*, and write the update to *path*, not flushed.

        Its control is written to *control*, which is needed only if the strategy has controls. Return None if
        `stop_training` stopped it. Cancelling the call stops the training too.
        """
        command = commands.RunTraining(
            next(self._ids), job, str(folder), str(path), str(control) if control is not None else ""
        )
        done = await self._do_stoppable(command, commands.TrainingDone, on_progress)
        return done.result if done is not None else None

    async def evaluate(self, job: EvaluationJob, folder: Path) -> Evaluation:
        """Do *job*, whose blob is in *folder*."""
        command = commands.RunEvaluation(next(self._ids), job, str(folder))
        return (await self._do(command, commands.EvaluationDone)).result

    async def aggregate(
        self, job: AggregationJob, folder: Path, path: Path, *, state: Path | None = None
    ) -> AggregationResult:
        """Do *job*, whose blobs are in *folder*; write the new model to *path*, not flushed.

        The new state is written to *state*, which is needed only if the strategy has one.
        """
        command = commands.RunAggregation(
            next(self._ids), job, str(folder), str(path), str(state) if state is not None else ""
        )
        return (await self._do(command, commands.AggregationDone)).result

    def stop_training(self) -> None:
        """Stop all trainings, running or queued, between two batches; their calls return None."""
        if self._life is not None:
            for job in self._life.jobs.values():
                if isinstance(job.command, commands.RunTraining):
                    self._life.send(commands.StopJob(job.command.id))

    async def _do_stoppable(
        self, command: Command, wanted: type[AnswerT], on_progress: OnProgress | None
    ) -> AnswerT | None:
        answer = await self._ask(command, on_progress)
        return None if isinstance(answer, commands.JobStopped) else expect(answer, wanted)

    async def _do(self, command: Command, wanted: type[AnswerT]) -> AnswerT:
        return expect(await self._ask(command, None), wanted)

    async def _ask(self, command: Command, on_progress: OnProgress | None) -> Answer:
        await self.start()
        life = self._life
        assert life is not None
        job = _Job(command, on_progress, self._took.get(type(command)))
        life.jobs[command.id] = job
        life.send(command)
        try:
            return await job.answer
        except asyncio.CancelledError:
            life.send(commands.StopJob(command.id))
            raise
        finally:
            life.jobs.pop(command.id, None)

    # --- the process ----------------------------------------------------------------------------------------

    async def _begin(self) -> _Life:
        settings = self._settings
        arguments = ["--device", settings.device, "--threads", str(settings.threads)]
        if settings.places != DataPlaces():
            arguments.append(f"--places={settings.places.to_text()}")
        if settings.pace:
            arguments.append(f"--pace={settings.pace}")
        try:
            # Only the node handles Ctrl-C in its terminal. The end of its standard input, not a signal, ends
            # the worker.
            process = await asyncio.create_subprocess_exec(
                *settings.program,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**TORCH_DEFAULTS, **environment()},
                **detached(),
            )
        except OSError as error:
            raise WorkerError(f"The worker process cannot be started: {error}.") from error
        logger.debug("worker process %d started", process.pid)
        life = _Life(process, settings)
        life.attendant = asyncio.create_task(self._attend(life), name="worker")
        return life

    async def _attend(self, life: _Life) -> None:
        """Receive from a process until it is dead; then fail its jobs and call `on_death`."""
        watch = asyncio.create_task(self._watch(life), name="worker watch")
        relay = asyncio.create_task(self._relay_output(life), name="worker output")
        try:
            await self._hear(life)
        except WorkerError as error:
            life.kill(str(error))
        try:
            async with asyncio.timeout(self._settings.exit_seconds):
                await life.process.wait()
                await relay
        except TimeoutError:
            life.kill("it closed its pipe but did not exit")
            await life.process.wait()
        for task in (watch, relay):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._life is life:
            self._life = None
        reason = _death(life)
        for job in life.jobs.values():
            if not job.answer.done():
                job.answer.set_exception(WorkerError(reason))
        if life.killed_because != "it was closed" and self.on_death is not None:
            asyncio.get_running_loop().call_soon(self.on_death, reason)

    async def _hear(self, life: _Life) -> None:
        """Receive answers until the pipe ends."""
        stream = life.process.stdout
        assert stream is not None
        while True:
            try:
                length = int.from_bytes(await stream.readexactly(commands.LENGTH_BYTES), "big")
                commands.check_length(length)
                answer = commands.decode_answer(await stream.readexactly(length))
            except asyncio.IncompleteReadError:
                return
            life.watchdog.heard = True
            if isinstance(answer, commands.WorkerHeartbeat):
                continue
            job = life.jobs.get(answer.id)
            if job is None or job.answer.done():  # its caller was cancelled
                continue
            life.stall_detectors[job.aggregates].note_progress()
            if not isinstance(answer, TrainJobProgress):
                if not isinstance(answer, commands.JobFailed | commands.JobStopped):
                    self._took[type(job.command)] = asyncio.get_running_loop().time() - job.began
                job.answer.set_result(answer)
                continue
            job.expected = answer.predicted
            if job.on_progress is not None:
                asyncio.get_running_loop().call_soon(job.on_progress, answer)

    async def _watch(self, life: _Life) -> None:
        """Kill a process that sends nothing, or whose job hangs."""
        tick = self._settings.silence_seconds / SILENT_TICKS
        while not life.watchdog.is_silent():
            await asyncio.sleep(tick)
            if hang := life.look_for_hang(tick):
                life.kill(hang)
                return
        life.kill(f"it sent nothing for {self._settings.silence_seconds:g} s")

    async def _relay_output(self, life: _Life) -> None:
        """Log what the process writes to its standard error, line by line."""
        assert life.process.stderr is not None
        async for line in output_lines(life.process.stderr):
            life.last_words = line
            output_logger.info("%s", line)


def expect(answer: Answer, wanted: type[AnswerT]) -> AnswerT:
    """Return *answer* if it is of the type *wanted*.

    Raises:
        TaskError: it reports a mistake in the task, its data or its options.
        WorkerError: it reports another failure, or has another type.
    """
    if isinstance(answer, wanted):
        return answer
    if isinstance(answer, commands.JobFailed):
        error: type[P2pflError] = TaskError if answer.kind == "task" else WorkerError
        raise error(answer.reason)
    raise WorkerError(
        f"The worker answered with {type(answer).__name__} where {wanted.__name__} was expected."
    )


def _death(life: _Life) -> str:
    """Return a sentence on how a process ended."""
    if life.killed_because:
        return f"The worker process was ended: {life.killed_because}."
    code = life.process.returncode
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        how = f"was killed by {name}"
        if name == "SIGKILL":
            how += " (does the device have too little memory?)"
    else:
        how = f"ended with exit code {code}"
    return f"The worker process {how}; its last output: {life.last_words[:200] or 'none'}."
