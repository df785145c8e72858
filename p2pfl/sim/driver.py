"""The simulator's driver: carries out the effects of all devices and runs their timers.

Like the real driver it makes consecutive saves durable in one transaction, before it carries out the effects
behind them, and defers saves that no effect depends on (`can_wait`). Aimed faults strike between two effects.
"""

from __future__ import annotations

from functools import partial
from typing import assert_never

import msgspec

from p2pfl.cards import MAX_EXAMPLES
from p2pfl.core import inputs
from p2pfl.core.effects import (
    Aggregate,
    AnyEffect,
    Create,
    DeleteUnneededBlobs,
    Describe,
    Dismiss,
    Evaluate,
    Exit,
    Fetch,
    ReadSchema,
    Save,
    SavePromise,
    Send,
    SendRecords,
    Sever,
    StopTraining,
    Tell,
    Train,
    WorkerEffect,
    can_wait,
    needs_own_fsync,
)
from p2pfl.core.options import FIRST_ATTEMPT
from p2pfl.messages import Accept, Ballot, Evaluation, Message, Record, RecordBlobs, Undelivered
from p2pfl.sim.checker import InvariantChecker
from p2pfl.sim.device import Device
from p2pfl.sim.environment import Environment, Processes
from p2pfl.sim.network import Network
from p2pfl.sim.setting import DEFER_SECONDS, WORKER_LIMIT, digest_of
from p2pfl.sim.trace import line_of
from p2pfl.sim.transfers import BlobTransfers
from p2pfl.sim.violation import Violation
from p2pfl.work import AggregationJob, AggregationResult, NotFinite, UnreadableUpdate

LATE_RESULTS = 0.5
"""Share of stopped trainings that had just ended: their results still arrive."""

SHARE_NOT_FINITE = 0.5
"""Share of spoilt aggregations whose result is not finite; in the others an update cannot be read."""

FOREVER = float("inf")
"""Duration of a job that hangs in a worker which no driver kills."""

FLUSH = 0.01
"""Seconds that a flush takes in the background."""

MAX_SPINS = 1000
"""Ticks at one moment after which a protocol counts as ticking without end."""


