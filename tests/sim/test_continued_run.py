"""A majority is lost for good: the operator continues the run with the remaining nodes, and returning nodes are told
(rule "Continuing without the majority").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from p2pfl import events
from p2pfl.core.effects import SaveClosed, SaveGenesis, Send
from p2pfl.exit_codes import ExitCode
from p2pfl.messages import Offer
from p2pfl.sim.device import Device
from p2pfl.sim.world import World
from tests.support.known import known
from tests.support.worlds import LIMIT, at_round, chain, names, news, number, once, others, runs, spec

FOR_GOOD = 1e9


def notices(device: Device) -> list[str]:
    return [event.text for event in news(device, events.Notice)]


def genesis(device: Device) -> Any:
    """Record 0 of the run *device* is in."""
    return device.disk.geneses[device.disk.order[-1]]


def crashed(world: World, *devices: Device) -> None:
    for device in devices:
        world.crash(device, FOR_GOOD)


def cut_two_off(seed: int, rounds: int = 8) -> tuple[World, list[Device]]:
    """Two of five are cut off while the three others commit more."""
    world = World(seed, spec=spec(rounds, drop_after=1000.0))
    world.begin()
    world.run_until(at_round(world, 2), LIMIT)
    left = [number(world, 1), number(world, 2)]
    world.cut({device.member.node for device in left})
    at = max(len(chain(device)) for device in left)
    world.run_until(at_round(world, at + 2, *others(world, *left)), LIMIT)
    return world, left


def two_left(seed: int, rounds: int = 6) -> tuple[World, list[Device]]:
    """Three of five crash for good in round 3; the other two can commit nothing."""
    world = World(seed, spec=spec(rounds, drop_after=1000.0))
    world.begin()
    world.run_until(at_round(world, 2), LIMIT)
    left = [number(world, 1), number(world, 2)]
    crashed(world, *others(world, *left))
    world.run_for(20.0)
    return world, left


def continue_with(world: World, device: Device, *named: Device) -> None:
    """Stop *device* and start it again as `p2pfl continue` does."""
    world.crash(device, FOR_GOOD)
    device.options = msgspec.structs.replace(
        device.options, continue_with=frozenset(other.member.node for other in named)
    )
    world.start(device)


def went_on(rounds: int, *devices: Device, runs: int = 2) -> Callable[..., Any]:
    """The claim that *devices* have committed *rounds* of their run number *runs*."""
    return lambda: all(len(device.disk.order) == runs and len(chain(device)) >= rounds for device in devices)


def complete(*devices: Device) -> Any:
    return lambda: all(device.exit is not None and device.exit.code == 0 for device in devices)


def test_two_of_five_go_on_as_a_new_run_from_the_last_committed_model() -> None:
    world, (one, two) = two_left(1)
    old, last = one.disk.order[-1], chain(one)[-1]
    continue_with(world, one, two)
    world.run_until(complete(one, two), LIMIT)
    assert one.disk.order == two.disk.order == [old, one.disk.order[-1]]
    begun = genesis(one)
    (origin,) = begun.continues
    assert (origin.run, origin.round, origin.record) == (old, last.round, world.checker.digest(last))
    assert begun.model == last.model
    assert {entry.name for entry in begun.roster} == {one.name, two.name}
    assert chain(one)[-1].trained == begun.spec.rounds == 6
    assert len(chain(one)) == 6 - origin.trained + 1, "only the rounds that lacked, and the evaluation"


def test_both_close_the_old_run_durably_and_say_who_is_left_out() -> None:
    world, (one, two) = two_left(2)
    old = one.disk.order[-1]
    continue_with(world, one, two)
    world.run_until(lambda: len(two.disk.order) == 2, LIMIT)
    for device in (one, two):
        assert old in device.disk.closed
        (text,) = [text for text in notices(device) if "is closed here" in text]
        assert "left out: " in text
        assert all(other.name in text for other in others(world, one, two))
    assert news(one, events.RunJoined)[-1].how == news(two, events.RunJoined)[-1].how == "continued"


def test_slots_stay_with_their_members() -> None:
    world, (one, two) = two_left(3)
    before = {entry.node: entry.slot for entry in genesis(one).roster}
    continue_with(world, one, two)
    world.run_until(lambda: len(one.disk.order) == 2, LIMIT)
    assert {entry.node: entry.slot for entry in genesis(one).roster} == {
        device.member.node: before[device.member.node] for device in (one, two)
    }


def test_it_goes_on_from_the_highest_round_any_of_the_named_has() -> None:
    world = World(4, spec=spec(8, drop_after=1000.0))
    world.begin()
    world.run_until(at_round(world, 2), LIMIT)
    one, two = number(world, 1), number(world, 2)
    world.crash(one, FOR_GOOD)
    at = len(chain(one))
    world.run_until(at_round(world, at + 2, two), LIMIT)
    crashed(world, *others(world, one, two))
    continue_with(world, one, two)
    world.run_until(complete(one, two), LIMIT)
    assert genesis(one).continues[-1].round >= at + 2


def test_one_that_is_left_alone_can_go_on_alone() -> None:
    world = World(5, nodes=3, spec=spec(5, drop_after=1000.0))
    world.begin()
    world.run_until(at_round(world, 2), LIMIT)
    one = number(world, 1)
    crashed(world, *others(world, one))
    continue_with(world, one)
    world.run_until(complete(one), LIMIT)
    assert names(chain(one)[-1]) == {one.name}


def test_a_named_node_that_lost_its_disk_is_gone_on_with_as_the_new_member_it_is() -> None:
    world, (one, two) = two_left(15)
    crashed(world, two)
    world.lose_disk(two, FOR_GOOD)
    world.start(two)
    continue_with(world, one, two)
    world.run_until(complete(one, two), LIMIT)
    assert two.member in {entry.member for entry in genesis(one).roster}


def test_nothing_is_founded_while_a_majority_is_here() -> None:
    world = World(6, spec=spec(6))
    world.begin()
    world.run_until(at_round(world, 2), LIMIT)
    one = number(world, 1)
    continue_with(world, one, number(world, 2))
    world.run_until(world.is_complete, LIMIT)
    assert len(runs(world)) == 1
    assert any("the run goes on by itself" in text for text in notices(one))


def test_a_named_node_that_is_not_here_is_waited_for() -> None:
    world, (one, two) = two_left(7)
    crashed(world, two)
    continue_with(world, one, two)
    world.run_for(60.0)
    assert len(one.disk.order) == 1
    assert any(f"{two.name} is not linked" in event.reason for event in news(one, events.Waiting))
    world.start(two)
    world.run_until(complete(one, two), LIMIT)


def test_a_member_that_returns_at_the_fork_joins_as_a_learner() -> None:
    world, (one, two) = two_left(8, rounds=20)
    continue_with(world, one, two)
    late = number(world, 3)
    world.run_until(went_on(2, one), LIMIT)
    world.start(late)
    world.run_until(complete(one, two, late), LIMIT)
    assert late.disk.order == one.disk.order
    assert names(chain(one)[-1]) == {one.name, two.name, late.name}
    assert news(late, events.RunJoined)[-1].how == "learner"


def test_a_member_that_returns_beyond_the_fork_stops_and_shows_both() -> None:
    world, (one, two) = cut_two_off(9)
    beyond = number(world, 3)
    crashed(world, *others(world, one, two))
    continue_with(world, one, two)
    world.run_until(went_on(1, one), LIMIT)
    world.heal()
    world.start(beyond)
    world.run_until(lambda: beyond.exit is not None, LIMIT)
    assert known(beyond.exit).code == ExitCode.LEFT_BEHIND
    origin = genesis(one).continues[-1]
    assert f"round {origin.round} of run" in known(beyond.exit).reason
    assert f"round {len(chain(beyond))} (record " in known(beyond.exit).reason
    assert len(beyond.disk.order) == 1
    world.run_until(complete(one, two), LIMIT)


def test_one_beyond_the_fork_joins_when_its_operator_gives_its_rounds_up() -> None:
    world, (one, two) = cut_two_off(10, rounds=30)
    beyond = number(world, 3)
    crashed(world, *others(world, one, two))
    continue_with(world, one, two)
    world.run_until(went_on(1, one), LIMIT)
    world.heal()
    beyond.options = msgspec.structs.replace(beyond.options, new_run=True)
    world.start(beyond)
    world.run_until(complete(one, two, beyond), LIMIT)
    assert beyond.disk.order[-1] == one.disk.order[-1]


def test_a_majority_that_was_not_gone_goes_on_and_both_sides_say_that_there_are_two_runs() -> None:
    world, (one, two) = cut_two_off(11, rounds=12)
    three = others(world, one, two)
    old = three[0].disk.order[-1]
    continue_with(world, one, two)
    world.run_until(went_on(1, one, two), LIMIT)
    world.heal()
    world.run_until(complete(*world.devices.values()), LIMIT)
    assert {device.disk.order[-1] for device in three} == {old}
    assert one.disk.order[-1] == two.disk.order[-1] != old
    for device in world.devices.values():
        assert any("there are two runs now" in text for text in notices(device)), device.name


@pytest.mark.parametrize("kind", [SaveGenesis, SaveClosed])
def test_a_crash_while_the_new_run_is_founded_leads_into_the_new_run(
    kind: type[SaveClosed] | type[SaveGenesis],
) -> None:
    world, (one, two) = two_left(12)
    once(
        world,
        lambda device, effect: device is one and isinstance(effect, kind),
        lambda device: world.crash(device, 3.0),
    )
    continue_with(world, one, two)
    world.run_until(lambda: one.process >= 3, LIMIT)
    one.options = msgspec.structs.replace(one.options, continue_with=None)
    world.run_until(complete(one, two), LIMIT)
    assert one.disk.order == two.disk.order
    assert one.disk.order[0] in one.disk.closed


def test_a_named_node_that_missed_the_offer_hears_of_the_new_run_all_the_same() -> None:
    world, (one, two) = two_left(13)

    def lose(device: Any, effect: Any) -> None:
        if isinstance(effect, Send) and isinstance(effect.message, Offer):
            world.network.lossy_pairs.add((one.member.node, two.member.node))
            world.after(5.0, world.network.lossy_pairs.clear)

    world.on_effect = lose
    continue_with(world, one, two)
    world.run_until(complete(one, two), LIMIT)


def test_a_continued_run_can_be_continued_and_its_first_members_find_their_way() -> None:
    world, (one, two) = two_left(14, rounds=40)
    first = number(world, 3)
    continue_with(world, one, two)
    world.run_until(went_on(2, one, two), LIMIT)
    crashed(world, two)
    world.run_for(20.0)
    continue_with(world, one)
    world.run_until(went_on(2, one, runs=3), LIMIT)
    assert [origin.run for origin in genesis(one).continues] == one.disk.order[:2]
    world.start(first)
    world.run_until(complete(one, first), LIMIT)
    assert first.disk.order == [one.disk.order[0], one.disk.order[2]]
