"""Catch-up: requests missing records, and buffers messages of the next round until its round opens.

Messages of different peers can arrive in any order. In short rounds the next aggregator's first message often
arrives before the last commit, which its sender is still broadcasting. The node buffers such a message and
requests the commit only if the commit does not arrive by itself.
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


class _KnownCommit(NamedTuple):
    """*node* is in the round after *round*, so it knows the commit of *round*."""

    node: str
    round: int
    ask_at: float


@dataclass
class CatchUp:
    """State that lives as long as the node is in the run."""

    ctx: Context
    ledger: Ledger
    _early: dict[tuple[str, type[RoundMessage]], tuple[Member, RoundMessage]] = field(default_factory=dict)
    """Messages of the next round by sender and type; the newest of each, so at most three for each peer."""
    _not_before: float = 0.0
    """Earliest time of the next RECORDS_REQUEST."""
    _suspicion: _KnownCommit | None = None

    # --- asking ---------------------------------------------------------------------------------------------

    def ask(self, node: str) -> None:
        """Request the records after the last one here from *node*, at most once in `resend` seconds."""
        if self.ctx.now >= self._not_before:
            self._not_before = self.ctx.now + self.ctx.settings.resend
            self.ctx.send(node, RecordsRequest(self.ledger.run, self.ledger.round))

    def ask_again(self) -> None:
        """Allow the next `ask` at once, because an answer arrived and more records are missing."""
        self._not_before = self.ctx.now

    def suspect(self, node: str, round_: int) -> None:
        """Remember that *node* knows the commit of *round_*; request it if it does not arrive soon."""
        if round_ > self.ledger.round + 1:
            self.ask(node)
        elif round_ > self.ledger.round and self._suspicion is None:
            self._suspicion = _KnownCommit(node, round_, self.ctx.now + self.ctx.settings.overtaken)

    def advance(self) -> None:
        """Request a commit that has not arrived by itself."""
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
        """Return when `advance` is due if nothing happens."""
        return self._suspicion.ask_at if self._suspicion is not None else None

    # --- early messages -------------------------------------------------------------------------------------

    def keep(self, member: Member, message: RoundMessage) -> None:
        """Buffer a message of the next round, if it is no answer."""
        self.suspect(member.node, message.round - 1)
        if message.round == self.ledger.round + 2 and isinstance(message, Prepare | Collect | Accept):
            self._early[member.node, type(message)] = member, message

    def release(self, receive: Callable[[Member, RoundMessage], None]) -> None:
        """Pass the buffered messages to *receive* once their round is open."""
        if self._early and any(message.round <= self.ledger.round + 1 for _, message in self._early.values()):
            early, self._early = self._early, {}
            for member, message in early.values():
                receive(member, message)
