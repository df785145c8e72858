from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.core.roster import (
    Newcomer,
    RosterView,
    contains,
    continued_roster,
    entry_of,
    genesis_roster,
    keeps_model,
    next_roster,
    ranked,
    sample_size,
    sampled,
    selection,
    tolerance,
)
from p2pfl.messages import RosterEntry, quorum
from p2pfl.spec import MAX_ROSTER, with_options
from tests.support.core import member
from tests.support.known import known
from tests.support.records import CARD, NAMES, SPEC, digest, node, roster

RUN = digest("run")


def view(
    reachable: Any,
    leaving: tuple[str, ...] = (),
    absent: Any = (),
    joiners: Any = (),
    renewed: Any = (),
    excluded: tuple[str, ...] = (),
) -> RosterView:
    """What the first of *reachable* sees; *joiners* and *renewed* are linked with another disk than before."""
    disks = {**dict.fromkeys(reachable, ""), **dict.fromkeys(renewed, "new disk"), **dict(joiners)}
    return RosterView(
        me=member(reachable[0]),
        reachable=frozenset(member(name, disk) for name, disk in disks.items()),
        leaving=frozenset(node(name) for name in leaving),
        absent={node(name): seconds for name, seconds in dict(absent).items()},
        joiners=tuple(Newcomer(member(name, disk), name, CARD.examples) for name, disk in joiners),
        excluded={node(name): "is banned by desk" for name in excluded},
    )


def names(entries: tuple[RosterEntry, ...]) -> tuple[str, ...]:
    return tuple(entry.name for entry in entries)


@pytest.mark.parametrize(("size", "losses"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (7, 3)])
def test_tolerance_is_what_a_majority_can_spare(size: int, losses: int) -> None:
    assert tolerance(size) == losses


def test_two_absent_of_five_are_dropped_together() -> None:
    five = roster(*NAMES)
    result, reason = next_roster(five, view(NAMES[:3], absent={"dan": 70.0, "eve": 80.0}))
    assert names(result) == NAMES[:3]
    assert reason == "dropped after a long absence: eve, dan"


def test_one_absent_of_five_stays_since_the_quorum_would_be_the_same_less_one() -> None:
    five = roster(*NAMES)
    # 5 -> 4 keeps the quorum at three: nothing is gained, a voter is lost.
    assert next_roster(five, view(NAMES[:4], absent={"eve": 500.0})) == (five, "")


def test_one_absent_of_four_is_dropped_since_three_need_only_two() -> None:
    four = roster(*NAMES[:4])
    result, _ = next_roster(four, view(NAMES[:3], absent={"dan": 70.0}))
    assert names(result) == NAMES[:3]


def test_one_absent_of_three_stays_since_two_tolerate_nothing() -> None:
    three = roster(*NAMES[:3])
    assert next_roster(three, view(NAMES[:2], absent={"cleo": 500.0})) == (three, "")


def test_never_more_than_a_minority_is_dropped_at_once() -> None:
    seven = roster("a", "b", "c", "d", "e", "f", "g")
    absent = {"d": 61.0, "e": 62.0, "f": 63.0, "g": 64.0}
    result, _ = next_roster(seven, view(("a", "b", "c"), absent=absent))
    assert names(result) == ("a", "b", "c", "d")  # the longest absent three went, as many as seven tolerate


def test_a_leaver_goes_whatever_that_does_to_the_quorum() -> None:
    three = roster(*NAMES[:3])
    result, reason = next_roster(three, view(NAMES[:3], leaving=("ben",)))
    assert names(result) == ("ada", "cleo")
    assert reason == "left: ben"


def test_the_roster_stays_when_everybody_leaves() -> None:
    two = roster("ada", "ben")
    assert next_roster(two, view(("ada", "ben"), leaving=("ada", "ben"))) == (two, "")


def test_a_joiner_takes_the_lowest_free_slot() -> None:
    entries = tuple(entry for entry in roster(*NAMES[:4]) if entry.name != "ben")
    result, reason = next_roster(entries, view(("ada", "cleo", "dan", "eve"), joiners=[("eve", "")]))
    assert known(entry_of(result, node("eve"))).slot == 1
    assert reason == "joined: eve"


def test_joiners_are_fewer_than_the_new_quorum() -> None:
    three = roster(*NAMES[:3])
    joiners = [(name, "") for name in ("dan", "eve", "fay", "gil")]
    result, _ = next_roster(three, view((*NAMES[:3], "dan", "eve", "fay", "gil"), joiners=joiners))
    joined = [entry for entry in result if entry not in three]
    assert 0 < len(joined) < quorum(len(result))


