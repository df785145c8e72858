"""A snapshot of a node for `p2pfl status`.

Its values have stable names, which `--json` prints; the lines of text are made of the same values.
"""

from __future__ import annotations

import asyncio
import math
import textwrap
from datetime import timedelta
from typing import Literal, assert_never

import msgspec

from p2pfl.cards import metric_cell, metric_heading, metric_text
from p2pfl.events import AddressState, Measured
from p2pfl.identity.lifetime import in_words
from p2pfl.messages import quorum
from p2pfl.observe.client import Observer
from p2pfl.observe.peers import ActivityKind, Peer
from p2pfl.observe.state import Phase, State
from p2pfl.spec import model_name, task_name
from p2pfl.strategy_specs import FedAvgSpec, describe_strategy
from p2pfl.text import one_line
from p2pfl.times import show_timestamp
from p2pfl.wire.observing import EventBatch, HistoryBatch, HistoryEnd

LIVE_SECONDS = 1.5
"""Time to wait for the first measurement: a node measures every second while an observer is connected."""

CERTIFICATE_SOON = timedelta(days=30)
"""A certificate that ends within this time has a line: a month to renew it, if it does not renew itself."""

WIDTH = 80
"""Maximum characters of a line."""

NAME_WIDTH = 16

MARKS = {
    "lost": "✗",
    "left": "-",
    "absent": "✗",
    "late": "!",
    "refused": "!",
    "kicked": "-",
    "banned": "✗",
    "revoked": "✗",
}
"""Marks in front of a peer whose activity needs attention."""


PHASES = {"untrained": "ended, but no update was ever counted", "stopped": "stopped before its last round"}
"""Texts for phases whose name does not explain itself."""


class PeerNow(msgspec.Struct, frozen=True):
    """One node of the federation; the observed node too."""

    name: str
    node: str
    """Its node id; empty if only its name is known."""
    address: str
    is_me: bool
    """Whether it is the observed node."""
    is_member: bool
    """Whether it is in the roster."""
    is_linked: bool
    """Whether the observed node has a link to it; true for that node itself."""
    doing: ActivityKind
    progress: float | None
    """Completed share, from 0 to 1; null if unknown."""
    since: float | None
    """Time its link was made or lost, in seconds since the epoch."""
    rtt: float | None
    """Seconds from the last ping to its answer."""
    accuracy: float | None
    """Accuracy of the last evaluated model on its held-out data; null if the task does not measure it."""
    metrics: dict[str, float]
    """Every metric of that model there, by name."""
    examples: int | None
    """Training samples of its last counted update."""


class TransferNow(msgspec.Struct, frozen=True):
    """A model transfer between the observed node and a peer."""

    what: Literal["pull", "push"]
    """"pull": the observed node receives."""
    peer: str
    done: int
    """Bytes."""
    total: int
    rate: float
    """Bytes a second."""


