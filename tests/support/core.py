"""Builders for unit tests of the core: contexts, ledgers, links; and filters for lists of effects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from p2pfl.config import ProtocolSettings
from p2pfl.core.context import Context, PeerView
from p2pfl.core.effects import AnyEffect, Effect, Send, Tell
from p2pfl.core.inputs import Trained
from p2pfl.core.ledger import Ledger
from p2pfl.core.options import Options, Policy
from p2pfl.events import Event
from p2pfl.messages import Ballot, Member, Status, Struct
from p2pfl.spec import RunSpec
from p2pfl.work import TrainingJob
from tests.support.keys import signer
from tests.support.records import (
    CARD,
    NAMES,
    SCHEMA,
    SPEC,
    Chain,
    digest,
    genesis,
    journal,
    node,
    result_with,
)

NOW = 100.0
"""Time at which a test's context begins: later than all grace periods after a start at 0."""

AnyKind = TypeVar("AnyKind", bound=Effect)
AnyMessage = TypeVar("AnyMessage", bound=Struct)
AnyNews = TypeVar("AnyNews", bound=Event)


def member(name: str, other_journal: str = "") -> Member:
    """The member of device *name*; with *other_journal*, after the device lost its disk."""
    return Member(node(name), journal(other_journal or name))


def ballot(attempt: int, name: str) -> Ballot:
    return Ballot(attempt, node(name))


def options(**changes: object) -> Options:
    made = Options(spec=SPEC, given=frozenset(), partitions=0, min_nodes=3, nonce="ab" * 16)
    return msgspec.structs.replace(made, **changes)


def context(name: str = "ada", *, linked: Iterable[str] = NAMES[1:3], started: float = 0.0) -> Context:
    """A context of device *name* at `NOW`, linked to the devices *linked*."""
    made = Context(
        member(name), name, ProtocolSettings(), options(), Policy(), signer(name), now=NOW, started=started
    )
    for other in linked:
        link(made, other)
    return made


def link(ctx: Context, name: str, status: Status | None = None, other_journal: str = "") -> PeerView:
    """Link device *name*, whose last status is *status*."""
    peer = PeerView(member(name, other_journal), name, linked=True, ever_linked=True, since=ctx.now)
    peer.status, peer.card = status, CARD
    ctx.peers[node(name)] = peer
    ctx.names[node(name)] = name
    return peer


def unlink(ctx: Context, name: str) -> None:
    ctx.peers[node(name)].linked = False
    ctx.peers[node(name)].since = ctx.now


def ledger(ctx: Context, chain: Chain | None = None, *, spec: RunSpec | None = None) -> Ledger:
    """A ledger of *chain* (default: three members, no commit), with its last model durable."""
    start = chain or chain_of(*NAMES[:3], spec=spec)
    last = start.commits[-1] if start.commits else None
    made = Ledger(ctx, start.run, start.genesis, last, holds=True, schema=SCHEMA)
    made.opened = ctx.now
    return made


def chain_of(*names: str, rounds: int = 0, spec: RunSpec | None = None) -> Chain:
    """A run with the members *names* and *rounds* commits."""
    first = genesis(names=names)
    chain = Chain(msgspec.structs.replace(first, spec=spec) if spec is not None else first)
    for _ in range(rounds):
        chain.commit()
    return chain


def status(**changes: object) -> Status:
    """The status of a ready node that is in no run."""
    made = Status(
        run="",
        round=0,
        record="",
        holds=False,
        ended=False,
        rounds=0,
        resumed=False,
        phase="idle",
        progress=0.0,
        predicted=0.0,
        links=2,
        ready=True,
        min_nodes=3,
        waiting=False,
        given=(),
        choice=0,
        complete=False,
        steps=1,
    )
    return msgspec.structs.replace(made, **changes)


def taken(ctx: Context) -> list[AnyEffect]:
    """Remove and return the effects so far from the context."""
    effects, ctx.effects = ctx.effects, []
    return effects


def of_kind(effects: Sequence[AnyEffect], *kinds: type[AnyKind]) -> list[AnyKind]:
    """The effects of *kinds*, in order."""
    return [effect for effect in effects if isinstance(effect, kinds)]


def sent(effects: Sequence[AnyEffect], kind: type[AnyMessage]) -> list[AnyMessage]:
    """The sent messages of *kind*, in order."""
    return [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, kind)]


def receivers(effects: Sequence[AnyEffect], kind: type[AnyMessage]) -> list[str]:
    """The receivers' node ids of the sent messages of *kind*, in order."""
    return [e.to for e in effects if isinstance(e, Send) and isinstance(e.message, kind)]


def told(effects: Sequence[AnyEffect], kind: type[AnyNews]) -> list[AnyNews]:
    """The published events of *kind*, in order."""
    return [e.event for e in effects if isinstance(e, Tell) and isinstance(e.event, kind)]


def model(word: object) -> str:
    """A digest for a model that belongs to no chain."""
    return digest(("some model", word))


def training(chain: Chain, round_: int, parent: str, partition: int = 0, memory: str = "") -> TrainingJob:
    """A training for *round_* of the run of *chain*."""
    states = [one.record.blobs.state for one in chain.commits if one.record.model == parent]
    return TrainingJob(
        chain.run,
        round_,
        chain.genesis.spec,
        chain.genesis.agreement,
        parent,
        partition,
        round_ - 1,
        chain.genesis.spec.rounds,
        state=states[-1] if states else "",
        members=len(chain.genesis.roster),
        memory=memory,
    )


def trained(chain: Chain, round_: int, parent: str, update: str, memory: str = "") -> Trained:
    """What the worker answers to that: *update* is the blob's digest."""
    return Trained(training(chain, round_, parent, memory=memory), result_with(update))
