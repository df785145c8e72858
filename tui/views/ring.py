"""The federation as a picture: its nodes, who aggregates, and what moves between them."""

from __future__ import annotations

from rich.text import Text

from p2pfl.observe.peers import Peer
from p2pfl.observe.state import FINISHED_PHASES, State
from p2pfl.text import plural
from tui.symbols import SYMBOLS, Glyphs, ago, clip, share
from tui.views.rounds import current_step, open_name, round_progress
from tui.views.summary import primary_of
from tui.widgets.ring import RingLink, RingNode, RingPicture

RATES = (64 * 1024.0, 1024 * 1024.0)
"""Bytes a second from which a link is drawn two and three dots wide."""

ADDRESS_CELLS = 22
"""Of an address where no node is linked."""

GONE = frozenset({"lost", "left", "absent"})
"""Activities of nodes that are not here."""


def ring(state: State, now: float, glyphs: Glyphs) -> RingPicture:
    """Return the picture of the federation; this node is first, then the others by name."""
    peers = sorted(state.peers.values(), key=lambda peer: (not peer.is_me, _is_stranger(peer), peer.name))
    places = {peer.name: number for number, peer in enumerate(peers)}
    aggregator = state.open.aggregator if state.open is not None and state.phase == "running" else ""
    hub = aggregator if aggregator in places else state.name
    nodes = tuple(_node(state, peer, now, glyphs, is_starred=peer.name == aggregator) for peer in peers)
    links = tuple(
        _link(state, peer, state.peers[hub], places)
        for peer in peers
        if peer.name != hub and hub in places and (peer.is_me or peer.since is not None)
    )
    if not state.run:
        strangers, cut = _unreached(state, glyphs, len(nodes), places.get(state.name))
        nodes, links = (*nodes, *strangers), (*links, *cut)
    return RingPicture(nodes, (*links, *_asides(state, hub, places)), _centre(state))


def _unreached(
    state: State, glyphs: Glyphs, first: int, me: int | None
) -> tuple[list[RingNode], list[RingLink]]:
    """Return the addresses that the node dials without success, numbered from *first*, and the cut links."""
    nodes, links = [], []
    for one in state.addresses:
        if one.state != "linked" and one.name not in state.peers:
            is_tried = one.state == "dialling"
            style = "quiet" if is_tried else "bad" if one.state == "refused" else "warning"
            word = "not reached" if one.state == "unreached" else one.state
            nodes.append(RingNode(clip(one.address, ADDRESS_CELLS), glyphs.hollow, style, word, False))
            if me is not None:
                links.append(RingLink(first + len(nodes) - 1, me, style, is_dotted=True))
    return nodes, links


def _is_stranger(peer: Peer) -> bool:
    return not peer.is_member and not peer.is_connected


def _node(state: State, peer: Peer, now: float, glyphs: Glyphs, *, is_starred: bool) -> RingNode:
    activity = state.activity(peer)
    symbol = SYMBOLS[activity.kind]
    mark = symbol.ascii if glyphs.is_ascii else symbol.mark
    note = symbol.text
    if activity.kind in GONE:
        mark = glyphs.hollow
        if peer.since is not None:
            note = f"{symbol.text} {ago(now - peer.since)}"
    elif activity.progress is not None:
        note = f"{symbol.text} {share(activity.progress)}"
    elif activity.detail:
        note = f"{symbol.text} {activity.detail}"
    elif activity.kind in ("merged", "done", "trained") and peer.score is not None:
        note = f"{symbol.text} {primary_of(state, peer.score)}"
    style = symbol.style_name
    if state.why_out(peer):
        return RingNode(peer.name, mark, style, note, False)
    if not peer.is_connected and state.phase == "no quorum":
        style = "quiet"  # the other side of a partition goes on without this one, as far as anybody knows
    return RingNode(peer.name, mark, style, note, is_starred and mark != glyphs.star)


def _link(state: State, peer: Peer, hub: Peer, places: dict[str, int]) -> RingLink:
    """Return the link between *peer* and the node that the others send their updates to."""
    start, end = places[peer.name], places[hub.name]
    if not peer.is_connected or not hub.is_connected:
        style = "quiet" if state.phase == "no quorum" else "bad"
        return RingLink(start, end, style, is_dotted=True)
    activity = state.activity(peer)
    if activity.kind == "learner":
        return RingLink(start, end, "quiet", is_dotted=True)
    other = peer if hub.is_me else hub if peer.is_me else None
    speed = other.up + other.down if other is not None else 0.0
    weight = 1 + sum(speed >= least for least in RATES)
    moved = _moved(state, peer.name, hub.name)
    if moved is not None:
        forward, part = moved
        ends = (start, end) if forward else (end, start)
        return RingLink(*ends, "move", max(2, weight), moved=part)
    return RingLink(start, end, "good" if activity.kind == "merged" else "band", weight)


def _moved(state: State, peer: str, hub: str) -> tuple[bool, float] | None:
    """Return whether a model moves towards *hub*, and its share of the way; None if none is seen to move.

    A node sees only the models that it sends and receives itself.
    """
    if state.name not in (peer, hub):
        return None
    other = hub if peer == state.name else peer
    for what in ("push", "pull"):
        transfer = state.transfers.get((what, other))
        if transfer is not None and transfer.total:
            part = transfer.done / transfer.total
            return (what == "push") == (hub == other), part
    return None


def _asides(state: State, hub: str, places: dict[str, int]) -> list[RingLink]:
    """Return the links on which models move that do not touch *hub*: any node may serve a model."""
    found = []
    for (what, other), transfer in state.transfers.items():
        if hub in (other, state.name) or other not in places or state.name not in places:
            continue
        ends = (places[state.name], places[other])
        start, end = ends if what == "push" else ends[::-1]
        moved = transfer.done / transfer.total if transfer.total else None
        found.append(RingLink(start, end, "move", 2, moved=moved))
    return found


def _centre(state: State) -> tuple[Text, ...]:
    """Return the lines in the middle: the round, and what it waits for."""
    if state.phase in FINISHED_PHASES:
        return (Text(f"{state.trained} {plural(state.trained, 'round')} trained", style="good"),)
    if state.phase == "no quorum" and state.quorum is not None:
        here, members, needed = state.quorum
        return (
            Text("NO QUORUM", style="bad"),
            Text(f"{here} of {members} here, {needed} needed", style="quiet"),
        )
    if state.phase == "paused":
        return (Text("PAUSED", style="warning"),)
    opened = state.open
    if not state.run and state.waiting is not None:
        waiting = state.waiting
        return (Text(f"{waiting.present} of {waiting.needed} here", style="bold"),)
    if opened is None or not state.run:
        return ()
    of = f" of {state.planned_rounds}" if opened.kind == "train" and state.planned_rounds else ""
    have = round_progress(state, opened)
    match current_step(state, opened, have):
        case "accept":
            step = f"votes, {state.needed} of {len(state.members)} decide"
        case "transfer" | "average" if opened.aggregator == state.name:
            step = f"{len(opened.counted)} of {have.wanted} updates"
        case "average":
            step = "evaluating"
        case _:
            step = f"{len(have.trained)} of {have.wanted} trained" if have.trained else "training"
    return (Text(f"{open_name(state)}{of}", style="bold"), Text(step, style="quiet"))
