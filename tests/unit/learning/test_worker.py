from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from typing import BinaryIO

import pytest

from p2pfl.errors import TaskError, WorkerError
from p2pfl.learning import commands, worker
from p2pfl.learning.commands import Answer, Command
from p2pfl.learning.worker import Inbox, Inboxes, Outbox, PacedDoer
from p2pfl.messages import Evaluation
from p2pfl.work import AggregationJob, EvaluationJob, TrainingJob, TrainingResult, WeightedUpdate
from tests.support.core import ballot
from tests.support.learning import SPEC
from tests.support.records import AGREEMENT, CARD


class Scripted:
    """Answers a command with the next thing scripted, or raises it."""

    def __init__(self, *outcomes: Answer | Exception) -> None:
        self._outcomes = list(outcomes)

    def do(
        self,
        command: Command,
        report: Callable[[commands.TrainJobProgress], None],
        is_stopped: Callable[[], bool],
    ) -> Answer:
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def _answers(stream: io.BytesIO) -> list[Answer]:
    content, answers = stream.getvalue(), []
    while content:
        length = int.from_bytes(content[:4], "big")
        answers.append(commands.decode_answer(content[4 : 4 + length]))
        content = content[4 + length :]
    return answers


def _do(command: Command, *outcomes: Answer | Exception, stop: bool = False) -> Answer:
    inbox, stream = Inbox(), io.BytesIO()
    inbox.put(command)
    if stop:
        inbox.put(commands.StopJob(command.id))
    worker.do_next(inbox, Outbox(stream), Scripted(*outcomes))
    return _answers(stream)[0]


COMMAND = commands.DescribeJob(7, SPEC)


def test_a_jobs_answer_is_sent() -> None:
    assert _do(COMMAND, commands.CreateDone(7, "d", ())) == commands.CreateDone(7, "d", ())


def test_a_job_stopped_before_it_begins_is_not_done() -> None:
    assert _do(COMMAND, stop=True) == commands.JobStopped(7)


def test_the_tasks_fault_is_told_from_the_workers() -> None:
    assert _do(COMMAND, TaskError("No data.")) == commands.JobFailed(7, "No data.", "task")
    assert _do(COMMAND, WorkerError("No disk.")) == commands.JobFailed(7, "No disk.", "internal")


def test_an_unexpected_failure_is_answered_and_logged_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    answer = _do(COMMAND, ZeroDivisionError("oops\nmore"))
    assert answer == commands.JobFailed(7, "The worker failed with ZeroDivisionError: oops", "internal")
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_lack_of_memory_says_what_helps(error: Exception) -> None:
    answer = _do(COMMAND, error)
    assert isinstance(answer, commands.JobFailed)
    assert "smaller --batch-size" in answer.reason


def test_a_long_reason_is_cut() -> None:
    answer = _do(COMMAND, TaskError("x" * 1000))
    assert isinstance(answer, commands.JobFailed)
    assert len(answer.reason) == worker.MAX_REASON


def test_a_stop_reaches_a_job_under_way_and_no_other() -> None:
    inbox = Inbox()
    inbox.put(COMMAND)
    inbox.put(commands.DescribeJob(8, SPEC))
    inbox.take()
    inbox.put(commands.StopJob(7))
    assert inbox.is_stopped(7)
    assert not inbox.is_stopped(8)


def test_a_stop_after_its_job_leaves_nothing_behind() -> None:
    inbox = Inbox()
    inbox.put(COMMAND)
    inbox.forget(inbox.take().id)
    inbox.put(commands.StopJob(7))
    assert not inbox.is_stopped(7)


TRAIN = commands.RunTraining(7, TrainingJob("run", 1, SPEC, AGREEMENT, "m", 0), "/", "/u")
TRAINED = commands.TrainingDone(7, TrainingResult("d", CARD, 4, 0.5, 0.1))