def test_a_lone_member_cannot_take_a_second_which_alone_would_be_half_a_quorum() -> None:
    # With a roster of two the quorum is two and the joiner is one, fewer than that: it may come.
    result, _ = next_roster(roster("ada"), view(("ada", "ben"), joiners=[("ben", "")]))
    assert names(result) == ("ada", "ben")


def test_a_new_journal_replaces_the_old_one_in_one_step_and_keeps_the_slot() -> None:
    three = roster(*NAMES[:3])
    result, _ = next_roster(three, view(NAMES[:3], joiners=[("ben", "ben's new disk")]))
    assert contains(result, member("ben", "ben's new disk"))
    assert not contains(result, member("ben"))
    assert known(entry_of(result, node("ben"))).slot == known(entry_of(three, node("ben"))).slot
    assert len(result) == 3


def test_a_new_journal_of_a_leaver_comes_back_to_its_own_slot() -> None:
    three = roster(*NAMES[:3])
    left_and_back = view(NAMES[:3], leaving=("ada",), joiners=[("ada", "another disk")])
    result, _ = next_roster(three, left_and_back)
    assert known(entry_of(result, node("ada"))).slot == 0


def test_the_roster_stays_where_its_successor_could_not_be_reached() -> None:
    five = roster(*NAMES)
    leaves_two_of_four = view(("ada", "ben", "cleo"), leaving=("ben",))
    assert next_roster(five, leaves_two_of_four) == (five, "")


def test_a_member_that_lost_its_disk_counts_for_no_quorum_until_its_new_journal_is_in_the_roster() -> None:
    three = roster(*NAMES[:3])
    # Without cleo, ben's lost journal would be needed for every quorum: the run would stop for good.
    assert next_roster(three, view(NAMES[:3], leaving=("cleo",), renewed=("ben",))) == (three, "")
    taken = view(NAMES[:3], leaving=("cleo",), joiners=[("ben", "new disk")])
    result, _ = next_roster(roster(*NAMES[:4]), taken)
    assert {entry.name for entry in result} == {"ada", "ben", "dan"}


def test_two_of_three_leave_only_after_the_third_is_back_with_a_new_journal() -> None:
    three = roster(*NAMES[:3])
    # Alone, cleo's new journal would be a quorum that has accepted nothing.
    seen = view(NAMES[:3], leaving=("ada", "ben"), joiners=[("cleo", "new disk")])
    first, reason = next_roster(three, seen)
    assert {entry.member for entry in first} == {member("ada"), member("ben"), member("cleo", "new disk")}
    assert reason == "joined: cleo"
    second, reason = next_roster(first, msgspec.structs.replace(seen, joiners=()))
    assert [entry.member for entry in second] == [member("cleo", "new disk")]
    assert reason == "left: ada, ben"


def test_leavers_stay_until_a_new_device_replaces_a_member_that_is_away() -> None:
    three = roster(*NAMES[:3])
    seen = view(("ada", "ben", "dan"), leaving=("ada", "ben"), joiners=[("dan", "")])
    result, reason = next_roster(three, seen)
    assert (names(result), reason) == (NAMES[:4], "joined: dan")


def test_an_absent_member_is_not_dropped_together_with_the_leavers_that_must_stay() -> None:
    five = roster(*NAMES)
    seen = view(
        ("ada", "ben", "cleo", "dan"),
        leaving=("ada", "ben", "cleo"),
        absent={"eve": 70.0},
        renewed=("dan",),
        joiners=[("dan", "new disk")],
    )
    result, reason = next_roster(five, seen)
    assert (names(result), reason) == (NAMES, "joined: dan")
    assert contains(result, member("dan", "new disk"))


def test_genesis_gives_slots_in_the_order_of_node_ids() -> None:
    members = [Newcomer(member(name), name, 5) for name in ("cleo", "ada", "ben")]
    assert names(genesis_roster(members)) == ("ada", "ben", "cleo")
    assert [entry.slot for entry in genesis_roster(members)] == [0, 1, 2]


def test_a_member_is_its_node_together_with_its_journal() -> None:
    assert contains(roster("ada"), member("ada"))
    assert not contains(roster("ada"), member("ada", "another disk"))


def test_the_duty_rotates_fairly() -> None:
    nodes = [node(name) for name in NAMES]
    first = Counter(ranked(RUN, round_, nodes)[0] for round_ in range(1, 501))
    assert set(first) == set(nodes)
    assert max(first.values()) < 1.6 * min(first.values())


