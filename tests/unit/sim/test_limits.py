from __future__ import annotations

from p2pfl.core import inputs
from p2pfl.core.effects import AnyEffect, Send
from p2pfl.messages import Accept
from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from tests.support.known import known
from tests.support.worlds import at_round, chain, number, once, spec


def at_round_two(nodes: int = 3, rounds: int = 8) -> World:
    world = World(6, nodes=nodes, spec=spec(rounds))
    world.begin()
    world.run_until(at_round(world, 2), 100.0)
    return world


def test_one_disk_at_a_time_may_be_lost() -> None:
    world = at_round_two()
    first, second = number(world, 1), number(world, 2)
    assert world.limits.may_lose_disk(first)
    world.lose_disk(first, 1.0)
    assert not world.limits.may_lose_disk(second)
    world.run_until(at_round(world, 8), 200.0)
    assert world.limits.may_lose_disk(second), "the first is a member again since more than a round"


def test_a_roster_that_tolerates_no_loss_loses_no_disk() -> None:
    world = at_round_two(nodes=2)
    assert not world.limits.may_lose_disk(number(world, 1))


def test_no_disk_is_lost_that_a_roster_needs_when_a_member_has_left() -> None:
    world = at_round_two()
    first, second = number(world, 1), number(world, 2)
    world.hand(second, second.process, inputs.Leave())
    assert not world.limits.may_lose_disk(first)


def test_nobody_leaves_while_another_device_has_turned_away_and_will_lose_its_disk() -> None:
    world = at_round_two(rounds=40)
    first = number(world, 1)
    assert world.limits.may_leave()
    world.turn_away(first, 1.0)
    assert not world.limits.may_leave(), "a roster of the other two may still name the first"
    world.run_for(1.1)
    assert not world.limits.may_leave(), "its disk is lost, and it is no member yet"
    world.run_until(world.limits.may_leave, 200.0)
    assert known(known(first.node).ledger).is_member


def test_no_disk_is_lost_that_a_value_needs_which_may_still_be_decided() -> None:
    world = at_round_two()
    first, second, third = (number(world, index) for index in (1, 2, 3))
    sent = []
    once(world, lambda _one, effect: is_accept_without(effect, third), lambda _one: sent.append(world.now))
    world.hand(third, third.process, inputs.Leave())
    world.run_until(lambda: bool(sent), 100.0)
    for device in (first, second, third):
        world.crash(device, 0.5, power=True)
    assert not world.limits.may_lose_disk(second), (
        "who was leaving is not any more, and the value may be adopted"
    )


def is_accept_without(effect: AnyEffect, device: Device) -> bool:
    """Whether *effect* proposes a roster without *device*."""
    return (
        isinstance(effect, Send)
        and isinstance(effect.message, Accept)
        and all(entry.node != device.member.node for entry in effect.message.record.roster)
    )


def test_no_disk_is_lost_as_long_as_others_take_a_crashed_member_for_leaving() -> None:
    world = at_round_two()
    first, second = number(world, 1), number(world, 2)
    world.hand(second, second.process, inputs.Leave())
    world.run_until(lambda: known(first.node).peers[second.member.node].is_leaving, 100.0)
    world.crash(second)
    assert not world.limits.may_lose_disk(first)


def test_no_disk_is_lost_while_another_one_is_an_unnoticed_backup() -> None:
    world = at_round_two()
    first, second = number(world, 1), number(world, 2)
    world.checker.votes.gone.add(second.member)
    assert not world.limits.may_lose_disk(first)


def test_a_backup_is_put_back_only_where_everybody_has_seen_a_later_start() -> None:
    world = at_round_two()
    device = number(world, 1)
    backup = device.disk.backup()
    assert not world.limits.may_restore(device, backup)
    world.crash(device, 0.0)
    world.run_for(2.0)
    assert world.limits.may_restore(device, backup)


def test_a_model_that_matters_is_mended_when_it_was_pulled_again() -> None:
    world = at_round_two()
    device = number(world, 1)
    assert world.limits.is_mended()
    world.transfers.damage(device, chain(device)[-1].model)
    assert not world.limits.is_mended()
    world.crash(device, 0.1)
    world.run_for(3.0)
    assert world.limits.is_mended()


def test_no_disk_is_lost_while_a_member_has_not_entered_the_run() -> None:
    world = at_round_two()
    first, third = number(world, 1), number(world, 3)
    run = known(known(third.node).ledger).run
    record_0 = third.disk.geneses.pop(run)
    assert not world.limits.may_lose_disk(first)
    third.disk.geneses[run] = record_0
    assert world.limits.may_lose_disk(first)
