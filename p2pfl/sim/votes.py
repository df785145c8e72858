"""The vote checker: agreement, chain, monotone promises, durability, ballots, rosters and identity.

A record is *chosen* once a quorum of the round's roster has durably accepted it in one ballot, even if no
node knows of it yet. A checker of commits alone would miss most forks, because the two halves of a fork
rarely meet. Promises are remembered here by member, and not read from its disk: a disk that forgets a promise
must be noticed.
"""

from __future__ import annotations

from p2pfl.core.effects import SaveAccepted, SaveCommit, SaveGenesis, SavePromise
from p2pfl.core.options import FIRST_ATTEMPT
from p2pfl.core.roster import contains, ranked
from p2pfl.messages import Accepted, Ballot, Member, Promise, Record, RosterEntry, quorum, record_digest
from p2pfl.sim.disk import Disk
from p2pfl.sim.trace import SHORT
from p2pfl.sim.violation import Violation

Round = tuple[str, int]
"""A run and the number of a round."""


class Chosen:
    """A chosen record."""

    __slots__ = ("acceptors", "digest", "record", "voters")

    def __init__(
        self, digest: str, record: Record, voters: tuple[RosterEntry, ...], acceptors: set[Member]
    ) -> None:
        self.digest, self.record = digest, record
        self.voters = voters
        self.acceptors = acceptors
        """Members that have accepted it in the ballot that decided it; grows as more accept."""


