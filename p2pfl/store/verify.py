"""Verification of data directories: each journal by itself, and several against each other.

`p2pfl history --verify` runs it for users, and tests run it after every scenario with real nodes. It only
reads, so nodes may be running; everything about one run is read in one transaction. The invariants of one run
are in `p2pfl.store.invariants`; this module has the files, the blobs and the comparison.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from p2pfl.core.saved import Vote
from p2pfl.errors import DataDirectoryError, UserError
from p2pfl.identity import signatures
from p2pfl.messages import Ballot, Commit, Member, Record, record_digest
from p2pfl.store.directory import DataDirectory
from p2pfl.store.invariants import CommittedChain, check_chain, contradiction, vote_violations
from p2pfl.store.reader import JournalReader

What = Literal["journal", "agreement", "copy", "blob"]

ADVICE: dict[What, str] = {
    "journal": "start the node with --new-journal: it joins again as a new member",
    "agreement": "keep both data directories as they are, and report this",
    "copy": "start the one that is not the original with --new-journal",
    "blob": "delete that file if it is there, and start the node with its peers: it pulls the model again",
}
"""What to do about each kind of fault."""

SHORT = 7
"""Characters shown of a run id, as in the history."""

LOOKS = 5
"""Number of attempts to find a running node's blobs: meanwhile it commits rounds and deletes old models."""


class Fault(msgspec.Struct, frozen=True):
    """A violated invariant, and where."""

    directory: Path
    what: What
    text: str
    """What is wrong, in half a sentence; `str(fault)` is a whole one with advice."""

    def __str__(self) -> str:
        return f"{self.directory}: {self.text}; {ADVICE[self.what]}."


class Findings(msgspec.Struct, frozen=True):
    """What was checked, and the faults."""

    directories: int
    runs: int
    """Number of different runs in all directories."""
    records: int
    """Number of commits read, without record 0."""
    blobs: int
    """Number of model files read completely."""
    faults: tuple[Fault, ...]

    @property
    def is_clean(self) -> bool:
        """Whether there is no fault."""
        return not self.faults


def verify(directories: Sequence[Path]) -> Findings:
    """Check the data directories at *directories*, each by itself and all against each other.

    Each by itself: the records of every run are an unbroken chain, each with the signatures of a quorum of
    its roster, and fit the run's spec; the votes fit them; the models that the node must hold are here with
    the right bytes. Against each other: one record a round, one value a ballot, no journal twice, and no
    journal older than others have seen it.

    Raises:
        UserError: a directory is given twice.
        DataDirectoryError: there is no such directory, or no journal in it.
    """
    places = [DataDirectory(path) for path in directories]
    if len({place.path.resolve() for place in places}) < len(places):
        raise UserError("a data directory is given twice; name each once")
    inspections = []
    for place in places:
        place.read_journal().close()  # raises where there is no data directory
        inspections.append(_inspect(place))
    faults = [fault for inspection in inspections for fault in inspection.faults]
    return Findings(
        directories=len(places),
        runs=len({run for inspection in inspections for run in inspection.chains}),
        records=sum(chain.round for inspection in inspections for chain in inspection.chains.values()),
        blobs=sum(inspection.blobs for inspection in inspections),
        faults=(*faults, *_compare(inspections)),
    )


@dataclass
class Inspection:
    """The content of one data directory."""

    place: DataDirectory
    member: Member | None = None
    """The journal's member; None in a journal that no node has opened yet, or that cannot be read."""
    chains: dict[str, CommittedChain] = field(default_factory=dict)
    """By run."""
    votes: dict[str, Vote] = field(default_factory=dict)
    """By run."""
    incarnations: dict[Member, tuple[int, int]] = field(default_factory=dict)
    """Number of starts and votes of other journals that it has seen."""
    blobs: int = 0
    faults: list[Fault] = field(default_factory=list)

    def blame(self, what: What, text: str) -> None:
        """Add a fault of this directory."""
        self.faults.append(Fault(self.place.path, what, text))


def _inspect(place: DataDirectory) -> Inspection:
    """Check one data directory by itself; an unreadable journal is a fault and ends the check."""
    inspection = Inspection(place)
    try:
        with place.read_journal() as journal:
            for text in journal.corrupt_rows():
                inspection.blame("journal", text)
            inspection.member = journal.identity()
            inspection.incarnations = journal.incarnations()
            for run in journal.runs():
                _inspect_run(inspection, journal, run.run)
            open_runs = [run.run for run in journal.runs() if not run.closed]
            if open_runs and inspection.member is not None:
                _inspect_blobs(inspection, journal, open_runs[-1], inspection.member)
    except DataDirectoryError as error:
        inspection.blame("journal", str(error))
    return inspection


def _inspect_run(inspection: Inspection, journal: JournalReader, run: str) -> None:
    with journal.snapshot():
        genesis, vote = journal.genesis(run), journal.votes().get(run)
        assert genesis is not None
        chain = inspection.chains[run] = CommittedChain(run, genesis)
        for violation in check_chain(chain, journal.commits(run), signatures.verify):
            inspection.blame("journal", f"run {run[:SHORT]}: {violation}")
        if vote is not None:
            inspection.votes[run] = vote
            for violation in vote_violations(chain, vote):
                inspection.blame("journal", f"run {run[:SHORT]}: {violation}")
        for round_ in journal.conflicts(run):
            inspection.blame(
                "agreement", f"run {run[:SHORT]}: two records are committed around round {round_}"
            )


# --- blobs --------------------------------------------------------------------------------------------------


