"""The worker process: `python -m p2pfl.learning.worker --device auto --threads 0`.

The node starts it and communicates over its standard input and output (`p2pfl.learning.commands`). It has
four threads. The main thread imports torch, then trains and evaluates, one job after another. The aggregation
thread runs beside it, so that other members do not wait for the training of their aggregator. The reader
queues commands in one `Inbox` for each of these two threads, and notes stops. The heartbeat thread lets the
node distinguish a busy worker from a frozen one.

The process ends with its standard input: when the node dies, even by SIGKILL, the pipe closes and the reader
ends the process, also during a training. Ctrl-C is ignored here; the node handles it.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from typing import BinaryIO, NoReturn, Protocol

from p2pfl.collector import uncollected
from p2pfl.errors import P2pflError, UserError, WorkerError
from p2pfl.learning import commands
from p2pfl.learning.commands import Answer, Command
from p2pfl.learning.data import DataPlaces

PACE_STEP_SECONDS = 0.25
"""Interval at which a waiting `PacedDoer` reports progress and checks for a stop."""

MAX_REASON = 300
"""Maximum number of characters of a failure's reason: it appears in a log line and perhaps in a record."""


class Inbox:
    """The queue of one thread's commands, and which of them were stopped. Thread-safe."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Command] = SimpleQueue()
        self._lock = threading.Lock()
        self._open: set[int] = set()
        """Ids of the commands that are queued or executed."""
        self._stopped: set[int] = set()
        """A subset of `_open`; read without the lock, after every batch."""

    def put(self, command: Command) -> None:
        """Queue *command*. A `StopJob` takes effect at once; without effect if its job is done."""
        with self._lock:
            if not isinstance(command, commands.StopJob):
                self._open.add(command.id)
                self._queue.put(command)
            elif command.id in self._open:
                self._stopped.add(command.id)

    def take(self) -> Command:
        """Wait for the next command and return it."""
        return self._queue.get()

    def is_stopped(self, job: int) -> bool:
        """Return whether *job* was stopped."""
        return job in self._stopped

    def forget(self, job: int) -> None:
        """Note that *job* is done."""
        with self._lock:
            self._open.discard(job)
            self._stopped.discard(job)


class Outbox:
    """Sends answers to the node. Thread-safe."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, answer: Answer) -> None:
        """Write *answer* at once.

        Raises:
            OSError: the node is gone.
        """
        frame = commands.encode(answer)
        with self._lock:
            self._stream.write(frame)
            self._stream.flush()


class Doer(Protocol):
    """Executes commands: the interface of `p2pfl.learning.jobs.Jobs`."""

    def do(
        self,
        command: Command,
        report: Callable[[commands.TrainJobProgress], None],
        is_stopped: Callable[[], bool],
    ) -> Answer:
        """Execute *command* and return its answer."""


class PacedDoer:
    """Delays the answer of a training until *seconds* after its start, so that people can follow a demo."""

    def __init__(self, doer: Doer, seconds: float) -> None:
        self._doer = doer
        self._seconds = seconds

    def do(
        self,
        command: Command,
        report: Callable[[commands.TrainJobProgress], None],
        is_stopped: Callable[[], bool],
    ) -> Answer:
        """Execute *command*; a training reports progress as if it took the whole time."""
        if not isinstance(command, commands.RunTraining):
            return self._doer.do(command, report, is_stopped)
        began, total = time.monotonic(), 1

        def report_paced(progress: commands.TrainJobProgress) -> None:
            nonlocal total
            total = progress.total
            done = min(progress.done, int(total * (time.monotonic() - began) / self._seconds))
            predicted = max(progress.predicted, self._seconds)
            report(commands.TrainJobProgress(command.id, done, total, predicted))

        answer = self._doer.do(command, report_paced, is_stopped)
        while (
            isinstance(answer, commands.TrainingDone) and (passed := time.monotonic() - began) < self._seconds
        ):
            if is_stopped():
                return commands.JobStopped(command.id)
            time.sleep(min(self._seconds - passed, PACE_STEP_SECONDS))
            report_paced(commands.TrainJobProgress(command.id, total, total, self._seconds))
        return answer


