"""The time before a run: which nodes are present, what is waited for, how a node enters a peer's run.

`p2pfl.core.founding` decides which node founds a run and when, `p2pfl.core.given_options` whose options the
run has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from p2pfl.agreement import agree, stated_examples
from p2pfl.cards import Agreement, DataCard
from p2pfl.core.abandoned_runs import MODEL_TRIES, AbandonedRuns
from p2pfl.core.context import Context, PeerView, earliest
from p2pfl.core.effects import Create, Describe, Exit, ReadSchema, fetch_frozen, fetch_record
from p2pfl.core.fitting import find_fitting
from p2pfl.core.founding import FoundingSituation, decide_founding, held_start
from p2pfl.core.given_options import Giver, Holding, decide_holding_options, given_options
from p2pfl.core.inputs import BlobFailed, Created, Described, SchemaRead
from p2pfl.core.resumed_model import NO_FROZEN, differs
from p2pfl.core.roster import Newcomer, contains, genesis_roster
from p2pfl.core.stopping import unknown_target
from p2pfl.disclosure import told_to_peers
from p2pfl.events import Notice, Waiting
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import (
    MAX_CHOICE,
    Commit,
    Decline,
    Genesis,
    GivenOption,
    Provenance,
    RecordBlobs,
    RecordsRequest,
    Status,
    record_digest,
)
from p2pfl.schema import frozen_to_take, layout_of
from p2pfl.spec import RunSpec, is_divided, with_options
from p2pfl.strategy_specs import least_updates

OFFER_PATIENCE = 10.0
"""Seconds for which an offered run that this node has not entered yet blocks other offers."""

MAX_DECLINED = 16
"""Number of declined runs to remember."""

MAX_DECLINED_OF_PEER = 3
"""Declined runs of one peer within `declined_rest` seconds after which its offers are ignored. Each offer
costs a job of the worker."""


@dataclass
class OfferedRun:
    """A run that this node is about to enter: it compares the schema and the data, and pulls the model."""

    run: str
    genesis: Genesis
    source: str
    commits: tuple[Commit, ...] = ()
    is_fit: bool = False
    """Whether this device can take part in the run."""
    described: Described | None = None
    """The worker's answer about the run's task; None until it comes."""
    frozen: str = ""
    """The digest of the run's frozen tensors while they are pulled, since this device's are others."""
    since: float = 0.0
    """When the run was offered."""


@dataclass(frozen=True)
class DeclinedRun:
    """An offered run that this node could not enter."""

    reason: str
    source: str
    """Node id of the peer that offered the run."""
    at: float
    is_unfit: bool
    """Whether this device cannot take part in the run at all. Otherwise the pull of its first model failed;
    `AbandonedRuns` handles that case, since nobody needs this model once the run has a commit."""


@dataclass
class Lobby:
    """The part of a node that acts while the node is in no run, or about to enter one."""

    ctx: Context
    described: Described | None = None
    """The worker's description of this node's own task; None until it comes."""
    offered: OfferedRun | None = None
    """The run that this node is about to enter."""
    declined: dict[str, DeclinedRun] = field(default_factory=dict)
    """By run. A run is considered again after `declined_rest` seconds: data or options may have changed."""
    created: Created | None = None
    """The first model that this node has made to found a run."""
    creating: Create | None = None
    """The first model that the worker was last asked for."""
    asking: str = ""
    """The run whose records this node has asked for; empty for none."""
    ask_at: float | None = None
    """When to ask for these records again."""
    gone_ahead: bool = False
    """Whether the operator ended this node's `--wait`."""
    choice: int = 0
    """Number of the operator's last decision that this node's options hold; 0 without one."""
    tries: dict[str, int] = field(default_factory=dict)
    """By run: the number of failed pulls of its first model."""
    known: frozenset[str] = frozenset()
    """Node ids of the linked peers in no run."""
    steady_since: float = 0.0
    """When `known` last changed."""
    told: str = ""
    """The last published reason for waiting; empty while this node makes the first model of a run."""
    given: tuple[GivenOption, ...] = ()
    """The options of the run that this node's operator gave."""
    wake: float | None = None
    _merged: list[tuple[Mapping[str, DataCard], tuple[Agreement | None, str]]] = field(default_factory=list)
    """The last cards that were merged, of all devices and of those that fit, and the results."""
    _fitting: tuple[Mapping[str, DataCard], frozenset[str]] | None = None
    """The last cards that did not fit, and the devices that fit nevertheless."""
    _left_out: str = ""
    """The last warning that a run begins without a device."""
    _told_options: tuple[str, str] = ("", "")
    """The last published options that will hold, and the device that was given them."""
    abandoned_runs: AbandonedRuns = field(init=False)
    """Earlier runs that could not begin, and failed foundings."""

    def __post_init__(self) -> None:
        self.abandoned_runs = AbandonedRuns(self.ctx)
        self.given = given_options(self.ctx.options)

    def start(self) -> None:
        """Enter the lobby; ask the worker for this node's own task, unless it has answered before."""
        self.steady_since, self.told = self.ctx.now, ""
        self.offered, self.asking, self.ask_at = None, "", None
        if self.described is None:
            self.ctx.do(Describe(self.ctx.options.spec))

    @property
    def is_waiting(self) -> bool:
        """Whether this node's operator holds the start."""
        return self.ctx.options.wait and not self.gone_ahead

    def go_ahead(self) -> None:
        """Take the operator's decision: this node's options hold, and it no longer holds the start.

        The decision has a higher number than all that this node knows, so the last one holds.
        """
        self.gone_ahead = True
        known = (peer.status.choice for peer in self.ctx.peers.values() if peer.status is not None)
        self.choice = min(max([self.choice, *known]) + 1, MAX_CHOICE)

    @property
    def is_complete(self) -> bool:
        """Whether this node is linked with all the devices that it waits for.

        A node that was given neither addresses nor a number waits for nobody in particular. It is never
        complete, so that others have a moment to find it.
        """
        options = self.ctx.options
        wanted = 1 if options.is_open else max(options.min_nodes, options.listed)
        return wanted > 1 and sum(peer.linked for peer in self.ctx.peers.values()) + 1 >= wanted

    @property
    def deadline(self) -> float | None:
        """When `advance` is due if nothing happens."""
        return earliest(self.wake, self.ask_at)

    # --- founding -------------------------------------------------------------------------------------------

    def declines(self, run: str) -> bool:
        """Whether this device declined *run* as unfit within the last `declined_rest` seconds."""
        declined = self.declined.get(run)
        return declined is not None and declined.is_unfit and self._is_resting(declined)

    def turns_down(self, status: Status) -> str:
        """Return why this node does not enter the run in a peer's *status*; empty if it would."""
        if self.declines(status.run):
            return self.declined[status.run].reason
        if status.round == 0 and self.abandoned_runs.is_hopeless(status.run):
            return self.abandoned_runs.reason_of(status.run)
        return ""

    def _is_resting(self, declined: DeclinedRun) -> bool:
        return self.ctx.now < declined.at + self.ctx.settings.declined_rest

    def found(self, free: Sequence[PeerView], elsewhere: Sequence[PeerView]) -> Genesis | None:
        """Return record 0 if this node founds a run now, else None.

        The *free* peers are in no run, those *elsewhere* in a run that this node does not enter.
        """
        if self.offered is not None:
            self.wake = None
            return None
        present = self._present(free, elsewhere)
        verdict, reason, self.wake = decide_founding(present)
        if not verdict:
            self._tell_waiting(present, reason)
            return None
        self.told = ""
        assert self.described is not None
        peers = [peer for peer in free if peer.member.node in present.here]
        spec, own = self._founded_spec(len(peers) + 1), self.described.card
        agreement, _ = self._merge(self._cards(free, present.here))
        assert agreement is not None, "decide_founding checks this"
        create = Create(spec, agreement)
        if self.created is None or (self.created.spec, self.created.agreement) != (spec, agreement):
            if self.creating != create:
                self.creating = create
                self.ctx.do(create)
            return None
        members = [Newcomer(self.ctx.me, self.ctx.name, stated_examples(spec.task, own, own))]
        members += [
            Newcomer(peer.member, peer.name, stated_examples(spec.task, peer.card, own)) for peer in peers
        ]
        return Genesis(
            nonce=self.ctx.options.nonce,
            spec=spec,
            agreement=agreement,
            roster=genesis_roster(members),
            layout=layout_of(self.created.schema),
            blobs=RecordBlobs(self.created.model),
            provenance=Provenance(self.ctx.options.software, "initialised"),
        )

    def _founded_spec(self, members: int) -> RunSpec:
        """Return the spec with which this node founds a run of *members*."""
        options = self.ctx.options
        if not is_divided(options.spec.task):
            return options.spec
        return with_options(options.spec, partitions=options.partitions or members)

    def _cards(self, free: Sequence[PeerView], here: Collection[str]) -> dict[str, DataCard]:
        """Return the data cards of the nodes in *here* and of this node, by name."""
        cards = {peer.name: peer.card for peer in free if peer.member.node in here and peer.card is not None}
        if self.described is not None:
            cards[self.ctx.name] = self.described.card
        return cards

    def _present(self, free: Sequence[PeerView], elsewhere: Sequence[PeerView]) -> FoundingSituation:
        ctx = self.ctx
        statuses = [(peer, peer.status) for peer in free if peer.status is not None]
        here = {peer.member.node for peer, status in statuses if status.ready and peer.card is not None}
        least = least_updates(ctx.options.spec.strategy)
        needed = max([ctx.options.min_nodes, least, *(status.min_nodes for _, status in statuses)])
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
        apart = self._apart(cards) if cards else ""
        loading = len(free) + 1 - len(here)
        known_here = {ctx.me.node, *known}
        is_complete = self.is_complete and all(status.complete for _, status in statuses)
        if apart and (fit := self._find_fitting(cards, here)):
            wanted = [status.min_nodes for peer, status in statuses if peer.member.node in fit]
            if len(fit) >= max(ctx.options.min_nodes, *wanted):
                known_here -= here - fit
                is_complete = False
                here, needed = fit, max(ctx.options.min_nodes, *wanted)
                kept = self._cards(free, here)
                self._tell_left_out(sorted(cards.keys() - kept.keys()), apart)
                apart = self._apart(kept)
        return FoundingSituation(
            me=ctx.me.node,
            here=frozenset(here),
            apart=apart,
            loading=loading,
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
            holding=self._holding(free, known_here),
            is_complete=is_complete,
        )

    def _holding(self, free: Sequence[PeerView], known: Collection[str]) -> Holding:
        """Return whose options hold among the nodes *known*, which are this node and *free* peers."""
        mine = Giver(self.ctx.me.node, self.ctx.name, _by_name(self.given), self.choice)
        givers = [mine] + [
            Giver(peer.member.node, peer.name, _by_name(peer.status.given), peer.status.choice)
            for peer in free
            if peer.status is not None
        ]
        return decide_holding_options([giver for giver in givers if giver.node in known], self.ctx.me.node)

    def _apart(self, cards: Mapping[str, DataCard]) -> str:
        """Return why the devices with *cards* cannot train together; empty if they can."""
        agreement, flaw = self._merge(cards)
        stopping = self.ctx.options.spec.stopping
        return unknown_target(stopping, agreement) if agreement is not None else flaw

    def _merge(self, cards: Mapping[str, DataCard]) -> tuple[Agreement | None, str]:
        """Merge *cards*; the same ones are merged once, since large cards take a while."""
        for merged, result in self._merged:
            if merged == cards:
                return result
        result = agree(self.ctx.options.spec, cards)
        self._merged = [*self._merged[-1:], (cards, result)]
        return result

    def _find_fitting(self, cards: Mapping[str, DataCard], here: Collection[str]) -> set[str]:
        """Return the nodes of *here* whose *cards* fit although not all do; none if this node's does not."""
        if self._merge(cards)[0] is not None:
            return set()
        if self._fitting is None or self._fitting[0] != cards:
            self._fitting = (cards, find_fitting(self.ctx.options.spec.task, cards))
        names = self._fitting[1]
        return {node for node in here if self.ctx.name_of(node) in names} if self.ctx.name in names else set()

    def _tell_left_out(self, names: Sequence[str], reason: str) -> None:
        """Warn, when it changes, that the run begins without the devices *names*."""
        text = f"{reason[:300]}. The others are enough, so the run begins without {', '.join(names)}"
        if text != self._left_out:
            self._left_out = text
            self.ctx.warn(text)

    def _unfit(self, elsewhere: Sequence[PeerView]) -> str:
        for peer in elsewhere:
            run = peer.status.run if peer.status is not None else ""
            declined = self.declined.get(run)
            if declined is not None and declined.is_unfit:
                return _unfit_for(run, peer.name, declined.reason)
        return ""

    def _tell_waiting(self, present: FoundingSituation, reason: str) -> None:
        holding, here = present.holding, len(present.here) + present.loading
        options = (holding.options, holding.of)
        if (reason, options) == (self.told, self._told_options):
            return
        flaws = (flaw[:300] for flaw in (present.apart, holding.difference) if flaw)
        is_known = reason == self.told
        held_by = present.holder if reason == held_start(present.holder)[:300] else ""
        self.ctx.tell(Waiting(here, present.needed, reason, reason in flaws, *options, is_known, held_by))
        if holding.of and (not self._told_options[1] or holding.options != self._told_options[0]):
            what = holding.options or "the default options"
            self.ctx.tell(Notice("info", f"the run will have {what}, of {holding.of}"))
        self.told, self._told_options = reason, options

    # --- entering a run of peers ----------------------------------------------------------------------------

    def ask(self, node: str, run: str) -> None:
        """Ask peer *node* for the records of *run*."""
        if self.offered is None and (self.asking != run or self.ask_at is None):
            self.asking, self.ask_at = run, self.ctx.now + self.ctx.settings.resend
            self.ctx.send(node, RecordsRequest(run, -1))

    def offer(self, node: str, genesis: Genesis, commits: tuple[Commit, ...]) -> None:
        """Consider a run that *node* offers: ask the worker for the schema and the data of its spec."""
        run, now = record_digest(genesis), self.ctx.now
        pending = self.offered
        if pending is not None and (pending.run == run or now < pending.since + OFFER_PATIENCE):
            return
        if self.declines(run) or self._is_ignoring(node):
            return
        self.offered = OfferedRun(run, genesis, node, commits, since=now)
        self.ctx.do(Describe(genesis.spec, genesis.agreement))

    def _is_ignoring(self, node: str) -> bool:
        """Whether to ignore offers of *node*, since this node declined too many of its runs lately."""
        lately = [one for one in self.declined.values() if one.source == node and self._is_resting(one)]
        return len(lately) >= MAX_DECLINED_OF_PEER

    def describe(self, described: Described) -> OfferedRun | None:
        """Take the worker's description of a task; return the offered run if it needs no pull of a model."""
        if described.agreement is None and described.spec == self.ctx.options.spec:
            self.described = described
        offered = self.offered
        if offered is None or offered.described is not None:
            return None
        if (described.spec, described.agreement) != (offered.genesis.spec, offered.genesis.agreement):
            return None
        assert described.schema is not None, "the agreement is known"
        offered.described, genesis = described, offered.genesis
        policy = self.ctx.policy
        flaw = policy.data(genesis.spec.task, genesis.agreement, described.card) or policy.roles(
            genesis, genesis.spec
        )
        if flaw:
            self._decline(offered, flaw)
            return None
        if layout_of(described.schema) != genesis.layout:
            self.ctx.do(ReadSchema(genesis.model, genesis.layout, self._sources(offered)))
            return None
        return self._fits(offered)

    def _fits(self, offered: OfferedRun) -> OfferedRun | None:
        """Pull the first model of the run that this device fits; return the run if that is not needed."""
        offered.is_fit, genesis = True, offered.genesis
        if offered.commits or not contains(genesis.roster, self.ctx.me):
            return offered
        self.ctx.do(fetch_record(genesis.blobs, genesis, self._sources(offered)))
        return None

    def _sources(self, offered: OfferedRun) -> tuple[str, ...]:
        """Return the nodes that may hold the run's first model: the offering peer first."""
        members = (entry.node for entry in offered.genesis.roster)
        return tuple(dict.fromkeys(node for node in (offered.source, *members) if node != self.ctx.me.node))

    def schema_read(self, read: SchemaRead) -> None:
        """Pull the frozen tensors of the offered run, or decline it and name the first different tensor."""
        offered = self.offered
        if offered is None or offered.described is None or offered.is_fit or offered.frozen:
            return
        if offered.genesis.layout != read.layout:
            return
        schema = offered.described.schema
        assert schema is not None, "the agreement is known"
        frozen = frozen_to_take(schema, read.schema or ())
        if frozen is None:
            self._decline(offered, differs(schema, read))
            return
        offered.described = msgspec.structs.replace(offered.described, schema=read.schema)
        offered.frozen = frozen.digest
        self.ctx.do(fetch_frozen(frozen, self._sources(offered)))

    def blob_ready(self, digests: tuple[str, ...]) -> OfferedRun | None:
        """Return the offered run if the blobs *digests*, now durable, are the last that it needs."""
        offered = self.offered
        if offered is not None and offered.frozen and digests == (offered.frozen,):
            offered.frozen = ""
            return self._fits(offered)
        if offered is not None and offered.is_fit and offered.genesis.blobs.digests == digests:
            return offered
        return None

    def blob_failed(self, failed: BlobFailed) -> None:
        """Drop the offer, so that this node asks again; decline the run after too many failed pulls."""
        offered, invalid = self.offered, failed.invalid
        if offered is not None and offered.frozen and failed.digest == offered.frozen:
            self._decline(offered, f"{NO_FROZEN}: {failed.reason}")
            return
        if offered is None or not failed.is_of(offered.genesis.blobs.digests):
            return
        self.offered = None
        tries = self.tries.pop(offered.run, 0) + 1
        what = f"its first model {'is of no use' if invalid else 'could not be pulled'}: {failed.reason}"
        self._note(offered, what, is_unfit=False)
        if invalid or tries >= MODEL_TRIES:
            self.abandoned_runs.give_up(offered.run, what)
            self._say_declined(offered, what, "warning")
        else:
            self.tries[offered.run] = tries
            _shorten(self.tries)

    def fail(self, reason: str, describe: Describe | None = None) -> None:
        """Decline the offered run if *describe* was for it; exit if it was for this node's own task."""
        genesis = self.offered.genesis if self.offered is not None else None
        if genesis is not None and describe == Describe(genesis.spec, genesis.agreement):
            assert self.offered is not None
            self._decline(self.offered, reason, told_to_peers(genesis.spec.task, reason))
        elif describe is None or describe == Describe(self.ctx.options.spec):
            self.ctx.tell(Notice("error", reason))
            self.ctx.do(Exit(ExitCode.UNFIT, reason))

    def _decline(self, offered: OfferedRun, reason: str, told: str = "") -> None:
        """Decline a run as unfit, and report it here and to the peers, whose operators may know a remedy.

        *told* is what the peers are told in place of *reason*.
        """
        self._note(offered, reason, is_unfit=True)
        self._say_declined(offered, reason, "error", told)

    def _note(self, offered: OfferedRun, reason: str, *, is_unfit: bool) -> None:
        self.declined.pop(offered.run, None)
        self.declined[offered.run] = DeclinedRun(reason, offered.source, self.ctx.now, is_unfit)
        _shorten(self.declined)

    def _say_declined(
        self, offered: OfferedRun, reason: str, level: Literal["warning", "error"], told: str = ""
    ) -> None:
        """Drop the offer and report the reason, here and to the peers."""
        self.offered, self.asking = None, ""
        self.ctx.broadcast(Decline(offered.run, (told or reason)[:300]))
        self.ctx.tell(Notice(level, _unfit_for(offered.run, self.ctx.name_of(offered.source), reason)))


def _by_name(given: Sequence[GivenOption]) -> dict[str, str]:
    return {option.name: option.value for option in given}


def _shorten(by_run: dict[str, Any]) -> None:
    """Remove the oldest entries of *by_run* beyond `MAX_DECLINED`."""
    while len(by_run) > MAX_DECLINED:
        del by_run[next(iter(by_run))]


def _unfit_for(run: str, name: str, reason: str) -> str:
    return f"this device cannot take part in run {run[:12]} of {name}: {reason}"
