"""How a node's part in a run ends: politely in the middle of it, or when the run is complete.

`p2pfl.core.departure` decides; here is what was asked for, what was told, and the exit.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pfl import events
from p2pfl.core.context import Context
from p2pfl.core.departure import Farewell, Legacy, Other, decide_exit, decide_leaving, decide_parting
from p2pfl.core.effects import Exit
from p2pfl.core.ledger import Ledger
from p2pfl.core.running import Running
from p2pfl.exit_codes import ExitCode


class Ending:
    """The end of one node's part."""

    def __init__(self, ctx: Context, say: Callable[[], None]) -> None:
        """Begin nothing; *say* sends the others this node's Status, if it has changed."""
        self._ctx = ctx
        self._say = say
        self.is_leaving = False
        """Whether its operator wants this node to leave."""
        self._dropped: tuple[int, int, float] | None = None
        """The record that dropped this node, which is leaving, the rounds of training up to it, and when."""
        self._told = ""
        self._is_told = False
        self._serve_until = 0.0
        """How long a node that was started on a finished run looks for the final model."""
        self._glance_until = 0.0
        """How long such a node stays for whoever may come, once it has the final model."""

    def serve(self) -> None:
        """Stay for a while after the end: the run was finished when this node was started."""
        self._serve_until = self._ctx.now + self._ctx.settings.linger
        self._glance_until = self._ctx.now + self._ctx.settings.glance

    def extend(self) -> None:
        """Take note that the run has more rounds: its end will have to be told once more."""
        self._is_told = False

    # --- leaving --------------------------------------------------------------------------------------------

    def leave(self, running: Running | None) -> None:
        """Leave: at once where nobody would miss this node, else with the next commit."""
        ctx = self._ctx
        self.is_leaving = True
        others = [e.node for e in running.ledger.roster if e.node != ctx.me.node] if running else []
        at_once, text = decide_leaving(
            Farewell(
                in_run=running is not None,
                is_over=running is not None and running.ledger.is_over,
                is_member=running is not None and running.ledger.is_member,
                others=len(others),
                reachable=sum(ctx.is_linked(node) for node in others),
                leaving=sum(ctx.is_leaving(node) for node in others),
            )
        )
        ctx.tell(events.Notice("info", text))
        if running is not None:
            running.leave()
        if at_once:
            self._exit_leaving(running, text)

    def consider_leaving(self, running: Running) -> float | None:
        """Exit once a commit has dropped this node and its model is where it is needed, or nobody is left.

        Return when to look again.
        """
        if not self.is_leaving:
            return None
        ledger = running.ledger
        others = [entry.node for entry in ledger.roster if entry.node != self._ctx.me.node]
        if not ledger.is_member:
            return self._consider_parting(running)
        if not any(self._ctx.is_linked(node) and not self._ctx.is_leaving(node) for node in others):
            self._exit_leaving(running, "nobody stays in the run")
        return None

    def _consider_parting(self, running: Running) -> float | None:
        """Exit once those who stay have the model of the record that dropped this node."""
        ctx, ledger = self._ctx, running.ledger
        if self._dropped is None:
            self._dropped = ledger.round, ledger.trained, ctx.now
        round_, trained, dropped_at = self._dropped
        said = [
            peer.status
            for entry in ledger.roster
            if ctx.is_seated(entry) and (peer := ctx.peers.get(entry.node)) is not None and peer.status
        ]
        goes, reason, again = decide_parting(
            Legacy(
                holds=ledger.holds,
                holders=sum(status.round == ledger.round and status.holds for status in said),
                members=len(ledger.roster),
                reachable=ctx.count_seated(ledger.roster),
                is_past=ledger.round > round_ or any(status.round > ledger.round for status in said),
                dropped_at=dropped_at,
                linger=ctx.settings.linger,
                round_cap=ledger.spec.round_cap,
                now=ctx.now,
            )
        )
        if goes:
            self._exit_leaving(running, f"left the run after round {trained}: {reason}")
        elif reason != self._told:
            self._told = reason
            ctx.tell(events.Notice("info", f"left the run after round {trained}; {reason}"))
        return again

    def _exit_leaving(self, running: Running | None, reason: str) -> None:
        self._say()
        complete = running is not None and running.ledger.is_over and running.ledger.holds
        code = ExitCode.LEFT
        if complete and running is not None:
            code = ExitCode.COMPLETE if running.ledger.is_trained else ExitCode.UNTRAINED
        self._ctx.do(Exit(code, reason))

    # --- the end of the run ---------------------------------------------------------------------------------

    def consider_ending(
        self, ledger: Ledger, *, fails_since: float | None = None, flaw: str = ""
    ) -> float | None:
        """Exit once everybody has the final model, or cannot be waited for; return when to look again.

        *fails_since* is since when nothing of that model has come here although it was tried, *flaw* why.
        """
        ctx = self._ctx
        if not ledger.is_over:
            return None
        if ledger.holds and not self._is_told:
            self._is_told = True
            ledger.tell_end()
        if ctx.options.stay:
            return None
        nodes = {entry.node for entry in ledger.roster}
        nodes |= {n for n, p in ctx.peers.items() if p.linked and p.status and p.status.run == ledger.run}
        others = [self._other(node, ledger) for node in sorted(nodes - {ctx.me.node})]
        code, reason, again = decide_exit(
            others,
            holds=ledger.holds,
            serve_until=self._glance_until if ledger.holds else self._serve_until,
            now=ctx.now,
            hopeless_at=None if fails_since is None else fails_since + ctx.settings.linger,
            flaw=flaw,
            is_trained=ledger.is_trained,
            is_whole=ledger.trained >= ledger.rounds,
        )
        if code is not None:
            self._say()
            ctx.do(Exit(code, reason))
        return again

    def _other(self, node: str, ledger: Ledger) -> Other:
        peer = self._ctx.peers.get(node)
        status = peer.status if peer is not None else None
        confirmed = (
            status is not None and status.ended and status.run == ledger.run and status.round >= ledger.round
        )
        since = self._ctx.unlinked_since(node)
        if peer is not None and status is not None and status.run != ledger.run:
            since = peer.since  # linked, but in no run or in another one: it will not confirm this one
        settings = self._ctx.settings
        linger = settings.start_grace if self._is_served_elsewhere(node, ledger) else settings.linger
        given_up_at = None if since is None else since + linger
        if self._glance_until and ledger.holds and not (peer is not None and peer.ever_linked):
            given_up_at = self._glance_until  # it got its chance when the run ended
        if peer is not None and peer.declined == ledger.run:
            given_up_at = self._ctx.now  # it cannot take part in this run, whatever it is given
        return Other(self._ctx.name_of(node), confirmed, given_up_at)

    def _is_served_elsewhere(self, node: str, ledger: Ledger) -> bool:
        """Whether *node*, never linked with this one, is left to a member that was linked with all others."""
        peers = self._ctx.peers
        if node in peers and peers[node].ever_linked:
            return False
        said = [peers[entry.node].status for entry in ledger.roster if entry.node in peers]
        return any(
            status is not None and status.run == ledger.run and status.links + 1 >= len(ledger.roster)
            for status in said
        )