class Snapshot(msgspec.Struct, frozen=True):
    """The state of a node and of its federation at one time."""

    time: float
    """Time of the last event, in seconds since the epoch, by the node's clock."""
    name: str
    node: str
    """The node id."""
    federation: str
    address: str
    data_dir: str
    certificate_until: float | None
    """When its certificate ends, in seconds since the epoch; null if that is unknown."""
    watched_as: str
    """The name and role of this observer."""
    phase: Phase
    waiting: str
    """What the start of the run waits for; empty if it does not wait."""
    options: str
    """Before a run: the options that were given and that it will have; empty if all are defaults."""
    options_of: str
    """Name of the device whose options these are; empty if nobody gave any, or if it is undecided."""
    addresses: tuple[AddressState, ...]
    """The addresses that the node dials for its operator: listed, found in the network, known from before."""
    unreached: dict[str, str]
    """Those of them where no node answers or one side refuses the other, with the reason."""
    excluded: dict[str, str]
    """By node id: who is kept out of the federation, by whom and why."""
    run: str
    """The run's id; empty without a run, and the fields below are 0, empty or null then."""
    task: str
    model: str
    strategy: str
    """With its options that have not their default."""
    round: int
    """Committed training rounds."""
    rounds: int
    """Training rounds the run should have."""
    accuracy: float | None
    """Accuracy of the last evaluated model on the members' held-out data; null if it is not measured, as the
    loss."""
    loss: float | None
    primary: str
    """The metric by which models are compared."""
    direction: Literal["max", "min"]
    """Whether a larger or a smaller value of it is better."""
    metrics: dict[str, float]
    """Every metric of that model, by name."""
    notes: tuple[str, ...]
    """What is unusual about the data of single devices."""
    evaluated_round: int | None
    """The round of that model."""
    evaluated_by: int
    """Members that evaluated it."""
    evaluated_examples: int
    """Their held-out samples."""
    is_provisional: bool
    """Whether the evaluation is reported but not committed, so that it may still change."""
    aggregator: str
    """Aggregator of the open round; empty before the election."""
    members: tuple[str, ...]
    """Names of the roster."""
    selected: tuple[str, ...]
    """Those of them that are to train in the open round; empty if all are."""
    reachable: int
    """Members that are linked to the node and in the run, the node included."""
    needed: int
    """Members that make a quorum."""
    tolerates: int
    """Reachable members that may fail before the run has no quorum."""
    left_out: dict[str, str]
    """Members without an update in the last committed round, with the reason."""
    wanted: dict[str, str]
    """Control requests that no commit has fulfilled yet ("pause", "end", "end-now"), with the requester."""
    peers: tuple[PeerNow, ...]
    transfers: tuple[TransferNow, ...]
    memory: int
    """Resident bytes of node and worker; 0 if they were not measured in time."""


async def take_snapshot(observer: Observer, seconds: float = LIVE_SECONDS) -> Snapshot:
    """Return a snapshot of *observer*'s node; wait at most *seconds* for its first measurement.

    Raises:
        NetworkError: the connection ended within the history.
    """
    state = State()
    frames = observer.frames()
    async for frame in frames:
        _take(state, frame)
        if isinstance(frame, HistoryEnd):
            break
    try:
        async with asyncio.timeout(seconds):
            async for frame in frames:
                _take(state, frame)
                if isinstance(frame, EventBatch) and any(
                    isinstance(one.event, Measured) for one in frame.events
                ):
                    break
    except TimeoutError:
        pass  # without a measurement
    finally:
        await frames.aclose()
    return snapshot_of(state, observer.greeting.who)


def _take(state: State, frame: HistoryBatch | EventBatch | HistoryEnd) -> None:
    match frame:
        case HistoryBatch(rounds=rows):
            for row in rows:
                state.apply(row)
        case EventBatch(events=happened):
            for item in happened:
                state.apply(item)
        case HistoryEnd():
            pass


def snapshot_of(state: State, who: str = "") -> Snapshot:
    """Return the snapshot of *state*, observed as *who*."""
    rounds = list(state.rounds)
    last = rounds[-1] if rounds else None
    scored = [one for one in reversed(rounds) if one.metrics]
    evaluated = next((one for one in scored if not one.is_partial), scored[0] if scored else None)
    return Snapshot(
        time=state.time,
        name=state.name,
        node=state.node,
        federation=state.federation,
        address=state.address,
        data_dir=state.data_dir,
        certificate_until=state.certificate_until,
        watched_as=who,
        phase=state.phase,
        waiting=state.waiting.reason if state.waiting is not None else "",
        options=state.waiting.options if state.waiting is not None else "",
        options_of=state.waiting.options_of if state.waiting is not None else "",
        addresses=state.addresses,
        unreached=state.unreached,
        excluded=dict(state.excluded),
        run=state.run,
        task=task_name(state.spec.task) if state.spec is not None else "",
        model=model_name(state.spec.task) if state.spec is not None else "",
        strategy=describe_strategy(state.spec.strategy) if state.spec is not None else "",
        round=state.trained,
        rounds=state.target_rounds,
        accuracy=evaluated.metrics.get("accuracy") if evaluated is not None else None,
        loss=evaluated.loss if evaluated is not None else None,
        primary=state.primary,
        direction=state.measures.direction,
        metrics=evaluated.metrics if evaluated is not None else {},
        notes=state.notes,
        evaluated_round=evaluated.round if evaluated is not None else None,
        evaluated_by=len(evaluated.scores) if evaluated is not None else 0,
        evaluated_examples=evaluated.examples if evaluated is not None else 0,
        is_provisional=evaluated is not None and evaluated.is_provisional,
        aggregator=state.open.aggregator if state.open is not None else "",
        members=state.members,
        selected=tuple(state.expected_members(state.open)) if state.open and state.open.selected else (),
        reachable=state.reachable,
        needed=state.needed,
        tolerates=state.tolerates(),
        left_out=dict(last.left_out) if last is not None else {},
        wanted=dict(state.control_requests),
        peers=tuple(_peer(state, peer) for peer in state.peers.values()),
        transfers=tuple(
            TransferNow(one.what, one.peer, one.done, one.total, round(one.rate, 1))
            for one in state.transfers.values()
        ),
        memory=state.memory,
    )


