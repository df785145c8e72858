"""Ends a node's part in a run: when its operator asks it to leave, or when the run is complete.

`p2pfl.core.departure` makes the decisions. This module keeps the operator's request, reports it, and exits.
"""

from __future__ import annotations

from collections.abc import Callable

from p2pfl import events
from p2pfl.core.context import Context
from p2pfl.core.departure import (
    DroppedSituation,
    LeaveSituation,
    RemainingNode,
    decide_departure,
    decide_exit,
    decide_expulsion,
    decide_leaving,
)
from p2pfl.core.effects import Exit
from p2pfl.core.ledger import Ledger
from p2pfl.core.running import Running
from p2pfl.exit_codes import ExitCode


class Ending:
    """The end of one node's part in its run."""

    def __init__(self, ctx: Context, say: Callable[[], None]) -> None:
        """Create it idle; *say* sends this node's Status to the others if it has changed."""
        self._ctx = ctx
        self._say = say
        self.is_leaving = False
        """Whether the operator asked this node to leave."""
        self._expelled: tuple[ExitCode, str] | None = None
        """With which code and sentence this node, which is kept out, ends."""
        self._dropped: tuple[int, int, float] | None = None
        """The record that removed this leaving node, the training rounds up to it, and the time of its
        commit."""
        self._told = ""
        self._is_told = False
        self._serve_until = 0.0
        """Until when a node that was started on a finished run looks for the final model."""
        self._glance_until = 0.0
        """Until when such a node serves late nodes once it has the final model."""

    def serve(self) -> None:
        """Stay for a while after the end, because the run was finished before this node started."""
        self._serve_until = self._ctx.now + self._ctx.settings.linger
        self._glance_until = self._ctx.now + self._ctx.settings.glance

    def extend(self) -> None:
        """Reset the report of the end, because the run was extended."""
        self._is_told = False

    # --- leaving --------------------------------------------------------------------------------------------

    def leave(self, running: Running | None) -> None:
        """Leave at once if no member depends on this node, else with the next commit."""
        ctx = self._ctx
        self.is_leaving = True
        others = [e.node for e in running.ledger.roster if e.node != ctx.me.node] if running else []
        at_once, text = decide_leaving(
            LeaveSituation(
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

    def expel(self, running: Running | None, code: ExitCode, reason: str) -> None:
        """End with *code*, since this node is kept out for *reason*, once the others can do without it."""
        if self._expelled is not None:
            return
        self._expelled, self.is_leaving = (code, reason), True
        self._ctx.tell(events.Notice("error", reason))
        if running is None:
            self._ctx.do(Exit(code, reason))

    def _consider_expulsion(self, running: Running, code: ExitCode, reason: str) -> None:
        ctx, ledger = self._ctx, running.ledger
        others = [one for one in ledger.roster if one.node != ctx.me.node and not ctx.exclusion(one.node)]
        goes, why = decide_expulsion(
            is_member=ledger.is_member,
            is_over=ledger.is_over,
            others=ctx.count_seated(others),
            needed=ledger.needed,
            linked=sum(ctx.is_linked(one.node) for one in ledger.roster),
        )
        if goes:
            self._say()
            ctx.do(Exit(code, reason))
        elif why != self._told:
            self._told = why
            ctx.tell(events.Notice("info", why))

    def consider_leaving(self, running: Running) -> float | None:
        """Exit once a commit has removed this node and the others have its model, or once nobody is left.

        Return when to call this again.
        """
        if not self.is_leaving:
            return None
        if self._expelled is not None:
            self._consider_expulsion(running, *self._expelled)
            return None
        ledger = running.ledger
        others = [entry.node for entry in ledger.roster if entry.node != self._ctx.me.node]
        if not ledger.is_member:
            return self._consider_parting(running)
        if not any(self._ctx.is_linked(node) and not self._ctx.is_leaving(node) for node in others):
            self._exit_leaving(running, "nobody stays in the run")
        return None

    def _consider_parting(self, running: Running) -> float | None:
        """Exit once the remaining members have the model of the record that removed this node."""
        ctx, ledger = self._ctx, running.ledger
        if self._dropped is None:
            self._dropped = ledger.round, ledger.trained, ctx.now
        round_, trained, dropped_at = self._dropped
        said = [
            peer.status
            for entry in ledger.roster
            if ctx.is_seated(entry) and (peer := ctx.peers.get(entry.node)) is not None and peer.status
        ]
        goes, reason, again = decide_departure(
            DroppedSituation(
                holds=ledger.holds,
                holders=sum(status.round == ledger.round and status.holds for status in said),
                members=len(ledger.roster),
                reachable=ctx.count_seated(ledger.roster),
                is_past=ledger.round > round_ or any(status.round > ledger.round for status in said),
                dropped_at=dropped_at,
                linger=ctx.settings.linger,
                round_cap=ledger.spec.participation.round_cap,
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
        """Exit once every node has the final model or is given up; return when to call this again.

        *fails_since* is the time since which all pulls of that model have failed here, *flaw* the reason.
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

    def _other(self, node: str, ledger: Ledger) -> RemainingNode:
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
        if self._ctx.exclusion(node):
            given_up_at = self._ctx.now  # it gets no link any more
        if peer is not None and peer.declined == ledger.run:
            given_up_at = self._ctx.now  # it cannot take part in this run, whatever it is given
        return RemainingNode(self._ctx.name_of(node), confirmed, given_up_at)

    def _is_served_elsewhere(self, node: str, ledger: Ledger) -> bool:
        """Whether another member, linked with all others, serves *node*, which never linked here."""
        peers = self._ctx.peers
        if node in peers and peers[node].ever_linked:
            return False
        said = [peers[entry.node].status for entry in ledger.roster if entry.node in peers]
        return any(
            status is not None and status.run == ledger.run and status.links + 1 >= len(ledger.roster)
            for status in said
        )
