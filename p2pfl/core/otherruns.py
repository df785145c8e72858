"""Handles runs other than the node's own: which run it may join, move to, or has left for good.

`p2pfl.core.lobby` requests a run and enters it; this module decides which run. If both runs have committed
rounds, no node moves, unless the other run continues this one (`p2pfl.core.continuing`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from p2pfl.core.context import Context, PeerView
from p2pfl.core.continuing import Continuation
from p2pfl.core.effects import SaveClosed
from p2pfl.core.founding import prefers
from p2pfl.core.ledger import Ledger
from p2pfl.core.lobby import Lobby
from p2pfl.messages import Decline, Genesis, Member, Records, Status, record_digest


@dataclass
class OtherRuns:
    """State that lives as long as the node.

    Each call receives the ledger of the node's run, or None while the node is in no run.
    """

    ctx: Context
    lobby: Lobby
    continuing: Continuation
    closed: set[str]
    """Runs that this node has left for good."""
    _unrelated: dict[str, str] = field(default_factory=dict)
    """Run id by node, for peers whose run is known to be unrelated to this node's run."""

    def heard(self, ledger: Ledger | None, peer: PeerView, status: Status) -> None:
        """Handle the Status of a peer whose run differs from this node's run."""
        node = peer.member.node
        self._decline_to_come(node, status)
        if ledger is not None and status.run:
            self.continuing.hear_of_old_run(ledger, peer.name, status)
        if not status.run or not self.follows(status):
            return
        if ledger is None:
            self.lobby.ask(node, status.run)
        elif ledger.last is None:
            if prefers(ledger.run, status.run, status.round):
                self.lobby.ask(node, status.run)
        elif status.run in self.continuing.kin:
            self._meet(ledger, peer, self.continuing.kin[status.run])
        elif self._unrelated.get(node) != status.run:
            self.lobby.ask(node, status.run)  # record 0 tells whether it continues this one

    def offered(self, ledger: Ledger | None, member: Member, genesis: Genesis) -> None:
        """Handle record 0 of a run that *member* offers."""
        run = record_digest(genesis)
        peer = self.ctx.peers.get(member.node)
        if run in self.closed or peer is None or (ledger is not None and ledger.run == run):
            return
        if self.lobby.abandoned_runs.is_hopeless(run):
            return
        if ledger is not None and ledger.last is not None:
            self._meet(ledger, peer, genesis)
        elif ledger is None or prefers(ledger.run, run, 0):
            self.lobby.offer(member.node, genesis, ())

    def records(self, ledger: Ledger | None, member: Member, message: Records) -> None:
        """Handle records of another run, if this node has requested them."""
        genesis, peer = message.genesis, self.ctx.peers.get(member.node)
        if genesis is None or record_digest(genesis) != message.run or self.lobby.asking != message.run:
            return
        if ledger is None or ledger.last is None:
            self.lobby.offer(member.node, genesis, message.commits)
        elif peer is not None:
            self._meet(ledger, peer, genesis)

    def declined(self, ledger: Ledger | None, member: Member, message: Decline) -> None:
        """Remember that *member* does not take part in a run, and report why."""
        peer = self.ctx.peers.get(member.node)
        if peer is None or peer.declined == message.run:
            return
        peer.declined, peer.declined_because = message.run, message.reason
        if peer.last_run == message.run:
            # The member was in the run and now abandons the run that it founded.
            self.lobby.abandoned_runs.fail(member.node, message.reason)
            if ledger is None:
                self.lobby.abandoned_runs.give_up(message.run, message.reason)
        text = f"{peer.name} cannot take part in run {message.run[:12]}: {message.reason}"
        self.ctx.complain(member.node, "declined", text)

    def follows(self, status: Status) -> bool:
        """Whether this node would join the run a peer is in."""
        if status.run in self.closed or (status.ended and self.ctx.options.new_run):
            return False
        return not self.lobby.turns_down(status)

    def may_move(self, ledger: Ledger | None, genesis: Genesis) -> bool:
        """Whether this node may still move to another run; it may have committed a round meanwhile."""
        if ledger is None or ledger.last is None:
            return True
        return genesis.origin_in(ledger.run) is not None and self.continuing.follows(ledger, genesis)

    def close(self, run: str) -> None:
        """Leave *run* for good."""
        if run not in self.closed:
            self.closed.add(run)
            self.ctx.do(SaveClosed(run))

    def _decline_to_come(self, node: str, status: Status) -> None:
        """Send Decline to *node*, whose run has no commit yet, if this node will not join that run."""
        if status.run in self.closed and status.round == 0:
            self.ctx.send(node, Decline(status.run, "it has left that run for good"))
        elif status.round == 0 and (reason := self.lobby.turns_down(status)):
            self.ctx.send(node, Decline(status.run, reason[:300]))

    def _meet(self, ledger: Ledger, peer: PeerView, genesis: Genesis) -> None:
        """Handle record 0 of another run, from *peer*, while this run has commits."""
        run, node = record_digest(genesis), peer.member.node
        round_ = peer.status.round if peer.status is not None and peer.status.run == run else 0
        if genesis.origin_in(ledger.run) is not None:
            if self.continuing.follows(ledger, genesis):
                self.lobby.offer(node, genesis, ())
        elif self._unrelated.get(node) != run and round_ > 0:
            self._unrelated[node] = run
            self.ctx.warn(
                f"{peer.name} is in run {run[:12]}, record {round_}; this device is in "
                f"{ledger.run[:12]}, record {ledger.round}. Both have committed rounds, so neither moves: "
                "start one of them with --new-run"
            )
