"""A member is banned or kicked: a record removes it, it ends, and the others go on without it."""

from __future__ import annotations

import pytest

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import Aggregate, AnyEffect, Send
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import Accept, Collect
from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from tests.support.known import known
from tests.support.worlds import LIMIT, at_round, chain, names, news, number, once, others, spec


def at_round_one(seed: int, nodes: int = 5, rounds: int = 6) -> World:
    world = World(seed, nodes=nodes, spec=spec(rounds))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    return world


def finish(world: World, *devices: Device) -> None:
    world.run_until(lambda: all(one.exit is not None for one in devices), LIMIT)
    assert {known(one.exit).code for one in devices} == {ExitCode.COMPLETE}


def test_a_banned_member_is_removed_and_ends_while_the_others_go_on() -> None:
    world = at_round_one(21)
    first, banned = number(world, 1), number(world, 2)
    before = len(chain(first))
    world.ban(first, banned)
    world.run_until(lambda: banned.exit is not None, LIMIT)
    assert known(banned.exit).code == ExitCode.UNFIT
    assert known(banned.exit).reason == "this device is banned by an operator"
    rest = others(world, banned)
    finish(world, *rest)
    for device in rest:
        assert all(banned.name not in names(record) for record in chain(device)[before + 1 :])
        assert any("node-2 is banned by an operator" in record.note for record in chain(device))


def test_of_two_members_the_banned_one_votes_until_it_is_removed() -> None:
    world = at_round_one(22, nodes=2)
    first, banned = number(world, 1), number(world, 2)
    world.ban(first, banned)
    world.run_for(0.1)
    assert banned.is_up
    world.run_until(lambda: banned.exit is not None, LIMIT)
    assert names(chain(first)[-1]) == {"node-1"}
    finish(world, first)


def test_a_needed_member_that_was_restarted_is_linked_again_and_votes() -> None:
    world = at_round_one(23, nodes=2)
    first, banned = number(world, 1), number(world, 2)
    once(world, lambda one, effect: is_of(one, effect, first), lambda _: world.crash(banned, 1.0))
    world.ban(first, banned)
    finish(world, first)
    assert names(chain(first)[-1]) == {"node-1"}


def is_of(device: Device, effect: AnyEffect, first: Device) -> bool:
    return device is first and isinstance(effect, Send) and isinstance(effect.message, Collect | Accept)


@pytest.mark.parametrize("step", [Collect, Accept])
def test_a_banned_aggregator_does_not_hold_the_others_up(step: type) -> None:
    world = at_round_one(24)
    leaders: list[Device] = []

    def ban(device: Device) -> None:
        leaders.append(device)
        world.ban(others(world, device)[0], device)

    once(world, lambda _, effect: isinstance(effect, Send) and isinstance(effect.message, step), ban)
    world.run_until(lambda: bool(leaders), LIMIT)
    at, leader = world.now, leaders[0]
    rest = others(world, leader)
    before = max(len(chain(one)) for one in rest)
    world.run_until(at_round(world, before + 2, *rest), at + 20.0)
    assert leader.name not in names(chain(rest[0])[-1])
    finish(world, *rest)


def test_the_update_of_a_member_banned_during_the_aggregation_is_not_counted() -> None:
    world = at_round_one(25)
    found: list[tuple[Device, Device]] = []

    def ban(device: Device) -> None:
        found.append((device, others(world, device)[0]))
        world.ban(*found[0])

    once(world, lambda _, effect: isinstance(effect, Aggregate), ban)
    world.run_until(lambda: bool(found), LIMIT)
    leader, banned = found[0]
    round_ = len(chain(leader)) + 1
    rest = others(world, banned)
    world.run_until(at_round(world, round_, *rest), LIMIT)
    record = chain(leader)[round_ - 1]
    assert all(update.node != banned.member.node for update in record.updates)
    assert (banned.member.node, "it is banned by an operator") in [
        (left.node, left.reason) for left in record.left_out
    ]
    finish(world, *rest)


def test_a_member_that_was_away_learns_of_the_ban_with_its_first_link() -> None:
    world = at_round_one(26)
    first, banned, away = (number(world, index) for index in (1, 2, 3))
    world.crash(away, 5.0)
    world.ban(first, banned)
    world.run_for(1.0)
    assert away.excluded() == {}
    world.run_until(lambda: bool(away.excluded()), LIMIT)
    finish(world, *others(world, banned))


