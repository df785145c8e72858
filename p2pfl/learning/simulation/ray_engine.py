"""The engine of Ray: trains clients in processes that Ray runs, on this machine or on those of a cluster.

Each process opens the federation once and keeps data and module. The model of a round is put into Ray's
memory once, and each process fetches it from there. Which process trains a client has no influence on its
update, so the order of a process that ends is given to another one. What clients remember stays in this
program.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from p2pfl.errors import TaskError, WorkerError
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
    JudgeOne,
    Order,
    OrderFailed,
    PartDone,
    Reply,
    TrainOne,
    decode_reply,
    encode,
    explained,
    isolated,
    raised,
)
from p2pfl.learning.simulation.ray_connection import RayConnection, cause_of
from p2pfl.learning.simulation.ray_worker import (
    FederationOpened,
    RayTrainer,
    WhatWasRead,
    decode_opened,
    what_was_read,
)

MAX_TRIES = 3
"""Processes that may end during the same order: then the order itself is the likely cause."""

START_SECONDS = 300.0
"""Time in which a cluster must have one process ready; a cluster that adds machines takes minutes."""


@dataclass
class _Try:
    order: bytes
    ended: int = 0
    """Processes that have ended while they did it."""


class RayEngine:
    """Trains clients in processes of Ray."""

    def __init__(self, federation: SimulatedFederation) -> None:
        self._federation = federation
        self._trainer = ClientTrainer(federation)
        self._run = msgspec.structs.replace(federation.run, device=federation.device.type)
        self._connection: RayConnection | None = None
        self._pool: _Pool | None = None
        self._read: WhatWasRead | None = None

    def initial(self) -> bytes:
        """Return the file of the initial model."""
        with isolated(), explained(self._run.places.code):
            model = self._trainer.initial()
            self._read = what_was_read(self._federation, model)
            return model

    def train(self, start: RoundStart, jobs: Sequence[ClientJob], /) -> Iterator[ClientResult]:
        """Do *jobs* and yield the result of each, in any order."""
        for reply in self._opened().spread(start, [TrainOne(job) for job in jobs]):
            assert isinstance(reply, ClientUpdate | ClientFailure)
            yield reply

    def evaluate(self, model: bytes, parts: int, /) -> list[PartEvaluation]:
        """Evaluate *model* on all *parts* of the held-out examples; return the results in their order."""
        found: dict[int, PartEvaluation] = {}
        orders = [EvaluatePart(part, parts) for part in range(parts)]
        for reply in self._opened().spread(RoundStart(0, model), orders):
            assert isinstance(reply, PartDone)
            found[reply.part] = reply.result
        return [found[part] for part in range(parts)]

    def judge(self, start: RoundStart, jobs: Sequence[ClientJob], /) -> list[PartEvaluation]:
        """Let the clients of *jobs* evaluate the model of *start*; return the results in their order."""
        found: dict[int, PartEvaluation] = {}
        for reply in self._opened().spread(start, [JudgeOne(job) for job in jobs]):
            assert isinstance(reply, ClientJudged)
            found[reply.client] = reply.result
        return [found[job.client] for job in jobs]

    def close(self) -> None:
        """End the processes, and Ray if it was started here."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _opened(self) -> _Pool:
        """Return the processes of Ray, which the first use starts."""
        if self._pool is None:
            if self._read is None:
                self.initial()
            assert self._read is not None
            self._connection = RayConnection(self._run.ray_address, self._run.workers)
            self._pool = _Pool(self._connection, self._federation, self._run.to_text(), self._read)
        return self._pool


