"""What operators want of a run: that it pauses, goes on, ends (DESIGN, rule 13).

A wish may be uttered at any node and reaches everybody, also those who are linked only later. Pausing and
ending are done by a record: the next one that an aggregator drafts which has heard of it. Going on needs no
vote.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from p2pfl import events
from p2pfl.core.context import Context
from p2pfl.core.ledger import Ledger
from p2pfl.messages import Wish

ENDED_NOW = "the run is ended at once, as an operator wants"
"""Why nobody trains in a round that is to end the run."""


@dataclass
class Wishes:
    """The wishes that no record has fulfilled yet."""

    ctx: Context
    ledger: Ledger
    open: dict[str, Wish] = field(default_factory=dict)
    """By kind: "pause", "end", "end-now"."""
    _fulfilled: int = 0
    """The last round that fulfilled a wish: late copies of older wishes are void."""

    def take(self, message: Wish) -> bool:
        """Take a wish and pass it on, once; return whether it changes what this member works on."""
        ledger = self.ledger
        if message.run != ledger.run:
            return False
        if message.what == "resume":
            if not self.resume(message.round, message.by):
                return False
            self.ctx.broadcast(message)
            return True
        if (
            message.what in self.open
            or not self._fulfilled <= message.round <= ledger.round + 1
            or not (ledger.is_open or (ledger.is_paused and message.what != "pause"))
        ):
            return False
        self.open[message.what] = message
        self.ctx.tell(events.Wanted(message.what, message.by))
        self.ctx.broadcast(message)
        self.resume(ledger.round, message.by)  # the record that ends the run needs a round
        return True

    def resume(self, round_: int, by: str) -> bool:
        """Lift the pause after *round_*, as *by* wants; return whether that changed anything."""
        if not self.ledger.resume(round_):
            return False
        self.ctx.tell(events.Resumed(round_, by))
        return True

    def repeat(self, node: str) -> None:
        """Tell *node*, which is newly linked, of what it may have missed."""
        for wish in self.open.values():
            self.ctx.send(node, wish)

    def fulfil(self, round_: int) -> None:
        """Forget what the record of *round_* has done."""
        self.open.clear()
        self._fulfilled = round_

    def objection(self, what: Literal["pause", "resume", "end", "end-now"]) -> str:
        """Return why an operator's wish would change nothing now; empty where it would."""
        ledger = self.ledger
        if ledger.halted:
            return "two decisions of one round were seen: this node takes part in nothing any more"
        if ledger.is_over:
            return "the run is over"
        if what == "resume":
            if "pause" in self.open:
                return "the run pauses with the next commit; it can be resumed after that"
            return "" if ledger.is_paused else "the run is not paused"
        if what == "pause" and ledger.is_paused:
            return f"the run is paused after round {ledger.trained} already"
        if what in self.open:
            return f"{self.open[what].by or 'somebody'} wanted that already; it comes with the next commit"
        return ""