class SimulatedDriver:
    """Carries out the effects of all devices of one simulation."""

    def __init__(
        self,
        environment: Environment,
        processes: Processes,
        network: Network,
        transfers: BlobTransfers,
        checker: InvariantChecker,
    ) -> None:
        self._environment, self._processes = environment, processes
        self._network, self._transfers, self._checker = network, transfers, checker
        self._spins, self._last_tick = 0, -1.0

    def carry_out(self, device: Device, effects: list[AnyEffect]) -> None:
        """Carry *effects* out in order, until the process ends; the rest waits while it is suspended."""
        process = device.process
        for place, effect in enumerate(effects, start=1):
            self._do(device, effect)
            self._processes.carried_out(device, effect)
            if not device.is_up or device.process != process:
                return
            if device.inbox is not None:
                device.inbox.insert(0, partial(self.carry_out, device, effects[place:]))
                return
        if device.unflushed:
            self._end_transaction(device)
        self.arm(device)

    def _end_transaction(self, device: Device) -> None:
        """Make consecutive saves durable together with the deferred ones, or defer them as well.

        A crash before that loses all of them.
        """
        saves, device.unflushed = device.unflushed, []
        device.deferred += saves
        if device.driver_rules.flushes_first and not all(map(can_wait, saves)):
            self.flush(device, device.process)
        else:
            soon = any(needs_own_fsync(save, DEFER_SECONDS) for save in saves)
            self._environment.after(FLUSH if soon else DEFER_SECONDS, self.flush, device, device.process)

    def flush(self, device: Device, process: int) -> None:
        """Make the deferred saves durable."""
        if device.process == process:
            saves, device.deferred = device.deferred, []
            for save in saves:
                device.disk.save(save)
                self._checker.saved(device.disk, save)

    def _do(self, device: Device, effect: AnyEffect) -> None:  # noqa: C901 - a flat dispatch reads best whole
        if isinstance(effect, Save):
            if device.driver_rules.saves_lowest or not _takes_lowest(device, effect):
                device.unflushed.append(effect)
            return
        if device.unflushed:
            self._end_transaction(device)
        match effect:
            case Send(message=Undelivered()) if not device.driver_rules.tells_undelivered:
                pass
            case Send():
                self._network.send(device, effect.to, self._perhaps_garbled(effect.message))
            case SendRecords():
                self.flush(device, device.process)
                records = device.disk.records(effect.run, effect.after)
                if records is not None:
                    self._network.send(device, effect.to, records)
            case Sever():
                self._network.sever(device, effect.node)
            case Dismiss():
                self._network.dismiss(device, effect.node)
            case Fetch():
                self._transfers.fetch(device, effect)
            case DeleteUnneededBlobs():
                self.flush(device, device.process)
                device.collect(effect.keep)
            case Tell():
                device.told.append(effect.event)
            case Exit():
                self._processes.end(device, effect)
            case StopTraining():
                pass  # its result may come all the same; see `_worked`
            case ReadSchema() | Describe() | Create() | Train() | Evaluate() | Aggregate():
                self._work(device, effect)
            case _:
                assert_never(effect)
        if (
            self._environment.trace is not None
            and (line := line_of(effect, self._environment.name_of)) is not None
        ):
            self._environment.note(device, line)
        self._checker.done(device.disk, device.name, effect)

    def _perhaps_garbled(self, message: Message) -> Message:
        """Return *message*, or, where it proposes a record, sometimes one that no member may accept."""
        environment = self._environment
        share, random = environment.faults.garbled, environment.random
        if not isinstance(message, Accept) or not environment.is_faulty:
            return message
        if not share or random.random() >= share:
            return message
        return msgspec.structs.replace(message, record=garbled(message.record, random.randrange(3)))

    def _work(self, device: Device, effect: ReadSchema | WorkerEffect) -> None:
        seconds, result = device.work(effect, self._environment.random.random)
        if self._environment.is_faulty:
            seconds, result = self._perhaps_fail(device, effect, seconds, result)
        if seconds == FOREVER:
            return
        if isinstance(effect, Train) and isinstance(result, inputs.Trained):
            progress = inputs.TrainProgress(effect.job, 1, 4, seconds)
            self._environment.after(seconds / 4, self._worked, device, device.process, progress)
        self._environment.after(seconds, self._worked, device, device.process, result)

    def _perhaps_fail(
        self, device: Device, effect: ReadSchema | WorkerEffect, seconds: float, result: inputs.AnyInput
    ) -> tuple[float, inputs.AnyInput]:
        """Return when and how a job ends; it may fail, hang, or wait for another job that hangs."""
        environment, faults = self._environment, self._environment.faults
        waits = max(0.0, device.hung_until - environment.now)
        if not (faults.hang or faults.fail or faults.invalid_result):
            return seconds, result
        chance = environment.random.random()
        if isinstance(result, inputs.Trained) and chance > 1 - faults.invalid_result:
            one = result.result
            self._transfers.invalid_updates.add(
                environment.random.choice((one.digest, one.control)) if one.control else one.digest
            )
        elif isinstance(result, inputs.Aggregated) and chance > 1 - faults.invalid_result:
            return waits + seconds, msgspec.structs.replace(result, result=self._spoilt(result.job))
        if chance >= faults.hang + faults.fail or (failed := device.failure(effect, "the worker")) is None:
            return waits + seconds, result
        if chance < faults.fail:
            return waits + seconds / 2, msgspec.structs.replace(failed, reason="the worker ran out of memory")
        environment.note(device, f"has a worker that hangs: {failed.what}")
        limit = WORKER_LIMIT if device.driver_rules.ends_hanging else FOREVER
        device.hung_until = environment.now + waits + limit
        return waits + limit, msgspec.structs.replace(failed, reason="the worker hung")

    def _spoilt(self, job: AggregationJob) -> AggregationResult:
        """Return an aggregation's result that is no model."""
        if self._environment.random.random() < SHARE_NOT_FINITE:
            return NotFinite()
        return UnreadableUpdate(self._environment.random.choice(job.updates).digest, "it was cut short")

    def _worked(self, device: Device, process: int, result: inputs.AnyInput) -> None:
        if device.process != process or device.node is None:
            return
        if device.is_frozen:  # the blob is stored when the process goes on: the protocol names it then
            device.enter(partial(self._worked, device, process, result))
            return
        if device.is_stale(result) and self._environment.random.random() > LATE_RESULTS:
            return
        ledger = device.node.ledger
        if not isinstance(result, inputs.Trained) or (ledger is not None and ledger.run == result.job.run):
            device.keep(result)  # a node that has left the run keeps no update
        if isinstance(result, inputs.Trained):
            self._checker.work.trained(result.job, result.result, device.card)
        self._processes.hand(device, process, result)

    # --- time -------------------------------------------------------------------------------------------

    def arm(self, device: Device) -> None:
        """Arm the device's timer for its protocol's deadline, unless it is due earlier anyway."""
        deadline = device.node.deadline() if device.node is not None else None
        if deadline is None:
            return
        at = max(deadline + device.lag, self._environment.now)
        if device.tick_at is None or at < device.tick_at:
            device.tick_at = at
            self._environment.at(at, self._tick, device, device.process)

    def _tick(self, device: Device, process: int) -> None:
        if device.process != process or device.node is None or device.tick_at != self._environment.now:
            return
        device.tick_at = None
        deadline = device.node.deadline()
        if device.is_frozen or deadline is None:
            return
        if deadline + device.lag > self._environment.now:
            self.arm(device)
            return
        self._spins = self._spins + 1 if self._environment.now == self._last_tick else 0
        self._last_tick = self._environment.now
        if self._spins > MAX_SPINS:
            raise Violation(
                "progress", f"{device.name} asks for ticks without end at {self._environment.now}"
            )
        # Of two floats whose sum is not above a third, one may still exceed the difference of the others.
        self.carry_out(device, device.node.tick(max(deadline, self._environment.now - device.lag)))


def _takes_lowest(device: Device, effect: AnyEffect) -> bool:
    """Whether *effect* saves that *device* has taken a round's lowest ballot."""
    return isinstance(effect, SavePromise) and effect.ballot == Ballot(FIRST_ATTEMPT, device.member.node)


def garbled(record: Record, way: int) -> Record:
    """Return *record* with other blobs, with other metrics or with too many examples; *way* is 0, 1 or 2.

    Where it has no evaluation or no update, it is returned as it is. The other blobs are a state too many, or
    one too few.
    """
    if way == 0:
        has_state = bool(record.blobs.state)
        blobs = RecordBlobs(record.model, "" if has_state else digest_of("stray", record.model))
        return msgspec.structs.replace(record, blobs=blobs)
    if way == 1:
        evaluations = tuple(
            msgspec.structs.replace(one, evaluation=Evaluation(one.evaluation.examples, {"error": 1.0}))
            for one in record.evaluations
        )
        return msgspec.structs.replace(record, evaluations=evaluations)
    updates = tuple(msgspec.structs.replace(one, examples=MAX_EXAMPLES) for one in record.updates)
    return msgspec.structs.replace(record, updates=updates)
