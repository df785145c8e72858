"""Read access to a journal: for peers that catch up, for the history, and for the blobs to keep.

It is separate from the writing part so that `p2pfl history` can read the journal of a running node without
any possibility to change it. Rounds are read page by page: a run of many thousand rounds takes no more memory
than one of ten.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from p2pfl.cards import Agreement
from p2pfl.core.saved import Vote
from p2pfl.core.stopping import MetricHistory, history_of
from p2pfl.errors import DataDirectoryError
from p2pfl.events import ClassScore, CountedUpdate, MemberScore, RoundRow
from p2pfl.messages import (
    Ballot,
    Commit,
    Evaluation,
    Genesis,
    Member,
    MemberEvaluation,
    Origin,
    Record,
    Records,
    add_evaluations,
)
from p2pfl.spec import RunSpec, Stopping, unknown_tag
from p2pfl.store.database import damaged, database_errors, find_corrupt_rows, open_read_only
from p2pfl.strategy_specs import describe_strategy

LATEST_ROUNDS = 8
"""Commits that are read at once to find this node's last update, which is mostly in the last ones."""

MAX_ROUND = 2**31
"""No round has a higher number."""

PAGE_ROUNDS = 100
"""Rounds in a page: 10 MB with the largest roster."""

Decoded = TypeVar("Decoded")

_ARRAY_BYTES = 4
"""Extra bytes of the longest MessagePack array header over that of an empty array."""

encode = msgspec.msgpack.Encoder().encode
"""Encodes stored records, ballots and entries as on the wire, so that their digests can be computed again."""


class RunRow(msgspec.Struct, frozen=True):
    """One run in this journal."""

    run: str
    spec: RunSpec
    agreement: Agreement
    round: int
    """The last committed round; 0 if there is only record 0."""
    trained: int
    """Number of committed training rounds."""
    rounds: int
    """Number of training rounds it is to have, as last committed."""
    ended: bool
    """Whether its last record ends the run."""
    closed: bool
    """Whether this journal has left the run."""
    origin: Origin | None = None
    """Where it continues, if it continues a run that lost its majority."""


