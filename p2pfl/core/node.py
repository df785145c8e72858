"""The protocol core of one node: it passes each input to its parts and returns their effects.

The parts are `Lobby` (the node is in no run, or about to enter one), `Running` (the run it is in),
`OtherRuns` (the other runs that peers are in), `Continuation` (a run that lost its majority for good),
`Ending` (the end of a run, or this node's leaving) and `Presence` (the node's own status). After every input
and tick, `_advance` lets each part do what has become due: so progress never depends on another message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, assert_never

import msgspec

from p2pfl import events
from p2pfl.config import ProtocolSettings
from p2pfl.core import inputs
from p2pfl.core.context import Context, PeerView, earliest
from p2pfl.core.continuing import Continuation
from p2pfl.core.effects import (
    AnyEffect,
    Create,
    Describe,
    Exit,
    SaveGenesis,
    SendRecords,
)
from p2pfl.core.ending import Ending
from p2pfl.core.exclusion import Exclusion
from p2pfl.core.ledger import Ledger
from p2pfl.core.lobby import Lobby, OfferedRun
from p2pfl.core.options import Options, Policy
from p2pfl.core.otherruns import OtherRuns
from p2pfl.core.presence import NodeCondition, Presence
from p2pfl.core.resumed_model import ResumedModel
from p2pfl.core.roster import contains
from p2pfl.core.running import Running
from p2pfl.core.saved import Saved, SavedRun, Vote
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import (
    Card,
    Commit,
    ControlRequest,
    Decline,
    DeviceInfo,
    Genesis,
    Member,
    Message,
    Offer,
    Records,
    RecordsRequest,
    Report,
    Status,
    UpdateEntry,
    record_digest,
)
from p2pfl.proofs import CastVote, Signer, sign_request
from p2pfl.schema import Schema, layout_of


class Node:
    """The protocol of one node. It reads no clock: `input` and `tick` take the time."""

    def __init__(
        self,
        me: Member,
        name: str,
        options: Options,
        saved: Saved,
        signer: Signer,
        *,
        settings: ProtocolSettings | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._ctx = Context(me, name, settings or ProtocolSettings(), options, policy or Policy(), signer)
        self._ctx.votes = saved.votes_cast
        self._lobby = Lobby(self._ctx)
        self._abandoned_runs = self._lobby.abandoned_runs
        self._presence = Presence(self._ctx)
        control_request = options.continue_with
        self._continuing = Continuation(
            self._ctx, control_request or frozenset(), control_request is not None
        )
        self._running: Running | None = None
        self._saved = saved
        self._votes: dict[str, Vote] = dict(saved.votes)
        self._updates: dict[str, UpdateEntry] = {}
        """By run that this node left before its first commit: the node's update for the first round."""
        self._others = OtherRuns(self._ctx, self._lobby, self._continuing, set(saved.closed))
        self._ending = Ending(self._ctx, lambda: self._presence.refresh(self._condition()))
        self._exclusion = Exclusion(self._ctx)
        self._is_exiting = False
        self._wake: float | None = None
        self._resumed_model = ResumedModel(self._ctx)

    # --- interface for the driver ---------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger | None:
        """The committed records of this node's run; None while the node is in no run."""
        return self._running.ledger if self._running else None

    @property
    def waits_because(self) -> str | None:
        """Why this node waits for a run; None while it is in one."""
        return self._lobby.told if self._running is None else None

    @property
    def peers(self) -> dict[str, PeerView]:
        """The state of each peer, by node id; read-only."""
        return self._ctx.peers

    def newest_vote(self, member: Member) -> CastVote | None:
        """Return the newest vote of *member* that this node has seen since its start."""
        return self._ctx.seen.get(member)

    @property
    def banned(self) -> Mapping[str, str]:
        """The nodes that are banned as far as this node was told, with the reason."""
        return self._ctx.banned

    def needs(self, node: str) -> bool:
        """Whether *node*, which is kept out, must stay linked until a record has removed it."""
        return node in self._exclusion.spared

    def name_of(self, node: str) -> str:
        """Return the display name of *node*."""
        return self._ctx.name_of(node)

    def status(self) -> Status:
        """Return this node's current status message."""
        return self._presence.status(self._condition())

    def objection(self, what: Literal["pause", "resume", "end", "end-now"]) -> str:
        """Return why a control request would change nothing now; empty if it would have an effect."""
        return self._running.requests.objection(what) if self._running else "this node is in no run yet"

    def start(self, now: float) -> list[AnyEffect]:
        """Resume the run in the journal, or look for a run. Call it once, before any input."""
        self._ctx.now = self._ctx.started = now
        saved = self._saved.current
        if saved is not None and not self._ctx.options.new_run:
            self._resume(saved)
        else:
            if saved is not None:
                self._others.close(saved.run)
            self._lobby.start()
        return self._finish()

    def input(self, event: inputs.AnyInput, now: float) -> list[AnyEffect]:
        """Handle *event*; return the effects in the order in which to carry them out."""
        self._ctx.now = now
        if not self._is_exiting:
            self._take(event)
        return self._finish()

    def tick(self, now: float) -> list[AnyEffect]:
        """Do what has become due; call it when `deadline` has passed."""
        self._ctx.now = now
        return self._finish()

    def deadline(self) -> float | None:
        """Return when to call `tick` if no input comes before; None only while the node exits."""
        if self._is_exiting:
            return None
        running = self._running.deadline if self._running else None
        return earliest(self._wake, self._presence.next_beat, self._lobby.deadline, running)

    def _finish(self) -> list[AnyEffect]:
        if not self._is_exiting:
            self._advance()
        effects, self._ctx.effects = self._ctx.effects, []
        if any(isinstance(effect, Exit) for effect in effects):
            self._is_exiting = True
        return effects

    # --- inputs ---------------------------------------------------------------------------------------------

    def _take(self, event: inputs.AnyInput) -> None:
        match event:
            case inputs.Linked():
                self._linked(event)
            case inputs.Unlinked():
                self._unlinked(event.node)
            case inputs.Received():
                if not self._exclusion.ignores(event.member.node):
                    self._received(event.member, event.message)
            case inputs.Expect():
                self._ctx.options = msgspec.structs.replace(
                    self._ctx.options, min_nodes=event.min_nodes, listed=event.listed
                )
            case inputs.Go():
                self._lobby.go_ahead()
            case inputs.Leave():
                self._ending.leave(self._running)
            case inputs.Ban():
                fresh = event.nodes.keys() - self._ctx.banned.keys()
                self._ctx.banned = event.nodes
                for node in sorted(fresh):
                    self._exclude(node, ExitCode.UNFIT)
            case inputs.Kick():
                self._ctx.kicked[event.node] = event.reason, self._ctx.now
                self._exclude(event.node, ExitCode.LEFT)
            case inputs.OperatorRequest():
                if self._running is not None:
                    ledger, me = self._running.ledger, self._ctx.me.node
                    control_request = sign_request(
                        self._ctx.signer, me, ledger.run, ledger.round, event.what, event.by
                    )
                    self._running.control_request(control_request, me)
            case _:
                self._take_result(event)

    def _take_result(  # noqa: C901 - a flat dispatch reads best in one piece
        self,
        event: inputs.BlobReady
        | inputs.BlobProgress
        | inputs.BlobFailed
        | inputs.Described
        | inputs.SchemaRead
        | inputs.Created
        | inputs.TrainProgress
        | inputs.Trained
        | inputs.Evaluated
        | inputs.Aggregated
        | inputs.WorkFailed,
    ) -> None:
        running = self._running
        match event:
            case inputs.BlobReady():
                if running is not None:
                    running.blob_ready(event)
                if event.durable:
                    self._go_on(self._resumed_model.blob_ready(event.digests))
                    self._take_run(self._lobby.blob_ready(event.digests))
            case inputs.BlobProgress():
                if running is not None:
                    running.blob_progressed(event.digest)
            case inputs.BlobFailed():
                if running is not None:
                    running.blob_failed(event)
                self._lobby.blob_failed(event)
                self._fail_resumed(self._resumed_model.blob_failed(event))
            case inputs.Described():
                self._described(event)
            case inputs.SchemaRead():
                self._schema_read(event)
            case inputs.Created():
                self._lobby.created = event
            case inputs.WorkFailed():
                self._work_failed(event)
            case inputs.TrainProgress():
                if running is not None:
                    running.progressed(event)
            case inputs.Trained():
                if running is not None:
                    running.trained(event)
            case inputs.Evaluated():
                if running is not None:
                    running.evaluated(event)
            case inputs.Aggregated():
                if running is not None:
                    running.aggregator.aggregated(event.job, event.result)
            case _:
                assert_never(event)

    def _exclude(self, node: str, code: ExitCode) -> None:
        """Keep *node* out from now on; if it is this node, end with *code* (rule "Keeping members out")."""
        reason = self._ctx.exclusion(node)
        if reason and self._running is not None:
            self._running.exclude(node, reason)
        if reason and node == self._ctx.me.node:
            self._ending.expel(self._running, code, f"this device {reason}")

    def _linked(self, event: inputs.Linked) -> None:
        ctx, node = self._ctx, event.member.node
        if ctx.is_linked(node):
            self._unlinked(node)
        ctx.peers[node] = PeerView(event.member, event.name, linked=True, ever_linked=True, since=ctx.now)
        ctx.names[node] = event.name
        if ctx.card is not None:
            ctx.send(node, Card(ctx.card))  # before the status that says that this node is ready
        ctx.send(node, self._presence.status(self._condition()))
        if self._running is not None:
            self._running.linked(node)

    def _unlinked(self, node: str) -> None:
        peer = self._ctx.peers.get(node)
        if peer is not None and peer.linked:
            peer.linked, peer.since = False, self._ctx.now
            self._ctx.unserved.pop(node, None)  # a pull that failed over the old link may succeed on the next
            if self._running is not None:
                self._running.unlinked(node)

    def _described(self, event: inputs.Described) -> None:
        running = self._running
        if (
            running is not None
            and (event.spec, event.agreement) == (running.ledger.spec, running.ledger.agreement)
            and not running.ready
        ):
            ledger = running.ledger
            assert event.schema is not None, "the agreement is known"
            if flaw := self._ctx.policy.data(ledger.spec.task, ledger.agreement, event.card):
                self._fail_resumed(flaw)
                return
            if layout_of(event.schema) != ledger.genesis.layout:
                self._resumed_model.compare(event, ledger)
                return
            self._go_on(event)
        elif running is None and event.agreement is None and event.spec == self._ctx.options.spec:
            self._ctx.card = event.card
        self._take_run(self._lobby.describe(event))

    def _go_on(self, described: inputs.Described | None) -> None:
        """Take part in the run again, whose model the worker has *described*; do nothing without that."""
        running = self._running
        if running is not None and described is not None:
            running.ledger.schema = described.schema
            self._ctx.card = described.card
            running.notices.other_sources()
            running.ready = True
            running.begin()

    def _schema_read(self, event: inputs.SchemaRead) -> None:
        ledger, resumed = self.ledger, self._resumed_model
        if ledger is not None and resumed.described is not None and ledger.genesis.layout == event.layout:
            self._fail_resumed(resumed.schema_read(event, ledger))
        else:
            self._lobby.schema_read(event)

    def _fail_resumed(self, flaw: str) -> None:
        """End the node because of *flaw*; do nothing without one."""
        if flaw and self.ledger is not None:
            self._fail(f"this device cannot go on with run {self.ledger.run[:12]}: {flaw}")

    def _work_failed(self, event: inputs.WorkFailed) -> None:
        running, effect = self._running, event.effect
        if not isinstance(effect, Describe | Create):
            if running is not None:
                running.work_failed(event)
        elif running is not None and (isinstance(effect, Create) or effect.spec == running.ledger.spec):
            self._fail(event.reason)
        else:
            self._lobby.fail(event.reason, effect if isinstance(effect, Describe) else None)

    def _fail(self, reason: str) -> None:
        self._ctx.tell(events.Notice("error", reason))
        self._ctx.do(Exit(ExitCode.UNFIT, reason))

    # --- messages -------------------------------------------------------------------------------------------

    def _received(self, member: Member, message: Message) -> None:
        running = self._running
        match message:
            case Status():
                self._heard(member, message)
            case Offer():
                self._others.offered(self.ledger, member, message.genesis)
            case Records():
                self._records(member, message)
            case RecordsRequest():
                if running is not None and message.run == running.ledger.run:
                    self._ctx.do(SendRecords(member.node, message.run, message.after))
            case Decline():
                self._others.declined(self.ledger, member, message)
            case Commit():
                if running is not None:
                    running.learned(member.node, (message,))
            case Report():
                if running is not None:
                    running.report(member, message)
            case ControlRequest():
                if running is not None:
                    running.control_request(message, member.node)
            case Card() | DeviceInfo():
                self._hear_of_device(member, message)
            case _:
                if running is not None:
                    running.received(member, message)

    def _hear_of_device(self, member: Member, device_info: Card | DeviceInfo) -> None:
        """Store a peer's data card or device information; publish the latter."""
        node, peer = member.node, self._ctx.peers.get(member.node)
        if peer is not None and isinstance(device_info, Card):
            peer.card = device_info.card
            if self._running is not None:
                self._running.notices.other_sources()
            return
        if peer is None or peer.device_info == device_info:
            return
        assert isinstance(device_info, DeviceInfo)
        peer.device_info = device_info
        values = {field: getattr(device_info, field) for field in device_info.__struct_fields__}
        self._ctx.tell(events.PeerDeviceInfo(node=node, name=self._ctx.name_of(node), **values))

    def _heard(self, member: Member, status: Status) -> None:
        peer = self._ctx.peers.get(member.node)
        if peer is None or (peer.status is not None and peer.status.steps > status.steps):
            return
        was_leaving, before = peer.is_leaving, peer.status
        peer.hear(status, self._ctx.now)
        if peer.is_leaving and not was_leaving:
            self._ctx.tell(events.PeerLeaving(member.node, peer.name))
        running = self._running
        if running is None or status.run != running.ledger.run:
            self._others.heard(self.ledger, peer, status)
            return
        ledger = running.ledger
        if status.round > ledger.round:
            running.catch_up.suspect(member.node, status.round)
        elif status.round == ledger.round:
            if before is None or before.round < status.round or before.run != status.run:
                running.arrived(member.node)
            if status.record != ledger.digest and (before is None or before.record != status.record):
                # The status proves nothing, but the commit of that record does: two records committed for one
                # round (rule "Conflicting commits"). So ask for it.
                self._ctx.send(member.node, RecordsRequest(ledger.run, max(0, ledger.round - 1)))
            if status.resumed:
                running.resume(status.round, member)
            if status.rounds > ledger.rounds and ledger.is_over and contains(ledger.roster, member):
                self._extend(status.rounds, peer.name)

    def _records(self, member: Member, message: Records) -> None:
        running = self._running
        if running is not None and message.run == running.ledger.run:
            running.catch_up.ask_again()
            running.learned(member.node, message.commits)
            peer = self._ctx.peers.get(member.node)
            catch_up = (
                peer is not None and peer.status is not None and peer.status.round > running.ledger.round
            )
            if catch_up and message.commits:
                running.catch_up.ask(member.node)
            return
        self._others.records(self.ledger, member, message)

    # --- entering a run -------------------------------------------------------------------------------------

    def _resume(self, saved: SavedRun) -> None:
        ledger = Ledger.restore(self._ctx, saved)
        for origin in saved.genesis.continues:
            # A crash may have come after the new run was saved and before the old one was closed.
            self._others.close(origin.run)
        running = self._running = Running(self._ctx, ledger, ready=False)
        if (
            ledger.is_over
            and self._ctx.options.spec.rounds > ledger.rounds
            and "rounds" in self._ctx.options.given
        ):
            ledger.wanted_rounds = self._ctx.options.spec.rounds
        running.notices.joined("finished" if ledger.is_over else "resumed")
        running.notices.ignored()
        if ledger.is_over:
            self._ending.serve()
        else:
            self._ctx.do(Describe(ledger.spec, ledger.agreement))
        running.open_round(self._votes.get(ledger.run), saved.update, is_resumed=True)
        running.restart_model()

    def _take_run(self, offered: OfferedRun | None) -> None:
        if offered is None:
            return
        self._lobby.offered, self._lobby.asking = None, ""
        if self._others.may_move(self.ledger, offered.genesis):
            assert offered.described is not None
            self._ctx.card = offered.described.card
            self._enter(
                offered.run,
                offered.genesis,
                offered.commits,
                schema=offered.described.schema,
                source=offered.source,
            )

    def _enter(
        self,
        run: str,
        genesis: Genesis,
        commits: tuple[Commit, ...],
        *,
        schema: Schema | None,
        source: str = "",
    ) -> None:
        """Enter a run that *source* has offered; *source* is empty if this node founds the run.

        *schema* is the schema of the run's model.
        """
        founded = not source
        ctx, old = self._ctx, self._running
        continues = old is not None and genesis.origin_in(old.ledger.run) is not None
        ctx.do(SaveGenesis(run, genesis))
        if old is not None:
            self._turn_away(old, genesis)
        for origin in genesis.continues:
            self._others.close(origin.run)
        ctx.names.update({entry.node: entry.name for entry in genesis.roster})
        ledger = Ledger(ctx, run, genesis, opened=ctx.now, schema=schema)
        ledger.holds = founded or (not commits and contains(genesis.roster, ctx.me))
        if continues and old is not None:
            ledger.memory = old.ledger.memory
        running = self._running = Running(ctx, ledger, ready=True)
        running.leaving = self._ending.is_leaving
        how = "continued" if continues else "founded" if founded else "joined"
        running.notices.joined(how if ledger.is_member else "learner")
        running.notices.ignored()
        running.open_round(self._votes.get(run), self._updates.pop(run, None))
        if not (ledger.holds or commits):
            running.restart_model()
        running.learned(source or ctx.me.node, commits)

    def _turn_away(self, old: Running, genesis: Genesis) -> None:
        """Leave the old run, but keep this node's votes and update there."""
        if genesis.origin_in(old.ledger.run) is not None:
            self._continuing.tell_moved(old.ledger, genesis)
        else:
            before = old.ledger.run[:12]
            self._ctx.warn(
                f"this device moves from run {before} to run {record_digest(genesis)[:12]}; "
                f"nothing was committed in {before}"
            )
        self._votes[old.ledger.run] = old.acceptor.vote()
        self._keep_update(old)
        old.close()

    def _extend(self, rounds: int, by: str) -> None:
        assert self._running is not None
        ledger = self._running.ledger
        ledger.wanted_rounds, ledger.opened = rounds, self._ctx.now
        self._ctx.tell(events.RunExtended(rounds, by))
        self._ending.extend()
        if not self._running.ready:
            self._ctx.do(Describe(ledger.spec, ledger.agreement))
        self._running.begin()

    # --- time -----------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        self._wake = self._lobby.wake = None
        self._exclusion.consider(self.ledger)
        if self._running is not None and self._running.ledger.last is None:
            self._consider_giving_up(self._running)
        if self._running is None:
            self._consider_founding()
        if self._running is not None and self._continuing.is_wanted:
            self._consider_continuing(self._running)
        if self._running is not None:
            self._running.advance()
        self._resumed_model.advance()
        self._wake = earliest(self._wake, self._resumed_model.retry_at)
        self._lobby_retries()
        if self._running is not None:
            running = self._running
            again = self._ending.consider_ending(
                running.ledger, fails_since=running.model_failing_since, flaw=running.model_flaw
            )
            self._wake = earliest(self._wake, again)
        self._consider_stopping()
        if self._running is not None:
            self._wake = earliest(self._wake, self._ending.consider_leaving(self._running))
        self._presence.refresh(self._condition())
        if self._running is not None:
            self._running.tidy(self._pinned_elsewhere)

    def _pinned_elsewhere(self) -> set[str]:
        """Return the blobs that this node keeps for runs it has left (rule "Pinned blobs").

        They are those of records that it accepted in open rounds, and of its updates for runs without a
        commit.
        """
        here = self.ledger.run if self.ledger else ""
        if self.ledger is not None and self.ledger.last is not None:
            self._updates.clear()
        updates = {digest for update in self._updates.values() for digest in update.blobs.digests}
        left = [vote.accepted for run, vote in self._votes.items() if run != here]
        return updates | {digest for one in left if one is not None for digest in one.blobs.digests}

    def _keep_update(self, left: Running) -> None:
        """Keep the update for a run without a commit, since this node may come back to the run."""
        if left.ledger.last is None and left.local_trainer.update is not None:
            self._updates[left.ledger.run] = left.local_trainer.update

    def _lobby_retries(self) -> None:
        lobby = self._lobby
        if lobby.ask_at is not None and self._ctx.now >= lobby.ask_at:
            lobby.ask_at, lobby.asking = None, "" if lobby.offered is None else lobby.asking

    def _consider_founding(self) -> None:
        ctx = self._ctx
        linked = [peer for node, peer in ctx.peers.items() if peer.linked and not ctx.exclusion(node)]
        free = [peer for peer in linked if peer.status is None or not peer.status.run]
        busy = [(peer, peer.status) for peer in linked if peer.status is not None and peer.status.run]
        if any(self._others.follows(status) for _, status in busy):
            return
        elsewhere = [peer for peer, status in busy if not self._abandoned_runs.is_hopeless(status.run)]
        genesis = self._lobby.found(free, elsewhere)
        if genesis is not None:
            self._abandoned_runs.founded = record_digest(genesis)
            created = self._lobby.created
            assert created is not None, "the run's first model is made"
            self._enter(self._abandoned_runs.founded, genesis, (), schema=created.schema)
            for entry in genesis.roster:
                self._ctx.send(entry.node, Offer(genesis))

    def _consider_giving_up(self, running: Running) -> None:
        """Leave a run without a commit if it cannot begin, and return to the lobby."""
        ledger = running.ledger
        if ledger.genesis.continues or running.acceptor.accepted is not None:
            return
        given_up, reason, wake = self._abandoned_runs.consider(
            ledger, running.model_failures, running.model_flaw
        )
        self._wake = earliest(self._wake, wake)
        if not given_up:
            return
        self._votes[ledger.run] = running.acceptor.vote()
        self._keep_update(running)
        running.close()
        self._running, self._ctx.run, self._ctx.is_begun = None, "", False
        self._abandoned_runs.give_up(ledger.run, reason, too_few=ledger.holds)
        if self._abandoned_runs.founded == ledger.run:
            self._abandoned_runs.fail(self._ctx.me.node, reason)
            self._ctx.options = msgspec.structs.replace(
                self._ctx.options, nonce=self._abandoned_runs.new_nonce()
            )
            self._ctx.broadcast(Decline(ledger.run, reason[:300]))
        self._ctx.warn(f"run {ledger.run[:12]} cannot begin and is given up: {reason}"[:400])
        self._lobby.start()

    def _consider_continuing(self, running: Running) -> None:
        genesis = self._continuing.found(running.ledger, ready=running.ready)
        if genesis is not None:
            self._enter(record_digest(genesis), genesis, (), schema=running.ledger.schema)
            for entry in genesis.roster:
                self._ctx.send(entry.node, Offer(genesis))

    def _consider_stopping(self) -> None:
        ledger = self.ledger
        if ledger is not None and self._continuing.beyond:
            self._wake = earliest(self._wake, self._continuing.consider_stopping(ledger))

    def _condition(self) -> NodeCondition:
        running = self._running
        local_trainer = running.local_trainer if running else None
        aggregator = running.aggregator if running else None
        ready = running.ready if running else self._lobby.described is not None
        ledger = running.ledger if running else None
        condition = NodeCondition(
            ledger, local_trainer, aggregator, ready, self._ending.is_leaving, self._lobby.is_waiting
        )
        if running is not None:
            return condition
        lobby = self._lobby
        return condition._replace(given=lobby.given, choice=lobby.choice, complete=lobby.is_complete)
