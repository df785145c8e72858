"""The aggregator is killed in the middle of its round."""

from p2pfl import events
from p2pfl.core.effects import Send
from p2pfl.messages import Accepted, Noted
from p2pfl.sim.world import World
from tests.support.worlds import crash_after, last_records, told


def test_killed_while_it_collects_another_commits_the_round_and_nothing_is_retrained():
    world = World(3, nodes=5, rounds=3)
    victims = crash_after(world, Noted, 2)
    world.run()
    (victim,) = victims
    commits = [event for device in world.devices.values() for event in told(device, events.Committed)]
    assert {event.attempt for event in commits if event.round == 2} != {1}
    assert {event.aggregator for event in commits if event.round == 2} != {victim.name}
    for device in world.devices.values():
        rounds = [event.round for event in told(device, events.Trained)]
        assert sorted(set(rounds)) == sorted(rounds)
    assert len(last_records(world)) == 1


def test_killed_after_the_first_acceptance_its_value_is_adopted():
    world = World(5, nodes=5, rounds=3)
    victims = []

    def look(device, effect):
        if isinstance(effect, Send) and isinstance(effect.message, Accepted) and effect.message.round == 2:
            if not victims:
                victims.append(world.devices[effect.to])
                world.crash(victims[0], down=8.0)

    world.on_effect = look
    world.run()
    (victim,) = victims
    proposed = [event for device in world.devices.values() for event in told(device, events.Proposed)]
    adopted = [event for event in proposed if event.round == 2 and event.adopted]
    assert adopted, "somebody had accepted the value, so the next aggregator must propose it again"
    committed = [event for device in world.devices.values() for event in told(device, events.Committed)]
    assert {(event.digest, event.aggregator) for event in committed if event.round == 2} == {
        (adopted[0].digest, victim.name)
    }
