"""Before a run: who is here, who founds, and how a node takes a run that others have.

Founding is no vote: the lowest node id among those that reach all that are needed founds, and a second run
that a partition gave birth to meets the first one while neither has committed anything (`prefers`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from p2pfl.core.abandoned_runs import MODEL_TRIES, AbandonedRuns
from p2pfl.core.context import Context, PeerView, earliest
from p2pfl.core.effects import Create, Describe, Exit, Fetch, ReadSchema
from p2pfl.core.inputs import Created, Described, SchemaRead
from p2pfl.core.roster import Newcomer, contains, genesis_roster
from p2pfl.events import Notice, Waiting
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import (
    Commit,
    Decline,
    Genesis,
    Provenance,
    RecordBlobs,
    RecordsRequest,
    Status,
    record_digest,
)
from p2pfl.schema import Schema, first_difference, layout_of
from p2pfl.spec import DataCard, RunSpec, merge_cards, stated_examples, with_options

OFFER_PATIENCE = 10.0
"""Seconds for which a run that was offered, and is not taken yet, keeps others from being looked at."""

MAX_DECLINED = 16
"""Runs remembered that could not be taken."""

MAX_DECLINED_OF_PEER = 3
"""Such runs of one peer in `declined_rest` seconds: then it is not listened to for that time. Each costs the
worker a description."""

READY_PATIENCE = 10
"""A present node whose worker is still loading is waited for this many `steady` times, then the others found
without it."""


class FoundingSituation(msgspec.Struct, frozen=True):
    """What decides whether to found now."""

    me: str
    here: frozenset[str]
    """This node and the linked ones in no run that are ready."""
    loading: int
    """Linked nodes in no run, or this one, whose worker is still loading."""
    needed: int
    """The largest `min_nodes` among those in no run."""
    holder: str
    """Name of a node whose operator holds the start; empty when nobody does."""
    elsewhere: tuple[str, ...]
    """Names of linked nodes in a run this node does not follow."""
    unfit: str
    """Why this node cannot take part in the run of one of them; empty where it could."""
    steady_since: float
    steady: float
    now: float
    cut_off: frozenset[str] = frozenset()
    """Those of `here` that are linked to fewer than `needed` nodes, and so never found: firewalls keep some
    pairs apart."""
    unable: Mapping[str, str] = {}
    """Nodes whose last founding came to nothing, and why: they let others try."""
    next_try: float | None = None
    """When the first of these may found again."""
    apart: str = ""
    """Why the data of those who are here do not go together; empty where they do."""


def decide_founding(present: FoundingSituation) -> tuple[bool, str, float | None]:
    """Return whether this node founds now, why or why not, and when to ask again."""
    if present.elsewhere and present.unfit:
        return False, present.unfit, None
    if present.elsewhere:
        return (
            False,
            f"{', '.join(present.elsewhere)} still in another run: start it with --new-run as well",
            None,
        )
    if len(present.here) + present.loading < present.needed:
        return False, f"{len(present.here) + present.loading} of {present.needed} nodes are here", None
    if present.holder:
        return False, f"held by {present.holder} (--wait)", None
    if present.apart:
        return False, present.apart[:300], None
    patience = present.steady * (READY_PATIENCE if present.loading else 1)
    at = present.steady_since + patience
    if len(present.here) < present.needed or present.now < at:
        what = "workers are loading" if present.loading else "everybody is here, the run starts in a moment"
        return False, what, at if present.now < at else None
    able = present.here - present.unable.keys()
    if not able:
        why = next(iter(present.unable.values()))
        return False, f"no device could found a run, and it is tried again: {why}"[:300], present.next_try
    if min((able - present.cut_off) | (able & {present.me}) or able) != present.me:
        return False, "the node with the lowest id founds the run", present.next_try
    return True, "this node has the lowest id", None


def prefers(mine: str, theirs: str, their_round: int) -> bool:
    """Whether a node at round 0 of *mine* moves to *theirs*: more rounds win, then the smaller id."""
    return their_round > 0 or theirs < mine


@dataclass
class OfferedRun:
    """A run this node is about to take: its schema is being compared, its first model pulled."""

    run: str
    genesis: Genesis
    source: str
    commits: tuple[Commit, ...] = ()
    is_fit: bool = False
    """Whether this device can take part in it."""
    described: Described | None = None
    """What this device's worker says of its task."""
    since: float = 0.0
    """When it was offered."""


