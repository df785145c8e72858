"""The all-knowing judge: the design's invariants, checked as effects become durable.

A value is *chosen* once a quorum of the round's roster has durably accepted it in one ballot, whoever knows
of it. A checker that looked only at commits nodes have learned would miss most forks: the two halves of a
fork seldom meet.
"""

from __future__ import annotations

from p2pfl.core.effects import (
    AnyEffect,
    Collect,
    SaveAccepted,
    SaveCommit,
    SaveFounding,
    SavePromise,
    Send,
    Train,
)
from p2pfl.messages import (
    Accepted,
    Ballot,
    Founding,
    Member,
    Promise,
    Record,
    RosterEntry,
    quorum,
    record_digest,
)
from p2pfl.sim.device import average_of
from p2pfl.sim.disk import Disk


class Violation(AssertionError):  # noqa: N818 - it is one, whoever raises it
    """An invariant of the design does not hold."""


class Checker:
    """Judges every effect right after it was carried out on its disk."""

    def __init__(self) -> None:
        self._rosters: dict[str, tuple[RosterEntry, ...]] = {}
        self._values: dict[tuple[str, int, Ballot], str] = {}
        self._acceptors: dict[tuple[str, int, Ballot], set[Member]] = {}
        self._digests: dict[int, tuple[Record, str]] = {}
        self.chosen: dict[tuple[str, int], str] = {}
        self.updates: dict[str, tuple[str, int, str]] = {}
        """Update digests to (run, round, parent's model) they were trained for."""

    def digest(self, record: Record) -> str:
        """Return the record's digest, computed once per object."""
        known = self._digests.get(id(record))
        if known is None:
            known = self._digests[id(record)] = (record, record_digest(record))
        return known[1]

    def before(self, disk: Disk, effect: AnyEffect) -> None:
        """Judge what must hold before *effect* touches the disk."""
        match effect:
            case SavePromise():
                self._check_promise(disk, effect.run, effect.round, effect.ballot)
            case SaveAccepted():
                self._check_promise(disk, effect.run, effect.round, effect.ballot)
                if effect.record.model not in disk.blobs:
                    raise Violation(
                        f"possession: {_short(disk)} accepts a record whose model it does not hold"
                    )
            case SaveCommit():
                last = disk.commits[effect.run]
                if effect.commit.record.round != len(last) + 1:
                    raise Violation(
                        f"chain: {_short(disk)} commits round {effect.commit.record.round} after {len(last)}"
                    )
            case _:
                pass

    def after(self, disk: Disk, effect: AnyEffect) -> None:
        """Judge what must hold once *effect* is durable, or sent."""
        match effect:
            case SaveFounding():
                self._rosters[effect.run] = effect.founding.roster
                _check_roster(effect.founding)
            case SaveAccepted():
                self._accepted(disk, effect)
            case SaveCommit():
                self._committed(disk, effect)
            case Send(message=Promise() as promise):
                vote = disk.votes.get(promise.run)
                if (
                    vote is None
                    or vote.round != promise.round
                    or vote.promised is None
                    or vote.promised < promise.ballot
                ):
                    raise Violation(f"durability: {_short(disk)} sends a promise its disk does not know")
            case Send(message=Accepted() as accepted):
                vote = disk.votes.get(accepted.run)
                if vote is None or vote.accepted_ballot is None or vote.accepted_ballot < accepted.ballot:
                    raise Violation(f"durability: {_short(disk)} sends an acceptance its disk does not know")
            case Collect():
                self._collected(disk)
            case Train():
                self._train(disk, effect)
            case _:
                pass

    def _check_promise(self, disk: Disk, run: str, round_: int, ballot: Ballot) -> None:
        vote = disk.votes.get(run)
        if vote is not None and (
            vote.round > round_ or (vote.round == round_ and vote.promised and ballot < vote.promised)
        ):
            raise Violation(
                f"monotone: {_short(disk)} votes {ballot} in round {round_} after {vote.promised}"
            )

    def _accepted(self, disk: Disk, effect: SaveAccepted) -> None:
        record, ballot = effect.record, effect.ballot
        digest = self.digest(record)
        self._rosters[digest] = record.roster
        key = (effect.run, effect.round, ballot)
        if self._values.setdefault(key, digest) != digest:
            raise Violation(f"a ballot with two values: {ballot} in round {effect.round}")
        nodes = [update.node for update in record.updates]
        if len(set(nodes)) != len(nodes):
            raise Violation(f"an update counted twice in round {effect.round}")
        for update in record.updates:
            trained = self.updates.get(update.digest)
            if trained is None or trained[:2] != (effect.run, effect.round):
                raise Violation(f"an update of {trained} counted in round {effect.round}")
        folded = sorted(update.digest for update in record.updates)
        if folded and record.model != average_of(record.ballot, folded):
            raise Violation(f"the model of round {effect.round} is not the average of its updates")
        roster = self._rosters.get(record.previous, ())
        acceptors = self._acceptors.setdefault(key, set())
        if any(entry.member == disk.member for entry in roster):
            acceptors.add(disk.member)
        if roster and len(acceptors) >= quorum(len(roster)):
            self._choose(effect.run, effect.round, digest)

    def _choose(self, run: str, round_: int, digest: str) -> None:
        if self.chosen.setdefault((run, round_), digest) != digest:
            raise Violation(f"agreement: two records chosen for round {round_}")

    def _committed(self, disk: Disk, effect: SaveCommit) -> None:
        record = effect.commit.record
        if self.chosen.get((effect.run, record.round)) != self.digest(record):
            raise Violation(
                f"agreement: {_short(disk)} commits a record of round {record.round} that is not chosen"
            )
        before = effect.run if record.round == 1 else self.chosen[effect.run, record.round - 1]
        if record.previous != before:
            raise Violation(
                f"chain: the record of round {record.round} does not follow the chosen one before it"
            )

    def _collected(self, disk: Disk) -> None:
        for run, vote in disk.votes.items():
            is_open = vote.round > len(disk.commits.get(run, ()))
            if is_open and vote.accepted is not None and vote.accepted.model not in disk.blobs:
                raise Violation(
                    f"possession: {_short(disk)} collected a blob it accepted in the open round {vote.round}"
                )

    def _train(self, disk: Disk, effect: Train) -> None:
        update = disk.updates.get(effect.run)
        commits = disk.commits[effect.run]
        previous = self.digest(commits[-1].record) if commits else effect.run
        if update is not None and update[:2] == (effect.round, previous) and disk.has(update[2].digest):
            raise Violation(f"work lost: {_short(disk)} trains twice in round {effect.round}")


def _check_roster(founding: Founding) -> None:
    nodes = [entry.node for entry in founding.roster]
    if len(set(nodes)) != len(nodes):
        raise Violation("a roster with two entries of one node")


def _short(disk: Disk) -> str:
    return disk.member.node[:7]
