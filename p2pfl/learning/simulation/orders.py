"""What an engine orders from a process that trains clients, and what comes back: small values with bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import assert_never

import msgspec
import torch

from p2pfl.errors import P2pflError, TaskError, UserError, WorkerError
from p2pfl.learning.own.code import explain
from p2pfl.learning.simulation.clients import (
    ClientFailure,
    ClientJob,
    ClientResult,
    ClientTrainer,
    ClientUpdate,
    PartEvaluation,
)


class EvaluatePart(msgspec.Struct, frozen=True, tag="evaluate"):
    """Evaluate the model."""

    part: int
    parts: int


class TrainOne(msgspec.Struct, frozen=True, tag="train"):
    """Train one client."""

    job: ClientJob


class TrainGroup(msgspec.Struct, frozen=True, tag="group"):
    """Train some clients, at once if possible."""

    jobs: tuple[ClientJob, ...]


class JudgeOne(msgspec.Struct, frozen=True, tag="judge"):
    """Let one client evaluate the model of the round."""

    job: ClientJob


class ClientJudged(msgspec.Struct, frozen=True, tag="judged"):
    """A `JudgeOne` is done."""

    client: int
    result: PartEvaluation


class GroupDone(msgspec.Struct, frozen=True, tag="trained"):
    """A `TrainGroup` is done."""

    results: tuple[ClientResult, ...]


class PartDone(msgspec.Struct, frozen=True, tag="part"):
    """An `EvaluatePart` is done."""

    part: int
    result: PartEvaluation


class OrderFailed(msgspec.Struct, frozen=True, tag="failed"):
    """A job failed."""

    reason: str
    is_users: bool
    """Whether the user can change something about it."""


Order = TrainOne | TrainGroup | EvaluatePart | JudgeOne
Reply = ClientUpdate | ClientFailure | GroupDone | PartDone | ClientJudged | OrderFailed

encode = msgspec.msgpack.Encoder().encode
decode_order: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
decode_reply: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def answer(order: Order, trainer: ClientTrainer, model: bytes, code: str) -> Reply:
    """Do *order*, evaluating *model*; an error of the user's task *code* is in the reply."""
    try:
        with explained(code):
            match order:
                case TrainOne():
                    return trainer.train(order.job)
                case TrainGroup():
                    return GroupDone(tuple(trainer.train_group(order.jobs)))
                case JudgeOne():
                    return ClientJudged(order.job.client, trainer.judge(order.job))
                case EvaluatePart():
                    return PartDone(order.part, trainer.evaluate(model, order.part, order.parts))
                case _:
                    assert_never(order)
    except Exception as error:  # noqa: BLE001  of the user's code or of torch: told in the main process
        return failed(error)


def failed(error: Exception) -> OrderFailed:
    """Return the reply that tells of *error*."""
    if isinstance(error, P2pflError):
        return OrderFailed(str(error), isinstance(error, UserError))
    return OrderFailed(f"A client failed with {type(error).__name__}: {error}", is_users=False)


def raised(failure: OrderFailed) -> TaskError | WorkerError:
    """Return the error that *failure* tells of."""
    return TaskError(failure.reason) if failure.is_users else WorkerError(failure.reason)


@contextmanager
def isolated() -> Iterator[None]:
    """Compute with one thread of torch, as every client does, so that the bytes are always the same.

    The number of threads and the random numbers of the program are afterwards as before.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def explained(code: str) -> Iterator[None]:
    """Explain errors that arise in the user's task *code*.

    Raises:
        TaskError: with the place in the user's code.
    """
    try:
        yield
    except Exception as error:
        found = explain(error, code)
        if found is None:
            raise
        raise found from error