@dataclass(frozen=True)
class DeclinedRun:
    """A run that could not be taken as it was offered."""

    reason: str
    source: str
    """The node that offered it."""
    at: float
    is_unfit: bool
    """Whether this device cannot take part in it at all. Else its first model did not come, which
    `AbandonedRuns` judges: nobody needs that once the run has a commit."""


@dataclass
class Lobby:
    """The part of a node that is in no run, or on its way into one."""

    ctx: Context
    described: Described | None = None
    """This node's own task, once the worker knows it."""
    offered: OfferedRun | None = None
    declined: dict[str, DeclinedRun] = field(default_factory=dict)
    """By run; looked at again after `declined_rest` seconds: data may come, a peer may mend its options."""
    created: Created | None = None
    creating: RunSpec | None = None
    asking: str = ""
    """The run whose records were asked for."""
    ask_at: float | None = None
    gone_ahead: bool = False
    """Whether the operator ended this node's `--wait`."""
    tries: dict[str, int] = field(default_factory=dict)
    """By run: how often its first model could not be pulled."""
    known: frozenset[str] = frozenset()
    steady_since: float = 0.0
    told: str = ""
    wake: float | None = None
    abandoned_runs: AbandonedRuns = field(init=False)
    """What came to nothing before."""

    def __post_init__(self) -> None:
        self.abandoned_runs = AbandonedRuns(self.ctx)

    def start(self) -> None:
        """Ask the worker for this node's own task, unless it has told that before."""
        self.steady_since, self.told = self.ctx.now, ""
        self.offered, self.asking, self.ask_at = None, "", None
        if self.described is None:
            self.ctx.do(Describe(self.ctx.options.spec))

    @property
    def is_waiting(self) -> bool:
        """Whether this node's operator holds the start."""
        return self.ctx.options.wait and not self.gone_ahead

    @property
    def deadline(self) -> float | None:
        """When `advance` is due if nothing happens."""
        return earliest(self.wake, self.ask_at)

    # --- founding -------------------------------------------------------------------------------------------

    def declines(self, run: str) -> bool:
        """Whether this device said lately that it cannot take part in *run*."""
        declined = self.declined.get(run)
        return declined is not None and declined.is_unfit and self._is_resting(declined)

    def turns_down(self, status: Status) -> str:
        """Return why this node does not come into the run a peer says it is in; empty where it would."""
        if self.declines(status.run):
            return self.declined[status.run].reason
        if status.round == 0 and self.abandoned_runs.is_hopeless(status.run):
            return self.abandoned_runs.reason_of(status.run)
        return ""

    def _is_resting(self, declined: DeclinedRun) -> bool:
        return self.ctx.now < declined.at + self.ctx.settings.declined_rest

    def found(self, free: Sequence[PeerView], elsewhere: Sequence[PeerView]) -> Genesis | None:
        """Return record 0 if this node should and can found a run now; *free* peers are in no run."""
        if self.offered is not None:
            self.wake = None
            return None
        present = self._present(free, elsewhere)
        verdict, reason, self.wake = decide_founding(present)
        if not verdict:
            self._tell_waiting(present, reason)
            return None
        assert self.described is not None
        peers = [peer for peer in free if peer.member.node in present.here]
        spec = with_options(self.ctx.options.spec, partitions=self.ctx.options.partitions or len(peers) + 1)
        if self.created is None or self.created.spec != spec:
            if self.creating != spec:
                self.creating = spec
                self.ctx.do(Create(spec))
            return None
        own = self.described.card
        agreement, _ = merge_cards(spec.task, self._cards(free, present.here))
        assert agreement is not None, "or nobody would found"
        members = [Newcomer(self.ctx.me, self.ctx.name, own.examples)]
        members += [
            Newcomer(peer.member, peer.name, stated_examples(spec.task, peer.card, own)) for peer in peers
        ]
        return Genesis(
            nonce=self.ctx.options.nonce,
            spec=spec,
            agreement=agreement,
            roster=genesis_roster(members),
            layout=layout_of(self.described.schema),
            blobs=RecordBlobs(self.created.model),
            provenance=Provenance(self.ctx.options.software, "initialised"),
        )

    def _cards(self, free: Sequence[PeerView], here: Collection[str]) -> dict[str, DataCard]:
        """Return the data cards of those *here*, by name."""
        cards = {peer.name: peer.card for peer in free if peer.member.node in here and peer.card is not None}
        if self.described is not None:
            cards[self.ctx.name] = self.described.card
        return cards

    def _present(self, free: Sequence[PeerView], elsewhere: Sequence[PeerView]) -> FoundingSituation:
        ctx = self.ctx
        statuses = [(peer, peer.status) for peer in free if peer.status is not None]
        here = {peer.member.node for peer, status in statuses if status.ready and peer.card is not None}
        needed = max([ctx.options.min_nodes, *(status.min_nodes for _, status in statuses)])
        cut_off = frozenset(peer.member.node for peer, status in statuses if status.links + 1 < needed)
        holders = [peer.name for peer, status in statuses if status.waiting]
        if self.described is not None:
            here.add(ctx.me.node)
        if self.is_waiting:
            holders.append(ctx.name)
        known = frozenset(peer.member.node for peer in free)
        if known != self.known:
            self.known, self.steady_since = known, ctx.now
        cards = self._cards(free, here)
        _, apart = merge_cards(ctx.options.spec.task, cards) if cards else (None, "")
        return FoundingSituation(
            me=ctx.me.node,
            here=frozenset(here),
            apart=apart,
            loading=len(free) + 1 - len(here),
            needed=needed,
            holder=holders[0] if holders else "",
            elsewhere=tuple(peer.name for peer in elsewhere),
            unfit=self._unfit(elsewhere),
            steady_since=self.steady_since,
            steady=ctx.settings.steady,
            now=ctx.now,
            cut_off=cut_off,
            unable=self.abandoned_runs.failed(),
            next_try=self.abandoned_runs.next_try,
        )

    def _unfit(self, elsewhere: Sequence[PeerView]) -> str:
        for peer in elsewhere:
            run = peer.status.run if peer.status is not None else ""
            declined = self.declined.get(run)
            if declined is not None and declined.is_unfit:
                return _unfit_for(run, peer.name, declined.reason)
        return ""

    def _tell_waiting(self, present: FoundingSituation, reason: str) -> None:
        if reason != self.told:
            self.told = reason
            self.ctx.tell(Waiting(len(present.here) + present.loading, present.needed, reason))

    # --- taking a run that others have ----------------------------------------------------------------------

    def ask(self, node: str, run: str) -> None:
        """Ask a peer for the run it is in."""
        if self.offered is None and (self.asking != run or self.ask_at is None):
            self.asking, self.ask_at = run, self.ctx.now + self.ctx.settings.resend
            self.ctx.send(node, RecordsRequest(run, -1))

    def offer(self, node: str, genesis: Genesis, commits: tuple[Commit, ...]) -> None:
        """Begin to take a run: compare its schema with what this node's worker makes of its spec."""
        run, now = record_digest(genesis), self.ctx.now
        pending = self.offered
        if pending is not None and (pending.run == run or now < pending.since + OFFER_PATIENCE):
            return
        if self.declines(run) or self._is_ignoring(node):
            return
        self.offered = OfferedRun(run, genesis, node, commits, since=now)
        self.ctx.do(Describe(genesis.spec))

    def _is_ignoring(self, node: str) -> bool:
        """Whether *node* has offered enough runs for now that could not be taken."""
        lately = [one for one in self.declined.values() if one.source == node and self._is_resting(one)]
        return len(lately) >= MAX_DECLINED_OF_PEER

    def describe(self, described: Described) -> OfferedRun | None:
        """Take note of a task the worker knows; return the run that can be taken without pulling a model."""
        if described.spec == self.ctx.options.spec:
            self.described = described
        offered = self.offered
        if offered is None or described.spec != offered.genesis.spec or offered.described is not None:
            return None
        offered.described, genesis = described, offered.genesis
        sources = self._sources(offered)
        if layout_of(described.schema) != genesis.layout:
            self.ctx.do(ReadSchema(genesis.model, genesis.layout, sources))
            return None
        policy = self.ctx.policy
        flaw = policy.data(genesis.agreement, described.card) or policy.roles(genesis, genesis.spec)
        if flaw:
            self._decline(offered, flaw)
            return None
        offered.is_fit = True
        if offered.commits or not contains(offered.genesis.roster, self.ctx.me):
            return offered
        self.ctx.do(Fetch(offered.genesis.model, offered.genesis.layout, sources))
        return None

    def _sources(self, offered: OfferedRun) -> tuple[str, ...]:
        """Return who may have the run's first model."""
        members = (entry.node for entry in offered.genesis.roster)
        return tuple(dict.fromkeys(node for node in (offered.source, *members) if node != self.ctx.me.node))

    def schema_read(self, read: SchemaRead) -> None:
        """Decline the run whose model differs, naming the tensor."""
        offered = self.offered
        if offered is None or offered.described is None or offered.is_fit:
            return
        if offered.genesis.layout == read.layout:
            self._decline(offered, differs(offered.described.schema, read))

    def blob_ready(self, digest: str) -> OfferedRun | None:
        """Return the run whose first model is now durable here."""
        offered = self.offered
        if offered is not None and offered.is_fit and offered.genesis.model == digest:
            return offered
        return None

    def blob_failed(self, digest: str, reason: str, *, invalid: bool) -> None:
        """Forget the offer: any peer in the run can be asked again. Decline it when that does not help."""
        offered = self.offered
        if offered is None or offered.genesis.model != digest:
            return
        self.offered = None
        tries = self.tries.pop(offered.run, 0) + 1
        what = f"its first model {'is of no use' if invalid else 'could not be pulled'}: {reason}"
        self._note(offered, what, is_unfit=False)
        if invalid or tries >= MODEL_TRIES:
            self.abandoned_runs.give_up(offered.run, what)
            self._say_declined(offered, what, "warning")
        else:
            self.tries[offered.run] = tries
            _shorten(self.tries)

    def fail(self, reason: str, spec: RunSpec | None = None) -> None:
        """Decline the run that is offered, if *spec* is its; else end this node: its own task has failed."""
        if self.offered is not None and spec == self.offered.genesis.spec:
            self._decline(self.offered, reason)
        elif spec is None or spec == self.ctx.options.spec:
            self.ctx.tell(Notice("error", reason))
            self.ctx.do(Exit(ExitCode.UNFIT, reason))

    def _decline(self, offered: OfferedRun, reason: str) -> None:
        """Stay out of a run, and say so here and there: an operator of either device can mend it."""
        self._note(offered, reason, is_unfit=True)
        self._say_declined(offered, reason, "error")

    def _note(self, offered: OfferedRun, reason: str, *, is_unfit: bool) -> None:
        self.declined.pop(offered.run, None)
        self.declined[offered.run] = DeclinedRun(reason, offered.source, self.ctx.now, is_unfit)
        _shorten(self.declined)

    def _say_declined(self, offered: OfferedRun, reason: str, level: Literal["warning", "error"]) -> None:
        """Stay for another run, and say why here and there."""
        self.offered, self.asking = None, ""
        self.ctx.broadcast(Decline(offered.run, reason[:300]))
        self.ctx.tell(Notice(level, _unfit_for(offered.run, self.ctx.name_of(offered.source), reason)))


def _shorten(by_run: dict[str, Any]) -> None:
    """Forget what was remembered first of too many runs."""
    while len(by_run) > MAX_DECLINED:
        del by_run[next(iter(by_run))]


def _unfit_for(run: str, name: str, reason: str) -> str:
    return f"this device cannot take part in run {run[:12]} of {name}: {reason}"


def differs(mine: Schema, theirs: SchemaRead) -> str:
    """Say in which tensor this device's model differs from the run's, as far as that could be read."""
    difference = first_difference(mine, theirs.schema) if theirs.schema is not None else None
    if difference is None:
        difference = (
            f"in which tensor could not be found out ({theirs.reason or 'its file is laid out otherwise'})"
        )
    else:
        difference += " (run's model first)"
    return f"its model differs: {difference}. Use the same task, model and version on all devices"
