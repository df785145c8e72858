"""The ledger: a run's committed records, as far as a node keeps them in memory: record 0 and the last one.

Older records are in the journal, from which peers that lack them are served (`SendRecords`). `believe` is the
pure function that decides whether a commit is proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from p2pfl.cards import Agreement
from p2pfl.core.content import kind_flaw, record_flaw
from p2pfl.core.context import Context
from p2pfl.core.effects import (
    DeleteUnneededBlobs,
    Exit,
    SaveCommit,
    SaveRefused,
    SaveReport,
    SaveResumed,
    fetch_record,
)
from p2pfl.core.pausing import count_unproductive
from p2pfl.core.roster import contains, tolerance
from p2pfl.core.saved import SavedRun
from p2pfl.core.stopping import MetricHistory, follow, judged
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
    RecordBlobs,
    Report,
    RosterEntry,
    add_evaluations,
    quorum,
    record_digest,
)
from p2pfl.proofs import casts_of
from p2pfl.schema import Layout, Schema, layout_of
from p2pfl.spec import Role, RunSpec, blob_schema


@dataclass
class Ledger:
    """One run's chain, as one node knows it."""

    ctx: Context
    run: str
    genesis: Genesis
    last: Commit | None = None
    holds: bool = False
    """Whether the blobs of the last record are durable here."""
    resumed: bool = False
    wanted_rounds: int = 0
    """The number of rounds to which an operator extends a finished run; 0 without an extension."""
    settled: int = 0
    """The last round whose record paused or ended the run. Earlier control requests are fulfilled."""
    unproductive: int = 0
    """Consecutive training rounds that left out more members than they counted, as far as this node knows."""
    history: MetricHistory = field(default_factory=MetricHistory)
    """What the committed evaluations say about the primary metric (rule "Stopping early")."""
    opened: float = 0.0
    """When the open round began here: at this node's commit of the last record, or at its start."""
    memory: str = ""
    """Digest of this node's last update that a committed record counts; empty if there is none."""
    previous_blobs: RecordBlobs | None = None
    """The blobs of the record before the last one; None while there is only record 0."""
    previous_roster: tuple[RosterEntry, ...] = ()
    """The roster that voted for the last record; empty while there is only record 0."""
    reports: dict[str, Evaluation] = field(default_factory=dict)
    """Evaluations of the last committed model, by node."""
    schema: Schema | None = None
    """Schema of the run's model, once the worker has described the run's task."""
    halted: bool = False
    """Whether two commits for one round were seen; then this node votes no more."""
    _was_late: bool = False
    """Whether this node learned of the last commit late, so does not know when the open round began."""
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
        """Compute the values that follow from the last record; they are needed at every step."""
        self.round = self.last.record.round if self.last else 0
        self.digest = record_digest(self.last.record) if self.last else self.run
        self.roster = self.last.record.roster if self.last else self.genesis.roster
        self.is_member = contains(self.roster, self.ctx.me)

    @classmethod
    def restore(cls, ctx: Context, saved: SavedRun) -> Ledger:
        """Rebuild the ledger from the journal; call `fetch_model` next to look for the blobs."""
        ledger = cls(ctx, saved.run, saved.genesis, saved.last, resumed=saved.resumed, opened=ctx.now)
        ledger.previous_blobs, ledger.previous_roster = saved.parent, saved.voters
        ledger.settled, ledger.history, ledger.memory = saved.settled, saved.history, saved.memory
        if saved.last is not None:
            ledger.unproductive = count_unproductive(0, saved.last.record)
        for roster in (saved.genesis.roster, saved.voters, ledger.roster):
            ctx.names.update({entry.node: entry.name for entry in roster})
        return ledger

    # --- what the last record says --------------------------------------------------------------------------

    @property
    def spec(self) -> RunSpec:
        """The run's spec."""
        return self.genesis.spec

    @property
    def agreement(self) -> Agreement:
        """What the members' data have in common."""
        return self.genesis.agreement

    @property
    def blobs(self) -> RecordBlobs:
        """The blobs of the last committed record."""
        return self.last.record.blobs if self.last else self.genesis.blobs

    @property
    def model(self) -> str:
        """The digest of the last committed model."""
        return self.blobs.model

    def memory_after(self, record: Record) -> str:
        """Return `memory` as it is if *record* is the next one."""
        mine = (update.digest for update in record.updates if update.node == self.ctx.me.node)
        return next(mine, self.memory)

    @property
    def trained(self) -> int:
        """Number of committed training rounds, including those of a run that this one continues."""
        return self.last.record.trained if self.last else self.genesis.trained

    @property
    def rounds(self) -> int:
        """Number of training rounds that the run is to have."""
        agreed = self.last.record.rounds if self.last else self.spec.rounds
        return max(agreed, self.wanted_rounds)

    @property
    def is_trained(self) -> bool:
        """Whether any update was ever counted, so that the model is not the initial one."""
        return self.model != self.genesis.model or bool(self.genesis.continues)

    @property
    def needed(self) -> int:
        """The quorum of the open round."""
        return self.ctx.policy.quorum(len(self.roster))

    @property
    def is_over(self) -> bool:
        """Whether the last record ends the run and no operator extends it."""
        return (
            self.last is not None
            and self.last.record.then == "end"
            and self.rounds <= self.last.record.rounds
        )

    @property
    def is_paused(self) -> bool:
        """Whether the last record pauses the run and the pause is not lifted."""
        return self.last is not None and self.last.record.then == "pause" and not self.resumed

    @property
    def is_open(self) -> bool:
        """Whether there is a round to work on."""
        return not (self.is_over or self.is_paused or self.halted)

    @property
    def next_kind(self) -> Literal["train", "evaluate"]:
        """The kind of the open round."""
        return "train" if self.trained < self.rounds else "evaluate"

    # --- moving on ------------------------------------------------------------------------------------------

    def believe(self, commit: Commit) -> str | None:
        """Return why *commit* is no proven successor of the last record, or None (rule "Proof of commit")."""
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
        """Return *commit*, which is believed, with only its proven acceptances.

        Anybody can write the others, so they must not be stored.
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
        """Whether *commit* holds an acceptance signed by this journal that the journal does not contain.

        Then the journal is a copy or was restored from a backup, and has forgotten votes.
        """
        for cast in casts_of(commit):
            if cast.vote.member == self.ctx.me and not self.ctx.policy.current(
                self.ctx.votes, cast.vote.votes
            ):
                return cast.is_valid(self.ctx.signer.verify)
        return False

    def detect_forgotten_vote(self, commit: Commit) -> None:
        """Stop this node for good, because *commit* shows that its journal has forgotten votes."""
        self.halted = True
        text = (
            f"record {commit.record.round} was committed with a vote of this device that its journal has "
            "forgotten: its data directory is a copy or was restored from a backup. Start with --new-journal"
        )
        self.ctx.do(SaveRefused(text))
        self.ctx.tell(Notice("error", text))
        self.ctx.do(Exit(ExitCode.CLONED, text))

    def succeeds(self, record: Record) -> bool:
        """Whether *record* may follow the last one; a member checks this before it accepts."""
        trained = self.trained + (record.kind == "train")
        return (
            record.run == self.run
            and record.round == self.round + 1
            and record.previous == self.digest
            and record.trained == trained
            and record.rounds >= (self.last.record.rounds if self.last else self.spec.rounds)
            and not self.flaw(record)
        )

    def flaw(self, record: Record) -> str:
        """Say what in *record* does not fit the run's spec, history and open roster; empty when all does."""
        policy = self.ctx.policy
        flaw = record_flaw(
            record,
            self.genesis,
            self.roster,
            roles=policy.roles,
            metrics=policy.metrics,
            counts=policy.counts,
            enough=policy.enough,
        ) or policy.keeps(record, self.blobs)
        if flaw:
            return flaw
        stops, why = self.decide_stopping(record.evaluations)
        return kind_flaw(record, self.model, self.trained, stops=stops, why=why)

    def decide_stopping(self, evaluations: Sequence[MemberEvaluation]) -> tuple[bool, str]:
        """Return whether the next record, which holds *evaluations*, ends the run early, and why."""
        found = judged(self.last.record if self.last else None, evaluations)
        return self.ctx.policy.stops(self.spec.stopping, self.agreement.measures, self.history, found)

    def commit(self, commit: Commit, *, is_late: bool = False) -> None:
        """Append *commit*, which is believed; *is_late* says that this node learned of it late."""
        ctx, record, before = self.ctx, commit.record, self.roster
        parent, rule = self.last.record if self.last else None, self.spec.stopping
        self.history = follow(self.history, rule, self.agreement.measures, parent, record)
        seconds = 0.0 if is_late or self._was_late else max(0.0, ctx.now - self.opened)
        self._was_late = is_late
        ctx.do(SaveCommit(self.run, commit, seconds))
        for cast in casts_of(commit):
            ctx.learn_vote(cast)
        self._settle_reports(record.evaluations, is_late=is_late)
        self.holds = self.holds and record.blobs == self.blobs
        self.memory = self.memory_after(record)
        self.previous_blobs, self.previous_roster, self.last = self.blobs, before, commit
        self._settle()
        self.resumed, self.opened = False, ctx.now
        self.unproductive = count_unproductive(self.unproductive, record)
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
                    CountedUpdate(
                        ctx.name_of(entry.node),
                        entry.examples,
                        entry.steps,
                        entry.loss,
                        entry.seconds,
                        entry.planned,
                    )
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
        """Whether *commit*, from node *source*, proves a second decision of one round; if so, stop voting.

        Implements the rule "Conflicting commits". A commit without the signatures of a quorum proves nothing:
        it is ignored and its source is reported.
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
        """Request the blobs of the last record, first from the members that accepted it."""
        acceptors = [vote.node for vote in self.last.acceptors] if self.last else []
        roster = [entry.node for entry in self.roster]
        sources = tuple(dict.fromkeys(node for node in (*acceptors, *roster) if node != self.ctx.me.node))
        self.ctx.do(fetch_record(self.blobs, self.genesis, sources))

    def layout(self, role: Role) -> Layout:
        """Return the layout of this run's blobs of *role*, the only one that is pulled for it."""
        if role == "model":
            return self.genesis.layout
        assert self.schema is not None, (
            "only a node whose worker knows the task pulls other blobs than models"
        )
        return layout_of(blob_schema(self.schema, self.spec, role))

    def collect(self, pinned: set[str]) -> None:
        """Delete unneeded blobs; keep those of the last two committed records and *pinned*."""
        before = self.previous_blobs.digests if self.previous_blobs is not None else ()
        self.ctx.do(DeleteUnneededBlobs(frozenset({*self.blobs.digests, *before, *pinned})))

    # --- evaluations ----------------------------------------------------------------------------------------

    def report(self, node: str, report: Report) -> None:
        """Store *node*'s evaluation of the last model."""
        if report.run != self.run or report.round != self.round or self.round == 0:
            return
        if self.reports.get(node) == report.evaluation or all(entry.node != node for entry in self.roster):
            return
        if flaw := self.ctx.policy.metrics(report.evaluation, self.agreement):
            self.ctx.complain(node, "metrics", f"a report of {self.ctx.name_of(node)} is ignored: {flaw}")
            return
        self.reports[node] = report.evaluation
        self.ctx.do(SaveReport(self.run, self.round, node, report.evaluation))
        self._tell_evaluated(self.reports)

    def _settle_reports(self, committed: tuple[MemberEvaluation, ...], *, is_late: bool) -> None:
        """Publish the committed evaluations of the parent model, unless the reports said the same."""
        final = {entry.node: entry.evaluation for entry in committed}
        if not final:
            return
        had_all = len(self.reports) == len(self.roster)
        reported = None
        if had_all and final != self.reports:
            primary = self.agreement.measures.primary
            reported = add_evaluations(self.reports.values()).metrics.get(primary)
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
                total.metrics,
                total.examples,
                len(evaluations),
                len(self.roster),
                tuple(
                    MemberScore.of(self.ctx.name_of(node), one) for node, one in sorted(evaluations.items())
                ),
                committed,
                is_news,
                reported,
                self.agreement.measures.primary,
                total.classes,
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
        """Tell that the run has ended here, with the committed metrics of its last model."""
        metrics: dict[str, float] = {}
        if self.last is not None and self.last.record.kind == "evaluate" and self.last.record.evaluations:
            metrics = add_evaluations(one.evaluation for one in self.last.record.evaluations).metrics
        last = self.last.record if self.last is not None else None
        is_early = last is not None and last.kind == "evaluate" and last.trained < last.rounds
        self.ctx.tell(
            RunEnded(
                self.run,
                self.trained,
                self.model,
                metrics,
                self.rounds,
                self.is_trained,
                self.agreement.measures.primary,
                last.note if last is not None and is_early else "",
            )
        )
