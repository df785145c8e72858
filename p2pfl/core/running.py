"""A node's part in one run: the open round's three duties, and how the ledger moves on.

`Acceptor`, `Aggregator` and `Trainee` are made anew with every commit; messages of an earlier round are
answered with the records that decided it, messages of a later one make this node ask for what it lacks (rule
4).
"""

from __future__ import annotations

from collections.abc import Callable

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.acceptor import Acceptor
from p2pfl.core.aggregator import Aggregator, Stand
from p2pfl.core.behind import Behind, RoundMessage
from p2pfl.core.context import Context, PeerView, earliest
from p2pfl.core.courtesy import Step
from p2pfl.core.effects import Exit, Fetch, SaveSeen, SendRecords
from p2pfl.core.election import Candidate, Situation, decide_standing
from p2pfl.core.headstart import HeadStart
from p2pfl.core.ledger import Ledger
from p2pfl.core.options import FIRST_ATTEMPT, MAX_JUMP
from p2pfl.core.pausing import PAUSES
from p2pfl.core.roster import contains, ranked
from p2pfl.core.saved import Vote
from p2pfl.core.trainee import Trainee
from p2pfl.core.wishes import ENDED_NOW, Wishes
from p2pfl.messages import (
    Accept,
    Accepted,
    Ballot,
    Collect,
    Commit,
    Member,
    Noted,
    Prepare,
    Promise,
    Refuse,
    Report,
    RosterEntry,
    Submit,
    Undelivered,
    UpdateEntry,
    Wish,
    Yield,
    record_digest,
)
from p2pfl.proofs import cast_of

LOST_DISK_EXIT = 6
"""Exit code of a node that can neither read nor pull again a blob it accepted."""

LOST_BLOB_TRIES = 60
"""Times a blob this node has accepted is asked for, with a quorum reachable, before its disk counts as lost
(rule 1)."""

MISSING_SECONDS = 15.0
"""A member that takes part for so long without a link to this node is not about to get one: three of the
longest waits before a redial."""

MODEL_TRIES = 3
"""Times the last model may fail to come before this member says that it does not train in this round."""

LACKING_SECONDS = 3.0
"""After so long without the last model a member stands last: whoever accepted it has it at once."""


