"""A member in a run, for unit tests of `p2pfl.core.running` and its parts."""

from __future__ import annotations

from typing import Any

from p2pfl.core.effects import AnyEffect
from p2pfl.core.running import Running
from p2pfl.core.saved import Vote
from p2pfl.messages import Commit, Record
from p2pfl.spec import RunSpec
from tests.support.core import chain_of, context, ledger, member, model, taken
from tests.support.records import NAMES, node


class Bench:
    """A member in the round after the last commit of its chain; calls return the effects."""

    def __init__(
        self,
        rounds: int = 1,
        *,
        members: tuple[str, ...] = NAMES[:3],
        vote: Vote | None = None,
        restored: Any = None,
        spec: RunSpec | None = None,
    ) -> None:
        self.ctx = context("ada", linked=members[1:])
        self.chain = chain_of(*members, rounds=rounds, spec=spec)
        self.ledger = ledger(self.ctx, self.chain)
        self.it = Running(self.ctx, self.ledger, ready=True)
        self.it.open_round(vote, restored)
        self.began = taken(self.ctx)

    def hear(self, name: Any, message: Any) -> list[AnyEffect]:
        self.it.received(member(name), message)
        return taken(self.ctx)

    def advance(self, seconds: float = 0.0) -> list[AnyEffect]:
        self.ctx.now += seconds
        self.it.advance()
        return taken(self.ctx)

    def learn(self, *commits: Commit) -> list[AnyEffect]:
        self.it.learned(node("ben"), commits)
        return taken(self.ctx)

    def proposal(self, word: str = "average", state: str = "") -> Record:
        record = self.chain.commit(model=model(word), state=state or None).record
        self.chain.commits.pop()
        return record
