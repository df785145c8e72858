"""Builders of record 0 and chains of commits, with names that are readable in a failure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from blake3 import blake3

from p2pfl.cards import Agreement, DataCard, LabelCount
from p2pfl.messages import (
    Ballot,
    ClassCount,
    Commit,
    Evaluation,
    Genesis,
    LeftOut,
    Member,
    MemberEvaluation,
    Provenance,
    Record,
    RecordBlobs,
    RosterEntry,
    SignedVote,
    UpdateBlobs,
    UpdateEntry,
    record_digest,
)
from p2pfl.proofs import sign_vote
from p2pfl.schema import Schema, TensorSpec, canonical, layout_of
from p2pfl.spec import from_options
from p2pfl.strategy_specs import MedianSpec, ScaffoldSpec, control_slots, state_slots
from p2pfl.work import TrainingResult
from tests.support.keys import id_of, signer

NAMES = ("ada", "ben", "cleo", "dan", "eve")

SCHEMA: Schema = canonical([TensorSpec("weight", "F32", (2, 3)), TensorSpec("steps", "I64", ())])

LAYOUT = layout_of(SCHEMA)

CARD = DataCard("digits", 1000, tuple(LabelCount(str(label), 100) for label in range(10)))

AGREEMENT = Agreement(CARD.classes, CARD.examples)

SPEC = from_options(
    task="digits",
    model="cnn",
    partition="iid",
    partitions=5,
    rounds=10,
    epochs=1,
    batch_size=16,
    learning_rate=0.05,
    momentum=0.9,
    weight_decay=0.0,
    seed=1,
    sample=0,
    min_updates=1,
    round_cap=60.0,
    drop_after=60.0,
)

STATEFUL = msgspec.structs.replace(SPEC, strategy=ScaffoldSpec())
"""A run whose records name a state, and whose updates name a control."""

MEDIAN = msgspec.structs.replace(SPEC, strategy=MedianSpec())
"""A run that needs three updates in each round."""


def digest(word: object) -> str:
    """A digest that depends on *word*."""
    return blake3(str(word).encode()).hexdigest()


def node(name: str) -> str:
    """The node id of device *name*; for devices in `NAMES`, it begins with the name."""
    return id_of(name)


def journal(name: str) -> str:
    """The journal id of the device *name*."""
    return digest(name)[:32]


def roster(*names: str) -> tuple[RosterEntry, ...]:
    return tuple(
        RosterEntry(node=node(name), journal=journal(name), name=name, slot=slot, examples=CARD.examples)
        for slot, name in enumerate(names)
    )


def genesis(nonce: str = "00" * 16, names: Sequence[str] = NAMES[:3], model: str = "") -> Genesis:
    return Genesis(
        nonce=nonce,
        spec=SPEC,
        roster=roster(*names),
        agreement=AGREEMENT,
        layout=LAYOUT,
        blobs=RecordBlobs(model or digest("initial")),
        provenance=Provenance("0.1.0", "initialised"),
    )


def acceptances(
    record: Record, voters: Sequence[RosterEntry], ballot: Ballot | None = None, votes: int = 0
) -> tuple[SignedVote, ...]:
    """The signed votes of *voters* for *record*."""
    return tuple(
        sign_vote(
            signer(entry.name),
            entry.member,
            record.run,
            record.round,
            ballot or record.ballot,
            record_digest(record),
            votes,
        )
        for entry in voters
    )


def signed(name: str, run: str, round_: int, ballot: Ballot, record: str = "", votes: int = 1) -> SignedVote:
    """The signed vote of device *name* for *record*, a digest; without one, a promise of *ballot*."""
    return sign_vote(signer(name), Member(node(name), journal(name)), run, round_, ballot, record, votes)


def resigned(commit: Commit, *names: str, votes: int = 0) -> Commit:
    """*commit* with the votes of *names* (default: its present voters)."""
    if not names:
        ids = {id_of(name): name for name in NAMES}
        names = tuple(ids[vote.node] for vote in commit.acceptors)
    voters = tuple(RosterEntry(node(name), journal(name), name, 0, CARD.examples) for name in names)
    return msgspec.structs.replace(commit, acceptors=acceptances(commit.record, voters, commit.ballot, votes))


def evaluation(correct: int, total: int, loss: float) -> Evaluation:
    """What is measured of a classifier; *loss* is the sum. All examples are of the first class."""
    rest = (ClassCount(0, 0, 0),) * (len(CARD.labels) - 1)
    return Evaluation(
        total, {"accuracy": float(correct), "loss": loss}, (ClassCount(correct, total, total), *rest)
    )


def evaluations(*counts: tuple[int, int], loss: float = 1.0) -> tuple[MemberEvaluation, ...]:
    """One evaluation for each member, from (correct, total); *loss* is the mean of an example."""
    return tuple(
        MemberEvaluation(node=node(name), evaluation=evaluation(correct, total, loss * total))
        for name, (correct, total) in zip(NAMES, counts, strict=False)
    )


def update(name: str, round_: int, examples: int = 100) -> UpdateEntry:
    return UpdateEntry(
        node=node(name),
        journal=journal(name),
        blobs=UpdateBlobs(digest(("update", name, round_))),
        examples=examples,
        steps=7,
        loss=0.5,
        seconds=1.5,
    )


def result_with(digest: str) -> TrainingResult:
    """The result of a training with the values of `update`."""
    part = DataCard("digits", 100, tuple(LabelCount(str(label), 10) for label in range(10)))
    return TrainingResult(digest, part, steps=7, loss=0.5, seconds=1.5)


def result_of(name: str, round_: int) -> TrainingResult:
    """The result of a training of device *name*, whose update is `update(name, round_)`."""
    return result_with(update(name, round_).digest)


def controlled(entry: UpdateEntry) -> UpdateEntry:
    """*entry* with a control."""
    blobs = UpdateBlobs(entry.digest, digest(("control", entry.digest)))
    return msgspec.structs.replace(entry, blobs=blobs)


def _update_of(entry: RosterEntry, round_: int) -> UpdateEntry:
    return msgspec.structs.replace(update(entry.name, round_), node=entry.node, journal=entry.journal)


class Chain:
    """A run that grows by one commit at each call."""

    def __init__(self, start: Genesis | None = None) -> None:
        self.genesis = start or genesis()
        self.run = record_digest(self.genesis)
        self.commits: list[Commit] = []

    def commit(
        self,
        *,
        kind: str = "train",
        model: str | None = None,
        state: str | None = None,
        proposer: str = "ben",
        attempt: int = 1,
        evaluated: tuple[MemberEvaluation, ...] = (),
        then: str = "go",
        next_roster: tuple[RosterEntry, ...] | None = None,
        left_out: tuple[LeftOut, ...] = (),
        note: str = "",
    ) -> Commit:
        """Append the commit of the next round and return it."""
        last = self.commits[-1].record if self.commits else None
        round_ = last.round + 1 if last else 1
        voters = last.roster if last else self.genesis.roster
        parent = last.blobs if last else self.genesis.blobs
        training, strategy = kind == "train", self.genesis.spec.strategy
        updates = tuple(_update_of(entry, round_) for entry in voters) if training else ()
        if control_slots(strategy):
            updates = tuple(map(controlled, updates))
        blobs = parent
        if training or model:
            made = state or digest(("state", round_)) if state_slots(strategy) else ""
            blobs = RecordBlobs(model or digest(("model", round_)), made)
        record = Record(
            run=self.run,
            round=round_,
            previous=record_digest(last) if last else self.run,
            kind=kind,  # type: ignore[arg-type]
            trained=(last.trained if last else 0) + training,
            rounds=self.genesis.spec.rounds,
            ballot=Ballot(attempt, node(proposer)),
            blobs=blobs,
            updates=updates,
            left_out=left_out,
            evaluations=evaluated,
            roster=next_roster or voters,
            then=then,  # type: ignore[arg-type]
            note=note,
        )
        commit = Commit(record, record.ballot, acceptances(record, voters[: len(voters) // 2 + 1]))
        self.commits.append(commit)
        return commit