class Running:
    """The run this node is in."""

    acceptor: Acceptor
    aggregator: Aggregator
    trainee: Trainee

    def __init__(self, ctx: Context, ledger: Ledger, *, ready: bool) -> None:
        self.ctx = ctx
        self.ledger = ledger
        self.ready = ready
        """Whether the worker knows the run's task, with the run's schema."""
        self.leaving = False
        self.wishes = Wishes(ctx, ledger)
        self.behind = Behind(ctx, ledger)
        self.head_start = HeadStart(ctx, ledger)
        self._has_quorum = True
        self._refetch_at: float | None = None
        self._lost_tries = 0
        self.model_failures, self.model_flaw = 0, ""
        """How often the last model could not be had, and why not the last time."""
        self.model_failing_since: float | None = None
        """Since when nothing of it has come although it was tried."""
        self._elected: object = None
        self._order: list[str] = []
        self._wake: float | None = None
        self._gathered_at: float | None = None
        """When this member first saw a quorum in a run that has no commit yet."""
        self._is_resumed = False
        """Whether the open round is the one in which this process started."""
        self._hears_until: float | None = None
        """Until when it listens there, from when it first saw a quorum; then it knows what is to be known."""
        self._is_untidy = False
        """Whether blobs may be here that nobody needs any more; they can wait until all else is said."""
        self._told_alone = False
        self._told_missing: set[str] = set()
        self._missing_since: dict[str, float] = {}
        """When members that this node has no link to were first seen to take part."""
        self._missed_from: int | None = None
        """Number of the first training round this node is catching up with; None while it is not."""
        ctx.run, ctx.is_begun = ledger.run, ledger.last is not None

    # --- rounds ---------------------------------------------------------------------------------------------

    def open_round(
        self, vote: Vote | None = None, update: UpdateEntry | None = None, *, is_resumed: bool = False
    ) -> None:
        """Begin the round after the ledger's last, or, if it *is_resumed*, go on with it after a restart.

        A journal remembers *vote* and *update* of it.
        """
        ctx, ledger = self.ctx, self.ledger
        self._is_resumed = is_resumed
        me = ctx.me
        self.acceptor = Acceptor.open(ctx, ledger, lambda answer: self.aggregator.accepted(me, answer), vote)
        self.aggregator = Aggregator(ctx, ledger, self.acceptor, self.commit, self.wishes.open)
        self.aggregator.leaving_myself = self.leaving
        self.trainee = Trainee(ctx, ledger, lambda submit: self.aggregator.submit(me, submit))
        self._order = ranked(ledger.run, ledger.round + 1, [entry.node for entry in ledger.roster])
        self._elected = None
        if update is not None:
            self.trainee.restore(update)
        if self.acceptor.accepted is not None:
            self._fetch_accepted()
        self._take_head_start()
        self.begin()

    def begin(self) -> None:
        """Start this member's own work, as far as what it needs is there."""
        if not self.trainee.has_done_its_part:
            self.head_start.drop()  # the open round comes first
        self.trainee.begin(ready=self.ready, declines=self._declines)

    @property
    def _declines(self) -> str:
        """Why nothing is to be trained here; empty where something is."""
        return "it is leaving" if self.leaving else ENDED_NOW if "end-now" in self.wishes.open else ""

    def close(self) -> None:
        """End the work for this run: the node turns to another one."""
        self.trainee.close()
        self.head_start.drop()

    # --- the head start -------------------------------------------------------------------------------------

    def _begin_head_start(self, digest: str) -> None:
        """Work on a proposed model that is here, where the open round wants nothing more of this member."""
        pending = self.acceptor.pending
        if pending is None or pending.record.model != digest or not self.ledger.succeeds(pending.record):
            return
        if self.ready and self.trainee.has_done_its_part and not self._declines:
            self.head_start.begin(pending.record)

    def _take_head_start(self) -> None:
        """Go on with what was begun, if it was this round's."""
        record = self.head_start.record
        if record is None:
            return
        if record_digest(record) != self.ledger.digest or self._declines or not self.ledger.is_open:
            self.head_start.drop()
            return
        for result in self.head_start.hand_over(self.trainee):
            match result:
                case inputs.TrainProgress():
                    self.trainee.progressed(result)
                case inputs.Trained():
                    self.trained(result)
                case inputs.Evaluated():
                    self.evaluated(result)

    def restart_model(self) -> None:
        """Find out whether the last model's blob is here; pull it otherwise."""
        self._refetch_at = None
        self.ledger.fetch_model()

    def commit(self, commit: Commit) -> None:
        """Commit this node's own proposal and tell everybody."""
        self.apply(commit, is_mine=True)

    def apply(self, commit: Commit, *, is_mine: bool = False, is_late: bool = False) -> None:
        """Make a believed commit the last one, *is_late* if it was missed, and open the next round."""
        ledger, record = self.ledger, commit.record
        self._tell_fate(commit)
        if not is_late:
            self._tell_missing_pairs(commit)
        self.trainee.close()
        holds = self.acceptor.accepted == record
        ledger.commit(commit, is_late=is_late)
        self.ctx.is_begun = True
        self.model_failures, self.model_failing_since = 0, None
        if is_mine:
            self.ctx.broadcast(commit)
        if not is_late:
            self._tell_pause()
        self.wishes.settle()
        ledger.holds = ledger.holds or holds
        self.open_round()
        if ledger.holds:
            self._is_untidy = True
        else:
            self.restart_model()

    def _tell_pause(self) -> None:
        """Tell why the run pauses by itself, where it does, and what to do."""
        ledger = self.ledger
        if ledger.last is not None and ledger.is_paused and PAUSES in ledger.last.record.note:
            note = ledger.last.record.note.replace(f", {PAUSES}", "")
            text = f"the run is paused after round {ledger.trained}: {note}"
            self.ctx.warn(
                f"{text}. When that is mended, go on with `p2pfl resume`; options of the run itself, such as "
                "--lr, change with a new one only: stop all nodes and start them with --new-run"
            )

    def _tell_fate(self, commit: Commit) -> None:
        """Tell why this member's own work is not in the record, where it is not ("no work lost")."""
        trainee, me = self.trainee, self.ctx.me.node
        has_worked = trainee.update is not None or trainee.training or (trainee.declined and not self.leaving)
        if not has_worked or any(entry.node == me for entry in commit.record.updates):
            return
        reason = next(
            (left.reason for left in commit.record.left_out if left.node == me), "another record was adopted"
        )
        self.ctx.tell(events.UpdateRefused(commit.record.round, self.ctx.name, reason))

    def _tell_missing_pairs(self, commit: Commit) -> None:
        """Name, once, members that go on taking part although this node gets no link to them.

        One that has just been switched on takes part a moment before it is linked everywhere.
        """
        apart = {
            entry.node for entry in commit.record.updates if not self.ctx.is_reachable(entry.node)
        } - self._told_missing
        now = self.ctx.now
        self._missing_since = {node: self._missing_since.get(node, now) for node in apart}
        for node, since in self._missing_since.items():
            down_since = self.ctx.unlinked_since(node)
            if now - max(since, down_since or since) >= MISSING_SECONDS:
                self._told_missing.add(node)
                name = self.ctx.name_of(node)
                self.ctx.warn(f"{name} takes part, but this device has no link to it: look at both firewalls")

    def tidy(self, pinned: Callable[[], set[str]]) -> None:
        """Let go of blobs nobody needs any more but those *pinned*; to be called when all else was done."""
        if self._is_untidy:
            self._is_untidy = False
            own = (
                self.acceptor.pinned()
                | self.aggregator.pinned()
                | self.trainee.pinned()
                | self.head_start.pinned()
            )
            self.ledger.collect(own | pinned())

    # --- messages -------------------------------------------------------------------------------------------

    def received(self, member: Member, message: RoundMessage) -> None:
        """Take a message of a round; one not open is answered with records, or makes this node ask."""
        ledger = self.ledger
        if message.run != ledger.run or ledger.halted:
            return
        if isinstance(message, Promise | Accepted) and not self._takes_vote(member, message):
            return
        if message.round <= ledger.round:
            if isinstance(message, Prepare | Collect | Accept | Submit):
                self.ctx.do(SendRecords(member.node, ledger.run, max(0, message.round - 1)))
        elif message.round > ledger.round + 1:
            self.behind.keep(member, message)
        elif ledger.is_member and ledger.is_open:
            self._received_now(member, message)

    def _received_now(self, member: Member, message: RoundMessage) -> None:
        aggregator, acceptor = self.aggregator, self.acceptor
        if not self._is_of_member(member, message):
            return
        match message:
            case Prepare() | Accept() | Collect():
                if self._may_stand(member, message.ballot):
                    self._defer_to(message)
                    self._answer_candidate(member, message)
            case Promise():
                aggregator.promise(member, message)
                self._collect_own()
            case Refuse():
                aggregator.refused(message.promised, message.ballot)
            case Submit():
                aggregator.submit(member, message)
            case Noted():
                if message.ballot.node == member.node and self.trainee.note(message):
                    acceptor.progressed(message.ballot)
            case Accepted():
                aggregator.accepted(member, message)
            case Undelivered():
                aggregator.not_delivered(member, message)
            case Yield():
                if message.ballot.node == member.node and acceptor.end_courtesy(member.node):
                    name = self.ctx.name_of(member.node)
                    kind = self.ledger.next_kind
                    self.ctx.tell(
                        events.Yielded(message.round, message.ballot.attempt, name, message.reason, kind)
                    )

    def _answer_candidate(self, member: Member, message: Prepare | Accept | Collect) -> None:
        match message:
            case Prepare():
                self.acceptor.prepare(member, message)
            case Accept():
                self._tell_elected(message)
                self.acceptor.propose(member, message)
            case Collect():
                self.acceptor.defer_to(message.ballot, Step.COLLECTS)
                if self.trainee.collect(message):
                    self._tell_elected(message)
                self.begin()

    def _takes_vote(self, member: Member, message: Promise | Accepted) -> bool:
        """Whether *message* carries a vote of *member* that may count. Also a late one is remembered."""
        cast = cast_of(message)
        if cast.vote.member != member or not cast.is_valid(self.ctx.signer.verify):
            name = self.ctx.name_of(member.node)
            self.ctx.complain(
                member.node, "unsigned", f"{name} sent a vote it has not signed: it does not count"
            )
            return False
        if not self.ctx.takes_vote(cast):
            return False
        if message.round <= self.ledger.round:
            self.ctx.do(SaveSeen((cast,), at_once=False))
        return True

    def _is_of_member(self, member: Member, message: RoundMessage) -> bool:
        """Whether *member*, with its journal, is in the open roster: only then it has a part in the round."""
        if contains(self.ledger.roster, member):
            return True
        if isinstance(message, Prepare | Collect | Accept):
            name = self.ctx.name_of(member.node)
            text = (
                f"{name} stands as aggregator of record {message.round}, but is no member of the run with "
                "its data directory of now: it is ignored"
            )
            self.ctx.complain(member.node, "no member", text)
        return False

    def _may_stand(self, member: Member, ballot: Ballot) -> bool:
        """Whether *ballot* is one *member* may have.

        Nobody stands in another's name, has another's lowest ballot, or uses attempts up.
        """
        if ballot.node != member.node:
            return False
        if ballot.attempt <= FIRST_ATTEMPT:
            return self.ctx.policy.lowest(self._order, member.node)
        highest = self.aggregator.highest_known
        if ballot.attempt > highest + MAX_JUMP:
            name = self.ctx.name_of(member.node)
            text = (
                f"{name} stands with attempt {ballot.attempt} of record {self.ledger.round + 1}, far above "
                f"{highest}, the highest seen here: it is ignored"
            )
            self.ctx.complain(member.node, "jump", text)
            return False
        return True

    def _defer_to(self, message: Prepare | Accept | Collect) -> None:
        """Give this node's own candidacy up for a higher ballot."""
        mine = self.aggregator.ballot
        if mine is not None and message.ballot > mine:
            self.aggregator.refused(message.ballot, mine)

    def _tell_elected(self, message: Accept | Collect) -> None:
        ballot = message.ballot
        if ballot != self._elected:
            self._elected = ballot
            name = self.ctx.name_of(ballot.node)
            kind = self.ledger.next_kind
            self.ctx.tell(events.Elected(message.round, ballot.attempt, name, ballot.node, 0, kind))

    def learned(self, source: str, commits: tuple[Commit, ...]) -> None:
        """Take commits from node *source*, each only as the believed successor of the last (rule 5)."""
        newest = max(
            (
                peer.status.round
                for peer in self.ctx.peers.values()
                if peer.status is not None and peer.status.run == self.ledger.run
            ),
            default=0,
        )
        for commit in commits:
            if self.ledger.halted or self.ledger.conflict(commit, source):
                return
            if commit.record.run != self.ledger.run or commit.record.round <= self.ledger.round:
                continue
            if commit.record.round > self.ledger.round + 1:
                self.behind.ask(source)
                return
            flaw = self.ledger.believe(commit)
            if flaw is not None:
                name = self.ctx.name_of(source)
                text = f"record {commit.record.round} from {name} is not believed: {flaw}"
                self.ctx.complain(source, "forged", text)
                return
            if self.ledger.is_ahead_of_me(commit):
                self.ledger.disown(commit)
                return
            is_late = len(commits) > 1 or commit.record.round < newest
            if is_late and self._missed_from is None:
                self._missed_from = self.ledger.trained + 1
            self.apply(self.ledger.proven(commit), is_late=is_late)
        if self._missed_from is not None and self.ledger.round >= newest:
            first, self._missed_from = self._missed_from, None
            ledger, name = self.ledger, self.ctx.name_of(source)
            self.ctx.tell(events.CaughtUp(first, ledger.trained, ledger.rounds, name))
            self._tell_pause()

    def report(self, member: Member, message: Report) -> None:
        """Take a member's evaluation of the last model."""
        self.ledger.report(member.node, message)

    # --- wishes ---------------------------------------------------------------------------------------------

    def wish(self, message: Wish, source: str) -> None:
        """Take a wish that node *source* has passed on, and let the next record fulfil it (rule 13)."""
        if self.wishes.take(message, source):
            if message.what == "end-now" and self.trainee.is_training_round:
                self.trainee.decline(ENDED_NOW)
            self.begin()

    def resume(self, round_: int, member: Member) -> None:
        """Lift the pause after *round_*, as *member* has done, if it is one."""
        if contains(self.ledger.roster, member) and self.wishes.resume(
            round_, by=self.ctx.name_of(member.node)
        ):
            self.begin()

    def leave(self) -> None:
        """Stop training and be dropped with the next commit; vote and serve until then (rule 12)."""
        self.leaving = self.aggregator.leaving_myself = True
        self.head_start.drop()
        if self.trainee.is_training_round:
            self.trainee.decline("it is leaving")

    # --- results --------------------------------------------------------------------------------------------

    def blob_ready(self, ready: inputs.BlobReady) -> None:
        """Go on with whatever waited for a blob; only a durable one counts for a vote or as held."""
        digest = ready.digest
        if not ready.durable:
            self._begin_head_start(digest)
        else:
            if digest == self.ledger.model and not self.ledger.holds:
                self.ledger.holds, self._refetch_at = True, None
                self._is_untidy = True
                self.begin()
            if self.acceptor.accepted is not None and digest == self.acceptor.accepted.model:
                self._lost_tries = 0
            self.acceptor.blob_ready(digest)
        self.aggregator.blob_ready(digest, durable=ready.durable)

    def blob_failed(self, failed: inputs.BlobFailed) -> None:
        """Try again later for what this node needs; let others who waited for the blob go on without."""
        if failed.is_lost:
            self._lose(failed.digest)
        accepted = self.acceptor.accepted
        is_accepted = accepted is not None and failed.digest == accepted.model
        if is_accepted and self._reachable() >= self.ledger.needed:
            self._lost_tries += 1
            if self._lost_tries >= LOST_BLOB_TRIES:
                text = (
                    f"the model this device accepted as record {self.ledger.round + 1} can neither be read "
                    f"nor pulled: {failed.reason}. Its disk counts as lost: start with --new-journal"
                )
                self.ctx.tell(events.Notice("error", text))
                self.ctx.do(Exit(LOST_DISK_EXIT, text))
                return
        if is_accepted or (failed.digest == self.ledger.model and not self.ledger.holds):
            self._refetch_at = self.ctx.now + self.ctx.settings.resend
        if failed.digest == self.ledger.model and not self.ledger.holds and not failed.is_lost:
            self._do_without_parent(failed.reason)
        self.acceptor.blob_failed(failed.digest, failed.reason)
        self.aggregator.blob_failed(failed.digest, failed.reason, invalid=failed.invalid)

    def _do_without_parent(self, reason: str) -> None:
        """Say, when the last model does not come, that nothing is to be had here: then nobody waits."""
        self.model_failures += 1
        self.model_flaw = reason
        if self.model_failing_since is None:
            self.model_failing_since = self.ctx.now
        is_wanted = self.ledger.is_open and self.ledger.is_member
        if self.model_failures < MODEL_TRIES or not is_wanted:
            return
        if self.trainee.is_training_round:
            self.trainee.decline(f"it cannot have the last model: {reason}"[:300])
        elif not self.trainee.evaluation_failed:
            self.trainee.fail_evaluation()

    def blob_progressed(self, digest: str) -> None:
        """Take note that bytes of a blob have come: it is being pulled, however slowly."""
        if digest == self.ledger.model:
            self.model_failing_since = None
        self.acceptor.blob_progressed(digest)

    def _lose(self, digest: str) -> None:
        """Give up the work on a model whose file is damaged; it begins anew when the model is here again."""
        if self.head_start.record is not None and self.head_start.record.model == digest:
            self.head_start.drop()
        if digest == self.ledger.model:
            self.ledger.holds = False
            self.trainee.lose_model()

    def _fetch_accepted(self) -> None:
        accepted = self.acceptor.accepted
        assert accepted is not None
        others = tuple(entry.node for entry in self.ledger.roster if entry.node != self.ctx.me.node)
        layout, parent = self.ledger.founding.layout, self.ledger.model
        self.ctx.do(Fetch(accepted.model, layout, others, parent=parent))

    def trained(self, result: inputs.Trained) -> None:
        """Take the worker's update if it is still of use."""
        ledger = self.ledger
        due = (ledger.run, ledger.round + 1, ledger.model)
        if result.round > due[1]:
            self.head_start.take(result)
        elif self.trainee.training and self.ctx.policy.fits(result, due):
            self.trainee.trained(result.digest, result.samples, result.loss, result.seconds)

    def progressed(self, progress: inputs.TrainProgress) -> None:
        """Note how far this member's training is."""
        if progress.round > self.ledger.round + 1:
            self.head_start.take(progress)
        else:
            self.trainee.progressed(progress)

    def evaluated(self, result: inputs.Evaluated) -> None:
        """Take the worker's evaluation if it is of the last model, or of one that is proposed."""
        asked = self.trainee.evaluation_asked
        if asked is not None and result.answers(asked):
            self.trainee.evaluated(result.evaluation)
        else:
            self.head_start.take(result)

    def work_failed(self, failed: inputs.WorkFailed) -> None:
        """Go on without what the worker could not do, saying so."""
        if failed.job != "average" and self.head_start.failed(failed):
            return
        if failed.model not in ("", self.ledger.model):
            return  # of a head start that came to nothing
        if failed.job == "average" and failed.ballot != self.aggregator.ballot:
            return  # of a candidacy that was given up
        self.ctx.warn(f"the worker could not {failed.job}: {failed.reason}")
        if failed.job == "train" and failed.round == self.ledger.round + 1:
            self.trainee.decline(f"its training failed: {failed.reason}"[:300])
        elif failed.job == "evaluate" and failed.round == self.ledger.round:
            self.trainee.fail_evaluation()
        elif failed.job == "average":
            self.aggregator.give_up(f"its worker could not average: {failed.reason}"[:300])

    # --- time -----------------------------------------------------------------------------------------------

    def linked(self, node: str) -> None:
        """Repeat to a peer that is newly linked what it may have missed."""
        self.wishes.repeat(node)
        self.aggregator.linked(node)
        self.trainee.linked(node)

    def arrived(self, node: str) -> None:
        """Repeat to a peer that has just come to this round what it may have missed."""
        self.wishes.repeat(node)
        self.aggregator.arrived(node)
        self.trainee.linked(node)

    def unlinked(self, node: str) -> None:
        """Stop leaving time to a candidate whose link ended."""
        self.acceptor.end_courtesy(node)

    def advance(self) -> None:
        """Do what has become due."""
        self._wake = None
        self.behind.advance()
        self.behind.release(self.received)
        if self._refetch_at is not None and self.ctx.now >= self._refetch_at:
            self._refetch_at = None
            if not self.ledger.holds:
                self.ledger.fetch_model()
            elif self.acceptor.accepted is not None:
                self._fetch_accepted()
        if not (self.ledger.is_open and self.ledger.is_member):
            return
        reachable = self._reachable()
        self._watch_quorum(reachable)
        self._cut_own_training()
        self.trainee.advance()
        self.aggregator.advance()
        if self.ledger.is_open and self.ledger.is_member:  # a roster of one has decided a round by now
            self._consider_standing(reachable)
            self._collect_own()

    @property
    def deadline(self) -> float | None:
        """When `advance` is due if nothing happens."""
        if not (self.ledger.is_open and self.ledger.is_member):
            return earliest(self._refetch_at, self.behind.deadline)
        parts = (self.aggregator.deadline, self.trainee.deadline, self.behind.deadline)
        return earliest(self._wake, self._refetch_at, *parts)

    def _reachable(self) -> int:
        return self.ctx.count_seated(self.ledger.roster)

    def _watch_quorum(self, reachable: int) -> None:
        members, needed = len(self.ledger.roster), self.ledger.needed
        grace_ends = self.ctx.started + self.ctx.settings.start_grace
        if reachable >= needed:
            if not self._has_quorum:
                self._has_quorum = True
                kind = self.ledger.next_kind
                self.ctx.tell(events.QuorumBack(self.ledger.round + 1, reachable, members, kind))
        elif self._has_quorum and self.ctx.now < grace_ends:
            self._wake = earliest(self._wake, grace_ends)
        elif self._has_quorum:
            self._has_quorum = False
            kind = self.ledger.next_kind
            self.ctx.tell(events.QuorumLost(self.ledger.round + 1, reachable, members, needed, kind))
            if reachable == 1 and self.ledger.next_kind == "evaluate" and not self._told_alone:
                self._told_alone = True
                self.ctx.warn(
                    "only the final evaluation is missing and nobody is there: "
                    "the run may be complete elsewhere"
                )

    def _cut_own_training(self) -> None:
        """End this node's own training when it, as aggregator, would hold the round beyond its cap."""
        cap_at = self.ledger.opened + self.ledger.spec.round_cap
        if (
            self.trainee.training
            and self.aggregator.stand_state is Stand.COLLECTING
            and self.ctx.now >= cap_at
        ):
            self.trainee.decline("the round's cap passed before its training ended")

    def _consider_standing(self, reachable: int) -> None:
        if self.aggregator.stand_state is not Stand.IDLE or not self._has_gathered():
            return
        if self._is_resumed and not self._has_listened(reachable):
            return
        situation = self._situation(reachable)
        verdict, reason, wake = decide_standing(situation)
        if verdict:
            has_lowest = self.ctx.policy.lowest(self._order, self.ctx.me.node)
            self.aggregator.stand(reason, has_lowest=has_lowest)
        self._wake = earliest(self._wake, wake)

    def _has_gathered(self) -> bool:
        """Whether a quorum is in the run: record 0 and its model come to one member sooner than to another.

        Who stood before would not be answered, and the first in rank comes too late for its turn.
        """
        if self.ledger.last is None and self._gathered_at is None:
            here = sum(map(self._is_in_run, self.ledger.roster))
            self._gathered_at = self.ctx.now if here >= self.ledger.needed else None
            return self._gathered_at is not None
        return True

    def _has_listened(self, reachable: int) -> bool:
        """Whether this member, restarted in the open round, has heard what it has forgotten.

        Who aggregates tells it on a new link. Not all links come at once, and who stood before they are there
        would take the round from a live candidate.
        """
        if self.ledger.needed == 1:
            return True
        if self._hears_until is None and reachable >= self.ledger.needed:
            self._hears_until = self.ctx.now + self.ctx.settings.resend
        if self._hears_until is None or self.ctx.now < self._hears_until:
            self._wake = earliest(self._wake, self._hears_until)
            return False
        return True

    def _is_in_run(self, entry: RosterEntry) -> bool:
        if entry.node == self.ctx.me.node:
            return True
        peer = self.ctx.peers.get(entry.node)
        return peer is not None and peer.status is not None and peer.status.run == self.ledger.run

    def _situation(self, reachable: int) -> Situation:
        ctx, ledger, acceptor = self.ctx, self.ledger, self.acceptor
        courtesy, until = acceptor.courtesy, acceptor.free_since
        if courtesy is not None and courtesy.ballot.node == ctx.me.node:
            courtesy = None
        if courtesy is not None:
            until = courtesy.until(ledger.spec.round_cap)
        return Situation(
            me=ctx.me.node,
            order=self._order,
            reachable=reachable,
            candidates=self._candidates,
            needed=ledger.needed,
            eligible=ledger.holds,
            since=max(ledger.opened, self._gathered_at or 0.0, until),
            courtesy_to=courtesy.ballot.node if courtesy is not None else "",
            courtesy_until=until,
            not_before=self.aggregator.not_before,
            rank_step=ctx.settings.rank_step,
            now=ctx.now,
        )

    def _candidates(self) -> list[Candidate]:
        ctx, roster = self.ctx, self.ledger.roster
        links = sum(ctx.is_linked(entry.node) for entry in roster)
        deliverable = ctx.count_seated(entry for entry in roster if entry.node not in ctx.unserved)
        is_able = not (self.aggregator.unable or self.leaving) and deliverable >= self.ledger.needed
        candidates = [Candidate(ctx.me.node, self.ready, links, is_able)]
        for entry in roster:
            peer = ctx.peers.get(entry.node)
            if peer is not None and ctx.is_seated(entry):
                status = peer.status
                known = (status.ready, status.links) if status is not None else (False, 0)
                candidates.append(Candidate(entry.node, *known, self._is_able(peer)))
        return candidates

    def _is_able(self, peer: PeerView) -> bool:
        """Whether *peer* can bring the round to an end, as far as is known."""
        lacking = peer.lacking_since is not None and self.ctx.now - peer.lacking_since >= LACKING_SECONDS
        return not (peer.is_leaving or lacking or peer.undeliverable)

    def _collect_own(self) -> None:
        """Hand this member's own contribution to its own candidacy, once it is elected."""
        aggregator, ledger = self.aggregator, self.ledger
        if aggregator.stand_state is not Stand.COLLECTING or aggregator.ballot is None:
            return
        me = self.ctx.me.node
        if me not in aggregator.collection.contributions:
            wanted = me in aggregator.collection.selected
            self.trainee.collect(Collect(ledger.run, ledger.round + 1, aggregator.ballot, wanted))
            if wanted:
                self.begin()
