"""What node and worker say to each other over the worker's standard input and output.

It stands apart because both sides need it and the node's must not import torch. A frame is a 4-byte
big-endian length and a MessagePack body. Commands and answers are small: tensors pass as files, named here by
path and digest. Every command has an id that its answer repeats; commands are carried out one after another
in the order sent, with two exceptions: `RunAggregation` does not wait for others, and `StopJob` acts at once.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from p2pfl.errors import WorkerError
from p2pfl.messages import Evaluation
from p2pfl.schema import Schema
from p2pfl.spec import DataCard, RunSpec
from p2pfl.work import AggregationJob, AggregationResult, EvaluationJob, TrainingJob, TrainingResult

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Of a frame's body. The longest is a `DescribeDone`: the schema of a model with 10,000 tensors takes about 1
MB."""

LENGTH_BYTES = 4
"""Of the length in front of each body."""

BEAT_SECONDS = 2.0
"""Between two `WorkerHeartbeat` frames."""


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Common settings of commands and answers."""

    id: int
    """Chosen by the node, never used twice in one worker process; an answer repeats it."""


# --- commands, from the node --------------------------------------------------------------------------------


class DescribeJob(_Struct, frozen=True, tag="describe"):
    """Load the task of *spec* and describe it. Answered with `DescribeDone`."""

    spec: RunSpec


class CreateJob(_Struct, frozen=True, tag="create"):
    """Write the initial model of *spec* to *path*. Answered with `CreateDone`."""

    spec: RunSpec
    path: str


class RunTraining(_Struct, frozen=True, tag="train"):
    """Do *job* and write the update to *path*.

    Answered with any number of `TrainJobProgress`, then `TrainingDone`, or `JobStopped`.
    """

    job: TrainingJob
    folder: str
    """Where blobs lie, in files named by their digests."""
    path: str


class RunEvaluation(_Struct, frozen=True, tag="evaluate"):
    """Do *job*. Answered with `EvaluationDone`."""

    job: EvaluationJob
    folder: str
    """As of `RunTraining`."""


class RunAggregation(_Struct, frozen=True, tag="aggregate"):
    """Do *job* and write the new model to *path*. Answered with `AggregationDone`."""

    job: AggregationJob
    folder: str
    """As of `RunTraining`."""
    path: str


class StopJob(_Struct, frozen=True, tag="stop"):
    """End the `RunTraining` of this id between two batches, or before it begins.

    It is answered with `JobStopped`; one that is finished already stays so.
    """


Command = DescribeJob | CreateJob | RunTraining | RunEvaluation | RunAggregation | StopJob
"""Every command there is."""


# --- answers, from the worker -------------------------------------------------------------------------------


class DescribeDone(_Struct, frozen=True, tag="described"):
    """The task is loaded; this is its model and its data."""

    schema: Schema
    card: DataCard
    """Of the whole training split, before it is partitioned."""
    test_samples: int
    parameters: int
    """Trainable numbers in the model."""
    device: str
    """What training runs on, for people: "cpu", "cuda:0 (NVIDIA ...)", "mps"."""


class CreateDone(_Struct, frozen=True, tag="created"):
    """The initial model is durable in the file given."""

    digest: str


class TrainJobProgress(_Struct, frozen=True, tag="progress"):
    """*done* of *total* batches are done; the whole training will take about *predicted* seconds."""

    done: int
    total: int
    predicted: float


class TrainingDone(_Struct, frozen=True, tag="trained"):
    """The update is in the file given, not flushed to disk."""

    result: TrainingResult


class EvaluationDone(_Struct, frozen=True, tag="evaluated"):
    """How the model did."""

    result: Evaluation
    """A loss beyond all numbers is 1e300."""


class AggregationDone(_Struct, frozen=True, tag="aggregated"):
    """The aggregation ended; a new model is in the file given, not flushed."""

    result: AggregationResult


class JobStopped(_Struct, frozen=True, tag="stopped"):
    """The training ended early, as asked; there is no update."""


class JobFailed(_Struct, frozen=True, tag="failed"):
    """The job was not done; the worker goes on with the next one."""

    reason: str
    """A sentence for people."""
    kind: Literal["task", "internal"]
    """"task": the task, its data or its options are to blame, and trying again cannot help. "internal":
    anything else."""


class WorkerHeartbeat(msgspec.Struct, frozen=True, tag="beat", forbid_unknown_fields=True):
    """A sign of life, every `BEAT_SECONDS`, also while torch is loaded or trains."""


Answer = (
    DescribeDone
    | CreateDone
    | TrainJobProgress
    | TrainingDone
    | EvaluationDone
    | AggregationDone
    | JobStopped
    | JobFailed
    | WorkerHeartbeat
)
"""Every answer there is."""


# --- frames -------------------------------------------------------------------------------------------------

_encoder = msgspec.msgpack.Encoder()
_command_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_answer_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(value: Command | Answer) -> bytes:
    """Return *value* as a frame.

    Raises:
        WorkerError: it is longer than a frame may be.
    """
    body = _encoder.encode(value)
    check_length(len(body))
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def check_length(length: int) -> None:
    """Refuse a body longer than `MAX_FRAME_BYTES` before it is read.

    Raises:
        WorkerError: it is longer.
    """
    if length > MAX_FRAME_BYTES:
        raise WorkerError(
            f"A frame between node and worker has {length} bytes; at most {MAX_FRAME_BYTES} are allowed."
        )


def decode_command(body: bytes) -> Command:
    """Return the command in a frame's *body*.

    Raises:
        WorkerError: it holds none.
    """
    try:
        return _command_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise WorkerError(f"The worker was sent something that is no command: {error}.") from error


def decode_answer(body: bytes) -> Answer:
    """Return the answer in a frame's *body*.

    Raises:
        WorkerError: it holds none.
    """
    try:
        return _answer_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise WorkerError(f"The worker sent something that is no answer: {error}.") from error
