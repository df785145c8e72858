"""A node that others are ahead of: what it keeps of their next round, and when it asks for what it lacks.

Messages of different peers overtake each other. Where rounds are short the next aggregator's first message
often arrives before the commit that the last one is still sending, so it is kept until that commit is here,
and the node asks for it only when it does not come by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from p2pfl.core.context import Context
from p2pfl.core.ledger import Ledger
from p2pfl.messages import (
    Accept,
    Accepted,
    Ack,
    Collect,
    Member,
    Prepare,
    Promise,
    RecordsRequest,
    Refuse,
    StepDown,
    Submit,
    Undelivered,
)

RoundMessage = (
    Prepare | Promise | Refuse | Collect | Submit | Ack | Accept | Accepted | Undelivered | StepDown
)
"""Messages that belong to one round of one run."""


class _Suspicion(NamedTuple):
    """That *node* knows the commit of *round*, as it has come to the one after it."""

    node: str
    round: int
    ask_at: float


@dataclass
class CatchUp:
    """Kept for as long as the node is in the run."""

    ctx: Context
    ledger: Ledger
    _early: dict[tuple[str, type[RoundMessage]], tuple[Member, RoundMessage]] = field(default_factory=dict)
    """Of the round after the open one, by sender and kind; the newest of each, so at most three a peer."""
    _not_before: float = 0.0
    """When the next Ask may go out."""
    _suspicion: _Suspicion | None = None

    # --- asking ---------------------------------------------------------------------------------------------

    def ask(self, node: str) -> None:
        """Ask *node* for the records after the last one here; at most once in `resend` seconds."""
        if self.ctx.now >= self._not_before:
            self._not_before = self.ctx.now + self.ctx.settings.resend
            self.ctx.send(node, RecordsRequest(self.ledger.run, self.ledger.round))

    def ask_again(self) -> None:
        """Allow the next `ask` at once: an answer came and more is wanted."""
        self._not_before = self.ctx.now

    def suspect(self, node: str, round_: int) -> None:
        """Take note that *node* knows the commit of *round_*: ask for it, the next one a little later."""
        if round_ > self.ledger.round + 1:
            self.ask(node)
        elif round_ > self.ledger.round and self._suspicion is None:
            self._suspicion = _Suspicion(node, round_, self.ctx.now + self.ctx.settings.overtaken)

    def advance(self) -> None:
        """Ask for a commit that has not come by itself."""
        suspicion = self._suspicion
        if suspicion is None:
            return
        if suspicion.round <= self.ledger.round:
            self._suspicion = None
        elif self.ctx.now >= suspicion.ask_at:
            self._suspicion = None
            self.ask(suspicion.node)

    @property
    def deadline(self) -> float | None:
        """When `advance` is due if nothing happens."""
        return self._suspicion.ask_at if self._suspicion is not None else None

    # --- early messages -------------------------------------------------------------------------------------

    def keep(self, member: Member, message: RoundMessage) -> None:
        """Keep a message of a round that is not open yet, if it is the next one and not an answer."""
        self.suspect(member.node, message.round - 1)
        if message.round == self.ledger.round + 2 and isinstance(message, Prepare | Collect | Accept):
            self._early[member.node, type(message)] = member, message

    def release(self, receive: Callable[[Member, RoundMessage], None]) -> None:
        """Let *receive* have what was kept, once its round is open."""
        if self._early and any(message.round <= self.ledger.round + 1 for _, message in self._early.values()):
            early, self._early = self._early, {}
            for member, message in early.values():
                receive(member, message)
