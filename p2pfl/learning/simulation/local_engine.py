"""The engine of one machine: trains clients in this process, or in some copies of it.

On the CPU each copy trains with one thread of torch. A copy is a fork, so all of them share the memory of
the data, which nobody writes to. Jobs and results pass through pipes as MessagePack. Which process trains a
client has no influence on its update.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

import msgspec
import torch

from p2pfl.errors import WorkerError
from p2pfl.learning.simulation.clients import (
    ClientFailure,
    ClientJob,
    ClientResult,
    ClientTrainer,
    ClientUpdate,
    PartEvaluation,
    RoundStart,
)
from p2pfl.learning.simulation.federation import SimulatedFederation
from p2pfl.learning.simulation.orders import (
    ClientJudged,
    EvaluatePart,
    GroupDone,
    JudgeOne,
    Order,
    OrderFailed,
    PartDone,
    Reply,
    TrainGroup,
    TrainOne,
    answer,
    decode_reply,
    encode,
    explained,
    isolated,
    raised,
)

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess


logger = logging.getLogger(__name__)


ORDERS_AHEAD = 2
"""Orders that a copy has at once: the one that it works on, and the next."""

AHEAD_BYTES = 4096
"""Length of the largest order that is sent to a copy that works. A larger one, with what a client remembers,
could fill the pipe while the copy waits for room for its reply: both would wait for ever."""


MAX_GROUP = 32
"""Clients that are trained at once. With more, a client hardly takes less time, and all take more memory."""


class Load(msgspec.Struct, frozen=True, tag="load"):
    """Use this model and state from now on; not answered."""

    start: RoundStart
    keeps_model: bool = False
    """The model stays as it is, and that of *start* is empty: a model that was evaluated is trained next."""


PARENT_SECONDS = 1.0
"""How often a copy looks whether the program still runs."""

FORK_SECONDS = 30.0
"""Time in which a copy must say that it can train. A fork that holds a lock of another thread never does."""

CAN_TRAIN = b"yes"
"""First message of a copy that can compute gradients."""

_decode_order: msgspec.msgpack.Decoder[Load | Order] = msgspec.msgpack.Decoder(Load | Order)


def default_workers(federation: SimulatedFederation) -> int:
    """Return the number of processes that train: 1 means in this one."""
    run = federation.run
    if federation.device.type != "cpu" or sys.platform != "linux":
        return 1  # a fork has no access to a GPU that is in use, and other systems do not fork safely
    wanted = run.workers or len(os.sched_getaffinity(0))
    return max(1, min(wanted, run.sample or run.clients))


class LocalEngine:
    """Trains clients on this machine."""

    def __init__(self, federation: SimulatedFederation) -> None:
        self._trainer = ClientTrainer(federation)
        self._code = federation.run.places.code
        self._workers = default_workers(federation)
        self._is_vectorised = federation.run.vectorised
        self._examples = cache(lambda client: federation.prepared.part_card(client).examples)
        self._copies: list[_Copy] = []

    def initial(self) -> bytes:
        """Return the file of the initial model."""
        with isolated(), explained(self._code):
            return self._trainer.initial()

    def train(self, start: RoundStart, jobs: Sequence[ClientJob], /) -> Iterator[ClientResult]:
        """Do *jobs* and yield the result of each, in any order."""
        self._fork()
        if self._is_vectorised:
            yield from self._train_groups(start, jobs)
            return
        if self._workers == 1:
            self._trainer.begin(start)
            for job in jobs:
                with isolated(), explained(self._code):
                    result = self._trainer.train(job)
                yield result
            return
        for reply in self._spread(start, [TrainOne(job) for job in jobs]):
            assert isinstance(reply, ClientUpdate | ClientFailure)
            yield reply

    def _train_groups(self, start: RoundStart, jobs: Sequence[ClientJob]) -> Iterator[ClientResult]:
        """Do *jobs* in groups of clients with about equally many examples, one or more for each copy."""
        if not jobs:
            return
        ordered = sorted(jobs, key=lambda job: self._examples(job.client))
        size = min(MAX_GROUP, -(-len(jobs) // self._workers))
        groups = [tuple(ordered[first : first + size]) for first in range(0, len(jobs), size)]
        if self._workers == 1:
            self._trainer.begin(start)
            for group in groups:
                with isolated(), explained(self._code):
                    results = self._trainer.train_group(group)
                yield from results
            return
        for reply in self._spread(start, [TrainGroup(group) for group in groups]):
            assert isinstance(reply, GroupDone)
            yield from reply.results

    def evaluate(self, model: bytes, parts: int, /) -> list[PartEvaluation]:
        """Evaluate *model* on all *parts* of the held-out examples; return the results in their order."""
        if parts > 1:
            self._fork()
        if self._workers == 1 or parts == 1:
            with isolated(), explained(self._code):
                return [self._trainer.evaluate(model, part, parts) for part in range(parts)]
        found: dict[int, PartEvaluation] = {}
        orders = [EvaluatePart(part, parts) for part in range(parts)]
        for reply in self._spread(RoundStart(0, model), orders):
            assert isinstance(reply, PartDone)
            found[reply.part] = reply.result
        return [found[part] for part in range(parts)]

    def judge(self, start: RoundStart, jobs: Sequence[ClientJob], /) -> list[PartEvaluation]:
        """Let the clients of *jobs* evaluate the model of *start*; return the results in their order."""
        self._fork()
        if self._workers == 1:
            self._trainer.begin(start)
            with isolated(), explained(self._code):
                return [self._trainer.judge(job) for job in jobs]
        found: dict[int, PartEvaluation] = {}
        for reply in self._spread(start, [JudgeOne(job) for job in jobs]):
            assert isinstance(reply, ClientJudged)
            found[reply.client] = reply.result
        return [found[job.client] for job in jobs]

    def close(self) -> None:
        """End the copies."""
        for copy in self._copies:
            copy.close()
        self._copies.clear()

    def _spread(self, start: RoundStart, orders: Sequence[Order]) -> Iterator[Reply]:
        """Give each copy one order after another; yield the replies as they come.

        A copy gets its next order while it works, if that is small: so it need not wait for this process.

        Raises:
            TaskError: the user's code is wrong.
            WorkerError: a copy failed or has ended.
        """
        waiting = deque(map(encode, orders))
        first = self._copies[: len(waiting)]
        loads = {keeps: _load(start, keeps=keeps) for keeps in {one.model is start.model for one in first}}
        busy: dict[Connection, _Copy] = {}
        for copy in first:
            copy.send(loads[copy.model is start.model])
            copy.model = start.model
            copy.order(waiting.popleft())
            busy[copy.pipe] = copy
        while busy:
            for copy in busy.values():
                if copy.unanswered < ORDERS_AHEAD and waiting and len(waiting[0]) <= AHEAD_BYTES:
                    copy.order(waiting.popleft())
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                copy = busy[pipe]
                reply = copy.receive()
                if isinstance(reply, OrderFailed):
                    raise raised(reply)
                if not copy.unanswered and waiting:
                    copy.order(waiting.popleft())
                if not copy.unanswered:
                    del busy[pipe]
                yield reply

    def _fork(self) -> None:
        """Start the copies, unless they run. Where copies cannot train, this process trains alone."""
        if self._workers == 1 or self._copies:
            return
        context = multiprocessing.get_context("fork")
        for number in range(self._workers):
            ours, theirs = context.Pipe()
            pipes = [copy.pipe for copy in self._copies] + [ours]
            arguments = (theirs, pipes, self._trainer, self._code)
            process = context.Process(
                target=serve, args=arguments, name=f"client trainer {number}", daemon=True
            )
            with warnings.catch_warnings():
                # The forks only compute, with one thread; the locks of other threads do not concern them.
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            theirs.close()
            self._copies.append(_Copy(process, ours))
            if not self._copies[-1].can_train():
                logger.info("this program has used torch in a way that forks cannot; one process trains")
                self.close()
                self._workers = 1
                return


def _load(start: RoundStart, *, keeps: bool) -> bytes:
    """Return the encoded `Load` of *start* for a copy that *keeps* the model that it has, or does not."""
    return encode(Load(msgspec.structs.replace(start, model=b"") if keeps else start, keeps))


class _Copy:
    """A copy of this process that trains, and the pipe to it."""

    def __init__(self, process: ForkProcess, pipe: Connection) -> None:
        self._process = process
        self.pipe = pipe
        self.unanswered = 0
        """Number of orders whose reply has not come."""
        self.model = b""
        """The model that it has."""

    def order(self, order: bytes) -> None:
        """Send an encoded order that is answered.

        Raises:
            WorkerError: the copy has ended.
        """
        self.unanswered += 1
        self.send(order)

    def send(self, order: bytes) -> None:
        """Send an encoded order.

        Raises:
            WorkerError: the copy has ended.
        """
        try:
            self.pipe.send_bytes(order)
        except OSError as error:
            raise self._ended() from error

    def can_train(self) -> bool:
        """Wait for the first message of the copy: whether it can compute gradients.

        Raises:
            WorkerError: the copy has ended.
        """
        try:
            return self.pipe.poll(FORK_SECONDS) and self.pipe.recv_bytes() == CAN_TRAIN
        except (EOFError, OSError) as error:
            raise self._ended() from error

    def receive(self) -> Reply:
        """Wait for the next reply.

        Raises:
            WorkerError: the copy has ended.
        """
        self.unanswered -= 1
        try:
            return decode_reply.decode(self.pipe.recv_bytes())
        except (EOFError, OSError) as error:
            raise self._ended() from error

    def close(self) -> None:
        """End the copy."""
        self.pipe.close()
        self._process.join(1)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()

    def _ended(self) -> WorkerError:
        self._process.join(1)
        return WorkerError(
            f"A process of the simulation has ended (exit code {self._process.exitcode}), perhaps for lack "
            "of memory; use fewer workers, or a smaller model."
        )


def serve(pipe: Connection, others: Sequence[Connection], trainer: ClientTrainer, code: str) -> None:
    """Do the orders that come through *pipe* until it ends; *others* are ends of pipes of other processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for one in others:
        one.close()
    threading.Thread(target=end_with, args=(os.getppid(),), name="parent", daemon=True).start()
    torch.set_num_threads(1)
    gc.freeze()  # a collection would look at all objects of the program, and copy the memory that they are in
    model = b""
    with suppress(EOFError, OSError):
        pipe.send_bytes(CAN_TRAIN if _has_autograd() else b"")
        while True:
            order = _decode_order.decode(pipe.recv_bytes())
            if isinstance(order, Load):
                model = model if order.keeps_model else order.start.model
                trainer.begin(msgspec.structs.replace(order.start, model=model))
                continue
            pipe.send_bytes(encode(answer(order, trainer, model, code)))


def end_with(parent: int) -> None:
    """End this process when *parent* has ended, also in the middle of a training."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(0)


def _has_autograd() -> bool:
    """Return whether this fork can compute gradients: not if the program had started autograd's threads."""
    try:
        torch.ones(1, requires_grad=True).sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError:
        return False
    return True