class QuickTraining(Scripted):
    """A training that reports half its batches and then is done, at once."""

    def do(
        self,
        command: Command,
        report: Callable[[commands.TrainJobProgress], None],
        is_stopped: Callable[[], bool],
    ) -> Answer:
        report(commands.TrainJobProgress(command.id, 5, 10, 0.1))
        return super().do(command, report, is_stopped)


class Clock:
    """Stands for `time`: a sleep takes no time and moves the clock on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(worker, "time", self)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_paced_training_takes_at_least_its_pace_and_predicts_so(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    told: list[commands.TrainJobProgress] = []
    assert PacedDoer(QuickTraining(TRAINED), 3.0).do(TRAIN, told.append, lambda: False) == TRAINED
    assert clock.now == 3.0
    assert {(one.total, one.predicted) for one in told} == {(10, 3.0)}
    assert [one.done for one in told][:1] == [0]
    assert [one.done for one in told][-1:] == [10]
    assert [one.done for one in told] == sorted(one.done for one in told)


def test_a_stop_ends_the_wait_of_a_paced_training(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    paced = PacedDoer(QuickTraining(TRAINED), 3600.0)
    assert paced.do(TRAIN, lambda _: None, lambda: clock.now > 1.0) == commands.JobStopped(7)
    assert clock.now < 2.0


def test_a_pace_is_for_trainings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    evaluated = commands.EvaluationDone(4, Evaluation(5, {"accuracy": 3.0, "loss": 1.25}))
    command = commands.RunEvaluation(4, EvaluationJob("run", 1, SPEC, AGREEMENT, "m", 0, 1), "/")
    assert PacedDoer(Scripted(evaluated), 3.0).do(command, lambda _: None, lambda: False) == evaluated
    assert clock.now == 0.0


def _frames(*items: Command) -> bytes:
    return b"".join(map(commands.encode, items))


@pytest.mark.parametrize("cut", range(1, 12))
def test_commands_are_read_up_to_a_cut_one(cut: int) -> None:
    inboxes = Inboxes()
    other = commands.DescribeJob(8, SPEC)
    worker.read_commands(io.BytesIO(_frames(COMMAND, other, other)[:-cut]), inboxes)
    assert [inboxes.training.take(), inboxes.training.take()] == [COMMAND, other]
    assert inboxes.training._queue.empty()


def test_aggregations_do_not_wait_for_trainings() -> None:
    inboxes = Inboxes()
    job = AggregationJob("run", 1, ballot(1, "ada"), SPEC, "parent", (WeightedUpdate("u", 5),))
    aggregation = commands.RunAggregation(8, job, "/blobs", "/a")
    train = commands.RunTraining(7, TrainingJob("run", 1, SPEC, AGREEMENT, "m", 0), "/blobs", "/u")
    for command in (train, aggregation, commands.StopJob(7)):
        inboxes.put(command)
    assert inboxes.aggregating.take() == aggregation
    assert inboxes.training.is_stopped(7)


@pytest.mark.parametrize("content", [b"\x00\x00\x00\x01\xc1", b"\xff\xff\xff\xff"])
def test_other_bytes_end_the_reading(content: bytes) -> None:
    with pytest.raises(WorkerError):
        worker.read_commands(io.BytesIO(content), Inboxes())


def _pair() -> tuple[BinaryIO, BinaryIO]:
    reading, writing = os.pipe()
    return os.fdopen(reading, "rb"), os.fdopen(writing, "wb", buffering=0)


def test_an_answer_leaves_at_once() -> None:
    reading, writing = _pair()
    with reading, writing:
        Outbox(writing).send(commands.WorkerHeartbeat())
        frame = commands.encode(commands.WorkerHeartbeat())
        assert reading.read(len(frame)) == frame


def test_the_process_beats_before_it_has_loaded_torch_and_ends_with_its_input() -> None:
    program = [sys.executable, "-m", "p2pfl.learning.worker"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        frame = commands.encode(commands.WorkerHeartbeat())
        assert process.stdout.read(len(frame)) == frame
        process.stdin.close()
        assert process.wait() == 0
