"""A simulated disk: what journal and blob store keep, without files.

It saves the same effects as `p2pfl.store` and returns the same `Saved`. A crash of the process keeps
everything on it, a power cut loses the unflushed blobs, and a lost disk is replaced by a new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import assert_never

from p2pfl.core.effects import (
    Save,
    SaveAccepted,
    SaveClosed,
    SaveCommit,
    SaveGenesis,
    SavePromise,
    SaveRefused,
    SaveReport,
    SaveResumed,
    SaveSeen,
    SaveUpdate,
)
from p2pfl.core.saved import Saved, SavedRun, Vote
from p2pfl.core.stopping import history_of
from p2pfl.messages import Commit, Genesis, Member, RecordBlobs, Records, UpdateEntry, record_digest
from p2pfl.proofs import CastVote, Claim, JournalEvidence, casts_of

RECORDS_AT_ONCE = 4
"""Commits in one answer: few, so that a catch-up in several steps is simulated too."""


@dataclass
class Disk:
    """The disk of one simulated device."""

    member: Member
    blobs: set[str] = field(default_factory=set)
    """Durable blobs."""
    unflushed: set[str] = field(default_factory=set)
    """Blobs that a power cut loses."""
    damaged: set[str] = field(default_factory=set)
    """Blobs whose bytes are wrong, until the device notices it."""
    geneses: dict[str, Genesis] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    """Runs in the order in which they were joined."""
    commits: dict[str, list[Commit]] = field(default_factory=dict)
    votes: dict[str, Vote] = field(default_factory=dict)
    updates: dict[str, tuple[int, str, UpdateEntry]] = field(default_factory=dict)
    resumed: set[tuple[str, int]] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    incarnation: int = 0
    """Number of starts with this journal."""
    votes_cast: int = 0
    """Number of promises and acceptances of this journal."""
    refused: str = ""
    """Why no node may start with this journal any more; empty where one may."""
    incarnations: dict[Member, JournalEvidence] = field(default_factory=dict)
    """Newest evidence of each other journal."""

    def backup(self) -> Disk:
        """Return a copy: a backup of the data directory."""
        return replace(
            self,
            blobs=set(self.blobs),
            unflushed=set(self.unflushed),
            damaged=set(self.damaged),
            geneses=dict(self.geneses),
            order=list(self.order),
            commits={run: list(commits) for run, commits in self.commits.items()},
            votes=dict(self.votes),
            updates=dict(self.updates),
            resumed=set(self.resumed),
            closed=set(self.closed),
            incarnations=dict(self.incarnations),
        )

    def renew(self, journal: str) -> None:
        """Take a new journal id, as `--new-journal` does; votes and updates of the old one are deleted."""
        self.member = Member(self.member.node, journal)
        self.incarnation, self.votes_cast, self.refused = 0, 0, ""
        self.votes.clear()
        self.updates.clear()

    def seen(self, member: Member) -> JournalEvidence | None:
        """Return the newest evidence of *member*'s journal."""
        return self.incarnations.get(member)

    def save_claim(self, member: Member, claim: Claim) -> None:
        """Save *member*'s claim, durably."""
        self.incarnations[member] = JournalEvidence(
            claim, self.incarnations.get(member, JournalEvidence()).cast
        )

    def _save_seen(self, casts: Iterable[CastVote]) -> None:
        for cast in casts:
            if cast.vote.member != self.member:
                self.incarnations[cast.vote.member] = self.incarnations.get(
                    cast.vote.member, JournalEvidence()
                ).with_vote(cast)

    def save(self, effect: Save) -> None:
        """Make *effect* durable."""
        match effect:
            case SaveGenesis():
                self.geneses[effect.run] = effect.genesis
                self.commits.setdefault(effect.run, [])
                self.order = [run for run in self.order if run != effect.run] + [effect.run]
            case SavePromise():
                self.votes_cast = effect.votes
                old = self._vote(effect.run, effect.round)
                self.votes[effect.run] = Vote(effect.round, effect.ballot, old.accepted_ballot, old.accepted)
            case SaveAccepted():
                self.votes_cast = effect.votes
                self.votes[effect.run] = Vote(effect.round, effect.ballot, effect.ballot, effect.record)
            case SaveCommit():
                self.commits[effect.run].append(effect.commit)
                self._save_seen(casts_of(effect.commit))
            case SaveSeen():
                self._save_seen(effect.casts)
            case SaveRefused():
                self.refused = effect.reason
            case SaveUpdate():
                self.updates[effect.run] = (effect.round, effect.previous, effect.update)
            case SaveResumed():
                self.resumed.add((effect.run, effect.round))
            case SaveClosed():
                self.closed.add(effect.run)
            case SaveReport():
                pass  # reports are for people; the protocol reads none back
            case _:
                assert_never(effect)

    def has(self, digest: str) -> bool:
        """Whether blob *digest* is here."""
        return digest in self.blobs or digest in self.unflushed

    def last_blobs(self) -> RecordBlobs | None:
        """Return the blobs of the last record of the current run, also of record 0; None in no run."""
        run = next((run for run in reversed(self.order) if run not in self.closed), None)
        if run is None:
            return None
        commits = self.commits[run]
        return commits[-1].record.blobs if commits else self.geneses[run].blobs

    def accepted_blobs(self) -> set[str]:
        """Return the digests of the blobs of all records that its votes accept."""
        records = [vote.accepted for vote in self.votes.values()]
        return {digest for record in records if record is not None for digest in record.blobs.digests}

    def last_update(self, run: str) -> str:
        """Return this node's last update that a commit of *run*, or of a run that it continues, counts."""
        genesis = self.geneses[run]
        for one, end in (
            (run, None),
            *((origin.run, origin.round) for origin in reversed(genesis.continues)),
        ):
            for commit in reversed(self.commits.get(one, [])[:end]):
                for update in commit.record.updates:
                    if update.node == self.member.node:
                        return update.digest
        return ""

    def has_update(self, update: UpdateEntry) -> bool:
        """Whether all blobs of *update* are here."""
        return all(self.has(digest) for digest in update.blobs.digests)

    def is_whole(self, digest: str) -> bool:
        """Whether blob *digest* is here with the right bytes."""
        return self.has(digest) and digest not in self.damaged

    def drop(self, digest: str) -> None:
        """Delete blob *digest*."""
        for blobs in (self.blobs, self.unflushed, self.damaged):
            blobs.discard(digest)

    def collect(self, keep: frozenset[str]) -> None:
        """Delete the blobs outside *keep*."""
        self.blobs &= keep
        self.unflushed &= keep
        self.damaged &= keep

    def _vote(self, run: str, round_: int) -> Vote:
        vote = self.votes.get(run)
        return vote if vote is not None and vote.round == round_ else Vote(round_, None, None, None)

    def load(self) -> Saved:
        """Return the state that a node starts from.

        It has no update of a run that the node is not in: where the node comes back there, it trains again.
        """
        current = next((run for run in reversed(self.order) if run not in self.closed), None)
        self.updates = {run: update for run, update in self.updates.items() if run == current}
        saved = None
        if current is not None:
            commits = self.commits[current]
            last = commits[-1] if commits else None
            round_ = last.record.round if last else 0
            update = self.updates.get(current)
            due = (round_ + 1, record_digest(last.record) if last else current)
            is_whole = update is not None and update[:2] == due and self.has_update(update[2])
            mine = update[2] if update is not None and is_whole else None
            genesis = self.geneses[current]
            before = commits[-2].record if len(commits) > 1 else genesis
            saved = SavedRun(
                current,
                genesis,
                last,
                mine,
                (current, round_) in self.resumed,
                before.roster if last else (),
                before.blobs if last else None,
                max((c.record.round for c in commits if c.record.then != "go"), default=0),
                history_of(genesis, (commit.record for commit in commits)),
                self.last_update(current),
            )
        votes = {run: vote for run, vote in self.votes.items() if vote.round > len(self.commits.get(run, ()))}
        return Saved(saved, votes, frozenset(self.closed), self.votes_cast)

    def records(self, run: str, after: int) -> Records | None:
        """Return the answer to a `RecordsRequest`; None for an unknown run."""
        if run not in self.geneses:
            return None
        genesis = self.geneses[run] if after < 0 else None
        start = max(0, after)
        return Records(run, genesis, tuple(self.commits[run][start : start + RECORDS_AT_ONCE]))
