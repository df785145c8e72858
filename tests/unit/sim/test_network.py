from __future__ import annotations

from typing import Any

import msgspec

from p2pfl.core import inputs
from p2pfl.core.effects import Send
from p2pfl.core.inputs import AnyInput
from p2pfl.messages import Report, Status
from p2pfl.sim.device import Device
from p2pfl.sim.faults import Faults
from p2pfl.sim.network import SILENCE
from p2pfl.sim.world import World
from tests.support.known import known
from tests.support.records import evaluation
from tests.support.worlds import number, spec

REPORT = Report("ff" * 32, 1, evaluation(1, 1, 0.5))
"""A message that no device here sends by itself."""


def started(nodes: Any = 3, **settings: Any) -> World:
    world = World(1, nodes=nodes, spec=spec(30), **settings)
    world.begin()
    world.run_for(2.0)
    return world


def id_of(world: World, index: int) -> Any:
    return number(world, index).member.node


def connected(world: World, one: int, other: int) -> Any:
    return world.is_connected(id_of(world, one), id_of(world, other))


def pair(world: World, one: int, other: int) -> Any:
    return (id_of(world, one), id_of(world, other))


def steps_heard(world: Any, listener: Any, speaker: Any) -> Any:
    view = known(number(world, listener).node)._ctx.peers[id_of(world, speaker)]
    return known(view.status).steps


def fed(world: Any, device: Device) -> list[Any]:
    """The inputs *device* gets from now on."""
    seen, feed = [], world.feed

    def watch(one: Any, event: Any) -> None:
        if one is device:
            seen.append(event)
        feed(one, event)

    world.feed = watch
    return seen


# --- links --------------------------------------------------------------------------------------------------


def test_a_message_without_a_link_is_lost() -> None:
    world = started()
    seen = fed(world, number(world, 2))
    world.cut({id_of(world, 1)})
    world.run_for(0.5)
    seen.clear()
    world.network.send(number(world, 1), id_of(world, 2), REPORT)
    world.run_for(1.0)
    assert not any(isinstance(e, inputs.Received) and e.member.node == id_of(world, 1) for e in seen)


def test_both_sides_are_told_of_an_ended_link_once() -> None:
    world = started()
    seen = [fed(world, number(world, index)) for index in (1, 2)]
    world.network.unlink(number(world, 1).links[id_of(world, 2)])
    world.run_for(0.01)
    assert [e for events in seen for e in events if isinstance(e, inputs.Unlinked)] == [
        inputs.Unlinked(id_of(world, 2)),
        inputs.Unlinked(id_of(world, 1)),
    ]


def test_a_late_message_of_an_earlier_link_still_arrives_but_a_status_does_not() -> None:
    world = started()
    one, other = number(world, 1), number(world, 2)
    link = one.links[other.member.node]
    seen = fed(world, other)
    world.network.unlink(link)
    world.network.link_later(one, other)
    world.run_for(0.5)
    assert connected(world, 1, 2)
    core = known(one.node)
    status = core._presence.status(core._condition())
    for message in (REPORT, status):
        world.network._deliver(link, one, inputs.Received(one.member, message))
    late = [event.message for event in seen if isinstance(event, inputs.Received)]
    assert any(message is REPORT for message in late)
    assert not any(message is status for message in late)


def test_a_start_of_the_past_is_refused_and_its_owner_told() -> None:
    world = started()
    device = number(world, 1)
    backup = device.disk.backup()
    world.crash(device, 0.0)
    world.run_for(1.0)
    world.restore_disk(device, backup, 0.0)
    before = device.member
    world.run_until(lambda: device.exit is not None, 10.0)
    assert "is a copy or was restored from a backup" in known(device.exit).reason
    assert "is a copy or was restored from a backup" in device.disk.refused
    world.run_until(lambda: device.is_up, 60.0)
    assert device.member.journal != before.journal


def test_two_processes_with_one_data_directory_do_not_both_stay() -> None:
    world = started()
    original = number(world, 1)
    before = original.member
    copy = world.copy(original)
    world.run_for(30.0)
    # The copy counts a later start, so it is the original that is told; it comes back with a new journal.
    assert copy.is_up
    assert copy.member == before
    assert original.member != before


# --- cuts ---------------------------------------------------------------------------------------------------


def test_a_deaf_pair_loses_messages_one_way_while_the_link_is_up() -> None:
    world = started()
    world.network.lose_messages({pair(world, 1, 2)})
    heard, answered = steps_heard(world, 2, 1), steps_heard(world, 1, 2)
    world.run_for(SILENCE - 1.0)
    assert connected(world, 1, 2)
    assert steps_heard(world, 2, 1) <= heard + 1  # one was under way
    assert steps_heard(world, 1, 2) > answered + 2


def test_silence_ends_a_link_and_it_comes_back_when_both_can_hear() -> None:
    world = started()
    world.network.lose_messages({pair(world, 1, 2)})
    world.run_for(SILENCE + 0.1)
    assert not connected(world, 1, 2)
    world.run_for(10.0)
    assert not connected(world, 1, 2)
    world.network.stop_losing_messages({pair(world, 1, 2)})
    world.run_for(1.0)
    assert connected(world, 1, 2)


def test_a_deafness_that_ends_before_it_is_noticed_costs_no_link() -> None:
    world = started()
    link = number(world, 1).links[id_of(world, 2)]
    world.network.lose_messages({pair(world, 1, 2)})
    world.run_for(3.0)
    world.network.stop_losing_messages({pair(world, 1, 2)})
    world.run_for(10.0)
    assert number(world, 1).links[id_of(world, 2)] is link


def test_rejoining_after_a_cut_leaves_the_deaf_deaf() -> None:
    world = started()
    world.network.lose_messages({pair(world, 1, 2)})
    world.cut({id_of(world, 3)})
    world.network.rejoin()
    world.run_for(1.0)
    assert connected(world, 2, 3)
    assert world.network.lossy_pairs == {pair(world, 1, 2)}
    world.heal()
    assert world.network.lossy_pairs == set()


# --- messages -----------------------------------------------------------------------------------------------


def arrivals(**faults: float) -> list[AnyInput]:
    """How often 200 messages arrive with faults."""
    world = started(faults=Faults(until=1000.0, **faults))
    seen = fed(world, number(world, 2))
    for _ in range(200):
        world.network.send(number(world, 1), id_of(world, 2), REPORT)
    world.run_for(60.0)
    return [event for event in seen if isinstance(event, inputs.Received) and event.message is REPORT]


def test_messages_are_lost_and_doubled_at_their_rates() -> None:
    assert len(arrivals()) == 200
    assert 60 < len(arrivals(drop=0.5)) < 140
    assert 260 < len(arrivals(duplicate=0.5)) < 340


def test_messages_overtake_each_other() -> None:
    world = started()
    seen = fed(world, number(world, 2))
    for round_ in range(1, 50):
        message = msgspec.structs.replace(REPORT, round=round_)
        world.network.send(number(world, 1), id_of(world, 2), message)
    world.run_for(5.0)
    reports = [event.message for event in seen if isinstance(event, inputs.Received)]
    order = [one.round for one in reports if isinstance(one, Report) and one.run == REPORT.run]
    assert sorted(order) == list(range(1, 50))
    assert order != sorted(order)


def test_statuses_pass_the_real_codec_where_that_is_asked_for() -> None:
    world = World(1, nodes=3, spec=spec(2), codec=True)
    kinds = set()
    world.on_effect = lambda _device, effect: (
        kinds.add(type(effect.message)) if isinstance(effect, Send) else None
    )
    world.run()
    assert Status in kinds
