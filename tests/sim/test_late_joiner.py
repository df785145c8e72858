"""A device that comes late catches up as a learner and is a member with the next round."""

from p2pfl import events
from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, at_round, chain, names, news, spec, trainers


def test_a_late_joiner_is_a_member_with_the_next_round_and_stops_nobody() -> None:
    world = World(11, nodes=3, spec=spec(8))
    world.begin()
    world.run_until(at_round(world, 2), LIMIT)
    late = world.add_device(3, 3)
    first = [device for device in world.devices.values() if device is not late]
    world.start(late)
    world.run_until(lambda: bool(news(late, events.RunJoined)), LIMIT)
    caught_up_in = max(len(chain(device)) for device in first)
    world.run_until(world.is_complete, LIMIT)

    assert news(late, events.RunJoined)[0].how == "learner"
    records = chain(late)
    joined = next(record for record in records if late.name in names(record))
    assert joined.round <= caught_up_in + 2
    assert late.member.node in trainers(records[joined.round])  # the very next record counts its update
    assert records == chain(first[0])


def test_a_joiner_gets_a_slot_of_its_own() -> None:
    world = World(12, nodes=3, spec=spec(8))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    world.start(world.add_device(3, 3))
    world.run_until(world.is_complete, LIMIT)
    last = chain(next(iter(world.devices.values())))[-1]
    assert sorted(entry.slot for entry in last.roster) == [0, 1, 2, 3]


def test_a_learner_that_leaves_again_disturbs_nobody() -> None:
    world = World(13, nodes=3, spec=spec(6))
    world.begin()
    world.run_until(at_round(world, 1), LIMIT)
    late = world.add_device(3, 3)
    world.start(late)
    world.run_until(lambda: bool(news(late, events.RunJoined)), LIMIT)
    world.crash(late, 1000.0)
    rest = [device for device in world.devices.values() if device is not late]
    world.run_until(at_round(world, 7, *rest), LIMIT)
    assert len({world.checker.digest(chain(device)[-1]) for device in rest}) == 1
