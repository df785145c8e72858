"""One simulated device: the real protocol core, a simulated disk and a simulated worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import assert_never

import msgspec

from p2pfl.cards import DataCard, LabelCount
from p2pfl.core import inputs
from p2pfl.core.effects import (
    Aggregate,
    AnyEffect,
    Create,
    Describe,
    Evaluate,
    Exit,
    ReadSchema,
    Save,
    Train,
    WorkerEffect,
)
from p2pfl.core.node import Node
from p2pfl.core.options import Options, Policy
from p2pfl.events import AnyEvent
from p2pfl.identity.peer import PeerIdentity
from p2pfl.messages import ClassCount, Evaluation, Member, RecordBlobs, UpdateEntry
from p2pfl.net.links.admission import Admission
from p2pfl.net.links.peers import LocalNode, MembershipPolicy
from p2pfl.proofs import Claim, JournalEvidence
from p2pfl.schema import Schema, TensorSpec, canonical, layout_of
from p2pfl.sim.disk import Disk
from p2pfl.sim.driver_rules import ALL_RULES, DriverRules
from p2pfl.sim.setting import NEVER, SETTINGS, digest_of, signer_of
from p2pfl.spec import MAX_ROSTER, RunSpec
from p2pfl.strategy_specs import control_slots, state_slots
from p2pfl.wire.links import Introduction, Refusal
from p2pfl.work import AggregatedModel, AggregationJob, TrainingJob, TrainingResult, WeightedUpdate

SCHEMA: Schema = canonical([TensorSpec("weight", "F32", (2,))])
"""The shape of every simulated model; its content is its digest."""

CARD = DataCard("simulated", 1000, (LabelCount("no", 400), LabelCount("yes", 600)))
"""What every device says of its data."""

OTHER_CARD = DataCard("simulated", 1000, (LabelCount("yes", 600), LabelCount("no", 400)))
"""What one says that has its classes in another order."""

PART, STEPS = DataCard("simulated", 100, (LabelCount("no", 40), LabelCount("yes", 60))), 10
"""What a training counts."""

EVALUATION = Evaluation(10, {"accuracy": 8.0, "loss": 2.5}, (ClassCount(3, 4, 4), ClassCount(5, 6, 6)))
"""What an evaluation counts; in a run that may stop early, besides the accuracy."""


BANNED = "is banned by an operator"
"""What every device says of one that is banned."""


def evaluation_on(node: str, model: str) -> Evaluation:
    """Return the evaluation of *model* on the data of *node*; the accuracy follows from both."""
    right = float(int(digest_of("right", node, model)[:8], 16) % (EVALUATION.examples + 1))
    return msgspec.structs.replace(EVALUATION, sums={**EVALUATION.sums, "accuracy": right})


def aggregate_of(
    spec: RunSpec, parent: RecordBlobs, updates: Iterable[WeightedUpdate | UpdateEntry]
) -> RecordBlobs:
    """Return the aggregate of *updates*, in this order, in a run of *spec* after a record of blobs *parent*.

    As with real bytes, the same updates give the same blobs, whoever aggregates them in whatever ballot. With
    a state, the model follows from the number of updates alone, so that many records differ only in their
    state, also successive ones.
    """
    entries = [part for update in updates for part in (*_digests_of(update), update.examples)]
    if not state_slots(spec.strategy):
        return RecordBlobs(digest_of("aggregate", parent.model, *entries))
    state = digest_of("state", parent.model, parent.state, *entries)
    return RecordBlobs(digest_of("aggregate", len(entries)), state)


def _digests_of(update: WeightedUpdate | UpdateEntry) -> tuple[str, ...]:
    if isinstance(update, UpdateEntry):
        return update.blobs.digests
    return (update.digest, update.control) if update.control else (update.digest,)


def _aggregated(job: AggregationJob) -> AggregatedModel:
    blobs = aggregate_of(job.spec, RecordBlobs(job.parent, job.state), job.updates)
    return AggregatedModel(blobs.model, blobs.state)


def is_ban(number: int) -> bool:
    """Whether the statement *number* about a device bans it; an even one lifts the ban."""
    return number % 2 == 1


class DeviceMembership(MembershipPolicy):
    """Who is banned, as far as one device knows."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def refusal(self, peer: PeerIdentity, incarnation: int) -> Refusal | None:
        """Return why *peer* gets no link; None if it may have one, or is needed for the quorum."""
        del incarnation
        device, node = self._device, peer.node_id
        is_needed = device.node is not None and device.node.needs(node)
        if node == device.member.node or is_needed or not is_ban(device.statements.get(node, 0)):
            return None
        return Refusal("excluded", f"{peer.name} {BANNED}")