class JournalReader:
    """Reads a journal. Every call may come from any thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()

    @classmethod
    def read(cls, path: Path) -> JournalReader:
        """Open the journal at *path* read-only; a node may be writing to it.

        Raises:
            DataDirectoryError: it is missing, damaged, not a journal, or of a newer version.
        """
        return JournalReader(path, open_read_only(path))

    def close(self) -> None:
        """Close the file; no other call works afterwards."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def genesis(self, run: str) -> Genesis | None:
        """Return record 0 of *run*; None for an unknown run."""
        rows = self._all("SELECT genesis FROM runs WHERE run = ?", run)
        return self._decode(rows[0][0], Genesis) if rows else None

    def records(self, run: str, after: int, max_bytes: int) -> Records:
        """Return the committed records of *run* after round *after*, in order, as many as fit.

        Record 0 is included with *after* = -1. The encoded message has at most *max_bytes* bytes, unless
        record 0 alone has more. For an unknown run the message is empty.
        """
        genesis = self.genesis(run) if after < 0 else None
        room = max_bytes - len(encode(Records(run=run, genesis=genesis, commits=()))) - _ARRAY_BYTES
        commits = []
        for row in self._pages("round, entry", run, after):
            room -= len(row[1])
            if room < 0:
                break
            commits.append(self._decode(row[1], Commit))
        return Records(run=run, genesis=genesis, commits=tuple(commits))

    def runs(self) -> list[RunRow]:
        """Return the runs in this journal, the oldest first."""
        rows = []
        for run, kept, closed in self._all("SELECT run, genesis, closed FROM runs ORDER BY number"):
            genesis = self._decode(kept, Genesis)
            spec = genesis.spec
            commit = self.last_commit(run)
            last = commit.record if commit is not None else None
            rows.append(
                RunRow(
                    run=run,
                    spec=spec,
                    agreement=genesis.agreement,
                    round=last.round if last else 0,
                    trained=last.trained if last else genesis.trained,
                    rounds=last.rounds if last else spec.rounds,
                    ended=last is not None and last.then == "end",
                    closed=bool(closed),
                    origin=genesis.continues[-1] if genesis.continues else None,
                )
            )
        return rows

    def rounds(
        self, run: str, last: int | None = None, *, counts_classes: bool = False
    ) -> Iterator[RoundRow]:
        """Yield the committed rounds of *run* in order, closing evaluations included (`RoundRow.kind`).

        With *last*, yield only that many of the last rounds; earlier rounds are not read. *counts_classes*
        says whether the rows have the counts of each class.
        """
        genesis = self.genesis(run)
        if genesis is None:
            return
        roster, parent, measures = genesis.roster, genesis.model, genesis.agreement.measures
        labels = genesis.agreement.classes if counts_classes else ()
        names = {member.node: member.name for member in roster}
        row: RoundRow | None = None
        newest = self.last_commit(run) if last is not None else None
        after = max(0, newest.record.round - last) if newest is not None and last is not None else 0
        # The round before the first wanted one is read too: its record names the roster that voted in that
        # one.
        for number, digest, entry, seconds in self._pages(
            "round, record, entry, seconds", run, max(0, after - 1)
        ):
            commit = self._decode(entry, Commit)
            # Members that joined with the last record have evaluated its model, and this record commits that.
            names |= {member.node: member.name for member in roster}
            if row is not None:
                yield self._scored(row, commit.record.evaluations, names, labels)
            if number > after:
                voters = tuple(member.name for member in roster)
                row = _round_row(commit.record, digest, parent, seconds, voters, names)
                row = msgspec.structs.replace(
                    row,
                    primary=measures.primary,
                    direction=measures.direction,
                    strategy=describe_strategy(genesis.spec.strategy),
                )
            roster, parent = commit.record.roster, commit.record.model
        if row is not None:
            names |= {member.node: member.name for member in roster}
            yield self._scored(row, (), names, labels)

    def best(self, run: str) -> str | None:
        """Return the model of *run* that is best by its primary metric, the latest of equal ones.

        Reports count only while no evaluation is committed at all: the first report of a round covers only a
        part of the held-out data, and must not replace the best model. None if there is neither.
        """
        rows = self._all(
            "SELECT model FROM commits WHERE run = ? AND score IS NOT NULL "
            "ORDER BY score DESC, round DESC LIMIT 1",
            run,
        ) or self._all(
            "SELECT model FROM commits JOIN reports USING (run, round) WHERE run = ? GROUP BY round "
            "ORDER BY sum(reports.score) / sum(examples) DESC, round DESC LIMIT 1",
            run,
        )
        return rows[0][0] if rows else None

    def last_models(self, run: str, count: int = 2) -> tuple[str, ...]:
        """Return the last *count* different models of *run*, the latest first, the initial one included."""
        models: list[str] = []
        with self._lock, database_errors(self.path):
            statement = "SELECT model FROM commits WHERE run = ? ORDER BY round DESC"
            for (model,) in self._connection.execute(statement, (run,)):
                if model not in models:
                    models.append(model)
                if len(models) == count:
                    break
        genesis = self.genesis(run)
        if genesis is not None and genesis.model not in models:
            models.append(genesis.model)
        return tuple(models[:count])

    def last_commit(self, run: str) -> Commit | None:
        """Return the last committed record of *run* with its proof; None if there is only record 0."""
        return next(iter(self.last_commits(run, 1)), None)

    def last_commits(self, run: str, count: int) -> list[Commit]:
        """Return the last *count* committed records of *run* with their proofs, the latest first."""
        rows = self._all("SELECT entry FROM commits WHERE run = ? ORDER BY round DESC LIMIT ?", run, count)
        return [self._decode(entry, Commit) for (entry,) in rows]

    def corrupt_rows(self) -> list[str]:
        """Read the whole journal; describe its corrupt rows, each in half a sentence.

        Raises:
            DataDirectoryError: the journal is damaged in its structure.
        """
        with self._lock:
            found = find_corrupt_rows(self._connection, self.path)
        return [f"row {row.row} of its table {row.table} does not match its checksum" for row in found]

    def settled(self, run: str) -> int:
        """Return the last round of *run* whose record paused or ended it; 0 when none did.

        The rows are filtered by encoded bytes before one is decoded: a long run has thousands of records.
        These bytes occur nowhere else, because no text contains them (0xa4, 0xa3 and 0xa5 do not follow a
        letter in UTF-8).
        """
        rows = self._all(
            "SELECT entry FROM commits WHERE run = ? AND (instr(entry, ?) OR instr(entry, ?)) "
            "ORDER BY round DESC LIMIT 1",
            run,
            b"\xa4then\xa3end",
            b"\xa4then\xa5pause",
        )
        return self._decode(rows[0][0], Commit).record.round if rows else 0

    def history(self, run: str) -> MetricHistory:
        """Return what the committed evaluations of *run* say, if it has a rule for stopping early.

        Every record is read for that, so not of other runs: these have no use for it.
        """
        genesis = self.genesis(run)
        if genesis is None or genesis.spec.stopping == Stopping():
            return MetricHistory()
        return history_of(genesis, (commit.record for _, _, commit in self.commits(run)))

    def last_update_of(self, run: str, node: str) -> str:
        """Return the digest of the last update of *node* that a record of *run* counts; empty without one.

        If *run* continues another one and counts none itself, the records before its origin are looked at.
        """
        genesis = self.genesis(run)
        origins = genesis.continues if genesis is not None else ()
        ends = [(run, MAX_ROUND), *((origin.run, origin.round) for origin in reversed(origins))]
        for one, end in ends:
            for commit in self._backwards(one, end):
                for update in commit.record.updates:
                    if update.node == node:
                        return update.digest
        return ""

    def _backwards(self, run: str, end: int) -> Iterator[Commit]:
        """Yield the commits of *run* up to round *end*, the latest first."""
        statement = (
            "SELECT round, entry FROM commits WHERE run = ? AND round <= ? ORDER BY round DESC LIMIT ?"
        )
        while page := self._all(statement, run, end, LATEST_ROUNDS):
            for _, entry in page:
                yield self._decode(entry, Commit)
            end = page[-1][0] - 1

    # --- for the verification ---------------------------------------------------------------------------

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read a consistent snapshot inside: the journal as it was at the first query."""
        with self._lock, database_errors(self.path):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self._connection.execute("COMMIT")

    def identity(self) -> Member | None:
        """Return the member whose journal this is; None before its first start was saved."""
        rows = self._all("SELECT node, journal FROM self")
        return Member(*rows[0]) if rows else None

    def starts(self) -> int:
        """Return the number of starts with this journal."""
        rows = self._all("SELECT incarnation FROM self")
        return int(rows[0][0]) if rows else 0

    def refused(self) -> str:
        """Return why no node may start with this journal any more; empty if one may."""
        rows = self._all("SELECT refused FROM self")
        return str(rows[0][0]) if rows else ""

    def votes_cast_so_far(self) -> int:
        """Return the number of promises and acceptances in this journal."""
        rows = self._all("SELECT votes FROM self")
        return int(rows[0][0]) if rows else 0

    def incarnations(self) -> dict[Member, tuple[int, int]]:
        """Return the highest number of starts and of votes seen of each other journal of the federation."""
        rows = self._all("SELECT node, journal, incarnation, votes FROM incarnations")
        return {Member(node, journal): (incarnation, votes) for node, journal, incarnation, votes in rows}

    def votes(self) -> dict[str, Vote]:
        """Return the last promise and acceptance of each run."""
        return {
            run: Vote(
                round=round_,
                promised=self._decode(promised, Ballot),
                accepted_ballot=self._decode(ballot, Ballot) if ballot is not None else None,
                accepted=self._decode(record, Record) if record is not None else None,
            )
            for run, round_, promised, ballot, record in self._all("SELECT * FROM votes")
        }

    def commits(self, run: str) -> Iterator[tuple[int, str, Commit]]:
        """Yield round, digest and entry of each commit of *run*, as stored, in the order of rounds."""
        for round_, digest, entry in self._pages("round, record, entry", run, 0):
            yield round_, digest, self._decode(entry, Commit)

    def best_commit(self, run: str) -> Commit | None:
        """Return the commit of the model of *run* with the best committed evaluations, if any."""
        rows = self._all(
            "SELECT entry FROM commits WHERE run = ? AND score IS NOT NULL "
            "ORDER BY score DESC, round DESC LIMIT 1",
            run,
        )
        return self._decode(rows[0][0], Commit) if rows else None

    def conflicts(self, run: str) -> list[int]:
        """Return the rounds of *run* for which a contradicting commit was seen."""
        return [round_ for (round_,) in self._all("SELECT round FROM conflicts WHERE run = ?", run)]

    # --- reading ----------------------------------------------------------------------------------------

    def _pages(self, columns: str, run: str, after: int) -> Iterator[tuple[Any, ...]]:
        """Yield the commits after round *after*; *columns* (never from a peer) begin with the round."""
        statement = f"SELECT {columns} FROM commits WHERE run = ? AND round > ? ORDER BY round LIMIT ?"  # noqa: S608
        while page := self._all(statement, run, after, PAGE_ROUNDS):
            yield from page
            after = page[-1][0]

    def _scored(
        self,
        row: RoundRow,
        committed: tuple[MemberEvaluation, ...],
        names: dict[str, str],
        labels: tuple[str, ...],
    ) -> RoundRow:
        """Return *row* with its metrics, from *committed* evaluations or else from reports.

        *labels* are the classes whose counts it gets.
        """
        evaluations = [(part.node, part.evaluation) for part in committed] or [
            (node, self._decode(entry, Evaluation))
            for node, entry in self._all(
                "SELECT node, evaluation FROM reports WHERE run = ? AND round = ? ORDER BY node",
                row.run,
                row.round,
            )
        ]
        if not evaluations:
            return row
        total = add_evaluations(evaluation for _, evaluation in evaluations)
        return msgspec.structs.replace(
            row,
            metrics=total.metrics,
            examples=total.examples,
            scores=tuple(
                MemberScore.of(names.get(node, node[:7]), evaluation) for node, evaluation in evaluations
            ),
            committed=bool(committed),
            classes=tuple(
                ClassScore(label, one.right, one.examples, one.predicted)
                for label, one in zip(labels, total.classes, strict=False)
            ),
        )

    def _all(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock, database_errors(self.path):
            return self._connection.execute(statement, values).fetchall()

    def _decode(self, kept: bytes, kind: type[Decoded]) -> Decoded:
        try:
            return msgspec.msgpack.decode(kept, type=kind)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            if what := unknown_tag(error):
                raise DataDirectoryError(
                    f"the journal {self.path} holds a run with the {what}, which this p2pfl does not know: "
                    "upgrade p2pfl on this device"
                ) from error
            raise damaged(self.path, f"a {kind.__name__} in it cannot be read: {error}") from error


def _round_row(
    record: Record, digest: str, parent: str, seconds: float, members: tuple[str, ...], names: dict[str, str]
) -> RoundRow:
    """Return the row of *record* without scores; *names* has all members of the rosters so far."""

    def name(node: str) -> str:
        return names.get(node, node[:7])

    return RoundRow(
        run=record.run,
        round=record.round,
        kind=record.kind,
        attempt=record.ballot.attempt,
        aggregator=name(record.ballot.node),
        digest=record.model,
        parent=parent,
        record=digest,
        members=members,
        updates=tuple(
            CountedUpdate(
                name(update.node),
                update.examples,
                update.steps,
                update.loss,
                update.seconds,
                update.planned,
            )
            for update in record.updates
        ),
        left_out=tuple((name(left.node), left.reason) for left in record.left_out),
        metrics={},
        examples=0,
        scores=(),
        seconds=seconds,
        note=record.note,
        then=record.then,
        trained=record.trained,
        committed=False,
    )
