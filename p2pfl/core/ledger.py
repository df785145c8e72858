"""The chain of committed records of one run, as far as a node must hold it: record 0 and the last one.

Older records are in the journal; a peer that lacks them is answered from there (`SendRecords`). What is
believed, and why, is `believe`: a pure function that finds the flaw of an alleged commit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from p2pfl.core.context import Context
from p2pfl.core.effects import (
    DeleteUnneededBlobs,
    Exit,
    Fetch,
    SaveCommit,
    SaveRefused,
    SaveReport,
    SaveResumed,
)
from p2pfl.core.pausing import count_fruitless
from p2pfl.core.roster import contains, tolerance
from p2pfl.core.saved import SavedRun
from p2pfl.events import (
    Committed,
    CountedUpdate,
    EvaluationFinished,
    MemberScore,
    Notice,
    RosterChanged,
    RunEnded,
)
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import (
    Commit,
    Evaluation,
    Genesis,
    MemberEvaluation,
    Record,
    Report,
    RosterEntry,
    RunSpec,
    quorum,
    record_digest,
)
from p2pfl.proofs import casts_of


@dataclass
class Ledger:
    """One run's chain, seen from one node."""

    ctx: Context
    run: str
    genesis: Genesis
    last: Commit | None = None
    holds: bool = False
    """Whether the blobs of the last record are durable here."""
    resumed: bool = False
    wanted_rounds: int = 0
    """A higher number of rounds somebody wants a finished run extended to; 0 is none."""
    settled: int = 0
    """The last round whose record paused or ended the run: wishes from before it are fulfilled."""
    fruitless: int = 0
    """Rounds of training in a row that left out more members than they counted, as far as this node knows."""
    opened: float = 0.0
    """When this node's open round began: its own commit of the last record, or its start."""
    previous_model: str = ""
    previous_roster: tuple[RosterEntry, ...] = ()
    """Who voted for the last record; empty while there is only record 0."""
    reports: dict[str, Evaluation] = field(default_factory=dict)
    """By node, of the last committed model."""
    halted: bool = False
    """True after two commits for one round: this node votes no more."""
    _was_late: bool = False
    """Whether this node had missed the last commit: when the open round began is not known here then."""
    round: int = field(init=False)
    """The last committed round; 0 when only record 0 is."""
    digest: str = field(init=False)
    """The digest of the last committed record."""
    roster: tuple[RosterEntry, ...] = field(init=False)
    """The members that vote in the open round."""
    is_member: bool = field(init=False)
    """Whether this node, with this journal, votes in the open round."""

    def __post_init__(self) -> None:
        self._settle()

    def _settle(self) -> None:
        """Work out what follows from the last record alone: it is asked for at every step."""
        self.round = self.last.record.round if self.last else 0
        self.digest = record_digest(self.last.record) if self.last else self.run
        self.roster = self.last.record.roster if self.last else self.genesis.roster
        self.is_member = contains(self.roster, self.ctx.me)

    @classmethod
    def restore(cls, ctx: Context, saved: SavedRun) -> Ledger:
        """Rebuild the ledger from the journal; whether the blobs are there is asked next (`fetch_model`)."""
        ledger = cls(ctx, saved.run, saved.genesis, saved.last, resumed=saved.resumed, opened=ctx.now)
        ledger.previous_model, ledger.previous_roster = saved.parent, saved.voters
        ledger.settled = saved.settled
        if saved.last is not None:
            ledger.fruitless = count_fruitless(0, saved.last.record)
        for roster in (saved.genesis.roster, saved.voters, ledger.roster):
            ctx.names.update({entry.node: entry.name for entry in roster})
        return ledger

    # --- what the last record says --------------------------------------------------------------------------

    @property
    def spec(self) -> RunSpec:
        """The run's spec."""
        return self.genesis.spec

    @property
    def model(self) -> str:
        """The digest of the last committed model."""
        return self.last.record.model if self.last else self.genesis.model

    @property
    def trained(self) -> int:
        """How many training rounds are committed, those of the run this one continues included."""
        return self.last.record.trained if self.last else self.genesis.trained

    @property
    def rounds(self) -> int:
        """How many training rounds the run is to have."""
        agreed = self.last.record.rounds if self.last else self.spec.rounds
        return max(agreed, self.wanted_rounds)

    @property
    def is_trained(self) -> bool:
        """Whether any update was ever counted: the model is not an initial one any more."""
        return self.model != self.genesis.model or bool(self.genesis.continues)

    @property
    def needed(self) -> int:
        """The quorum of the open round."""
        return self.ctx.policy.quorum(len(self.roster))

    @property
    def is_over(self) -> bool:
        """Whether the last record ends the run and nobody wants it extended."""
        return (
            self.last is not None
            and self.last.record.then == "end"
            and self.rounds <= self.last.record.rounds
        )

    @property
    def is_paused(self) -> bool:
        """Whether the last record pauses the run and the pause was not lifted."""
        return self.last is not None and self.last.record.then == "pause" and not self.resumed

    @property
    def is_open(self) -> bool:
        """Whether there is a round to work on."""
        return not (self.is_over or self.is_paused or self.halted)

    @property
    def next_kind(self) -> Literal["train", "evaluate"]:
        """What the open round is."""
        return "train" if self.trained < self.rounds else "evaluate"

    # --- moving on ------------------------------------------------------------------------------------------

    def believe(self, commit: Commit) -> str | None:
        """Return why *commit* cannot be believed as the last record's successor; None when it is (rule 5)."""
        record = commit.record
        if record.run != self.run:
            return "it belongs to another run"
        if record.round != self.round + 1:
            return f"it is record {record.round}, not {self.round + 1}"
        if record.previous != self.digest:
            return "it follows another record than the one committed here"
        accepted = self._acceptors(commit, self.roster)
        if accepted < self.needed:
            return f"{accepted} members of the roster signed that they accepted it, {self.needed} are needed"
        return None

    def _acceptors(self, commit: Commit, voters: tuple[RosterEntry, ...]) -> int:
        """Count the members of *voters* whose acceptance of *commit* is proven."""
        return len(self.ctx.policy.proven(commit, {entry.member for entry in voters}, self.ctx.signer.verify))

    def proven(self, commit: Commit) -> Commit:
        """Return *commit*, which is believed, with those acceptances only that are proven.

        The others are anybody's words: nothing is to be remembered of them.
        """
        verify = self.ctx.signer.verify
        accepted = self.ctx.policy.proven(commit, {entry.member for entry in self.roster}, verify)
        if len(accepted) == len(commit.acceptors):
            return commit
        kept = {vote.member: vote for vote in commit.acceptors if vote.member in accepted}
        casts = [cast for cast in casts_of(commit) if cast.vote.member in kept and cast.is_valid(verify)]
        kept |= {cast.vote.member: cast.vote for cast in casts}
        return Commit(commit.record, commit.ballot, tuple(kept[member] for member in sorted(kept)))

    def is_ahead_of_me(self, commit: Commit) -> bool:
        """Whether *commit* holds an acceptance that this journal has signed and does not know of.

        Then the journal is a copy or was restored from a backup, and has forgotten votes.
        """
        for cast in casts_of(commit):
            if cast.vote.member == self.ctx.me and not self.ctx.policy.current(
                self.ctx.votes, cast.vote.votes
            ):
                return cast.is_valid(self.ctx.signer.verify)
        return False

    def disown(self, commit: Commit) -> None:
        """Stop for good: *commit* shows that this journal has forgotten votes."""
        self.halted = True
        text = (
            f"record {commit.record.round} was committed with a vote of this device that its journal has "
            "forgotten: its data directory is a copy or was restored from a backup. Start with --new-journal"
        )
        self.ctx.do(SaveRefused(text))
        self.ctx.tell(Notice("error", text))
        self.ctx.do(Exit(ExitCode.CLONED, text))

    def succeeds(self, record: Record) -> bool:
        """Whether *record* may follow the last one: what a member checks before it accepts."""
        trained = self.trained + (record.kind == "train")
        return (
            record.run == self.run
            and record.round == self.round + 1
            and record.previous == self.digest
            and record.trained == trained
            and record.rounds >= (self.last.record.rounds if self.last else self.spec.rounds)
        )

    def commit(self, commit: Commit, *, is_late: bool = False) -> None:
        """Make *commit*, which is believed, the last one; *is_late* if this node had missed it."""
        ctx, record, before = self.ctx, commit.record, self.roster
        seconds = 0.0 if is_late or self._was_late else max(0.0, ctx.now - self.opened)
        self._was_late = is_late
        ctx.do(SaveCommit(self.run, commit, seconds))
        for cast in casts_of(commit):
            ctx.learn_vote(cast)
        self._settle_reports(record.evaluations, is_late=is_late)
        self.holds = self.holds and record.model == self.model
        self.previous_model, self.previous_roster, self.last = self.model, before, commit
        self._settle()
        self.resumed, self.opened = False, ctx.now
        self.fruitless = count_fruitless(self.fruitless, record)
        if record.then != "go":
            self.settled = record.round
        if self.wanted_rounds <= record.rounds:
            self.wanted_rounds = 0
        self.reports = {}
        ctx.names.update({entry.node: entry.name for entry in record.roster})
        ctx.tell(
            Committed(
                self.run,
                record.round,
                record.kind,
                record.ballot.attempt,
                ctx.name_of(record.ballot.node),
                record.model,
                self.digest,
                tuple(entry.name for entry in record.roster),
                tuple(
                    CountedUpdate(ctx.name_of(entry.node), entry.samples, entry.loss, entry.seconds)
                    for entry in record.updates
                ),
                tuple((ctx.name_of(left.node), left.reason) for left in record.left_out),
                record.trained,
                record.rounds,
                record.then,
                record.note,
                seconds,
                is_late,
            )
        )
        if not is_late:
            self._tell_roster(before, record)

    def _tell_roster(self, before: tuple[RosterEntry, ...], record: Record) -> None:
        old, new = {entry.member for entry in before}, {entry.member for entry in record.roster}
        if old != new:
            joined = tuple(entry.name for entry in record.roster if entry.member not in old)
            left = tuple(entry.name for entry in before if entry.member not in new)
            self.ctx.tell(RosterChanged(record.round, joined, left, len(new), tolerance(len(new))))

    def conflict(self, commit: Commit, source: str) -> bool:
        """Whether *commit*, from node *source*, proves a second decision; then stop voting (rule 15).

        What only says so, without the signatures of a quorum, is a lie: its source is named, and that is all.
        """
        record = commit.record
        if record.run != self.run or self.halted:
            return False
        if record.round == self.round and self.previous_roster:
            voters, differs = self.previous_roster, record_digest(record) != self.digest
        elif record.round == self.round + 1:
            voters, differs = self.roster, record.previous != self.digest
        else:
            return False
        if not differs:
            return False
        if self._acceptors(commit, voters) < quorum(len(voters)):
            self.ctx.complain(
                source,
                "forged",
                f"{self.ctx.name_of(source)} sent a commit of record {record.round} that contradicts what is "
                "committed here, without the signatures of a quorum: it is ignored. Look at that device",
            )
            return False
        self.halted = True
        text = (
            f"two different records are committed around record {self.round} of run {self.run[:12]}: "
            f"{self.digest[:12]} here, {record_digest(record)[:12]} with a peer; this node votes no more. "
            "Keep both data directories and report this."
        )
        self.ctx.do(SaveCommit(self.run, commit, 0.0))
        self.ctx.tell(Notice("error", text))
        self.ctx.do(Exit(ExitCode.CONFLICT, text))
        return True

    # --- blobs ----------------------------------------------------------------------------------------------

    def fetch_model(self) -> None:
        """Ask for the last model, from those who accepted it first."""
        acceptors = [vote.node for vote in self.last.acceptors] if self.last else []
        roster = [entry.node for entry in self.roster]
        sources = tuple(dict.fromkeys(node for node in (*acceptors, *roster) if node != self.ctx.me.node))
        self.ctx.do(Fetch(self.model, self.genesis.layout, sources))

    def collect(self, pinned: set[str]) -> None:
        """Let go of blobs nobody needs, keeping the last two committed models and *pinned*."""
        self.ctx.do(DeleteUnneededBlobs(frozenset({self.model, self.previous_model, *pinned} - {""})))

    # --- evaluations ----------------------------------------------------------------------------------------

    def report(self, node: str, report: Report) -> None:
        """Take note of how the last model did at *node*."""
        if report.run != self.run or report.round != self.round or self.round == 0:
            return
        if self.reports.get(node) == report.evaluation or all(entry.node != node for entry in self.roster):
            return
        self.reports[node] = report.evaluation
        self.ctx.do(SaveReport(self.run, self.round, node, report.evaluation))
        self._tell_evaluated(self.reports)

    def _settle_reports(self, committed: tuple[MemberEvaluation, ...], *, is_late: bool) -> None:
        """Tell the parent's evaluations as they are committed; what all members had reported is no news."""
        final = {entry.node: entry.evaluation for entry in committed}
        if not final:
            return
        had_all = len(self.reports) == len(self.roster)
        reported = None
        if had_all and final != self.reports:
            sums = add_evaluations(self.reports.values())
            reported = sums.correct / sums.total
        is_news = not is_late and not (had_all and final == self.reports)
        self._tell_evaluated(final, committed=True, is_news=is_news, reported=reported)

    def _tell_evaluated(
        self,
        evaluations: dict[str, Evaluation],
        *,
        committed: bool = False,
        is_news: bool = True,
        reported: float | None = None,
    ) -> None:
        total = add_evaluations(evaluations.values())
        self.ctx.tell(
            EvaluationFinished(
                self.round,
                total.correct / total.total,
                total.loss / total.total,
                total.total,
                len(evaluations),
                len(self.roster),
                tuple(
                    MemberScore(self.ctx.name_of(node), one.correct, one.total, one.loss)
                    for node, one in sorted(evaluations.items())
                ),
                committed,
                is_news,
                reported,
            )
        )

    # --- pause and end --------------------------------------------------------------------------------------

    def resume(self, round_: int) -> bool:
        """Lift the pause after *round_*; return whether that changed anything."""
        if round_ != self.round or not self.is_paused:
            return False
        self.resumed = True
        self.opened = self.ctx.now
        self.ctx.do(SaveResumed(self.run, round_))
        return True

    def tell_end(self) -> None:
        """Tell that the run has ended here, with the committed accuracy of its last model."""
        accuracy = loss = None
        if self.last is not None and self.last.record.kind == "evaluate" and self.last.record.evaluations:
            sums = add_evaluations(one.evaluation for one in self.last.record.evaluations)
            accuracy, loss = sums.correct / sums.total, sums.loss / sums.total
        self.ctx.tell(
            RunEnded(self.run, self.trained, self.model, accuracy, loss, self.rounds, self.is_trained)
        )


def add_evaluations(evaluations: Iterable[Evaluation]) -> Evaluation:
    """Sum *evaluations* (at least one): counts and summed losses add up over disjoint data."""
    parts = tuple(evaluations)
    return Evaluation(sum(p.correct for p in parts), sum(p.total for p in parts), sum(p.loss for p in parts))
