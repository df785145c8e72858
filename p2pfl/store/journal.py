"""The journal: a node's durable memory of votes, commits and runs; an answer leaves only after its save.

Promises and acceptances keep the consensus safe only if no vote is ever lost or taken back. So when `save`
returns, the effect is on disk. Votes only ever rise: a lower vote is a bug, and is stopped here. A node that
loses or replaces its journal gets a new journal id: a member is (node id, journal id), and no node votes with
another journal's memory.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
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
from p2pfl.core.saved import Saved, SavedRun
from p2pfl.errors import ClonedError, DataDirectoryError
from p2pfl.messages import (
    MAX_ATTEMPT,
    Ballot,
    Commit,
    Evaluation,
    Genesis,
    Member,
    Record,
    UpdateEntry,
    add_evaluations,
    record_digest,
)
from p2pfl.proofs import CastVote, Claim, JournalEvidence, casts_of
from p2pfl.store.checksums import drop
from p2pfl.store.database import (
    DamagedJournalError,
    damaged,
    database_errors,
    find_corrupt_rows,
    open_writable,
)
from p2pfl.store.durable import disk_errors, flush_folder
from p2pfl.store.reader import JournalReader, encode
from p2pfl.store.wal import has_lost_commits

DISPENSABLE = {
    "updates": "this device's last update, which is trained again",
    "reports": "evaluations of the last round, which are committed with the next one",
    "incarnations": "starts and votes of other devices, which they show again",
}
"""Tables on which no vote depends, and what is in them."""


class Journal(JournalReader):
    """The journal of the node that holds the data directory's lock. Every call may come from any thread."""

    member: Member
    """This node as a voter."""
    incarnation: int
    """Number of starts of this journal, including this one; durable."""
    votes_cast: int
    """Number of votes that this journal has cast; durable."""
    remark: str
    """A message for people about damage found when it was opened; empty if there was none."""

    @classmethod
    def open(cls, path: Path, node_id: str, *, new_journal: bool = False) -> Journal:
        """Open the journal at *path*, create it where missing, and count this start durably.

        With *new_journal* it gets a new journal id and drops its votes and updates, which belong to the old
        one. Records stay, so that the node, which comes back as a learner, need not pull everything again. A
        damaged journal is then moved aside.

        Raises:
            ClonedError: it was found to be a copy at an earlier start.
            DataDirectoryError: it is of another node, damaged, of a newer version, or holds two commits of
                one round; or the disk refused.
        """
        try:
            return cls._open(path, node_id, new_journal=new_journal)
        except DamagedJournalError:
            if not new_journal:
                raise
        aside = _move_aside(path)
        journal = cls._open(path, node_id, new_journal=True)
        journal.remark = f"the journal was damaged: it is kept as {aside.name}, and a new one was begun"
        return journal

    @classmethod
    def _open(cls, path: Path, node_id: str, *, new_journal: bool) -> Journal:
        log = path.with_name(f"{path.name}-wal")
        with disk_errors("read", log):
            if has_lost_commits(log):
                raise damaged(path, "its log lost what was flushed")
        journal = cls(path, open_writable(path))
        try:
            journal.remark = journal._drop_damaged_rows()
            journal._begin(node_id, new_journal)
        except BaseException:
            journal.close()
            raise
        return journal

    def save(self, effect: Save) -> None:
        """Save *effect*; it is on disk when this returns.

        Raises:
            DataDirectoryError: the disk refused; nothing was saved.
            RuntimeError: a vote lower than an earlier one, or a commit out of order: a bug that must not
                reach the disk.
        """
        self.save_all((effect,))

    def save_all(self, effects: Iterable[Save]) -> None:
        """Save *effects* in one transaction: all are on disk when this returns, or none (see `save`)."""
        effects = tuple(effects)
        with self._transaction():
            for effect in effects:
                self._save(effect)
        for effect in effects:
            if isinstance(effect, SavePromise | SaveAccepted):
                self.votes_cast = effect.votes

    def load(self) -> Saved:
        """Return the state from which the protocol continues after a start.

        Raises:
            DataDirectoryError: the journal is damaged.
        """
        with self._lock:
            rows = self._all("SELECT run FROM runs WHERE closed = 0 ORDER BY number DESC LIMIT 1")
            return Saved(
                current=self._load_run(rows[0][0]) if rows else None,
                votes={
                    run: vote
                    for run, vote in self.votes().items()
                    if vote.round > (commit.record.round if (commit := self.last_commit(run)) else 0)
                },
                closed=frozenset(run for (run,) in self._all("SELECT run FROM runs WHERE closed = 1")),
                votes_cast=self.votes_cast,
            )

    def seen(self, member: Member) -> JournalEvidence | None:
        """Return the newest evidence of *member*'s journal; None if there is none."""
        rows = self._all(
            "SELECT claim, vote FROM incarnations WHERE node = ? AND journal = ?", member.node, member.journal
        )
        if not rows:
            return None
        claim, vote = rows[0]
        return JournalEvidence(
            self._decode(claim, Claim) if claim is not None else None,
            self._decode(vote, CastVote) if vote is not None else None,
        )

    def save_claim(self, member: Member, claim: Claim) -> None:
        """Save *member*'s claim about its journal durably."""
        with self._transaction():
            self._execute(
                "INSERT INTO incarnations VALUES (?, ?, ?, ?, ?, NULL) "
                "ON CONFLICT (node, journal) DO UPDATE SET incarnation = excluded.incarnation, "
                "votes = max(votes, excluded.votes), claim = excluded.claim",
                member.node,
                member.journal,
                claim.incarnation,
                claim.votes,
                encode(claim),
            )

    def refuse(self, reason: str) -> None:
        """Mark this journal as a copy, durably: no node starts with it any more (see `SaveRefused`)."""
        self.save(SaveRefused(reason))

    # --- opening ----------------------------------------------------------------------------------------

    def _drop_damaged_rows(self) -> str:
        """Delete corrupt rows on which no vote depends; return a message about them.

        Raises:
            DataDirectoryError: a vote depends on a corrupt row, or the disk refused.
        """
        found = find_corrupt_rows(self._connection, self.path)
        for row in found:
            if row.table not in DISPENSABLE:
                raise damaged(
                    self.path, f"row {row.row} of its table {row.table} does not match its checksum"
                )
        if not found:
            return ""
        with self._transaction() as connection:
            for row in found:
                drop(connection, row)
        lost = ", ".join(sorted({DISPENSABLE[row.table] for row in found}))
        return f"a part of the journal was damaged and is dropped: {lost}. Look at this disk's health"

    def _begin(self, node_id: str, new_journal: bool) -> None:
        """Reserve the journal for *node_id* and raise its number of starts, in one transaction."""
        with self._transaction() as connection:
            conflict = connection.execute("SELECT run, round FROM conflicts").fetchone()
            if conflict is not None:
                raise DataDirectoryError(
                    f"the journal {self.path} holds two different histories up to round {conflict[1]} of run "
                    f"{conflict[0][:7]}, which must never happen; keep this data directory for whoever looks "
                    "into it, and start with another --data-dir"
                )
            row = connection.execute("SELECT node, journal, incarnation, votes, refused FROM self").fetchone()
            if row is not None and row[0] != node_id and not new_journal:
                raise DataDirectoryError(
                    f"the journal {self.path} belongs to node {row[0][:7]}, but this certificate is of "
                    f"node {node_id[:7]}; use that node's certificate, another --data-dir, or --new-journal "
                    "to join as a new member"
                )
            if row is not None and row[4] and not new_journal:
                raise ClonedError(
                    f"the data directory {self.path.parent} must not be used as it is, as another device has "
                    f"proved: {row[4]}"
                )
            if row is None or new_journal:
                row = (node_id, secrets.token_hex(16), 0, 0, "")
                for table in ("self", "votes", "updates"):
                    connection.execute(f"DELETE FROM {table}")  # noqa: S608  (a name from the line above)
                connection.execute("INSERT INTO self VALUES (?, ?, ?, ?, ?)", row)
            connection.execute("UPDATE self SET incarnation = incarnation + 1")
        self.member = Member(node_id, row[1])
        self.incarnation = row[2] + 1
        self.votes_cast = row[3]

    def _load_run(self, run: str) -> SavedRun:
        genesis = self.genesis(run)
        assert genesis is not None
        commits = self.last_commits(run, 2)
        last = commits[0] if commits else None
        before: Record | Genesis = commits[1].record if len(commits) > 1 else genesis
        record, round_ = (record_digest(last.record), last.record.round) if last else (run, 0)
        updates = self._all(
            "SELECT entry FROM updates WHERE run = ? AND round = ? AND previous = ?", run, round_ + 1, record
        )
        ((resumed,),) = self._all("SELECT resumed FROM runs WHERE run = ?", run)
        return SavedRun(
            run=run,
            genesis=genesis,
            last=last,
            update=self._decode(updates[0][0], UpdateEntry) if updates else None,
            resumed=resumed == round_,
            voters=before.roster if last else (),
            parent=before.blobs if last else None,
            settled=self.settled(run),
            history=self.history(run),
            memory=self.last_update_of(run, self.member.node),
        )

    # --- saving -----------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction: all changes inside are committed durably, or none."""
        with self._lock, database_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _save(self, effect: Save) -> None:
        match effect:
            case SaveGenesis(run=run, genesis=genesis):
                self._save_genesis(run, genesis)
            case SavePromise(run=run, round=round_, ballot=ballot):
                self._count_vote(effect.votes)
                self._save_promise(run, round_, ballot)
            case SaveAccepted(run=run, round=round_, ballot=ballot, record=record):
                self._count_vote(effect.votes)
                self._save_accepted(run, round_, ballot, record)
            case SaveCommit(commit=commit, seconds=seconds):
                self._save_commit(commit, seconds)
            case SaveUpdate(run=run, round=round_, previous=previous, update=update):
                self._execute(
                    "INSERT OR REPLACE INTO updates VALUES (?, ?, ?, ?)",
                    run,
                    round_,
                    previous,
                    encode(update),
                )
            case SaveReport(run=run, round=round_, node=node, evaluation=evaluation):
                self._save_report(run, round_, node, evaluation)
            case SaveResumed(run=run, round=round_):
                self._execute("UPDATE runs SET resumed = max(resumed, ?) WHERE run = ?", round_, run)
            case SaveSeen(casts=casts):
                self._save_seen(casts)
            case SaveRefused(reason=reason):
                self._execute("UPDATE self SET refused = ?", reason)
            case SaveClosed(run=run):
                self._execute("UPDATE runs SET closed = 1 WHERE run = ?", run)
            case _:
                assert_never(effect)

    def _save_genesis(self, run: str, genesis: Genesis) -> None:
        """Save record 0; a closed run that is entered again becomes the newest."""
        if record_digest(genesis) != run:
            raise RuntimeError(f"record 0 has digest {record_digest(genesis)}, not the run id {run}")
        self._execute(
            "INSERT INTO runs (run, genesis) VALUES (?, ?) ON CONFLICT (run) DO UPDATE "
            "SET closed = 0, number = (SELECT max(number) + 1 FROM runs) WHERE closed = 1",
            run,
            encode(genesis),
        )

    def _save_promise(self, run: str, round_: int, ballot: Ballot) -> None:
        self._check_vote(run, round_, ballot)
        self._execute(
            "INSERT INTO votes (run, round, promised) VALUES (?, ?, ?) ON CONFLICT (run) DO UPDATE SET "
            "accepted_ballot = CASE round WHEN excluded.round THEN accepted_ballot END, "
            "accepted = CASE round WHEN excluded.round THEN accepted END, "
            "round = excluded.round, promised = excluded.promised",
            run,
            round_,
            encode(ballot),
        )

    def _save_accepted(self, run: str, round_: int, ballot: Ballot, record: Record) -> None:
        self._check_vote(run, round_, ballot)
        value, kept = encode(record), encode(ballot)
        if self._all(
            "SELECT 1 FROM votes WHERE run = ? AND round = ? AND accepted_ballot = ? AND accepted != ?",
            run,
            round_,
            kept,
            value,
        ):
            raise RuntimeError(f"ballot {ballot} of round {round_} was accepted with another record")
        self._execute("INSERT OR REPLACE INTO votes VALUES (?, ?, ?, ?, ?)", run, round_, kept, kept, value)

    def _count_vote(self, votes: int) -> None:
        """Raise the number of votes to *votes*, in the transaction of the vote."""
        changed = self._connection.execute("UPDATE self SET votes = ? WHERE votes < ?", (votes, votes))
        if changed.rowcount != 1:
            raise RuntimeError(f"a vote was numbered {votes}, not higher than the one before it")

    def _check_vote(self, run: str, round_: int, ballot: Ballot) -> None:
        """Raise if a vote for *ballot* takes an earlier promise back, or could not be read again."""
        if not 1 <= ballot.attempt <= MAX_ATTEMPT:
            raise RuntimeError(
                f"attempt {ballot.attempt} is out of bounds: this journal could not read it again"
            )
        for voted, kept in self._all("SELECT round, promised FROM votes WHERE run = ?", run):
            promised = self._decode(kept, Ballot)
            if (round_, ballot) < (voted, promised):
                raise RuntimeError(
                    f"a vote for {ballot} in round {round_} would take back the promise of {promised} "
                    f"in round {voted}"
                )

    def _save_commit(self, commit: Commit, seconds: float) -> None:
        """Append *commit*; a known one changes nothing, and a contradicting one is kept as evidence."""
        record, digest = commit.record, record_digest(commit.record)
        known = {0: record.run} | dict(
            self._all(
                "SELECT round, record FROM commits WHERE run = ? AND round BETWEEN ? AND ?",
                record.run,
                record.round - 1,
                record.round,
            )
        )
        if record.round - 1 not in known:
            raise RuntimeError(
                f"round {record.round} does not follow the last committed one of run {record.run}"
            )
        if known.get(record.round) == digest:
            return
        if record.round in known or known[record.round - 1] != record.previous:
            self._execute(
                "INSERT OR IGNORE INTO conflicts VALUES (?, ?, ?)", record.run, record.round, encode(commit)
            )
            return
        self._execute(
            "INSERT INTO commits (run, round, record, model, kind, entry, seconds) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            record.run,
            record.round,
            digest,
            record.model,
            record.kind,
            encode(commit),
            seconds,
        )
        self._save_seen(casts_of(commit))
        if record.evaluations:
            total = add_evaluations(part.evaluation for part in record.evaluations)
            self._execute(
                "UPDATE commits SET score = ? WHERE run = ? AND round = ?",
                self._score(record.run, total),
                record.run,
                record.round - 1,
            )
            self._execute("DELETE FROM reports WHERE run = ? AND round = ?", record.run, record.round - 1)

    def _save_seen(self, casts: Iterable[CastVote]) -> None:
        """Save the newest vote of each other member; the votes were checked before."""
        self._connection.executemany(
            "INSERT INTO incarnations VALUES (?, ?, 0, ?, NULL, ?) ON CONFLICT (node, journal) DO UPDATE SET "
            "votes = excluded.votes, vote = excluded.vote WHERE excluded.votes > votes",
            [
                (cast.vote.node, cast.vote.journal, cast.vote.votes, encode(cast))
                for cast in casts
                if cast.vote.member != self.member
            ],
        )

    def _save_report(self, run: str, round_: int, node: str, evaluation: Evaluation) -> None:
        self._execute(
            "INSERT OR REPLACE INTO reports VALUES (?, ?, ?, ?, ?, ?)",
            run,
            round_,
            node,
            evaluation.examples,
            self._score(run, evaluation) * evaluation.examples,
            encode(evaluation),
        )

    def _score(self, run: str, evaluation: Evaluation) -> float:
        """Return the primary metric of *run*, so that a higher one is better."""
        genesis = self.genesis(run)
        assert genesis is not None, "a run's record 0 is saved first"
        measures = genesis.agreement.measures
        value = evaluation.metrics.get(measures.primary, 0.0)
        return value if measures.direction == "max" else -value

    def _execute(self, statement: str, *values: object) -> None:
        self._connection.execute(statement, values)


def _move_aside(path: Path) -> Path:
    """Rename the journal at *path* and its log; return the new path of the journal."""
    number = next(n for n in count(1) if not path.with_name(f"{path.name}.damaged-{n}").exists())
    aside = path.with_name(f"{path.name}.damaged-{number}")
    with disk_errors("move the damaged journal aside", path):
        for end in ("-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                path.with_name(path.name + end).replace(aside.with_name(aside.name + end))
        flush_folder(path.parent)
    return aside
