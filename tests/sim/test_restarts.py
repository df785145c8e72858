"""Members restart, arrive late, lose their disks, or leave."""

from p2pfl import events
from p2pfl.core import inputs
from p2pfl.sim.world import World
from tests.support.worlds import last_records, reached, told


def test_all_killed_and_restarted_go_on_from_the_last_commit():
    world = World(2, nodes=5, rounds=8)
    world.begin()
    world.run_until(reached(world, 4), 100)
    for device in world.devices.values():
        world.crash(device, down=3.0)
    world.run_until(world.is_complete, 400)
    assert len(last_records(world)) == 1
    resumed = [
        event for d in world.devices.values() for event in told(d, events.RunJoined) if event.how == "resumed"
    ]
    assert len(resumed) == 5
    assert min(event.round for event in resumed) >= 4


def test_who_arrives_late_is_a_member_soon_and_has_a_slot_of_its_own():
    world = World(4, nodes=3, rounds=8)
    world.begin()
    world.run_until(reached(world, 2), 100)
    late = world.add_device(7, 1)
    world.start(late)
    world.run_until(world.is_complete, 400)
    assert "learner" in [event.how for event in told(late, events.RunJoined)]
    roster = late.disk.commits[late.disk.order[-1]][-1].record.roster
    assert late.member in {entry.member for entry in roster}
    assert len({entry.slot for entry in roster}) == 4
    assert told(late, events.Trained)


def test_a_lost_disk_comes_back_as_a_learner_and_inherits_its_slot():
    world = World(6, nodes=5, rounds=8)
    world.begin()
    world.run_until(reached(world, 2), 100)
    device = next(iter(world.devices.values()))
    old = device.member
    world.lose_disk(device, down=1.0)
    world.run_until(world.is_complete, 400)
    assert device.member.journal != old.journal
    rosters = [commit.record.roster for commit in device.disk.commits[device.disk.order[-1]]]
    slots = {entry.slot for roster in rosters for entry in roster if entry.node == old.node}
    assert len(slots) == 1
    assert device.member in {entry.member for entry in rosters[-1]}
    assert old not in {entry.member for entry in rosters[-1]}


def test_who_leaves_politely_is_dropped_with_the_next_commit_and_the_others_finish():
    world = World(8, nodes=4, rounds=8)
    world.begin()
    world.run_until(reached(world, 3), 100)
    leaver, *others = world.devices.values()
    world.feed(leaver, inputs.Leave())
    world.run_until(lambda: leaver.exit is not None, 100)
    assert leaver.exit.code == 3
    world.run_until(lambda: all(d.exit is not None and d.exit.code == 0 for d in others), 400)
    assert leaver.name in [name for event in told(others[0], events.RosterChanged) for name in event.left]


def test_two_of_five_that_vanish_are_dropped_after_a_while_and_three_go_on():
    world = World(9, nodes=5, rounds=40)
    world.begin()
    world.run_until(reached(world, 2), 100)
    gone, alive = list(world.devices.values())[:2], list(world.devices.values())[2:]
    for device in gone:
        world.crash(device, down=10_000.0)
    world.run_until(lambda: any(event.members == 3 for event in told(alive[0], events.RosterChanged)), 300)
    (change,) = [event for event in told(alive[0], events.RosterChanged) if event.members == 3]
    assert set(change.left) == {device.name for device in gone}
    assert change.tolerates == 1