def test_everybody_computes_the_same_ranks_whatever_the_order_it_knows_them_in() -> None:
    nodes = [node(name) for name in NAMES]
    assert ranked(RUN, 7, nodes) == ranked(RUN, 7, list(reversed(nodes)))


def test_the_sample_does_not_follow_the_ranks() -> None:
    # With one hash for both, the first in rank would always be sampled.
    five = roster(*NAMES)
    one = with_options(SPEC, sample=1)
    together = sum(
        ranked(RUN, round_, [entry.node for entry in five])[0] in selection(RUN, round_, five, one)
        for round_ in range(1, 301)
    )
    assert 20 < together < 120  # a fifth of 300, give or take


def test_a_sample_is_the_first_of_an_order_of_all() -> None:
    five = roster(*NAMES)
    order = sampled(RUN, 3, five)
    assert sorted(order) == sorted(entry.node for entry in five)
    assert selection(RUN, 3, five, with_options(SPEC, sample=2)) == frozenset(order[:2])
    assert selection(RUN, 3, five, with_options(SPEC, fraction=0.4)) == frozenset(order[:2])


def test_without_sampling_everybody_is_selected() -> None:
    five = roster(*NAMES)
    assert selection(RUN, 3, five, SPEC) == frozenset(entry.node for entry in five)


@pytest.mark.parametrize(
    ("options", "members", "selected"),
    [
        ({}, 7, 7),
        ({"sample": 3}, 7, 3),
        ({"sample": 9}, 7, 7),
        ({"fraction": 0.1}, 100, 10),
        ({"fraction": 0.29}, 100, 29),  # int(0.29 * 100) is 28
        ({"fraction": 0.5}, 5, 3),
        ({"fraction": 0.01}, 5, 1),
        ({"fraction": 1.0}, 5, 5),
        ({"fraction": 0.1, "strategy": "krum"}, 20, 5),  # as many as Krum needs with one attacker
        ({"fraction": 0.1, "strategy": "krum"}, 4, 4),
    ],
)
def test_a_fraction_is_of_the_members_of_the_round(
    options: dict[str, Any], members: int, selected: int
) -> None:
    assert sample_size(with_options(SPEC, **options), members) == selected


def stating(*examples: int) -> tuple[RosterEntry, ...]:
    entries = roster(*NAMES[: len(examples)])
    return tuple(
        msgspec.structs.replace(entry, examples=count) for entry, count in zip(entries, examples, strict=True)
    )


def test_members_are_drawn_in_proportion_to_their_examples() -> None:
    entries = stating(1, 2, 5)
    first = Counter(sampled(RUN, round_, entries, "examples")[0] for round_ in range(4000))
    assert [round(first[entry.node] / 500) for entry in entries] == [1, 2, 5]
    # Of the pairs that a draw without replacement makes, one with the first two has the probability
    # 1/8 * 2/7 + 2/8 * 1/6.
    pairs = Counter(frozenset(sampled(RUN, round_, entries, "examples")[:2]) for round_ in range(4000))
    assert abs(pairs[frozenset(entry.node for entry in entries[:2])] / 4000 - 0.0774) < 0.01


def test_a_draw_by_examples_is_an_order_of_all_that_no_order_of_the_roster_changes() -> None:
    entries = stating(2**40, 1, 2**40, 1, 7)
    order = sampled(RUN, 4, entries, "examples")
    assert sorted(order) == sorted(entry.node for entry in entries)
    assert sampled(RUN, 4, entries[::-1], "examples") == order
    spec = with_options(SPEC, sample=2, sample_by="examples")
    assert selection(RUN, 4, entries, spec) == frozenset(order[:2])


people = st.sets(st.sampled_from([f"dev{letter}" for letter in "abcdefgh"]), min_size=1, max_size=7)


