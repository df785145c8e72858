"""The rounds of a simulation: a plain loop, since one process needs no consensus.

Order of the updates, seeds and arithmetic are those of nodes. So the model of each round has the same bytes
as that of real nodes whose record has the same manifest.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Iterator, Sequence
from typing import assert_never

import msgspec

from p2pfl.cards import Agreement
from p2pfl.learning.aggregation import aggregate_blobs
from p2pfl.learning.open_blobs import Writer
from p2pfl.learning.own.strategy import OwnStrategy
from p2pfl.learning.simulation import attacks
from p2pfl.learning.simulation.attack_specs import BACKDOOR, AttackSpec
from p2pfl.learning.simulation.blobs import BlobShelf, MemoryReader, MemoryWriter, digest_of
from p2pfl.learning.simulation.clients import (
    ClientFailure,
    ClientJob,
    ClientUpdate,
    PartEvaluation,
    RoundStart,
)
from p2pfl.learning.simulation.engine import Engine, open_engine
from p2pfl.learning.simulation.federation import SimulatedFederation
from p2pfl.learning.simulation.orders import explained
from p2pfl.learning.simulation.simulated import SimulatedRound, SimulatedRun, check_least
from p2pfl.messages import Ballot, add_evaluations
from p2pfl.schema import Schema, parse_header
from p2pfl.spec import is_particular
from p2pfl.strategy_specs import OwnStrategySpec, least_updates, strategy_name
from p2pfl.work import (
    AggregatedModel,
    AggregationJob,
    NotFinite,
    StrategyFailed,
    UnreadableUpdate,
    WeightedUpdate,
)

PART_EXAMPLES = 512
"""Held-out examples in a part that is evaluated at once; with fewer, a process costs more than it saves."""

MAX_PARTS = 8
"""Parts of the held-out examples. The number of processes has no influence on it, so that equal runs have
equal losses to the last bit."""


class Simulation:
    """A federation whose rounds are computed one after another; iterate over it once, then `close` it."""

    def __init__(self, federation: SimulatedFederation, engine: Engine | None = None) -> None:
        """*engine* replaces that of the run.

        Raises:
            UserError: a round has fewer clients than the strategy needs.
            TaskError: the strategy is of the user's own, and fails with a few small updates.
        """
        self.federation = federation
        self.run: SimulatedRun = federation.run
        self._own = _checked_strategy(self.run)
        self._engine = engine if engine is not None else open_engine(federation)
        self._shelf = BlobShelf()
        self._memory = BlobShelf()
        self._remembered: dict[int, str] = {}
        """Digest in `_memory` of what each client remembers."""
        self.model = b""
        """The file of the last model."""
        self._state = b""
        self._best: float | None = None
        self._rounds_without_better = 0

    @property
    def agreement(self) -> Agreement:
        """What the data of the clients have in common."""
        return self.federation.agreement

    def close(self) -> None:
        """Free processes and temporary files."""
        self._engine.close()
        self._shelf.close()
        self._memory.close()

    def rounds(self) -> Iterator[SimulatedRound]:
        """Compute and yield the rounds of the run; fewer if it stops early.

        Raises:
            TaskError: the user's code is wrong.
            WorkerError: a process of the engine has ended.
        """
        self.model = self._engine.initial()
        schema = parse_header(self.model)
        for number in range(1, self.run.spec.rounds + 1):
            row = self._round(number, schema)
            yield row
            if self._stops(row):
                return

    def _round(self, number: int, schema: Schema) -> SimulatedRound:
        began = time.monotonic()
        run = self.run
        chosen = choose_clients(run, number)
        attacking = frozenset(run.attackers) & frozenset(chosen) if run.attack is not None else frozenset()
        silent = attacking if run.attack is not None and attacks.colludes(run.attack) else frozenset[int]()
        jobs = [
            self._job(client, is_attacker=client in attacking) for client in chosen if client not in silent
        ]
        updates: dict[int, WeightedUpdate] = {}
        left_out: list[tuple[int, str]] = []
        memories: dict[int, bytes] = {}
        for result in self._engine.train(RoundStart(number, self.model, self._state), jobs):
            match result:
                case ClientUpdate():
                    updates[result.client] = self._keep(result)
                    memories[result.client] = result.memory
                case ClientFailure():
                    left_out.append((result.client, result.reason))
        honest = [update for client, update in updates.items() if client not in attacking]
        if silent and run.attack is not None:
            updates |= self._collude(run.attack, sorted(silent), updates, schema)
        note = self._aggregate(number, [updates[client] for client in sorted(updates)])
        if not note:
            self._remember({client: memory for client, memory in memories.items() if memory})
        self._shelf.clear()
        is_evaluated = number % run.evaluate_every == 0 or number == run.spec.rounds
        metrics = self._evaluate(number) if is_evaluated else {}
        is_best = self._is_best(metrics)
        return SimulatedRound(
            round=number,
            metrics=metrics,
            seconds=time.monotonic() - began,
            clients=tuple(sorted(updates)),
            attackers=tuple(sorted(attacking & updates.keys())),
            best=self._best,
            is_best=is_best,
            training_loss=_mean_loss(honest),
            digest=digest_of(self.model),
            left_out=tuple(sorted(left_out)),
            note=note,
        )

    # --- training -------------------------------------------------------------------------------------------

    def _job(self, client: int, *, is_attacker: bool) -> ClientJob:
        remembered = self._remembered.get(client)
        memory = self._memory.get(remembered) if remembered is not None else b""
        return ClientJob(client, is_attacker, memory)

    def _keep(self, update: ClientUpdate) -> WeightedUpdate:
        """Keep the blobs of *update* until the end of the round."""
        self._shelf.put(update.blob, update.digest)
        control = ""
        if update.control:
            control = digest_of(update.control)
            self._shelf.put(update.control, control)
        return WeightedUpdate(update.digest, update.examples, update.steps, update.loss, control)

    def _remember(self, memories: dict[int, bytes]) -> None:
        for client, memory in memories.items():
            # Two clients may remember the same; the number keeps their entries apart.
            name = digest_of(client.to_bytes(8, "little") + memory)
            old = self._remembered.get(client)
            if old is not None and old != name:
                self._memory.drop(old)
            self._memory.put(memory, name)
            self._remembered[client] = name

    def _collude(
        self, attack: AttackSpec, attackers: Sequence[int], honest: dict[int, WeightedUpdate], schema: Schema
    ) -> dict[int, WeightedUpdate]:
        """Return the updates of *attackers*, which follow from the *honest* ones; none without these."""
        if not honest:
            return {}
        readers = (MemoryReader(self._shelf.get(one.digest), schema) for one in honest.values())
        before = MemoryReader(self.model, schema)
        blob = attacks.collude(readers, before, attack, len(honest) + len(attackers), len(attackers))
        digest = digest_of(blob)
        self._shelf.put(blob, digest)
        part_card = self.federation.prepared.part_card
        some = next(iter(honest.values()))
        return {
            client: msgspec.structs.replace(some, digest=digest, examples=part_card(client).examples)
            for client in attackers
        }

    # --- the model ------------------------------------------------------------------------------------------

    def _aggregate(self, number: int, updates: Sequence[WeightedUpdate]) -> str:
        """Make the new model; return why the old one stays, empty if there is a new one."""
        spec = self.run.spec
        least = least_updates(spec.strategy)
        if len(updates) < max(1, least):
            return f"{len(updates)} updates, and {strategy_name(spec.strategy)} needs {least}"
        parent, state = digest_of(self.model), ""
        self._shelf.put(self.model, parent)
        if self._state:
            state = digest_of(self._state)
            self._shelf.put(self._state, state)
        written: dict[bool, MemoryWriter] = {}

        def write(schema: Schema, *, is_state: bool) -> Writer:
            written[is_state] = MemoryWriter(schema)
            return written[is_state]

        job = AggregationJob(
            "", number, Ballot(1, ""), spec, parent, tuple(updates), state, members=self.run.clients
        )
        result = aggregate_blobs(job, self._shelf.open, write, self._own)
        match result:
            case AggregatedModel():
                self.model = written[False].blob
                self._state = written[True].blob if True in written else b""
                return ""
            case NotFinite():
                return "the result was not finite"
            case UnreadableUpdate():
                return f"an update cannot be read: {result.reason}"
            case StrategyFailed():
                return result.reason
            case _:
                assert_never(result)

    def _evaluate(self, number: int) -> dict[str, float]:
        """Return the metrics of the model of round *number* on all held-out examples.

        Where clients have models of their own, all that do not attack judge theirs, also those that did not
        train.
        """
        if is_particular(self.run.spec):
            honest = [one for one in range(self.run.clients) if one not in self.run.attackers]
            jobs = [self._job(client, is_attacker=False) for client in honest or range(self.run.clients)]
            return _metrics_of(self._engine.judge(RoundStart(number, self.model), jobs))
        examples = self.federation.test_examples
        is_whole = self.federation.prepared.evaluate is not None
        parts = 1 if is_whole else min(MAX_PARTS, max(1, examples // PART_EXAMPLES))
        results = self._engine.evaluate(self.model, parts)
        return _metrics_of(results)

    def _is_best(self, metrics: dict[str, float]) -> bool:
        measures = self.agreement.measures
        value = metrics.get(measures.primary)
        if value is None:
            return False
        if not measures.is_better(value, self._best):
            self._rounds_without_better += 1
            return False
        self._best, self._rounds_without_better = value, 0
        return True

    def _stops(self, row: SimulatedRound) -> bool:
        """Return whether the run ends early after *row*."""
        stopping = self.run.spec.stopping
        if stopping.patience and self._best is not None and self._rounds_without_better >= stopping.patience:
            return True
        target = stopping.until
        if target is None or target.metric not in row.metrics:
            return False
        return self.agreement.measures.reaches(target.metric, row.metrics[target.metric], target.value)


def check_simulation(federation: SimulatedFederation) -> None:
    """Refuse a simulation that cannot begin.

    Raises:
        UserError: a round has fewer clients than the strategy needs.
        TaskError: the model cannot be built, or the strategy of the user's own fails.
    """
    with explained(federation.run.places.code):
        federation.build_model()
    _checked_strategy(federation.run)


def _checked_strategy(run: SimulatedRun) -> OwnStrategy:
    check_least(run)
    own = OwnStrategy(run.places.strategy)
    if isinstance(run.spec.strategy, OwnStrategySpec):
        own.check(run.spec)
    return own


def choose_clients(run: SimulatedRun, round_: int) -> list[int]:
    """Return the clients that train in *round_*, ascending; the seed of the run determines them."""
    if not run.sample or run.sample >= run.clients:
        return list(range(run.clients))
    generator = random.Random(f"sample {run.spec.seed} {round_}")  # noqa: S311  no secret
    places = [generator.random() for _ in range(run.clients)]
    return sorted(heapq.nsmallest(run.sample, range(run.clients), key=places.__getitem__))


def _mean_loss(updates: Sequence[WeightedUpdate]) -> float | None:
    total = sum(update.examples for update in updates)
    return sum(update.loss * update.examples for update in updates) / total if total else None


def _metrics_of(results: Sequence[PartEvaluation]) -> dict[str, float]:
    metrics = add_evaluations(one.evaluation for one in results).metrics
    tried = sum(one.tried for one in results)
    if tried:
        metrics[BACKDOOR] = sum(one.hits for one in results) / tried
    return metrics