def _peer(state: State, peer: Peer) -> PeerNow:
    activity = state.activity(peer)
    score = peer.score
    return PeerNow(
        name=peer.name,
        node=peer.node,
        address=peer.address,
        is_me=peer.is_me,
        is_member=peer.is_member,
        is_linked=peer.is_connected,
        doing=activity.kind,
        progress=round(activity.progress, 4) if activity.progress is not None else None,
        since=peer.since,
        rtt=peer.rtt,
        accuracy=_rounded(score.mean("accuracy")) if score is not None else None,
        metrics=score.metrics if score is not None else {},
        examples=peer.update.examples if peer.update is not None else None,
    )


def _rounded(value: float | None) -> float | None:
    return round(value, 6) if value is not None else None


# --- as text ------------------------------------------------------------------------------------------------


def lines_of(snapshot: Snapshot) -> list[str]:
    """Return *snapshot* as lines of at most 80 characters."""
    lines = [
        f"node        {_name(snapshot.name)} ({snapshot.node[:7]})",
        f"federation  {_name(snapshot.federation)}, watched as {one_line(snapshot.watched_as, 40)}",
        f"listens on  {snapshot.address}",
        *_certificate_lines(snapshot),
        *_run_lines(snapshot),
        *(line for text in snapshot.excluded.values() for line in _wrapped("kept out", one_line(text, 400))),
        *(line for one in snapshot.addresses for line in _address_lines(one, snapshot.time)),
    ]
    if snapshot.memory:
        lines.append(f"memory      {snapshot.memory / 2**20:,.0f} MiB, node and worker")
    if snapshot.peers:
        heading = metric_heading(snapshot.primary, 6)
        lines += [
            "",
            f"  {'NODE':<{NAME_WIDTH}} {'DOES':<15} {'ROLE':<8} {heading:>6} {'SAMPLES':>8} {'RTT':>8}",
        ]
        lines += [_peer_line(peer, snapshot.primary) for peer in snapshot.peers]
    if snapshot.transfers:
        lines += ["", *(_transfer_line(one) for one in snapshot.transfers)]
    return [one_line(line, WIDTH).rstrip() for line in lines]


def _certificate_lines(snapshot: Snapshot) -> list[str]:
    """Return a line if the node's certificate ends soon, or has ended."""
    if snapshot.certificate_until is None:
        return []
    left = snapshot.certificate_until - snapshot.time
    when = show_timestamp(snapshot.certificate_until)
    if left <= 0:
        return [f"certificate expired on {when}: no new link can be made"]
    if left > CERTIFICATE_SOON.total_seconds():
        return []
    return [f"certificate ends in {in_words(timedelta(seconds=left))}, on {when}"]


