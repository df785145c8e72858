"""The messages between node and worker, sent over the worker's standard input and output.

Both processes import this module, and the node process must not import torch. A frame is a 4-byte big-endian
length and a MessagePack body. Commands and answers are small: tensors are in files, which the messages name
by path and digest. Each command has an id, which its answer repeats. The worker executes commands in the
order in which they were sent, with two exceptions: `RunAggregation` runs at the same time as other commands,
and `StopJob` takes effect at once.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from p2pfl.cards import Agreement, DataCard
from p2pfl.errors import WorkerError
from p2pfl.messages import Evaluation
from p2pfl.schema import Schema
from p2pfl.spec import RunSpec
from p2pfl.work import AggregationJob, AggregationResult, EvaluationJob, TrainingJob, TrainingResult

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Maximum size of a frame's body. The longest is a `DescribeDone`: the schema of a model with 10,000 tensors
takes about 1 MB."""

LENGTH_BYTES = 4
"""Size of the length before each body."""

BEAT_SECONDS = 2.0
"""Interval between two `WorkerHeartbeat` frames."""


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of commands and answers."""

    id: int
    """The command's id, unique in one worker process. An answer repeats the id of its command."""


# --- commands, from the node --------------------------------------------------------------------------------


class DescribeJob(_Struct, frozen=True, tag="describe"):
    """Load the task of *spec* and describe it. Answered with `DescribeDone`."""

    spec: RunSpec
    agreement: Agreement | None = None
    """None: only the data are described, since the shape of the model follows from the agreement."""


class CreateJob(_Struct, frozen=True, tag="create"):
    """Write the initial model of *spec* for *agreement* to *path*. Answered with `CreateDone`."""

    spec: RunSpec
    agreement: Agreement
    path: str
    folder: str = ""
    """The folder of the blobs, beside which the frozen tensors are kept for other devices; empty: they are
    not."""


class CheckStrategy(_Struct, frozen=True, tag="check_strategy"):
    """Load and try the strategy of *spec*, one of the user's own. Answered with `StrategyChecked`."""

    spec: RunSpec


class RunTraining(_Struct, frozen=True, tag="train"):
    """Do *job* and write the update to *path*.

    Answered with any number of `TrainJobProgress`, then `TrainingDone`, or `JobStopped`.
    """

    job: TrainingJob
    folder: str
    """The folder of the blobs; each file is named by its digest."""
    path: str
    control_path: str = ""
    """Where the control of the update is written, if the strategy has one."""


class RunEvaluation(_Struct, frozen=True, tag="evaluate"):
    """Do *job*. Answered with `EvaluationDone`."""

    job: EvaluationJob
    folder: str
    """The folder of the blobs, as in `RunTraining`."""


class RunAggregation(_Struct, frozen=True, tag="aggregate"):
    """Do *job* and write the new model to *path*. Answered with `AggregationDone`."""

    job: AggregationJob
    folder: str
    """The folder of the blobs, as in `RunTraining`."""
    path: str
    state_path: str = ""
    """Where the new state of the strategy is written, if it has one."""


class StopJob(_Struct, frozen=True, tag="stop"):
    """Stop the `RunTraining` with this id between two batches, or before it begins.

    The training is then answered with `JobStopped`. A finished training is not affected.
    """


Command = DescribeJob | CreateJob | CheckStrategy | RunTraining | RunEvaluation | RunAggregation | StopJob
"""All commands."""


# --- answers, from the worker -------------------------------------------------------------------------------


class DescribeDone(_Struct, frozen=True, tag="described"):
    """The task is loaded; the description of its model and data."""

    schema: Schema | None
    """None without an agreement; empty if the data do not fit it, so that there is no model."""
    card: DataCard
    """Describes the whole training split, before it is partitioned."""
    test_examples: int
    parameters: int
    """Number of trainable parameters of the model; without an agreement, of the model that the data of this
    device alone would make, and 0 if they make none."""
    device: str
    """Description of the training device: "cpu", "cuda:0 (NVIDIA ...)", "mps"."""


class CreateDone(_Struct, frozen=True, tag="created"):
    """The initial model is in the requested file, flushed to disk."""

    digest: str
    schema: Schema


class StrategyChecked(_Struct, frozen=True, tag="strategy_checked"):
    """The strategy works; the digest of its source."""

    source: str


class TrainJobProgress(_Struct, frozen=True, tag="progress"):
    """*done* of *total* batches are done; *predicted* is the duration of the whole training in seconds."""

    done: int
    total: int
    predicted: float


class TrainingDone(_Struct, frozen=True, tag="trained"):
    """The update is in the requested file, not flushed to disk."""

    result: TrainingResult


class EvaluationDone(_Struct, frozen=True, tag="evaluated"):
    """The model is evaluated."""

    result: Evaluation
    """A loss that is not finite is reported as 1e300."""


class AggregationDone(_Struct, frozen=True, tag="aggregated"):
    """The aggregation ended; a new model is in the requested file, not flushed to disk."""

    result: AggregationResult


class JobStopped(_Struct, frozen=True, tag="stopped"):
    """The training was stopped; there is no update."""


class JobFailed(_Struct, frozen=True, tag="failed"):
    """The job failed; the worker continues with the next one."""

    reason: str
    """The reason as a sentence."""
    kind: Literal["task", "internal"]
    """"task": the task, its data or its options are wrong, so a retry cannot succeed. "internal": any other
    reason."""


class WorkerHeartbeat(msgspec.Struct, frozen=True, tag="beat", forbid_unknown_fields=True):
    """Sent every `BEAT_SECONDS`, also while the worker imports torch or trains."""


Answer = (
    DescribeDone
    | CreateDone
    | StrategyChecked
    | TrainJobProgress
    | TrainingDone
    | EvaluationDone
    | AggregationDone
    | JobStopped
    | JobFailed
    | WorkerHeartbeat
)
"""All answers."""


# --- frames -------------------------------------------------------------------------------------------------

_encoder = msgspec.msgpack.Encoder()
_command_decoder: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_answer_decoder: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(value: Command | Answer) -> bytes:
    """Return *value* as a frame.

    Raises:
        WorkerError: its body is longer than `MAX_FRAME_BYTES`.
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
        WorkerError: the body is not a valid command.
    """
    try:
        return _command_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise WorkerError(f"The worker received an invalid command: {error}.") from error


def decode_answer(body: bytes) -> Answer:
    """Return the answer in a frame's *body*.

    Raises:
        WorkerError: the body is not a valid answer.
    """
    try:
        return _answer_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise WorkerError(f"The worker sent an invalid answer: {error}.") from error
