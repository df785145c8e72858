"""Control requests: an operator pauses, resumes or ends the run (rule "Control requests").

A request is given at a member, which signs it. It is relayed to every node, also to nodes that link later.
Pausing and ending take effect through a record: the next record drafted by an aggregator that has heard of
the request. Resuming needs no vote. A request made before the last record that paused or ended the run is
already fulfilled and is ignored, however late it arrives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from p2pfl import events
from p2pfl.core.context import Context
from p2pfl.core.ledger import Ledger
from p2pfl.messages import ControlRequest
from p2pfl.proofs import is_request_valid

ENDED_NOW = "the run is ended at once, as an operator wants"
"""Why no member trains in a round that ends the run at once."""


@dataclass
class ControlRequests:
    """The control requests that no record has fulfilled yet."""

    ctx: Context
    ledger: Ledger
    open: dict[str, ControlRequest] = field(default_factory=dict)
    """Open requests by kind: "pause", "end", "end-now"."""

    def take(self, message: ControlRequest, source: str) -> bool:
        """Handle a request that node *source* relayed, and relay it once.

        Return whether it changes what this member works on.
        """
        ledger = self.ledger
        if message.run != ledger.run or not self._is_of_use(message) or not self._is_given(message, source):
            return False
        if message.what == "resume":
            self.resume(message.round, self.giver(message))
            self.ctx.broadcast(message)
            return True
        self.open[message.what] = message
        self.ctx.tell(events.ControlRequested(message.what, self.giver(message)))
        self.ctx.broadcast(message)
        self.resume(ledger.round, self.giver(message))  # the record that ends the run needs a round
        return True

    def _is_of_use(self, message: ControlRequest) -> bool:
        """Whether *message* asks for something that is neither true already nor requested already."""
        ledger = self.ledger
        if message.what == "resume":
            return ledger.is_paused and message.round == ledger.round
        return (
            message.what not in self.open
            and ledger.settled <= message.round <= ledger.round + 1
            and (ledger.is_open or (ledger.is_paused and message.what != "pause"))
        )

    def _is_given(self, message: ControlRequest, source: str) -> bool:
        """Whether a member gave and signed *message*; otherwise *source* is reported."""
        ctx, name = self.ctx, self.ctx.name_of(source)
        if all(entry.node != message.node for entry in self.ledger.roster):
            text = f"{name} passed on a request ({message.what}) from a node that is no member: it is ignored"
            ctx.complain(source, "stranger's request", text)
            return False
        if not is_request_valid(message, ctx.signer.verify):
            text = (
                f"{name} passed on a request ({message.what}) in the name of {ctx.name_of(message.node)}, "
                "which has not signed it: it is ignored. Look at that device"
            )
            ctx.complain(source, "forged request", text)
            return False
        return True

    def giver(self, control_request: ControlRequest) -> str:
        """Return who gave *control_request*, and at which node, for people."""
        return f"{control_request.by or 'somebody'} at {self.ctx.name_of(control_request.node)}"

    def resume(self, round_: int, by: str) -> bool:
        """Lift the pause after *round_* on behalf of *by*; return whether that changed anything."""
        if not self.ledger.resume(round_):
            return False
        self.ctx.tell(events.Resumed(round_, by))
        return True

    def repeat(self, node: str) -> None:
        """Send the open requests to *node*, which is newly linked."""
        for control_request in self.open.values():
            self.ctx.send(node, control_request)

    def settle(self) -> None:
        """Forget requests that the records have fulfilled; later requests stay."""
        for what, control_request in list(self.open.items()):
            if control_request.round < self.ledger.settled:
                del self.open[what]

    def objection(self, what: Literal["pause", "resume", "end", "end-now"]) -> str:
        """Return why an operator's request would change nothing now; empty when it would."""
        ledger = self.ledger
        if ledger.halted:
            return "two decisions of one round were seen: this node takes part in nothing any more"
        if ledger.is_over:
            return "the run is over"
        if not ledger.is_member:
            return "this device is no member of the run (yet): ask at one that is"
        if what == "resume":
            if "pause" in self.open:
                return "the run pauses with the next commit; it can be resumed after that"
            return "" if ledger.is_paused else "the run is not paused"
        if what == "pause" and ledger.is_paused:
            return f"the run is paused after round {ledger.trained} already"
        if what in self.open:
            return f"{self.giver(self.open[what])} wanted that already; it comes with the next commit"
        return ""