class _Pool:
    """Processes of Ray. Each of them opens the federation, and then does one order after another."""

    def __init__(
        self, connection: RayConnection, federation: SimulatedFederation, run: str, read: WhatWasRead
    ) -> None:
        ray = self._ray = connection.ray
        self._run, self._read = run, read
        self._task = connection.put_task(federation.task) if federation.task is not None else None
        needs = {"num_gpus": 1} if federation.device.type == "cuda" else {}
        self._kind = ray.remote(num_cpus=1, max_restarts=0, **needs)(RayTrainer)
        there = ray.cluster_resources().get("GPU" if needs else "CPU", 1)
        plan = federation.run
        self._size = max(1, min(plan.workers or int(there), plan.sample or plan.clients))
        self._opening: dict[Any, Any] = {}
        """Processes that read their data, by the reference of their answer."""
        self._busy: dict[Any, tuple[Any, _Try]] = {}
        """Processes with an order, by the reference of its reply."""
        self._idle: list[Any] = []
        self._ended = 0
        """Processes that have ended before they were ready, since one was."""

    def spread(self, start: RoundStart, orders: Sequence[Order]) -> Iterator[Reply]:
        """Give each process one order after another; yield the replies as they come.

        Raises:
            TaskError: the user's code is wrong.
            WorkerError: processes end again and again, or Ray has none.
        """
        places = [self._ray.put(encode(start))]
        waiting = deque(_Try(encode(order)) for order in orders)
        while waiting or self._busy:
            self._start_missing()
            while waiting and self._idle:
                process, one = self._idle.pop(), waiting.popleft()
                self._busy[process.do.remote(one.order, places)] = process, one
            for answer in self._answers():
                if answer in self._opening:
                    self._has_opened(answer)
                    continue
                process, one = self._busy.pop(answer)
                blob, why = self._received(answer, process)
                if blob is None:
                    one.ended += 1
                    if one.ended == MAX_TRIES:
                        raise _lost(why)
                    waiting.appendleft(one)
                    continue
                self._idle.append(process)
                reply = decode_reply.decode(blob)
                if isinstance(reply, OrderFailed):
                    raise raised(reply)
                yield reply

    def close(self) -> None:
        """End the processes."""
        for process in (*self._opening.values(), *self._idle, *(one for one, _ in self._busy.values())):
            self._ray.kill(process)

    def _start_missing(self) -> None:
        while len(self._opening) + len(self._busy) + len(self._idle) < self._size:
            process = self._kind.remote()
            self._opening[process.open.remote(self._run, self._task)] = process

    def _answers(self) -> list[Any]:
        """Wait for answers and return their references; none after a while if processes only start.

        Raises:
            WorkerError: Ray has no process for this run.
        """
        seconds = None if self._busy else START_SECONDS
        ready, _ = self._ray.wait([*self._busy, *self._opening], num_returns=1, timeout=seconds)
        if not ready:
            raise WorkerError(
                f"Ray has started no process for this run in {START_SECONDS:.0f} s; look at `ray status`: "
                "another program may use all processors of the cluster."
            )
        return list(ready)

    def _has_opened(self, answer: Any) -> None:
        process = self._opening.pop(answer)
        blob, why = self._received(answer, process)
        if blob is None:
            self._ended += 1
            if self._ended == MAX_TRIES:
                raise _lost(why)
            return
        opened = decode_opened.decode(blob)
        if isinstance(opened, OrderFailed):
            raise raised(opened)
        if opened.read != self._read:
            raise _differs(opened, self._read)
        self._ended = 0
        self._idle.append(process)

    def _received(self, answer: Any, process: Any) -> tuple[bytes | None, str]:
        """Return the bytes of *answer*, or None and the reason if *process* has ended.

        Raises:
            WorkerError: it answered with an error that is not the user's.
        """
        errors = self._ray.exceptions
        try:
            return self._ray.get(answer), ""
        except errors.RayTaskError as error:
            raise WorkerError(f"A process of Ray failed: {cause_of(error)}.") from error
        except errors.RayError as error:
            self._ray.kill(process)  # it may only be out of reach
            return None, cause_of(error)


def _lost(why: str) -> WorkerError:
    return WorkerError(
        f"{MAX_TRIES} processes of Ray have ended one after another ({why}), perhaps for lack of memory; use "
        "fewer workers or a smaller model, and the same version of p2pfl on all machines of the cluster."
    )


def _differs(opened: FederationOpened, ours: WhatWasRead) -> TaskError:
    theirs = opened.read
    if (theirs.agreement, theirs.test_examples, theirs.examples) != (
        ours.agreement, ours.test_examples, ours.examples,
    ):  # fmt: skip
        return TaskError(
            f"A process of Ray on {opened.host} has read other data than this program: give each machine the "
            "same files, and let data() seed its random numbers, or use engine='local'."
        )
    return TaskError(
        f"A process of Ray on {opened.host} has built another initial model than this program: use the same "
        "task file, and the same versions of p2pfl and torch on all machines, or use engine='local'."
    )
