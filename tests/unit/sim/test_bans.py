from __future__ import annotations

import pytest

from p2pfl.core.options import Policy
from p2pfl.sim.device import is_ban
from p2pfl.sim.violation import Violation
from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, at_round, number, spec


def begun(**without: bool) -> World:
    world = World(7, nodes=3, spec=spec(20))
    if without:
        for device in world.devices.values():
            device.policy = Policy(excludes=lambda _reason: False)
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    return world


def test_a_ban_spreads_over_the_links_and_survives_a_lost_disk() -> None:
    world = begun()
    first, banned, third = (number(world, index) for index in (1, 2, 3))
    world.ban(first, banned)
    world.run_for(1.0)
    assert is_ban(third.statements[banned.member.node])
    assert banned.is_banned
    world.lose_disk(third, 0.5)
    world.run_for(1.0)
    assert banned.member.node in third.excluded()


def test_a_device_that_is_down_learns_nothing() -> None:
    world = begun()
    first, banned, third = (number(world, index) for index in (1, 2, 3))
    world.crash(third, 5.0)
    world.ban(first, banned)
    world.run_for(1.0)
    assert third.statements == {}


def test_a_later_statement_holds() -> None:
    world = begun()
    first, banned = number(world, 1), number(world, 2)
    for _ in range(2):
        world.ban(first, banned)
        assert banned.is_banned
    world.unban(first, banned)
    assert not banned.is_banned
    assert first.excluded() == {}


def test_the_judge_finds_a_record_that_ignores_a_ban() -> None:
    world = begun(without=True)
    first, banned = number(world, 1), number(world, 2)
    world.freeze(banned, 100.0)
    world.ban(first, banned)
    with pytest.raises(Violation, match=r"keeps all banned members|counts an update of a banned"):
        world.run_for(30.0)