class SimulatedLink:
    """A control link between two processes."""

    __slots__ = ("one", "order", "other", "processes")

    def __init__(self, one: Device, other: Device, order: int) -> None:
        self.one, self.other = one, other
        self.processes = (one.process, other.process)
        self.order = order
        """The number that the pair's judge gave this link (see `p2pfl.wire.links`)."""

    @property
    def is_current(self) -> bool:
        """Whether both processes it was made between still run."""
        one, other = self.one, self.other
        return one.is_up and other.is_up and self.processes == (one.process, other.process)

    def end_of(self, device: Device) -> Device:
        """Return the device at the other end from *device*."""
        return self.other if device is self.one else self.one


class Device:
    """A device that can be started, crashed, suspended and started again on its disk."""

    def __init__(
        self,
        name: str,
        disk: Disk,
        options: Options,
        policy: Policy | None = None,
        driver_rules: DriverRules = ALL_RULES,
    ) -> None:
        self.name = name
        self.disk = disk
        self.options = options
        self.policy = policy or Policy()
        self.driver_rules = driver_rules
        self.process = 0
        """Number of this process, raised at each start: a result for a crashed process never reaches the next
        one."""
        self.node: Node | None = None
        self.links: dict[str, SimulatedLink] = {}
        """By node id of the other end."""
        self.signer = signer_of(disk.member.node)
        self.local = self._local("")
        """How this process introduces itself, and its signer."""
        self.admission = self._admission()
        self.unflushed: list[Save] = []
        """Saves of the open transaction; a crash loses them."""
        self.deferred: list[Save] = []
        """Deferred saves, not on disk yet; a crash loses them."""
        self.inbox: list[Callable[[], None]] | None = None
        """Calls that wait until a suspended process goes on; None while it runs."""
        self.lag = 0.0
        """Seconds that its clock is behind, because it stood still while the device slept."""
        self.tick_at: float | None = None
        """When the one timer is due."""
        self.exit: Exit | None = None
        self.told: list[AnyEvent] = []
        self.slowness = 1.0
        """Factor by which its training is slower."""
        self.schema = SCHEMA
        """The model's schema, as its worker reports it."""
        self.card = CARD
        """Its data card, as its worker reports it."""
        self.hung_until = 0.0
        """Time until which its worker hangs."""
        self.refusals = 0
        """Number of starts since its journal was refused."""
        self.is_restored = False
        """Whether it runs on a backup and has not been refused yet."""
        self.statements: dict[str, int] = {}
        """Number of the newest statement about each node, in the device's folder: a lost disk leaves it."""
        self.is_banned = False
        """Whether an operator has banned it, whoever knows that."""
        self.is_told_own = False
        """Whether somebody has told this process that the device is banned."""
        self.is_away = False
        """Whether it left politely and comes back later."""
        self.has_turned_away = False
        """Whether only its own operator wants a new run."""

    @property
    def is_up(self) -> bool:
        """Whether its process runs, or is suspended."""
        return self.node is not None

    @property
    def is_frozen(self) -> bool:
        """Whether its process is suspended."""
        return self.inbox is not None

    @property
    def member(self) -> Member:
        """The voting pair."""
        return self.disk.member

    @property
    def is_leaving(self) -> bool:
        """Whether it is leaving, and stays only as long as it is needed."""
        return self.node is not None and self.node.status().phase == "leaving"

    @property
    def identity(self) -> PeerIdentity:
        """The identity in its certificate."""
        return PeerIdentity(self.member.node, self.name, "node", "simulated")

    def start_process(self, now: float) -> list[AnyEffect]:
        """Start the process from what is on the disk."""
        self.process += 1
        self.disk.incarnation += 1
        self.exit, self.is_away, self.hung_until, self.is_told_own = None, False, 0.0, False
        nonce = digest_of("nonce", self.options.nonce, self.process)[:32]
        new_run = self.options.new_run or self.has_turned_away
        self.options = msgspec.structs.replace(self.options, nonce=nonce)
        options = msgspec.structs.replace(self.options, new_run=new_run)
        self.local = self._local(nonce)
        self.admission = self._admission()
        saved = self.disk.load()
        self.node = Node(
            self.member, self.name, options, saved, self.signer, settings=SETTINGS, policy=self.policy
        )
        effects = self.node.start(now - self.lag)
        if excluded := self.excluded():
            effects += self.node.input(inputs.Ban(excluded), now - self.lag)
        return effects

    def _admission(self) -> Admission:
        node, membership = self.member.node, DeviceMembership(self)
        return Admission(node, self.local, self, MAX_ROSTER, membership=membership)

    def excluded(self) -> dict[str, str]:
        """Return the banned nodes; this device itself only if somebody has told this process."""
        banned = {node: BANNED for node, number in self.statements.items() if is_ban(number)}
        if not self.is_told_own:
            banned.pop(self.member.node, None)
        return banned

    def _local(self, nonce: str) -> LocalNode:
        disk = self.disk
        return LocalNode(
            disk.member.journal, disk.incarnation, nonce, "simulated", partial(self._votes, disk), self.signer
        )

    def _votes(self, disk: Disk) -> int:
        return disk.votes_cast if self.driver_rules.counts_votes else 0

    @property
    def hello(self) -> Introduction:
        """The introduction that this process sends now."""
        local = self.local
        return Introduction(local.version, local.claim(self.member.node), 1, ())

    def seen(self, member: Member) -> JournalEvidence | None:
        """Return the newest evidence of *member*'s journal, on disk or not yet."""
        known = self.disk.seen(member)
        if not self.driver_rules.counts_votes:
            return JournalEvidence(known.claim) if known is not None else None
        cast = self.node.newest_vote(member) if self.node is not None else None
        return (
            known.with_vote(cast)
            if known is not None
            else JournalEvidence(cast=cast)
            if cast is not None
            else None
        )

    def save_claim(self, member: Member, claim: Claim) -> None:
        """Remember what *member* claims, durably."""
        self.disk.save_claim(member, claim)

    def crash(self) -> None:
        """Stop the process at once; the disk stays."""
        self.node, self.inbox, self.tick_at = None, None, None
        self.unflushed.clear()
        self.deferred.clear()

    def enter(self, action: Callable[[], None]) -> None:
        """Call *action* at once, or once the process is no longer suspended."""
        if self.inbox is None:
            action()
        else:
            self.inbox.append(action)

    def lose_disk(self) -> None:
        """Replace the disk by an empty one, with a new journal id. The process must not run."""
        assert self.node is None
        journal = self._next_journal() if self.driver_rules.renews_journal else self.member.journal
        self.disk = Disk(Member(self.member.node, journal))

    def renew_journal(self) -> None:
        """Start next time with `--new-journal`. The process must not run."""
        assert self.node is None
        self.disk.renew(self._next_journal())
        self.is_restored = False

    def _next_journal(self) -> str:
        return digest_of("journal", self.name, self.process, self.member.journal)[:32]

    # --- the worker -----------------------------------------------------------------------------------------

    def work(
        self, effect: ReadSchema | WorkerEffect, chance: Callable[[], float]
    ) -> tuple[float, inputs.AnyInput]:
        """Return after how many seconds a worker's job ends, and its result.

        The blob of a result is stored with the answer: a crash before that loses it, like a temporary file.
        """
        match effect:
            case Describe():
                return 0.5 + chance(), inputs.Described(
                    effect.spec, effect.agreement, self.schema if effect.agreement else None, self.card
                )
            case ReadSchema():
                known = {layout_of(schema): schema for schema in (SCHEMA, self.schema)}
                return 0.05, inputs.SchemaRead(effect.layout, known.get(effect.layout))
            case Create():
                return 0.05, inputs.Created(
                    effect.spec, effect.agreement, digest_of("initial", effect.spec.seed), self.schema
                )
            case Train():
                seconds = (0.3 + 1.7 * chance()) * self.slowness
                update, control = self._update_of(effect.job)
                result = TrainingResult(update, PART, STEPS, 0.5, seconds, control)
                return seconds, inputs.Trained(effect.job, result)
            case Evaluate():
                is_drawn = effect.job.spec.stopping != NEVER
                evaluation = evaluation_on(self.member.node, effect.job.model) if is_drawn else EVALUATION
                return 0.02, inputs.Evaluated(effect.job, evaluation)
            case Aggregate():
                job = effect.job
                return 0.02 + 0.01 * len(job.updates), inputs.Aggregated(job, _aggregated(job))
            case _:
                assert_never(effect)

    def _update_of(self, job: TrainingJob) -> tuple[str, str]:
        """Return the digests of the update that *job* gives here, and of its control, empty without one."""
        strategy = job.spec.strategy
        parts = ["update", self.member.node, self.member.journal, job.run, job.round, job.model]
        if state_slots(strategy):
            parts += [job.state, job.memory]
        update = digest_of(*parts)
        return update, digest_of("control", update) if control_slots(strategy) else ""

    @staticmethod
    def failure(effect: ReadSchema | WorkerEffect, reason: str) -> inputs.WorkFailed | None:
        """Return the failure of the worker's job of *effect*; None for jobs that do not fail here."""
        return inputs.WorkFailed(effect, reason) if isinstance(effect, Train | Evaluate | Aggregate) else None

    def keep(self, result: inputs.AnyInput) -> None:
        """Put the blob of a worker's result on the disk; an initial model is durable at once."""
        if isinstance(result, inputs.Aggregated) and isinstance(result.result, AggregatedModel):
            self.disk.unflushed |= {result.result.digest, result.result.state} - {""}
        elif isinstance(result, inputs.Created):
            self.disk.blobs.add(result.model)
        elif isinstance(result, inputs.Trained):
            self.disk.unflushed |= {result.result.digest, result.result.control} - {""}

    def collect(self, keep: frozenset[str]) -> None:
        """Delete the blobs outside *keep*."""
        if not self.driver_rules.spares_accepted:
            keep -= self.disk.accepted_blobs()
        self.disk.collect(keep)

    def is_stale(self, result: inputs.AnyInput) -> bool:
        """Whether *result* is of a training that was stopped."""
        ledger = self.node.ledger if self.node else None
        return isinstance(result, inputs.Trained) and (ledger is None or ledger.round + 1 > result.job.round)
