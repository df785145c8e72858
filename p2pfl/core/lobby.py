"""Before a run: who is here, who founds, and how a node takes a run that others have.

Founding is no vote: the lowest node id among those that reach all that are needed founds, and a second run
that a partition gave birth to meets the first one while neither has committed anything (`prefers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from p2pfl.core.context import Context, PeerView, earliest
from p2pfl.core.effects import Create, Describe, Exit, Fetch
from p2pfl.core.foundings import MODEL_TRIES, Foundings
from p2pfl.core.inputs import Created, Described
from p2pfl.core.roster import contains, founding_roster
from p2pfl.events import Notice, Waiting
from p2pfl.messages import Ask, Commit, Decline, Founding, RunSpec, record_digest
from p2pfl.schema import Schema, first_difference

UNFIT_EXIT = 2
"""Exit code of a node that cannot take part: its task or its model differs."""

READY_PATIENCE = 10
"""A present node whose worker is still loading is waited for this many `steady` times, then the others found
without it."""


class Present(msgspec.Struct, frozen=True):
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


def decide_founding(present: Present) -> tuple[bool, str, float | None]:
    """Return whether this node founds now, why or why not, and when to ask again."""
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
class Offered:
    """A run this node is about to take: its schema is being compared, its first model pulled."""

    run: str
    founding: Founding
    source: str
    commits: tuple[Commit, ...] = ()
    is_described: bool = False


@dataclass
class Lobby:
    """The part of a node that is in no run, or on its way into one."""

    ctx: Context
    described: Described | None = None
    """This node's own task, once the worker knows it."""
    offered: Offered | None = None
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
    foundings: Foundings = field(init=False)
    """What came to nothing before."""

    def __post_init__(self) -> None:
        self.foundings = Foundings(self.ctx)

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

    def found(self, free: Sequence[PeerView], elsewhere: Sequence[PeerView]) -> Founding | None:
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
        members = {self.ctx.me: self.ctx.name}
        members |= {peer.member: peer.name for peer in free if peer.member.node in present.here}
        parts = self.ctx.options.partitions or len(members)
        spec = msgspec.structs.replace(self.ctx.options.spec, partitions=parts)
        if self.created is None or self.created.spec != spec:
            if self.creating != spec:
                self.creating = spec
                self.ctx.do(Create(spec))
            return None
        return Founding(
            self.ctx.options.nonce,
            spec,
            founding_roster(members),
            self.described.schema,
            self.created.model,
            self.described.max_samples,
        )

    def _present(self, free: Sequence[PeerView], elsewhere: Sequence[PeerView]) -> Present:
        ctx = self.ctx
        statuses = [(peer, peer.status) for peer in free if peer.status is not None]
        here = {peer.member.node for peer, status in statuses if status.ready}
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
        return Present(
            me=ctx.me.node,
            here=frozenset(here),
            loading=len(free) + 1 - len(here),
            needed=needed,
            holder=holders[0] if holders else "",
            elsewhere=tuple(peer.name for peer in elsewhere),
            steady_since=self.steady_since,
            steady=ctx.settings.steady,
            now=ctx.now,
            cut_off=cut_off,
            unable=self.foundings.failed(),
            next_try=self.foundings.next_try,
        )

    def _tell_waiting(self, present: Present, reason: str) -> None:
        if reason != self.told:
            self.told = reason
            self.ctx.tell(Waiting(len(present.here) + present.loading, present.needed, reason))

    # --- taking a run that others have ----------------------------------------------------------------------

    def ask(self, node: str, run: str) -> None:
        """Ask a peer for the run it is in."""
        if self.offered is None and (self.asking != run or self.ask_at is None):
            self.asking, self.ask_at = run, self.ctx.now + self.ctx.settings.resend
            self.ctx.send(node, Ask(run, -1))

    def offer(self, node: str, founding: Founding, commits: tuple[Commit, ...]) -> None:
        """Begin to take a run: compare its schema with what this node's worker makes of its spec."""
        run = record_digest(founding)
        if self.offered is not None and self.offered.run == run:
            return
        self.offered = Offered(run, founding, node, commits)
        self.ctx.do(Describe(founding.spec))

    def describe(self, described: Described) -> Offered | None:
        """Take note of a task the worker knows; return the run that can be taken without pulling a model."""
        if described.spec == self.ctx.options.spec:
            self.described = described
        offered = self.offered
        if offered is None or described.spec != offered.founding.spec or offered.is_described:
            return None
        difference = differs(described.schema, offered.founding.schema)
        if difference is not None:
            self._decline(offered, difference)
            return None
        offered.is_described = True
        if offered.commits or not contains(offered.founding.roster, self.ctx.me):
            return offered
        members = (entry.node for entry in offered.founding.roster)
        sources = tuple(
            dict.fromkeys(node for node in (offered.source, *members) if node != self.ctx.me.node)
        )
        self.ctx.do(Fetch(offered.founding.model, offered.founding.schema, sources))
        return None

    def blob_ready(self, digest: str) -> Offered | None:
        """Return the run whose first model is now durable here."""
        offered = self.offered
        if offered is not None and offered.is_described and offered.founding.model == digest:
            return offered
        return None

    def blob_failed(self, digest: str, reason: str, *, invalid: bool) -> None:
        """Forget the offer: any peer in the run can be asked again. Decline it when that does not help."""
        offered = self.offered
        if offered is None or offered.founding.model != digest:
            return
        self.offered = None
        self.tries[offered.run] = self.tries.get(offered.run, 0) + 1
        if invalid or self.tries[offered.run] >= MODEL_TRIES:
            del self.tries[offered.run]
            what = "is of no use" if invalid else "could not be pulled"
            self._do_without(offered, f"its first model {what}: {reason}"[:300])

    def _do_without(self, offered: Offered, reason: str) -> None:
        """Say that this run cannot be joined now, and stay for another one."""
        self.asking = ""
        self.foundings.give_up(offered.run, reason)
        self.ctx.broadcast(Decline(offered.run, reason))
        self.ctx.warn(f"this device cannot take part in run {offered.run[:12]}: {reason}")

    def fail(self, reason: str) -> None:
        """End this node: its own task, or the run's, cannot be described."""
        if self.offered is not None:
            self._decline(self.offered, reason)
        else:
            self.ctx.tell(Notice("error", reason))
            self.ctx.do(Exit(UNFIT_EXIT, reason))

    def _decline(self, offered: Offered, reason: str) -> None:
        self.ctx.broadcast(Decline(offered.run, reason[:300]))
        text = f"this device cannot take part in run {offered.run[:12]}: {reason}"
        self.ctx.tell(Notice("error", text))
        self.ctx.do(Exit(UNFIT_EXIT, text))


def differs(mine: Schema, theirs: Schema) -> str | None:
    """Say in which tensor this device's model differs from the run's; None when it does not."""
    difference = first_difference(mine, theirs)
    if difference is None:
        return None
    return (
        f"its model differs: {difference} (run's model first). "
        "Use the same task, model and version on all devices"
    )