@given(start=people, linked=people, leaving=people, absent=people, joining=people)
def test_whatever_is_seen_the_next_roster_is_sound(
    start: Any, linked: Any, leaving: Any, absent: Any, joining: Any
) -> None:
    old = roster(*sorted(start))
    me = min(start)
    reachable = {me, *linked} - (absent - {me})
    joiners = tuple(
        Newcomer(member(name, f"{name}'s new disk"), name, CARD.examples)
        for name in sorted(joining & reachable - {me})
    )
    renewed = [one.member for one in joiners]
    disks = {
        name: next((one for one in renewed if one.node == node(name)), member(name)) for name in reachable
    }
    seen = RosterView(
        me=member(me),
        reachable=frozenset(disks.values()),
        leaving=frozenset(map(node, leaving)),
        absent={node(name): 70.0 for name in absent - {me}},
        joiners=joiners,
    )
    result, reason = next_roster(old, seen)
    assert result
    assert len({entry.node for entry in result}) == len(result)
    assert len({entry.slot for entry in result}) == len(result)
    assert (result == old) == (reason == "")
    if result != old:
        here = sum(entry.member in seen.reachable for entry in result)
        assert here >= quorum(len(result))
        assert sum(entry not in old for entry in result) < quorum(len(result))
    dropped = [e for e in old if entry_of(result, e.node) is None and e.node not in seen.leaving]
    assert len(dropped) <= tolerance(len(old))
    assert all(isinstance(entry, RosterEntry) for entry in result)


def test_who_continues_a_run_keeps_its_slot_and_others_get_free_ones() -> None:
    old = roster(*NAMES[:4])
    left = [
        Newcomer(member("eve"), "eve", 5),
        Newcomer(member("cleo"), "cleo", 6),
        Newcomer(member("ben", "new disk"), "ben", 7),
    ]
    result = continued_roster(old, left)
    assert {entry.name: entry.slot for entry in result} == {"ben": 1, "cleo": 2, "eve": 0}
    assert {entry.member for entry in result} == {one.member for one in left}
    assert {entry.name: entry.examples for entry in result} == {"ben": 7, "cleo": 6, "eve": 5}


@pytest.mark.parametrize(
    ("voters", "size", "keeps"),
    [(1, 2, True), (1, 3, False), (3, 4, True), (3, 5, False), (4, 6, True), (5, 5, True)],
)
def test_each_quorum_of_the_next_roster_has_a_member_that_accepted_the_record(
    voters: int, size: int, keeps: bool
) -> None:
    assert keeps_model(voters, size) is keeps


def test_two_joiners_of_three_come_one_after_the_other() -> None:
    three = roster(*NAMES[:3])
    joiners = [("dan", ""), ("eve", "")]
    result, _ = next_roster(three, view(NAMES, joiners=joiners))
    assert len(result) == 4
    result, _ = next_roster(result, view(NAMES, joiners=joiners[1:]))
    assert len(result) == 5


def test_a_full_roster_admits_nobody_but_a_member_with_a_new_journal() -> None:
    many = tuple(
        RosterEntry(
            node=digest(number), journal=digest(number)[:32], name=str(number), slot=number, examples=1
        )
        for number in range(MAX_ROSTER - 3)
    )
    full = (*roster(*NAMES[:3]), *many)
    seen = view(("ada", "cleo", "dan"), joiners=[("dan", ""), ("ben", "new disk")])
    reachable = seen.reachable | {entry.member for entry in many}
    result, _ = next_roster(full, msgspec.structs.replace(seen, reachable=reachable))
    assert len(result) == MAX_ROSTER
    assert contains(result, member("ben", "new disk"))
    assert not contains(result, member("dan"))


def test_members_that_are_kept_out_are_removed_whatever_the_others_reach() -> None:
    five = roster(*NAMES)
    result, why = next_roster(five, view(NAMES[:3], excluded=NAMES[3:]))
    assert (names(result), why) == (NAMES[:3], "dan is banned by desk; eve is banned by desk")
    two = roster("ada", "ben", "cleo")
    result, why = next_roster(two, view(("ada", "cleo"), excluded=("cleo",)))
    assert (names(result), why) == (("ada", "ben"), "cleo is banned by desk")


def test_where_their_votes_are_needed_one_at_a_time_is_removed() -> None:
    result, _ = next_roster(roster(*NAMES), view(("ada", "dan", "eve"), excluded=("dan", "eve")))
    assert names(result) == ("ada", "ben", "cleo", "eve")


def test_nobody_is_removed_where_all_are_kept_out() -> None:
    assert next_roster(roster("ada", "ben"), view(("ada", "ben"), excluded=("ada", "ben")))[1] == ""


def test_leavers_go_with_those_who_are_kept_out_or_stay_for_the_quorum() -> None:
    five = roster(*NAMES)
    result, why = next_roster(five, view(NAMES[:4], leaving=("dan",), excluded=("eve",)))
    assert (names(result), why) == (NAMES[:3], "eve is banned by desk; left: dan")
    result, why = next_roster(
        five, view(("ada", "dan", "eve"), leaving=("ada", "dan", "ben", "cleo"), excluded=("eve",))
    )
    assert (names(result), why) == (NAMES[:4], "eve is banned by desk")