def test_a_banned_member_that_does_not_go_stays_out() -> None:
    world = at_round_one(27)
    first, banned = number(world, 1), number(world, 2)
    world.freeze(banned, 8.0)
    world.ban(first, banned)
    rest = others(world, banned)
    before = len(chain(first))
    world.run_until(at_round(world, before + 2, *rest), LIMIT)
    assert banned.name not in names(chain(first)[-1])
    world.run_until(lambda: banned.exit is not None, LIMIT)
    finish(world, *rest)


def test_who_is_not_banned_any_more_comes_back_as_a_newcomer() -> None:
    world = at_round_one(28, rounds=100)
    first, banned = number(world, 1), number(world, 2)
    world.ban(first, banned)
    world.run_until(lambda: banned.name not in names(chain(first)[-1]), LIMIT)
    world.unban(first, banned)
    world.run_until(lambda: any(one.joined for one in news(first, events.RosterChanged)), LIMIT)
    assert news(first, events.RosterChanged)[-1].joined == ("node-2",)


def test_a_banned_node_does_not_count_before_a_run() -> None:
    world = World(29, nodes=4, spec=spec(3))
    world.begin()
    world.run_for(1.2)
    first, banned = number(world, 1), number(world, 2)
    world.ban(first, banned)
    for device in others(world, banned):
        world.hand(device, device.process, inputs.Expect(3, 3))
    rest = others(world, banned)
    finish(world, *rest)
    assert names(chain(first)[0]) == {"node-1", "node-3", "node-4"}


def test_a_banned_member_of_a_finished_run_is_not_waited_for() -> None:
    world = at_round_one(30, nodes=3, rounds=2)
    first, banned = number(world, 1), number(world, 2)
    world.run_until(lambda: chain(first)[-1].then == "end", LIMIT)
    at = world.now
    world.ban(first, banned)
    finish(world, *others(world, banned))
    assert world.now < at + 10.0


def kick(world: World, node: Device) -> None:
    """Tell all running devices that *node* is kicked, as statements on their links do."""
    for device in world.devices.values():
        world.hand(device, device.process, inputs.Kick(node.member.node, "was kicked by an operator"))


def test_a_kicked_member_is_removed_and_comes_back_as_a_newcomer() -> None:
    world = at_round_one(31, rounds=12)
    first, kicked = number(world, 1), number(world, 2)
    kick(world, kicked)
    world.run_until(lambda: kicked.exit is not None, LIMIT)
    assert known(kicked.exit).code == ExitCode.LEFT
    world.run_until(lambda: kicked.name not in names(chain(first)[-1]), LIMIT)
    world.start(kicked)
    world.run_until(lambda: kicked.name in names(chain(first)[-1]), LIMIT)
    world.run_until(world.is_complete, LIMIT)


def test_a_kicked_member_that_is_started_again_at_once_is_removed_all_the_same() -> None:
    world = at_round_one(32, rounds=12)
    first, kicked = number(world, 1), number(world, 2)
    before = len(chain(first))
    kick(world, kicked)
    world.run_until(lambda: kicked.exit is not None, LIMIT)
    world.start(kicked)
    world.run_until(world.is_complete, LIMIT)
    assert any(kicked.name not in names(record) for record in chain(first)[before:])


def test_of_two_members_the_kicked_one_votes_until_it_is_removed() -> None:
    world = at_round_one(33, nodes=2)
    first, kicked = number(world, 1), number(world, 2)
    kick(world, kicked)
    world.run_until(lambda: kicked.exit is not None, LIMIT)
    assert names(chain(first)[-1]) == {"node-1"}
    finish(world, first)


def test_a_second_statement_changes_nothing_about_the_end_of_a_member() -> None:
    world = at_round_one(35, nodes=2)
    first, kicked = number(world, 1), number(world, 2)
    kick(world, kicked)
    world.ban(first, kicked)
    world.run_until(lambda: kicked.exit is not None, LIMIT)
    assert known(kicked.exit).code == ExitCode.LEFT
    finish(world, first)


def test_a_node_is_kicked_out_of_no_run() -> None:
    world = World(34, nodes=3, spec=spec(2))
    world.begin()
    world.run_for(1.2)
    kick(world, number(world, 2))
    assert known(number(world, 2).exit).code == ExitCode.LEFT
    world.start(number(world, 2))
    world.run_until(world.is_complete, LIMIT)
    assert names(chain(number(world, 1))[0]) == {"node-1", "node-2", "node-3"}
