from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from p2pfl.runtime.expectation import NOBODY_SECONDS, Expectation
from p2pfl.spec import MAX_ROSTER

ADA, BEN, CLEO = ("a" * 52, "b" * 52, "c" * 52)


@dataclass
class Sight:
    expected: int = 1
    linked: list[str] = field(default_factory=list)
    now: float = 0.0
    banned: list[str] = field(default_factory=list)

    def is_banned(self, node: str) -> bool:
        return node in self.banned

    def links(self) -> Collection[str]:
        return self.linked

    def clock(self) -> float:
        return self.now


def test_listed_addresses_are_counted_as_the_mesh_counts_them_and_nothing_else() -> None:
    sight = Sight(expected=2)
    expectation = Expectation(listed=3, known=[ADA, BEN, CLEO], has_mdns=True)
    assert expectation.number == 3
    assert expectation.update(sight, ["x" * 16])
    assert expectation.number == 2
    assert not expectation.update(sight, ["x" * 16, "y" * 16])


def test_known_nodes_are_waited_for_and_found_ones_are_added() -> None:
    sight = Sight(linked=[ADA])
    expectation = Expectation(listed=1, known=[ADA, BEN], has_mdns=True)
    assert expectation.number == 3
    assert not expectation.update(sight, [ADA[:16]])
    assert expectation.update(sight, [ADA[:16], CLEO[:16]])
    assert expectation.number == 4
    sight.linked = [ADA, CLEO]
    assert not expectation.update(sight, [ADA[:16], CLEO[:16]])


def test_a_banned_node_is_not_waited_for() -> None:
    expectation = Expectation(listed=1, known=[ADA, BEN], has_mdns=True)
    assert expectation.update(Sight(linked=[ADA], banned=[BEN]))
    assert expectation.number == 2


def test_without_known_nodes_at_least_one_other_is_waited_for() -> None:
    expectation = Expectation(listed=1, has_mdns=True)
    assert (expectation.number, expectation.founds_alone) == (2, False)
    assert not expectation.update(Sight())


def test_without_mdns_a_node_that_knows_nobody_founds_alone() -> None:
    expectation = Expectation(listed=1)
    assert (expectation.number, expectation.founds_alone) == (1, True)
    assert not expectation.update(Sight(linked=[ADA]))


def test_a_roster_bounds_the_number() -> None:
    many = [f"{number:052}" for number in range(2 * MAX_ROSTER)]
    assert Expectation(listed=1, known=many).number == MAX_ROSTER
    expectation = Expectation(listed=1, has_mdns=True)
    expectation.update(Sight(), many)
    assert expectation.number == MAX_ROSTER


def test_that_nobody_was_found_is_said_once_after_a_while() -> None:
    sight = Sight()
    expectation = Expectation(listed=1, has_mdns=True, clock=sight.clock)
    expectation.update(sight)
    assert not expectation.nobody_is_here()
    sight.now += NOBODY_SECONDS
    assert expectation.nobody_is_here()
    assert not expectation.nobody_is_here()


def test_that_nobody_was_found_is_not_said_by_a_node_that_knows_found_or_looks_for_nobody() -> None:
    for expectation, found in (
        (Expectation(listed=1, has_mdns=True, known=[ADA]), []),
        (Expectation(listed=1, has_mdns=True), [BEN[:16]]),
        (Expectation(listed=2, has_mdns=True), []),
        (Expectation(listed=1), []),
        (Expectation(listed=1, has_mdns=True, is_held=True), []),
    ):
        expectation._clock = lambda: 1e9
        expectation.update(Sight(expected=2), found)
        assert not expectation.nobody_is_here()