class VoteChecker:
    """Checks what members promise and accept, and knows which records are chosen."""

    def __init__(self) -> None:
        self.chosen: dict[Round, Chosen] = {}
        self.last: dict[str, int] = {}
        """The highest decided round, by run."""
        self.gone: set[Member] = set()
        """Members whose disk was lost, or restored from a backup: they must never vote again."""
        self.proposed: dict[Round, dict[str, Record]] = {}
        """Records proposed in each open round, by digest: each of them may still be chosen."""
        self._rosters: dict[str, tuple[RosterEntry, ...]] = {}
        """The roster that votes after each record, by the record's digest."""
        self._promised: dict[tuple[Member, str], tuple[int, Ballot]] = {}
        self._candidacies: dict[tuple[str, str], tuple[int, Ballot]] = {}
        self._accepted: dict[tuple[Member, str], tuple[int, Ballot, str]] = {}
        self._values: dict[tuple[str, int, Ballot], str] = {}
        self._acceptors: dict[tuple[str, int, Ballot], set[Member]] = {}
        self._digests: dict[int, tuple[Record, str]] = {}

    def digest(self, record: Record) -> str:
        """Return the record's digest, computed once per object."""
        known = self._digests.get(id(record))
        if known is None:
            known = self._digests[id(record)] = (record, record_digest(record))
        return known[1]

    def chosen_digest(self, run: str, round_: int) -> str | None:
        """Return the digest of the record chosen for a round; the run id for record 0."""
        if round_ == 0:
            return run
        chosen = self.chosen.get((run, round_))
        return chosen.digest if chosen is not None else None

    # --- saves ----------------------------------------------------------------------------------------------

    def founded(self, effect: SaveGenesis) -> None:
        """Record the roster of record 0."""
        _check_roster(effect.genesis.roster)
        self._rosters[effect.run] = effect.genesis.roster

    def promised(self, disk: Disk, effect: SavePromise) -> None:
        """Check a promise that is now on *disk*."""
        self._vote(disk, effect.run, effect.round, effect.ballot)
        if effect.ballot.node == disk.member.node:
            key, candidacy = (effect.ballot.node, effect.run), (effect.round, effect.ballot)
            before = self._candidacies.get(key)
            if before is not None and candidacy <= before:
                raise Violation(
                    "ballot",
                    f"{short(disk)} runs for election with {name(effect.ballot)} in round {effect.round} "
                    f"again after {name(before[1])}: an old ballot is never resumed",
                )
            self._candidacies[key] = candidacy

    def accepted(self, disk: Disk, effect: SaveAccepted) -> None:
        """Check an acceptance that is now on *disk*; a quorum of them decides the round."""
        self._vote(disk, effect.run, effect.round, effect.ballot)
        record = effect.record
        digest = self.digest(record)
        _check_roster(record.roster)
        self._rosters[digest] = record.roster
        key = (effect.run, effect.round, effect.ballot)
        voters = self._rosters.get(record.previous, ())
        if key not in self._values:
            self._check_adoption(effect, digest, voters)
        if self._values.setdefault(key, digest) != digest:
            raise Violation(
                "ballot", f"a ballot with two values: {name(effect.ballot)} in round {effect.round}"
            )
        self._accepted[disk.member, effect.run] = (effect.round, effect.ballot, digest)
        acceptors = self._acceptors.setdefault(key, set())
        if contains(voters, disk.member):
            acceptors.add(disk.member)
            if len(acceptors) >= quorum(len(voters)):
                self._choose((effect.run, effect.round), Chosen(digest, record, voters, acceptors))

    def committed(self, disk: Disk, effect: SaveCommit) -> None:
        """Check a commit that is now on *disk*."""
        record = effect.commit.record
        if self.chosen_digest(effect.run, record.round) != self.digest(record):
            raise Violation(
                "agreement", f"{short(disk)} commits a record of round {record.round} that is not chosen"
            )
        if record.round != len(disk.commits[effect.run]):
            before = len(disk.commits[effect.run]) - 1
            raise Violation("chain", f"{short(disk)} commits round {record.round} after {before}")
        if self.chosen_digest(effect.run, record.round - 1) != record.previous:
            raise Violation(
                "chain", f"the record of round {record.round} does not follow the chosen one before it"
            )

    # --- proposals ------------------------------------------------------------------------------------------

    def propose(self, record: Record) -> None:
        """Remember that *record* is proposed, if its round is open."""
        if (record.run, record.round) not in self.chosen:
            self.proposed.setdefault((record.run, record.round), {})[self.digest(record)] = record

    # --- answers --------------------------------------------------------------------------------------------

    def sent(self, disk: Disk, message: Promise | Accepted) -> None:
        """Check an answer that is sent: it must be on *disk* already."""
        vote = disk.votes.get(message.run)
        if isinstance(message, Promise):
            ballot, what = vote.promised if vote is not None else None, "a promise"
        else:
            ballot, what = vote.accepted_ballot if vote is not None else None, "an acceptance"
        if vote is None or ballot is None or (vote.round, ballot) < (message.round, message.ballot):
            raise Violation("durability", f"{short(disk)} sends {what} its disk does not know")

    # --- parts ----------------------------------------------------------------------------------------------

    def _vote(self, disk: Disk, run: str, round_: int, ballot: Ballot) -> None:
        member = disk.member
        if member in self.gone:
            raise Violation("identity", f"{short(disk)} votes with a journal that has lost its promises")
        before = self._promised.get((member, run))
        if before is not None and (round_, ballot) < before:
            raise Violation(
                "monotone",
                f"{short(disk)} votes for {name(ballot)} in round {round_} "
                f"after {name(before[1])} in round {before[0]}",
            )
        self._promised[member, run] = (round_, ballot)

    def _check_adoption(self, effect: SaveAccepted, digest: str, voters: tuple[RosterEntry, ...]) -> None:
        """Check the first acceptance in a ballot: no earlier ballot may have decided another value.

        Among the members whose promises may have elected the proposer there must be a quorum such that none
        of them has accepted anything before, or the last value that any of them has accepted is this one
        (Lamport 2001, P2c). Only the round's lowest ballot has no ballot before it.
        """
        if effect.ballot == self._lowest(effect.run, effect.round, voters):
            return
        free, before = 0, []
        for entry in voters:
            vote = (entry.member, effect.run)
            if self._promised.get(vote, (0, effect.ballot)) < (effect.round, effect.ballot):
                continue
            round_, ballot, value = self._accepted.get(vote, (0, effect.ballot, ""))
            if round_ != effect.round or ballot >= effect.ballot:
                free += 1
            else:
                before.append((ballot, value))
        needed = quorum(len(voters))
        counts = [free] + [
            free + sum(other <= ballot for other, _ in before) for ballot, value in before if value == digest
        ]
        if max(counts) < needed:
            raise Violation(
                "agreement",
                f"{name(effect.ballot)} carries a value of its own in round {effect.round}, where those who "
                "elected its proposer may have decided another",
            )

    def _lowest(self, run: str, round_: int, voters: tuple[RosterEntry, ...]) -> Ballot | None:
        order = ranked(run, round_, [entry.node for entry in voters])
        return Ballot(FIRST_ATTEMPT, order[0]) if order else None

    def _choose(self, at: Round, chosen: Chosen) -> None:
        known = self.chosen.setdefault(at, chosen)
        if known.digest != chosen.digest:
            raise Violation("agreement", f"two records chosen for round {at[1]}")
        self.last[at[0]] = max(at[1], self.last.get(at[0], 0))
        self.proposed.pop(at, None)


def _check_roster(roster: tuple[RosterEntry, ...]) -> None:
    if len({entry.node for entry in roster}) != len(roster):
        raise Violation("roster", "a roster with two entries of one node")
    if len({entry.slot for entry in roster}) != len(roster):
        raise Violation("roster", "a roster with two entries of one slot")


def short(disk: Disk) -> str:
    """Return the shortened id of the node whose disk it is."""
    return disk.member.node[:SHORT]


def name(ballot: Ballot) -> str:
    """Return a short name of a ballot."""
    return f"ballot {ballot.attempt} of {ballot.node[:SHORT]}"
