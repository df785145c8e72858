"""Nothing goes wrong, or only the network does: every update counts, the run closes with its evaluation."""

import pytest

from p2pfl import events
from p2pfl.sim.device import EVALUATION
from p2pfl.sim.faults import Faults
from p2pfl.sim.world import World
from tests.support.worlds import LIMIT, chain, news, number, spec, trainings

UNRULY = Faults(until=60.0, duplicate=0.5, slow=0.1)
"""Half of the messages come twice, one in ten a hundred times later: overtaken by many others."""


@pytest.mark.parametrize("seed", range(5))
def test_every_update_counts_in_its_own_round(seed: int) -> None:
    world = World(seed, spec=spec(4))
    world.run()
    for record in chain(number(world, 1))[:-1]:
        assert (len(record.updates), record.left_out, record.note) == (5, (), "")
    for round_ in range(1, 5):
        assert set(trainings(world, round_).values()) == {1}


@pytest.mark.parametrize("seed", range(10))
def test_duplicates_and_reordering_change_nothing(seed: int) -> None:
    world = World(seed, spec=spec(4), faults=UNRULY)
    world.run()
    for record in chain(number(world, 1))[:-1]:
        assert len(record.updates) == 5
    for round_ in range(1, 5):
        assert set(trainings(world, round_).values()) == {1}


def test_the_run_closes_with_an_evaluation_of_the_last_model_by_all() -> None:
    world = World(3, spec=spec(2))
    world.run()
    *_, before, last = chain(number(world, 1))
    assert (last.kind, last.then, last.model, last.trained) == ("evaluate", "end", before.model, 2)
    assert [one.evaluation.examples for one in last.evaluations] == [10] * 5
    for device in world.devices.values():
        end = news(device, events.RunEnded)[0]
        assert (end.rounds, end.model, end.metrics) == (2, last.model, EVALUATION.metrics)


def test_a_finished_run_started_again_still_knows_how_well_its_model_does() -> None:
    world = World(3, nodes=3, spec=spec(1))
    world.run()
    device = number(world, 1)
    device.told.clear()
    world.start(device)
    world.run_until(lambda: bool(news(device, events.RunEnded)), LIMIT)
    assert news(device, events.RunEnded)[0].primary_value == 0.8


def test_a_device_alone_trains_and_ends() -> None:
    world = World(4, nodes=1, spec=spec(3))
    world.run()
    assert [record.kind for record in chain(number(world, 1))] == ["train", "train", "train", "evaluate"]


def test_the_duty_of_the_aggregator_rotates() -> None:
    world = World(5, spec=spec(20))
    world.run()
    assert len({record.ballot.node for record in chain(number(world, 1))}) >= 4


def test_messages_that_pass_through_the_real_codec_do_the_same() -> None:
    chains = []
    for codec in (False, True):
        world = World(6, spec=spec(3), codec=codec, trace=True)
        world.run()
        chains.append((chain(number(world, 1)), world.trace))
    assert chains[0] == chains[1]


def test_a_slow_device_that_works_is_not_cut() -> None:
    world = World(7, spec=spec(3))
    number(world, 2).slowness = 15.0
    world.run()
    for record in chain(number(world, 1))[:-1]:
        assert len(record.updates) == 5
