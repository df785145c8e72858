"""One simulated device: the real protocol core, a modelled disk, a modelled worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
from blake3 import blake3

from p2pfl.config import ProtocolSettings
from p2pfl.core import inputs
from p2pfl.core.effects import (
    AnyEffect,
    Average,
    Create,
    Describe,
    Evaluate,
    Exit,
    Fold,
    SaveAccepted,
    SaveClosed,
    SaveCommit,
    SaveFounding,
    SavePromise,
    SaveReport,
    SaveResumed,
    SaveUpdate,
    Train,
)
from p2pfl.core.node import Node
from p2pfl.core.options import Options, Policy
from p2pfl.messages import Ballot, Evaluation, Member
from p2pfl.schema import Schema, TensorSpec, canonical
from p2pfl.sim.disk import Disk

SCHEMA: Schema = canonical([TensorSpec("weight", "F32", (2,))])
"""The shape of every simulated model; its content is its digest."""

MAX_SAMPLES = 1000


def digest_of(*parts: object) -> str:
    """Return the digest standing for a simulated model made of *parts*."""
    return blake3("/".join(map(str, parts)).encode()).hexdigest()


def average_of(ballot: Ballot, updates: Sequence[str]) -> str:
    """Return the digest standing for the average of *updates*, sorted, made in *ballot*."""
    return digest_of("average", ballot.attempt, ballot.node, *updates)


@dataclass
class Sum:
    """A running average in a simulated worker."""

    key: tuple[str, int, Ballot]
    digests: list[str]


class Device:
    """A device that can be started, crashed and started again on its disk."""

    def __init__(
        self, name: str, disk: Disk, options: Options, settings: ProtocolSettings, policy: Policy
    ) -> None:
        self.name = name
        self.disk = disk
        self.options = options
        self._settings = settings
        self._policy = policy
        self.boot = 0
        """Raised at each start: what a crashed process was waiting for never reaches the next one."""
        self.node: Node | None = None
        self.exit: Exit | None = None
        self.told: list[object] = []
        self.slowness = 1.0
        """How many times longer than the others its training takes."""
        self.schema = SCHEMA
        """What its worker says the model's tensors are."""
        self._sum: Sum | None = None

    @property
    def is_up(self) -> bool:
        """Whether its process runs."""
        return self.node is not None

    @property
    def member(self) -> Member:
        """The voting pair."""
        return self.disk.member

    def boot_up(self, now: float) -> list[AnyEffect]:
        """Start the process on what the disk holds."""
        self.boot += 1
        self._sum = None
        self.exit = None
        nonce = digest_of("nonce", self.options.nonce, self.boot)[:32]
        self.options = msgspec.structs.replace(self.options, nonce=nonce)
        saved = self.disk.load()
        self.node = Node(
            self.member, self.name, self.options, saved, settings=self._settings, policy=self._policy
        )
        return self.node.start(now)

    def crash(self) -> None:
        """Stop the process at once; the disk stays."""
        self.node = None

    def lose_disk(self) -> None:
        """Replace the disk by an empty one, with a new journal id. The process must not run."""
        assert self.node is None
        journal = digest_of("journal", self.name, self.member.journal)[:32]
        self.disk = Disk(Member(self.member.node, journal))

    # --- the worker -----------------------------------------------------------------------------------------

    def work(self, effect: AnyEffect, chance: Callable[[], float]) -> tuple[float, inputs.AnyInput] | None:
        """Return when and how a worker's effect ends; None for effects that are no worker's.

        Results become durable with the answer: a crash before it loses them, as a temporary file would be.
        """
        match effect:
            case Describe():
                return 0.5 + chance(), inputs.Described(effect.spec, self.schema, MAX_SAMPLES)
            case Create():
                return 0.05, inputs.Created(effect.spec, digest_of("initial", effect.spec.seed))
            case Train():
                digest = digest_of(
                    "update", self.member.node, self.member.journal, effect.run, effect.round, effect.model
                )
                seconds = (0.3 + 1.7 * chance()) * self.slowness
                trained = inputs.Trained(effect.run, effect.round, effect.model, digest, 100, 0.5, seconds)
                return seconds, trained
            case Evaluate():
                return 0.02, inputs.Evaluated(effect.run, effect.round, Evaluation(8, 10, 2.5))
            case Fold():
                key = (effect.run, effect.round, effect.ballot)
                if self._sum is None or self._sum.key != key:
                    self._sum = Sum(key, [])
                self._sum.digests.append(effect.digest)
                return 0.01, inputs.Folded(effect.round, effect.ballot, effect.digest)
            case Average():
                assert self._sum is not None
                digest = average_of(effect.ballot, sorted(self._sum.digests))
                return 0.02, inputs.Averaged(effect.round, effect.ballot, digest)
            case _:
                return None

    def is_stale(self, result: inputs.AnyInput) -> bool:
        """Whether a worker's result is of a training that was stopped; its update is then never stored."""
        ledger = self.node.ledger if self.node else None
        return isinstance(result, inputs.Trained) and (ledger is None or ledger.round + 1 != result.round)


SAVES = (
    SaveFounding,
    SavePromise,
    SaveAccepted,
    SaveCommit,
    SaveUpdate,
    SaveReport,
    SaveResumed,
    SaveClosed,
)
"""The effects a disk carries out."""
