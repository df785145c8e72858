"""A member in a run, for unit tests of `p2pfl.core.running` and its parts."""

from p2pfl.core.running import Running
from tests.support.core import chain_of, context, ledger, member, model, taken
from tests.support.records import NAMES, node


class Bench:
    """A member in the round after the last commit of its chain; calls return the effects."""

    def __init__(self, rounds=1, *, members=NAMES[:3], vote=None, restored=None):
        self.ctx = context("ada", linked=members[1:])
        self.chain = chain_of(*members, rounds=rounds)
        self.ledger = ledger(self.ctx, self.chain)
        self.it = Running(self.ctx, self.ledger, ready=True)
        self.it.open_round(vote, restored)
        self.began = taken(self.ctx)

    def hear(self, name, message):
        self.it.received(member(name), message)
        return taken(self.ctx)

    def advance(self, seconds=0.0):
        self.ctx.now += seconds
        self.it.advance()
        return taken(self.ctx)

    def learn(self, *commits):
        self.it.learned(node("ben"), commits)
        return taken(self.ctx)

    def proposal(self, word="average"):
        record = self.chain.commit(model=model(word)).record
        self.chain.commits.pop()
        return record
