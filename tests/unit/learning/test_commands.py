from __future__ import annotations

import subprocess
import sys

import pytest

from p2pfl.errors import WorkerError
from p2pfl.learning import commands
from p2pfl.messages import Evaluation
from p2pfl.schema import TensorSpec
from p2pfl.work import (
    AggregatedModel,
    AggregationJob,
    EvaluationJob,
    NotFinite,
    StrategyFailed,
    TrainingJob,
    TrainingResult,
    UnreadableUpdate,
    WeightedUpdate,
)
from tests.support.core import ballot
from tests.support.learning import SPEC
from tests.support.records import AGREEMENT, CARD

JOB = AggregationJob("run", 4, ballot(1, "ada"), SPEC, "parent", (WeightedUpdate("u", 2**53),))
COMMANDS: list[commands.Command] = [
    commands.DescribeJob(1, SPEC),
    commands.DescribeJob(1, SPEC, AGREEMENT),
    commands.CreateJob(2, SPEC, AGREEMENT, "/a"),
    commands.RunTraining(3, TrainingJob("run", 4, SPEC, AGREEMENT, "m", 0), "/blobs", "/u"),
    commands.RunEvaluation(4, EvaluationJob("run", 4, SPEC, AGREEMENT, "m", 1, 3), "/blobs"),
    commands.RunAggregation(5, JOB, "/blobs", "/m"),
    commands.StopJob(3),
    commands.CheckStrategy(6, SPEC),
]
ANSWERS = [
    commands.DescribeDone(1, None, CARD, 5, 0, "cpu"),
    commands.DescribeDone(1, (TensorSpec("w", "F32", (2, 3)),), CARD, 5, 6, "cpu"),
    commands.CreateDone(2, "d", ()),
    commands.TrainJobProgress(3, 1, 10, 2.5),
    commands.TrainingDone(3, TrainingResult("d", CARD, 4, 0.5, 1.5)),
    commands.EvaluationDone(4, Evaluation(5, {"accuracy": 3.0, "loss": 1.25})),
    commands.AggregationDone(5, AggregatedModel("d")),
    commands.AggregationDone(5, NotFinite()),
    commands.AggregationDone(5, UnreadableUpdate("d", "it was cut short")),
    commands.AggregationDone(5, StrategyFailed("mine.py, line 3")),
    commands.StrategyChecked(6, "0123"),
    commands.JobStopped(3),
    commands.JobFailed(8, "why", "task"),
    commands.WorkerHeartbeat(),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda value: type(value).__name__)
def test_a_command_survives_its_frame(command: commands.Command) -> None:
    frame = commands.encode(command)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert commands.decode_command(frame[4:]) == command


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda value: type(value).__name__)
def test_an_answer_survives_its_frame(answer: commands.Answer) -> None:
    assert commands.decode_answer(commands.encode(answer)[4:]) == answer


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x80", commands.encode(commands.WorkerHeartbeat())[4:]])
def test_other_bytes_are_no_command(body: bytes) -> None:
    with pytest.raises(WorkerError, match="invalid command"):
        commands.decode_command(body)


@pytest.mark.parametrize("body", [b"", b"\xc1", commands.encode(COMMANDS[0])[4:]])
def test_other_bytes_are_no_answer(body: bytes) -> None:
    with pytest.raises(WorkerError, match="invalid answer"):
        commands.decode_answer(body)


def test_a_frame_beyond_the_limit_is_refused() -> None:
    with pytest.raises(WorkerError, match="16777217 bytes"):
        commands.check_length(commands.MAX_FRAME_BYTES + 1)
    with pytest.raises(WorkerError):
        commands.encode(commands.JobFailed(1, "x" * commands.MAX_FRAME_BYTES, "internal"))


def test_the_nodes_side_imports_neither_torch_nor_numpy() -> None:
    modules = "p2pfl.learning.process, p2pfl.learning.catalogue, p2pfl.learning.partition"
    code = f"import sys, {modules}; print(sorted({{'torch', 'numpy', 'sklearn'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
