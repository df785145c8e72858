"""An aggregator of three members, for unit tests of `p2pfl.core.aggregator` and its parts."""

from __future__ import annotations

from typing import Any

from p2pfl.core.acceptor import Acceptor
from p2pfl.core.aggregator import Aggregator
from p2pfl.core.effects import AnyEffect
from p2pfl.messages import (
    Accepted,
    Ballot,
    Commit,
    Evaluation,
    Promise,
    Submit,
    UpdateEntry,
    record_digest,
)
from p2pfl.strategy_specs import control_slots
from p2pfl.work import AggregatedModel
from tests.support.core import chain_of, context, ledger, member, taken
from tests.support.known import known
from tests.support.records import NAMES, Chain, controlled, signed, update


class Bench:
    """An aggregator of three members with its ledger and acceptor; calls return the effects."""

    def __init__(
        self,
        chain: Chain | None = None,
        *,
        me: Any = "ada",
        linked: tuple[Any, ...] | tuple[str, ...] = NAMES[1:3],
    ) -> None:
        self.chain = chain or chain_of(*NAMES[:3])
        self.ctx = context(me, linked=linked)
        self.ledger = ledger(self.ctx, self.chain)
        me = self.ctx.me
        self.acceptor = Acceptor(self.ctx, self.ledger, lambda answer: self.it.accepted(me, answer))
        self.committed: list[Commit] = []
        self.it = Aggregator(self.ctx, self.ledger, self.acceptor, self.committed.append, set())

    @property
    def round(self) -> Any:
        return self.ledger.round + 1

    def run_for_election(self) -> list[AnyEffect]:
        self.it.run_for_election("first in rank")
        return taken(self.ctx)

    def promise(
        self,
        name: Any,
        accepted_ballot: Any = None,
        accepted: Any = None,
        *,
        journal: Any = "",
        of: Ballot | None = None,
    ) -> Any:
        voted_for = of or known(self.it.ballot)
        vote = signed(name, self.chain.run, self.round, voted_for)
        message = Promise(self.chain.run, self.round, voted_for, accepted_ballot, accepted, vote)
        self.it.promise(member(name, journal), message)
        return taken(self.ctx)

    def elect(self) -> list[AnyEffect]:
        return [*self.run_for_election(), *self.promise("ben")]

    def submit(
        self,
        name: Any,
        examples: Any = 100,
        *,
        previous: Any = None,
        evaluation: Evaluation | None = None,
        announced: Any = True,
        declined: str = "",
    ) -> list[AnyEffect]:
        message = Submit(
            self.chain.run,
            self.round,
            known(self.it.ballot),
            previous or self.ledger.digest,
            self.update_of(name, examples) if announced else None,
            declined,
            evaluation,
        )
        self.it.submit(member(name), message)
        return taken(self.ctx)

    def update_of(self, name: str, examples: int = 100) -> UpdateEntry:
        """The update of *name* in the open round."""
        entry = update(name, self.round, examples)
        return controlled(entry) if control_slots(self.ledger.spec.strategy) else entry

    def pulled(self, *digests: str, durable: bool = False) -> list[AnyEffect]:
        self.it.blob_ready(digests, durable=durable)
        return taken(self.ctx)

    def count(self, *names: str) -> None:
        """Have the updates of *names* counted."""
        for name in names:
            self.submit(name)
            self.pulled(*self.update_of(name).blobs.digests)

    def advance(self, seconds: float = 0.0) -> list[AnyEffect]:
        self.ctx.now += seconds
        self.it.advance()
        return taken(self.ctx)

    def aggregate(self, result: Any) -> list[AnyEffect]:
        """End the aggregation asked for last: *result* is a model's digest or another result."""
        self.it.aggregated(known(self.it.job), AggregatedModel(result) if isinstance(result, str) else result)
        return taken(self.ctx)

    def accepted(self, name: Any, *, record: Any = None, journal: Any = "", of: Any = None) -> Any:
        digest = record or record_digest(known(self.it.proposal))
        voted_for = of or known(self.it.ballot)
        vote = signed(name, self.chain.run, self.round, voted_for, digest)
        message = Accepted(self.chain.run, self.round, voted_for, digest, vote)
        self.it.accepted(member(name, journal), message)
        return taken(self.ctx)
