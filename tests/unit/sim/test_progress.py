from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from p2pfl.core.inputs import Leave, OperatorRequest
from p2pfl.core.options import Policy
from p2pfl.sim.progress import BOUND, ProgressChecker, clique
from p2pfl.sim.setting import WORKER_LIMIT
from p2pfl.sim.violation import Violation
from p2pfl.sim.world import World
from tests.support.known import known
from tests.support.worlds import chain, number, spec

PAIRS = {("a", "b"), ("a", "c"), ("b", "c"), ("c", "d"), ("b", "d")}


@pytest.mark.parametrize(
    ("names", "size", "found"),
    [
        ("abcd", 3, ("a", "b", "c")),
        ("bcd", 3, ("b", "c", "d")),
        ("abd", 3, ()),
        ("ad", 2, ()),
        ("abcd", 4, ()),
        ("a", 1, ("a",)),
        ("", 1, ()),
    ],
)
def test_a_clique_is_found_where_each_two_are_a_pair(
    names: str, size: int, found: tuple[Any, ...] | tuple[str, ...]
) -> None:
    assert clique(list(names), PAIRS, size) == found


def stuck(nodes: int = 3) -> World:
    """A world in which no member ever runs for election, so nothing is decided."""
    world = World(1, nodes=nodes, spec=spec(5))
    for device in world.devices.values():
        device.policy = Policy(quorum=lambda _size: nodes + 1)
    return world


def stall_of(world: World, seconds: Any = 3 * BOUND) -> str:
    world.begin()
    with pytest.raises(Violation, match="is open for") as caught:
        world.run_for(seconds)
    assert caught.value.kind == "stall"
    return world.named(str(caught.value))


def test_a_quorum_that_is_able_and_decides_nothing_is_a_violation() -> None:
    text = stall_of(stuck())
    assert "round 1 of" in text
    assert "(2 of 3 decide) were up, linked with each other and able to do their part since" in text


def test_those_who_are_able_are_named() -> None:
    world = stuck()
    world.after(10.0, world.crash, number(world, 2), 1e6)
    assert {"node-1", "node-3"} == set(re.findall(r"node-\d", stall_of(world)))


def quiet(world: World, seconds: float = 3 * BOUND) -> None:
    world.begin()
    world.run_for(seconds)


def down(world: Any) -> None:
    for index in (2, 3):
        world.crash(number(world, index), 1e6)


def cut(world: Any) -> None:
    world.network.lose_messages({(number(world, 1).member.node, node) for node in world.devices})
    world.crash(number(world, 2), 1e6)


def blocked(world: Any) -> None:
    nodes = list(world.devices)
    world.transfers.block({(one, other) for one in nodes[:2] for other in nodes})


def hanging(world: Any) -> None:
    for index in (1, 2):
        number(world, index).hung_until = 1e6


def away(world: Any) -> None:
    for index in (1, 2):
        world.feed(number(world, index), Leave())


def lacking(world: Any) -> None:
    for device in list(world.devices.values())[:2]:
        world.transfers.damage(device, known(device.disk.last_blobs()).model)
        world.transfers.block({(node, device.member.node) for node in world.devices})


@pytest.mark.parametrize("fault", [down, cut, blocked, hanging, away, lacking])
def test_a_quorum_that_is_not_able_may_take_its_time(fault: Callable[..., Any]) -> None:
    world = stuck()
    world.after(10.0, fault, world)
    quiet(world)


def test_a_fault_shorter_than_the_bound_begins_it_anew() -> None:
    world = stuck()

    def crash_all() -> None:
        for device in world.devices.values():
            world.crash(device, 0.5)

    for moment in range(5, int(2 * BOUND), int(BOUND / 2)):
        world.after(float(moment), crash_all)
    quiet(world, 2 * BOUND)


def test_a_run_that_goes_on_or_is_over_or_paused_is_no_stall() -> None:
    world = World(2, nodes=3, spec=spec(3))
    for device in world.devices.values():
        device.options = msgspec.structs.replace(device.options, stay=True)

    def pause_all() -> None:
        for device in world.devices.values():
            world.hand(device, device.process, OperatorRequest("pause"))

    world.after(5.0, pause_all)
    quiet(world)
    assert chain(number(world, 1))[-1].then == "pause"
    world.hand(number(world, 1), number(world, 1).process, OperatorRequest("resume"))
    world.run_for(3 * BOUND)
    assert chain(number(world, 1))[-1].then == "end"


def test_the_bound_leaves_time_for_a_worker_that_hangs() -> None:
    assert BOUND > 2 * WORKER_LIMIT
    world = World(1)
    ProgressChecker(world.environment, world.transfers).check()
