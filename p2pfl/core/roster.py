"""Pure functions of a roster: its quorum, its order of candidates, its sample for training, its successor."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, assert_never

import msgspec
from blake3 import blake3

from p2pfl.messages import Member, RosterEntry, quorum
from p2pfl.spec import MAX_ROSTER, RunSpec, SampleBy
from p2pfl.strategy_specs import least_updates


def tolerance(size: int) -> int:
    """Return how many members of a roster of *size* may fail while the others still have a quorum."""
    return size - quorum(size)


def contains(roster: Sequence[RosterEntry], member: Member) -> bool:
    """Whether *member*, with its journal, votes in *roster*."""
    return any(entry.node == member.node and entry.journal == member.journal for entry in roster)


def entry_of(roster: Sequence[RosterEntry], node: str) -> RosterEntry | None:
    """Return the entry of *node*, if it has one."""
    return next((entry for entry in roster if entry.node == node), None)


def _order(salt: str, run: str, round_: int, node: str) -> bytes:
    return blake3(f"{salt}/{run}/{round_}/{node}".encode()).digest()


def ranked(run: str, round_: int, nodes: Collection[str]) -> list[str]:
    """Order *nodes* as candidates for *round_* by a hash of the round: the same order on every node."""
    return sorted(nodes, key=lambda node: _order("elect", run, round_, node))


def sampled(run: str, round_: int, roster: Sequence[RosterEntry], by: SampleBy = "uniform") -> list[str]:
    """Order all members for selection (rule "Sampling"): the first ones train."""
    match by:
        case "uniform":
            nodes = (entry.node for entry in roster)
            return sorted(nodes, key=lambda node: _order("sample", run, round_, node))
        case "examples":
            return _drawn(run, round_, roster)
        case _:
            assert_never(by)


def _drawn(run: str, round_: int, roster: Sequence[RosterEntry]) -> list[str]:
    """Order members by draws without replacement, each with a probability proportional to its examples.

    Successive sampling: draw *k* takes a hash as a number modulo the examples of all that are left. Integers
    are exact, so all nodes agree; 256 bits make the bias of the modulus less than 2**-200.
    """
    left = sorted((entry.node, entry.examples) for entry in roster)
    order = []
    for draw in range(len(left)):
        point = int.from_bytes(_order("draw", run, round_, str(draw)), "big") % sum(part for _, part in left)
        place = 0
        while point >= left[place][1]:
            point -= left[place][1]
            place += 1
        order.append(left.pop(place)[0])
    return order


def sample_size(spec: RunSpec, members: int) -> int:
    """Return how many of *members* are selected to train in a round.

    A fraction C selects max(C K, 1) of K members (McMahan et al. 2017, algorithm 1), here rounded to the
    nearest number, and at least as many as the strategy can aggregate.
    """
    participation = spec.participation
    if participation.sample:
        return min(participation.sample, members)
    if not participation.fraction:
        return members
    nearest = int(participation.fraction * members + 0.5)  # exact in float 64: the same on every node
    return min(max(nearest, 1, least_updates(spec.strategy)), members)


def selection(run: str, round_: int, roster: Sequence[RosterEntry], spec: RunSpec) -> frozenset[str]:
    """Return the members selected to train at the start of *round_*."""
    count = sample_size(spec, len(roster))
    if count == len(roster):
        return frozenset(entry.node for entry in roster)
    return frozenset(sampled(run, round_, roster, spec.participation.sample_by)[:count])


class Newcomer(NamedTuple):
    """A node that joins a roster, with the number of examples that its data card states."""

    member: Member
    name: str
    examples: int


def _entry(one: Newcomer, slot: int) -> RosterEntry:
    return RosterEntry(one.member.node, one.member.journal, one.name, slot, one.examples)


def genesis_roster(members: Iterable[Newcomer]) -> tuple[RosterEntry, ...]:
    """Return the roster of record 0 for *members*, with slots in the order of node ids."""
    return tuple(_entry(one, slot) for slot, one in enumerate(sorted(members)))


def continued_roster(old: Sequence[RosterEntry], members: Iterable[Newcomer]) -> tuple[RosterEntry, ...]:
    """Return the roster of record 0 of a run that *members* continue; each keeps its slot."""
    result: list[RosterEntry] = []
    for one in sorted(members, key=lambda one: (entry_of(old, one.member.node) is None, one)):
        before = entry_of(old, one.member.node)
        slot = before.slot if before is not None else _slot_for(one.member.node, result, ())
        result.append(_entry(one, slot))
    return tuple(result)


class RosterView(msgspec.Struct, frozen=True):
    """What an aggregator knows when it decides on the next roster."""

    me: Member
    reachable: frozenset[Member]
    """Linked nodes with their present journals, and the aggregator itself."""
    leaving: frozenset[str]
    absent: Mapping[str, float]
    """Members without a link for at least `drop_after` seconds, and the length of their absence in
    seconds."""
    joiners: tuple[Newcomer, ...]
    """Learners (nodes that are no members yet) that hold the parent's record and blobs, and whose data fit
    the agreement."""
    excluded: Mapping[str, str] = {}
    """Members that are banned or kicked, with the reason as half a sentence after the name."""


def next_roster(roster: tuple[RosterEntry, ...], view: RosterView) -> tuple[tuple[RosterEntry, ...], str]:
    """Return the roster of the next round and why it differs; the reason is empty if it does not.

    Implements the rules "Dropping members", "Joining", "Keeping members out" and "Reachable roster". Members
    that are kept out are removed, also where the others reach no quorum then. Leavers are removed. Absent
    members are removed, longest absence first, only if that makes the quorum smaller, and never more than the
    roster tolerates. Joiners are added: fewer than the new quorum, and so few that each quorum of the new
    roster has a member that accepted this record. A node with a new journal takes the place and slot of its
    old entry. If the aggregator cannot reach a quorum of the result, no leaver or absent member is removed
    and only the joiners are added, and the next record removes the leavers. If that is not possible either,
    nobody is added.
    """
    removed = _removable(roster, view)
    staying = [entry for entry in roster if entry not in removed]
    kept = [entry for entry in staying if entry.node not in view.leaving]
    why = [f"{entry.name} {view.excluded[entry.node]}" for entry in removed]
    if not kept:
        return tuple(staying), "; ".join(why)[:300]
    dropped = _droppable(kept, view, limit=tolerance(len(roster)))
    result, joined = _admit([entry for entry in kept if entry not in dropped], roster, view)
    left = [entry for entry in staying if entry.node in view.leaving]
    if not _is_reachable(result, view):
        (result, joined), left, dropped = _admit(staying, roster, view), [], []
    if not _is_reachable(result, view):
        result, joined = tuple(staying), []
    changes = {"left": left, "dropped after a long absence": dropped, "joined": joined}
    why += [_phrase(what, entries) for what, entries in changes.items() if entries]
    return result, "; ".join(why)[:300]


def _removable(roster: tuple[RosterEntry, ...], view: RosterView) -> list[RosterEntry]:
    """Return the members that the next roster is without because they are kept out; never all members.

    Only members that accepted the record surely have its model. If the others are a quorum, those accept it.
    Otherwise votes of members that are kept out are among the acceptances: then one at a time is removed, so
    that each quorum of the new roster still has a member that accepted the record.
    """
    excluded = [entry for entry in roster if entry.node in view.excluded]
    others = [entry for entry in roster if entry not in excluded]
    if not others:
        return []
    seated = sum(entry.member in view.reachable for entry in others)
    return excluded if seated >= quorum(len(roster)) else excluded[:1]


def _is_reachable(roster: Sequence[RosterEntry], view: RosterView) -> bool:
    """Whether the aggregator reaches a quorum of *roster*."""
    return sum(entry.member in view.reachable for entry in roster) >= quorum(len(roster))


def keeps_model(voters: int, size: int) -> bool:
    """Whether each quorum of a roster of *size* shares a member with each quorum of its *voters*.

    Only members that accepted a record surely have its model. Without one of them no next round can begin.
    """
    return quorum(voters) + quorum(size) > size


def _droppable(kept: list[RosterEntry], view: RosterView, limit: int) -> list[RosterEntry]:
    absent = sorted(
        (entry for entry in kept if entry.node in view.absent), key=lambda entry: -view.absent[entry.node]
    )[:limit]
    if quorum(len(kept) - len(absent)) < quorum(len(kept)) and len(absent) < len(kept):
        return absent
    return []


def _admit(
    kept: list[RosterEntry], old: tuple[RosterEntry, ...], view: RosterView
) -> tuple[tuple[RosterEntry, ...], list[RosterEntry]]:
    result = list(kept)
    joined: list[RosterEntry] = []
    for one in view.joiners:
        node = one.member.node
        position = next((i for i, entry in enumerate(result) if entry.node == node), None)
        size = len(result) + (position is None)
        if len(joined) + 1 >= quorum(size) or not keeps_model(len(old), size):
            continue
        if position is not None:
            entry = _entry(one, result[position].slot)
            result[position] = entry
        elif len(result) < MAX_ROSTER:
            entry = _entry(one, _slot_for(node, result, old))
            result.append(entry)
        else:
            continue
        joined.append(entry)
    return tuple(result), joined


def _slot_for(node: str, entries: list[RosterEntry], old: tuple[RosterEntry, ...]) -> int:
    """Return the slot that *node* had in *old* if it is still free, else the lowest free slot."""
    taken = {entry.slot for entry in entries}
    previous = entry_of(old, node)
    if previous is not None and previous.slot not in taken:
        return previous.slot
    return next(slot for slot in range(len(entries) + 1) if slot not in taken)


def _phrase(what: str, entries: Sequence[RosterEntry]) -> str:
    return f"{what}: {', '.join(entry.name for entry in entries)}"
