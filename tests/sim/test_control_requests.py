"""An operator pauses, resumes and ends a run through any one member; and extends a finished one."""

import msgspec

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.core.effects import Send
from p2pfl.messages import ControlRequest
from p2pfl.sim.world import World
from p2pfl.spec import with_options
from tests.support.known import known
from tests.support.worlds import LIMIT, at_round, chain, news, number, others, spec


def started(seed: int, rounds: int = 6, nodes: int = 5) -> World:
    world = World(seed, nodes=nodes, spec=spec(rounds))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    return world


def paused(seed: int) -> World:
    world = started(seed)
    world.feed(number(world, 4), inputs.OperatorRequest("pause"))
    world.run_until(lambda: all(chain(d)[-1].then == "pause" for d in world.devices.values()), LIMIT)
    return world


def test_a_paused_run_stands_still_and_resumes_where_it_was() -> None:
    world = paused(51)
    at = len(chain(number(world, 1)))
    world.run_for(60.0)
    assert {len(chain(device)) for device in world.devices.values()} == {at}
    world.feed(number(world, 2), inputs.OperatorRequest("resume"))
    world.run_until(world.is_complete, LIMIT)
    assert [record.then for record in chain(number(world, 1))].count("pause") == 1


def test_a_member_that_was_away_hears_of_the_end_of_a_pause() -> None:
    world = paused(52)
    sleeper = number(world, 5)
    world.crash(sleeper, 5.0)
    world.run_for(1.0)
    world.feed(number(world, 2), inputs.OperatorRequest("resume"))
    world.run_until(world.is_complete, LIMIT)
    assert len(chain(sleeper)) == 7


def test_a_pause_outlives_a_restart_of_everybody() -> None:
    world = paused(53)
    at = len(chain(number(world, 1)))
    for device in world.devices.values():
        world.crash(device, 2.0)
    world.run_for(60.0)
    assert {len(chain(device)) for device in world.devices.values()} == {at}
    assert all(device.is_up for device in world.devices.values())
    world.feed(number(world, 1), inputs.OperatorRequest("resume"))
    world.run_until(world.is_complete, LIMIT)


def test_a_paused_run_can_be_ended() -> None:
    world = paused(55)
    at = len(chain(number(world, 1)))
    world.run_for(5.0)
    world.feed(number(world, 3), inputs.OperatorRequest("end"))
    world.run_until(world.is_complete, LIMIT)
    for device in world.devices.values():
        assert [record.then for record in chain(device)[at - 1 :]] == ["pause", "end"]


def test_a_late_copy_of_a_fulfilled_control_request_pauses_nothing() -> None:
    world = started(54)
    copies = []
    world.on_effect = lambda device, effect: (
        copies.append((device, effect.message))
        if isinstance(effect, Send) and isinstance(effect.message, ControlRequest)
        else None
    )
    world.feed(number(world, 4), inputs.OperatorRequest("pause"))
    world.run_until(lambda: all(chain(d)[-1].then == "pause" for d in world.devices.values()), LIMIT)
    world.feed(number(world, 2), inputs.OperatorRequest("resume"))
    sender, late = copies[0]
    for device in others(world, sender):
        world.feed(device, inputs.Received(sender.member, late))
    world.run_until(world.is_complete, LIMIT)
    assert [record.then for record in chain(number(world, 1))].count("pause") == 1


def slow(world: World) -> None:
    """Let every training take an hour."""
    for device in world.devices.values():
        device.slowness = 3600.0


def test_a_run_can_be_ended_now_although_nobody_has_trained() -> None:
    world = World(57, nodes=5, spec=spec(50))
    slow(world)
    world.begin()
    world.run_until(lambda: all(d.node and d.node.ledger for d in world.devices.values()), LIMIT)
    world.feed(number(world, 3), inputs.OperatorRequest("end-now", "ada"))
    world.run_for(30.0)
    for device in world.devices.values():
        (last,) = chain(device)
        assert (last.then, last.updates) == ("end", ())


def test_a_control_request_reaches_a_member_that_was_away_when_it_was_made() -> None:
    world = started(58, rounds=50)
    slow(world)
    world.run_for(5.0)  # rounds whose training began before are over
    away = number(world, 2)
    world.network.cut({away.member.node})
    world.feed(number(world, 1), inputs.OperatorRequest("pause", "ada"))
    world.run_for(1.0)
    assert news(away, events.ControlRequested) == []
    world.network.heal()
    world.run_for(5.0)
    assert news(away, events.ControlRequested) == [events.ControlRequested("pause", "ada at node-1")]


def test_a_run_can_be_ended_early() -> None:
    world = started(55, rounds=50)
    world.feed(number(world, 3), inputs.OperatorRequest("end"))
    world.run_until(world.is_complete, LIMIT)
    last = chain(number(world, 1))[-1]
    assert last.then == "end"
    assert last.trained < 50
    assert {world.checker.digest(chain(device)[-1]) for device in world.devices.values()} == {
        world.checker.digest(last)
    }


def test_a_finished_run_goes_on_when_one_of_them_asks_for_more_rounds() -> None:
    world = started(56, rounds=2, nodes=3)
    world.run_until(world.is_complete, LIMIT)
    run = chain(number(world, 1))[0].run
    asker = number(world, 2)
    more = with_options(asker.options.spec, rounds=4)
    asker.options = msgspec.structs.replace(asker.options, spec=more, given=frozenset({"rounds"}))
    for device in world.devices.values():
        world.start(device)
    world.run_until(lambda: all(len(chain(device)) >= 6 for device in world.devices.values()), LIMIT)
    records = chain(number(world, 1))
    assert {record.run for record in records} == {run}
    assert [record.kind for record in records] == ["train"] * 2 + ["evaluate"] + ["train"] * 2 + ["evaluate"]
    assert [record.trained for record in records] == [1, 2, 2, 3, 4, 4]


def test_a_finished_run_started_again_is_served_and_not_trained_on() -> None:
    world = started(57, rounds=2, nodes=3)
    world.run_until(world.is_complete, LIMIT)
    for device in world.devices.values():
        world.start(device)
    world.run_until(world.is_complete, LIMIT)
    assert {len(chain(device)) for device in world.devices.values()} == {3}
    for device in world.devices.values():
        assert [event.how for event in news(device, events.RunJoined)][-1] == "finished"


def test_a_device_that_slept_through_the_end_does_not_end_the_extended_run_when_it_wakes() -> None:
    world = started(59, rounds=6, nodes=3)
    slow(world)
    sleeper, rest = number(world, 3), others(world, number(world, 3))
    world.run_for(5.0)  # what was begun before is over
    world.feed(sleeper, inputs.OperatorRequest("end", "ada"))
    world.run_for(0.5)
    assert "end" in known(known(sleeper.node)._running).requests.open
    world.freeze(sleeper, 300.0)
    for device in world.devices.values():
        device.slowness = 1.0
    for device in rest:  # their trainings were of an hour
        world.crash(device, 1.0)
    world.run_until(lambda: all(chain(device)[-1].then == "end" for device in rest), LIMIT)
    ended = len(chain(rest[0]))
    for device in rest:
        more = with_options(device.options.spec, rounds=400)
        device.options = msgspec.structs.replace(device.options, spec=more, given=frozenset({"rounds"}))
        world.crash(device, 1.0)
        world.start(device)
    world.run_until(lambda: sleeper.is_up and not sleeper.is_frozen, LIMIT)
    assert len(chain(rest[0])) > ended + 10
    world.run_for(20.0)
    assert len(chain(sleeper)) > len(chain(rest[0])) - 5
    assert [record.then for record in chain(rest[0])].count("end") == 1
