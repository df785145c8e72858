from __future__ import annotations

import pytest

from p2pfl.messages import Decline, Offer, RecordsRequest
from p2pfl.net.links.rate_limits import (
    BUDGETS,
    BYTES,
    LINKS,
    MAX_REMEMBERED,
    ROUNDS,
    Allowances,
    Bucket,
    Budget,
    Gate,
    Verdict,
)
from p2pfl.wire.links import Peers, Ping

DECLINE, ASK = Decline("0" * 64, "no"), RecordsRequest("0" * 64, 1)
TAKE, DROP, CUT = Verdict.TAKE, Verdict.DROP, Verdict.CUT


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.words: list[str] = []
        self.allowances = Allowances(lambda: self.now, 30.0)

    def gate(self, node: str = "bee") -> Gate:
        return Gate(node, self.allowances, self.words.append)


@pytest.fixture
def world() -> World:
    return World()


def test_a_burst_is_taken_then_dropped_then_cut() -> None:
    bucket = Bucket(Budget(1, 3), 0.0)
    assert [bucket.take(1, 0.0) for _ in range(7)] == [TAKE] * 3 + [DROP] * 3 + [CUT]


def test_a_budget_fills_again_with_time_and_never_beyond_its_burst() -> None:
    bucket = Bucket(Budget(2, 3), 0.0)
    assert [bucket.take(1, now) for now in (0, 0, 0, 0.5, 1.0)] == [TAKE] * 5
    assert [bucket.take(1, 100.0) for _ in range(4)] == [TAKE] * 3 + [DROP]


def test_a_steady_sender_within_the_rate_is_never_held_up(world: World) -> None:
    gate = world.gate()
    for step in range(20_000):
        world.now = step / ROUNDS.rate
        assert gate.judge(Ping()) is TAKE


def test_each_kind_of_frame_has_a_budget_of_its_own(world: World) -> None:
    gate, burst = world.gate(), int(BUDGETS[Decline].burst)
    assert [gate.judge(DECLINE) for _ in range(burst + 1)] == [TAKE] * burst + [DROP]
    assert gate.judge(ASK) is TAKE
    assert gate.judge(Ping()) is TAKE
    assert world.words == ["it sends more DECLINE than any node needs; what is too much is not looked at"]


def test_who_goes_on_is_turned_away_for_a_while_also_with_a_new_link(world: World) -> None:
    gate = world.gate()
    while gate.judge(DECLINE) is not CUT:
        assert world.allowances.objection("bee") == ""
    assert "it sent DECLINE without end; it is turned away for 30 s" in world.allowances.objection("bee")
    assert world.gate().judge(DECLINE) is CUT
    assert world.allowances.objection("cat") == ""
    world.now = 30.0
    assert world.allowances.objection("bee") == ""
    assert world.gate().judge(DECLINE) is not CUT


def test_bytes_are_counted_whatever_they_are(world: World) -> None:
    gate = world.gate()
    assert gate.judge(int(BYTES.burst)) is TAKE
    assert gate.judge(int(BYTES.burst)) is TAKE
    assert gate.judge(1) is CUT


def test_who_links_without_end_is_turned_away(world: World) -> None:
    for _ in range(int(LINKS.burst)):
        world.allowances.count_link("bee")
    assert world.allowances.objection("bee") == ""
    world.allowances.count_link("bee")
    assert "new links without end" in world.allowances.objection("bee")


def test_a_founder_of_a_large_federation_stays_within_its_budgets(world: World) -> None:
    gate = world.gate()
    assert {gate.judge(Peers(())) for _ in range(256)} == {TAKE}
    assert all(BUDGETS[kind].rate >= 1 for kind in (Offer, Decline))


def test_nodes_are_remembered_in_bounded_number_the_silent_ones_least(world: World) -> None:
    world.allowances.bar("bee", "it is the first")
    for number in range(2 * MAX_REMEMBERED):
        world.now += 0.001
        world.allowances.of(f"node {number}")
        world.gate("bee").judge(Ping())
    assert len(world.allowances._nodes) == MAX_REMEMBERED
    assert world.allowances.objection("bee") != ""
