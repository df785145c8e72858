"""The invariants of one run in one journal: they hold whatever happened to its node.

These are pure functions over record 0, commits and votes. `p2pfl.store.verify` reads those from data
directories and compares several directories. Each violation is described in half a sentence for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from p2pfl.core.content import kept_flaw, kind_flaw, record_flaw, roles_flaw
from p2pfl.core.saved import Vote
from p2pfl.core.stopping import MetricHistory, decide_stopping, follow, judged
from p2pfl.messages import (
    Ballot,
    Commit,
    Genesis,
    Member,
    Record,
    RecordBlobs,
    RosterEntry,
    quorum,
    record_digest,
)
from p2pfl.proofs import Verify, accepted_by


@dataclass
class CommittedChain:
    """The committed records of a run, reduced to what a comparison needs: a few hundred bytes a round."""

    run: str
    genesis: Genesis
    digests: list[str] = field(default_factory=list)
    """Digests of the records, from round 1 on."""
    ballots: list[Ballot] = field(default_factory=list)
    """The ballot in which a quorum accepted each record."""
    before_last: Commit | None = None
    last: Commit | None = None

    @property
    def round(self) -> int:
        """The last committed round."""
        return len(self.digests)

    def digest(self, round_: int) -> str | None:
        """Return the digest of the record of *round_*, None where there is none; the run id for round 0."""
        if round_ == 0:
            return self.run
        return self.digests[round_ - 1] if round_ <= self.round else None

    def voters(self, round_: int) -> tuple[RosterEntry, ...]:
        """Return the roster that votes in *round_*; empty unless it is the open round or the last one."""
        if round_ == 1:
            return self.genesis.roster
        before = {self.round + 1: self.last, self.round: self.before_last}.get(round_)
        return before.record.roster if before is not None else ()

    def parent_blobs(self, round_: int) -> RecordBlobs:
        """Return the blobs of the record before *round_*, of which `voters` is not empty."""
        before = {self.round + 1: self.last, self.round: self.before_last}.get(round_)
        return before.record.blobs if before is not None else self.genesis.blobs


def check_chain(
    chain: CommittedChain, commits: Iterable[tuple[int, str, Commit]], check: Verify
) -> Iterator[str]:
    """Append *commits* (round, digest and entry, as stored) to *chain*, and yield their violations.

    Stops at the first gap in the rounds, because later commits then follow nothing.
    """
    if record_digest(chain.genesis) != chain.run:
        yield "record 0 does not give the run's id"
    if flaw := roles_flaw(chain.genesis, chain.genesis.spec):
        yield f"record 0 does not fit the run: {flaw}"
    yield from _roster_violations(0, chain.genesis.roster)
    roster, trained, rounds = chain.genesis.roster, chain.genesis.trained, chain.genesis.spec.rounds
    history = MetricHistory()
    for round_, kept, commit in commits:
        record, digest = commit.record, record_digest(commit.record)
        if (round_, record.round) != (chain.round + 1, chain.round + 1):
            yield f"after round {chain.round} comes round {round_}: rounds between them are missing"
            return
        if kept != digest:
            yield f"the record of round {round_} has digest {digest[:12]}, but was kept as {kept[:12]}"
        if record.run != chain.run or record.previous != chain.digest(chain.round):
            yield f"the record of round {round_} does not follow the one before it"
        yield from _record_violations(record, trained, rounds)
        if flaw := _content_flaw(record, chain, roster):
            yield f"the record of round {round_} does not fit the run: {flaw}"
        yield from _kind_violations(chain, record, history)
        yield from _proof_violations(commit, roster, check)
        genesis, parent = chain.genesis, chain.last.record if chain.last else None
        history = follow(history, genesis.spec.stopping, genesis.agreement.measures, parent, record)
        chain.digests.append(digest)
        chain.ballots.append(commit.ballot)
        chain.before_last, chain.last = chain.last, commit
        roster, trained, rounds = record.roster, record.trained, record.rounds


def _content_flaw(record: Record, chain: CommittedChain, roster: tuple[RosterEntry, ...]) -> str:
    """Return what in *record*, on which *roster* votes, does not fit the run of *chain*."""
    parent = chain.parent_blobs(record.round)
    return record_flaw(record, chain.genesis, roster) or kept_flaw(record, parent)


def _record_violations(record: Record, trained: int, rounds: int) -> Iterator[str]:
    """Yield the violations in *record* itself; *trained* and *rounds* are those of the record before it."""
    round_ = record.round
    if record.trained != trained + (record.kind == "train") or record.rounds < rounds:
        yield f"the record of round {round_} miscounts the rounds of training"
    counted = [Member(update.node, update.journal) for update in record.updates]
    if len(set(counted)) != len(counted):
        yield f"an update is counted twice in round {round_}"
    yield from _roster_violations(round_, record.roster)


def _kind_violations(chain: CommittedChain, record: Record, history: MetricHistory) -> Iterator[str]:
    """Yield why *record* may not train, or may not close the run (rule "Stopping early")."""
    genesis, last = chain.genesis, chain.last.record if chain.last else None
    parent = last if last is not None else genesis
    found = judged(last, record.evaluations)
    stops, why = decide_stopping(genesis.spec.stopping, genesis.agreement.measures, history, found)
    if flaw := kind_flaw(record, parent.model, parent.trained, stops=stops, why=why):
        yield f"the record of round {record.round} does not fit the run: {flaw}"


def _roster_violations(round_: int, roster: tuple[RosterEntry, ...]) -> Iterator[str]:
    if len({entry.node for entry in roster}) != len(roster):
        yield f"the roster of record {round_} has a node twice"
    if len({entry.slot for entry in roster}) != len(roster):
        yield f"the roster of record {round_} has a data slot twice"


def _proof_violations(commit: Commit, roster: tuple[RosterEntry, ...], check: Verify) -> Iterator[str]:
    """Yield the violations in the proof that a quorum of *roster* accepted *commit*."""
    accepted = len(accepted_by(commit, {entry.member for entry in roster}, check))
    if accepted < quorum(len(roster)):
        yield (
            f"round {commit.record.round} is committed with the signed acceptance of {accepted} of "
            f"{len(roster)} members, {quorum(len(roster))} are needed"
        )
    if commit.ballot < commit.record.ballot:
        yield f"the record of round {commit.record.round} is committed in a ballot before its first one"


def vote_violations(chain: CommittedChain, vote: Vote) -> Iterator[str]:
    """Yield the violations in a journal's promise and acceptance in the run of *chain*."""
    if vote.round > chain.round + 1:
        yield f"it voted in round {vote.round}, but round {vote.round - 1} is not committed here"
    record, ballot = vote.accepted, vote.accepted_ballot
    if record is None or ballot is None:
        return
    if vote.promised is None or vote.promised < ballot:
        yield f"it accepted a ballot of round {vote.round} above the one it had promised"
    if (record.run, record.round) != (chain.run, vote.round) or ballot < record.ballot:
        yield f"what it accepted in round {vote.round} is no record of that round"
    elif (parent := chain.digest(vote.round - 1)) is not None and record.previous != parent:
        yield f"what it accepted in round {vote.round} does not follow the record committed before it"
    elif (roster := chain.voters(vote.round)) and (flaw := _content_flaw(record, chain, roster)):
        yield f"what it accepted in round {vote.round} does not fit the run: {flaw}"
    yield from contradiction(chain, vote)


def contradiction(chain: CommittedChain, vote: Vote) -> Iterator[str]:
    """Yield how a vote contradicts the commit of its round in *chain*, perhaps of another journal.

    Once a quorum has accepted a value in a ballot, no higher ballot can have another value (Paxos, P2b).
    """
    committed = chain.digest(vote.round)
    if vote.accepted is None or vote.accepted_ballot is None or committed is None:
        return
    if vote.accepted_ballot >= chain.ballots[vote.round - 1] and record_digest(vote.accepted) != committed:
        yield (
            f"round {vote.round} is committed as record {committed[:12]}, but "
            f"{record_digest(vote.accepted)[:12]} was accepted in the same or a higher ballot"
        )