def _run_lines(snapshot: Snapshot) -> list[str]:
    wanted = [f"wanted      {what}, by {one_line(by, 50)}" for what, by in snapshot.wanted.items()]
    if not snapshot.run:
        text = f"waiting: {snapshot.waiting}" if snapshot.waiting else "no run yet"
        lines = _wrapped("run", one_line(text, 400))
        if snapshot.options_of:
            options = f"{snapshot.options or 'the defaults'}, of {_name(snapshot.options_of)}"
            lines += _wrapped("options", options)
        return [*lines, *wanted]
    lines = [
        f"run         {snapshot.run[:7]}, {one_line(snapshot.task, 24)}/{one_line(snapshot.model, 24)}: "
        f"{PHASES.get(snapshot.phase, snapshot.phase)}",
        f"round       {snapshot.round} of {snapshot.rounds} committed"
        + (f", {_name(snapshot.aggregator)} aggregates the next" if snapshot.aggregator else ""),
    ]
    if snapshot.strategy != describe_strategy(FedAvgSpec()):
        lines.insert(1, f"strategy    {one_line(snapshot.strategy, WIDTH - 12)}")
    if (value := snapshot.metrics.get(snapshot.primary)) is not None:
        has_loss = snapshot.loss is not None and snapshot.primary != "loss"
        loss = f", loss {metric_text(snapshot.loss)}" if has_loss and snapshot.loss is not None else ""
        label = one_line(snapshot.primary, 11)
        lines.append(f"{label:<11} {metric_text(value)}{loss} after round {snapshot.evaluated_round}")
        if snapshot.is_provisional:
            lines.append(
                f"            reported by {snapshot.evaluated_by} of {len(snapshot.members)} members on "
                f"{snapshot.evaluated_examples:,} samples, not committed"
            )
    members = f"{snapshot.reachable} of {len(snapshot.members)} members reachable, {snapshot.needed} needed"
    without = [
        line
        for name, reason in snapshot.left_out.items()
        for line in _wrapped(
            "left out", f"{one_line(name, 60)} in round {snapshot.round}: {one_line(reason, 300)}"
        )
    ]
    selected = []
    if snapshot.selected:
        names = ", ".join(one_line(name, 60) for name in snapshot.selected)
        which = f"{len(snapshot.selected)} of {len(snapshot.members)} members train in this round: {names}"
        selected = _wrapped("selected", one_line(which, 400))
    return [*lines, *selected, f"quorum      {members}; {_spare(snapshot)}", *without, *wanted]


def _spare(snapshot: Snapshot) -> str:
    """Return how many members may fail before the run waits, or must return before it continues."""
    missing = snapshot.needed - snapshot.reachable
    if missing > 0:
        return f"waits for {missing} more"
    leaving = [one.name for one in snapshot.peers if one.is_member and one.doing == "leaving"]
    others = len(snapshot.members) - len(leaving)
    if leaving and others and snapshot.reachable - len(leaving) < quorum(others):
        return f"waits for another: {one_line(', '.join(leaving), 60)} leaving"
    if not snapshot.tolerates:
        return "not one may be lost"
    return f"{snapshot.tolerates} may be lost"


def _address_lines(one: AddressState, now: float) -> list[str]:
    where = f"{one_line(one.address, 60)} ({one.kind})"
    match one.state:
        case "linked":
            text = f"is linked: {_name(one.name)}"
        case "dialling":
            text = "is dialled"
        case "unreached":
            text = f"is not reached: {one_line(one.reason, 300)}"
        case "refused":
            text = f"is refused: {one_line(one.reason, 300)}"
        case _:
            assert_never(one.state)
    again = ""
    if one.next_try is not None:
        left = one.next_try - now
        again = f"; the next try is in {math.ceil(left)} s" if left > 0 else "; it is being tried again"
    return _wrapped("address", f"{where} {text.rstrip('.')}{again}")


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{label:<12}", subsequent_indent=" " * 12)


def _peer_line(peer: PeerNow, primary: str) -> str:
    doing = peer.doing + (f" {peer.progress:.0%}" if peer.progress is not None else "")
    role = "this one" if peer.is_me else "member" if peer.is_member else "-"
    value = peer.metrics.get(primary)
    result = metric_cell(value, 6) if value is not None else "-"
    samples = f"{peer.examples:,}" if peer.examples is not None else "-"
    rtt = f"{1000 * peer.rtt:.1f} ms" if peer.rtt is not None else "-"
    mark = MARKS.get(peer.doing, " ")
    return f"{mark} {_name(peer.name):<{NAME_WIDTH}} {doing:<15} {role:<8} {result:>6} {samples:>8} {rtt:>8}"


def _transfer_line(one: TransferNow) -> str:
    what = f"receives from {_name(one.peer)}" if one.what == "pull" else f"sends to {_name(one.peer)}"
    share = one.done / one.total if one.total else 0.0
    megabytes = f"{one.done / 1e6:.1f} of {one.total / 1e6:.1f} MB"
    return f"{what}: {share:.0%}, {megabytes}, {one.rate / 1e6:.1f} MB/s"


def _name(text: str) -> str:
    return one_line(text, NAME_WIDTH)
