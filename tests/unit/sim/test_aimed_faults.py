from __future__ import annotations

from typing import Any

import msgspec
import pytest

from p2pfl.core.effects import Send, Tell
from p2pfl.core.saved import Vote
from p2pfl.events import Notice
from p2pfl.messages import Accepted, Ballot, Prepare, Promise, Record, StepDown
from p2pfl.sim.faults import Faults
from p2pfl.sim.world import World
from tests.support.core import ballot, chain_of
from tests.support.known import known
from tests.support.records import signed
from tests.support.worlds import number, spec

CHAIN = chain_of("ada", "ben", "cleo")
VOTE = signed("ada", CHAIN.run, 1, ballot(1, "ben"), "ab" * 32)


def started(seed: int = 1, **faults: float) -> World:
    world = World(seed, nodes=3, spec=spec(5), faults=Faults(until=1000.0, **faults), trace=True)
    holder = number(world, 1)
    holder.options = msgspec.structs.replace(holder.options, wait=True)
    world.begin()
    world.run_for(1.9)  # linked, and nothing said yet that could be aimed at
    return world


def send(world: World, message: Prepare | Promise | StepDown) -> Send:
    return Send(number(world, 2).member.node, message)


def struck(world: Any) -> list[str]:
    return [line for line in known(world.trace) if "is aimed at" in line]


def promise(value: Record | None) -> Promise:
    vote = signed("ben", CHAIN.run, 1, ballot(2, "ada"))
    return Promise(CHAIN.run, 1, ballot(2, "ada"), ballot(1, "ben") if value else None, value, vote)


def test_a_step_of_the_protocol_is_aimed_at_and_other_effects_are_not() -> None:
    world = started(aimed=1.0)
    for effect in (Tell(Notice("info", "")), send(world, StepDown(CHAIN.run, 1, ballot(1, "ada"), ""))):
        world.aimed_faults.after(number(world, 1), effect)
    assert struck(world) == []
    world.aimed_faults.after(number(world, 1), send(world, Prepare(CHAIN.run, 1, ballot(1, "ada"))))
    assert "after PREPARE: node-" in struck(world)[0]


def test_a_promise_that_names_a_value_has_a_rate_of_its_own() -> None:
    world = started(aimed_value=1.0)
    world.aimed_faults.after(number(world, 1), send(world, promise(None)))
    assert struck(world) == []
    world.aimed_faults.after(number(world, 1), send(world, promise(CHAIN.commit().record)))
    assert "after PROMISE" in struck(world)[0]


def test_sender_and_receiver_are_struck_by_crashes_cuts_and_suspensions() -> None:
    said = set()
    for seed in range(40):
        world = started(seed, aimed=1.0)
        world.aimed_faults.after(number(world, 1), send(world, Prepare(CHAIN.run, 1, ballot(1, "ada"))))
        victim = next(
            device for device in world.devices.values() if device.name == struck(world)[0].split()[-1]
        )
        what = (
            "crash"
            if not victim.is_up
            else "freeze"
            if victim.is_frozen
            else "cut"
            if world.network.cut_off == {victim.member.node}
            else "nothing"
        )
        said.add((victim.name, what))
    assert said >= {("node-1", "crash"), ("node-2", "crash"), ("node-1", "cut"), ("node-1", "freeze")}
    assert not any(what == "nothing" for _, what in said)


def test_a_disk_is_struck_only_where_disks_may_be_lost() -> None:
    for rate, expected in ((0.0, False), (5.0, True)):
        lost = []
        for seed in range(40):
            world = started(seed, aimed=1.0, lose_disk_every=rate)
            world.aimed_faults.after(number(world, 1), send(world, Prepare(CHAIN.run, 1, ballot(1, "ada"))))
            lost += [line for line in known(world.trace) if "loses its disk" in line]
        assert bool(lost) is expected


def test_a_proposer_is_struck_before_its_own_acceptance_and_not_after_it() -> None:
    world = started(aimed_first=1.0)
    one, proposer = number(world, 1), number(world, 2)
    ballot_of = Ballot(1, proposer.member.node)
    effect = Send(proposer.member.node, Accepted(CHAIN.run, 1, ballot_of, "ab" * 32, VOTE))
    proposer.disk.votes[CHAIN.run] = Vote(1, ballot_of, ballot_of, CHAIN.commit().record)
    world.aimed_faults.after(one, effect)
    assert proposer.is_up
    proposer.disk.votes[CHAIN.run] = Vote(1, ballot_of, None, None)
    world.aimed_faults.after(one, effect)
    assert not proposer.is_up


@pytest.mark.parametrize(("between", "least", "most"), [(0.0, 0, 0), (0.1, 50, 150)])
def test_faults_between_any_two_effects_come_at_their_rate(between: float, least: int, most: int) -> None:
    world = started(between=between)
    crashes = 0
    for _ in range(1000):
        world.aimed_faults.after(number(world, 1), Tell(Notice("info", "")))
        crashes += not number(world, 1).is_up or number(world, 1).is_frozen
        number(world, 1).inbox = None
        world.start(number(world, 1))
    assert least <= crashes <= most


def test_with_more_nodes_the_same_rates_leave_somebody_standing() -> None:
    def struck_of_a_thousand(nodes: Any) -> Any:
        world = World(1, nodes=nodes, faults=Faults(until=1000.0, aimed=0.5), trace=True)
        effect = Send(number(world, 2).member.node, Prepare(CHAIN.run, 1, ballot(1, "ada")))
        for _ in range(1000):
            world.aimed_faults.after(number(world, 1), effect)
        return len(struck(world))

    assert 450 < struck_of_a_thousand(5) < 550
    assert 30 < struck_of_a_thousand(50) < 75
