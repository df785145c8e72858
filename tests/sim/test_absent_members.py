"""Members stay away: two of five are dropped after a long time, one of five or three never is."""

from __future__ import annotations

import pytest

from p2pfl import events
from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, at_round, chain, names, news, number, others, spec

AWAY = 10_000.0


def vanish(nodes: int, *gone: int, drop_after: float = 20.0) -> tuple[World, list[Device], list[Device]]:
    world = World(41, nodes=nodes, spec=spec(60, drop_after=drop_after))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    victims = [number(world, index) for index in gone]
    for device in victims:
        world.crash(device, AWAY)
    return world, victims, others(world, *victims)


def test_five_become_three_and_tolerate_the_loss_of_one_again() -> None:
    world, victims, rest = vanish(5, 1, 2)
    left = world.now
    dropped = {device.name for device in victims}
    world.run_until(lambda: any(event.left for event in news(rest[0], events.RosterChanged)), LIMIT)
    change = news(rest[0], events.RosterChanged)[-1]
    assert (set(change.left), change.members, change.tolerates) == (dropped, 3, 1)
    assert world.now - left >= 20.0

    world.crash(rest[0], AWAY)
    before = len(chain(rest[1]))
    world.run_until(at_round(world, before + 2, *rest[1:]), LIMIT)


@pytest.mark.parametrize(("nodes", "gone"), [(5, 1), (3, 1)])
def test_where_the_quorum_would_not_get_smaller_enough_nobody_is_dropped(nodes: int, gone: int) -> None:
    world, _, rest = vanish(nodes, gone)
    world.run_for(60.0)
    assert len(chain(rest[0])) > 5
    assert len(names(chain(rest[0])[-1])) == nodes


def test_who_was_dropped_comes_back_as_a_learner_and_joins_again() -> None:
    world, victims, rest = vanish(5, 1, 2)
    world.run_until(lambda: any(event.left for event in news(rest[0], events.RosterChanged)), LIMIT)
    slots = {entry.node: entry.slot for entry in chain(rest[0])[0].roster}
    world.start(victims[0])
    world.run_until(lambda: victims[0].name in names(chain(rest[0])[-1]), LIMIT)
    entry = next(e for e in chain(rest[0])[-1].roster if e.node == victims[0].member.node)
    assert entry.slot == min(slots[device.member.node] for device in victims)


def test_without_a_quorum_nobody_is_dropped_however_long_it_lasts() -> None:
    world, _, rest = vanish(5, 1, 2, 3)
    before = [len(chain(device)) for device in rest]
    world.run_for(300.0)
    assert [len(chain(device)) for device in rest] == before
    assert news(rest[0], events.QuorumLost)[-1].needed == 3
