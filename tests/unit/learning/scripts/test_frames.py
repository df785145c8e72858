from __future__ import annotations

from pathlib import Path

import pytest

from p2pfl.errors import WorkerError
from p2pfl.learning import commands
from p2pfl.learning.scripts import frames
from p2pfl.learning.scripts.frames import (
    ENDPOINT_FILE,
    TrainerEndpoint,
    TrainerHello,
    TrainerRefused,
    TrainerRunOver,
    TrainerWelcome,
    read_endpoint,
)
from tests.support.trainers import evaluation, training

FROM_NODE: list[frames.FromNode] = [
    TrainerWelcome("train"),
    TrainerRefused("no"),
    TrainerRunOver("/model"),
    commands.StopJob(3),
    commands.RunTraining(1, training(), "/blobs", "/new"),
    commands.RunEvaluation(2, evaluation(), "/blobs"),
]
FROM_TRAINER: list[frames.FromTrainer] = [
    TrainerHello("token", 1, "train.py"),
    commands.TrainJobProgress(1, 1, 2, 0.5),
    commands.JobStopped(1),
]


@pytest.mark.parametrize("frame", FROM_NODE, ids=lambda frame: type(frame).__name__)
def test_a_frame_of_the_node_is_read_as_it_was_written(frame: frames.FromNode) -> None:
    encoded = frames.encode(frame)
    assert int.from_bytes(encoded[:4], "big") == len(encoded) - 4
    assert frames.decode_from_node(encoded[4:]) == frame


@pytest.mark.parametrize("frame", FROM_TRAINER, ids=lambda frame: type(frame).__name__)
def test_a_frame_of_the_trainer_is_read_as_it_was_written(frame: frames.FromTrainer) -> None:
    assert frames.decode_from_trainer(frames.encode(frame)[4:]) == frame


def test_each_side_refuses_the_frames_of_the_other() -> None:
    with pytest.raises(WorkerError, match="The trainer sent an invalid frame"):
        frames.decode_from_trainer(frames.encode(TrainerWelcome("train"))[4:])
    with pytest.raises(WorkerError, match="The node sent an invalid frame"):
        frames.decode_from_node(frames.encode(TrainerHello("", 1, ""))[4:])


def test_a_long_text_of_a_trainer_is_refused() -> None:
    with pytest.raises(WorkerError, match="invalid frame"):
        frames.decode_from_trainer(frames.encode(TrainerHello("t", 1, "x" * 201))[4:])


def test_an_endpoint_survives_as_text_and_as_file(tmp_path: Path) -> None:
    endpoint = TrainerEndpoint("token", "/data/trainer.sock")
    assert TrainerEndpoint.from_text(endpoint.to_text()) == endpoint
    assert read_endpoint(tmp_path) is None
    (tmp_path / ENDPOINT_FILE).write_text(endpoint.to_text())
    assert read_endpoint(tmp_path) == endpoint
    (tmp_path / ENDPOINT_FILE).write_text("{}")
    assert read_endpoint(tmp_path) is None
    with pytest.raises(WorkerError, match="address of the node cannot be read"):
        TrainerEndpoint.from_text("{}")