def _inspect_blobs(inspection: Inspection, journal: JournalReader, run: str, member: Member) -> None:
    """Check the models that *member* must hold; a running node may delete those it no longer needs."""
    blobs = inspection.place.read_blobs()
    missing: dict[str, str] = {}
    for _ in range(LOOKS):
        needed = _needed(journal, run, member)
        before, missing = missing, {}
        for digest, why in needed.items():
            if blobs.is_intact(digest):
                inspection.blobs += 1
            else:
                missing[digest] = why
        if not missing or missing == before:
            break
    for digest, why in missing.items():
        state = "has other bytes than it is named by" if blobs.has(digest) else "is not here"
        inspection.blame("blob", f"run {run[:SHORT]}: {why}, {blobs.path(digest)}, {state}")


def _needed(journal: JournalReader, run: str, member: Member) -> dict[str, str]:
    """Return the digests of the models and states that *member* must hold durably, each with a description.

    These are those that it has accepted. It may be pulling models of other rounds, or never get them.
    """
    with journal.snapshot():
        vote, commits, best = journal.votes().get(run), journal.last_commits(run, 2), journal.best_commit(run)
    needed: dict[str, str] = {}
    for commit in commits:
        if _has_accepted(commit, member):
            needed |= _described(commit.record, f"of round {commit.record.round}")
    if best is not None and _has_accepted(best, member):
        needed[best.record.model] = f"the best model, of round {best.record.round}"
    accepted = vote.accepted if vote is not None else None
    if accepted is not None and commits and accepted == commits[0].record:
        needed |= _described(accepted, f"of round {accepted.round}")
    elif accepted is not None and accepted.round > (commits[0].record.round if commits else 0):
        needed |= _described(accepted, f"it accepted in the open round {accepted.round}")
    return needed


def _has_accepted(commit: Commit, member: Member) -> bool:
    return any(vote.member == member for vote in commit.acceptors)


def _described(record: Record, which: str) -> dict[str, str]:
    """Return the digests of the blobs of *record*, each with a description that ends with *which*."""
    return {
        digest: f"the {role} {which}"
        for role, digest in zip(record.blobs.roles, record.blobs.digests, strict=True)
    }


# --- several ------------------------------------------------------------------------------------------------


def _compare(inspections: Sequence[Inspection]) -> Iterator[Fault]:
    """Yield the faults between directories; each is reported for the later directory."""
    for index, inspection in enumerate(inspections):
        yield from _age_faults(inspection, inspections)
        yield from _origin_faults(inspection, inspections)
        for other in inspections[:index]:
            if inspection.member is not None and inspection.member.journal == _journal_of(other):
                text = f"it has the same journal id as {other.place.path}: one is a copy of the other"
                yield Fault(inspection.place.path, "copy", text)
            for run in sorted(inspection.chains.keys() & other.chains.keys()):
                for text in _disagreements(inspection, other, run):
                    yield Fault(
                        inspection.place.path, "agreement", f"run {run[:SHORT]}: {text} ({other.place.path})"
                    )


def _journal_of(inspection: Inspection) -> str | None:
    return inspection.member.journal if inspection.member is not None else None


def _age_faults(inspection: Inspection, others: Sequence[Inspection]) -> Iterator[Fault]:
    """Yield a fault if others have seen later starts or more votes of this journal than it knows."""
    if inspection.member is None:
        return
    known = [other.incarnations.get(inspection.member, (0, 0)) for other in others]
    incarnation, votes = max(incarnation for incarnation, _ in known), max(votes for _, votes in known)
    with inspection.place.read_journal() as journal:
        # Read last: the node may have started again, or voted, meanwhile.
        own_incarnation, own_votes = journal.starts(), journal.votes_cast_so_far()
    if own_incarnation < incarnation:
        text = f"it knows {own_incarnation} starts of its node, but others have seen start {incarnation}"
    elif own_votes < votes:
        text = f"it knows {own_votes} votes of its node, but others have seen {votes}"
    else:
        return
    yield Fault(inspection.place.path, "copy", f"{text}: it is a copy or a backup")


def _origin_faults(inspection: Inspection, others: Sequence[Inspection]) -> Iterator[Fault]:
    """Yield a fault for each run that continues from another record than the one in its origin."""
    for run, chain in sorted(inspection.chains.items()):
        for origin in chain.genesis.continues:
            known = {
                other.chains[origin.run].digest(origin.round)
                for other in others
                if origin.run in other.chains
            }
            if known - {None, origin.record}:
                text = f"continues run {origin.run[:SHORT]} from another record than its round {origin.round}"
                yield Fault(inspection.place.path, "agreement", f"run {run[:SHORT]} {text}")


def _disagreements(one: Inspection, other: Inspection, run: str) -> Iterator[str]:
    """Yield the contradictions between two journals about *run*."""
    mine, theirs = one.chains[run], other.chains[run]
    for round_ in range(1, min(mine.round, theirs.round) + 1):
        if mine.digest(round_) != theirs.digest(round_):
            yield f"round {round_} is committed with another record than elsewhere"
            return  # later rounds differ as well
    for vote, chain in ((one.votes.get(run), theirs), (other.votes.get(run), mine)):
        if vote is not None:
            yield from contradiction(chain, vote)
    values = _accepted(one.votes.get(run)) | _accepted(other.votes.get(run))
    for (round_, ballot), value in _accepted(one.votes.get(run)).items():
        if values[round_, ballot] != value:
            yield f"attempt {ballot.attempt} of round {round_} was accepted with two records"


def _accepted(vote: Vote | None) -> dict[tuple[int, Ballot], str]:
    """Return the accepted record, if any: its digest, by round and ballot."""
    if vote is None or vote.accepted is None or vote.accepted_ballot is None:
        return {}
    return {(vote.round, vote.accepted_ballot): record_digest(vote.accepted)}
