"""A core node with its inputs and effects, for unit tests of `p2pfl.core.node` and its parts."""

from __future__ import annotations

from typing import Any

from p2pfl.cards import DataCard
from p2pfl.core import inputs
from p2pfl.core.effects import AnyEffect
from p2pfl.core.inputs import AnyInput
from p2pfl.core.ledger import Ledger
from p2pfl.core.node import Node
from p2pfl.core.saved import Saved, SavedRun
from p2pfl.messages import Card, Offer, Status
from p2pfl.schema import TensorSpec
from p2pfl.spec import RunSpec
from tests.support.core import chain_of, member, options, status
from tests.support.keys import signer
from tests.support.known import known
from tests.support.records import AGREEMENT, CARD, NAMES, SCHEMA, Chain

EMPTY = Saved(None, {}, frozenset())


class Device:
    """The node of device "ada", started at time 100; calls return the effects."""

    def __init__(self, saved: Saved = EMPTY, **changes: bool | int | frozenset[str] | RunSpec) -> None:
        self.node = Node(member("ada"), "ada", options(**changes), saved, signer("ada"))
        self.began = self.node.start(100.0)
        self.now = 100.0

    @property
    def ledger(self) -> Ledger:
        """The ledger of the run that the node is in."""
        return known(self.node.ledger)

    def feed(self, event: AnyInput, seconds: float = 0.0) -> Any:
        self.now += seconds
        return self.node.input(event, self.now)

    def link(self, *names: str) -> list[AnyEffect]:
        effects = [effect for name in names for effect in self.feed(inputs.Linked(member(name), name))]
        for name in names:
            self.hear(name, Card(CARD))
        return effects

    def hear(self, name: Any, message: Any) -> Any:
        return self.feed(inputs.Received(member(name), message))

    def describe(
        self, spec: RunSpec | None = None, schema: tuple[TensorSpec, ...] = SCHEMA, card: DataCard = CARD
    ) -> Any:
        """The worker's answer about the run of *spec*; without it, about this node's own task."""
        if spec is None:
            return self.feed(inputs.Described(self.node._ctx.options.spec, None, None, card))
        return self.feed(inputs.Described(spec, AGREEMENT, schema, card))


def in_run(chain: Chain, **changes: Any) -> Device:
    """A node restored into *chain*, with the last model on its disk and a ready worker."""
    last = chain.commits[-1] if chain.commits else None
    saved = SavedRun(chain.run, chain.genesis, last, changes.pop("update", None), resumed=False)
    device = Device(Saved(saved, changes.pop("votes", {}), frozenset()), **changes)
    ledger = device.ledger
    device.feed(inputs.BlobReady(ledger.model, durable=True))
    device.describe(ledger.spec)
    return device


def where(chain: Chain, **changes: int) -> Status:
    """The status of a peer at the head of *chain*."""
    last = chain.commits[-1].record if chain.commits else None
    digest = chain.run if last is None else chain_digest(chain)
    said = {"run": chain.run, "round": len(chain.commits), "record": digest, "holds": True, "rounds": 10}
    return status(**(said | changes))


def chain_digest(chain: Chain) -> str:
    follower = chain_of(*NAMES[:3])
    follower.commits = list(chain.commits)
    return follower.commit().record.previous


def joined(chain: Chain) -> tuple[Device, list[AnyEffect]]:
    """A node that has received record 0 of *chain* and joined its run."""
    device = Device()
    device.link("ben", "cleo")
    device.describe()
    device.hear("ben", Offer(chain.genesis))
    device.describe(chain.genesis.spec)
    return device, device.feed(inputs.BlobReady(chain.genesis.model, durable=True))