class Inboxes:
    """The inboxes of the main thread and of the aggregation thread."""

    def __init__(self) -> None:
        self.training = Inbox()
        self.aggregating = Inbox()

    def put(self, command: Command) -> None:
        """Queue *command* for the thread that executes it."""
        aggregates = isinstance(command, commands.RunAggregation)
        (self.aggregating if aggregates else self.training).put(command)


def read_commands(stream: BinaryIO, inboxes: Inboxes) -> None:
    """Fill *inboxes* until *stream* ends.

    Raises:
        WorkerError: the stream has an invalid command.
    """
    while len(prefix := stream.read(commands.LENGTH_BYTES)) == commands.LENGTH_BYTES:
        length = int.from_bytes(prefix, "big")
        commands.check_length(length)
        body = stream.read(length)
        if len(body) < length:
            return
        inboxes.put(commands.decode_command(body))


def do_next(inbox: Inbox, outbox: Outbox, doer: Doer) -> None:
    """Execute one command and answer it, also if it fails."""
    command = inbox.take()
    job = command.id
    answer: Answer
    try:
        if inbox.is_stopped(job):
            answer = commands.JobStopped(job)
        else:
            answer = doer.do(command, outbox.send, lambda: inbox.is_stopped(job))
    except Exception as error:  # noqa: BLE001  a failed job, also in user code, must not end the worker
        answer = _failure(job, error)
    inbox.forget(job)
    outbox.send(answer)


def _failure(job: int, error: Exception) -> commands.JobFailed:
    """Return the answer with the reason why *job* failed; log an unexpected error with its traceback."""
    if isinstance(error, UserError):
        return commands.JobFailed(job, str(error)[:MAX_REASON], "task")
    if isinstance(error, P2pflError):
        return commands.JobFailed(job, str(error)[:MAX_REASON], "internal")
    traceback.print_exception(error)
    first = next(iter(str(error).splitlines()), "")
    reason = f"The worker failed with {type(error).__name__}: {first}"
    if isinstance(error, MemoryError) or "out of memory" in reason or "can't allocate memory" in reason:
        reason = f"The worker ran out of memory; a smaller --batch-size or model may fit. {reason}"
    return commands.JobFailed(job, reason[:MAX_REASON], "internal")


def main() -> NoReturn:
    """Run the worker process."""
    parser = argparse.ArgumentParser(prog="p2pfl.learning.worker", description="Started by p2pfl node.")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--places", type=DataPlaces.from_text, default=DataPlaces())
    parser.add_argument("--pace", type=float, default=0.0)
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")  # to the standard error, whose lines the node logs
    logging.getLogger("p2pfl").setLevel(logging.INFO)
    os.umask(0o077)  # updates and memory are for this user only, whatever program the node runs in
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    source, sink = _take_pipes()
    inboxes, outbox = Inboxes(), Outbox(sink)
    threading.Thread(target=_read_and_exit, args=(source, inboxes), name="reader", daemon=True).start()
    threading.Thread(target=_beat, args=(outbox,), name="beat", daemon=True).start()
    with uncollected():
        # This import takes seconds; meanwhile the threads above serve the pipes.
        from p2pfl.learning.jobs import Jobs

    jobs = Jobs(options.device, options.threads, options.places)
    arguments = (inboxes.aggregating, outbox, jobs)
    threading.Thread(target=_do_all, args=arguments, name="aggregation", daemon=True).start()
    _do_all(inboxes.training, outbox, PacedDoer(jobs, options.pace) if options.pace else jobs)


def _do_all(inbox: Inbox, outbox: Outbox, doer: Doer) -> NoReturn:
    """Execute the commands of one thread until the process ends."""
    try:
        while True:
            do_next(inbox, outbox, doer)
    except OSError:  # the node is gone
        os._exit(0)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes from and to the node, on descriptors that libraries and user code do not print to."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, sink


def _read_and_exit(source: BinaryIO, inboxes: Inboxes) -> NoReturn:
    """Read commands until the node closes the pipe; then end the process, also during a job."""
    code = 0
    try:
        read_commands(source, inboxes)
    except WorkerError as error:
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
        code = 1
    os._exit(code)


def _beat(outbox: Outbox) -> None:
    while True:
        try:
            outbox.send(commands.WorkerHeartbeat())
        except OSError:  # the node is gone
            os._exit(0)
        time.sleep(commands.BEAT_SECONDS)


if __name__ == "__main__":
    main()
